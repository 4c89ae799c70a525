"""Line formats: what each recording holds, in the order it was received."""
import gzip
from collections import Counter

import pytest
import zstandard

from mantra.errors import ConfigurationError
from mantra.tape.lines import Record, files, read
from tests.data import data


def test_every_kind_of_cryptofeed_line(tmp_path):
    path = tmp_path / "BITSTAMP.ws.1.0"
    path.write_bytes(b'configuration: {"trades":[]}\n'
                     b"wss://ws.bitstamp.net/ <-> 1641343690.598303\n"
                     b'wss://ws.bitstamp.net/ <- 1641343691.067583: {"event": "x: y"}\n'
                     b'1641343697.4: {"data":1}\n'
                     b'https://www.bitstamp.net/api/v2/order_book/ethusd -> 1641343697.4000001: {"bids": []}\r\n'
                     b"\n")
    assert list(read([path])) == [
        Record(1641343690598303000, "open", b"", "wss://ws.bitstamp.net/"),
        Record(1641343691067583000, "sent", b'{"event": "x: y"}', "wss://ws.bitstamp.net/"),
        Record(1641343697400000000, "message", b'{"data":1}'),
        Record(1641343697400000100, "rest", b'{"bids": []}', "https://www.bitstamp.net/api/v2/order_book/ethusd"),
    ]


def test_hftbacktest_lines_in_every_unit(tmp_path):
    path = tmp_path / "btcusdt"
    path.write_bytes(b'1723161253937085768 {"stream":"a"}\n1723161253937086 {"lastUpdateId":1}\n')
    assert list(read([path])) == [Record(1723161253937085768, "message", b'{"stream":"a"}'),
                                  Record(1723161253937086000, "rest", b'{"lastUpdateId":1}')]


def test_plain_frames_have_no_time_and_files_of_them_follow_each_other(tmp_path):
    (tmp_path / "a").write_bytes(b"{1}\n[2]\n")
    (tmp_path / "b").write_bytes(b"{3}")
    assert [record.text for record in read([tmp_path / "b", tmp_path / "a"])] == [b"{3}", b"{1}", b"[2]"]


def test_depthcharge_lines_say_who_sent_a_frame(tmp_path):
    path = tmp_path / "kraken.ndjson"
    path.write_bytes(b'{"captured_at": "2026", "url": "wss://x"}\n'
                     b'{"rx_ns": 42889692105400, "dir": "tx", "frame": {"method":"subscribe"}}\n'
                     b'{"rx_ns": 42889692520900, "frame": {"channel":"status","qty":0.10}}\n')
    assert list(read([path])) == [Record(0, "sent", b'{"method":"subscribe"}'),
                                  Record(0, "message", b'{"channel":"status","qty":0.10}')]
    path.write_bytes(path.read_bytes().replace(b'"2026"', b'"1970-01-01T01:00:00.5+01:00"'))
    assert [record.time_ns for record in read([path])] == [500_000_000, 500_415_500]


def test_gzip_is_read_as_zstd_is_and_damage_names_the_file_and_line(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"1600000001: {1}\n" * 2))
    assert [record.text for record in read([path])] == [b"{1}"] * 2
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ConfigurationError, match=r"a\.gz:\d: not gzip, or damaged"):
        list(read([path]))


@pytest.mark.parametrize("line", [
    b'{"t":"recv","x":1}', b'{"t":"recv","ts":1e9,"data":5}', b'{"t":"recv","ts":NaN,"data":"{}"}',
    b"9999999999999999999: {}", b"9999999999999999999 {}", b"nonsense"])
def test_a_line_that_cannot_be_read_is_counted_where_that_is_asked_for(tmp_path, line):
    path, skipped = tmp_path / "a", Counter()
    path.write_bytes(b"1600000001: {1}\n" + line + b"\n1600000002: {2}\n")
    with pytest.raises(ConfigurationError, match="a:2: "):
        list(read([path]))
    assert [record.text for record in read([path], skipped=skipped)] == [b"{1}", b"{2}"]
    assert skipped == {path: 1}
    path.write_bytes(line)          # of another kind altogether, it seems
    with pytest.raises(ConfigurationError, match="a:1: "):
        list(read([path], skipped=skipped))


def test_a_json_file_is_one_frame_over_many_lines(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{\n  "channel": "book"\n}\n')
    (tmp_path / "b.json.zst").write_bytes(zstandard.compress(b"[\n1]"))
    assert [record.text for record in read([tmp_path / "a.json", tmp_path / "b.json.zst"])] == [
        b'{\n  "channel": "book"\n}', b"[\n1]"]


def test_files_are_merged_by_time(tmp_path):
    (tmp_path / "X.1").write_bytes(b"1600000001.5: {1}\n1600000003: {3}\n")
    (tmp_path / "X.0").write_bytes(b"1600000002: {2}\n1600000004: {4}\n")
    (tmp_path / "Y.0").write_bytes(b"1600000002: {9}\n")
    assert [record.text for record in read([tmp_path], "x")] == [b"{1}", b"{2}", b"{3}", b"{4}"]


def test_compressed_files_are_read_as_they_are_unpacked(tmp_path):
    path = tmp_path / "frames.zst"
    path.write_bytes(zstandard.compress(b"{1}\n{2}\n" * 100_000) + zstandard.compress(b"{3}\n"))
    assert Counter(record.text for record in read([path])) == {b"{1}": 100_000, b"{2}": 100_000, b"{3}": 1}


@pytest.mark.parametrize(("content", "why"), [
    (b"{1}\nhello\n", r"frames:2: not a line of a recording known here: b'hello'"),
    (b"{1}\n\n123456789012 {}\n", r"frames:3: a time of 12 digits"),
    (b"https://x ~> 1600000000: {}", r"frames:1: not a line"),
])
def test_a_bad_line_is_named_by_file_and_number(tmp_path, content, why):
    path = tmp_path / "frames"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=why):
        list(read([path]))


def test_what_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigurationError, match="none: no such recording"):
        read([tmp_path / "none"])
    with pytest.raises(ConfigurationError, match=r"no file named BINANCE\.\* in this folder"):
        read([tmp_path], "binance")
    with pytest.raises(ConfigurationError, match="no recording named"):
        read([])
    broken = tmp_path / "broken.zst"
    broken.write_bytes(zstandard.compress(b"{1}\n" * 100_000)[:-8])
    (tmp_path / "garbage.zst").write_bytes(b"not zstd at all")
    with pytest.raises(ConfigurationError, match=r"broken\.zst:\d+: the compressed file ends too early"):
        list(read([broken]))
    with pytest.raises(ConfigurationError, match=r"garbage\.zst:0: not zstd"):
        list(read([tmp_path / "garbage.zst"]))


@pytest.mark.parametrize(("folder", "venue", "counts"), [
    ("cryptofeed", "binance", {"message": 265, "rest": 5, "open": 1}),
    ("cryptofeed", "bitstamp", {"message": 747, "rest": 11, "sent": 20, "open": 1}),
    ("cryptofeed-2021-04-17", "binance", {"message": 1228, "rest": 10, "open": 1}),
    ("cryptofeed-2021-04-17", "bitstamp", {"message": 677, "rest": 10, "sent": 20, "open": 1}),
    ("hftbacktest/spot/btcusdt_20240808", None, {"message": 41248, "rest": 1}),
])
def test_recordings_hold_what_their_description_says(folder, venue, counts):
    records = list(read([data(folder)], venue))
    assert Counter(record.kind for record in records) == counts
    assert records == sorted(records, key=lambda record: record.time_ns)


def test_a_folder_of_one_venue_names_its_files():
    assert [path.name for path in files([data("cryptofeed")], "bitstamp")] == [
        "BITSTAMP.0", "BITSTAMP.http.0.0.zst", "BITSTAMP.ws.1.0.zst"]
