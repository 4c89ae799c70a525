"""Frames: what RFC 6455 allows is read, what it forbids is an error that stays."""
from __future__ import annotations

import struct

import pytest

from mantra.core.frame import BINARY, CLOSE, PING, PONG, TEXT, frame_bytes
from tests.c.framing import Frames, ProtocolError


def server_frame(opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0) -> bytes:
    size = len(payload)
    first = opcode | (0x80 if final else 0) | reserved << 4
    if size < 126:
        return bytes([first, size]) + payload
    if size < 65536:
        return bytes([first, 126]) + struct.pack("!H", size) + payload
    return bytes([first, 127]) + struct.pack("!Q", size) + payload


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 300_000])
def test_every_length_form_is_read(size: int) -> None:
    payload = bytes(i & 0xFF for i in range(size))
    assert Frames().feed(server_frame(BINARY, payload)) == [(BINARY, payload)]


def test_fragments_become_one_message_and_control_frames_between_them_keep_their_order() -> None:
    stream = (
        server_frame(TEXT, b"one, ", final=False)
        + server_frame(PING, b"are you there")
        + server_frame(0, b"", final=False)
        + server_frame(0, b"two, ", final=False)
        + server_frame(PONG)
        + server_frame(0, b"three")
        + server_frame(TEXT, b"next")
    )
    expected = [(PING, b"are you there"), (PONG, b""), (TEXT, b"one, two, three"), (TEXT, b"next")]
    assert Frames().feed(stream) == expected
    byte_by_byte = Frames()
    assert [frame for i in range(len(stream)) for frame in byte_by_byte.feed(stream[i : i + 1])] == expected


MASKED = frame_bytes(TEXT, b"x")
BROKEN = {
    "masked": MASKED,
    "reserved bits": server_frame(TEXT, b"x", reserved=4),
    "unknown opcode": server_frame(3, b"x"),
    "unknown control opcode": server_frame(11),
    "fragmented control": server_frame(PING, b"x", final=False),
    "long control": bytes([0x80 | PING, 126, 0, 126]),
    "continuation of nothing": server_frame(0, b"x"),
    "message inside a message": server_frame(TEXT, b"x", final=False) + server_frame(TEXT, b"y"),
    "16-bit length too short": bytes([0x81, 126, 0, 125]),
    "64-bit length too short": bytes([0x81, 127]) + struct.pack("!Q", 65535),
    "64-bit length over 63 bits": bytes([0x81, 127]) + struct.pack("!Q", 1 << 63),
    "close with one byte": server_frame(CLOSE, b"x"),
    "close with a code that is only reported": server_frame(CLOSE, struct.pack("!H", 1006)),
    "close with a code nobody defined": server_frame(CLOSE, struct.pack("!H", 2999)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_frame_is_an_error_that_stays_and_loses_nothing_before_it(name: str) -> None:
    frames = Frames()
    assert frames.feed(server_frame(TEXT, b"good") + BROKEN[name]) == [(TEXT, b"good")]
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            frames.feed(b"")
        assert caught.value.close_code == 1002
    assert frames.closed
    frames.reset()
    assert frames.feed(server_frame(TEXT, b"fresh")) == [(TEXT, b"fresh")]


def test_a_message_over_the_maximum_is_refused_from_its_header() -> None:
    frames = Frames(max_message=1000)
    assert frames.feed(server_frame(TEXT, b"x" * 1000)) == [(TEXT, b"x" * 1000)]
    with pytest.raises(ProtocolError) as caught:
        frames.feed(bytes([0x81, 126]) + struct.pack("!H", 1001))
    assert caught.value.close_code == 1009
    huge = Frames(max_message=1000)
    with pytest.raises(ProtocolError, match="larger"):
        huge.feed(bytes([0x81, 127]) + struct.pack("!Q", (1 << 63) - 1))


def test_fragments_count_together_against_the_maximum() -> None:
    frames = Frames(max_message=1000)
    frames.feed(server_frame(TEXT, b"x" * 600, final=False))
    with pytest.raises(ProtocolError, match="larger"):
        frames.feed(server_frame(0, b"x" * 401))


def test_nothing_is_read_after_a_close_frame() -> None:
    frames = Frames()
    payload = struct.pack("!H", 1001) + b"going away"
    assert frames.feed(server_frame(CLOSE, payload) + server_frame(TEXT, b"late")) == [(CLOSE, payload)]
    assert frames.closed
    assert frames.feed(server_frame(TEXT, b"later")) == []


def test_the_buffer_grows_only_for_messages_that_need_it_and_never_beyond_the_ceiling() -> None:
    frames = Frames(max_message=1 << 20, capacity=4096)
    for _ in range(1000):
        frames.feed(server_frame(TEXT, b"x" * 1000))
    assert frames.growths == 0
    assert frames.feed(server_frame(TEXT, b"y" * (1 << 20))) == [(TEXT, b"y" * (1 << 20))]
    assert frames.growths == 9
    assert frames.capacity <= (1 << 20) + 4096


@pytest.mark.parametrize("size", [0, 5, 125, 126, 65535, 65536])
def test_a_client_frame_is_masked_and_unmasks_to_its_payload(size: int) -> None:
    payload = bytes(i * 7 & 0xFF for i in range(size))
    frame = frame_bytes(TEXT, payload, mask=0x11223344)
    header = {True: 2, size > 125: 4, size > 65535: 10}[True]
    assert frame[0] == 0x81
    assert frame[1] & 0x80
    key = frame[header : header + 4]
    assert key == bytes.fromhex("44332211")
    assert bytes(byte ^ key[i & 3] for i, byte in enumerate(frame[header + 4 :])) == payload


def test_masks_are_not_repeated() -> None:
    assert len({frame_bytes(PING, b"")[2:6] for _ in range(64)}) > 60
