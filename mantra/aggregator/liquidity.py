"""liquidity: what all venues together offer at each of the best prices."""
from __future__ import annotations

from mantra.aggregator.aggregator import Aggregator


class Liquidity(Aggregator):
    """World views of one level per price: sizes summed over venues, with the venues that stand behind each."""

    summed = True
