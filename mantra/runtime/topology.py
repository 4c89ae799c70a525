"""topology: which actors there are and which queues join them; checked before anything starts, and drawn.

    name = "bbo"

    [[node]]
    name = "binance"                    # a listener writes updates.<name>, trades.<name>, tops.<name>
    kind = "listener"
    venue = "binance"                   # every key that is not name, kind, reads or writes is the kind's own

    [[node]]
    name = "best"
    kind = "bbo"
    reads = ["tops.binance", "tops.bitstamp"]
    writes = ["world"]

Queues are families: "tops.binance" is also every "tops.binance.<n>", and "tops" is all of them. What a kind is, whoever
starts the topology knows; here they are only words.
"""
from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mantra.errors import ConfigurationError
from mantra.runtime.spine import MESSAGES, within

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]


@dataclass(frozen=True)
class Node:
    """One actor, or one service in a process of its own."""

    name: str
    kind: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def listener(cls, name: str, **options: Any) -> Node:
        return cls(name, "listener", (), tuple(f"{family}.{name}" for family in MESSAGES), options)


class Topology:
    """A checked set of nodes, in an order in which writers come before their readers."""

    def __init__(self, name: str, nodes: Sequence[Node], kinds: Iterable[str]) -> None:
        self.name = name
        self.nodes = self._checked(nodes, set(kinds))

    @classmethod
    def load(cls, path: str | Path, kinds: Iterable[str]) -> Topology:
        """The topology in a TOML file, as above. ConfigurationError in one line when it does not hold together."""
        try:
            text = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"cannot read the topology {path}: {error}") from None
        nodes, rows = [], text.get("node", [])
        if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            raise ConfigurationError(f"{path}: nodes are tables under [[node]]")
        for row in rows:
            row = dict(row)
            name, kind = row.pop("name", None), row.pop("kind", None)
            reads, writes = row.pop("reads", []), row.pop("writes", [])
            if not (isinstance(name, str) and isinstance(kind, str)):
                raise ConfigurationError(f"{path}: every [[node]] needs a name and a kind")
            if not all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in (reads, writes)):
                raise ConfigurationError(f"{path}: {name}: reads and writes are lists of queue names")
            nodes.append(Node.listener(name, **row) if kind == "listener" else
                         Node(name, kind, tuple(reads), tuple(writes), row))
        return cls(str(text.get("name", Path(path).stem)), nodes, kinds)

    def _checked(self, nodes: Sequence[Node], kinds: set[str]) -> tuple[Node, ...]:
        if not nodes:
            raise ConfigurationError(f"the topology {self.name} has no nodes")
        names: set[str] = set()
        writers: dict[str, str] = {}
        for node in nodes:
            if node.kind not in kinds:
                raise ConfigurationError(f"{node.name}: no such kind {node.kind!r}; "
                                         f"choose from {', '.join(sorted(kinds))}")
            if node.name in names:
                raise ConfigurationError(f"two nodes are called {node.name!r}")
            names.add(node.name)
            for queue in node.writes:
                if queue in writers:
                    raise ConfigurationError(f"{queue} has two writers, {writers[queue]} and {node.name}: "
                                             "a queue has one")
                writers[queue] = node.name
        for node in nodes:
            for family in node.reads:
                if not any(within(queue, family) for queue in writers):
                    raise ConfigurationError(f"{node.name} reads {family}, which nobody writes; there are "
                                             f"{', '.join(sorted(writers)) or 'no queues'}")
                messages = {MESSAGES.get(queue.split(".")[0], "world") for queue in writers if within(queue, family)}
                if len(messages) > 1:
                    raise ConfigurationError(f"{node.name} reads {family}, which mixes "
                                             f"{' and '.join(sorted(messages))}")
        return self._ordered(list(nodes))

    def _ordered(self, waiting: list[Node]) -> tuple[Node, ...]:
        done: list[Node] = []
        while waiting:
            ready = [node for node in waiting
                     if not any(within(queue, family) for family in node.reads
                                for other in waiting if other is not node for queue in other.writes)]
            if not ready:
                raise ConfigurationError(f"{', '.join(node.name for node in waiting)} wait for each other: "
                                         "a topology has no cycles")
            done += ready
            waiting = [node for node in waiting if node not in ready]
        return tuple(done)

    def edges(self) -> list[tuple[str, str, str]]:
        """(writer, queue, reader) for every queue that is read, and (writer, queue, "") for those that are not."""
        found = []
        for writer in self.nodes:
            for queue in writer.writes:
                readers = [node.name for node in self.nodes if any(within(queue, family) for family in node.reads)]
                found += [(writer.name, queue, reader) for reader in readers] or [(writer.name, queue, "")]
        return found

    def mermaid(self) -> str:
        """A Mermaid flow chart: actors are boxes, services are rounded, queues are arrows."""
        lines = ["flowchart LR"]
        for node in self.nodes:
            shape = f'(["{node.name}"])' if not node.writes else f'["{node.name}<br/><small>{node.kind}</small>"]'
            lines.append(f"    {_id(node.name)}{shape}")
        unread = []
        for writer, queue, reader in self.edges():
            if reader:
                lines.append(f"    {_id(writer)} -- {queue} --> {_id(reader)}")
            else:
                unread.append(f"    {_id(writer)} -. {queue} .-> {_id(queue)}>{queue}]")
        return "\n".join(lines + unread) + "\n"


def _id(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
