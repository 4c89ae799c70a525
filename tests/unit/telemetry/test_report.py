"""latency_report: what it tells of distributions is so, and pages are whole, whatever they are made of."""
from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from mantra.core.histogram import Histogram
from mantra.runtime.spine import Spine
from mantra.telemetry import report

BENCH = '''
import random
import pytest

@pytest.mark.benchmark(group="sort <fast> & slow")
@pytest.mark.parametrize("size", [10, 1000])
def test_sort(benchmark, size):
    benchmark.pedantic(sorted, ([random.random() for _ in range(size)],), rounds=300)
'''


def rows(values, name="a", scale=1.0):
    """The row of these nanoseconds, recorded in a histogram."""
    histogram = Histogram.create()
    for value in values:
        histogram.record(int(value * scale))
    row, = report.from_histogram("group", name, histogram, 10.0)
    return row


def walk(seed, count=20_000):
    random_ = random.Random(seed)
    return [1000 * random_.lognormvariate(0, 0.5) for _ in range(count)]


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    """Two JSON files of pytest-benchmark: with all rounds, and with five numbers of them."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "test_bench.py").write_text(BENCH)
    whole = folder / "whole.json"
    alone = {name: value for name, value in os.environ.items() if "XDIST" not in name}      # no worker of it
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--benchmark-json={whole}",
                    "test_bench.py"], cwd=folder, check=True, capture_output=True, env=alone)
    read = json.loads(whole.read_text())
    for bench in read["benchmarks"]:
        del bench["stats"]["data"]
    (folder / "short.json").write_text(json.dumps(read))
    return folder


def parts(out):
    """Its JSON, its Markdown and its page, which is XML too."""
    text = Path(f"{out}.html").read_text()
    return (json.loads(Path(f"{out}.json").read_text()), Path(f"{out}.md").read_text(),
            ElementTree.fromstring(text.replace("<!DOCTYPE html>", "")))


def test_percentiles_are_those_of_the_values_and_intervals_hold_the_truth():
    inside = 0
    for seed in range(40):
        values = sorted(walk(seed, 2000))
        row = rows(values)
        assert row.count == 2000
        assert row.rate == 200.0
        for key, fraction in report.SHOWN.items():
            assert getattr(row, key) == pytest.approx(values[math.ceil(fraction * 2000) - 1], rel=0.002), key
        assert sum(share for _, share in row.bars) == pytest.approx(1)
        assert [fraction for fraction, _ in row.curve] == sorted(fraction for fraction, _ in row.curve)
        low, high = row.intervals["p50"]
        inside += low <= 1000 <= high       # the median of what they were drawn from
    assert inside >= 34, "95 % of intervals hold it"


def test_what_too_few_values_cannot_tell_is_not_told():
    row = rows([100, 200, 300])
    assert (row.p50, row.p90, row.p99, row.p999) == (200, None, None, None)
    assert set(row.intervals) == {"p50"}


def test_a_change_is_one_only_beyond_noise():
    first = rows(walk(1))
    for scale, verdict in ((1.0, "same"), (1.03, "same"), (1.3, "worse"), (0.7, "better")):
        change = report.compare(rows(walk(2), scale=scale), first, "p50")
        assert change.verdict == verdict
        assert change.change == pytest.approx(scale - 1, abs=0.03)
    few = report.compare(rows(walk(3, 5), scale=1.3), rows(walk(4, 5)), "p50")
    assert few.verdict == "same", "five values tell nothing"
    assert few.noise > 0.2
    assert report.compare(rows([1, 2, 3]), first, "p99") is None


@pytest.mark.parametrize("which", ["whole", "short"])
def test_benchmarks_become_a_page_that_needs_nothing_else(benchmarks, tmp_path, which):
    out = tmp_path / "sub" / "report"
    assert report.main([str(benchmarks / f"{which}.json"), "--out", str(out), "--title", "A & <B>"]) == 0
    said, text, page = parts(out)
    assert [row["name"] for row in said["rows"]] == ["test_sort[10]", "test_sort[1000]"]
    assert all(0 < row["min"] <= row["p50"] <= row["max"] for row in said["rows"])
    assert (said["rows"][0]["p99"] is None) == (which == "short")
    assert "## sort <fast> & slow" in text
    assert text.count("\n| test_sort[") == 2
    everything = ElementTree.tostring(page, encoding="unicode")
    assert not re.search(r"(src|href)=|url\(|@import", everything)
    space = "{http://www.w3.org/1999/xhtml}"
    assert page.find(f".//{space}h1").text == "A & <B>"
    assert len(page.findall(f".//{space}polyline/{space}title")) == 2
    numbers = [float(number) for line in page.iter(f"{space}polyline")
               for number in re.findall(r"-?[\d.]+", line.get("points"))]
    assert numbers
    assert np.isfinite(numbers).all()
    assert -1 <= min(numbers) <= max(numbers) <= 1001, "inside the picture"


def test_a_report_is_compared_with_an_earlier_one(benchmarks, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    assert report.main([str(benchmarks / "whole.json"), "--out", str(old)]) == 0
    read = json.loads(Path(f"{old}.json").read_text())
    for key in ("p50", "p99"):
        read["rows"][0][key] /= 2
        read["rows"][0]["intervals"][key] = [value / 2 for value in read["rows"][0]["intervals"][key]]
    read["rows"][1]["name"] = "another"
    Path(f"{old}.json").write_text(json.dumps(read))
    assert report.main([str(benchmarks / "whole.json"), "--out", str(new), "--against", f"{old}.json"]) == 0
    _, text, page = parts(new)
    assert "▲ +100 %" in text
    worse = [cell.text for cell in page.iter() if cell.get("class") == "worse" and cell.tag.endswith("td")]
    assert worse[0].startswith("▲ +100 %"), "and p99, of 300 rounds, where its interval is apart, too"
    assert [line for line in page.iter() if line.get("class") == "curve old s0" and len(line)], "dashed: before"


def test_a_running_system_is_watched_and_reported(tmp_path, capsys):
    run = f"test-report-{os.getpid()}"
    with Spine.create(run) as spine:
        histogram, timer, over = spine.histogram("socket_to_top.binance.0"), spine.timer("fit"), threading.Event()
        histogram.record(10**9)         # before anybody looked: not of this report

        def work():
            while not over.is_set():
                histogram.record(5_000)
                timer.record(70_000)
                time.sleep(0.001)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            assert report.main(["--run", run, "--seconds", "0.5", "--out", str(tmp_path / "live"), "--json"]) == 0
        finally:
            over.set()
            worker.join()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == 2
    said, *_ = parts(tmp_path / "live")
    found = {(row["group"], row["name"]): row for row in said["rows"]}
    assert set(found) == {("socket to top", "binance.0"), ("timers", "user.fit")}
    assert found["socket to top", "binance.0"]["max"] == pytest.approx(5_000, rel=0.001)
    assert said["sources"][f"run {run}, 0.5 s"]["cores"]


def test_a_run_that_ends_while_it_is_watched_is_one_line_and_no_report(tmp_path, capsys):
    run = f"test-report-ends-{os.getpid()}"
    with Spine.create(run) as spine:
        threading.Timer(0.2, spine.close).start()
        assert report.main(["--run", run, "--seconds", "3", "--out", str(tmp_path / "report")]) == 1
    assert capsys.readouterr().err == f"latency_report: run {run} ended while it was watched\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("arguments", "says"), [
    (["{folder}/none.json"], "no JSON of"), (["{folder}/test_bench.py"], "no JSON of pytest-benchmark"),
    (["{folder}/whole.json", "--against", "{folder}/whole.json"], "no report's JSON"),
    (["--run", "no-such-run"], "no run")])
def test_what_cannot_be_read_is_one_line_and_exit_code_2(benchmarks, tmp_path, capsys, arguments, says):
    out = tmp_path / "report"
    assert report.main([*(argument.format(folder=benchmarks) for argument in arguments), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_nothing_that_is_read_is_written_over(benchmarks, capsys):
    before = (benchmarks / "whole.json").read_bytes()
    for arguments in (["whole.json", "--out", "whole"], ["whole.json", "--against", "short.json", "--out", "short"]):
        with pytest.raises(SystemExit) as ended:
            report.main([argument if "-" in argument else str(benchmarks / argument) for argument in arguments])
        assert ended.value.code == 2
    assert (benchmarks / "whole.json").read_bytes() == before


def test_the_script_says_how_it_is_used():
    script = Path(__file__).parents[3] / "scripts" / "latency_report"
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    assert "--against" in done.stdout
    assert subprocess.run([sys.executable, str(script)], capture_output=True).returncode == 2
