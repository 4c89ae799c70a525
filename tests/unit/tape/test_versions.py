"""A reader of today reads every version ever written, to the bit: tests/recordings has a segment of each.

version1.mantra: `mantra capture --simulated --venues bitfinex --instruments ETH-BTC,BTC-USDT --raw --duration 2
--flush 1`, 2026-11-22. A new version adds a file here; none is ever made anew.
"""
from __future__ import annotations

import json
import shutil
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import pytest

import mantra.archive
from mantra.archive.verify import Check
from mantra.core.pack import unpack
from mantra.tape import raw
from mantra.tape.segment import SegmentReader, unpack_json

TABLE = ("capture", "writer", "feeds", "venues", "streams", "instruments", "gaps", "clock")
RECORDINGS = Path(__file__).parents[2] / "recordings"


def told(path: Path, *, index: bool) -> tuple[str, Counter[str]]:
    """A digest of all that is in a segment, and how many messages of each stream that are, and images."""
    digest, counts = blake2b(digest_size=16), Counter[str]()
    with SegmentReader(path, index=index) as reader:
        assert reader.whole
        table, said = reader.table, reader.table.told()
        digest.update(json.dumps({key: said[key] for key in TABLE}, sort_keys=True).encode())
        digest.update(repr([row.tolist() for row in reader.sources()]).encode())
        for record in reader.blocks():
            digest.update(repr(tuple(record)).encode())
            stream, body = table.streams[record.stream], reader.body(record)
            if stream.message:
                block = unpack(stream.message, body)
                for array in block[:3]:
                    digest.update(array.tobytes())
                for image in block.images:
                    digest.update(repr([image.before, image.feed, *(
                        value.tolist() if hasattr(value, "tolist") else value for value in image.image[:13])]).encode())
                counts["images"] += len(block.images)
            elif stream.name == "raw":
                tape = raw.unpack(body)
                digest.update(tape.records.tobytes() + tape.feeds.tobytes() + tape.texts.tobytes())
            else:
                digest.update(json.dumps(unpack_json(body), sort_keys=True).encode())
            counts[stream.name] += record.messages
    return digest.hexdigest(), counts


@pytest.mark.parametrize(("name", "expected", "counts"), [
    ("version1", "dfd0eab9b2e40a7233810d09ee5110ec",
     {"ledger": 0, "images": 4, "updates": 456, "raw": 494, "trades": 22}),
])
def test_every_version_is_read(name, expected, counts, tmp_path):
    path = Path(shutil.copy(RECORDINGS / f"{name}.mantra", tmp_path))      # a catalogue comes beside it
    assert told(path, index=True) == told(path, index=False) == (expected, counts)
    assert not Check([path]).damaged
    archive = mantra.archive.open(path)
    for instrument in archive.instruments("bitfinex"):
        book = archive.book("bitfinex", instrument.name)
        assert book.bid_count > 200
        assert book.bids[0][0] < book.asks[0][0]
