"""Audits of books that read simulated venues: right ones, ones that lost a diff unseen, and wrong answers."""
from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import pytest

from mantra import audit
from mantra.audit import Auditor
from mantra.errors import ConfigurationError
from mantra.runtime.settings import Settings
from mantra.telemetry import ledger
from mantra.topologies.system import System
from mantra.venues.instrument import InstrumentTable
from tests.end_to_end.feeds import NAMES, until, venues_at
from tests.end_to_end.proxy import Proxy
from tests.end_to_end.simulated import Child
from tests.end_to_end.test_between import ghost

LIVE = (4, 3)       # trust of a book when all is well, by venue


@pytest.fixture(autouse=True)
def _sooner(monkeypatch):
    """Simulated venues cache nothing for a second, and their streams are not a second late."""
    monkeypatch.setattr(audit, "CACHE_S", 0.4)
    monkeypatch.setattr(audit, "LAG_S", 0.4)


@contextmanager
def running(names, endpoints, **settings):
    with System(Settings(venues=names, instruments=("eth-btc",), **settings), table=InstrumentTable(),
                venues=venues_at(endpoints, names, {})) as system:
        tops = system.spine.newest_tops
        until(lambda: len(list(tops())) == len(names) and all(top.trust >= LIVE[top.venue] for top in tops()),
              "every book is trusted fully")
        yield system


def scores(spine):
    """{venue: (audits, audited, agreed)} of the run's ledger."""
    return {NAMES[row.venue]: tuple(row[name] for name in ("audits", "audited", "agreed"))
            for row in spine.book_ledger.rows()}


def test_books_that_are_right_agree_and_their_score_is_in_the_ledger():
    with Child("--venues", ",".join(NAMES), "--instruments", "eth-btc", "--unlimited") as child, \
            running(NAMES, child.endpoints) as system:
        told = list(Auditor(system.spine, levels=30).round())
        assert sorted((one.kept.venue, one.skipped, one.differs) for one in told) == [(name, "", ()) for name in NAMES]
        for audits, compared, agreed in scores(system.spine).values():      # not what changed in the answer's moment
            assert (audits, agreed) == (1, compared)
            assert 40 < compared <= 60
        assert set(scores(system.spine)) == set(NAMES)


def test_books_that_are_images_of_their_venues_are_not_audited():
    with Child("--venues", "bitstamp", "--instruments", "eth-btc", "--unlimited") as child, \
            running(("bitstamp",), child.endpoints, mode="top") as system, \
            pytest.raises(ConfigurationError, match="mode 'book'"):
        Auditor(system.spine)


def test_a_book_that_lost_a_diff_which_nobody_could_see_is_found_and_explained():
    def faults(**rates):
        told = "&".join(f"{name}={rate}" for name, rate in rates.items())
        urllib.request.urlopen(urllib.request.Request(
            f"{child.endpoints['bitstamp']['rest']}/simulator/faults?{told}", method="POST"), timeout=60).close()

    with Child("--venues", "bitstamp", "--instruments", "eth-btc", "--unlimited") as child, \
            running(("bitstamp",), child.endpoints, run="test-audit", named=frozenset({"run"})) as system:
        auditor = Auditor(system.spine)
        faults(drop=0.3)
        found = until(lambda: [one for one in auditor.round() if one.differs], "the book is wrong, and found to be", 30)
        faults(drop=0)
        assert found[0].trust.startswith("unverified since")
        assert all("bitstamp says" in text and ", here " in text for text in found[0].differs)
        assert all(each["theirs"] not in [had["size"] for had in each["had"]] for each in found[0].levels)
        _, audited, agreed = scores(system.spine)["bitstamp"]
        assert agreed < audited
        door = subprocess.run([sys.executable, "-m", "mantra", "audit", "test-audit", "--venues", "bitstamp", "--json"],
                              stdout=subprocess.PIPE, text=True, timeout=60)
        told = json.loads(door.stdout.splitlines()[-1])
        assert told["audits"] + len(told["books"][0]["skipped"]) == 1
        assert door.returncode == (told["agreed"] < told["levels"])
        assert scores(system.spine)["bitstamp"][1] == audited + told["levels"], "another process counts in the same row"
    book, = ledger.find("test-audit")["books"]      # the run has ended, and left its ledger
    assert (book["venue"], book["instrument"], book["counts"]["audited"]) == (
        "bitstamp", "ETH-BTC", audited + told["levels"])


@pytest.mark.parametrize("name", NAMES)
def test_one_wrong_answer_of_the_venue_is_not_believed_and_two_are_told(name):
    with Child("--venues", name, "--instruments", "eth-btc", "--unlimited") as child:
        proxy = Proxy(child.endpoints[name])
        try:
            with running((name,), {name: proxy.endpoints}) as system:
                for wrong in (1, 2):
                    answers = [ghost] * wrong
                    proxy.rest = lambda path, answers=answers: answers.pop()(proxy, path) if answers else None
                    told, = Auditor(system.spine).round()
                    assert (answers, told.skipped, bool(told.differs)) == ([], "", wrong == 2)
                proxy.rest = lambda path: b"503 No\r\nContent-Length: 0\r\n\r\n"
                told, = Auditor(system.spine).round()
                assert "HTTP 503" in told.skipped
                assert scores(system.spine)[name][0] == 2
        finally:
            proxy.close()


def test_what_cannot_be_audited_is_one_line():
    for arguments, says in ((["no-such-run"], "no run 'no-such-run'"), (["--levels", "0"], "at least 1")):
        door = subprocess.run([sys.executable, "-m", "mantra", "audit", *arguments], stderr=subprocess.PIPE, text=True,
                              timeout=60)
        assert door.returncode == 2
        assert says in door.stderr
        assert door.stderr.count("\n") == 1
