"""mantra shm: every region is told truly, whatever it is, and only the dead lose theirs."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mantra.core.book import Book
from mantra.core.histogram import Histogram
from mantra.core.messages import Update
from mantra.core.queue import Queue
from mantra.core.region import PREFIX, Region
from mantra.core.vector import Vector
from mantra.runtime.spine import Spine
from mantra.telemetry import shm

DIES = "import os, sys; from mantra.core.queue import Queue\nq = Queue.create(sys.argv[1], 'trade', 64); os._exit(0)"


@pytest.fixture
def name(request):
    """A prefix of this test's own; nothing of it may be left behind."""
    base = f"test-shm-{os.getpid()}-{abs(hash(request.node.name)) % 10**8}"
    yield base
    for left in Path(PREFIX).parent.glob(f"{Path(PREFIX).name}{base}*"):
        left.unlink()


def said(capsys, *arguments):
    """The exit code, and the object on the last line."""
    code = shm.main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def leave(name):
    """A queue whose owner is dead."""
    subprocess.run([sys.executable, "-c", DIES, name], check=True)


def test_a_runs_regions_are_listed_with_owner_and_where_queues_stand(name, capsys):
    with Spine.create(name) as spine:
        queue = spine.queue("updates.a", "update", 64)
        producer = queue.producer()
        for price in range(70):
            producer.produce(Update(price=price))
        code, told = said(capsys, "list", f"{name}.")
        by_name = {region["name"]: region for region in told["regions"]}
        assert code == 0
        assert set(by_name) == {info.name for info in Region.list(f"{name}.")}
        assert by_name[f"{name}.updates.a"].items() >= {
            "kind": "queue", "message": "update", "capacity": 64, "slot_bytes": 64, "owner": os.getpid(), "alive": True,
            "produced": 70, "producers": 1, "many": False, "abandoned": 0, "burnt": 0, "note": ""}.items()
        assert by_name[f"{name}.ledger"]["message"] == ""
        assert 0 <= by_name[f"{name}.clock"]["age_s"] < 60
        assert told["bytes"] == sum(region["size"] for region in told["regions"])
        assert shm.main(["list", name, "--rates", "0.01"]) == 0
        assert "per s" in capsys.readouterr().out
        for origin in (spine.clock.cycles(), 2**64 - 1, 2**63):        # of our time, and of nobody's
            producer.produce(Update(origin=origin))
        _, told = said(capsys, "inspect", f"{name}.updates.a", "--last", "3")
        assert next(held["published_utc"][:2] for held in told["holds"]) == "20"


def test_a_queue_is_shown_by_its_layout_and_its_newest_messages(name, capsys):
    with Queue.create(name, "update", 16) as queue:
        producer = queue.producer()
        for price in range(40):
            producer.produce(Update(price=price))
        _, told = said(capsys, "inspect", name, "--last", "3")
        assert {"field": "price", "type": "int64", "offset": 16} in told["fields"]
        assert [(held["position"], held["fields"]["price"]) for held in told["holds"]] == [(37, 37), (38, 38), (39, 39)]
        assert shm.main(["inspect", name]) == 0
        shown = capsys.readouterr().out
        assert "<Update" in shown
        assert "price          int64       24" in shown, "offsets in the slot, behind its version"


def test_a_vector_is_shown_by_its_slots_that_hold_something(name, capsys):
    with Vector.create(name, "update", 8) as vector:
        vector.write(5, Update(size=7))
        vector.write(5, Update(size=8))
        _, told = said(capsys, "inspect", name)
        held, = told["holds"]
        assert (held["slot"], held["writes"], held["fields"]["size"]) == (5, 2, 8)


def test_every_other_kind_shows_what_it_holds(name, capsys):
    with Spine.create(name) as spine:
        spine.ledger.row("binance.0", 0).add("messages", 3)
        spine.histogram("socket_to_top.binance.0").record(500)
        spine.counter("fills").add(3)
        spine.gauge("position").set(-1.5)
        spine.add_actor("desk", "user")
        book, _ = spine.make_book("binance", 0, "ETHBTC", 1)
        assert isinstance(book, Book)
        holds = {what: said(capsys, "inspect", f"{name}.{what}")[1]["holds"][0] for what in (
            "ledger", "latency.socket_to_top.binance.0", "book.binance.ETHBTC", "clock", "counter.user.fills",
            "gauge.user.position", "actors")}
        assert holds["counter.user.fills"] == {"value": 3}
        assert holds["gauge.user.position"] == {"value": -1.5}
        assert "desk" in holds["actors"]["text"]
        assert holds["ledger"].items() >= {"feed": "binance.0", "messages": 3, "state": "off"}.items()
        assert holds["latency.socket_to_top.binance.0"]["p50_ns"] == 500
        assert holds["book.binance.ETHBTC"]["bids"] == []
        assert holds["clock"]["mhz"] > 0
        assert "holds" not in said(capsys, "inspect", f"{name}.doorbell")[1]


def test_other_versions_foreign_files_and_ruins_are_told_as_such(name, capsys):
    Path(PREFIX + name + ".foreign").write_bytes(b"somebody else's" * 100)
    os.mkfifo(PREFIX + name + ".pipe")
    Path(os.fsdecode(os.fsencode(PREFIX + name) + b".\xff[red]")).write_text("odd")
    regions = [Region.create(f"{name}.{what}", 4096, kind="queue", layout="update 56: origin u8@0", slot_bytes=64,
                             capacity=8) for what in ("newer", "ruin")]
    with open(PREFIX + name + ".newer", "r+b") as file:
        file.seek(8)
        file.write((250).to_bytes(4, "little"))
    try:
        _, told = said(capsys, "list", name)
        notes = {region["name"].removeprefix(f"{name}."): region["note"] for region in told["regions"]}
        assert notes.keys() == {"foreign", "newer", "ruin", "pipe", "\\udcff[red]"}
        assert "format 250" in notes["newer"]
        assert "this program has" in notes["ruin"], "another layout of the same message"
        assert all("no region of mantra's" in notes[what] for what in ("foreign", "pipe", "\\udcff[red]"))
        for region in told["regions"]:
            code = shm.main(["inspect", region["name"]])
            assert code == (region["kind"] == "foreign"), region
        assert shm.main(["list", name]) == 0
        assert "[red]" in capsys.readouterr().out
    finally:
        for region in regions:
            region.close()
        os.unlink(os.fsencode(PREFIX + name) + b".\xff[red]")


def test_only_leftovers_of_the_dead_are_removed_and_named(name, capsys):
    dead = [f"{name}.dead"]
    with Histogram.create(f"{name}.mine"):
        Path(PREFIX + name + ".foreign").write_text("not ours")
        for dry in (True, False):
            for _ in range(5):      # any run that starts meanwhile on this machine removes it, too
                leave(*dead)
                told = {region["name"]: region.get("alive") for region in said(capsys, "list", name)[1]["regions"]}
                if told == {f"{name}.mine": True, f"{name}.foreign": None, f"{name}.dead": False} and said(
                        capsys, "clean", name, *["--dry-run"] * dry) == (0, {"dry_run": dry, "removed": dead}):
                    break
            else:
                pytest.fail(f"it is not told: {told}")
            assert [info.name for info in Region.list(*dead)] == dead * dry
            Path(PREFIX + name + ".dead").unlink(missing_ok=True)
        assert said(capsys, "clean", name) == (0, {"dry_run": False, "removed": []})
        assert [info.name for info in Region.list(name)] == [f"{name}.mine"]
        assert Path(PREFIX + name + ".foreign").exists()


@pytest.mark.parametrize("arguments", [[], ["inspect"], ["inspect", "x", "--last", "0"], ["list", "--rates", "-1"]])
def test_wrong_use_is_one_line_and_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        shm.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_region_that_is_not_there_is_one_line(name, capsys):
    assert shm.main(["inspect", name]) == 1
    assert capsys.readouterr().err.startswith("mantra shm: there is no region")
