/* The word-wise primitives of reading text against loops over single bytes; symbols of every length. */
#include "check.h"
#include "mantra/decode_binance.h"
#include "mantra/decode_bitstamp.h"

int
main(void)
{
    static const char alphabet[] = "0123456789019.\"\\,[]-eE x\x01\x1f\x7f\x80\xb9\xff/:";
    uint64_t seed = 7;
    char text[128];
    for (unsigned round = 0; round < 20000; round++) {
        for (unsigned i = 0; i < sizeof text; i++)
            text[i] = round & 1 ? alphabet[check_random(&seed) % (sizeof alphabet - 1)] : (char)check_random(&seed);
        uint64_t others = 0;
        uint32_t special = 0;
        const char *quote = NULL;
        for (unsigned i = 0; i < 48; i++) {
            others |= (uint64_t)!mantra_is_digit(text[i]) << i;
            quote = text[i] == '"' ? text + i : quote;
            if (i < 16)
                special |= (uint32_t)(text[i] == '"' || text[i] == '\\' || (uint8_t)text[i] < 0x20 ||
                                      (uint8_t)text[i] >= 0x80) << i;
        }
        CHECK(mantra_mask_others(text) == others);
        CHECK(mantra_json_special(text) == special);
        CHECK(mantra_json_quote_before(text + 48) == quote);
        unsigned digits = (unsigned)__builtin_ctzll(others | 256);
        CHECK(mantra_count_digits(mantra_load_digits(text)) == digits);
        if (digits) {
            uint64_t value = 0;
            for (unsigned i = 0; i < digits; i++)
                value = value * 10 + (uint64_t)(text[i] - '0');
            CHECK(mantra_leading_digits(mantra_load_digits(text), digits) == value);
        }
    }

    static const struct {
        const char *text;
        size_t size; /* of what is read; 0: no whole number */
        uint64_t value;
    } numbers[] = {
        {"0", 1, 0}, {"7,", 1, 7}, {"12345678", 8, 12345678}, {"123456789012345", 15, UINT64_C(123456789012345)},
        {"1641343691580748\"", 16, UINT64_C(1641343691580748)}, {"18446744073709551615", 20, UINT64_MAX},
        {"1.0", 1, 1}, {"1e3", 1, 1}, {"1 ", 1, 1}, {"", 0, 0}, {"-1", 0, 0}, {"+1", 0, 0}, {"01", 0, 0},
        {"18446744073709551616", 0, 0}, {"99999999999999999999999", 0, 0},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char padded[32 + MANTRA_PADDING] = "";
        const char *at = padded;
        uint64_t value = 0;
        const size_t size = strlen(numbers[i].text);
        memcpy(padded, numbers[i].text, size);
        const int status = mantra_integer(&at, padded + size, &value);
        CHECK(status == (numbers[i].size ? 0 : MANTRA_MALFORMED));
        CHECK((size_t)(at - padded) == numbers[i].size && value == numbers[i].value);
    }

    static mantra_symbol slots[1024];
    mantra_symbols symbols;
    char name[MANTRA_SYMBOL_BYTES + 2] = "";
    mantra_symbols_init(&symbols, slots, 1024);
    for (int32_t i = 0; i < 900; i++) { /* many share all but one byte */
        memset(name, 'a', sizeof name);
        name[(size_t)i % (size_t)(1 + i % MANTRA_SYMBOL_BYTES)] = (char)('b' + i / 62);
        CHECK(mantra_symbols_add(&symbols, name, (size_t)(1 + i % MANTRA_SYMBOL_BYTES), i) == 0 ||
              mantra_symbols_find(&symbols, name, (size_t)(1 + i % MANTRA_SYMBOL_BYTES)) < i);
        int32_t found = mantra_symbols_find(&symbols, name, (size_t)(1 + i % MANTRA_SYMBOL_BYTES));
        CHECK(found >= 0 && found <= i);
        CHECK(mantra_symbols_find(&symbols, name, (size_t)(1 + i % MANTRA_SYMBOL_BYTES) - 1) != found);
    }
    CHECK(mantra_symbols_find(&symbols, name, 0) == -1 && mantra_symbols_find(&symbols, name, 32) == -1);
    CHECK(mantra_symbols_add(&symbols, name, 0, 1) == -1 && mantra_symbols_add(&symbols, name, 32, 1) == -1);
    static mantra_symbol few[4];
    mantra_symbols_init(&symbols, few, 4);
    CHECK(mantra_symbols_add(&symbols, "a", 1, 0) == 0 && mantra_symbols_add(&symbols, "b", 1, 1) == 0);
    CHECK(mantra_symbols_add(&symbols, "c", 1, 2) == 0 && mantra_symbols_add(&symbols, "d", 1, 3) == -1); /* full */
    CHECK(mantra_symbols_add(&symbols, "a", 1, 0) == 0 && mantra_symbols_add(&symbols, "a", 1, 1) == -1);
    CHECK(mantra_symbols_find(&symbols, "d", 1) == -1);
    return 0;
}
