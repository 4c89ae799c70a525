"""Spines: a run's regions by name: made once, found by others, gone with their owner."""
from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading

import pytest

from mantra.core.messages import ActorState, Top, Update, World
from mantra.core.region import Region
from mantra.errors import ConfigurationError, RegionError
from mantra.runtime import spine as room
from mantra.runtime.spine import Spine, safe_name

NAMES = (f"test-spine-{os.getpid()}-{number}" for number in itertools.count())


@pytest.fixture
def spine():
    with Spine.create(next(NAMES)) as spine:
        yield spine


def test_a_run_is_found_by_name_and_gone_when_closed(spine):
    assert spine.run in room.running()
    with Spine.attach(spine.run) as other:
        assert other.alive()
        spine.close()
        assert not other.alive()
    assert not Region.list(f"{spine.run}.")


def test_a_named_run_that_is_there_is_refused(spine):
    with pytest.raises(ConfigurationError, match=f"the run '{spine.run}' is already there"):
        Spine.create(spine.run)


def test_runs_without_a_name_take_the_next_that_is_free():
    with Spine.create() as one, Spine.create() as two:
        assert one.run != two.run
        assert {one.run, two.run} <= set(room.running())


def test_runs_that_start_at_once_do_not_take_each_others_name():
    made, gate = [], threading.Barrier(4)

    def make():
        gate.wait()
        made.append(Spine.create())

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.run for one in made}) == 4
    for one in made:
        one.close()


def test_what_a_killed_run_left_is_reclaimed_by_the_next():
    name = next(NAMES)
    killed = f"import os; from mantra.runtime.spine import Spine; s = Spine.create({name!r}); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", killed], check=False)
    assert Region.list(f"{name}.")
    assert name not in room.running()
    with Spine.create(next(NAMES)):
        assert not Region.list(f"{name}.")


def test_nothing_of_a_private_spine_can_be_seen():
    before = {info.name for info in Region.list()}
    with Spine.private() as spine:
        spine.queue("tops.x", "top").producer().produce(Top(venue=1))
        assert {info.name for info in Region.list()} <= before
        assert spine.names("tops") == ["tops.x"]


def test_a_reader_attaches_to_what_is_there_and_makes_nothing(spine):
    spine.queue("updates.binance.0", "update").producer().produce(Update(price=7))
    with Spine.attach(spine.run) as other:
        assert [queue.consumer("oldest").read().price for queue in other.queues("updates", "update")] == [7]
        with pytest.raises(ConfigurationError, match="has no queue 'trades'"):
            next(other.read("trades", 0.01))


def test_families_are_by_name_to_the_dot(spine):
    for name in ("tops.a", "tops.a.0", "tops.ab"):
        spine.queue(name, "top")
    assert len(spine.queues("tops", "top")) == 3
    assert len(spine.queues("tops.a", "top")) == 2
    assert len(spine.queues("tops.ab", "top")) == 1


def test_instruments_have_slots_in_the_order_they_came(spine):
    first = spine.add_instrument(5, "ETH-BTC", 0, 8, 8)
    spine.add_instrument(9, "ETH-BTC", 1, 12, 8)
    assert spine.add_instrument(5, "ETH-BTC", 0, 8, 8) == first
    with Spine.attach(spine.run) as other:
        assert [(row.slot, row.id, row.generation) for row in other.instruments()] == [(0, 5, 0), (1, 9, 1)]
        spine.add_instrument(11, "BTC-USDT", 0, 2, 8)
        assert [row.name for row in other.instruments()] == ["ETH-BTC", "ETH-BTC", "BTC-USDT"]


def test_books_are_opened_by_venue_and_symbol_and_missing_ones_named(spine):
    book, slot = spine.make_book("binance", 0, "ETHBTC", 1)
    book.write((1, 10, 5))
    assert slot == 0
    with Spine.attach(spine.run) as other:
        assert other.book("binance", "ETHBTC").bids().tolist() == [[10, 5]]
        for who in (spine, other):
            with pytest.raises(ConfigurationError, match=r"no book binance BTCUSDT; it has binance\.ETHBTC"):
                who.book("binance", "BTCUSDT")


def test_messages_are_read_as_they_come_and_reading_ends_when_nothing_does(spine):
    producer = spine.queue("world", "world").producer()
    read, found = spine.read("world", 0.3), []
    thread = threading.Thread(target=lambda: found.extend(world.sequence for world in read))
    thread.start()
    for number in range(5):
        spine.doorbell.wait(0.01)
        producer.produce(World(sequence=number))
        spine.doorbell.ring()
    thread.join()
    assert found == list(range(5))[5 - len(found):]


def test_an_actor_reads_families_and_writes_queues_of_any_name(spine):
    view = spine.for_actor("one", 600)
    signals = view.writer("signals", message="update")
    tops = [view.writer(f"tops.{name}") for name in ("a", "b")]
    spine.timings("two")
    with Spine.attach(spine.run) as other:
        for run in (spine, other.for_actor("two", 601)):
            one, both = run.reader("signals"), run.reader("tops")
            signals.produce(Update(price=5))
            for venue in (1, 0):
                tops[venue].produce(Top(venue=venue))
            assert [update.price for update in one] == [5]
            assert both.wait(0)
            assert [top.venue for top in both] == [1, 0], "as published"
            assert len(both.batch()) == 0
    assert signals.publisher == 600


def test_another_process_writes_what_the_topology_made_for_it(spine):
    spine.queue("signals", "update")
    spine.timings("three")
    with Spine.attach(spine.run) as other:
        view = other.for_actor("three", 700)
        view.writer("signals").produce(Update(price=1))
        with pytest.raises(RegionError, match="has a producer already"):
            spine.writer("signals")
        view.release()
        spine.writer("signals").produce(Update(price=2))
        with pytest.raises(ConfigurationError, match="has no queue 'orders'; it has signals"):
            view.writer("orders")
    assert [update.price for update in spine.queue("signals").consumer("oldest")] == [1, 2]


def test_a_queue_is_not_taken_for_one_of_another_message(spine):
    spine.queue("signals", "update")
    with pytest.raises(ConfigurationError, match="signals is a queue of 'update', not of 'world'"):
        spine.writer("signals", message="world")


@pytest.mark.parametrize("symbol", ["ETHBTC", "eth/btc", "币安人生USDT", "a.b", "a_b"])
def test_any_symbol_can_be_part_of_a_name(spine, symbol):
    spine.make_book("binance", 0, symbol, 1)
    assert spine.book("binance", symbol) is not None
    assert all(letter.isascii() for letter in safe_name(symbol))


def test_attaching_to_nothing_says_what_there_is(spine):
    with pytest.raises(ConfigurationError, match=f"no run 'nobody'; running: .*{spine.run}"):
        Spine.attach("nobody")


def test_actors_are_entered_told_of_and_seen_from_outside(spine):
    feed, other = spine.add_actor("binance.0", "listener", 0), spine.add_actor("world", "bbo", core=1)
    assert (feed, other, spine.add_actor("more", "bbo")) == (0, room.MOST_FEEDS, room.MOST_FEEDS + 1)
    spine.change_actor(other, state=ActorState.RUNNING, restarts=2)
    with Spine.attach(spine.run) as outside:
        rows = {row.name: row for row in outside.actors()}
    assert list(rows) == ["binance.0", "world", "more"]
    world = rows["world"]
    assert (world.number, world.kind, world.pid, world.core, world.restarts) == (other, "bbo", os.getpid(), 1, 2)
    assert (world.state, rows["more"].state) == (ActorState.RUNNING, ActorState.STARTING)
    assert abs(world.started_utc_ns - spine.clock.utc_ns()) < 60 * 10**9


def test_queues_are_smaller_where_there_are_many(spine):
    rings = [spine.tracker(f"f.{number}", number).timings for number in range(room.MANY + 1)]
    assert {ring.capacity for ring in rings[:-1]} == {room.CAPACITY["timing"]}
    assert rings[-1].capacity == room.CAPACITY["timing"] // 4
    assert spine.queue("tops.first").capacity == room.CAPACITY["top"]


def test_a_process_that_attached_records_in_the_ring_that_the_owner_made(spine):
    spine.tracker("tape", 600).close()
    done = python(f"from mantra.runtime.spine import Spine; Spine.attach({spine.run!r}).tracker('tape', 600)")
    assert done.returncode == 0, done.stderr


def test_meters_of_all_processes_are_read_by_all(spine):
    with spine.timer("fit") as timer:
        timer.record(5)
    spine.counter("fills").add(3)
    spine.counter("fills").add()
    spine.gauge("posi.tion").set(-1.5)
    code = (f"from mantra.runtime.spine import Spine\nwith Spine.attach({spine.run!r}) as spine:\n"
            "    spine.actor = 'quoter.1'\n    spine.counter('fills').add(9)\n"
            "    print(spine.counters(), spine.gauges(), {key: timer.count for key, timer in spine.timers().items()})")
    done = python(code)
    assert done.stdout.strip() == str((
        {("quoter.1", "fills"): 9, ("user", "fills"): 4}, {("user", "posi_2e_tion"): -1.5}, {("user", "fit"): 2},
    )).replace("}, {", "} {")[1:-1], done.stderr
    assert spine.counters() == {("user", "fills"): 4}       # the other process took its own along


def test_meters_of_a_private_run_are_read_there():
    with Spine.private() as spine:
        spine.gauge("level").set(2.0)
        assert (spine.gauges(), spine.counters(), spine.timers()) == ({("user", "level"): 2.0}, {}, {})


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_a_book_without_a_top_hides_none_of_those_behind_it():
    with Spine.private() as spine:
        for slot in (1, 5, spine.tops.capacity - 1):
            spine.tops.write(slot, Top(instrument=slot))
        assert [top.instrument for top in spine.newest_tops()] == [1, 5, spine.tops.capacity - 1]
