"""Scales: whatever venues list and print, what is chosen holds it."""
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from mantra.venues.instrument import MARGIN, ObservedScale, listed_scale
from mantra.venues.venue import Listing

steps = st.integers(0, 9).map(lambda decimals: f"{Decimal(1).scaleb(-decimals):f}")
largest = st.integers(1, 10**11).map(str)


def listing(tick, lot, most):
    return Listing("v", "XY", "X", "Y", tick, lot, most, "TRADING", True)


@given(st.lists(st.tuples(steps, steps, largest | st.just("")), min_size=1, max_size=4))
def test_every_increment_is_whole_and_listed_sizes_have_room_where_increments_leave_it(rows):
    price, size = listed_scale(listing(*row) for row in rows)
    finest = max(-Decimal(lot).adjusted() for _, lot, _ in rows)
    for tick, lot, most in rows:
        assert Decimal(tick).scaleb(price) % 1 == 0
        assert Decimal(lot).scaleb(size) % 1 == 0
        if most and size > finest:      # more decimals than needed were given: then with room to spare
            assert Decimal(most).scaleb(size + MARGIN) < 2**63


numbers = st.decimals(min_value=Decimal("1e-8"), max_value=10**8, places=8).map(lambda number: f"{number:f}")


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20))
def test_what_was_observed_fits_exactly(levels):
    seen = ObservedScale()
    for price, size in levels:
        seen.level(price, size)
    for level in levels:
        for text, decimals in zip(level, seen.scale(), strict=True):
            assert Decimal(text).scaleb(decimals) % 1 == 0
            assert Decimal(text).scaleb(decimals) < 2**63
