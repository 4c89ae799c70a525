"""Topologies: what holds together, what does not and why, in what order, and how it is drawn."""
from __future__ import annotations

from datetime import date

import pytest

from mantra.errors import ConfigurationError
from mantra.runtime.topology import Node, Topology, within

KINDS = ("listener", "bbo", "grpc")
LISTENERS = [Node.listener("binance", venue="binance"), Node.listener("bitstamp")]
BEST = Node("best", "bbo", ("tops.binance", "tops.bitstamp"), ("world",))
SERVICE = Node("grpc", "grpc", ("world",))


def test_a_listener_writes_updates_trades_and_tops_of_its_name():
    assert LISTENERS[0].writes == ("updates.binance", "trades.binance", "tops.binance")
    assert LISTENERS[0].options == {"venue": "binance"}


def test_a_family_holds_what_its_name_begins_to_the_dot():
    assert within("tops.binance.0", "tops.binance")
    assert within("tops", "tops")
    assert not within("tops.binance2", "tops.binance")


def test_writers_come_before_their_readers_in_whatever_order_they_are_named():
    nodes = Topology("backwards", [SERVICE, BEST, *LISTENERS], KINDS).nodes
    names = [node.name for node in nodes]
    assert names.index("best") > max(names.index("binance"), names.index("bitstamp"))
    assert names[-1] == "grpc"


@pytest.mark.parametrize(("nodes", "says"), [
    ([], "has no nodes"),
    ([Node("x", "wizard")], "no such kind 'wizard'"),
    ([LISTENERS[0], LISTENERS[0]], "two nodes are called 'binance'"),
    ([*LISTENERS, BEST, Node("other", "bbo", ("tops",), ("world",))], "world has two writers, best and other"),
    ([*LISTENERS, BEST, Node("other", "bbo", ("tops",), ("world",), shared=True)], "all who write it say shared"),
    ([Node("a", "m:A", (), ("s",), shared=True), Node("b", "m:B", (), ("s",), shared=True, message="update")],
     "a writes worlds to s, b updates"),
    ([Node("a", "m:A", (), ("s.a",), message="update"), Node("b", "m:B", (), ("s.b",)), Node("c", "m:C", ("s",))],
     "c reads s, which mixes update and world"),
    ([BEST], "best reads tops.binance, which nobody writes"),
    ([Node("a", "bbo", ("b",), ("a",)), Node("b", "bbo", ("a",), ("b",))], "wait for each other"),
])
def test_what_does_not_hold_together_is_refused_with_the_reason(nodes, says):
    with pytest.raises(ConfigurationError, match=says):
        Topology("broken", nodes, KINDS)


def test_a_topology_is_read_from_toml(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("""
        [[node]]
        name = "binance"
        kind = "listener"
        mode = "top"
        [[node]]
        name = "best"
        kind = "bbo"
        reads = ["tops"]
        writes = ["world"]
    """)
    topology = Topology.load(path, KINDS)
    assert topology.name == "mine"
    assert topology.nodes[0].options == {"mode": "top"}
    assert topology.edges() == [
        ("binance", "updates.binance", ""), ("binance", "trades.binance", ""), ("binance", "tops.binance", "best"),
        ("best", "world", "")]


def test_a_node_of_ones_own_says_how_it_runs_and_what_it_writes(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("""
        [[node]]
        name = "fade"
        kind = "my_actors:Fade"
        process = true
        core = 0
        idle = "spin"
        restart = "on-failure"
        writes = ["signals", "tops.mine"]
        message = "update"
        least = 3
        since = 2026-11-21
    """)
    (node,) = Topology.load(path, KINDS).nodes
    assert (node.process, node.core, node.idle, node.restart) == (True, 0, "spin", "on-failure")
    assert node.folder == str(tmp_path)
    assert node.options == {"least": 3, "since": date(2026, 11, 21)}
    assert [node.carries(queue) for queue in node.writes] == ["update", "update"]
    assert [BEST.carries(queue) for queue in ("tops.mine", "trades", "signals")] == ["top", "trade", "world"]


@pytest.mark.parametrize(("wrong", "says"), [
    ({"process": "yes"}, "fade: process must be true or false, not 'yes'"),
    ({"message": "upd"}, "fade: no message 'upd'; choose from update, trade, top, world"),
    ({"core": 4096}, "fade: there is no core 4096 here"),
    ({"restart": "always"}, "fade: restart must be one of never, on-failure, not 'always'"),
])
def test_a_node_that_cannot_be_is_refused_with_the_reason(wrong, says):
    with pytest.raises(ConfigurationError, match=says):
        Node("fade", "my_actors:Fade", ("world",), **wrong)


@pytest.mark.parametrize("name", ["", "a/b", "..", "my fade", "n" * 41])
def test_a_name_that_no_memory_can_bear_is_refused(name):
    for make in (lambda: Node(name, "m:A"), lambda: Node("fade", "m:A", (), (name,))):
        with pytest.raises(ConfigurationError, match="cannot be a name"):
            make()


def test_only_a_class_of_ones_own_gets_a_process_of_its_own():
    with pytest.raises(ConfigurationError, match="best: a bbo runs on a thread"):
        Node("best", "bbo", ("tops",), ("world",), process=True)


@pytest.mark.parametrize("text", [
    "[[node", "[node]\nname='x'", "node = 3", "node = ['x']", "[[node]]\nkind='bbo'",
    "[[node]]\nname='x'\nkind='bbo'\nreads='tops'", "", "[[node]]\nname=1\nkind='bbo'",
])
def test_a_file_that_is_no_topology_is_one_line(tmp_path, text):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        Topology.load(path, KINDS)
    assert len(str(error.value).splitlines()) == 1


def test_it_is_drawn_with_every_queue_and_who_reads_it():
    drawn = Topology("bbo", [*LISTENERS, BEST, SERVICE], KINDS).mermaid()
    assert drawn.startswith("flowchart LR\n")
    assert "binance -- tops.binance --> best" in drawn
    assert "best -- world --> grpc" in drawn
    assert "bitstamp -. trades.bitstamp .-> trades_bitstamp>trades.bitstamp]" in drawn


def test_processes_pins_and_shared_queues_are_drawn():
    nodes = [Node("a", "m:A", (), ("s",), shared=True, process=True), Node("b", "m:B", (), ("s",), shared=True, core=0),
             Node("c", "m:C", ("s",))]
    drawn = Topology("mine", nodes, KINDS).mermaid()
    assert 'a[["a<br/><small>m:A</small>"]]' in drawn
    assert 'b["b<br/><small>m:B, core 0</small>"]' in drawn
    assert "a == s ==> c" in drawn
