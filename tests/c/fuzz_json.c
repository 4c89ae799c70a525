/* fuzz_json.c - the scanner: no text makes it read past its padding, count what follows, or disagree with itself. */
#include "fuzz.h"

/* Drive the cursor through the whole document without skipping; -1 where it is malformed. */
static int
pull(mantra_json *json)
{
    char open[MANTRA_JSON_DEPTH + 1];
    unsigned depth = 0;
    mantra_span span;
    for (;;) {
        char c = mantra_json_peek(json);
        int more = 0;
        if (c == '{' || c == '[') {
            if (depth == MANTRA_JSON_DEPTH)
                return -1;
            more = mantra_json_enter(json, c);
            if (more == 1)
                open[depth++] = c;
        } else if (c == '"') {
            if (mantra_json_string(json, &span))
                return -1;
            CHECK(span.text + span.size < json->at && json->at <= json->end);
            char *plain = malloc(span.size + 1);
            size_t size = mantra_json_unescape(span, plain);
            CHECK(size <= span.size && (span.escaped || (size == span.size && memcmp(plain, span.text, size) == 0)));
            free(plain);
        } else if (c == '-' || mantra_is_digit(c)) {
            if (mantra_json_number(json, &span))
                return -1;
            CHECK(span.size > 0 && span.text + span.size == json->at && json->at <= json->end);
            const char *at = span.text;
            int64_t value;
            CHECK(mantra_decimal(&at, json->end, 18, &value) != MANTRA_MALFORMED && at == json->at);
        } else if (mantra_json_literal(json)) {
            return -1;
        }
        while (more == 0) {
            if (depth == 0)
                return mantra_json_finish(json);
            more = mantra_json_next(json, open[depth - 1]);
            depth -= more == 0;
        }
        if (more < 0 || (open[depth - 1] == '{' && mantra_json_key(json, &span)))
            return -1;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *a = fuzz_text(data, size, FUZZ_PADDING_A), *b = fuzz_text(data, size, FUZZ_PADDING_B);
    bool valid = fuzz_valid(a, size);
    mantra_json json = {b, b + size};
    CHECK(valid == fuzz_valid(b, size));
    CHECK(valid == (pull(&json) == 0));
    free(a);
    free(b);
    return 0;
}
