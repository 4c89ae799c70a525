"""Playing as its users see it: a captured session of simulated venues, by the door, its keys, and for who attaches."""
from __future__ import annotations

import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
import time

import numpy as np
import pytest

import mantra
from mantra import archive
from mantra.archive import imports
from mantra.core.messages import Kind
from mantra.runtime.settings import read
from mantra.runtime.topology import Node
from mantra.topologies.system import Simulated, System
from mantra.venues.instrument import InstrumentTable
from tests.data import data
from tests.end_to_end.feeds import until

VENUES = ("binance", "bitstamp", "bitfinex", "coinbase", "kraken")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Five simulated venues, captured for 3.5 s; in another archive the tops of the same time. Books at the end."""
    folder = tmp_path_factory.mktemp("session")
    with Simulated(VENUES, ("eth-btc", "btc-usdt"), "--faults", "drop=0.005,cut=2s", "--hasten", "5") as simulated:
        nodes = [*(Node.listener(venue, venue=venue) for venue in VENUES),
                 Node("kept", "capture", ("updates", "trades"), (), {"out": str(folder / "kept")}, vital=True),
                 Node("tops", "capture", ("tops",), (), {"out": str(folder / "tops")}, vital=True)]
        settings = read(venues=VENUES, instruments=("all",), endpoints=simulated.endpoints)
        with System(settings, nodes=nodes, table=InstrumentTable()) as system:
            time.sleep(3.5)
            assert not system.failure()
    return folder


def books(messages):
    return set(messages[["venue", "instrument"]].tolist())


def of(messages, book):
    return messages[(messages["venue"] == book[0]) & (messages["instrument"] == book[1])]


def told(messages):
    """All but stamps, and who published them."""
    names = [name for name in messages.dtype.names if name not in ("origin", "published", "trust_since_ns")]
    return [tuple(row[name].tobytes() for name in names) for row in messages]


def settled(tops, resets):
    """Without those between a RESET and its image, which the capture took so soon: some levels are missing there."""
    since = archive.utc(tops)[:, None] - resets[None, :]
    return tops[~((since > -1000) & (since < 700_000_000)).any(axis=1)]


def test_updates_and_tops_are_those_of_the_session_with_trust_and_why(session):
    updates = archive.open(session / "kept").updates().array()
    tops = archive.open(session / "tops").messages("tops").array()
    with mantra.play(session / "kept") as played:
        readers = {family: played.spine.reader(family) for family in ("updates", "tops")}
        got = {family: [] for family in readers}
        played.resume()
        while not (played.done and not any(reader.wait(0.2) for reader in readers.values())):
            for family, reader in readers.items():
                got[family].append(reader.batch().copy())
        result = played.result()
    assert (result["differing"], result["damaged"]) == (0, 0)
    assert result["gaps"] > 0, "the ledger of the session is there, too"
    played_updates, played_tops = (np.concatenate(got[family]) for family in readers)
    compared = 0
    for key in books(updates):
        captured, again = of(updates, key), of(played_updates, key)
        resets = archive.utc(again[again["kind"] == Kind.RESET])    # one more where the image came in another block
        assert told(again[again["kind"] != Kind.RESET]) == told(captured[captured["kind"] != Kind.RESET])
        captured, again = (settled(of(each, key), resets) for each in (tops, played_tops))
        assert told(again) == told(captured)
        assert (np.abs(again["trust_since_ns"] - captured["trust_since_ns"]) < 100_000).all()
        compared += len(captured)
    assert compared > 50


def start(*arguments, **options):
    return subprocess.Popen([sys.executable, "-m", "mantra", "replay", *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def told_by(process):
    out, error = process.communicate(timeout=20)
    assert process.returncode == 0, error
    return json.loads(out.splitlines()[-1])


def test_the_door_says_what_a_recording_s_replay_says(tmp_path):
    recording = [str(data(f"cryptofeed/BITSTAMP.{name}")) for name in ("0", "http.0.0.zst", "ws.1.0.zst")]
    assert imports.main(["--out", str(tmp_path), "--venue", "bitstamp", *recording]) == 0
    once, again = (told_by(start(*arguments, "--books", "--json")) for arguments in (
        [*recording, "--venue", "bitstamp"], [tmp_path]))
    assert once["books"]
    for key in once.keys() - {"ledger"}:
        assert again[key] == once[key]
    counted = {name for name in once["ledger"] if "state" not in name and not name.endswith("_ns")}
    assert {name: again["ledger"][name] for name in counted} == {name: once["ledger"][name] for name in counted}
    assert again["complete"]


def test_it_goes_on_by_lines_of_its_input(session):
    process = start(session / "kept", "--step", "message", "--json", stdin=subprocess.PIPE)
    process.stdin.write("\n\n\n")
    process.stdin.flush()
    assert told_by(process)["played"] == 3


def test_it_is_steered_by_keys(session):
    keyboard, stdin = pty.openpty()
    process = start(session / "kept", "--speed", "0.2", "--json", stdin=stdin, start_new_session=True,
                    preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(stdin)
    name = process.stderr.readline().split()[1].rstrip(";")
    with mantra.attach(name) as run:
        def still(seconds):
            before = sum(run.queue(each).produced for each in run.queue_names() if each.startswith("updates"))
            time.sleep(seconds)
            return before == sum(run.queue(each).produced for each in run.queue_names() if each.startswith("updates"))

        until(lambda: not still(0.1), "it plays")
        os.write(keyboard, b" ")
        until(lambda: still(0.3), "it holds")
        at = run.clock.utc_ns()
        os.write(keyboard, b"s")
        until(lambda: run.clock.utc_ns() == at + 10**9, "it went on by a second")
        os.write(keyboard, b"\x1b[D")
        until(lambda: run.clock.utc_ns() < at, "it went back")
        os.write(keyboard, b"q")
    result = told_by(process)
    assert not result["complete"]
    os.close(keyboard)
