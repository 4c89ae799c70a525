"""decode_bitfinex: what each frame of the document becomes, whichever way it is spelled, and what does not."""
import json
import zlib

import pytest

from tests.c.decoding import Decoder, Decoding
from tests.data import read

SUBSCRIBED = {"event": "subscribed", "channel": "book", "chanId": 232957, "symbol": "tTESTBTC:TESTUSD", "prec": "P0",
              "freq": "F0", "len": "100", "subId": "b1", "pair": "TESTBTC:TESTUSD"}
TRADES = {"event": "subscribed", "channel": "trades", "chanId": 360141, "symbol": "tBTCUSD", "pair": "BTCUSD"}
SNAPSHOT = [[60400, 1, 0.68826974], [60397, 1, 1.17989099], [60406, 1, -0.68833961], [60409, 2, -10]]
LEVELS = [("bid", 60400_00, 68826974), ("bid", 60397_00, 117989099), ("ask", 60406_00, 68833961),
          ("ask", 60409_00, 10_00000000)]
MS = 1700000000123
SEQ_ALL, BULK = 65536, 536870912


def text(value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def conf(flags, status="OK"):
    return text({"event": "conf", "status": status, "flags": flags})


def connected(*, flags=None, scale=(2, 8)):
    """A decoder whose channels 232957 (book 1) and 360141 (trades of book 0) were acknowledged."""
    decoder = Decoder("bitfinex", ["tBTCUSD", "tTESTBTC:TESTUSD"], [(2, 8), scale])
    if flags is not None:
        assert decoder.decode(conf(flags)).kind is Decoding.CONTROL
    for event in (SUBSCRIBED, TRADES):
        assert decoder.decode(text(event)).kind is Decoding.CONTROL
        assert decoder.state.contents.routed
    return decoder


@pytest.mark.parametrize(("tail", "number", "time"), [
    ([], None, 0), ([15], 15, 0), ([MS], None, MS * 10**6), ([15, MS], 15, MS * 10**6),
])
def test_number_and_time_are_read_from_the_end(tail, number, time):
    decoder = connected()
    for payload, kind, changes in (([SNAPSHOT], Decoding.SNAPSHOT, LEVELS),
                                   ([[60400, 0, 1]], Decoding.DIFF, [("bid", 6040000, 0)]),
                                   ([[60406.5, 3, -7e-7]], Decoding.DIFF, [("ask", 6040650, 70)]),
                                   (["cs", -1175357890], Decoding.CHECKSUM, [])):
        answer = decoder.decode(text([232957, *payload, *tail]))
        assert (answer.kind, answer.book, answer.changes) == (kind, 1, changes)
        assert (answer.number, answer.venue_time_ns) == (number, time)
        assert answer.first == answer.last == (number or 0)
    assert answer.checksum == 2**32 - 1175357890
    for channel in (232957, 360141, 4):
        answer = decoder.decode(text([channel, "hb", *tail]))
        assert (answer.kind, answer.number) == (Decoding.HEARTBEAT, number)
        assert decoder.state.contents.book == (1 if channel == 232957 else 2**32 - 1)


def test_a_trade_is_published_when_it_is_executed_and_not_again():
    decoder, entry = connected(), [1128060969, MS, 0.00325131, 1818.5]
    answer = decoder.decode(text([360141, "te", entry, 9, MS + 1]))
    assert (answer.kind, answer.book, answer.number) == (Decoding.TRADES, 0, 9)
    assert answer.trades == [(1128060969, "buy", 181850, 325131, MS * 10**6)]
    sold = decoder.decode(text([360141, "te", [2, MS, -1e-8, 5]]))
    assert sold.trades == [(2, "sell", 500, 1, MS * 10**6)]
    for payload in (["tu", entry], [[entry, entry]], [[]], ["fte", entry], ["ftu", entry]):
        answer = decoder.decode(text([360141, *payload, 10]))
        assert (answer.kind, answer.number) == (Decoding.IGNORED, 10)


def test_frames_before_their_acknowledgement_are_early_and_heartbeats_are_life():
    decoder = Decoder("bitfinex", ["tTESTBTC:TESTUSD"], [(2, 8)])
    frame = text([232957, SNAPSHOT, 3])
    assert decoder.decode(frame)[0::7] == (Decoding.EARLY, 3)
    assert decoder.decode(text([232957, "cs", 1, 4])).kind is Decoding.EARLY
    assert decoder.decode(text([232957, "hb", 5])).kind is Decoding.HEARTBEAT
    decoder.decode(text(SUBSCRIBED))
    assert decoder.decode(frame).kind is Decoding.SNAPSHOT


@pytest.mark.parametrize(("flags", "second"), [(None, Decoding.SNAPSHOT), (SEQ_ALL, Decoding.SNAPSHOT),
                                               (SEQ_ALL + BULK, Decoding.DIFF)])
def test_in_bulk_only_the_first_list_after_an_acknowledgement_is_a_snapshot(flags, second):
    decoder = connected(flags=flags)
    for _ in range(2):
        decoder.decode(text([232957, "hb", 1]))
        assert decoder.decode(text([232957, SNAPSHOT, 2])).kind is Decoding.SNAPSHOT
        answer = decoder.decode(text([232957, [[60400, 0, 1], [60500, 1, -2]], 3]))
        assert (answer.kind, answer.changes) == (second, [("bid", 6040000, 0), ("ask", 6050000, 2 * 10**8)])
        assert decoder.decode(text([232957, [], 3])).kind is second
        decoder.decode(text(SUBSCRIBED))


def test_in_bulk_a_snapshot_that_could_not_be_read_makes_no_snapshot_of_the_next_update():
    decoder = connected(flags=BULK)
    assert decoder.decode(text([232957, [[60400.001, 1, 1]], 1])).kind is Decoding.FINER
    assert decoder.decode(text([232957, [[60400, 1, 1]], 2])).kind is Decoding.DIFF


def test_an_empty_book_has_an_empty_snapshot():
    answer = connected().decode(b"[232957,[],7]")
    assert (answer.kind, answer.book, answer.changes, answer.number) == (Decoding.SNAPSHOT, 1, [], 7)


def test_a_promised_number_must_be_there():
    decoder = connected(flags=SEQ_ALL)
    for frame in ([232957, SNAPSHOT], [232957, "hb"], [232957, SNAPSHOT, MS], [9, "hb", MS]):
        assert decoder.decode(text(frame)).kind is Decoding.MALFORMED
    decoder.decode(conf(0, "FAILED"))
    assert decoder.decode(text([232957, "hb"])).kind is Decoding.MALFORMED
    decoder.decode(conf(0))
    assert decoder.decode(text([232957, "hb"])).kind is Decoding.HEARTBEAT


def test_a_channel_that_was_subscribed_anew_speaks_alone():
    decoder = connected()
    decoder.decode(text([232957, SNAPSHOT]))
    decoder.decode(text({**SUBSCRIBED, "chanId": 8}))
    assert decoder.decode(text([8, SNAPSHOT])).kind is Decoding.SNAPSHOT
    assert decoder.decode(text([232957, [60400, 0, 1]])).kind is Decoding.IGNORED
    decoder.decode(b'{"event":"unsubscribed","status":"OK","chanId":8}')
    assert decoder.decode(text([8, [60400, 0, 1]])).kind is Decoding.EARLY
    decoder.decode(b'{"event":"unsubscribed","status":"OK","chanId":77}')
    assert decoder.decode(text([360141, "te", [1, MS, 1, 1]])).kind is Decoding.TRADES


def test_the_refusal_of_a_second_subscription_is_the_acknowledgement_of_the_first():
    decoder = Decoder("bitfinex", ["tTESTBTC:TESTUSD"], [(2, 8)])
    duplicate = {**SUBSCRIBED, "event": "error", "code": 10301, "msg": "subscribe: dup"}
    for _ in range(2):
        assert decoder.decode(text(duplicate)).kind is Decoding.CONTROL
        assert decoder.state.contents.route_count == 1
    decoder.decode(conf(BULK))
    assert decoder.decode(text([232957, SNAPSHOT])).kind is Decoding.SNAPSHOT
    decoder.decode(text(duplicate))
    assert decoder.decode(text([232957, SNAPSHOT])).kind is Decoding.DIFF       # it is no new subscription
    for other in ({**duplicate, "code": 10300}, {"event": "error", "code": 10301, "msg": "x"}):
        assert decoder.decode(text({**other, **({"chanId": 9} if "chanId" in other else {})})).kind is Decoding.CONTROL
    assert decoder.state.contents.route_count == 1


def test_there_are_as_many_routes_as_there_is_room_for():
    decoder = connected()
    room = decoder.state.contents.route_capacity
    kinds = [decoder.decode(text({**TRADES, "chanId": number, "symbol": "tX"})).kind for number in range(room)]
    assert kinds == [Decoding.CONTROL] * (room - 2) + [Decoding.TOO_MANY] * 2
    assert decoder.decode(text({**TRADES, "chanId": 0})).kind is Decoding.CONTROL       # one that is routed already


@pytest.mark.parametrize(("event", "frame", "kind"), [
    ({"channel": "ticker", "symbol": "tBTCUSD"},
     [7, [0.068965, 60157.36709703, 0.0774, 48578.50804052, 0.001969, 0.0262, 0.076989, 101459.394, 0.0828, 0.06],
      1], Decoding.IGNORED),
    ({"channel": "ticker", "symbol": "fUST"}, [7, [7.1e-7, None, None]], Decoding.IGNORED),
    ({"channel": "book", "symbol": "fUST", "prec": "P0"}, [7, [0.00020899, 2, 0, 1]], Decoding.IGNORED),
    ({"channel": "book", "symbol": "tBTCUSD", "prec": "P1"}, [7, [1, 2, 3]], Decoding.IGNORED),
    ({"channel": "trades", "symbol": "fUST"}, [7, "fte", [1, MS, 1, 1, 1]], Decoding.IGNORED),
    ({"channel": "candles", "symbol": "tBTCUSD"}, [7, [1]], Decoding.IGNORED),
    ({"channel": "book", "symbol": "tNOPE", "prec": "P0"}, [7, [1, 2, 3]], Decoding.UNKNOWN),
    ({"channel": "trades", "symbol": "tNOPE"}, [7, "te", [1, MS, 1, 1]], Decoding.UNKNOWN),
])
def test_channels_of_no_interest_are_told_from_unknown_symbols(event, frame, kind):
    decoder = connected()
    decoder.decode(text({"event": "subscribed", "chanId": 7, **event}))
    assert decoder.decode(text(frame)).kind is kind


@pytest.mark.parametrize("event", [
    {"event": "info", "version": 2, "serverId": "x", "platform": {"status": 1}},
    {"event": "info", "code": 20060, "msg": "Entering in Maintenance mode."},
    {"event": "error", "msg": "symbol: invalid", "code": 10300, "channel": "book", "symbol": "tNOPEUSD"},
    {"event": "unsubscribed", "status": "OK", "chanId": 1}, {"event": "auth", "status": "FAILED"},
])
def test_events_are_for_the_subscriber(event):
    assert connected().decode(text(event)).kind is Decoding.CONTROL
    assert connected().decode(json.dumps(event, indent=1).encode()).kind is Decoding.CONTROL


@pytest.mark.parametrize("event", [{"event": "info", "version": 2, "platform": {"status": 0}},
                                   {"event": "info", "code": 20060, "msg": "Entering in Maintenance mode."}])
def test_books_that_stand_still_are_not_read(event):
    for flags in (None, 65536):
        decoder = connected()
        decoder.decode(text(event))
        if flags is not None:
            decoder.decode(conf(flags))
        answer = decoder.decode(text([232957, SNAPSHOT, 3]))
        assert (answer.kind, answer.number) == (Decoding.IGNORED, 3)
        assert decoder.decode(text([232957, "cs", 5, 4])).kind is Decoding.IGNORED


def test_a_pong_is_life():
    assert connected().decode(b'{"event":"pong","ts":1654702500098,"cid":1}').kind is Decoding.HEARTBEAT


@pytest.mark.parametrize("event", [{}, {"event": 1}, {"event": "subscribed"}, {**SUBSCRIBED, "chanId": "x"},
                                   {**SUBSCRIBED, "symbol": None}, {**TRADES, "channel": 4},
                                   {"event": "unsubscribed", "chanId": -1}, {"event": "conf", "status": "OK"}])
def test_what_is_no_event_is_malformed(event):
    assert connected().decode(text(event)).kind is Decoding.MALFORMED


@pytest.mark.parametrize("payload", [
    [None], [1], [{}], [[60400]], [[60400, 1]], [[60400, 1, 1, 1]], [[60400, -1, 1]], [[60400, 1.5, 1]],
    [[60400, 1, 0]], [[60400, 0, 0]], [["x", 1, 1]], [[60400, "x", 1]], [[60400, 1, None]],
    [[[60400, 1]]], [[[60400, 1, 1], 5]],
    [[60400, 1, 1], 5, 6, 7], ["cs", 2**31], ["cs", -2**31 - 1], ["cs", "x"], ["cs", 1.5], ["cs", None],
])
def test_what_is_no_book_is_malformed_but_its_number_counts(payload):
    decoder = connected()
    answer = decoder.decode(text([232957, *payload, 5]))
    assert answer.kind is Decoding.MALFORMED
    assert answer.number in (5, None)
    assert len(payload) > 1 or (answer.number, decoder.state.contents.book) == (5, 1)


@pytest.mark.parametrize("entry", [None, [], [1], [1, MS, 1], [-1, MS, 1, 1], [1, MS, 1, 0], [1, MS, 1, -1],
                                   [1, "x", 1, 1], [1, MS, "x", 1], [1, MS, 1, 1, 1], [[1, MS, 1, 1]]])
def test_what_is_no_trade_is_malformed(entry):
    answer = connected().decode(text([360141, "te", entry, 5]))
    assert (answer.kind, answer.number) == (Decoding.MALFORMED, 5)


@pytest.mark.parametrize("frame", [
    [], [232957], ["x", []], [None, []], [-1, "hb"], [1.5, "hb"], [232957, "hb", None], [232957, "hb", "x"],
    [232957, "hb", 1, 2, 3], [232957, "hb", -1], [232957, "hb", 1.5], [232957, "hb", 1, 2**64 - 1], [2**64, "hb"],
    "x", 1, None,
])
def test_what_is_no_frame_is_malformed(frame):
    answer = connected().decode(text(frame))
    assert (answer.kind, answer.number) == (Decoding.MALFORMED, None)


@pytest.mark.parametrize("level", [[60400.001, 1, 1], [60400, 1, 1e-9], [60400, 1, -1e30], [1e30, 1, 1]])
def test_what_the_scale_can_not_hold_is_finer_and_its_number_counts(level):
    decoder = connected()
    for payload in (level, [[60400, 1, 1], level, [60399, 1, 1]]):
        answer = decoder.decode(text([232957, payload, 5]))
        assert (answer.kind, answer.number, decoder.state.contents.book) == (Decoding.FINER, 5, 1)


def test_a_finer_number_in_broken_text_is_malformed_not_finer():
    for broken in (b"[232957,[[60400.001,1,1],5]", b"[232957,[60400.001,1,01],5]", b"[232957,[60400.001,,1],5]",
                   b"[232957,[60400.001,1,1],5]]", b"[8,[1,,2],5]", b'[8,["\x01"],5]'):
        answer = connected().decode(broken)
        assert (answer.kind, answer.number) == (Decoding.MALFORMED, None)


def test_levels_that_nobody_can_trade_at_are_left_out():
    decoder = connected()
    answer = decoder.decode(text([232957, [[0, 1, 1], [60400, 1, 1], [-5, 1, -1]]]))
    assert (answer.kind, answer.changes) == (Decoding.SNAPSHOT, [("bid", 6040000, 10**8)])
    assert decoder.state.contents.unpriced == 2


@pytest.mark.parametrize("frame", [[232957, SNAPSHOT, 1, MS], [232957, [60400, 1, -2.5], 1, MS], [232957, "hb", 1],
                                   [360141, "te", [1, MS, -1.5, 2], 3], [360141, "tu", [1, MS, -1.5, 2], 3],
                                   [232957, "cs", -3, 4], [5, [[]], 4]])
def test_no_truncation_or_trailing_text_is_accepted_and_white_space_changes_nothing(frame):
    message, decoder = text(frame), connected()
    expected = decoder.decode(message)
    assert connected().decode(b" \n" + json.dumps(frame, indent=3).encode() + b"\t ") == expected
    for size in range(len(message)):
        assert connected().decode(message[:size]).kind is Decoding.MALFORMED
    for more in (b"]", b"[]", b"x", b"\x00", b",", message):
        assert connected().decode(message + more).kind is Decoding.MALFORMED


def test_more_levels_than_there_is_room_for_are_too_many():
    answer = connected().decode(text([232957, [[1, 1, 1]] * 70000, 5]))
    assert (answer.kind, answer.number) == (Decoding.TOO_MANY, 5)


@pytest.mark.parametrize(("answer", "kind", "changes"), [
    (SNAPSHOT, Decoding.IMAGE, LEVELS), ([], Decoding.IMAGE, []), ([1, 2, 3], Decoding.MALFORMED, []),
    (["error", 10020, "symbol: invalid"], Decoding.MALFORMED, []), ({}, Decoding.MALFORMED, []),
    ([[60400.001, 1, 1]], Decoding.FINER, []), ([[1, 1, 1, 1]], Decoding.MALFORMED, []),
])
def test_a_rest_book_is_an_image(answer, kind, changes):
    decoded = Decoder("bitfinex", ["tX", "tY"], [(0, 0), (2, 8)]).decode_snapshot(text(answer), 1)
    assert (decoded.kind, decoded.changes) == (kind, changes)
    assert Decoder("bitfinex", ["tX"], [(0, 0)]).decode_snapshot(b"[[1,1,1]", 0).kind is Decoding.MALFORMED


BIDS = ("[0.0000011,13,271510.49],[0.00000109,4,500793.10790141],[0.00000108,5,776367.43],"
        "[0.00000107,1,23329.54842056],[0.00000106,3,116868.87735849],[0.00000105,3,205000],"
        "[0.00000103,3,227308.25386407],[0.00000102,2,105000],[0.00000101,1,2970],[0.000001,2,21000],[7e-7,1,10000],"
        "[6.6e-7,1,10000],[6e-7,1,100000],[4.9e-7,1,10000],[2.5e-7,1,2000],[6e-8,1,100000],[5e-8,1,200000],"
        "[1e-8,4,640000]")
ASKS = ("[0.00000111,1,-4847.13],[0.00000112,7,-528102.69042633],[0.00000113,5,-302397.07],"
        "[0.00000114,3,-339088.93],[0.00000126,4,-245944.06],[0.00000127,1,-5000],[0.0000013,1,-5000],"
        "[0.00000134,1,-8249.18938656],[0.00000136,1,-13161.25184766],[0.00000145,1,-2914],[0.0000015,3,-54448.5],"
        "[0.00000152,2,-5538.54849594],[0.00000153,1,-62691.75475079],[0.00000159,1,-2914],"
        "[0.0000016,1,-52631.10296831],[0.00000164,1,-4000],[0.00000166,1,-3831.46784605],"
        "[0.00000171,1,-14575.17730379],[0.00000174,1,-3124.81815395],[0.0000018,1,-18000],[0.00000182,1,-16000],"
        "[0.00000186,1,-4000],[0.00000189,1,-10000.686624],[0.00000191,1,-14500],[0.00000193,1,-2422]")


def checksum_of(frames, scale=(8, 8)):
    """The book that these messages of one channel make, and its checksum."""
    decoder, levels = Decoder("bitfinex", ["tXRPBTC"], [scale]), {}
    for frame in frames:
        number = json.loads(frame)[0]
        if decoder.state.contents.route_count == 0:
            decoder.decode(text({**SUBSCRIBED, "chanId": number, "symbol": "tXRPBTC"}))
        answer = decoder.decode(frame)
        if answer.kind is Decoding.CHECKSUM:
            return decoder.checksum(0, [(side, price, size) for (side, price), size in levels.items()]), answer.checksum
        if answer.kind is Decoding.SNAPSHOT:
            levels.clear()
        levels.update({(side, price): size for side, price, size in answer.changes})
        levels = {key: size for key, size in levels.items() if size}
    raise AssertionError("no checksum among them")


@pytest.mark.parametrize("scale", [(8, 8), (10, 9), (12, 8)])
def test_the_captured_checksum_holds_on_any_scale(scale):
    ours, venues = checksum_of([f"[81757,[{BIDS},{ASKS}]]".encode(), b"[81757,[0.0000011,12,266122.94]]",
                                b'[81757,"cs",-1175357890]'], scale)
    assert ours == venues == 2**32 - 1175357890


def test_the_checksums_of_the_vectors_hold():
    rows = [json.loads(row) for row in read("checksum-vectors/checksums.jsonl").splitlines() if b"bitfinex" in row]
    assert len(rows) == 2
    for row in rows:
        frames = [frame.encode() for frame in row["frames"]]
        ours, venues = checksum_of([*frames, text([123, "cs", row["checksum_signed"]])])
        assert ours == venues


def test_a_book_of_few_levels_or_none_has_a_checksum():
    decoder = Decoder("bitfinex", ["tX"], [(8, 8)])
    assert decoder.checksum(0, []) == 0
    assert decoder.checksum(0, [("ask", 7 * 10**8, 70)]) == zlib.crc32(b"7:-7e-7")
