/* fuzz_coinbase.c - the coinbase decoder, part by part, and the REST books: any bytes are a verdict, never a wrong
 * value nor a read past the padding. */
#include "fuzz.h"
#include "mantra/decode_coinbase.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[][2] = {{"ETH-USD", "BTC-USD"}};
    static fuzz_decoder rest;
    fuzz_parts(mantra_decode_coinbase, names, 1, data, size);
    char *text = fuzz_text(data, size, FUZZ_PADDING_B);
    fuzz_decoder_init(&rest, names, 1, 0);
    const int kind = mantra_decode_coinbase_snapshot(&rest.decoder, text, size);
    CHECK(kind <= 0 || kind == MANTRA_IMAGE);
    CHECK(kind == MANTRA_MALFORMED || fuzz_valid(text, size));
    free(text);
    return 0;
}
