"""What venues list: asked for when it must be, kept, and read again when a venue says nothing."""
from __future__ import annotations

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mantra import venues
from mantra.client.governor import Governor
from mantra.client.listings import YOUNG_S, age, listed, of_all
from mantra.core.clock import Clock
from mantra.errors import MantraError, VenueError
from mantra.venues.venue import Endpoints, Rate


def row(base):
    return {"symbol": f"{base}USDT", "status": "TRADING", "baseAsset": base, "quoteAsset": "USDT", "filters": [
        {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
        {"filterType": "LOT_SIZE", "stepSize": "0.00100000", "minQty": "0.00200000", "maxQty": "9000.00000000"},
        {"filterType": "NOTIONAL", "minNotional": "5.00000000"}]}


class Venue:
    """A venue whose real address is this server; `answer` is (status, headers, bases it lists)."""

    def __init__(self, server):
        address = f"http://127.0.0.1:{server.server_port}"
        self.venue = venues.get("binance", Endpoints("ws://127.0.0.1:1", address))
        self.venue.home = self.venue.endpoints
        self.governor = Governor(Clock.virtual(0), {"rest": (Rate(40, 60.0),)})
        self.answer, self.asked = (200, {}, ["ETH"]), 0


@pytest.fixture
def made():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            made.asked += 1
            status, headers, bases = made.answer
            body = json.dumps({"symbols": [row(base) for base in bases]}).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = Venue(server)
        yield made
        server.shutdown()


def names(answer):
    return [one.base for one in answer.listings]


def make_old(home):
    os.utime(home / "listings" / "binance.jsonl", (0, time.time() - 2 * YOUNG_S))


def test_a_young_list_is_not_asked_for_again(made, tmp_path):
    for _ in range(3):
        assert names(listed(made.venue, made.governor, tmp_path)) == ["ETH"]
    assert made.asked == 1


def test_minimums_come_with_it_and_survive_the_disk(made, tmp_path):
    for _ in range(2):
        one = listed(made.venue, made.governor, tmp_path).listings[0]
        assert (one.min_size, one.min_value) == ("0.002", "5")


def test_an_old_list_serves_while_a_new_one_is_fetched_for_next_time(made, tmp_path):
    listed(made.venue, made.governor, tmp_path)
    make_old(tmp_path)
    made.answer = (200, {}, ["ETH", "BTC"])
    old = listed(made.venue, made.governor, tmp_path)
    assert names(old) == ["ETH"]
    assert age(old.age_s) == "2 days"
    deadline = time.monotonic() + 10
    while names(listed(made.venue, made.governor, tmp_path)) == ["ETH"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_wants_it_fresh_gets_it_or_the_old_one_with_the_reason(made, tmp_path):
    listed(made.venue, made.governor, tmp_path)
    made.answer = (200, {}, ["BTC"])
    assert names(listed(made.venue, made.governor, tmp_path, fresh=True)) == ["BTC"]
    made.answer = (503, {}, [])
    answer = listed(made.venue, made.governor, tmp_path, fresh=True)
    assert names(answer) == ["BTC"]
    assert "HTTP 503" in answer.why


def test_offline_asks_nobody(made, tmp_path):
    with pytest.raises(VenueError, match="ask once without --offline"):
        listed(made.venue, made.governor, tmp_path, offline=True)
    assert made.asked == 0
    listed(made.venue, made.governor, tmp_path)
    assert names(listed(made.venue, made.governor, tmp_path, offline=True)) == ["ETH"]
    assert made.asked == 1


def test_a_list_costs_its_weight_and_a_refusal_blocks_the_others(made, tmp_path):
    listed(made.venue, made.governor, tmp_path)
    assert made.governor.reserve("rest", 21) > 0       # the list was 20 of 40
    made.answer = (429, {"Retry-After": "77"}, [])
    with pytest.raises(VenueError, match="429"):
        listed(venues.get("binance", made.venue.endpoints), made.governor, tmp_path)    # another address: none is kept
    assert made.governor.reserve("rest") > 70


def test_each_venue_answers_for_itself(made, tmp_path):
    def get(venue):
        if venue is None:
            raise MantraError("gone")
        return listed(venue, made.governor, tmp_path)

    answers = of_all({"binance": made.venue, "bitstamp": None}, get)
    assert names(answers["binance"]) == ["ETH"]
    assert str(answers["bitstamp"]) == "gone"
    with pytest.raises(ZeroDivisionError):
        of_all({"binance": made.venue}, lambda _: 1 / 0)
