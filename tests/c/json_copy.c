/* A document pulled through json_scan.h value by value and written again, for another reader to compare. */
#include "mantra/json_scan.h"

/* What a string means, spelt with as few escapes as there must be. */
static char *
copy_string(char *out, mantra_span span, char *scratch)
{
    const char *text = span.text;
    size_t size = span.size;
    if (span.escaped) {
        size = mantra_json_unescape(span, scratch);
        text = scratch;
    }
    *out++ = '"';
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c < ' ' || c == '"' || c == '\\') {
            memcpy(out, "\\u00", 4);
            out[4] = "0123456789abcdef"[c >> 4];
            out[5] = "0123456789abcdef"[c & 15];
            out += 6;
        } else {
            *out++ = (char)c;
        }
    }
    *out++ = '"';
    return out;
}

/* Bytes written to `out`, which has room for six times `size`; as `scratch` for once; -1: malformed. */
ptrdiff_t
json_copy(const char *text, size_t size, char *out, char *scratch)
{
    char open[MANTRA_JSON_DEPTH + 1], *start = out;
    unsigned depth = 0;
    mantra_json json = {text, text + size};
    mantra_span span;
    for (;;) {
        const char c = mantra_json_peek(&json);
        int more = 0;
        if (c == '{' || c == '[') {
            if (depth == MANTRA_JSON_DEPTH)
                return -1;
            open[depth++] = *out++ = c;
            more = mantra_json_enter(&json, c);
            if (more == 0)
                *out++ = (char)(open[--depth] + 2);
        } else if (c == '"') {
            if (mantra_json_string(&json, &span))
                return -1;
            out = copy_string(out, span, scratch);
        } else {
            const bool number = c == '-' || mantra_is_digit(c);
            const char *value = json.at;
            if (number ? mantra_json_number(&json, &span) : mantra_json_literal(&json))
                return -1;
            memcpy(out, value, (size_t)(json.at - value));
            out += json.at - value;
        }
        while (more == 0) {
            if (depth == 0)
                return mantra_json_finish(&json) ? -1 : out - start;
            more = mantra_json_next(&json, open[depth - 1]);
            *out++ = more == 0 ? (char)(open[--depth] + 2) : ',';
        }
        if (more < 0)
            return -1;
        if (open[depth - 1] == '{') {
            if (mantra_json_key(&json, &span))
                return -1;
            out = copy_string(out, span, scratch);
            *out++ = ':';
        }
    }
}

int
json_valid(const char *text, size_t size)
{
    mantra_json json = {text, text + size};
    return mantra_json_skip(&json) == 0 && mantra_json_finish(&json) == 0;
}
