"""Somebody between a venue and its books: frames that are no frames, messages that are no messages, REST answers that
are no books, refused handshakes. As in test_failures, what is claimed to be right is compared with the venue's book.
"""
from __future__ import annotations

import json
import urllib.request
from contextlib import contextmanager

import pytest

from mantra.core.messages import Reason, Trust
from tests.end_to_end.feeds import DOWN, NAMES, SYNCHRONISING, Feeds, Fleet, until
from tests.end_to_end.proxy import Proxy, frame
from tests.end_to_end.simulated import Child


@contextmanager
def proxied(name, **settings):
    with Child("--venues", name, "--instruments", "eth-btc", "--unlimited") as child:
        proxy = Proxy(child.endpoints[name])
        feeds = Feeds({name: proxy.endpoints}, (name,), **settings)
        try:
            with feeds:
                yield proxy, feeds.settle()
        finally:
            proxy.close()


@pytest.fixture(scope="module", params=NAMES)
def between(request):
    """(name, proxy, two runs behind it)"""
    name = request.param
    with proxied(name) as (proxy, threads), Feeds({name: proxy.endpoints}, (name,), reader="poller") as poller:
        poller.settle()
        yield name, proxy, Fleet(None, [threads, poller])


@pytest.mark.parametrize("text", [b"{", b"not json", b'{"data":{"microtimestamp":"1","bids":[["1"]]}}', b"\xff\xfe"])
def test_a_malformed_message_is_counted_and_leaves_no_wrong_book(between, text):
    name, proxy, fleet = between
    sees = [(Trust.SUSPECT, Reason.MALFORMED)] if name == "bitstamp" else []    # losses there have no numbers
    fleet.strike(name, lambda one: proxy.slip(frame(text)), sees, ["malformed"])


@pytest.mark.parametrize("data", [
    frame(b"{}", mask=True), frame(b"{}", first=0xC1), frame(b"{}", first=0x83), b"\x81\x7f" + b"\xff" * 8,
], ids=["masked", "reserved bit", "unknown opcode", "absurd length"])
def test_what_is_no_websocket_ends_the_connection(between, data):
    name, proxy, fleet = between
    fleet.strike(name, lambda one: proxy.slip(data), [DOWN], ["protocol_errors", "reconnects"])


@pytest.mark.parametrize("status", [403, 503])
def test_a_refused_handshake_is_tried_again_later(between, status):
    name, proxy, fleet = between

    def refuse(one):
        proxy.refuse = status
        one.ask(name, "/simulator/now?cut=1", True)
        until(lambda: all(run.count(name, "refused") > was for run, was in refused.items()), "it is refused")
        proxy.refuse = None

    refused = {run: run.count(name, "refused") for run in fleet.feeds}
    fleet.strike(name, refuse, [DOWN], ["refused", "reconnects"])


ANSWERS = {
    "refusals": [b"503 No\r\nContent-Length: 0\r\n\r\n", b"418 No\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\n{}",
                 b"429 No\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}"],
    "rubbish": [b"200 OK\r\nContent-Length: 12\r\n\r\n<html>what?<", b"200 OK\r\nContent-Length: 0\r\n\r\n",
                b'200 OK\r\nContent-Length: 11\r\n\r\n{"code":-1}'],
    "less than HTTP": [b'200 OK\r\nContent-Length: 1000\r\n\r\n{"lastUpdateId":1,"bids":[', b"", b"\r\n\r\n"],
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_snapshot_that_cannot_be_had_is_asked_for_again(between, kind):
    name, proxy, fleet = between
    answers = ANSWERS[kind]
    asked = []

    def rest(path):
        if "order_book" in path or "depth" in path:         # not what the judge asks the simulator
            asked.append(path)
            if len(asked) <= len(answers):
                return answers[len(asked) - 1]
        return None

    def refuse(one):
        proxy.rest = rest
        one.ask(name, "/simulator/now?cut=1", True)
        until(lambda: len(asked) > len(answers), "it asks again")

    fleet.strike(name, refuse, [DOWN, SYNCHRONISING], ["reconnects"])
    proxy.rest = lambda path: None


def ghost(proxy, path):
    """The venue's answer, right sequence and all, but without the forty best levels of each side."""
    with urllib.request.urlopen(proxy.behind + path, timeout=60) as answer:
        book = json.load(answer)
    body = json.dumps(book | {side: book[side][40:] for side in ("bids", "asks")}).encode()
    return b"200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_without_its_best_levels_is_found_out_by_a_second_look(name):
    def generation():
        return feeds.book(name).image(1).generation

    def rest(path):
        """Wrong until a wrong one was loaded, however many were too old before it."""
        whole = "order_book" in path or "limit=5000" in path
        return ghost(proxy, path) if whole and generation() == before else None

    with proxied(name) as (proxy, feeds):
        before = generation()
        proxy.rest = rest
        mark = feeds.mark(name)
        feeds.ask(name, "/simulator/now?cut=1", True)
        until(lambda: generation() > before + 1, "it takes the book anew")
        feeds.heals(name)
        if name == "binance":
            assert (Trust.SUSPECT, Reason.CHECKSUM) in feeds.seen(name, mark)
            assert feeds.count(name, "resyncs") > 0


@pytest.mark.parametrize("name", NAMES)
def test_text_finer_than_the_scale_opens_a_generation(name):
    with proxied(name) as (proxy, feeds):
        before = feeds.book(name).image(1).instrument
        finer = ["0.0428500000001", "0.0"]
        until(lambda: b"bids" in proxy.last or b"depthUpdate" in proxy.last, "a diff")
        diff = json.loads(proxy.last)
        data = diff["data"]
        data.update({"b": [finer], "a": []} if name == "binance" else {"bids": [finer], "asks": []})
        mark = feeds.mark(name)
        proxy.slip(frame(json.dumps(diff).encode()))
        until(lambda: (Trust.SUSPECT, Reason.SCALE) in feeds.seen(name, mark), lambda: feeds.seen(name, mark))
        feeds.heals(name)
        image = feeds.book(name).image(1)
        assert image.instrument != before
        known = {row.id: row for row in feeds.system.spine.instruments()}
        assert known[image.instrument].generation == known[before].generation + 1
        assert known[image.instrument].price_decimals == 13
        assert feeds.count(name, "finer") >= 1
