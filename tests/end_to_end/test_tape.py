"""The tape of a session, told to the feeds again, says whether what was kept of it is true, and names what is not;
served over sockets, it leads other feeds to the same books."""
import json
import subprocess
import sys
import time
from urllib.request import urlopen

import numpy as np
import pytest

import mantra
from mantra import replay
from mantra.archive import proof
from mantra.client.rerun import Rerun
from mantra.core.messages import Kind, Trust
from mantra.core.pack import Packer, unpack
from mantra.tape import raw
from mantra.tape.segment import SegmentReader, SegmentWriter, files
from tests.end_to_end.simulated import Child

VENUES = ["binance", "bitfinex", "bitstamp", "coinbase", "kraken"]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A few seconds of the simulated five, kept both ways."""
    folder = tmp_path_factory.mktemp("session")
    done = subprocess.run([sys.executable, "-m", "mantra", "capture", "--simulated", "--raw", "--out", str(folder),
                           "--duration", "4", "--json"], check=True, capture_output=True, timeout=60)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["lost"] == 0
    assert told["streams"]["raw"]["written"] > 500
    return folder


def proven(kept, tape):
    found = proof.Proof([kept], tape)
    for _ in found.run():
        pass
    return found.result()


def altered(session, folder, change):
    """A copy of the session, each body of which is what `change(stream, body)` makes of it."""
    (path,) = session.glob("*.mantra")
    with SegmentReader(path) as reader, SegmentWriter(folder / path.name, reader.table.told()) as writer:
        for record in reader.blocks():
            stream = reader.table.streams[record.stream]
            body = change(stream, reader.body(record))
            writer.block(record.stream, body, record.messages, record.first_ns, record.last_ns)
    return folder


def updates(change):
    """A change of one update of the session's, in the middle of a block."""
    done = []

    def changed(stream, body):
        if stream.name != "updates" or done:
            return body
        block, packer = unpack("update", body), Packer("update")
        bids = np.flatnonzero((block.messages["kind"] == Kind.BID) & (block.messages["size"] > 0))
        if len(bids) < 200:
            return body
        at = int(bids[-100])
        done.append((block.messages[at].copy(), int(block.positions[at])))
        keep = change(block.messages, at)
        images = iter([*block.images, None])
        image = next(images)
        for i in range(len(block.messages)):
            while image is not None and image.before <= i:
                packer.image(image.feed, image.image)
                image = next(images)
            if keep or i != at:
                packer.add(int(block.feeds[i]), block.messages[i:i + 1], int(block.positions[i]))
        return packer.pack()
    return changed, done


def test_what_was_kept_is_what_the_tape_leads_to(session):
    result = proven(session, session)
    assert result["first_difference"] is None
    assert result["equal"]
    assert result["problems"] == []
    assert result["digest"] == result["rerun_digest"]
    assert sorted({name.partition(".")[0] for name in result["feeds"]}) == VENUES
    assert result["books"] >= len(result["feeds"])
    for row in result["feeds"].values():
        assert row["holes"] == row["updates"]["only_kept"] == 0
        assert row["updates"]["compared"] > 50


def test_one_lot_more_in_one_update_is_found_and_named(session, tmp_path):
    def more(messages, at):
        messages["size"][at] += 1
        return True

    change, done = updates(more)
    result = proven(altered(session, tmp_path, change), session)
    (was, position), difference = done[0], result["first_difference"]
    assert not result["equal"]
    assert result["digest"] != result["rerun_digest"]
    assert difference["what"] == "bytes in updates"
    assert (difference["position"], difference["origin"]) == (position, was["origin"])
    assert (difference["ran"], difference["kept"]) == (f"size {was['size']}", f"size {was['size'] + 1}")


def test_a_missing_update_is_found_and_named(session, tmp_path):
    change, done = updates(lambda messages, at: False)
    result = proven(altered(session, tmp_path, change), session)
    position, difference = done[0][1], result["first_difference"]
    assert not result["equal"]
    assert (difference["what"], difference["position"]) == ("missing in updates", position)
    assert (difference["ran"], difference["kept"]) == ("there", "-")


def test_another_digit_in_one_frame_is_found_and_named(session, tmp_path):
    done = []

    def change(stream, body):
        if stream.name != "raw" or done:
            return body
        block, packer = raw.unpack(body), raw.RawPacker()
        texts = block.texts.copy()
        for i in range(len(block.records)):
            end, size = int(block.ends[i]), int(block.records["size"][i])
            text = block.text(i)
            if not done and i > len(block.records) // 2 and text.startswith(b'{"stream"') and b'"a":[["' in text:
                digit = end - size + text.index(b'"a":[["') + 7
                texts[digit] = ord("9") if texts[digit] != ord("9") else ord("1")
                done.append(int(block.records["origin"][i]))
            packer.add(int(block.feeds[i]), block.records[i:i + 1], texts[end - size:end])
        return packer.pack()

    result = proven(session, altered(session, tmp_path, change))
    difference = result["first_difference"]
    assert not result["equal"]
    assert difference["feed"] == "binance.0"
    assert difference["origin"] == done[0]
    assert difference["ran"] != difference["kept"]


def test_a_damaged_block_of_the_tape_is_said_and_all_else_compared(session, tmp_path, capsys):
    (path,) = session.glob("*.mantra")
    text = bytearray(path.read_bytes())
    with SegmentReader(path) as reader:
        record = reader.blocks("raw")[0]
    text[record.offset + 60] ^= 1
    (tmp_path / path.name).write_bytes(text)
    assert proof.against([session], tmp_path, True) == 1
    result = json.loads(capsys.readouterr().out)
    assert any("damaged" in problem for problem in result["problems"])
    assert result["first_difference"] is None


def test_a_tape_is_wanted(session, tmp_path, capsys):
    (path,) = session.glob("*.mantra")
    with SegmentReader(path) as reader, SegmentWriter(tmp_path / path.name, reader.table.told()) as writer:
        for record in reader.blocks("updates"):
            writer.block(record.stream, reader.body(record), record.messages, record.first_ns, record.last_ns)
    with pytest.raises(proof.ArchiveError, match="capture with --raw"):
        proof.Proof([session], tmp_path)


def books_of(session):
    """{(venue, symbol): levels} when the session ended, as its tape has it; and UTC ns of its first and last frame."""
    rerun, times = Rerun(), []
    for table, block in raw.blocks(files([session])):
        rerun.tell(block, table.feeds)
        times += table.utc(block.records["origin"][block.records["kind"] == raw.Kind.MESSAGE]).tolist()
    images = {(feed.what["venue"], row["symbol"]): book.image() for feed in rerun.feeds.values()
              for row, book in zip(feed.what["books"], feed.feed.books, strict=True)}
    return {key: (image.bids.tolist(), image.asks.tolist()) for key, image in images.items()}, min(times), max(times)


@pytest.mark.parametrize("speed", [0, 2])
def test_feeds_of_a_tape_over_real_sockets_come_to_the_same_books(session, tmp_path, speed):
    books, first_ns, last_ns = books_of(session)
    with Child("--recording", str(session), "--speed", str(speed)) as venues:
        assert sorted(venues.endpoints) == VENUES
        with mantra.start(VENUES, ("all",), endpoints=venues.path, home=tmp_path) as system:
            began, ended = {}, {}
            while len(ended) < len(VENUES):
                assert system.failure() is None
                for venue, told in venues.endpoints.items():
                    with urlopen(f"{told['rest']}/simulator/state") as answer:
                        state = json.load(answer)
                    if state["played"]:
                        began.setdefault(venue, time.monotonic())
                    if state["played"] == state["of"]:
                        ended.setdefault(venue, time.monotonic())
                assert not began or time.monotonic() - min(began.values()) < 30
                time.sleep(0.05)
            if speed:
                assert max(ended.values()) - min(began.values()) > 0.8 * (last_ns - first_ns) / 1e9 / speed
            deadline = time.monotonic() + 15        # a second look at Bitstamp's books takes its time
            while (wrong := [key for key, levels in books.items() if not held(system.book(*key).image(), levels)]) and (
                    time.monotonic() < deadline):
                time.sleep(0.05)
            assert wrong == []


def held(image, levels):
    return image.trust >= Trust.UNVERIFIED and (image.bids.tolist(), image.asks.tolist()) == levels


@pytest.mark.parametrize("venue", VENUES)
def test_feeds_told_again_count_and_keep_what_was_kept(session, venue, capsys):
    assert replay.main(["--venue", venue, str(session), "--books", "--json"]) == 0
    told, archive = json.loads(capsys.readouterr().out), mantra.archive.open(session)
    assert told["updates"] == len(archive.updates(venue).array())
    assert told["trades"] == len(archive.trades(venue).array())
    assert told["frames"] == told["messages"] > 0
    assert told["malformed"] == 0
    books, _, _ = books_of(session)
    assert {symbol: [len(book["bids"]), len(book["asks"])] for symbol, book in told["books"].items()} == {
        symbol: list(map(len, levels)) for (of, symbol), levels in books.items() if of == venue}


@pytest.mark.parametrize("seed", range(12))
def test_a_rerun_says_what_it_does_not_understand_and_goes_on(session, seed):
    dice, rerun = np.random.default_rng(seed), Rerun()
    for table, block in raw.blocks(files([session])):
        for field, most in (("kind", 18), ("book", 5), ("argument", 256)):
            block.records[field][dice.integers(0, len(block.records), 20)] = dice.integers(0, most, 20)
        texts = block.texts.copy()
        texts[dice.integers(0, max(len(texts) - 64, 1), 200)] = dice.integers(32, 127, 200)     # the last may have none
        rerun.tell(block._replace(texts=texts), table.feeds)
    assert rerun.feeds


def test_records_of_a_tape_are_by_time_and_whole_whatever_is_damaged(session, tmp_path):
    (path,) = session.glob("*.mantra")
    found = {venue: list(raw.records([path], venue)) for venue in VENUES}
    for records in found.values():
        times = [record.time_ns for record in records]
        assert times == sorted(times)
        assert records[0].kind == "open"
    text = bytearray(path.read_bytes())
    with SegmentReader(path) as reader:
        blocks = reader.blocks("raw")
    text[blocks[-1].offset + 70] ^= 1
    (tmp_path / path.name).write_bytes(text[:-100])         # its index is gone, too, as if its writer had been killed
    for venue in VENUES:
        less, whole = ([record for record in records if record.kind == "message"]
                       for records in (raw.records([tmp_path / path.name], venue), found[venue]))
        assert less == whole[:len(less)]
        assert len(less) < len(whole)
