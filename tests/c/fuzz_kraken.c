/* fuzz_kraken.c - the kraken decoder, part by part, and the REST books: any bytes are a verdict, never a wrong value nor a
 * read past the padding. */
#include "fuzz.h"
#include "mantra/decode_kraken.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[][2] = {{"ETH/USD", "BTC/USD"}, {"XMR/USD", "XBT/USD"}};
    static fuzz_decoder rest;
    fuzz_parts(mantra_decode_kraken, names, 2, data, size);
    char *text = fuzz_text(data, size, FUZZ_PADDING_B);
    fuzz_decoder_init(&rest, names, 2, 0);
    const int kind = mantra_decode_kraken_snapshot(&rest.decoder, text, size);
    CHECK(kind <= 0 || kind == MANTRA_IMAGE);
    CHECK(kind == MANTRA_MALFORMED || fuzz_valid(text, size));
    free(text);
    return 0;
}
