/* fuzz_binance.c - the binance decoder: any bytes are a verdict, never a wrong value nor a read past the padding. */
#include "fuzz.h"
#include "mantra/decode_binance.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[][2] = {{"ethbtc", "btcusdt"}, {"ETHBTC", "BTCUSDT"}};
    fuzz_decode(mantra_decode_binance, mantra_decode_binance_snapshot, names, 2, data, size);
    return 0;
}
