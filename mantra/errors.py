"""errors: every exception that mantra raises on purpose.

Each is one line that says what is wrong and what to change. `exit_code` is what a door of the command line exits with.
"""
from __future__ import annotations


class MantraError(Exception):
    """Base of all of mantra's own exceptions."""

    exit_code = 1


class ConfigurationError(MantraError):
    """A setting, an option or a topology is wrong: nothing was started."""

    exit_code = 2


class UnknownSymbol(ConfigurationError):
    """A venue does not list what was asked for; the text suggests what it does list."""


class LayoutMismatch(MantraError):
    """A shared-memory region was made by another layout, version or message than this program has."""


class RegionError(MantraError):
    """A shared-memory region could not be made or opened."""


class Lapped(MantraError):
    """A consumer was overtaken by its producer; `lost` messages were overwritten before it read them."""

    def __init__(self, lost: int) -> None:
        super().__init__(f"lapped: {lost} messages were overwritten before they were read")
        self.lost = lost


class ArchiveError(MantraError):
    """A recording is damaged, or of a version this program does not know; the text says which file and where."""


class VenueError(MantraError):
    """A venue refused or answered something that cannot be used."""


class ConnectError(VenueError):
    """A connection could not be made (name, route, certificate, handshake, refusal). `retry_after`: what the venue
    said of when to come back, having been asked too much; None: it was not that."""

    retry_after: str | None = None


class Closed(MantraError):
    """The connection, feed or run this call needs has been closed."""
