"""The ring's and vector's memory orders under relacy: right in many thousand executions, and each of them needed.

The real headers run (ordering.py, ordering.cpp), not a copy of the algorithm. Every memory order in them is a twin:
weakened (to relaxed, a fence to none, seq_cst to acq_rel) it must break a scenario, or stand below with the reason
why relacy cannot break it. A new one has to be entered here. MANTRA_PROOF=deep runs half a million executions of
each scenario.

What relacy does not see: it runs a thread's accesses in program order and keeps a location's stores in the order in
which they were run. So a store that moves in front of an earlier load, or on top of a later store of another thread,
is never tried (the claims' acquire, and letting go after reading back, stand on the standard alone); a failed swap
always sees the newest value; only the last three values of a location are kept.
"""
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .ordering import build, missing, sites

SCENARIOS = ("single", "succession_of_single", "many", "many_unlapped", "many_killed", "succession_of_many", "heir",
             "leaving", "again", "joining", "runs", "doorbell", "ending", "seqlock",
             "vector_single", "vector_many", "vector_killed")
DEEP = os.environ.get("MANTRA_PROOF") == "deep"
NEEDED = {
    "seqlock_begin: release thread_fence": "seqlock",
    "seqlock_end: release store": "seqlock",
    "seqlock_look: acquire load": "vector_single",
    "seqlock_unchanged: acquire thread_fence": "vector_single",
    "writers_join: release thread_fence": "heir",
    "writers_alive: acquire load": "leaving",
    "produced: acquire load": "joining",
    "produce_claim: acquire load": "heir",
    "produce_settle: release compare_exchange_strong": "many",
    "produce_again: release thread_fence": "again",
    "produce_begin: release thread_fence": "single",
    "produce_end: release store": "single",
    "produce_end: release store again": "joining",
    "consumer_ready: acquire load": "leaving",
    "consumer_peek: acquire load": "single",
    "consumer_peek: acquire thread_fence": "single",
    "consume_run: acquire load": "runs",
    "consume_run: acquire thread_fence": "runs",
    "vector_claim: acq_rel compare_exchange_strong": "vector_many",
    "vector_begin: release store": "vector_single",
    "vector_begin: release thread_fence": "vector_single",
    "vector_end: release store": "vector_single",
    "doorbell_ring: seq_cst thread_fence": "doorbell",
    "doorbell_seen: seq_cst thread_fence": "doorbell",
    "doorbell_end: release store": "ending",
    "waiting_over: acq_rel exchange": "ending",
}
UNSEEN = {
    "writers_join: acquire load": "the swap behind it is seq_cst and decides",
    "writers_bury: acquire load": "the swap behind it is seq_cst and decides",
    "queue_unused: acquire load": "who claims looks at the slot again, with acquire",
    "queue_break: acquire load": "a successor has seen its predecessor's death or leaving, and all before it",
    "queue_break: release store": "as produce_end's, once in a succession",
    "producer_open: release store": "as produce_end's, once in a succession",
    "produce_claim: acquire compare_exchange_strong": "keeps our words behind those of the lap before: order of stores",
    "produce_settle: release store": "a hint, and batches, which could tell, are not kept in queues of many",
    "produce_again: release compare_exchange_weak": "keeps reading our words in front of letting go: load, then store",
    "consumer_stuck: acquire load": "writers_alive's acquire has ordered it; a message it finds is looked at again",
    "consumer_tell: release store": "keeps reading our words in front of letting go: load, then store",
    "doorbell_ring: acq_rel exchange": "keeps disarming in front of the word's move: order within a thread",
    "doorbell_ring: release fetch_add": "keeps disarming in front of the word's move: order within a thread",
    "doorbell_seen: acquire load": "keeps arming behind reading the word: order within a thread",
    "doorbell_seen: release store": "keeps arming behind reading the word: order within a thread",
    "waiting_done: acquire load": "waiting_over acquires too",
}

if missing():
    pytest.skip(missing(), allow_module_level=True)


@pytest.fixture(scope="module")
def ordering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("ordering"), "-O2" if DEEP else "-O0")


def run(ordering: Path, scenario: str, executions: int, twin: int = 0) -> subprocess.CompletedProcess[str]:
    command = [str(ordering), scenario, str(executions), str(twin)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_execution_of_the_real_headers_is_wrong(ordering: Path, scenario: str) -> None:
    done = run(ordering, scenario, 500_000 if DEEP else 8_000)
    assert done.returncode == 0, done.stdout[:20_000]


@pytest.mark.parametrize("order", NEEDED)
def test_a_weaker_memory_order_is_caught(ordering: Path, order: str) -> None:
    done = run(ordering, NEEDED[order], 50_000, sites()[order])
    assert done.returncode == 1, done.stderr
    assert "USER ASSERT FAILED" in done.stdout


def test_every_memory_order_of_the_headers_has_its_twin_or_a_reason() -> None:
    assert sites().keys() == NEEDED.keys() | UNSEEN.keys()
