"""websocket: subscribes by text frames, paced, and awaits the acknowledgements."""
from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from mantra.client.governor import Governor
from mantra.core.clock import Clock
from mantra.subscriber.subscriber import PROTOCOLS, Send, Subscriber
from mantra.venues.venue import Acknowledged, Control, Mode, Refused, Venue

TRIES = 3       # of one channel, before its connection is given up
NOT_SENT = float("inf")


class WebSocketSubscriber(Subscriber):
    """Feeds of `symbols` at `venue` in `mode`, with trades if asked, on one connection."""

    def __init__(self, venue: Venue, symbols: Sequence[str], mode: Mode, trades: bool, governor: Governor,
                 clock: Clock) -> None:
        self.venue = venue
        self.symbols = list(symbols)
        self.mode: Mode = mode
        self.trades = trades
        self._governor = governor
        self._clock = clock
        self._texts: deque[str] = deque()
        self._awaited: dict[str, float] = {}        # since when, seconds
        self._tries: Counter[str] = Counter()

    def another(self, venue: Venue, governor: Governor) -> WebSocketSubscriber:
        return WebSocketSubscriber(venue, self.symbols, self.mode, self.trades, governor, self._clock)

    def url(self) -> str:
        return self.venue.url(self.symbols, self.mode, self.trades)

    def begin(self) -> None:
        self._texts.clear()
        self._awaited.clear()
        self._tries.clear()
        self._ask(self.venue.subscribe_texts(self.symbols, self.mode, self.trades),
                  self.venue.expected_acks(self.symbols, self.mode, self.trades))

    def renew(self, symbols: Sequence[str]) -> None:
        said = self.venue.subscribe_texts([], self.mode, False)     # how a connection begins is not said again
        self._texts.extend(self.venue.unsubscribe_texts(symbols, self.mode))
        self._ask([text for text in self.venue.subscribe_texts(symbols, self.mode, False) if text not in said],
                  self.venue.expected_acks(symbols, self.mode, False) - self.venue.expected_acks([], self.mode, False))
        self.proven(symbols)        # their snapshots will tell

    def _ask(self, texts: Sequence[str], keys: frozenset[str]) -> None:
        self._texts.extend(texts)
        self._tries.update(keys)
        self._awaited.update(dict.fromkeys(keys, NOT_SENT))

    def pump(self, send: Send) -> float | None:
        now = self._clock.seconds()
        if overdue := {key for key, since in self._awaited.items() if now - since >= self.venue.answer_s}:
            self._ask_again({key for key in overdue if self._tries[key] < TRIES})
        while self._texts:
            if (wait := self._governor.reserve("send")) > 0:
                return wait
            if not send(self._texts[0]):
                return None                         # the transport failed: its feed will say so
            self._texts.popleft()
        for key, since in self._awaited.items():
            if since == NOT_SENT:
                self._awaited[key] = now
        if self._awaited:
            return max(0.0, min(self._awaited.values()) + self.venue.answer_s - now)
        return None

    def _ask_again(self, lost: set[str]) -> None:
        """Ask for the channels whose acknowledgements are lost, where the venue tells them apart."""
        texts, found = list[str](), set[str]()
        for symbol in self.symbols if lost else ():
            told: list[str] = []
            for trades in (False, True)[:1 + self.trades]:
                keys = lost & self.venue.expected_acks([symbol], self.mode, trades) - found
                asking = [text for text in self.venue.subscribe_texts([symbol], self.mode, trades) if text not in told]
                told += asking
                texts += asking if keys else []
                found |= keys
        self._ask(texts, frozenset(found))
        self._tries.update(dict.fromkeys(lost - found, TRIES))

    def control(self, text: bytes) -> Control:
        answer = self.venue.control(text)
        if isinstance(answer, Acknowledged | Refused):
            for key in answer.keys:
                self._awaited.pop(key, None)
        return answer

    def proven(self, symbols: Sequence[str]) -> None:
        for key in self.venue.expected_acks(symbols, self.mode, False):
            self._awaited.pop(key, None)

    @property
    def sent(self) -> bool:
        return not self._texts

    @property
    def granted(self) -> bool:
        return not self._texts and not self._awaited

    def missing(self) -> list[str]:
        now = self._clock.seconds()
        return sorted(key for key, since in self._awaited.items()
                      if now - since >= self.venue.answer_s and self._tries[key] >= TRIES)


PROTOCOLS.update(ws=WebSocketSubscriber, wss=WebSocketSubscriber)
