"""bbo: the best levels of all venues, each still that venue's own; the larger first at equal price."""
from __future__ import annotations

from mantra.aggregator.aggregator import Aggregator


class Bbo(Aggregator):
    """World views whose every level stands at one venue. Venues may cross each other; nothing is corrected."""
