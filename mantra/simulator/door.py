"""door: `mantra simulate`: the venues on loopback, from the seeded market or from recordings, until told to stop."""
from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mantra.errors import ConfigurationError
from mantra.runtime.child import follow_parent
from mantra.runtime.options import Parser, door
from mantra.simulator.binance import Binance
from mantra.simulator.bitfinex import Bitfinex
from mantra.simulator.bitstamp import Bitstamp
from mantra.simulator.coinbase import Coinbase
from mantra.simulator.faults import Faults, seconds
from mantra.simulator.kraken import Kraken
from mantra.simulator.market import Instrument, World
from mantra.simulator.recording import RecordingSource, Timeline
from mantra.simulator.server import Venue
from mantra.simulator.source import MarketSource, Source, instrument, many
from mantra.tape import lines, raw
from mantra.tape.segment import files, is_archive

VENUES: dict[str, type[Venue]] = {kind.name: kind for kind in (Binance, Bitfinex, Bitstamp, Coinbase, Kraken)}
DEFAULT_INSTRUMENTS = "eth-btc,btc-usdt,eth-usdt"


@door("mantra simulate")
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="mantra simulate", description="Serve simulated venues on loopback, real at the wire.",
        epilog="Steer it while it runs: GET /simulator/state, POST /simulator/faults?drop=0.01, /simulator/now?cut=1.")
    add = parser.add_argument
    add("--venues", default=",".join(VENUES), help="which venues (default: %(default)s)")
    add("--instruments", default=DEFAULT_INSTRUMENTS, help="what they list (default: %(default)s); "
        "kraken:1000: a thousand made-up ones at that venue, a few lively and most quiet")
    add("--seed", default="1", help="of the market and of the faults (default: %(default)s)")
    add("--rate", type=float, help="book messages a second and instrument (default: as the venue does)")
    add("--levels", type=int, help="levels of a book's side, 20 at least (default: as the venue has)")
    add("--recording", nargs="+", type=Path, metavar="PATH", help="serve a recording of --venue instead, or "
        "an archive's tape (mantra capture --raw)")
    add("--venue", choices=VENUES, help="whose recording it is (of a tape: all that it has)")
    add("--speed", type=float, default=1.0, help="of recordings (default: 1); 0: as fast as the reader")
    add("--endpoints", type=Path, metavar="FILE", help="write the addresses there (TOML) once listening")
    add("--tls", action="store_true", help="serve wss and https with a certificate made for this run")
    add("--faults", default="", metavar="SPEC", help="drop=0.001,duplicate=0.001,reorder=0.001,fragment=0.1,cut=30s,"
        "stall=5s,restart=2m,snapshot=0.1,refuse=0.1,limit=0.1,block=0.1,checksum=0.001,skip=0.001,unacked=0.1,"
        "ban=5s,cross=500ms,skew=2s,bytewise")
    add("--unlimited", action="store_true", help="do not enforce the venues' rate limits")
    add("--ban-scale", type=float, default=1.0, metavar="FACTOR", help="of how long those limits ban (default: 1)")
    add("--hasten", type=float, default=1.0, metavar="FACTOR",
        help="heartbeats come and idle ends so much faster (default: 1)")
    add("--host", default="127.0.0.1", help="(default: %(default)s)")
    add("--port", type=int, default=0, help="of the first venue, the others follow; 0: any (default)")
    add("--duration", type=seconds, metavar="SECONDS", help="stop after so long")
    add("--json", action="store_true", help="one JSON object on the last line of standard output")
    add("--with-parent", action="store_true", help="end with the thread that started this process, and not on Ctrl-C")
    options = parser.parse_args(argv)
    if options.with_parent:
        os.environ.setdefault("MANTRA_PARENT", str(os.getppid()))
        follow_parent()
    return asyncio.run(simulate(options))


def venues(options: argparse.Namespace) -> list[Venue]:
    """The venues that the options ask for, each with its source."""
    def made(name: str, source: Source) -> Venue:
        faults = Faults(options.faults, f"{options.seed}/{name}")
        return VENUES[name](source, faults=faults, limits=not options.unlimited,
                            ban_scale=options.ban_scale, hasten=options.hasten)

    if options.recording or options.venue:
        return [made(name, source) for name, source in recorded(options).items()]
    names = list(dict.fromkeys(name.strip() for name in options.venues.split(",") if name.strip()))
    if not names or not set(names) <= set(VENUES):
        raise ConfigurationError(f"--venues {options.venues}: choose from {', '.join(VENUES)}")
    if options.rate is not None and options.rate <= 0:
        raise ConfigurationError("--rate: write a positive number of messages a second")
    if options.levels is not None and options.levels < 20:
        raise ConfigurationError("--levels: write 20 or more")
    listed = instruments(options.instruments, names, options.levels)
    now = time.time_ns()
    # Venues share the worlds of what they all list: their prices move together.
    worlds = {one: World(one, options.seed) for of_venue in listed.values() for one in of_venue}
    return [made(name, MarketSource(VENUES[name].listing(worlds[one], options.seed, now, options.rate)
                                    for one in listed[name])) for name in names]


def recorded(options: argparse.Namespace) -> dict[str, Source]:
    """The venues of a recording: --venue, or all of an archive's tape."""
    paths, timeline = options.recording, Timeline(options.speed)
    if paths and any(map(is_archive, paths)):
        segments = files(paths)
        names = [options.venue] if options.venue else sorted(VENUES.keys() & raw.connections(segments).values())
        if not names:
            raise ConfigurationError(f"--recording: no tape in {', '.join(map(str, paths))}: capture with --raw")
        read = {name: partial(raw.records, segments, name) for name in names}
    elif paths and options.venue:
        read = {options.venue: partial(lines.read, paths, options.venue)}
    else:
        raise ConfigurationError("recordings need --recording PATH... and --venue VENUE, or an archive with tapes")
    if options.speed < 0:
        raise ConfigurationError("--speed: write 0 or more")
    return {name: RecordingSource(records, VENUES[name], timeline) for name, records in read.items()}


def instruments(spec: str, names: Sequence[str], levels: int | None) -> dict[str, list[Instrument]]:
    """What each venue lists, once; of what the option named, and of the venue's own."""
    listed: dict[str, list[Instrument]] = {name: [] for name in names}
    try:
        for part in filter(None, map(str.strip, spec.split(","))):
            venue, _, count = part.partition(":")
            for name in [venue] if count else names:
                listed[name] += many(int(count)) if count else [instrument(part)]
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"--instruments {part}: {error}") from None
    return {name: list(dict.fromkeys([*(replace(one, levels=levels or one.levels) for one in of_venue),
                                      *VENUES[name].own])) for name, of_venue in listed.items()}


async def simulate(options: argparse.Namespace) -> int:
    began = time.monotonic()
    stop = asyncio.Event()
    # Ctrl-C reaches the whole group of processes; whose parent decides leaves it to the parent.
    for number in (signal.SIGTERM,) if options.with_parent else (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = venues(options)
    with contextlib.ExitStack() as undo:
        authority, context = certificate(options, undo) if options.tls else (None, None)
        try:
            for place, venue in enumerate(serving):
                await venue.start(options.host, options.port + place if options.port else 0, context, stop.set)
            if options.endpoints:
                write_endpoints(options.endpoints, serving, options.host, authority)
                undo.callback(options.endpoints.unlink, missing_ok=True)
            for venue in serving if not options.with_parent else ():    # a parent reads the endpoints file
                print(f"{venue.name}: {websocket(venue, options.host, bool(context))}", file=sys.stderr)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), options.duration)
        finally:
            await asyncio.gather(*(venue.stop() for venue in serving))
    if options.json:
        print(json.dumps({"seconds": round(time.monotonic() - began, 3),
                          "venues": {venue.name: venue.state() for venue in serving}}), flush=True)
    for venue in serving:
        if venue.failure is not None:       # a defect of ours: to report, not to hide
            raise venue.failure
    return 0


def websocket(venue: Venue, host: str, tls: bool) -> str:
    address = f"[{host}]" if ":" in host else host
    return f"{'wss' if tls else 'ws'}://{address}:{venue.port}"


def write_endpoints(path: Path, serving: Sequence[Venue], host: str, authority: Path | None) -> None:
    """The addresses as TOML; the file appears whole, when everything listens."""
    lines = []
    for venue in serving:
        url = websocket(venue, host, authority is not None)
        lines += [f"[{venue.name}]", f'websocket = "{url}"', f'rest = "{url.replace("ws", "http", 1)}"']
        lines += [f'ca_file = "{authority}"'] if authority else []
        lines.append("")
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text("\n".join(lines))
        partial.replace(path)
    except OSError as error:
        raise ConfigurationError(f"--endpoints {path}: {error.strerror}") from None


def certificate(options: argparse.Namespace, undo: contextlib.ExitStack) -> tuple[Path, ssl.SSLContext]:
    """(file of the authority to trust, server context), both made now and gone with this process."""
    try:
        import trustme
    except ImportError:
        raise ConfigurationError("--tls needs the trustme package: pip install 'mantra[tls]'") from None
    folder = Path(tempfile.mkdtemp(prefix="mantra-simulate-"))
    undo.callback(shutil.rmtree, folder, ignore_errors=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*{options.host, "localhost", "127.0.0.1", "::1"}).configure_cert(context)
    return folder / "ca.pem", context


if __name__ == "__main__":
    sys.exit(main())
