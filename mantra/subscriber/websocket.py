"""websocket: subscribes by text frames, paced, and awaits the acknowledgements."""
from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mantra.client.governor import Governor
from mantra.core.clock import Clock
from mantra.subscriber.subscriber import PROTOCOLS, Send, Subscriber
from mantra.venues.venue import Acknowledged, Control, Mode, Refused, Venue

GRANT_WITHIN_S = 15.0      # the slowest venue seen took 11 s after 21 quick requests


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
        self._send: Send | None = None
        self._texts: deque[str] = deque()
        self._awaited: set[str] = set()
        self._asked_at = 0

    def url(self) -> str:
        return self.venue.url(self.symbols, self.mode, self.trades)

    def begin(self, send: Send) -> None:
        self._send = send
        self._texts = deque(self.venue.subscribe_texts(self.symbols, self.mode, self.trades))
        self._awaited = set(self.venue.expected_acks(self.symbols, self.mode, self.trades))
        self._asked_at = self._clock.cycles()

    def pump(self) -> float | None:
        while self._texts:
            wait = self._governor.reserve("send")
            if wait > 0:
                return wait
            if self._send is None or not self._send(self._texts.popleft()):
                return None                     # the transport failed: its feed will say so
            self._asked_at = self._clock.cycles()
        if self._awaited:
            return max(0.0, GRANT_WITHIN_S - self._waited())
        return None

    def control(self, text: bytes) -> Control:
        answer = self.venue.control(text)
        if isinstance(answer, Acknowledged | Refused):
            self._awaited.difference_update(answer.keys)
        return answer

    @property
    def granted(self) -> bool:
        return not self._texts and not self._awaited

    def missing(self) -> list[str]:
        if self._texts or self._waited() < GRANT_WITHIN_S:
            return []
        return sorted(self._awaited)

    def _waited(self) -> float:
        return self._clock.ns(self._clock.cycles() - self._asked_at) / 1e9


PROTOCOLS.update(ws=WebSocketSubscriber, wss=WebSocketSubscriber)
