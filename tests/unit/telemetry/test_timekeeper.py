"""The timekeeper: pictures that fit any screen, keys, and a door that says in one line what is wrong."""
from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantra.core.histogram import Histogram
from mantra.runtime.spine import Spine
from mantra.telemetry import board
from mantra.telemetry.board import Choice, chosen, histogram, order, press, screen, sections, share_out, waterfall
from mantra.telemetry.collector import (
    Actor,
    ClockState,
    Collector,
    Distribution,
    Feed,
    Meter,
    QueueState,
    Reader,
    Snapshot,
)
from mantra.telemetry.lineage import LineageState, Path, Segment
from tests.unit.telemetry.runs import HandMade

NOW = 1_790_000_000_123_456_789


def spread(median_ns: float, count: int = 1_000) -> Distribution:
    filled = Histogram.create()
    filled.record_many(np.random.default_rng(7).lognormal(np.log(median_ns), 1, count).astype(np.uint64))
    return Distribution.of(filled)


def snapshot(actors: int = 3) -> Snapshot:
    return Snapshot(
        "desk", NOW, 34.2, ClockState("cycles", 2_300.0, 45, 0),
        tuple(Actor(f"actor-{i:02}", "bbo", 512 + i, 4_017, -1, "running" if i else "restarting", 0, 0, 10.0 * i, 0.2,
                    3 - i % 4, 12 * (i == 1), spread(22_000), spread(2_100.0 * (i + 1)), 0) for i in range(actors)),
        tuple(QueueState(name, "top", "spmc", 2_048, 39_201, 24.0, 1, (Reader("actor-01", 3, 24.0, 12),), 12, 0, 0)
              for name in ("tops.binance.0", "world")),
        (Feed("binance.0", "binance", "live", NOW, NOW, 81.0, 538.0, 29_900.0, (3.0,), {"messages": 7, "gaps": 2}),),
        {"model.fit": spread(92_000)}, (Meter("model", "fills", 3, 0.5),), (Meter("model", "position", -1.25, 0.0),),
        {"socket_to_top.binance.0": spread(15_000)})


def ways(count: int = 2) -> LineageState:
    return LineageState("world", 100, 99, tuple(
        Path((Segment(f"feed-{i}", False, spread(15_000)), Segment(f"tops.feed-{i}", True, spread(22_000)),
              Segment("best", False, spread(2_100))), spread(40_000)) for i in range(count)))


def text(choice: Choice, width: int = 100, height: int = 30, actors: int = 3) -> str:
    return "\n".join(part.plain for part in screen(snapshot(actors), choice, ways(), width, height))


@given(width=st.integers(1, 220), height=st.integers(1, 70), actors=st.sampled_from([0, 1, 3, 200]),
       choice=st.sampled_from([Choice(), Choice(help=True), Choice(lineage="world"), Choice(filter="world"),
                               Choice(filter="nobody"), Choice("queues", "world"), Choice("feeds", "binance.0"),
                               Choice("latencies", "model.fit"), Choice("meters", "model.fills"), Choice(paused=True)]))
@settings(max_examples=60, deadline=None)
def test_a_screen_fits_whatever_its_size_and_whatever_it_shows(width, height, actors, choice):
    lines = screen(snapshot(actors), choice, ways(), width, height)
    assert len(lines) <= height
    assert all(line.cell_len <= width for line in lines)


def test_an_ordinary_screen_shows_every_section_and_what_is_behind_the_chosen_row():
    shown = text(Choice(name="actor-01"))
    for word in ("timekeeper  desk", "actors ──", "queues ──", "feeds ──", "latencies ──", "2 of 3 running",
                 "restarting", "waited in queue", "worked on it", "tops.binance.0", "gaps 2", "model  fit",
                 "socket to top  binance.0", "── actor-01 ──", "bbo, pid 4017", "p99.9", "╵10 µs"):
        assert word in shown, word
    assert "p90" in text(Choice(), 160, 50).splitlines()[4], "a wide one has room for every percentile"


def test_a_wide_screen_draws_waiting_and_working_side_by_side():
    heads = [line for line in text(Choice(name="actor-01"), 160, 50).splitlines() if "waited  p50" in line]
    assert "worked  p50" in heads[0]


def test_rows_that_do_not_fit_scroll_with_the_chosen_one():
    shown = text(Choice(name="actor-77"), actors=200)
    assert "actor-77" in shown.partition("── queues")[0]
    assert "of 200" in shown


def test_a_filter_keeps_rows_by_name_in_every_section():
    assert [(section.title, [row.name for row in section.rows])
            for section in sections(snapshot(), Choice(filter="BINANCE"))] == [
        ("queues", ["tops.binance.0"]), ("feeds", ["binance.0"]), ("latencies", ["socket_to_top.binance.0"])]
    assert "nothing is called 'nobody'" in text(Choice(filter="nobody"))


def names(choice):
    return [row.name[-1] for row in sections(snapshot(), choice)[0].rows]


def test_rows_are_sorted_by_any_column_and_the_other_way_round():
    by_work = order(Choice(), "actors", "processing p99")
    assert names(by_work) == ["2", "1", "0"]
    assert names(order(by_work, "actors", "processing p99")) == ["0", "1", "2"]
    assert names(order(Choice(), "actors", "state")) == ["0", "1", "2"]
    assert "p99↓" in text(by_work)


def test_keys_move_over_rows_and_sections_and_stop_at_the_ends():
    view, choice = snapshot(), Choice()
    walked = []
    for key in ("down", "down", "down", "up", "tab", "tab", "shift+tab", "home", "up", "end", "down"):
        choice = press(choice, view, key)
        walked.append((choice.section, choice.name))
    assert walked == [
        ("actors", "actor-01"), ("actors", "actor-02"), ("queues", "tops.binance.0"), ("actors", "actor-02"),
        ("queues", "tops.binance.0"), ("feeds", "binance.0"), ("queues", "tops.binance.0"), ("actors", "actor-00"),
        ("actors", "actor-00"), ("meters", "model.position"), ("meters", "model.position")]


def test_the_chosen_row_stays_chosen_while_the_order_changes():
    choice = press(press(Choice(), snapshot(), "down"), snapshot(), "s", "s")
    assert choice.order == {"actors": ("actor", False)}
    choice = press(choice, snapshot(), "S", "S")
    assert (choice.order, choice.name) == ({"actors": ("actor", True)}, "actor-01")
    assert chosen(snapshot(), replace(choice, name="gone"))[1].name == "actor-02"


def test_typing_a_filter_takes_every_key_until_enter_or_escape():
    choice = press(Choice(), snapshot(), "slash", "/")
    for key in "qs ":
        choice = press(choice, snapshot(), key, key)
    assert (choice.filter, choice.typing) == ("qs ", True)
    choice = press(choice, snapshot(), "backspace", "\x7f")
    assert press(choice, snapshot(), "enter", "\r") == Choice(filter="qs")
    assert press(choice, snapshot(), "escape") == Choice()


def test_lineage_begins_at_the_chosen_queue_or_the_world_and_goes_round():
    others = ["tops", "updates", "world"]
    assert press(Choice(), snapshot(), "l", "l", others).lineage == "world"
    choice = press(Choice("queues", "tops.binance.0"), snapshot(), "l", "l", others)
    assert choice.lineage == "tops"
    assert press(choice, snapshot(), "left", others=others).lineage == "world"
    assert press(choice, snapshot(), "right", others=others).lineage == "updates"
    assert press(choice, snapshot(), "l", "l", others).lineage == ""


def test_a_waterfall_is_a_line_per_hop_each_beginning_where_the_last_ended():
    path = Path((Segment("feed", False, Distribution(1, 10_000)), Segment("tops", True, Distribution(1, 20_000)),
                 Segment("best", False, Distribution(1, 10_000))), Distribution(1, 40_000))
    first, second, third, total = (line.plain for line in waterfall(path, 100)[1:])
    bars = [len(line.rstrip("█░─")) for line in (first, second, third)]
    assert bars[0] < bars[1] < bars[2]
    assert second.count("░") == pytest.approx(2 * first.count("█"), abs=1)
    assert "40.0 µs" in total
    assert "99.0% of 100 followed" in text(Choice(lineage="world"))


def test_a_histogram_shows_single_values_beside_many():
    filled = Histogram.create()
    filled.record_many(np.full(10_000, 1_000, np.uint64))
    filled.record(900_000)
    head, *bars, axis = (line.plain for line in histogram(Distribution.of(filled), "worked", "", 90, 7))
    assert (bars[0].count("█"), bars[-1].count("▁")) == (bars[-1].count("█"), bars[0].count("█"))
    assert "max 900 µs" in head
    assert "╵1 µs" in axis
    assert "nothing yet" in histogram(Distribution(), "worked", "", 90, 7)[0].plain


def test_room_is_shared_among_sections_and_the_first_gets_most():
    assert share_out(11, [4, 7, 2, 4, 2]) == [4, 2, 2, 2, 1]
    assert share_out(100, [3, 7]) == [3, 7]
    assert share_out(-3, [3, 7]) == [0, 0]


def test_plain_text_has_every_row_and_no_blanks_at_the_ends():
    shown = board.plain(snapshot(40), None, 160)
    assert all(f"actor-{i:02}" in shown for i in range(40))
    assert not any(line.endswith(" ") for line in shown.splitlines())
    assert "q quit" not in shown


# The screen itself


@pytest.fixture
def run():
    with HandMade() as made:
        for i in range(10):
            made.message(i, 100.0 * i)
        yield made


def pressed(run, *keys, size=(120, 40), act=None):
    """The app after these keys, driven without a terminal."""
    app_room = pytest.importorskip("mantra.telemetry.app")

    async def drive():
        with Spine.attach(run.spine.run) as outside:
            app = app_room.Timekeeper(Collector(outside), 0.2)
            async with app.run_test(size=size) as pilot:
                await pilot.pause(0.1)
                await pilot.press(*keys)
                if act is not None:
                    await act(app, pilot)
                await pilot.pause(0.3)
                shown = "\n".join(line.plain for line in app.query_one(app_room.Board)._lines)
            return app, shown

    return asyncio.run(drive())


def test_the_screen_shows_the_run_and_follows_it(run):
    _, shown = pressed(run)
    assert f"timekeeper  {run.spine.run}" in shown
    assert "binance.0" in shown
    assert "world" in shown


def test_keys_choose_sort_filter_explain_and_follow(run):
    app, shown = pressed(run, "down", "s", "s", "S")
    assert (app.choice.name, app.choice.order) == ("best", {"actors": ("state", True)})
    assert "── best ──" in shown
    app, shown = pressed(run, "slash", "w", "o", "r", "enter")
    assert "tops.binance.0" not in shown
    assert "escape or ? closes this" in pressed(run, "?")[1]
    app, shown = pressed(run, "l", "left")
    assert app.lineage.message == "tops"
    assert "lineage of tops" in shown


def test_space_pauses_the_picture_and_r_begins_anew(run):
    app, shown = pressed(run, "space")
    assert "PAUSED" in shown
    app, _ = pressed(run, "r")
    assert all(actor.processing.count == 0 for actor in app.view.actors)


def test_a_click_on_a_name_sorts_and_a_click_on_a_row_chooses_it(run):
    async def click(app, pilot):
        lines = [line.plain for line in app.query_one("Board")._lines]
        y = next(i for i, line in enumerate(lines) if line.startswith(" actor "))
        await pilot.click(offset=(lines[y].index("msg/s") + 1, y))
        await pilot.click(offset=(5, next(i for i, line in enumerate(lines) if line.startswith(" model"))))

    app, _ = pressed(run, act=click)
    assert app.choice.order == {"actors": ("msg/s", True)}
    assert app.choice.name == "model"


def test_q_leaves_and_the_end_of_the_run_ends_it_with_a_line(run):
    assert pressed(run, "q")[0].return_value is None

    async def end(app, pilot):
        run.close()
        app.collector._list_at = 0.0
        await pilot.pause(0.5)

    assert pressed(run, act=end)[0].return_value == f"run {run.spine.run} has ended"


# The door


def door(*arguments, code="from mantra.telemetry.timekeeper import main"):
    program = f"import sys; {code}; sys.exit(main(sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)


def test_json_is_one_object_and_plain_is_aligned_text(run):
    done = door(run.spine.run, "--json", "--duration", "0.3", "--lineage", "world")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [actor["name"] for actor in said["actors"]] == ["binance.0", "best", "model"]
    assert said["lineage"]["message"] == "world"
    done = door(run.spine.run, "--plain", "--interval", "0.1", "--duration", "0.35")
    assert done.stdout.count("── actors ──") in (3, 4), done.stdout


@pytest.mark.parametrize(("arguments", "says"), [
    (["no-such-run", "--json"], "no run 'no-such-run'"), ([], "not a terminal"), (["--json", "--plain"], "either"),
    (["--plain", "--interval", "0"], "above 0"), (["{run}", "--plain", "--lineage", "orders"], "it has tops, world"),
])
def test_what_is_wrong_is_one_line_and_exit_2(run, arguments, says):
    done = door(*(argument.format(run=run.spine.run) for argument in arguments))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert says in done.stderr


def test_without_textual_it_says_what_to_install_and_the_rest_works(run):
    without = "sys.modules['textual'] = None; from mantra.telemetry.timekeeper import main"
    done = door(run.spine.run, code=without + "; sys.stdout.isatty = lambda: True")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pip install 'mantra[ui]'" in done.stderr
    assert door(run.spine.run, "--json", "--duration", "0.1", code=without).returncode == 0
