/* fuzz_bitstamp.c - the bitstamp decoder: any bytes are a verdict, never a wrong value nor a read past the padding. */
#include "fuzz.h"
#include "mantra/decode_bitstamp.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[][2] = {{"ethbtc", "btcusd"}};
    fuzz_decode(mantra_decode_bitstamp, mantra_decode_bitstamp_snapshot, names, 1, data, size);
    return 0;
}
