/* crc32.h - the CRC-32 of zlib, in which Kraken, Bitfinex and OKX sign their books: a few hundred bytes at a time.
 *
 *   crc(a ++ b) = crc32(crc32(0, a), b)            polynomial 0x04C11DB7, bits reversed: 0xEDB88320
 *   | size % 16 | 16 | 16 | ... | 16 |             head by tables; the rest folded (PCLMULQDQ), where the CPU can
 *
 * Three ways, one answer: carry-less multiplication on x86-64 that has it (chosen when called), the CRC instructions of
 * Arm where it is built for them, else eight tables (slicing by 8). 300 bytes: 35 ns folded, 180 ns by tables. */
#ifndef MANTRA_CRC32_H
#define MANTRA_CRC32_H

#include "mantra/base.h"

#if defined(__x86_64__) && !defined(MANTRA_PORTABLE)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_CRC32) && !defined(MANTRA_PORTABLE)
#include <arm_acle.h>
#endif

/* What one bit of a byte does to the CRC, 0 to 7 bytes later; the bits of a byte add up (xor). */
#define MANTRA_CRC_ENTRY(n, a, b, c, d, e, f, g, h)                                                            \
    ((n) & 1 ? a : 0u) ^ ((n) & 2 ? b : 0u) ^ ((n) & 4 ? c : 0u) ^ ((n) & 8 ? d : 0u) ^ ((n) & 16 ? e : 0u) ^ \
        ((n) & 32 ? f : 0u) ^ ((n) & 64 ? g : 0u) ^ ((n) & 128 ? h : 0u)
#define MANTRA_CRC_4(n, ...)                                                                     \
    MANTRA_CRC_ENTRY(n, __VA_ARGS__), MANTRA_CRC_ENTRY(n + 1, __VA_ARGS__),                      \
        MANTRA_CRC_ENTRY(n + 2, __VA_ARGS__), MANTRA_CRC_ENTRY(n + 3, __VA_ARGS__)
#define MANTRA_CRC_16(n, ...)                                                                                        \
    MANTRA_CRC_4(n, __VA_ARGS__), MANTRA_CRC_4(n + 4, __VA_ARGS__), MANTRA_CRC_4(n + 8, __VA_ARGS__),                \
        MANTRA_CRC_4(n + 12, __VA_ARGS__)
#define MANTRA_CRC_64(n, ...)                                                                                        \
    MANTRA_CRC_16(n, __VA_ARGS__), MANTRA_CRC_16(n + 16, __VA_ARGS__), MANTRA_CRC_16(n + 32, __VA_ARGS__),           \
        MANTRA_CRC_16(n + 48, __VA_ARGS__)
#define MANTRA_CRC_TABLE(...)                                                                                        \
    {MANTRA_CRC_64(0, __VA_ARGS__), MANTRA_CRC_64(64, __VA_ARGS__), MANTRA_CRC_64(128, __VA_ARGS__),                 \
     MANTRA_CRC_64(192, __VA_ARGS__)}
static const uint32_t mantra_crc_tables[8][256] = {
    MANTRA_CRC_TABLE(0x77073096, 0xee0e612c, 0x076dc419, 0x0edb8832, 0x1db71064, 0x3b6e20c8, 0x76dc4190, 0xedb88320),
    MANTRA_CRC_TABLE(0x191b3141, 0x32366282, 0x646cc504, 0xc8d98a08, 0x4ac21251, 0x958424a2, 0xf0794f05, 0x3b83984b),
    MANTRA_CRC_TABLE(0x01c26a37, 0x0384d46e, 0x0709a8dc, 0x0e1351b8, 0x1c26a370, 0x384d46e0, 0x709a8dc0, 0xe1351b80),
    MANTRA_CRC_TABLE(0xb8bc6765, 0xaa09c88b, 0x8f629757, 0xc5b428ef, 0x5019579f, 0xa032af3e, 0x9b14583d, 0xed59b63b),
    MANTRA_CRC_TABLE(0x3d6029b0, 0x7ac05360, 0xf580a6c0, 0x30704bc1, 0x60e09782, 0xc1c12f04, 0x58f35849, 0xb1e6b092),
    MANTRA_CRC_TABLE(0xcb5cd3a5, 0x4dc8a10b, 0x9b914216, 0xec53826d, 0x03d6029b, 0x07ac0536, 0x0f580a6c, 0x1eb014d8),
    MANTRA_CRC_TABLE(0xa6770bb4, 0x979f1129, 0xf44f2413, 0x33ef4e67, 0x67de9cce, 0xcfbd399c, 0x440b7579, 0x8816eaf2),
    MANTRA_CRC_TABLE(0xccaa009e, 0x4225077d, 0x844a0efa, 0xd3e51bb5, 0x7cbb312b, 0xf9766256, 0x299dc2ed, 0x533b85da),
};

/* State in, state out: without the complement at both ends. */
static inline uint32_t
mantra_crc32_by_table(uint32_t state, const uint8_t *p, size_t size)
{
    const uint32_t (*const table)[256] = mantra_crc_tables;
    for (; size >= 8; p += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        word ^= state;
        state = table[7][word & 0xFF] ^ table[6][word >> 8 & 0xFF] ^ table[5][word >> 16 & 0xFF] ^
                table[4][word >> 24 & 0xFF] ^ table[3][word >> 32 & 0xFF] ^ table[2][word >> 40 & 0xFF] ^
                table[1][word >> 48 & 0xFF] ^ table[0][word >> 56];
    }
    for (; size; p++, size--)
        state = state >> 8 ^ table[0][(state ^ *p) & 0xFF];
    return state;
}

#if defined(__x86_64__) && !defined(MANTRA_PORTABLE)
/* `size`: a multiple of 16, at least 64. Gopal et al., "Fast CRC computation for generic polynomials using PCLMULQDQ",
 * Intel 2009: the constants are x^(512 +- 32), x^(128 +- 32), x^64 modulo the polynomial, and what Barrett needs. */
__attribute__((target("pclmul,sse4.1"))) static inline uint32_t
mantra_crc32_folded(uint32_t state, const uint8_t *p, size_t size)
{
#define MANTRA_CRC_LOAD(at) _mm_loadu_si128((const __m128i *)(const void *)(at))
#define MANTRA_CRC_FOLD(x, by) \
    _mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11))
    const __m128i by512 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
    const __m128i by128 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    const __m128i barrett = _mm_set_epi64x(0x01f7011641, 0x01db710641);
    const __m128i low = _mm_setr_epi32(-1, 0, -1, 0);
    __m128i x[4];
    for (unsigned i = 0; i < 4; i++)
        x[i] = MANTRA_CRC_LOAD(p + 16 * i);
    x[0] = _mm_xor_si128(x[0], _mm_cvtsi32_si128((int)state));
    for (p += 64, size -= 64; size >= 64; p += 64, size -= 64)
        for (unsigned i = 0; i < 4; i++)
            x[i] = _mm_xor_si128(MANTRA_CRC_FOLD(x[i], by512), MANTRA_CRC_LOAD(p + 16 * i));
    for (unsigned i = 1; i < 4; i++)
        x[0] = _mm_xor_si128(MANTRA_CRC_FOLD(x[0], by128), x[i]);
    for (; size; p += 16, size -= 16)
        x[0] = _mm_xor_si128(MANTRA_CRC_FOLD(x[0], by128), MANTRA_CRC_LOAD(p));
    __m128i rest = _mm_xor_si128(_mm_clmulepi64_si128(x[0], by128, 0x10), _mm_srli_si128(x[0], 8));
    rest = _mm_xor_si128(_mm_srli_si128(rest, 4),
                         _mm_clmulepi64_si128(_mm_and_si128(rest, low), _mm_cvtsi64_si128(0x0163cd6124), 0x00));
    const __m128i quotient = _mm_and_si128(_mm_clmulepi64_si128(_mm_and_si128(rest, low), barrett, 0x10), low);
    return (uint32_t)_mm_extract_epi32(_mm_xor_si128(rest, _mm_clmulepi64_si128(quotient, barrett, 0x00)), 1);
}
#endif

/* The CRC of `size` more bytes; `crc` is that of those before them, 0 at first. */
static inline uint32_t
mantra_crc32(uint32_t crc, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    uint32_t state = ~crc;
#if defined(__x86_64__) && !defined(MANTRA_PORTABLE)
    if (MANTRA_LIKELY(size >= 64 && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1"))) {
        const size_t head = size % 16;
        state = mantra_crc32_by_table(state, p, head);
        return ~mantra_crc32_folded(state, p + head, size - head);
    }
#elif defined(__ARM_FEATURE_CRC32) && !defined(MANTRA_PORTABLE)
    for (; size >= 8; p += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        state = __crc32d(state, word);
    }
#endif
    return ~mantra_crc32_by_table(state, p, size);
}

#endif
