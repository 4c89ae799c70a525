/* The CRC against zlib's answers and a loop over single bits: every length, every alignment, in pieces, and big. */
#include "check.h"
#include "mantra/crc32.h"

/* By definition: one bit after the other. */
static uint32_t
by_bits(uint32_t crc, const uint8_t *bytes, size_t size)
{
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

int
main(void)
{
    CHECK(mantra_crc32(0, "", 0) == 0 && mantra_crc32(0, NULL, 0) == 0);
    CHECK(mantra_crc32(0, "123456789", 9) == 0xCBF43926);
    /* The book of Kraken's documentation, asks and bids. */
    static const char book[] =
        "452852100000452864154571953452866154571109452896154560911452902158906604529181545534914529474454749452961353"
        "800004529759945542452995187728274528351000000045283415458201545282110000000452810100000004528031545925864527"
        "90799000045277633101034527753000000045277315460273745276615445238";
    CHECK(mantra_crc32(0, book, sizeof book - 1) == 3310070434u);

    uint64_t seed = 3;
    static uint8_t bytes[1 << 20];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)check_random(&seed);
    for (size_t size = 0; size < 600; size++) {
        const uint32_t before = (uint32_t)check_random(&seed);
        const size_t at = check_random(&seed) % 64;
        const uint32_t crc = mantra_crc32(before, bytes + at, size);
        CHECK(crc == by_bits(before, bytes + at, size));
        CHECK(crc == ~mantra_crc32_by_table(~before, bytes + at, size));
        for (size_t cut = 0; cut <= size; cut += 1 + size / 7)
            CHECK(mantra_crc32(mantra_crc32(before, bytes + at, cut), bytes + at + cut, size - cut) == crc);
    }
    CHECK(mantra_crc32(0, bytes, sizeof bytes) == by_bits(0, bytes, sizeof bytes));
    return 0;
}
