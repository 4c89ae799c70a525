"""app: the timekeeper's screen, in textual. What it shows is board's; here are time, keys and the mouse."""
from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import replace

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from mantra.telemetry import board
from mantra.telemetry.collector import Collector
from mantra.telemetry.lineage import Lineage, choices


class Board(Widget):
    """Lines of text; only those that changed are drawn again, so nothing flickers and little is written."""

    DEFAULT_CSS = "Board { width: 100%; height: 100%; }"

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[Text] = []

    def show(self, lines: Sequence[Text]) -> None:
        before, self._lines = self._lines, list(lines)
        blank = Text()
        for y in range(max(len(before), len(lines))):
            old, new = (rows[y] if y < len(rows) else blank for rows in (before, self._lines))
            if old != new or old.spans != new.spans:
                self.refresh(Region(0, y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        text = self._lines[y] if y < len(self._lines) else Text()
        return Strip(text.render(self.app.console)).adjust_cell_length(self.size.width)


class Timekeeper(App[str]):
    """Show what `collector` sees, for `duration` seconds if given; returns a line to say, None when its user left."""

    ENABLE_COMMAND_PALETTE = False

    def __init__(self, collector: Collector, interval: float, message: str = "",
                 duration: float | None = None) -> None:
        super().__init__(ansi_color=True)       # the terminal's own colours, as in the other screens
        self.collector = collector
        self.interval, self.duration = interval, duration
        self.choice = board.Choice(lineage=message)
        self.lineage = Lineage(collector, message) if message else None
        self.view = collector.snapshot()

    def compose(self) -> ComposeResult:
        yield Board()

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.exit)
        self.set_interval(self.interval, self.look)
        if self.duration is not None:
            self.set_timer(self.duration, self.exit)
        self.poll()

    def poll(self) -> None:
        """Drain the rings, as often as they need it."""
        self.collector.poll()
        if self.lineage is not None:
            self.lineage.poll()
        self.set_timer(self.collector.pace, self.poll)

    def look(self) -> None:
        """Take the picture anew, unless it is paused."""
        if not self.collector.alive:
            self.exit(f"run {self.collector.run.run} has ended")
        elif not self.choice.paused:
            self.view = self.collector.snapshot()
            self.draw()

    def draw(self) -> None:
        followed = self.lineage.view() if self.lineage is not None else None
        self.query_one(Board).show(board.screen(self.view, self.choice, followed, self.size.width, self.size.height))

    def choose_lineage(self, message: str) -> None:
        """Follow another message, or none."""
        if message != (self.lineage.message if self.lineage else ""):
            self.collector.follow = None
            self.lineage = Lineage(self.collector, message) if message else None

    def on_resize(self, _: events.Resize) -> None:
        self.call_after_refresh(self.draw)

    def on_key(self, event: events.Key) -> None:
        event.stop()
        if event.key == "ctrl+c" or (event.key in ("q", "Q") and not self.choice.typing):
            self.exit()
            return
        if event.key == "r" and not self.choice.typing:
            self.collector.reset()
            if self.lineage is not None:
                self.lineage.reset()
            self.view = self.collector.snapshot()
        self.choice = board.press(self.choice, self.view, event.key, event.character or "", choices(self.collector))
        self.choose_lineage(self.choice.lineage)
        self.draw()

    def on_mouse_scroll_down(self) -> None:
        self.choice = board.press(self.choice, self.view, "down")
        self.draw()

    def on_mouse_scroll_up(self) -> None:
        self.choice = board.press(self.choice, self.view, "up")
        self.draw()

    def action_sort(self, section: str, column: str) -> None:
        """A column's name was clicked on."""
        self.choice = board.order(self.choice, section, column)
        self.draw()

    def action_choose(self, section: str, name: str) -> None:
        """A row was clicked on."""
        self.choice = replace(self.choice, section=section, name=name)
        self.draw()
