"""topology: which actors there are and which queues join them; checked before anything starts, and drawn.

    name = "bbo"
    capture = "recordings"              # one node more: it keeps every queue in this folder; or, of its own choice,
                                        # {out = "recordings", reads = ["world"], rotate = "15m", ...}

    [[node]]
    name = "binance"                    # a listener writes updates.<name>, trades.<name>, tops.<name>
    kind = "listener"
    venue = "binance"                   # every key that is not name, kind, reads or writes is the kind's own

    [[node]]
    name = "best"
    kind = "bbo"
    reads = ["tops.binance", "tops.bitstamp"]
    writes = ["world"]

    [[node]]
    name = "fade"
    kind = "my_actors:Fade"             # a class of one's own, importable or beside this file
    process = true                      # in a process of its own
    reads = ["world"]
    writes = ["signals"]
    message = "update"                  # what its queues carry; else their names say: tops, updates, trades; or worlds

Queues are families: "tops.binance" is also every "tops.binance.<n>", and "tops" is all of them. What a kind is, whoever
starts the topology knows; here they are only words.
"""
from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mantra.errors import ConfigurationError
from mantra.runtime.spine import ALSO, CAPACITY, MESSAGES, message_of, within
from mantra.runtime.tile import Policy

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]


@dataclass(frozen=True)
class Node(Policy):
    """One actor and how it runs, or one service. ConfigurationError for what is not as it must be."""

    name: str
    kind: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    process: bool = field(default=False, kw_only=True)              # one of its own
    message: str | None = field(default=None, kw_only=True)         # what its queues carry; None: what their names say
    shared: bool = field(default=False, kw_only=True)               # others write its queues too, and say so
    folder: str | None = field(default=None, kw_only=True)          # its class is looked for there too

    def __post_init__(self) -> None:
        for name in (self.name, *self.writes):
            if not re.fullmatch("[A-Za-z0-9_-][A-Za-z0-9._-]{0,39}", name):     # shared memory is named after them
                raise ConfigurationError(f"{name!r} cannot be a name: up to 40 letters, digits, dots, hyphens and "
                                         "underscores can")
        self.check(self.name)
        for name in ("process", "vital", "shared"):
            if not isinstance(getattr(self, name), bool | None):
                raise ConfigurationError(f"{self.name}: {name} must be true or false, not {getattr(self, name)!r}")
        if self.message is not None and self.message not in CAPACITY:
            raise ConfigurationError(f"{self.name}: no message {self.message!r}; choose from {', '.join(CAPACITY)}")
        if self.process and ":" not in self.kind:
            raise ConfigurationError(f"{self.name}: a {self.kind} runs on a thread; a process of its own is for a "
                                     "class of yours, kind = \"module:Class\"")

    @classmethod
    def listener(cls, name: str, **options: Any) -> Node:
        own = {each.name: options.pop(each.name) for each in fields(Policy) if each.name in options}
        families = (*MESSAGES, *ALSO) if options.get("mode") == "orders" else tuple(MESSAGES)
        return cls(name, "listener", (), tuple(f"{family}.{name}" for family in families), options, **own)

    def carries(self, queue: str) -> str:
        """The message of a queue that this node writes."""
        return self.message or message_of(queue)


KEYS = {each.name for each in fields(Node)} - {"options", "folder"}


class Topology:
    """A checked set of nodes, in an order in which writers come before their readers; `ranks`: who may come at once."""

    def __init__(self, name: str, nodes: Sequence[Node], kinds: Iterable[str]) -> None:
        self.name = name
        self.ranks = self._checked(nodes, set(kinds))
        self.nodes = tuple(node for rank in self.ranks for node in rank)

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
            options = {key: value for key, value in row.items() if key not in KEYS}
            own = {key: value for key, value in row.items() if key in KEYS}
            name, kind = own.pop("name", None), own.pop("kind", None)
            reads, writes = own.pop("reads", []), own.pop("writes", [])
            if not (isinstance(name, str) and isinstance(kind, str)):
                raise ConfigurationError(f"{path}: every [[node]] needs a name and a kind")
            if not all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in (reads, writes)):
                raise ConfigurationError(f"{path}: {name}: reads and writes are lists of queue names")
            nodes.append(Node.listener(name, **own, **options) if kind == "listener" else
                         Node(name, kind, tuple(reads), tuple(writes), options, **own, folder=str(Path(path).parent)))
        if (kept := text.get("capture")) is not None:
            if not isinstance(kept, str | dict):
                raise ConfigurationError(f"{path}: capture is a folder, or a table with its out and other options")
            options = {"out": kept} if isinstance(kept, str) else dict(kept)
            reads = options.pop("reads", dict.fromkeys(queue for node in nodes for queue in node.writes))
            nodes.append(Node("capture", "capture", tuple(reads), (), options))
        return cls(str(text.get("name", Path(path).stem)), nodes, kinds)

    def _checked(self, nodes: Sequence[Node], kinds: set[str]) -> tuple[tuple[Node, ...], ...]:
        if not nodes:
            raise ConfigurationError(f"the topology {self.name} has no nodes")
        names: set[str] = set()
        writers: dict[str, Node] = {}
        for node in nodes:
            if node.kind not in kinds and ":" not in node.kind:
                raise ConfigurationError(f"{node.name}: no such kind {node.kind!r}; choose from "
                                         f"{', '.join(sorted(kinds))}, or name a class, \"module:Class\"")
            if node.name in names:
                raise ConfigurationError(f"two nodes are called {node.name!r}")
            names.add(node.name)
            for queue in node.writes:
                other = writers.setdefault(queue, node)
                if other is not node and not (other.shared and node.shared):
                    raise ConfigurationError(f"{queue} has two writers, {other.name} and {node.name}: a queue has one, "
                                             "unless all who write it say shared = true")
                if other.carries(queue) != node.carries(queue):
                    raise ConfigurationError(f"{other.name} writes {other.carries(queue)}s to {queue}, {node.name} "
                                             f"{node.carries(queue)}s")
        for node in nodes:
            for family in node.reads:
                if not any(within(queue, family) for queue in writers):
                    raise ConfigurationError(f"{node.name} reads {family}, which nobody writes; there are "
                                             f"{', '.join(sorted(writers)) or 'no queues'}")
                messages = {writer.carries(queue) for queue, writer in writers.items() if within(queue, family)}
                if len(messages) > 1:
                    raise ConfigurationError(f"{node.name} reads {family}, which mixes "
                                             f"{' and '.join(sorted(messages))}")
        return self._ordered(list(nodes))

    def _ordered(self, waiting: list[Node]) -> tuple[tuple[Node, ...], ...]:
        done: list[tuple[Node, ...]] = []
        while waiting:
            ready = [node for node in waiting
                     if not any(within(queue, family) for family in node.reads
                                for other in waiting if other is not node for queue in other.writes)]
            if not ready:
                raise ConfigurationError(f"{', '.join(node.name for node in waiting)} wait for each other: "
                                         "a topology has no cycles")
            done.append(tuple(ready))
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
        """A Mermaid flow chart: actors are boxes, with a double edge in processes of their own, services are rounded,
        queues are arrows, thick when many write them."""
        lines = ["flowchart LR"]
        shared = {queue for node in self.nodes if node.shared for queue in node.writes}
        for node in self.nodes:
            pin = "" if node.core is None else f", core {node.core}"
            box = f'["{node.name}<br/><small>{node.kind}{pin}</small>"]'
            shape = f"[{box}]" if node.process else box if node.writes or ":" in node.kind else f'(["{node.name}"])'
            lines.append(f"    {_id(node.name)}{shape}")
        unread = []
        for writer, queue, reader in self.edges():
            if reader:
                arrow = "== {} ==>" if queue in shared else "-- {} -->"
                lines.append(f"    {_id(writer)} {arrow.format(queue)} {_id(reader)}")
            else:
                unread.append(f"    {_id(writer)} -. {queue} .-> {_id(queue)}>{queue}]")
        return "\n".join(lines + unread) + "\n"


def _id(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
