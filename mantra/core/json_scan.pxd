cdef extern from "mantra/json_scan.h" nogil:
    enum:
        MANTRA_JSON_DEPTH

    ctypedef struct mantra_json:
        const char *at
        const char *end

    ctypedef struct mantra_span:
        const char *text
        size_t size
        bint escaped

    char mantra_json_peek(mantra_json *json)
    int mantra_json_enter(mantra_json *json, char open)
    int mantra_json_next(mantra_json *json, char open)
    int mantra_json_key(mantra_json *json, mantra_span *key)
    int mantra_json_string(mantra_json *json, mantra_span *span)
    int mantra_json_number(mantra_json *json, mantra_span *span)
    int mantra_json_literal(mantra_json *json)
    int mantra_json_skip(mantra_json *json)
    int mantra_json_finish(mantra_json *json)
    size_t mantra_json_unescape(mantra_span span, char *out)
    bint mantra_json_valid(const char *text, size_t size)
