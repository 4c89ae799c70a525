"""Frames cut anywhere are what a slow reader finds in the whole stream."""
from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.c.framing import Frame, Frames, ProtocolError
from tests.reference.frames import read

MAX_MESSAGE = 9000


def encode(final: bool, opcode: int, payload: bytes, reserved: int = 0, masked: bool = False, form: int = 0) -> bytes:
    """A frame, also a wrong one; `form` forces a longer length than needed (1: 16 bits, 2: 64 bits)."""
    first, size = final << 7 | reserved << 4 | opcode, len(payload)
    form = max(form, 0 if size < 126 else 1 if size < 65536 else 2)
    length = [bytes([size & 127]), bytes([126]) + size.to_bytes(2, "big"), bytes([127]) + size.to_bytes(8, "big")][form]
    return bytes([first, length[0] | masked << 7]) + length[1:] + payload


LARGE = st.integers(0, 10_000).map(lambda size: random.Random(size).randbytes(size))
PAYLOADS = st.one_of(st.binary(max_size=130), LARGE)
CLOSES = st.integers(0, 5000).map(lambda code: code.to_bytes(2, "big"))
MESSAGES = st.lists(PAYLOADS, min_size=1, max_size=4).flatmap(
    lambda parts: st.sampled_from([1, 2]).map(
        lambda opcode: [(at == len(parts) - 1, opcode if at == 0 else 0, part) for at, part in enumerate(parts)]
    )
)
CONTROLS = st.tuples(st.just(True), st.sampled_from([9, 10]), st.binary(max_size=125))
ANYTHING = st.builds(
    encode, st.booleans(), st.integers(0, 15), st.one_of(PAYLOADS, CLOSES), st.sampled_from([0] * 8 + [1, 4]),
    st.sampled_from([False] * 8 + [True]), st.sampled_from([0] * 8 + [1, 2]),
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Mostly proper messages with control frames between their fragments, then perhaps anything at all."""
    frames = []
    for message in draw(st.lists(MESSAGES, max_size=6)):
        for fragment in message:
            frames += [encode(*control) for control in draw(st.lists(CONTROLS, max_size=2))]
            frames.append(encode(*fragment))
    if draw(st.booleans()):
        frames += draw(st.lists(ANYTHING, max_size=5))
    return b"".join(frames) + draw(st.binary(max_size=20))


def feed(frames: Frames, pieces: list[bytes]) -> tuple[list[Frame], bool]:
    found: list[Frame] = []
    try:
        for piece in [*pieces, b""]:
            found += frames.feed(piece)
    except ProtocolError:
        return found, True
    return found, False


@settings(max_examples=200, deadline=None)
@given(streams(), st.integers(0, 2**32), st.sampled_from([1, 3, 60, 1500, 70_000]))
def test_a_stream_cut_anywhere_reads_as_the_whole(stream: bytes, seed: int, longest: int) -> None:
    source, pieces, at = random.Random(seed), [], 0
    while at < len(stream):
        size = source.randint(1, longest)
        pieces.append(stream[at : at + size])
        at += size
    expected, broken = read(stream, MAX_MESSAGE)
    found, failed = feed(Frames(max_message=MAX_MESSAGE, capacity=4096), pieces)
    assert [tuple(frame) for frame in found] == expected
    assert failed == broken


def test_one_stream_cut_at_every_place() -> None:
    stream = (encode(False, 1, b"a" * 100) + encode(True, 9, b"ping") + encode(True, 0, b"b" * 300)
              + encode(True, 2, b"") + encode(True, 1, b"c" * 7) + encode(True, 8, b"\x03\xe8bye"))
    expected, _ = read(stream, MAX_MESSAGE)
    assert len(expected) == 5
    for cut in range(len(stream) + 1):
        assert feed(Frames(max_message=MAX_MESSAGE), [stream[:cut], stream[cut:]]) == (expected, False)
