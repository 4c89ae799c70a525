"""Messages: one field table in C; objects, dtypes and layouts agree with it."""
import pickle

import numpy as np
import pytest

from mantra.core import messages
from mantra.core.messages import (
    DTYPES,
    FINGERPRINTS,
    LAYOUTS,
    TYPES,
    ActorRow,
    ActorState,
    InstrumentRow,
    Kind,
    Reason,
    Side,
    Timing,
    Top,
    Trade,
    Trust,
    Update,
    World,
    format_at,
    format_of,
)
from mantra.errors import LayoutMismatch


@pytest.mark.parametrize("name", TYPES)
def test_an_object_reads_what_numpy_reads_of_the_same_bytes(name):
    kind, dtype = TYPES[name], DTYPES[name]
    data = np.random.default_rng(1).integers(0, 256, dtype.itemsize, np.uint8).tobytes()
    row, message = np.frombuffer(data, dtype)[0], kind.from_bytes(data)
    assert message.to_bytes() == bytes(message) == data
    for field in dtype.names:
        value = getattr(message, field)
        if not isinstance(value, str):
            assert (list(value) if isinstance(value, tuple) else value) == row[field].tolist()
    assert message.publisher == int(row["published"]) & 0xFFFF
    assert message.published_cycles == (int(row["origin"]) + (int(row["published"]) >> 16)) % 2**64


@pytest.mark.parametrize("name", TYPES)
def test_a_format_is_found_by_name_and_type_and_its_slot_is_whole_cache_lines(name):
    form = format_of(name)
    assert form is format_of(TYPES[name])
    assert form.slot_bytes == DTYPES[name].itemsize + 8
    assert form.slot_bytes % 64 == 0
    assert (form.layout, form.fingerprint) == (LAYOUTS[name], FINGERPRINTS[name])
    assert len(set(FINGERPRINTS.values())) == len(FINGERPRINTS)
    assert form.flags_offset == (DTYPES[name].fields["flags"][1] if "flags" in DTYPES[name].names else 0)


def test_an_unknown_message_or_another_layout_is_refused_with_both_sides():
    with pytest.raises(ValueError, match="there are update, trade, order, top, world"):
        format_of("rumour")
    with pytest.raises(LayoutMismatch, match=r"holds \[update 48: old\] .* this program has \[update 56: origin"):
        format_at("r", "update 48: old", 1)
    with pytest.raises(LayoutMismatch, match="no such message"):
        format_at("r", "rumour 56: x", 1)


def test_objects_are_made_from_names_and_what_is_not_named_is_zero():
    update = Update(price=-5, size=7, kind=Kind.ASK, sequence=2**64 - 1, trust=Trust.VERIFIED, flags=1)
    assert (update.price, update.size, update.kind, update.sequence) == (-5, 7, Kind.ASK, 2**64 - 1)
    assert (update.venue, update.origin, update.more) == (0, 0, True)
    assert update == Update.from_bytes(update.to_bytes())
    assert update != Update()
    assert update != Trade.from_bytes(update.to_bytes())
    assert pickle.loads(pickle.dumps(update)) == update


def test_levels_are_as_many_as_the_counts_say():
    top = Top(bid_price=[9, 8], bid_size=[1, 2], bid_count=2, ask_price=[11], ask_size=[3], ask_count=1)
    assert (top.bids, top.asks) == ([(9, 1), (8, 2)], [(11, 3)])
    world = World(bid_price=[12], bid_size=[1], bid_venues=[0b10], bid_count=1, trust=[4, 3, 0], reason=[0, 0, 0, 8],
                  trust_since_s=[1_700_000_000, 0, 0, 7])
    assert (world.bids, world.asks, world.spread, world.trust[:3]) == ([(12, 1, 2)], [], None, (4, 3, 0))
    assert world.books == [(0, 4, 0, 1_700_000_000), (1, 3, 0, 0), (3, 0, 8, 7)]
    assert World(bid_price=[12], bid_count=1, ask_price=[11], ask_count=1).spread == -1
    assert Top(bid_count=65535).bids == [(0, 0)] * messages.DEPTH     # foreign counts read no further than the arrays


def test_reprs_say_what_a_person_wants_to_know():
    assert repr(Update(price=5, size=2, kind=Kind.BID, trust=4, sequence=9, flags=1)) == (
        "<Update instrument 0 venue 0 BID 2 @ 5 sequence 9 VERIFIED more>")
    assert "BUY 2 @ 5" in repr(Trade(price=5, size=2, side=Side.BUY))
    assert "SUSPECT GAP" in repr(Top(trust=Trust.SUSPECT, reason=Reason.GAP))
    assert "BTC-USD" in repr(InstrumentRow(name="BTC-USD", instrument=3))
    assert "position 7 count 1: waited 4, busy 2 cycles" in repr(
        Timing(origin=5, published=3 << 16, consumed=12, busy=2, position=7, count=1))
    actor = ActorRow(number=512, name="world", kind="bbo", identity=77 << 42 | 1, core=-1, state=ActorState.RUNNING)
    assert repr(actor) == "<ActorRow 512 world bbo pid 77 RUNNING>"
    assert "99" in repr(Update(kind=99))     # not a known kind: shown, not hidden
    assert "<World" in repr(World())


@pytest.mark.parametrize(("fields", "error"), [
    ({"cost": 1}, TypeError),
    ({"venue": 256}, OverflowError),
    ({"venue": -1}, OverflowError),
    ({"price": 2**63}, OverflowError),
])
def test_what_does_not_fit_a_field_is_an_error(fields, error):
    with pytest.raises(error):
        Update(**fields)


def test_too_many_levels_or_bytes_are_an_error():
    with pytest.raises(ValueError, match=r"11 values for Top\.bid_price, which holds 10"):
        Top(bid_price=range(11))
    with pytest.raises(ValueError, match="57 bytes for a message of 56"):
        Update.from_bytes(bytes(57))
    with pytest.raises(ValueError, match="33 values"):
        InstrumentRow(name="x" * 33)
