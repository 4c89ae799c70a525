"""mantra live --metrics: scraped by several, badly and well, while it runs; it neither notices nor minds."""
from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mantra.core.region import Region
from mantra.runtime.spine import Spine
from mantra.telemetry.doctor import needed
from tests.end_to_end.feeds import until
from tests.end_to_end.simulated import Child
from tests.end_to_end.test_live import Live, processes, simulated


def scrape(address):
    """{sample: {label values in the order of the labels' names: value}}"""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(dict(sorted(sample.labels.items())).values())] = sample.value
    return found


@pytest.fixture(scope="module")
def child():
    with Child("--venues", "binance,bitstamp", "--instruments", "eth-btc") as child:
        yield child


@pytest.fixture
def live(child, tmp_path):
    with Live(tmp_path, *simulated(child.path), "--metrics", "127.0.0.1:0") as live:
        live.started()
        line = next(line for line in live.lines if "metrics on" in line)
        live.address = line.partition("metrics on ")[2].partition(";")[0]
        yield live


def test_a_scrape_tells_what_the_run_counts(live):
    until(lambda: scrape(live.address)["mantra_feed_messages_total"]["bitstamp.0", "bitstamp"] > 10, "it is heard")
    until(lambda: scrape(live.address)["mantra_book_trust"]["ETH-BTC", "binance"] == 4, "its book is verified")
    with Spine.attach(live.run) as run:
        before = {row.name: row.counts() for row in run.ledger.rows()}
        told = scrape(live.address)
        after = {row.name: row.counts() for row in run.ledger.rows()}
    for name, venue in (("binance.0", "binance"), ("bitstamp.0", "bitstamp")):
        for counter in ("messages", "updates", "frames", "connects"):
            value = told[f"mantra_feed_{counter}_total"][name, venue]
            assert before[name][counter] <= value <= after[name][counter]
    assert told["mantra_latency_seconds_count"]["binance.0", "socket_to_top"] > 0
    assert told["mantra_actor_processing_seconds_count"]["binance.0",] > 0
    assert told["mantra_queue_produced_total"]["top", "tops.binance.0"] > 0


def test_scrapers_that_come_at_once_stay_silent_or_vanish_do_no_harm(live):
    host, port = live.address.rsplit(":", 1)
    quiet = socket.create_connection((host, int(port)))             # never asks
    for request in (b"GET /met", b"GET /metrics HTTP/1.1\r\n\r\n", b"\0\xff" * 5000, b"POST / HTTP/1.0\r\n\r\n"):
        for _ in range(5):
            with socket.create_connection((host, int(port))) as gone:
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")       # closes with a reset
                gone.sendall(request)
    answers = []
    at_once = [threading.Thread(target=lambda: answers.append(scrape(live.address))) for _ in range(4)]
    for thread in at_once:
        thread.start()
    for thread in at_once:
        thread.join(60)
    assert len(answers) == 4
    assert all(answer["mantra_run_info"] for answer in answers)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://{live.address}/else")
    quiet.close()
    assert not any("Traceback" in line for line in live.lines), live.lines
    live.ends(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_goes_on_without_its_metrics_and_says_so(live, number):
    service, = (pid for pid, command in processes().items() if f"telemetry.metrics --run {live.run} " in command)
    os.kill(service, number)
    until(lambda: any("the run goes on" in line for line in live.lines), "it is told")
    assert live.process.poll() is None
    live.ends(signal.SIGINT)


def test_the_room_that_doctor_reckons_is_what_a_run_takes(live):
    until(lambda: len([info for info in Region.list(f"{live.run}.") if info.kind == "book"]) == 2, "its books are made")
    taken = sum(info.size for info in Region.list(f"{live.run}."))
    assert 0.8 * taken < needed(2, instruments=1) < 1.25 * taken


def test_a_port_that_is_taken_is_fatal_when_named_and_moved_on_from_when_not(child, live, tmp_path):
    with Live(tmp_path, *simulated(child.path), "--metrics", live.address) as other:
        line = other.refuses()
        assert f"cannot listen on {live.address}" in line
        assert "--metrics HOST:PORT" in line
    with Live(tmp_path, *simulated(child.path), "--metrics") as first, \
            Live(tmp_path, *simulated(child.path), "--metrics") as second:
        assert scrape_of(first)["mantra_run_info"] != scrape_of(second)["mantra_run_info"]


def scrape_of(live):
    line = next(line for line in live.started().lines if "metrics on" in line)
    return scrape(line.partition("metrics on ")[2].partition(";")[0])


def test_it_may_be_started_from_outside_killed_and_ends_with_the_run(live):
    def outside():
        process = subprocess.Popen([sys.executable, "-m", "mantra.telemetry.metrics", "--run", live.run,
                                    "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
        return process, process.stderr.readline().rpartition(" ")[2].strip()

    process, address = outside()
    assert [run for _, run in scrape(address)["mantra_run_info"]] == [live.run]
    process.kill()
    process.communicate()
    assert scrape(live.address)["mantra_run_info"]
    process, address = outside()
    live.ends(signal.SIGTERM)
    assert process.wait(60) == 0
    process.communicate()
