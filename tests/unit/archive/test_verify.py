"""An archive is looked at, checked and mended from the command line."""
from __future__ import annotations

import json
import os

import pytest

from mantra.archive import capture as module
from mantra.archive import catalogue
from mantra.archive.door import main
from mantra.tape.segment import HEAD, SegmentReader

from .capturing import Capturing, Kept, private_run


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Three files of a capture, and what it should have."""
    for name in ("ROUND_S", "LOOK_S", "RETRY_S"):
        monkeypatch.setattr(module, name, 0.001)
    spine, feeds = private_run(2)
    capturing = Capturing(spine, tmp_path, flush=0.001, rotate_bytes="15KB")
    turns = 0
    while turns < 5:
        for feed in feeds:
            feed.move(20)
        capturing.step()
        turns += len(list(tmp_path.iterdir())) > 2
    capturing.end()
    monkeypatch.chdir(tmp_path)
    return Kept(tmp_path)


def told(capsys, *argv, code=0):
    assert main([*argv, "--json"]) == code
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_list_says_which_file_holds_what(kept, capsys, monkeypatch):
    everything = told(capsys, "list")
    monkeypatch.setattr(catalogue, "look", lambda path: pytest.fail(f"{path} was looked at again"))
    assert told(capsys, "list") == everything
    assert [one["path"] for one in everything["files"]] == [path.name for path in kept.files]
    assert everything["messages"] == sum(map(len, kept.messages.values()))
    one = told(capsys, "list", "--venue", "binance", "--instrument", "C1-USDT")
    assert 0 < one["messages"] < everything["messages"]
    first = everything["files"][0]
    assert len(told(capsys, "list", "--to", str(first["first_ns"] + 1))["files"]) == 1
    assert told(capsys, "list", "--instrument", "NOTHING-USD")["files"] == []
    assert main(["list", "--instruments"]) == 0
    assert "C101-USDT" in capsys.readouterr().out
    assert main(["list"]) == 0
    assert f"{len(kept.files)} files" in capsys.readouterr().out
    assert main(["list", "nowhere"]) == main(["list", "--from", "soon"]) == main(["nonsense"]) == 2


def test_show_gives_messages_and_books_as_people_read_them(kept, capsys):
    def lines(*argv):
        assert main(["show", *argv, "--json"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    count = sum(len(of) for name, of in kept.messages.items() if name.startswith("updates"))
    assert len(lines()) == count
    some = lines("--instrument", "C1-USDT", "--limit", "5")
    assert [row["instrument"] for row in some] == ["C1-USDT"] * 5
    assert [row["utc"] for row in some] == sorted(row["utc"] for row in some)
    level = next(row for row in lines() if row["kind"] == "bid")
    assert (level["price"][-3], level["size"][-4], level["trust"]) == (".", ".", "verified")
    assert {row["side"] for row in lines("--stream", "trades")} == {"buy"}
    assert main(["show", "--stream", "trades", "--limit", "3"]) == 0
    assert "there are more" in capsys.readouterr().out
    (bids, asks, _), at = kept.books["updates.binance.0", 1], "2100-01-01"
    book = lines("--venue", "binance", "--instrument", "C1-USDT", "--at", at, "--depth", "999")[0]
    for side, levels in (("bids", bids), ("asks", asks)):
        assert {round(float(price) * 100): round(float(size) * 1000) for price, size in book[side]} == levels
    assert (book["trust"], book["reason"]) == ("stale", "silent")
    assert main(["show", "--venue", "binance", "--instrument", "C1-USDT", "--at", at]) == 0
    assert "stale (silent)" in capsys.readouterr().out
    for wrong in (["--at", at], ["--limit", "0"]):
        with pytest.raises(SystemExit, match="2"):
            main(["show", *wrong])
    assert main(["show", "--stream", "nothing"]) == main(["show", "--venue", "okx"]) == 2
    assert main(["show", "--venue", "binance", "--instrument", "C1-USDT", "--at", "1999-01-01"]) == 2


def test_damage_is_found_and_mended_and_the_original_kept(kept, capsys):
    assert told(capsys, "verify")["damaged"] is False
    assert main(["repair"]) == 0
    assert "nothing to mend" in capsys.readouterr().out
    path = kept.files[1]
    data = path.read_bytes()
    with SegmentReader(path) as reader:
        at = max(reader.blocks("updates"), key=lambda record: record.messages).offset + HEAD + 50
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])
    found = told(capsys, "verify", code=1)
    assert [one["state"] for one in found["files"]].count("damaged") == 1
    assert sum(one["lost"] for one in found["missing"]) == found["damaged_messages"] > 0
    assert main(["verify"]) == 1
    assert "DAMAGED: 1 blocks" in capsys.readouterr().out
    (mended,) = told(capsys, "repair")["files"]
    assert (mended["mended"], mended["dropped_messages"]) == (path.name, found["damaged_messages"])
    kept_as = path.with_name(path.name + ".damaged")
    assert kept_as.read_bytes() != data
    again = told(capsys, "verify")
    assert again["messages"] == found["messages"]
    assert sum(queue["told_lost"] for queue in again["queues"]) == found["damaged_messages"]
    assert told(capsys, "list")["lost"] == found["damaged_messages"]
    path.write_bytes(data[:-9])         # its end is cut off; there is a NAME.damaged already
    assert "there already" in told(capsys, "repair", code=1)["files"][0]["error"]
    assert path.read_bytes() == data[:-9]
    assert told(capsys, "repair", "--discard")["files"][0]["dropped_blocks"] == 0
    assert path.read_bytes()[:24] == data[:24]
    assert told(capsys, "verify")["messages"] == sum(map(len, kept.messages.values()))
    assert len(os.listdir()) == len(kept.files) + 2         # the .damaged, and the catalogue


def test_what_was_not_closed_is_closed_and_who_still_writes_is_left_alone(kept, capsys):
    path = kept.files[-1]
    part = path.with_name(path.name + ".part")
    path.rename(part)
    part.write_bytes(part.read_bytes()[:-80])       # killed before it could write its end
    found = told(capsys, "verify")
    assert (found["damaged"], found["files"][-1]["state"]) == (False, "unfinished")
    assert told(capsys, "repair")["files"][0]["mended"] == path.name
    assert {one["state"] for one in told(capsys, "verify")["files"]} == {"whole"}
    assert not part.exists()
    spine, feeds = private_run(1)
    capturing = Capturing(spine, "other", flush=0.001)
    feeds[0].move(20)
    capturing.until(lambda: any(stream.written for stream in capturing.capture.streams.values()))
    (file,) = told(capsys, "verify", "other")["files"]
    assert file["state"] == "growing"
    assert told(capsys, "repair", "other")["files"] == []
    capturing.end()
    assert told(capsys, "verify", "other")["files"][0]["messages"] >= file["messages"] > 0
    (kept.files[0].parent / "x.mantra").write_text("nothing of the kind")
    assert told(capsys, "repair", code=1)["unreadable"] == ["x.mantra"]
    assert told(capsys, "verify", code=1)["files"][-1]["state"] == "unreadable"
