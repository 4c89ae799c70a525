"""Build the fuzz targets (fuzz_*.c), make their corpora from the recordings, run them. `scripts/fuzz` is its door.

libFuzzer where clang is, else gcc and the mutating driver of fuzz_driver.c; both with ASan and UBSan.
"""
from __future__ import annotations

import argparse
import functools
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mantra.tape.lines import read

from ..data import FOLDER
from .compilers import COMPILERS, WARNINGS, compile_c

HERE = Path(__file__).parent
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c") if path.stem != "fuzz_driver")
FLAGS = ["-g", "-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", *WARNINGS]
SEED_BYTES = 4096      # longer seeds only slow mutation down
FILES = {
    "binance": ["cryptofeed/BINANCE.ws.1.0", "cryptofeed/BINANCE.http.0.0.zst",
                "hftbacktest/spot/btcusdt_20240808.zst"],
    "bitfinex": ["cryptofeed/BITFINEX.ws.11.0.zst", "bbgo/bitfinex_ws_raw.jsonl.zst"],
    "bitstamp": ["cryptofeed/BITSTAMP.ws.1.0.zst", "cryptofeed/BITSTAMP.http.0.0.zst"],
    "coinbase": ["cryptofeed/COINBASE.ws.28.0.zst", "cryptofeed-v3/COINBASE.first-part.jsonl.zst"],
    "kraken": ["cryptofeed/KRAKEN.ws.48.0", "cryptofeed/KRAKEN.ws.50.0.zst"],
}
SPELLED = [    # forms that the recordings do not have, and all there is where there are no recordings
    b'{"stream":"btcusdt@depth20@100ms","data":{"lastUpdateId":160,"bids":[["0.5","10"],["0.4","1"],["0.3","2"]],'
    b'"asks":[["1","2"]]}}',
    b'{"e":"depthUpdate","E":1633998512068000,"s":"ETHBTC","U":1,"u":2,"b":[["0.1","1"]],"a":[]}',
    b'{"e":"trade","E":1672515782136,"s":"BTCUSDT","t":12345,"p":"0.25","q":"100","T":1672515782136,"m":true,"M":true}',
    b'{"result":null,"id":1}', b'{"e":"serverShutdown","E":1770123456789}',
    b'{"lastUpdateId":1,"bids":[["1.5","2"]],"asks":[[ "1.6" , "0" ]]}',
    b'{"data":{"timestamp":"1","microtimestamp":"1641343691580748","bids":[["1.5","2"],["1.4","1e-1"],["1.3","3"]],'
    b'"asks":[]},"channel":"order_book_btcusd","event":"data"}',
    b'{"data":{"id":1,"timestamp":"1","amount":0.2,"amount_str":"0.24","price":2.2,"price_str":"2.22","type":0,'
    b'"microtimestamp":"1772723751946000"},"channel":"live_trades_ethbtc","event":"trade"}',
    b'{"event":"bts:request_reconnect","channel":"","data":null}',
    b'{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[{"price":62802.5,"qty":0.02987},'
    b'{"price":62800.7,"qty":0.05598}],"asks":[{"price":62802.6,"qty":1.09074}],"checksum":1310070434}]}',
    b'{"channel":"book","type":"update","data":[{"symbol":"ETH/USD","bids":[],"asks":[{"price":1797.29,"qty":0.00000000},'
    b'{"price":1.79752e3,"qty":7e-8}],"checksum":3329440863,"timestamp":"2025-05-06T09:17:26.208075Z"}]}',
    b'{"channel":"book","type":"update","data":[{"symbol":"ETH/USD","bids":[{"qty":1,"price":2}],"asks":[]},'
    b'{"symbol":"BTC/USD","bids":[],"asks":[],"checksum":0}]}',
    b'{"channel":"trade","type":"snapshot","data":[{"symbol":"BTC/USD","side":"sell","price":0.51,"qty":40.0,"ord_type":'
    b'"market","trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"},{"symbol":"ETH/USD","side":"buy","price":1,'
    b'"qty":2,"trade_id":1,"timestamp":"2023-09-25T07:49:37Z"}]}',
    b'{"channel":"heartbeat"}', b'{"method":"pong","req_id":1,"time_in":"","time_out":""}',
    b'{"channel":"status","data":[{"system":"online","connection_id":18266300427528990701}],"type":"update"}',
    b'{"method":"subscribe","result":{"channel":"book","depth":10,"symbol":"ETH/USD"},"success":true,"req_id":1}',
    b'[1664,{"a":[["13.284500","1396.00000000","1618678133.383209"]],"c":"176333288"},"book-1000","XBT/USD"]',
    b'[19,{"a":[["0.042990","364.2728","1618678145.920470","r"]]},{"b":[["0.042980","0","1618678145.92"]],"c":"41"},'
    b'"book-10","ETH/USD"]',
    b'[18,{"as":[["9.596677","136.91309120","1618678131.169956"]],"bs":[]},"book-1000","ETH/USD"]',
    b'[993,[["354.11000000","0.89594024","1618678142.557535","s","l",""]],"trade","XMR/USD"]', b'{"event":"heartbeat"}',
    b'{"error":[],"result":{"XXBTZUSD":{"asks":[["3.4","0.5",1688671200]],"bids":[["3.3","1.0",1688671200]]}}}',
    b'{"event":"conf","status":"OK","flags":537100288}\n[1,[[7e-7,1,0.5],[1.5,2,-10]],1,1618677545894]\n[1,[[7e-7,0,1]],2,'
    b'1618677545895]\n[1,"cs",-1175357890,3,1618677545896]\n[1,"hb",4,1618677545897]\n[1,[],5,1618677545898]',
    b'[3,[[34753002978,7294.7,1.54340371],[34753002979,7294.8,-2]],1]\n[3,[34753006045,0,-1],2]\n[3,[5,7e-2,1],3]\n'
    b'[3,"cs",5,4]',
    b'{"data":{"id":2050545009631360,"order_type":1,"order_subtype":0,"microtimestamp":"1789456315879000","amount":32,'
    b'"amount_str":"32","price":0.6881,"price_str":"0.68810"},"channel":"live_orders_btcusd","event":"order_changed",'
    b'"event_id":"00065b80-440c-8e58-0000-03f902000020","pre_event_id":"00065b80-440a-a228-0000-03f901000020"}',
    b'{"microtimestamp":"1789456315879000","bids":[["0.68","32","2050545009631360"]],"asks":[["0.69","1e1",7]]}',
    b'[3,[60400,1,0.68826]]\n[3,[60400.001,1,1],5]\n[7,"te",[1,1618677545894,-0.5,2]]\n[[60400,1,-1],[60399.5,2,1]]',
    b'{"event":"subscribed","channel":"book","chanId":9,"symbol":"tBTCUSD","prec":"P0","freq":"F0","len":"100"}\n[9,[]]\n'
    b'{"event":"unsubscribed","status":"OK","chanId":9}\n[9,[1,2,3]]\n{"event":"pong","ts":1,"cid":1}',
    b'[2,"te",[1128060969,1654702500098,0.00325131,1818.5],9]\n[2,"tu",[1,2,-1e-3,3]]\n[2,[[1,2,3,4],[1,2,-3,4]],7]',
    b'{"channel":"l2_data","client_id":"","timestamp":"2026-04-07T14:30:00.123456Z","sequence_num":0,"events":[{"type":'
    b'"snapshot","product_id":"BTC-USD","updates":[{"side":"bid","event_time":"1970-01-01T00:00:00Z","price_level":"21.74",'
    b'"new_quantity":"0.06"},{"side":"offer","event_time":"2026-08-09T21:05:48.35161Z","price_level":"21.75",'
    b'"new_quantity":"0.00"}]},{"type":"update","product_id":"ETH-USD","updates":[]}]}',
    b'{"channel":"l2_data","timestamp":"2026-08-09T21:05:48.505350477Z","sequence_num":14,"events":[{"type":"update",'
    b'"product_id":"ETH-USD","updates":[{"side":"offer","event_time":"2026-08-09T21:05:48.210883Z","price_level":"7e-7",'
    b'"new_quantity":"0"}]}]}',
    b'{"channel":"market_trades","timestamp":"2024-10-04T07:13:31.1Z","sequence_num":2,"events":[{"type":"snapshot","trades":['
    b'{"product_id":"ETH-USD","trade_id":"9","price":"1","size":"2","time":"2024-10-04T07:13:31Z","side":"BUY"},'
    b'{"product_id":"BTC-USD","trade_id":"8","price":"3","size":"4","time":"2024-10-04T07:13:31Z","side":"SELL"}],"x":[1]},'
    b'{"type":"update","trades":[]},{"trades":[{"product_id":"BTC-USD"}],"type":"update"}]}',
    b'{"channel":"heartbeats","timestamp":"","sequence_num":3,"events":[{"current_time":"","heartbeat_counter":42}]}',
    b'{"type":"snapshot","product_id":"BTC-USD","asks":[["14.80","12.77"]],"bids":[],"time":"2021-04-17T16:43:37.075687Z"}',
    b'{"type":"l2update","product_id":"ETH-USD","changes":[["sell","0.00001306","660.5"],["buy","1","0.0"]],'
    b'"time":"2021-04-17T16:43:37.075687Z"}',
    b'{"type":"last_match","trade_id":280232,"maker_order_id":"2a","taker_order_id":"3c","side":"sell","size":"985",'
    b'"price":"0.00001305","product_id":"BTC-USD","sequence":177100030,"time":"2021-04-17T16:43:37.089723Z"}',
    b'{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD","time":"2014-11-07T08:19:28.464459Z"}',
    b'{"pricebook":{"product_id":"BTC-USD","bids":[{"price":"1","size":"2"}],"asks":[],"time":"2026-04-07T00:28:59.66Z"}}',
    b'{"sequence":13051505638,"bids":[["6247.58","6.3578146",2]],"asks":[["6247.6","1",1]],"auction":null}',
           b'["\\u00e9\\ud83d\\ude00",-1.5e-3,[[{}]],true,false,null]',
]


@functools.cache
def recorded(venue: str) -> list[bytes]:
    paths = [FOLDER / name for name in FILES[venue] if (FOLDER / name).exists()]
    return [record.text for record in read(paths) if record.kind in ("message", "rest")] if paths else []


@functools.cache
def texts(venue: str, limit: int = 300) -> list[bytes]:
    """A sample of the recordings of a venue, cut where a REST answer is long, in the spelling that the targets know."""
    found = recorded(venue)
    found = random.Random(1).sample(found, min(limit, len(found)))
    symbol = {"binance": rb"ethusd|nknusdt|NKNUSDT", "bitstamp": rb"(?<=_)[a-z]{6,8}(?=\")",
              "coinbase": rb"[A-Z]{2,5}-[A-Z]{3}", "kraken": rb"[A-Z]{2,5}/[A-Z]{3}",
              "bitfinex": rb"(?<=^\[)\d+"}[venue]
    name = {b"NKNUSDT": b"BTCUSDT"} if venue == "binance" else {}
    default = {"binance": b"btcusdt", "bitstamp": b"btcusd", "coinbase": b"BTC-USD", "kraken": b"BTC/USD",
               "bitfinex": b"1"}[venue]
    return [re.sub(symbol, lambda match: name.get(match[0], default), text)[:SEED_BYTES] for text in found]


def corpus(target: str) -> Iterator[bytes]:
    """Seeds for a target."""
    if target in FILES:
        yield from SPELLED + texts(target)
        return
    everything = SPELLED + [text for venue in FILES for text in texts(venue, 100)]
    if target == "decimal":
        numbers = {number for text in everything for number in re.findall(rb"[-0-9][-+.0-9eE]*", text)}
        yield from (bytes([at % 19]) + number for at, number in enumerate(sorted(numbers)))
        yield from (b"\x08" + number for number in (b"7e-7", b"-0.5E+3", b"9223372036854775807", b"1" * 30,
                                                    b"0." + b"0" * 30))
    elif target == "frame":
        for text in everything:
            size = len(text)
            head = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size)
            yield b"\x81" + head + text
            yield b"\x01" + head + text + b"\x89\x02hi" + b"\x80\x01]" + b"\x88\x02\x03\xe8"
    else:
        yield from everything


def build(source: Path, folder: Path) -> Path:
    """The target as a program that takes libFuzzer's arguments. RuntimeError: no compiler here can."""
    program = folder / source.stem
    for compiler in sorted(COMPILERS):
        sanitizers = "fuzzer,address,undefined" if compiler == "clang" else "address,undefined"
        driver = [] if compiler == "clang" else [str(HERE / "fuzz_driver.c")]
        try:
            compile_c(compiler, source, program, *FLAGS, f"-fsanitize={sanitizers}", *driver)
            return program
        except AssertionError as reason:
            failed = reason
            if "fuzzer" not in str(reason) and "libclang_rt" not in str(reason):
                break
    raise RuntimeError(str(failed) if COMPILERS else "no clang, no gcc")


def run(target: str, seconds: int, folder: Path, build_target: Callable[[Path, Path], Path] = build,
        source: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Fuzz one target for `seconds` in `folder`; what it printed, and its exit status (0: nothing found)."""
    program = build_target(source or HERE / f"fuzz_{target}.c", folder)
    seeds = folder / f"{target}.corpus"
    seeds.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(corpus(target)):
        (seeds / f"seed-{number}").write_bytes(seed)
    command = [str(program), f"-max_total_time={seconds}", f"-artifact_prefix={folder}/{target}-", "-timeout=20",
               "-max_len=8192", "-verbosity=0", "-print_final_stats=1", str(seeds)]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120,
                          env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1"})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="for each target (default 120)")
    parser.add_argument("--keep", type=Path, help="folder for corpora and crashes (default: a temporary one)")
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="target", help=", ".join(TARGETS))
    options = parser.parse_args(arguments)
    outcome = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for target in options.targets or TARGETS:
            done = run(target, options.seconds, folder)
            outcome[target] = "ok" if done.returncode == 0 else "FAILED"
            runs = re.findall(r"Done (\d+) runs|number_of_executed_units: (\d+)", done.stdout + done.stderr)
            print(f"{target}: {outcome[target]}, {max(map(int, filter(None, sum(runs, ()))), default=0):,} runs",
                  file=sys.stderr)
            if done.returncode:
                print(done.stdout + done.stderr, file=sys.stderr)
                crash = next(iter(sorted(folder.glob(f"{target}-crash*"))), None)
                if crash:
                    print(f"input: {crash.read_bytes()!r}", file=sys.stderr)
    print(json.dumps(outcome))
    return int("FAILED" in outcome.values())


if __name__ == "__main__":
    sys.exit(main())
