/* symbols.h - venue spelling to the index of the book it means.
 *
 *   slots, open addressing, power of two:   | words[4] | size | index |   size 0: free
 *
 * A spelling of at most 31 bytes becomes four words (overlapping loads that depend on its length alone), so that
 * looking it up is a hash and four compares: no memcmp, no read outside the text. Filled by the feed, then read. */
#ifndef MANTRA_SYMBOLS_H
#define MANTRA_SYMBOLS_H

#include "mantra/base.h"

#define MANTRA_SYMBOL_BYTES 31

typedef struct mantra_symbol {
    uint64_t words[4];
    uint32_t size;
    int32_t index;
} mantra_symbol;

typedef struct mantra_symbols {
    mantra_symbol *slots; /* the caller's memory */
    uint32_t capacity;    /* a power of two */
    uint32_t count;
} mantra_symbols;

static inline void
mantra_symbols_init(mantra_symbols *symbols, mantra_symbol *slots, uint32_t capacity)
{
    memset(slots, 0, capacity * sizeof *slots);
    *symbols = (mantra_symbols){.slots = slots, .capacity = capacity};
}

/* Texts of one length that give the same words are equal: every byte is in some word, at the same place. */
static inline void
mantra_symbol_words(uint64_t words[4], const char *text, size_t size)
{
    words[0] = words[1] = words[2] = words[3] = 0;
    if (size >= 8) {
        memcpy(&words[0], text, 8);
        memcpy(&words[1], text + size - 8, 8);
        if (size > 16) {
            memcpy(&words[2], text + 8, 8);
            memcpy(&words[3], text + size - 16, 8);
        }
    } else if (size >= 4) {
        uint32_t first, last; /* not into the words: half a word stored and a whole one loaded stalls a CPU */
        memcpy(&first, text, 4);
        memcpy(&last, text + size - 4, 4);
        words[0] = first;
        words[1] = last;
    } else {
        for (size_t i = 0; i < size; i++)
            words[i] = (uint8_t)text[i];
    }
}

/* The slot of this text, or the free slot where it would go. The table always keeps one slot free. */
static inline mantra_symbol *
mantra_symbols_slot(const mantra_symbols *symbols, const uint64_t words[4], size_t size)
{
    uint64_t hash = (words[0] ^ (words[1] << 21 | words[1] >> 43) ^ words[2] * 31 ^ words[3] ^ size);
    hash *= UINT64_C(0x9E3779B97F4A7C15);
    for (uint64_t i = hash >> 32;; i++) {
        mantra_symbol *slot = &symbols->slots[i & (symbols->capacity - 1)];
        if (slot->size == 0)
            return slot;
        if (slot->size == size && slot->words[0] == words[0] && slot->words[1] == words[1] &&
            slot->words[2] == words[2] && slot->words[3] == words[3])
            return slot;
    }
}

/* 0; -1 when the spelling is empty or too long, the table is full, or it already means another book. */
static inline int
mantra_symbols_add(mantra_symbols *symbols, const char *text, size_t size, int32_t index)
{
    uint64_t words[4];
    if (size - 1 >= MANTRA_SYMBOL_BYTES || index < 0)
        return -1;
    mantra_symbol_words(words, text, size);
    mantra_symbol *slot = mantra_symbols_slot(symbols, words, size);
    if (slot->size != 0)
        return slot->index == index ? 0 : -1;
    if (symbols->count + 1 >= symbols->capacity)
        return -1;
    memcpy(slot->words, words, sizeof words);
    slot->size = (uint32_t)size;
    slot->index = index;
    symbols->count++;
    return 0;
}

/* Index of the book, or -1. */
static inline int32_t
mantra_symbols_find(const mantra_symbols *symbols, const char *text, size_t size)
{
    uint64_t words[4];
    if (size - 1 >= MANTRA_SYMBOL_BYTES)
        return -1;
    mantra_symbol_words(words, text, size);
    const mantra_symbol *slot = mantra_symbols_slot(symbols, words, size);
    return slot->size ? slot->index : -1;
}

#endif
