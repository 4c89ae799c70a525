"""Subscribing by frames: paced, acknowledged or missed, and asked for anew on a new connection."""
from __future__ import annotations

import pytest

from mantra import venues
from mantra.client.governor import Governor
from mantra.core.clock import Clock
from mantra.errors import ConfigurationError
from mantra.subscriber.subscriber import subscriber
from mantra.subscriber.websocket import GRANT_WITHIN_S
from mantra.venues.venue import Acknowledged, Endpoints, Rate, Refused


def made(rates=(), symbols=("ethbtc", "btcusd"), venue="bitstamp"):
    clock = Clock.virtual(10**18)
    return subscriber(venues.get(venue), symbols, "book", True, Governor(clock, {"send": rates}), clock), clock


def acknowledgement(channel):
    return f'{{"event":"bts:subscription_succeeded","channel":"{channel}","data":{{}}}}'.encode()


CHANNELS = ["diff_order_book_ethbtc", "live_trades_ethbtc", "diff_order_book_btcusd", "live_trades_btcusd"]


def test_everything_is_asked_for_and_granted_when_all_is_acknowledged():
    subscription, _ = made()
    sent = []
    subscription.begin(lambda text: sent.append(text) or True)
    subscription.pump()
    assert [channel for channel in CHANNELS if any(channel in text for text in sent)] == CHANNELS
    for channel in CHANNELS:
        assert not subscription.granted
        assert subscription.control(acknowledgement(channel)) == Acknowledged((channel,))
    assert subscription.granted
    assert subscription.pump() is None


def test_frames_wait_for_their_turn():
    subscription, clock = made([Rate(3, 1.0)])
    sent = []
    subscription.begin(lambda text: sent.append(text) or True)
    wait = subscription.pump()
    assert len(sent) == 3
    assert 0 < wait <= 1.0
    clock.advance(10**9)
    subscription.pump()
    assert len(sent) == 4


def test_what_is_not_acknowledged_in_time_is_missing():
    subscription, clock = made()
    subscription.begin(lambda text: True)
    assert subscription.pump() == pytest.approx(GRANT_WITHIN_S)
    for channel in CHANNELS[1:]:
        subscription.control(acknowledgement(channel))
    assert subscription.missing() == []
    clock.advance(int(GRANT_WITHIN_S * 1e9))
    assert subscription.missing() == CHANNELS[:1]
    assert subscription.pump() == 0.0


def test_what_is_refused_is_not_waited_for():
    subscription, clock = made(symbols=("ethbtc",))
    subscription.begin(lambda text: True)
    subscription.pump()
    refusal = subscription.control(b'{"event":"bts:error","channel":"live_trades_ethbtc","data":{"message":"no"}}')
    assert refusal == Refused("no", ("live_trades_ethbtc",))
    subscription.control(acknowledgement("diff_order_book_ethbtc"))
    assert subscription.granted
    clock.advance(int(GRANT_WITHIN_S * 1e9))
    assert subscription.missing() == []


def test_a_transport_that_failed_is_asked_no_more_and_a_new_one_everything_again():
    subscription, _ = made()
    asked = []
    subscription.begin(lambda text: bool(asked.append(text)))
    assert subscription.pump() is None
    assert len(asked) == 1
    sent = []
    subscription.begin(lambda text: sent.append(text) or True)
    subscription.pump()
    assert len(sent) == 4


def test_a_venue_whose_url_says_it_all_has_granted_at_once():
    subscription, _ = made(symbols=("ETHBTC",), venue="binance")
    subscription.begin(lambda text: pytest.fail("nothing is sent"))
    assert subscription.pump() is None
    assert subscription.granted
    assert "ethbtc@depth@100ms/ethbtc@trade" in subscription.url()


def test_a_scheme_that_nobody_speaks_is_refused():
    venue = venues.get("binance", Endpoints("fix://nowhere", "http://nowhere"))
    with pytest.raises(ConfigurationError, match="no subscriber for the scheme 'fix'"):
        subscriber(venue, ["ETHBTC"], "book", False, Governor(Clock.virtual(0), {}), Clock.virtual(0))
