"""Subscribing by frames: paced, acknowledged or asked again, and asked for anew on a new connection."""
from __future__ import annotations

import pytest

from mantra import venues
from mantra.client.governor import Governor
from mantra.core.clock import Clock
from mantra.errors import ConfigurationError
from mantra.subscriber.subscriber import subscriber
from mantra.subscriber.websocket import TRIES
from mantra.venues.venue import Acknowledged, Endpoints, Rate, Refused


class Wire:
    """A subscriber, and what it has sent."""

    def __init__(self, rates=(), symbols=("ethbtc", "btcusd"), venue="bitstamp", works=True):
        self.clock, self.sent, self.works = Clock.virtual(10**18), [], works
        self.venue = venues.get(venue)
        governor = Governor(self.clock, {"send": rates})
        self.subscriber = subscriber(self.venue, symbols, "book", True, governor, self.clock)
        self.subscriber.begin()

    def pump(self):
        return self.subscriber.pump(self.send)

    def send(self, text):
        self.sent.append(text)
        return self.works

    def acknowledge(self, *channels):
        text = '{"event":"bts:subscription_succeeded","channel":"%s","data":{}}'
        return [self.subscriber.control((text % channel).encode()) for channel in channels]

    def refuse(self, channel):
        return self.subscriber.control(
            f'{{"event":"bts:error","channel":"{channel}","data":{{"message":"no"}}}}'.encode())

    def wait(self):
        """Until what was not acknowledged is asked for again."""
        self.clock.advance(int(self.venue.answer_s * 1e9))
        self.sent.clear()
        return self.pump()

    @property
    def asked(self):
        return [channel for text in self.sent for channel in CHANNELS if channel in text]


CHANNELS = ["diff_order_book_ethbtc", "live_trades_ethbtc", "diff_order_book_btcusd", "live_trades_btcusd"]


def test_everything_is_asked_for_and_granted_when_all_is_acknowledged():
    wire = Wire()
    wire.pump()
    assert wire.asked == CHANNELS
    for channel in CHANNELS:
        assert not wire.subscriber.granted
        assert wire.acknowledge(channel) == [Acknowledged((channel,))]
    assert wire.subscriber.granted
    assert wire.pump() is None


def test_frames_wait_for_their_turn():
    wire = Wire([Rate(3, 1.0)])
    wait = wire.pump()
    assert (len(wire.sent), wire.subscriber.sent) == (3, False)
    assert 0 < wait <= 1.0
    wire.clock.advance(10**9)
    wire.pump()
    assert (len(wire.sent), wire.subscriber.sent) == (4, True)


@pytest.mark.parametrize("lost", CHANNELS)
def test_one_channel_that_is_not_acknowledged_in_time_is_asked_for_again_alone(lost):
    wire = Wire()
    assert wire.pump() == pytest.approx(wire.venue.answer_s)
    wire.acknowledge(*[channel for channel in CHANNELS if channel != lost])
    for _ in range(TRIES - 1):
        assert wire.subscriber.missing() == []
        assert wire.wait() == pytest.approx(wire.venue.answer_s)
        assert wire.asked == [lost]
    assert wire.wait() == 0.0
    assert wire.asked == []
    assert wire.subscriber.missing() == [lost]
    wire.acknowledge(lost)
    assert (wire.subscriber.missing(), wire.subscriber.granted) == ([], True)


def test_what_a_venue_does_not_tell_apart_is_missing_at_once():
    wire = Wire(symbols=[f"COIN{n}USDT" for n in range(200)], venue="binance")
    wire.pump()
    asked = [str(number) for number in range(1, len(wire.sent) + 1)]
    assert len(asked) > 3
    wire.subscriber.control(b'{"result":null,"id":2}')
    wire.wait()
    assert wire.sent == []
    assert wire.subscriber.missing() == sorted({*asked} - {"2"})


def test_what_is_refused_is_not_waited_for():
    wire = Wire(symbols=("ethbtc",))
    wire.pump()
    assert wire.refuse("live_trades_ethbtc") == Refused("no", ("live_trades_ethbtc",))
    wire.acknowledge("diff_order_book_ethbtc")
    assert wire.subscriber.granted
    wire.wait()
    assert (wire.sent, wire.subscriber.missing()) == ([], [])


def test_a_book_that_came_needs_no_acknowledgement():
    wire = Wire(symbols=("ethbtc",))
    wire.pump()
    wire.acknowledge("live_trades_ethbtc")
    wire.subscriber.proven(["ethbtc"])
    assert wire.subscriber.granted


def test_a_renewal_asks_for_books_and_for_no_trades():
    wire = Wire()
    wire.pump()
    wire.acknowledge(*CHANNELS)
    wire.sent.clear()
    wire.subscriber.renew(["btcusd"])
    assert not wire.subscriber.sent
    wire.pump()
    assert wire.asked == ["diff_order_book_btcusd"]
    assert wire.subscriber.granted      # what comes will tell


def test_a_renewal_does_not_say_again_how_a_connection_begins():
    wire = Wire(symbols=("tBTCUSD",), venue="bitfinex")
    wire.pump()
    assert sum('"conf"' in text for text in wire.sent) == 1
    wire.sent.clear()
    wire.subscriber.renew(["tBTCUSD"])
    wire.pump()
    assert [text for text in wire.sent if '"channel":"book"' in text] == wire.sent != []


def test_a_transport_that_failed_is_asked_no_more_and_a_new_one_everything_again():
    wire = Wire(works=False)
    assert wire.pump() is None
    assert len(wire.sent) == 1
    wire.sent.clear()
    wire.works = True
    wire.subscriber.begin()
    wire.pump()
    assert wire.asked == CHANNELS


def test_another_asks_for_the_same():
    wire = Wire()
    other = wire.subscriber.another(wire.venue, Governor(wire.clock, {}))
    other.begin()
    other.pump(wire.send)
    assert wire.asked == CHANNELS
    assert not wire.subscriber.sent


def test_a_venue_whose_url_says_it_all_has_granted_at_once():
    wire = Wire(symbols=("ETHBTC",), venue="binance")
    assert wire.pump() is None
    assert wire.subscriber.granted
    assert wire.sent == []
    assert "ethbtc@depth@100ms/ethbtc@trade" in wire.subscriber.url()


def test_a_scheme_that_nobody_speaks_is_refused():
    venue = venues.get("binance", Endpoints("fix://nowhere", "http://nowhere"))
    with pytest.raises(ConfigurationError, match="no subscriber for the scheme 'fix'"):
        subscriber(venue, ["ETHBTC"], "book", False, Governor(Clock.virtual(0), {}), Clock.virtual(0))
