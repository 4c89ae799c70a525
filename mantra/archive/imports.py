"""imports: other people's recordings become a segment, through the production path: `mantra archive import --help`.

    records --> survey: which symbols and scales --> again: hot path, on a clock that shows the recorded time --> blocks

So a message's origin is when it was received, to the nanosecond, and it was published at once. Books that are replaced
have their image right there. Nobody can ask a recording for another snapshot, so a book that stays crossed is suspect,
and goes on.
"""
from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray
from rich.progress import Progress

import mantra
from mantra import venues
from mantra.archive import tardis
from mantra.archive.catalogue import catalogue
from mantra.archive.files import named
from mantra.archive.options import progress
from mantra.archive.streams import IMAGED, KEY_FRAME
from mantra.client.recorded import Recorded, RecordedFeed, Survey
from mantra.core.clock import Clock
from mantra.core.hot_path import PADDING
from mantra.core.messages import LAYOUTS, Kind
from mantra.core.pack import Packer
from mantra.core.queue import Queue
from mantra.errors import ConfigurationError
from mantra.runtime.options import Parser, door
from mantra.runtime.spine import ALSO, MESSAGES, Spine
from mantra.tape import lines
from mantra.tape.lines import Record
from mantra.tape.segment import HEAD, SegmentWriter, pack_json
from mantra.venues.instrument import Instrument
from mantra.venues.venue import Mode, Venue

BLOCK_NS = 60_000_000_000       # of recorded time in a block, at most
CHUNK = 1024                    # messages between two looks at the queues, and bytes of them: so little that
CHUNK_BYTES = 1 << 18           # the queues are not overrun
MOST_ORDERS = 1 << 18           # in the queue: a snapshot of them is told in one go
COMPARED = [1, 2, 3, 4, 6, 7, 9, 11, 12]    # kinds (decode.h) of frames of books and trades

EPILOG = """\
PATH is a recording (.zst, .gz too), or a folder of files named after the venue. Formats: cryptofeed's, hftbacktest's,
depthcharge's, plain frames, one a line, or one in a file NAME.json; and Tardis' CSV of incremental_book_L2 and trades,
one exchange at a time. Where no time is recorded the order is kept, from 1970 on. A recording is read twice: first for
the scales that its numbers need.

--json gives, of the frames that were a book, a change to it, or trades (other channels are not counted, nor REST
answers, times and line ends):
  messages          these frames               raw_bytes         their bytes
  updates, trades   what they led to           archive_bytes     of the file that was written
  bytes_per_update  archive_bytes less the blocks of trades, by updates
  ratio_raw         raw_bytes by archive_bytes
  ratio_zstd19      these frames, a line each, compressed by zstd -19, by archive_bytes
  seconds           all of it but zstd -19
and of the recording
  frames            received in all            malformed         of them, of no use
  skipped_lines     that are none of the format                  images            of books, in the file
  waiting           of `messages`, those that waited in vain for a book to apply them to: they are not in the archive
"""

Frames = Callable[[], Iterator[Record]]


class Stream:
    """A queue of what is published, and what is gathered of it until it is a block. `bytes`: of its blocks so far."""

    def __init__(self, number: int, name: str, queue: Queue) -> None:
        self.number, self.name, self.message, self.consumer = number, name, queue.format.name, queue.consumer()
        self.packer = Packer(self.message)
        self.bytes = self.images = self.imaged = 0      # imaged: images not in a block yet, and their levels


class Import(RecordedFeed):
    """A recording on its way into a segment."""

    def __init__(self, venue: Venue, survey: Survey, writer: SegmentWriter, mode: Mode = "book", *,
                 level: int = 1) -> None:
        start_ns = max(1, survey.start_ns)      # 0 says that nothing was published yet
        spine = Spine.private(clock=Clock.virtual(start_ns))
        if mode == "orders":
            spine.queue(f"orders.{venue.name}", "order", MOST_ORDERS)
        super().__init__(venue, survey.symbols, mode, keep=survey.depth, spine=spine, cross_seconds=1e9)
        self._writer, self._level = writer, level
        families = [name for name in MESSAGES | ALSO if name != "tops" and (name != "orders" or mode == "orders")]
        self.streams = [Stream(number, name, self.spine.queue(f"{name}.{venue.name}"))
                         for number, name in enumerate(families, 1)]
        self._book_of = {symbol.id: book for symbol, book in zip(survey.symbols, self.books, strict=True)}
        self._since = Counter[int]()            # updates since its last image, by instrument
        self._due_ns = start_ns + BLOCK_NS
        self.frames = self.raw_bytes = 0        # of books and trades
        writer.table({
            "capture": writer.path.stem, "writer": f"mantra {mantra.__version__} import",
            "venues": {venue.id: venue.name},
            "feeds": {stream.number: f"{stream.name}.{venue.name}" for stream in self.streams},
            "streams": {0: {"name": "ledger"}} | {stream.number: {
                "name": stream.name, "message": stream.message, "layout": LAYOUTS[stream.message]}
                for stream in self.streams},
            "instruments": [vars(symbol) for symbol in survey.symbols],
            "clock": {"kind": "virtual", "ns_per_cycle": 1.0, "points": [[0, 0]]}})
        self._last_ns = start_ns
        self.feed.begin()
        self._take()

    def play(self, piece: Recorded) -> NDArray[np.bool_]:
        """The next piece of the recording. Which of its messages were of books and trades."""
        times, kinds = self._times(piece), np.zeros(len(piece), np.int8)
        at, offsets = 0, piece.offsets
        for before, index, snapshot in [*self.snapshots(piece), (len(piece), -1, None)]:
            while at < before:
                if times[at] >= self._due_ns:
                    self.flush(more=True)
                    self._due_ns = int(times[at]) + BLOCK_NS
                full = int(np.searchsorted(offsets, offsets[at] + np.uint64(CHUNK_BYTES))) - 1
                due = at + int(np.argmax(np.append(times[at:at + CHUNK], 1 << 62) >= self._due_ns))
                until = min(at + CHUNK, before, max(at + 1, min(full, due)))
                at = self.feed.recorded(piece.texts, offsets, times, kinds, at, until)
                self._take()
            if snapshot is not None and not self.feed.state(index)[0]:      # a live book needs none
                self.spine.clock.advance_to(snapshot.time_ns)
                self.feed.splice(index, snapshot.body)
                self._take()
        wanted = np.isin(kinds, COMPARED)
        self.frames += int(wanted.sum())
        self.raw_bytes += int(np.diff(offsets)[wanted].sum()) - PADDING * int(wanted.sum())
        return wanted

    def _times(self, piece: Recorded) -> NDArray[np.int64]:
        """When each message was received. One of unknown time came 1 ns after the one before it."""
        times = np.array(piece.times_ns, np.int64)
        for at in np.flatnonzero(times == 0).tolist():
            times[at] = (times[at - 1] if at else self._last_ns) + 1
        self._last_ns = int(times[-1]) if len(times) else self._last_ns
        return times

    def _take(self) -> None:
        """What was published, to the packers; behind a book that was replaced, its image."""
        for stream in self.streams:
            position = stream.consumer.position
            while len(batch := stream.consumer.batch(limit=8192)):
                if stream.packer.room < len(batch):
                    self._flush(stream)
                stream.packer.add(stream.number, batch, position)
                position = stream.consumer.position
                if stream.message == "update":
                    for instrument, count in zip(*np.unique(batch["instrument"], return_counts=True), strict=True):
                        self._since[int(instrument)] += int(count)
                    for instrument in np.unique(batch["instrument"][batch["kind"] == Kind.RESET]).tolist():
                        self._image(instrument)

    def _image(self, instrument: int) -> None:
        updates, image = self.streams[0], self._book_of[instrument].image()
        updates.packer.image(updates.number, image)
        updates.images += 1
        updates.imaged += 1 + image.bid_count + image.ask_count
        self._since[instrument] = 0
        if updates.imaged > IMAGED:
            self._flush(updates)

    def flush(self, more: bool = False) -> None:
        """Write what was gathered. If more comes, a book of which that was much begins the next block."""
        for stream in self.streams:
            self._flush(stream)
        for instrument, since in self._since.items() if more else ():
            image = self._book_of[instrument].image(0)
            if image.generation and since > KEY_FRAME * (image.bid_count + image.ask_count):
                self._image(instrument)

    def end(self) -> None:
        """The rest, and what was counted."""
        self.flush()
        counted = {name: count for name, count in self.row.counts().items() if count}
        self._writer.block(0, pack_json({"feeds": {self.row.name: counted}}), 0, self._last_ns, self._last_ns)

    def _flush(self, stream: Stream) -> None:
        count, now = stream.packer.count, self.spine.clock.utc_ns()
        if count or stream.imaged:
            first, last = (stream.packer.first, stream.packer.last) if count else (now, now)
            body = stream.packer.pack(self._level)
            self._writer.block(stream.number, body, count, first, last)
            stream.bytes, stream.imaged = stream.bytes + len(body) + HEAD, 0


def numbered(symbols: Sequence[Instrument], known: Sequence[Instrument]) -> list[Instrument]:
    """The symbols as an archive numbers them that knows these instruments: one whose scale is fine enough goes on, else
    it is another, or another scale of it."""
    rows = list(known)
    for symbol in symbols:
        same = sorted((row for row in rows if row.name == symbol.name), key=lambda row: row.generation)
        if not any(row.price_decimals >= symbol.price_decimals and row.size_decimals >= symbol.size_decimals
                   for row in same[-1:]):
            rows.append(replace(symbol, id=max((row.id for row in rows), default=0) + 1,
                                generation=same[-1].generation + 1 if same else 0))
    newest = {row.name: row for row in sorted(rows, key=lambda row: row.generation)}
    return [newest[symbol.name] for symbol in symbols]


def record(venue: Venue, frames: Frames, out: Path, *, mode: Mode = "book", level: int = 1, compare: bool = False,
           shown: Progress | None = None) -> dict[str, Any]:
    """Import what `frames` gives, each time it is called, into a new file in folder `out`; what `--json` says of it.
    ConfigurationError: there is no book or trade of `venue` in it. ArchiveError: the file is there already."""
    shown = shown or Progress(disable=True)
    began = time.monotonic()
    task = shown.add_task("reading", total=None)
    survey = Survey(venue, Recorded.pieces(venue, shown.track(frames(), task_id=task)))
    if not survey.symbols:
        raise ConfigurationError(f"no message of the recording is {venue.name}'s book or trade: is --venue right?")
    held = catalogue([out]) if any(out.glob("*.mantra*")) else []
    known = {row.id: Instrument(*row) for entry in held for row in entry.instruments.values()}
    survey.symbols = numbered(survey.symbols, [*known.values()])
    out.mkdir(parents=True, exist_ok=True)
    path = out / named(survey.start_ns, venue.name)
    writer, zstd, zstd19 = None, zstandard.ZstdCompressor(19), 0
    task = shown.add_task("importing", total=survey.messages)
    try:
        with SegmentWriter(path, {}, sync_s=math.inf) as writer:
            imported, comparing = Import(venue, survey, writer, mode, level=level), 0.0
            for piece in Recorded.pieces(venue, frames()):
                of_books = imported.play(piece)
                shown.advance(task, len(piece))
                if compare:
                    pause = time.monotonic()
                    zstd19 += len(zstd.compress(b"\n".join(piece[at] for at in np.flatnonzero(of_books).tolist())))
                    comparing += time.monotonic() - pause
            imported.end()
    except BaseException:
        if writer is not None:
            writer.part.unlink(missing_ok=True)
        raise
    counts, size = imported.row.counts(), path.stat().st_size
    others = sum(stream.bytes for stream in imported.streams[1:])
    return {
        "messages": imported.frames, "updates": counts["updates"], "trades": counts["trades"],
        "raw_bytes": imported.raw_bytes, "archive_bytes": size,
        "bytes_per_update": round((size - others) / max(1, counts["updates"]), 3),
        "ratio_raw": round(imported.raw_bytes / size, 2),
        **({"ratio_zstd19": round(zstd19 / size, 3)} if compare else {}),
        "seconds": round(time.monotonic() - began - comparing, 2), "frames": survey.messages,
        "malformed": counts["malformed"], "images": imported.streams[0].images,
        "waiting": {symbol.name: waiting for index, symbol in enumerate(survey.symbols)
                    if (waiting := imported.feed.state(index)[4])}, "file": str(path)}


@door("mantra archive import", interrupted=1)
def main(argv: Sequence[str] | None = None) -> int:
    made = Parser(
        prog="mantra archive import", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Bring a recording into an archive, through the production path: its updates and trades, received\n"
                    "when the recording says, and images of its books.", epilog=EPILOG)
    add = made.add_argument
    add("paths", nargs="+", metavar="PATH", help="files of one venue, in any order")
    add("--out", required=True, type=Path, metavar="DIR", help="the archive; made if it is not there")
    add("--venue", metavar="V", help=f"whose frames they are: {', '.join(venues.VENUES)} (Tardis' say it themselves)")
    add("--mode", choices=("book", "orders"), default="book", help="orders: order by order (default: book)")
    add("--level", type=int, default=1, choices=range(1, 20), metavar="N", help="of zstd, 1 to 19 (default: 1)")
    add("--json", action="store_true", help="one JSON object on the last line of standard output")
    options = made.parse_args(argv)
    paths = lines.files(options.paths, options.venue)
    skipped = Counter[Path]()
    of_tardis = [path for path in paths if tardis.header(path)]
    if of_tardis and len(of_tardis) < len(paths):
        raise ConfigurationError("files of Tardis and others: import them one after the other")
    venue: Venue
    if of_tardis:
        venue = tardis.venue_of(options.venue or tardis.exchange_of(paths))
        read: Callable[..., Iterator[Record]] = tardis.read
    elif options.venue:
        venue, read = venues.get(options.venue), lines.read
    else:
        raise ConfigurationError(f"--venue: whose frames are they? One of {', '.join(venues.VENUES)}")

    def frames() -> Iterator[Record]:
        skipped.clear()
        return read(paths, skipped=skipped)

    with progress() as shown:
        told = record(venue, frames, options.out, mode=options.mode, level=options.level, compare=options.json,
                      shown=shown)
    told["skipped_lines"] = skipped.total()
    for path, count in skipped.items():
        print(f"mantra archive import: {path}: {count:,} lines could not be read", file=sys.stderr)
    for name, count in told["waiting"].items():
        print(f"mantra archive import: {name}: {count:,} messages waited in vain for a book: is a snapshot or an "
              "earlier file missing?", file=sys.stderr)
    if options.json:
        print(json.dumps(told))
    else:
        print(f"{told['file']}: {told['updates']:,} updates, {told['trades']:,} trades of {told['messages']:,} frames; "
              f"{told['raw_bytes']:,} bytes became {told['archive_bytes']:,}, {told['ratio_raw']}x less, "
              f"{told['bytes_per_update']} an update")
    return 0
