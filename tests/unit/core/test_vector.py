"""Vectors: the newest value of each slot."""
import os
import subprocess
import sys
import threading
import time

import pytest

from mantra.core.messages import Top, Update
from mantra.core.queue import Queue
from mantra.core.region import PREFIX
from mantra.core.vector import Vector
from mantra.errors import LayoutMismatch, RegionError

NAME = f"test-vector-{os.getpid()}"


def test_a_slot_holds_the_newest_message_and_counts_its_writes():
    vector = Vector.create(None, "top", 3)
    assert (len(vector), vector.capacity, vector.read(2), vector.version(2)) == (3, 3, None, 0)
    for sequence in range(1, 6):
        vector.write(2, Top(sequence=sequence))
        assert vector.read(2).sequence == vector.version(2) == sequence
    vector.write(2, Top(sequence=9).to_bytes())
    assert vector.read(2) == Top(sequence=9)
    assert vector.read(1) is None


def test_a_vector_is_read_through_its_name_but_not_written():
    with Vector.create(NAME, Top, 2) as vector:
        reader = Vector.open(NAME)
        vector.write(0, Top(sequence=4))
        assert reader.read(0).sequence == 4
        with pytest.raises(RegionError, match="opened for reading"):
            reader.write(0, Top())
        Vector.open(NAME, write=True).write(1, Top(sequence=5))
        assert vector.read(1).sequence == 5
        assert repr(reader) == f"<Vector {NAME}: 2 top>"
        with pytest.raises(LayoutMismatch, match="is a vector, not a queue"):
            Queue.open(NAME)
    with pytest.raises(RegionError, match="there is no region"):
        Vector.open(NAME)


def test_a_wrong_slot_message_or_capacity_is_an_error():
    vector = Vector.create(None, "top", 3)
    for slot in (-1, 3):
        with pytest.raises(IndexError):
            vector.read(slot)
        with pytest.raises(IndexError):
            vector.write(slot, Top())
    with pytest.raises(TypeError, match="Update given where Top is held"):
        vector.write(0, Update())
    with pytest.raises(ValueError, match="3 bytes for a message of 376"):
        vector.write(0, b"abc")
    for capacity in (0, -1, 2**31):
        with pytest.raises(ValueError, match="capacity"):
            Vector.create(None, "top", capacity)


def test_many_write_the_same_slot_through_vectors_of_their_own():
    with Vector.create(f"test-many-{os.getpid()}", "top", 2, "many") as vector:
        def write(first):
            mine = Vector.open(vector.name, write=True)
            for n in range(first, 3000, 3):
                mine.write(0, Top(sequence=n, bid_price=[n] * 10, bid_count=10))

        threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            top = vector.read(0)
            assert top is None or top.bids == [(top.sequence, 0)] * 10
        assert vector.version(0) == 3000
        assert vector.read(0).sequence in (2997, 2998, 2999)
    with pytest.raises(ValueError, match="'single' writer or 'many'"):
        Vector.create(None, "top", 1, "mpmc")


def test_a_writer_that_waits_for_another_process_stops_nobody_else():
    program = ("import os, signal, sys; from mantra.core.vector import Vector; from mantra.core.messages import Top\n"
               "vector = Vector.open(sys.argv[1], write=True); vector.write(0, Top())\n"
               "print(flush=True); signal.pause()")
    with Vector.create(f"test-stopped-{os.getpid()}", "top", 1, "many") as vector:
        other = subprocess.Popen([sys.executable, "-c", program, vector.name], stdout=subprocess.PIPE)
        assert other.stdout.readline() == b"\n"
        with open(PREFIX + vector.name, "r+b") as file:     # it stands in the middle of its second write
            file.seek(1024 + 64 + 8 * 256)
            file.write((2 << 18 | 1).to_bytes(8, "little"))
        writer = threading.Thread(target=vector.write, args=(0, Top(sequence=7)))
        writer.start()
        time.sleep(0.2)     # this thread runs although that one waits
        assert writer.is_alive()
        other.kill()
        other.communicate()
        writer.join(10)
        assert vector.read(0).sequence == 7
