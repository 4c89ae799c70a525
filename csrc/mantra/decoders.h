/* decoders.h - every venue's decoder, by name. */
#ifndef MANTRA_DECODERS_H
#define MANTRA_DECODERS_H

#include "mantra/decode_binance.h"
#include "mantra/decode_bitfinex.h"
#include "mantra/decode_bitstamp.h"
#include "mantra/decode_coinbase.h"
#include "mantra/decode_kraken.h"

typedef struct mantra_dialect {
    const char *name;
    mantra_decode message, snapshot; /* a frame of the stream; the answer of REST that holds a book */
    mantra_checksum checksum;        /* NULL: the venue has none */
    mantra_orders_checksum orders_checksum;
} mantra_dialect;

static inline uint32_t
mantra_sign_bitfinex(const mantra_decoder *decoder, const mantra_book *book)
{
    return mantra_checksum_bitfinex(book, decoder->scales[decoder->book], decoder->printed[decoder->book]);
}

static inline uint32_t
mantra_sign_kraken(const mantra_decoder *decoder, const mantra_book *book)
{
    return mantra_checksum_kraken(book, decoder->scales[decoder->book], decoder->printed[decoder->book]);
}

static const mantra_dialect mantra_dialects[] = {
    {"binance", mantra_decode_binance, mantra_decode_binance_snapshot, NULL, NULL},
    {"bitfinex", mantra_decode_bitfinex, mantra_decode_bitfinex_snapshot, mantra_sign_bitfinex,
     mantra_checksum_bitfinex_orders},
    {"bitstamp", mantra_decode_bitstamp, mantra_decode_bitstamp_snapshot, NULL, NULL},
    {"coinbase", mantra_decode_coinbase, mantra_decode_coinbase_snapshot, NULL, NULL},
    {"kraken", mantra_decode_kraken, mantra_decode_kraken_snapshot, mantra_sign_kraken, NULL},
};

/* The dialect of that name, or NULL. */
static inline const mantra_dialect *
mantra_dialect_named(const char *name)
{
    for (size_t i = 0; i < sizeof mantra_dialects / sizeof *mantra_dialects; i++)
        if (strcmp(mantra_dialects[i].name, name) == 0)
            return &mantra_dialects[i];
    return NULL;
}

#endif
