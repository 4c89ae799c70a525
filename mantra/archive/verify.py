"""verify: is everything there, and as it was written? `mantra archive verify` looks; `mantra archive repair` mends.

Every record is read and its checksums computed, every block decoded. A queue's positions go on from block to block and
from file to file of a capture: where they jump the files must say so (gaps), else messages are missing. What the ledger
says was published tells what is missing behind the last of them.
"""
from __future__ import annotations

import contextlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from mantra.archive.catalogue import closed
from mantra.archive.options import STATES, columns, parser, progress, screen, size_text, tell, time_text
from mantra.core.pack import unpack
from mantra.errors import ArchiveError
from mantra.runtime.options import door
from mantra.tape import raw
from mantra.tape.segment import HEAD, Gap, Problem, Record, SegmentReader, SegmentWriter, Stream, files, unpack_json


class Hole(NamedTuple):
    """Messages of a queue that are nowhere: behind the last one in file `before`, in front of one in `after`."""

    capture: str
    queue: str
    gap: Gap
    before: Path
    after: Path


@dataclass
class Queue:
    """What a capture kept of one. `position`: behind the last message; `published`: so many, by the ledger."""

    capture: str
    name: str
    messages: int = 0
    first: int = 0
    position: int = 0
    published: int = 0
    path: Path = Path()         # of the last message
    holes: list[Hole] = field(default_factory=list)
    told: set[Gap] = field(default_factory=set)

    def add(self, feed: int, positions: NDArray[np.uint64], path: Path, utc_ns: int) -> Iterator[str]:
        """The positions of a block's messages; what is wrong with them."""
        if not self.messages:
            self.first = self.position = int(positions[0])
        before = np.append(np.uint64(self.position), positions[:-1] + np.uint64(1))
        for at in np.flatnonzero(before != positions).tolist():
            since, until = int(before[at]), int(positions[at])
            if until < since:
                yield f"positions of {self.name} go back from {since:,} to {until:,}: is a file there twice?"
            else:
                self.holes.append(Hole(self.capture, self.name, Gap(feed, since, until - since, utc_ns),
                                       path if at else self.path, path))
        self.messages += len(positions)
        self.position, self.path = int(positions[-1]) + 1, path

    def missing(self) -> Iterator[Hole]:
        """The holes, or what is left of them, that no file tells of. A gap may tell of several: it begins with the
        first."""
        told = deque(sorted((gap.position, gap.lost) for gap in self.told if gap.position + gap.lost > self.first))
        for hole in self.holes:
            gap = hole.gap
            while told and gap.lost and told[0][0] < gap.position + gap.lost:
                position, lost = told.popleft()
                part = min(lost, gap.lost)
                gap = gap._replace(position=gap.position + part, lost=gap.lost - part)
                if lost > part:
                    told.appendleft((position + part, lost - part))
            if gap.lost:
                yield hole._replace(gap=gap)


@dataclass
class File:
    """What was found in one. `bad`: rows of its index whose blocks cannot be read, of `lost` messages by what their
    headers say."""

    path: Path
    state: str
    bytes: int
    blocks: int = 0
    messages: int = 0
    lost: int = 0
    digest: str = ""
    bad: set[int] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    error: str = ""


class Check:
    """Files looked through. `missing`: what they should have; `wrong`: what else does not fit together."""

    def __init__(self, paths: Sequence[Path], seen: Callable[[int], object] = lambda _: None) -> None:
        self._queues: dict[tuple[str, str], Queue] = {}
        self._ledgers: dict[str, dict[str, int]] = {}
        self._seen = seen
        self.wrong: list[str] = []
        self.files: list[File] = []
        for path in sorted(paths):      # so those of a capture are in their order
            with contextlib.suppress(FileNotFoundError):        # retention took it
                self.files.append(self._file(path if path.exists() else closed(path)))
        for (capture, name), queue in self._queues.items():
            queue.published = self._ledgers.get(capture, {}).get(name, 0)
        self.queues = list(self._queues.values())
        self.missing = [hole for queue in self.queues for hole in queue.missing()]
        self.damaged = bool(self.wrong or self.missing) or any(file.problems or file.error for file in self.files)

    def _file(self, path: Path) -> File:
        file = File(path, "unreadable", path.stat().st_size)
        try:
            # Walked too, as an index that is fine tells nothing of the headers in the file.
            with SegmentReader(path) as reader, SegmentReader(path, index=False) as walked:
                reader.sources()
                found = self._blocks(reader, file)
                found |= {problem.offset: problem for problem in [*walked.problems, *reader.problems]}
                file.problems, file.digest = [found[at] for at in sorted(found)], reader.digest.hex()
                file.state = ("growing" if reader.growing else "damaged" if found else
                              "whole" if reader.whole else "unfinished")
        except (ArchiveError, OSError) as error:
            file.error = str(error)
        return file

    def _blocks(self, reader: SegmentReader, file: File) -> dict[int, Problem]:
        table, capture, found = reader.table, reader.capture, {}
        for gap in table.gaps:
            self._queue(capture, table.feeds.get(gap.feed, str(gap.feed))).told.add(gap)
        for record in reader.blocks():
            file.blocks += 1
            self._seen(HEAD + record.size)
            try:
                if (stream := table.streams.get(record.stream)) is None:
                    raise ArchiveError(f"a block of stream {record.stream}, which no table names")
                self._block(reader, record, stream, capture)
                file.messages += record.messages
            except ArchiveError as error:
                file.bad.add(record.row)
                file.lost += record.messages
                found[record.offset] = Problem(record.offset, HEAD + record.size, str(error))
        return found

    def _block(self, reader: SegmentReader, record: Record, stream: Stream, capture: str) -> None:
        body, count = reader.body(record), record.messages
        if stream.message:
            block = unpack(stream.message, body)
            count = len(block.messages)
            for feed in np.unique(block.feeds).tolist():
                queue = self._queue(capture, reader.table.feeds.get(feed, str(feed)))
                self.wrong += queue.add(feed, block.positions[block.feeds == feed], reader.path, record.first_ns)
        elif stream.layout == raw.LAYOUT:
            count = len(raw.unpack(body).records)
        elif stream.name == "ledger":
            self._ledgers[capture] = _published(unpack_json(body))
        if count != record.messages:
            raise ArchiveError(f"a block of {record.messages:,} messages has {count:,}")

    def _queue(self, capture: str, name: str) -> Queue:
        return self._queues.setdefault((capture, name), Queue(capture, name))

    def told(self) -> dict[str, Any]:
        """As JSON."""
        sums = {name: sum(getattr(file, name) for file in self.files) for name in ("blocks", "messages", "bytes")}
        return {
            "damaged": self.damaged, **sums, "damaged_blocks": sum(len(file.bad) for file in self.files),
            "damaged_messages": sum(file.lost for file in self.files),
            "missing": [{"queue": hole.queue, **hole.gap._asdict(), "file": hole.after.name} for hole in self.missing],
            "wrong": self.wrong,
            "files": [{"path": str(file.path), "state": file.state, "bytes": file.bytes, "blocks": file.blocks,
                       "messages": file.messages, "digest": file.digest, "error": file.error,
                       "problems": [problem._asdict() for problem in file.problems]} for file in self.files],
            "queues": [{"name": queue.name, "messages": queue.messages, "first": queue.first,
                        "position": queue.position, "told_lost": sum(gap.lost for gap in queue.told),
                        "published": queue.published} for queue in self.queues]}

    def show(self, console: Console) -> None:
        table = columns("file", "blocks", "messages", "bytes", "state", right=("blocks", "messages", "bytes"))
        for file in self.files:
            table.add_row(Text(file.path.name), f"{file.blocks:,}", f"{file.messages:,}", size_text(file.bytes),
                          Text(file.state, STATES[file.state]))
        console.print(table)
        tell(console, [
            *(Text(f"{file.path.name}: {text}", "red") for file in self.files for text in [
                *filter(None, [file.error]), *(f"{one.what}: {one.size:,} bytes at {one.offset:,}"
                                               for one in file.problems)]),
            *(Text(f"{hole.queue}: {hole.gap.lost:,} messages from position {hole.gap.position:,} on are missing, "
                   f"before {time_text(hole.gap.utc_ns, 3)}", "red") for hole in self.missing),
            *(Text(text, "red") for text in self.wrong)])
        tell(console, [Text(f"{queue.name}: {count:,} messages {words}", "yellow") for queue in self.queues
                       for count, words in (
                           (sum(gap.lost for gap in queue.told), "were missed, as the files say"),
                           (queue.messages and queue.published - queue.position,
                            "at the end were published, by the ledger, and not kept")) if count > 0])
        told, missing = self.told(), sum(hole.gap.lost for hole in self.missing)
        damage = (f"DAMAGED: {told['damaged_blocks']} blocks of {told['damaged_messages']:,} messages cannot be read, "
                  f"{missing:,} messages are missing" if told["damaged_blocks"] or missing else
                  "DAMAGED, but no message is known to be lost")
        console.print(Text(f"{damage + ' (see mantra archive repair)' if self.damaged else 'all is well'}; "
                           f"{told['messages']:,} messages in {told['blocks']:,} blocks, {size_text(told['bytes'])}, "
                           "were read", "bold"))


def _published(ledger: Mapping[str, Any]) -> dict[str, int]:
    """How many messages of each queue it counts."""
    try:
        return {f"{family}.{feed}": count for feed, counts in ledger.get("feeds", {}).items()
                for family, count in counts.items() if isinstance(count, int)}
    except AttributeError:
        raise ArchiveError("no ledger") from None


def checked(paths: Sequence[Path]) -> Check:
    """With progress on standard error."""
    with progress() as shown:
        task = shown.add_task("verifying", total=sum(path.stat().st_size for path in paths if path.exists()))
        return Check(paths, lambda size: shown.advance(task, size))


def mend(file: File, holes: Sequence[Hole], *, keep: bool = True) -> Path:
    """Write what can be read of it to a new file, which tells of `holes` and takes its place; the old one is kept as
    NAME.damaged. OSError, ArchiveError: everything is as it was."""
    target = closed(file.path)
    scratch, kept = (target.with_name(target.name + suffix) for suffix in (".repair", ".damaged"))
    for path in [kept] * keep + [target] * (target != file.path):
        if path.exists():
            raise ArchiveError(f"{path} is there already: is it still wanted?")
    part = scratch.with_name(scratch.name + ".part")
    for left in (scratch, part):        # by one that was killed
        left.unlink(missing_ok=True)
    try:
        with SegmentReader(file.path) as reader:
            table = reader.table.told()
            for capture, queue, gap, *_ in holes:       # its own tables may be lost
                table["capture"] = table["capture"] or capture
                table["feeds"].setdefault(gap.feed, queue)
                table["gaps"].append(gap._asdict())
            with SegmentWriter(scratch, table, sync_s=math.inf) as writer:
                for record in reader.blocks():
                    if record.row not in file.bad:
                        writer.block(record.stream, reader.body(record), record.messages, record.first_ns,
                                     record.last_ns)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if keep:
        os.link(file.path, kept)
    scratch.replace(target)
    if target != file.path:
        file.path.unlink()
    return target


@door("mantra archive verify", interrupted=1)
def main(argv: Sequence[str] | None = None) -> int:
    made = parser("verify", "Read everything: is it as it was written, and is nothing missing?", """\
Checksums, indexes, every block decoded, the positions of every queue from file to file, gaps and ledger. Exits 1 when
something is damaged or missing that the files do not say themselves, and tells how much.

--against TAPE: the tapes of that archive (mantra capture --raw) are told to feeds again, and must lead to the very
messages and books of this one.""", chooses=False)
    made.add_argument("--against", type=Path, metavar="TAPE", help="an archive with tapes; compare with that alone")
    options = made.parse_args(argv)
    paths = files(options.paths)
    if options.against is not None:
        from mantra.archive import proof  # loads all that feeds need
        return proof.against(paths, options.against, options.json)
    check = checked(paths)
    if options.json:
        print(json.dumps(check.told()))
    else:
        check.show(screen())
    return int(check.damaged)


@door("mantra archive repair", interrupted=1)
def repair(argv: Sequence[str] | None = None) -> int:
    made = parser("repair", "Write files anew that are damaged, or were never closed.", """\
Blocks that can be read are copied as they are, with a new index; what is lost is told in the file (gaps). The new file
takes the old one's place at once or not at all; the old one is kept as NAME.damaged if anything of it was lost. Files
that are being written are left alone.""", chooses=False)
    made.add_argument("--discard", action="store_true", help="keep no NAME.damaged")
    options = made.parse_args(argv)
    check = checked(files(options.paths))
    told: list[dict[str, Any]] = []
    hit = [file.path for file in check.files if file.state == "damaged"]
    for file in check.files:
        if file.state not in ("damaged", "unfinished"):
            continue
        holes = [hole for hole in check.missing
                 if file.path == next((path for path in hit if hole.before <= path <= hole.after), None)]
        try:
            path, error = str(mend(file, holes, keep=bool(file.problems) and not options.discard)), ""
        except (ArchiveError, OSError) as failure:
            path, error = "", str(failure)
        told.append({"path": str(file.path), "mended": path, "error": error, "blocks": file.blocks - len(file.bad),
                     "messages": file.messages, "dropped_blocks": len(file.bad), "dropped_messages": file.lost,
                     "gaps": [hole.gap._asdict() for hole in holes]})
    unreadable = [file for file in check.files if file.state == "unreadable"]
    if options.json:
        print(json.dumps({"files": told, "unreadable": [str(file.path) for file in unreadable]}))
    else:
        for one in told:
            print(f"{one['path']}: {one['error']}" if one["error"] else
                  f"{one['mended']}: {one['blocks']:,} blocks of {one['messages']:,} messages are whole; dropped "
                  f"{one['dropped_blocks']} of {one['dropped_messages']:,}; "
                  f"{sum(gap['lost'] for gap in one['gaps']):,} messages are told to be missing")
        for file in unreadable:
            print(f"{file.path}: nothing can be saved: {file.error}")
        if not told and not unreadable:
            print("nothing to mend")
    return int(bool(unreadable) or any(one["error"] for one in told))
