"""Blocks: what is packed comes back bit for bit in the order of publishing; what is damaged is refused, never worse."""
from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from mantra.core.book import BookImage
from mantra.core.messages import DTYPES, Kind
from mantra.core.pack import Packer, Source, sources, unpack
from mantra.errors import ArchiveError

from ..reference import blocks


def number(dice: random.Random) -> int:
    """Mostly like its neighbours, sometimes anything that fits."""
    return dice.choice([0, 1, 100, dice.randrange(-50, 50), dice.randrange(-2**40, 2**40), 2**63 - 1, -2**63])


def market(dice: random.Random, count: int, instruments: int) -> np.ndarray:
    """Updates as feeds publish them, with what no feed would say strewn in."""
    out, time, sequence = np.zeros(count, DTYPES["update"]), 10**15, 7
    tick, lot = dice.choice([1, 1, 500, 3 * 2**40]), dice.choice([1, 1, 10**5, 7])
    at = 0
    while at < count:
        time += dice.choice([0, 1, 900, 10**6, -5000])
        sequence += dice.choice([1, 1, 3, -2])
        row = {"origin": time, "published": dice.randrange(3000) << 16 | dice.choice([1, 1, 1, 2]),
               "sequence": sequence % 2**64, "venue_time_ns": time * 1000, "instrument": dice.randrange(instruments),
               "venue": dice.choice([1, 1, 1, 4]), "trust": dice.choice([4, 4, 4, 2, 200])}
        levels = min(count - at, dice.choice([1, 1, 2, 5, 30]))
        for left in range(levels, 0, -1):
            row |= {"kind": dice.choice([1, 1, 1, 2, 2, 0, 3, 9]), "price": (50_000 + dice.randrange(-40, 40)) * tick,
                    "flags": 7 if dice.random() < 0.03 else int(left > 1),
                    "size": dice.choice([0, 0, 5, 1000, dice.randrange(10**9)]) * lot}
            if dice.random() < 0.02 and tick == 1:
                row["price"], row["size"] = number(dice), number(dice)
            for name, value in row.items():
                out[name][at] = value
            at += 1
    return out


def garbage(dice: random.Random, message: str, count: int) -> np.ndarray:
    out = np.zeros(count, DTYPES[message])
    for name in out.dtype.names or ():
        column = out[name].reshape(count, -1)
        for at in range(count):
            column[at] = [number(dice) % 2**(8 * column.itemsize - (column.dtype.kind == "i")) for _ in column[at]]
    return out


def book(dice: random.Random, position: int, instrument: int) -> BookImage:
    prices = sorted(dice.sample(range(-60, 60), dice.randrange(60)))
    half = dice.randrange(len(prices) + 1)
    bids = np.array([(p, dice.randrange(1, 10**9)) for p in prices[:half][::-1]], np.int64).reshape(-1, 2)
    asks = np.array([(p, dice.randrange(1, 10**9)) for p in prices[half:]], np.int64).reshape(-1, 2)
    return BookImage(bids, asks, len(bids), len(asks), instrument, 1, dice.randrange(5), dice.randrange(12),
                     dice.randrange(2**62), dice.randrange(2**32), dice.randrange(2**64), number(dice), position, 0, 0,
                     0)


def in_order(parts: list[tuple[int, np.ndarray, int]]) -> list[tuple[int, int, bytes]]:
    """(feed, position, message) in the order of publishing; a feed's own order comes first. Slow and obvious."""
    rows, latest = [], {}
    for feed, messages, position in parts:
        for i, message in enumerate(messages):
            time = (int(message["origin"]) + (int(message["published"]) >> 16)) % 2**64
            latest[feed] = max(time, latest.get(feed, 0))
            rows.append((latest[feed], (feed, position + i, message.tobytes())))
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("message", ["update", "trade", "top", "world", "timing", "actor", "order"])
def test_what_is_packed_comes_back_bit_for_bit(message: str, seed: int) -> None:
    dice = random.Random(f"{message} {seed}")
    count = dice.choice([0, 1, 50, 400]) if message not in ("world", "actor", "top") else dice.choice([0, 1, 9])
    packer, positions, parts = Packer(message), {}, []
    while packer.count < count:
        feed, size = dice.choice([0, 1, 5, 65_535]), dice.randrange(1, 1 + min(60, count - packer.count))
        made = market(dice, size, 3) if message == "update" and seed % 4 else garbage(dice, message, size)
        position = positions.get(feed, 0) + dice.choice([0, 0, 0, 1000])
        packer.add(feed, made, position)
        positions[feed] = position + size
        parts.append((feed, made, position))
    times = [int(time) for _, made, _ in parts for time in made["origin"] + (made["published"] >> np.uint64(16))]
    assert (packer.first, packer.last) == (min(times, default=0), max(times, default=0))
    body = packer.pack()
    block, expected = unpack(message, body), in_order(parts)
    came = list(zip(block.feeds.tolist(), block.positions.tolist(), [m.tobytes() for m in block.messages], strict=True))
    if message == "update":     # those published at one time by several feeds: rows, so each feed's own order
        assert sorted(came) == sorted(expected)
        assert len(set(times)) < len(times) or came == expected
    else:
        assert came == expected
    names = DTYPES[message].names or ()
    counted: dict[tuple[int, int, int], int] = {}
    for feed, made, _ in parts:
        for one in made:
            named = {"venue", "instrument"} <= set(names)
            key = (feed, int(one["venue"]), int(one["instrument"])) if named else (feed, 0, 0)
            counted[key] = counted.get(key, 0) + 1
    assert sorted(sources(message, body)) == sorted(Source(*key, n, 0) for key, n in counted.items())
    assert packer.count == 0
    assert len(unpack(message, packer.pack()).messages) == 0


@pytest.mark.parametrize("seed", range(30))
def test_images_stand_before_the_first_message_that_is_not_in_them(seed: int) -> None:
    dice = random.Random(seed)
    packer, made = Packer("update"), market(dice, 200, 2)
    images = [book(dice, 1000 + dice.randrange(-10, 230), dice.randrange(2)) for _ in range(4)]
    packer.image(3, images[0])
    packer.add(3, made[:120], 1000)
    packer.image(3, images[1])
    packer.add(3, made[120:], 1120)
    packer.image(3, images[2])
    packer.image(4, images[3])
    block = unpack("update", packer.pack())
    assert [m.tobytes() for m in block.messages] == [m.tobytes() for m in made]     # one feed keeps its order
    assert len(block.images) == 4
    for each in block.images:
        original = next(image for image in images if image.sequence == each.image.sequence)
        assert each.feed == (4 if original is images[3] else 3)
        for name, value in original._asdict().items():
            assert np.array_equal(getattr(each.image, name), value), name
        if each.feed == 3:      # a row it cuts comes after it: those levels are said twice, which changes nothing
            before = block.positions[:each.before]
            assert (before < each.image.position).all()
            after = block.positions[each.before:]
            assert not len(after) or int(after[0]) + 30 > each.image.position or each.image.position <= 1000


def test_only_what_is_asked_for_is_given() -> None:
    dice = random.Random(1)
    packer, made = Packer("update"), market(dice, 300, 4)
    packer.add(0, made, 0)
    packer.image(0, book(dice, 100, 2))
    packer.image(0, book(dice, 100, 3))
    body = packer.pack()
    only = unpack("update", body, only={(1, 2), (4, 0)})
    wanted = ((made["venue"] == 1) & (made["instrument"] == 2)) | ((made["venue"] == 4) & (made["instrument"] == 0))
    assert only.messages.tobytes() == made[wanted].tobytes()
    assert (only.positions == np.flatnonzero(wanted)).all()
    assert [image.image.instrument for image in only.images] == [2]
    assert sum(position < 100 for position in only.positions[:only.images[0].before]) == only.images[0].before


@pytest.mark.parametrize("message", ["update", "trade"])
def test_a_damaged_block_is_refused_or_read_within_its_bounds(message: str) -> None:
    dice = random.Random(message)
    packer = Packer(message)
    packer.add(0, market(dice, 300, 3) if message == "update" else garbage(dice, message, 100), 5)
    if message == "update":
        packer.image(0, book(dice, 50, 1))
    body = packer.pack()
    refused = 0
    for _ in range(3000):
        harmed = bytearray(body)
        for _ in range(dice.choice([1, 1, 4])):
            harmed[dice.randrange(dice.choice([40, len(harmed)]))] = dice.randrange(256)
        if dice.random() < 0.2:
            del harmed[dice.randrange(len(harmed)):]
        try:
            unpack(message, bytes(harmed))
            sources(message, bytes(harmed))
        except ArchiveError:
            refused += 1
    assert refused > 1000       # a flipped price is found by the file's checksum, not here
    for cut in range(0, len(body), 7):
        with pytest.raises(ArchiveError):
            unpack(message, body[:cut])


def test_a_block_that_counts_more_than_it_has_costs_no_memory() -> None:
    body = Packer("update").pack()
    codec, zero, columns, *_ = struct.unpack_from("<BBHIIIIIQ", body)
    for counts in ((2**32 - 1,) * 5, (2**22, 2**22, 1, 0, 0), (0, 2**22, 1, 2**22, 0), (0, 0, 0, 0, 2**22)):
        with pytest.raises(ArchiveError):
            unpack("update", struct.pack("<BBHIIIIIQ", codec, zero, columns, *counts, 0) + body[32:])


def test_what_does_not_belong_is_told() -> None:
    packer = Packer("update", 10)
    with pytest.raises(ValueError, match="room for 10"):
        packer.add(0, np.zeros(11, DTYPES["update"]), 0)
    with pytest.raises(ValueError, match="stream of 'update'"):
        packer.add(0, np.zeros(1, DTYPES["trade"]), 0)
    with pytest.raises(ValueError, match="there are"):
        Packer("nonsense")
    image = book(random.Random(0), 0, 0)._replace(bids=np.array([[5, 0]]))
    with pytest.raises(ValueError, match="sizes are lots"):
        packer.image(0, image)
    with pytest.raises(ArchiveError, match="coded in a way"):
        unpack("update", b"\xff" + packer.pack()[1:])


def test_deep_books_stay_within_what_is_remembered() -> None:
    """More prices than a side's memory holds, and steps of ranks as long as there can be."""
    out = np.zeros(140_000, DTYPES["update"])
    dice = np.random.default_rng(1)
    out["kind"], out["trust"], out["size"] = Kind.BID, 4, 1
    out["price"] = dice.permutation(np.arange(len(out))) * 3
    out["price"][1::2] = out["price"][1::2] % 5
    packer = Packer("update", len(out))
    packer.add(0, out, 0)
    assert unpack("update", packer.pack()).messages.tobytes() == out.tobytes()


@pytest.mark.parametrize("seed", range(20))
def test_a_reader_written_from_the_format_alone_reads_the_same(seed: int) -> None:
    dice = random.Random(seed)
    packer = Packer("update")
    packer.add(0, market(dice, 150, 3), 40)
    packer.image(0, book(dice, 130, 1))
    packer.add(9, market(dice, 100, 2), 7)
    packer.add(0, market(dice, 50, 2), 200)
    body = packer.pack()
    block, other = unpack("update", body), blocks.read(body)
    told = [message for message in other if "bids" not in message]
    assert len(told) == len(block.messages) == 300
    for message, feed, position, same in zip(block.messages, block.feeds, block.positions, told, strict=True):
        assert {name: int(message[name]) for name in block.messages.dtype.names or ()} | {
            "feed": feed, "position": position} == same
    image, (mine,) = block.images[0], [message for message in other if "bids" in message]
    assert other.index(mine) == image.before
    assert (mine["bids"], mine["asks"]) == ([tuple(level) for level in image.image.bids.tolist()],
                                            [tuple(level) for level in image.image.asks.tolist()])
    assert all(getattr(image.image, name) == mine[name] for name in (
        "position", "generation", "trust_since_ns", "reason", "sequence", "venue_time_ns", "trust"))


@pytest.mark.parametrize("message", ["trade", "top", "actor"])
def test_a_reader_written_from_the_format_alone_reads_other_messages(message: str) -> None:
    packer, made = Packer(message), garbage(random.Random(message), message, 30)
    packer.add(2, made, 5)
    dtype = DTYPES[message]
    fields = [(name, dtype[name].base.itemsize, int(np.prod(dtype[name].shape, initial=1)))
              for name in dtype.names or ()]
    other = sorted(blocks.read(packer.pack(), fields), key=lambda row: row["position"])
    assert [row["position"] for row in other] == list(range(5, 35))
    for row, original in zip(other, made, strict=True):
        assert (row["origin"], row["published"]) == (original["origin"], original["published"])
        for name, size, _ in fields[2:]:
            assert row[name] == [int(value) % 256**size for value in np.atleast_1d(original[name])]
