"""A slow, obvious reader of a server's WebSocket frames (RFC 6455), over a whole stream at once."""
from __future__ import annotations

CONTINUATION, CLOSE = 0, 8
MESSAGE, CONTROL = (0, 1, 2), (8, 9, 10)


class Broken(Exception):
    pass


def close_is_good(payload: bytes) -> bool:
    if not payload:
        return True
    if len(payload) == 1:
        return False
    code = int.from_bytes(payload[:2], "big")
    return code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or 3000 <= code <= 4999


def read(stream: bytes, max_message: int) -> tuple[list[tuple[int, bytes]], bool]:
    """(messages and control frames in order, whether the stream is broken after them)."""
    found: list[tuple[int, bytes]] = []
    begun: list[bytes] | None = None
    begun_opcode, at = 0, 0
    while len(stream) - at >= 2:
        final, reserved, opcode = stream[at] >> 7, stream[at] >> 4 & 7, stream[at] & 15
        masked, size = stream[at + 1] >> 7, stream[at + 1] & 127
        start = at + 2
        if masked or reserved or opcode not in MESSAGE + CONTROL:
            return found, True
        if opcode in CONTROL and (not final or size > 125):
            return found, True
        if opcode in MESSAGE and (opcode == CONTINUATION) != (begun is not None):
            return found, True
        if size > 125:
            width = 2 if size == 126 else 8
            if len(stream) - start < width:
                break
            size = int.from_bytes(stream[start : start + width], "big")
            start += width
            if size < (126 if width == 2 else 65536) or size >= 1 << 63:
                return found, True
        if opcode in MESSAGE and size + sum(map(len, begun or [])) > max_message:
            return found, True
        if len(stream) - start < size:
            break
        payload, at = stream[start : start + size], start + size
        if opcode in CONTROL:
            if opcode == CLOSE and not close_is_good(payload):
                return found, True
            found.append((opcode, payload))
            if opcode == CLOSE:
                break
        else:
            if begun is None:
                begun, begun_opcode = [], opcode
            begun.append(payload)
            if final:
                found.append((begun_opcode, b"".join(begun)))
                begun = None
    return found, False
