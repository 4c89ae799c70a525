"""report: latencies as one readable page: tables, percentile curves, what is better or worse than before.

A report is made of rows, one a distribution: a benchmark's rounds or a running system's histogram. It is written as
Markdown, as a page of HTML that needs no other file, and as JSON, with which a later report is compared.

What can be said of a change: a percentile's interval (95 %) is that of its order statistics, which assumes nothing of
the distribution, but that the values know nothing of each other, which those of one run do. And between runs even an
idle machine differs by some percent, tails by much more. So a change is called one only when it is larger than twice
the intervals, and than is USUAL.
"""
from __future__ import annotations

import html
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from mantra import __version__
from mantra.core.histogram import Histogram
from mantra.errors import ConfigurationError, MantraError
from mantra.runtime.options import Parser, door, positive_seconds
from mantra.runtime.spine import Spine
from mantra.telemetry.collector import Collector
from mantra.telemetry.doctor import Machine
from mantra.telemetry.drawing import SPARKS, duration

FORMAT = 1
USUAL = {"p50": 0.05, "p99": 0.3}            # by which runs differ though nothing changed, on a machine that is shared
SHOWN = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
CURVE = (*(n / 20 for n in range(18)),
         *(1 - step / 10**nines for nines in range(1, 7) for step in (1, 0.7, 0.5, 0.3, 0.2)))
STEPS = 12                                  # bars an octave


@dataclass
class Row:
    """One distribution, in nanoseconds. Percentiles that so few values cannot tell are None."""

    group: str
    name: str
    count: int
    rate: float | None                      # a second
    min: float
    mean: float
    max: float
    p50: float
    p90: float | None = None
    p99: float | None = None
    p999: float | None = None
    intervals: dict[str, list[float]] = field(default_factory=dict)     # of p50 and p99: 95 % sure to lie within
    curve: list[list[float]] = field(default_factory=list)              # fraction, value
    bars: list[list[float]] = field(default_factory=list)               # least value, share of all

    @property
    def key(self) -> tuple[str, str]:
        return self.group, self.name


def row(group: str, name: str, values: Any, counts: Any, rate: float | None, mean: float, most: float) -> Row:
    """Of `counts` values each, ascending, in ns; `most` is the largest exactly."""
    upto = np.cumsum(counts)
    total = int(upto[-1])

    def at(rank: float) -> float:
        return float(min(values[np.searchsorted(upto, min(max(math.ceil(rank), 1), total))], most))

    def interval(fraction: float) -> list[float]:
        spread = 1.96 * math.sqrt(total * fraction * (1 - fraction))
        return [at(total * fraction - spread), at(total * fraction + spread + 1)]

    steps = np.floor(np.log2(np.maximum(values, 0.1)) * STEPS)
    known = {key: at(fraction * total) for key, fraction in SHOWN.items() if total * (1 - fraction) >= 1}
    return Row(group, name, total, rate, float(values[0]), mean, most, known.pop("p50", at(total / 2)), **known,
               intervals={key: interval(SHOWN[key]) for key in ("p50", "p99") if key == "p50" or key in known},
               curve=[[fraction, at(fraction * total)] for fraction in CURVE if total * (1 - fraction) >= 1] +
                     [[1 - 1 / (total + 1), most]],
               bars=[[2 ** (float(step) / STEPS), float(counts[steps == step].sum()) / total]
                     for step in np.unique(steps)])


def from_histogram(group: str, name: str, histogram: Histogram, seconds: float) -> Iterator[Row]:
    """Its row, unless it is empty."""
    values, counts = histogram.buckets()
    if len(values):
        yield row(group, name, values, counts, histogram.count / seconds, histogram.mean, float(histogram.max))


def from_benchmarks(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """The rows of a pytest-benchmark JSON, and its machine. With --benchmark-save-data every round is known, without
    it five numbers of all rounds are. ConfigurationError: it is none."""
    try:
        read = json.loads(path.read_text())
        machine, rows = read.get("machine_info", {}), []
        for bench in read["benchmarks"]:
            stats, group = bench["stats"], bench["group"] or re.split(r"::|\.py", bench["fullname"])[0]
            ns = {key: stats[key] * 1e9 for key in ("min", "max", "mean", "median", "q1", "q3")}
            if data := stats.get("data"):
                values, counts = np.unique(np.array(data) * 1e9, return_counts=True)
                rows.append(row(group, bench["name"], values, counts, stats["ops"], ns["mean"], ns["max"]))
                continue
            notch = 1.57 * (ns["q3"] - ns["q1"]) / math.sqrt(stats["rounds"])       # McGill, Tukey and Larsen 1978
            rows.append(Row(group, bench["name"], stats["rounds"], stats["ops"], ns["min"], ns["mean"], ns["max"],
                            ns["median"], intervals={"p50": [ns["median"] - notch, ns["median"] + notch]},
                            curve=[[0.0, ns["min"]], [0.25, ns["q1"]], [0.5, ns["median"]], [0.75, ns["q3"]],
                                   [1 - 1 / (stats["rounds"] + 1), ns["max"]]]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} is no JSON of pytest-benchmark: {error!r}") from None
    cpu = machine.get("cpu", {})
    return rows, {"node": machine.get("node"), "cpu": cpu.get("brand_raw"), "cores": cpu.get("count"),
                  "system": f"{machine.get('system')} {machine.get('release')}",
                  "python": machine.get("python_version"), "utc": read.get("datetime"),
                  "commit": (read.get("commit_info") or {}).get("id")}


def from_run(run: Spine, seconds: float) -> list[Row]:
    """What the run's histograms, its actors and their timers count in the `seconds` from now; MantraError when the run
    ends before."""
    collector = Collector(run)
    before: dict[Any, Histogram] = {**run.histograms(), **run.timers()}
    copies = {key: histogram.copy() for key, histogram in before.items()}
    began = time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        collector.poll()
        if not collector.alive:
            raise MantraError(f"run {run.run} ended while it was watched")
        time.sleep(min(left, collector.pace))
    collector.poll()
    seconds, rows = time.monotonic() - began, list[Row]()
    for key, histogram in before.items():
        group, name = key.split(".", 1) if isinstance(key, str) else ("timers", ".".join(key))
        rows += from_histogram(group.replace("_", " "), name, histogram.since(copies[key]), seconds)
    for what, group in (("latency", "waiting for an actor"), ("processing", "an actor at work")):
        for name, watch in collector.watches.items():
            rows += from_histogram(group, name, getattr(watch, what), seconds)
    return rows


def this_machine() -> dict[str, Any]:
    """What must be known of where numbers come from."""
    return {"node": platform.node(), "cpu": Machine().model(), "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()}", "python": platform.python_version(),
            "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"), "mantra": __version__}


# Comparing -------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Change:
    """Of one percentile since before: its relative change, how much of that may be noise, and what may be said."""

    change: float
    noise: float
    verdict: str                            # better, worse, same

    def __str__(self) -> str:
        mark = {"better": "▼", "worse": "▲", "same": "="}[self.verdict]
        return f"{mark} {100 * self.change:+.0f} % (±{100 * self.noise:.0f})"


def compare(new: Row, old: Row, percentile: str) -> Change | None:
    """How `percentile` changed; None where one of them does not know it."""
    if percentile not in new.intervals or percentile not in old.intervals:
        return None
    now, then = getattr(new, percentile), getattr(old, percentile)
    (low, high), (low_then, high_then) = new.intervals[percentile], old.intervals[percentile]
    if not then or not now:
        return None
    noise = max(2 * math.hypot((high - low) / 2 / now, (high_then - low_then) / 2 / then), USUAL[percentile])
    change = now / then - 1
    return Change(change, noise, "same" if abs(change) <= noise else "worse" if change > 0 else "better")


# Writing ---------------------------------------------------------------------------------------------------------

HEADINGS = ("count", "a second", "min", "p50", "p90", "p99", "p99.9", "max")


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _cells(one: Row) -> list[str]:
    percentiles = one.min, one.p50, one.p90, one.p99, one.p999, one.max
    return [_count(one.count), _count(one.rate), *("–" if ns is None else duration(ns) for ns in percentiles)]


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for one in rows:
        groups.setdefault(one.group, []).append(one)
    return groups


def _changes(one: Row, old: Mapping[tuple[str, str], Row]) -> list[Change | None]:
    return [compare(one, old[one.key], percentile) if one.key in old else None for percentile in ("p50", "p99")]


def _noise_text() -> str:
    return ("▼ better, ▲ worse, =: not known to have changed. In brackets how much may be noise: twice the 95 % "
            f"intervals of both, and at least what runs differ by of themselves, {USUAL['p50']:.0%} of p50 and "
            f"{USUAL['p99']:.0%} of p99.")


def _machine_text(machine: Mapping[str, Any]) -> str:
    known = {**machine, "cores": machine.get("cores") and f"{machine['cores']} cores",
             "python": machine.get("python") and f"Python {machine['python']}",
             "mantra": machine.get("mantra") and f"mantra {machine['mantra']}"}
    return ", ".join(str(value) for value in known.values() if value)


def markdown(report: Mapping[str, Any], rows: Sequence[Row], old: Mapping[tuple[str, str], Row]) -> str:
    """The report for terminals and repositories."""
    lines = [f"# {report['title']}", ""] + [f"- {source}: {_machine_text(machine)}"
                                            for source, machine in report["sources"].items()]
    headings = ["", *HEADINGS, *(["p50 since", "p99 since"] if old else []), "distribution"]
    for group, members in _groups(rows).items():
        rule = f"|---|{'---:|' * (len(headings) - 2)}---|"
        lines += ["", f"## {group}", "", f"| {' | '.join(headings)} |", rule]
        for one in members:
            since = ["" if change is None else str(change) for change in _changes(one, old)] if old else []
            name = one.name.replace("|", "\\|")
            lines.append(f"| {' | '.join([name, *_cells(one), *since, _spark(one)])} |")
    return "\n".join([*lines, "", *([_noise_text(), ""] if old else [])])


def _spark(one: Row) -> str:
    """The bars as text, from the least value to the 99.9th percentile."""
    bars = {round(math.log2(low) * STEPS): share for low, share in one.bars}
    if not bars:
        return ""
    first, last = min(bars), min(max(bars), round(math.log2(max(one.p999 or one.max, 1)) * STEPS))
    width = max(1, math.ceil((last - first + 1) / 24))
    sums = [sum(bars.get(at + n, 0.0) for n in range(width)) for at in range(first, last + 1, width)]
    return "".join(SPARKS[min(7, math.ceil(8 * share / max(sums)) - 1)] if share else " " for share in sums)


STYLE = """
:root { --ink: #1d2733; --dim: #66727f; --paper: #fff; --line: #e3e8ee; --soft: #f5f7fa; --good: #17803d;
  --bad: #c0362c; --s0: #2f6fde; --s1: #d97a16; --s2: #2a9461; --s3: #8d55c9; --s4: #cc4b63; --s5: #168f9c; }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe6ee; --dim: #8f9cab; --paper: #12171d; --line: #2a333d;
  --soft: #1a2129; --good: #4cc479; --bad: #ff7a6e; --s0: #6ea0ff; --s1: #f0a24e; --s2: #5cc793; --s3: #b98bf0;
  --s4: #f0809a; --s5: #4cc3cf; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 76rem;
  margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; }
p, li { color: var(--dim); } ul { padding-left: 1.1rem; margin: .2rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { font-weight: 500; color: var(--dim); font-size: .82rem; } th, td { text-align: right; padding: .35rem .6rem;
  border-bottom: 1px solid var(--line); white-space: nowrap; } th:nth-child(-n+2), td:first-child { text-align: left; }
td:nth-child(6) { font-weight: 600; } tr:hover td { background: var(--soft); }
.swatch { display: inline-block; width: .7rem; height: .7rem; border-radius: .2rem; margin-right: .5rem; }
.better { color: var(--good); } .worse { color: var(--bad); font-weight: 600; } .same { color: var(--dim); }
svg { display: block; } svg text { fill: var(--dim); font: 11px system-ui, sans-serif; } .grid { stroke: var(--line); }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; } .old { stroke-dasharray: 3 4; opacity: .6; }
figure { margin: 1rem 0 0; } figcaption { color: var(--dim); font-size: .82rem; }
""" + "".join(f".s{n} {{ stroke: var(--s{n}); }} .f{n} {{ fill: var(--s{n}); background: var(--s{n}); }}\n"
              for n in range(6))


def page(report: Mapping[str, Any], rows: Sequence[Row], old: Mapping[tuple[str, str], Row]) -> str:
    """The report as one page of HTML (and XML), complete in itself."""
    say = html.escape
    about = "".join(f"<li>{say(source)}: {say(_machine_text(machine))}</li>"
                    for source, machine in report["sources"].items())
    parts = [f"<h1>{say(report['title'])}</h1>", f"<ul>{about}</ul>"]
    if old:
        counted = [change.verdict for one in rows for change in _changes(one, old) if change]
        tally = ", ".join(f'<span class="{verdict}">{counted.count(verdict)} {verdict}</span>' for verdict in (
            "better", "worse", "same") if verdict in counted)
        parts.append(f"<p>Since {say(report['against'])}: {tally}. {say(_noise_text())}</p>")
    for group, members in _groups(rows).items():
        headings = ["distribution", *HEADINGS, *(["p50 since", "p99 since"] if old else [])]
        parts += [f"<h2>{say(group)}</h2>", '<div class="wide"><table>', "<tr><th></th>" + "".join(
            f"<th>{heading}</th>" for heading in headings) + "</tr>"]
        drawn = [*members, *(old[one.key] for one in members if one.key in old)]
        shown = _extent([value for one in drawn for value in (one.min, one.p999 or one.max)])
        for number, one in enumerate(members):
            cells = "".join(f"<td>{cell}</td>" for cell in _cells(one))
            for change in _changes(one, old) if old else ():
                cells += "<td></td>" if change is None else f'<td class="{change.verdict}">{change}</td>'
            parts.append(f'<tr><td><span class="swatch f{number % 6}"></span>{say(one.name)}</td>'
                         f"<td>{_bars(one, old.get(one.key), number % 6, *shown)}</td>{cells}</tr>")
        parts += ["</table></div>", *(_curves(members[at:at + 6], old) for at in range(0, len(members), 6))]
    return ('<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" lang="en"><head><meta charset="utf-8"/>'
            '<meta name="viewport" content="width=device-width"/>'
            f"<title>{say(report['title'])}</title><style>{STYLE}</style></head>\n<body>\n"
            + "\n".join(parts) + "\n</body></html>\n")


def _extent(values: Sequence[float]) -> tuple[float, float]:
    """Decades that hold all of them."""
    low, high = (math.log10(max(value, 0.1)) for value in (min(values), max(values)))
    return math.floor(low * 4) / 4, max(math.ceil(high * 4), math.floor(low * 4) + 2) / 4


def _bars(one: Row, old: Row | None, colour: int, low: float, high: float) -> str:
    """Shares over the logarithm of the value; what it was before as an outline."""
    width, height = 180, 30

    def x(value: float) -> float:
        return (math.log10(max(value, 0.1)) - low) / (high - low) * width

    def tops(of: Row) -> list[tuple[float, float, float]]:
        most = max((share for _, share in of.bars), default=1.0)
        return [(x(value), x(value * 2 ** (1 / STEPS)), height * (1 - share / most)) for value, share in of.bars]

    boxes = [(left, right - 0.5, top, height - top) for left, right, top in tops(one)]
    if not boxes:           # five numbers: the box of the middle half, a line through all
        least, first, middle, third, most = (x(value) for _, value in one.curve)
        boxes = [(least, most, 14, 2), (first, third, 7, 16), (middle, middle, 3, 24)]
    shapes = "".join(f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 1):.1f}" height="{tall:.1f}"/>'
                     for left, right, top, tall in boxes)
    outline = " ".join(f"{left:.1f},{top:.1f} {right:.1f},{top:.1f}" for left, right, top in tops(old)) if old else ""
    before = f'<polyline class="curve old s{colour}" points="{outline}"/>' if outline else ""
    return f'<svg width="{width}" height="{height}" role="img"><g class="f{colour}">{shapes}</g>{before}</svg>'


def _curves(rows: Sequence[Row], old: Mapping[tuple[str, str], Row]) -> str:
    """Value over percentile, the rarer the further right: each step to the right is ten times as rare. As many as there
    are colours."""
    drawn = [*rows, *(old[one.key] for one in rows if one.key in old)]
    low, high = _extent([value for one in drawn for value in (one.min, one.max)])
    width, height, left, bottom = 1000, 300, 64, 24
    nines = max(1.0, *(-math.log10(1 - fraction) for one in rows for fraction, _ in one.curve))
    parts = []

    def x(fraction: float) -> float:
        return round(left - math.log10(1 - fraction) / nines * (width - left - 30), 1)

    def y(value: float) -> float:
        return round((high - math.log10(max(value, 0.1))) / (high - low) * (height - bottom - 8) + 8, 1)

    def line(x1: float, x2: float, y1: float, y2: float, text: str, at: str) -> None:
        parts.append(f'<line class="grid" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/><text {at}>{text}</text>')

    for level in (step * 10.0**decade for decade in range(math.floor(low), math.ceil(high) + 1) for step in (1, 2, 5)):
        if low <= math.log10(level) <= high:
            line(left, width, y(level), y(level), duration(level),
                 f'x="{left - 8}" y="{y(level) + 4}" text-anchor="end"')
    for fraction in (0.0, 0.5, *(1 - 10.0**-n for n in range(1, math.floor(nines) + 1))):
        line(x(fraction), x(fraction), 8, height - bottom, f"{100 * fraction:.6g} %" if fraction else "least",
             f'x="{x(fraction)}" y="{height - 6}" text-anchor="middle"')
    for number, one in enumerate(rows):
        for shown, kind in ((old.get(one.key), "old "), (one, "")):
            if shown is not None:
                points = " ".join(f"{x(fraction)},{y(value)}" for fraction, value in shown.curve)
                parts.append(f'<polyline class="curve {kind}s{number % 6}" points="{points}">'
                             f"<title>{html.escape(one.name)}{', before' if kind else ''}</title></polyline>")
    return (f'<figure><svg viewBox="0 0 {width} {height}" width="100%" role="img">{"".join(parts)}</svg><figcaption>'
            f"How long, by how rare{'; dashed: before' if old else ''}</figcaption></figure>")


def write(out: Path, title: str, sources: Mapping[str, Any], rows: Sequence[Row], against: Path | None) -> list[Path]:
    """The report as `out`.md, .html and .json; ConfigurationError when `against` is no report's JSON."""
    old: dict[tuple[str, str], Row] = {}
    if against is not None:
        try:
            read = json.loads(against.read_text())
            if read["format"] != FORMAT:
                raise ValueError(f"format {read['format']}, this mantra reads {FORMAT}")
            old = {one.key: one for one in (Row(**told) for told in read["rows"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{against} is no report's JSON: {error}") from None
    report = {"format": FORMAT, "title": title, "sources": sources, "against": against and against.name}
    texts = {".md": markdown(report, rows, old), ".html": page(report, rows, old),
             ".json": json.dumps(report | {"rows": [asdict(one) for one in rows]})}
    written = [out.with_name(out.name + suffix) for suffix in texts]
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, text in zip(written, texts.values(), strict=True):
        path.write_text(text, encoding="utf-8")
    return written


@door("latency_report")
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="latency_report", description="One readable report (Markdown, HTML, JSON) of JSON files of "
                    "pytest-benchmark and of a running system, compared with an earlier report.")
    parser.add_argument("benchmarks", nargs="*", type=Path, metavar="BENCHMARKS.json",
                        help="of pytest --benchmark-json, best with --benchmark-save-data")
    parser.add_argument("--run", nargs="?", const="", metavar="NAME", help="watch this run, or the only one there is")
    parser.add_argument("--seconds", type=positive_seconds, default=10.0, metavar="N", help="for so long (%(default)g)")
    parser.add_argument("--against", type=Path, metavar="OLD.json", help="an earlier report's JSON, to compare with")
    parser.add_argument("--out", type=Path, default=Path("latency"), metavar="PATH",
                        help="write PATH.md, PATH.html, PATH.json (%(default)s)")
    parser.add_argument("--title", default="Latency", help="%(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    options = parser.parse_args(argv)
    if not options.benchmarks and options.run is None:
        parser.error("name a JSON file of pytest-benchmark, or --run")
    if options.out.with_name(options.out.name + ".json").resolve() in {
            path.resolve() for path in (*options.benchmarks, options.against or Path()) if path.name}:
        parser.error(f"--out {options.out} would write over what is read: choose another")
    rows: list[Row] = []
    sources: dict[str, Any] = {}
    for path in options.benchmarks:
        found, sources[path.name] = from_benchmarks(path)
        rows += found
    if options.run is not None:
        with Spine.attach(options.run or None) as run:
            rows += from_run(run, options.seconds)
            sources[f"run {run.run}, {options.seconds:g} s"] = this_machine()
    written = write(options.out, options.title, sources, rows, options.against)
    print(f"{len(rows)} distributions: {', '.join(map(str, written))}", file=sys.stderr)
    if options.json:
        print(json.dumps({"rows": len(rows), "written": list(map(str, written))}))
    return 0
