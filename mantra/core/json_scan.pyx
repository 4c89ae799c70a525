"""json_scan: the decoders' JSON cursor driven over whole documents, for its tests and for looking at messages.

Far slower than orjson or simdjson at this: the cursor is made for readers who know what they are looking for.
"""
from mantra.core.ticks cimport MANTRA_MALFORMED, MANTRA_PADDING


cdef str plain(mantra_span span):
    """A string's meaning."""
    cdef bytearray out
    if not span.escaped:
        return span.text[:span.size].decode()
    out = bytearray(span.size)
    return out[:mantra_json_unescape(span, out)].decode()


def loads(bytes text not None) -> Any:
    """The document as Python objects; whole numbers as int, others as float. ValueError: it is malformed."""
    cdef bytes padded = text + bytes(MANTRA_PADDING)
    cdef const char *start = padded
    cdef mantra_json json = mantra_json(start, start + len(text))
    cdef mantra_span span
    cdef char c
    cdef int more, status
    cdef list outer = []              # (container, key) of every container around the one being filled
    container = key = value = None
    while True:
        c = mantra_json_peek(&json)
        status, more = 0, 0
        if c == b"{" or c == b"[":
            value = {} if c == b"{" else []
            more = mantra_json_enter(&json, c) if len(outer) < MANTRA_JSON_DEPTH else MANTRA_MALFORMED
            if more == 1:
                outer.append((container, key))
                container = value
        elif c == b'"':
            status = mantra_json_string(&json, &span)
            value = plain(span) if status == 0 else None
        elif c == b"-" or b"0" <= c <= b"9":
            status = mantra_json_number(&json, &span)
            if status == 0:
                number = span.text[:span.size]
                value = int(number) if number.lstrip(b"-").isdigit() else float(number)
        else:
            status = mantra_json_literal(&json)
            value = True if c == b"t" else False if c == b"f" else None
        while status == 0 and more == 0:      # `value` is whole: it goes into its container, which may end, too
            if container is None:
                if mantra_json_finish(&json):
                    raise ValueError("text behind the document")
                return value
            if isinstance(container, dict):
                container[key] = value
                more = mantra_json_next(&json, b"{")
            else:
                container.append(value)
                more = mantra_json_next(&json, b"[")
            if more == 0:
                value = container
                container, key = outer.pop()
        if status == 0 and more == 1 and isinstance(container, dict):
            status = mantra_json_key(&json, &span)
            key = plain(span) if status == 0 else None
        if status < 0 or more < 0:
            raise ValueError(f"malformed JSON at byte {json.at - start}")


def valid(bytes text not None) -> bool:
    """Whether it is one well-formed document, by passing over it (what decoders do with members they do not need)."""
    cdef bytes padded = text + bytes(MANTRA_PADDING)
    return mantra_json_valid(padded, len(text))
