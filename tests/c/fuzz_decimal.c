/* fuzz_decimal.c - decimals and integers: the fast reading is the slow one, and what is written reads back. */
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint8_t decimals = data[0] % (MANTRA_MAX_DECIMALS + 1);
    char *a = fuzz_text(++data, --size, FUZZ_PADDING_A), *b = fuzz_text(data, size, FUZZ_PADDING_B);
    const char *fast = a, *slow = a, *other = b;
    int64_t value = 0, expected = 0, again = 0;
    int status = mantra_decimal(&fast, a + size, decimals, &value);
    CHECK(status == mantra_decimal_any(&slow, a + size, decimals, &expected));
    CHECK(status == mantra_decimal(&other, b + size, decimals, &again));
    CHECK(fast == slow && fast - a == other - b && value == expected && value == again && fast <= a + size);
    if (status == 0) {
        char text[MANTRA_DECIMAL_BYTES + MANTRA_PADDING];
        size_t length = mantra_decimal_text(text, value, decimals);
        const char *at = text;
        CHECK(length < MANTRA_DECIMAL_BYTES && text[length] == '\0');
        CHECK(mantra_decimal(&at, text + length, decimals, &again) == 0 && at == text + length && again == value);
    }
    uint64_t number = 0, same = 0, digits = 0;
    fast = a, other = b, slow = a;
    status = mantra_integer(&fast, a + size, &number);
    CHECK(status == mantra_integer(&other, b + size, &same) && number == same && fast - a == other - b);
    bool overflow = false;
    for (; slow < a + size && mantra_is_digit(*slow); slow++)
        overflow |= __builtin_mul_overflow(digits, 10u, &digits) ||
                    __builtin_add_overflow(digits, (uint64_t)(*slow - '0'), &digits);
    CHECK((status == 0) == (slow > a && !overflow && (*a != '0' || slow == a + 1)));
    CHECK(status != 0 || (number == digits && fast == slow));
    free(a);
    free(b);
    return 0;
}
