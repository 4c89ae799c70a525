"""Processes: an actor's stand-in hears all that its process says, and gives it what its node says."""
from __future__ import annotations

import logging
import os
from datetime import date

import pytest

from mantra.core.messages import ActorState
from mantra.errors import ConfigurationError
from mantra.runtime.process import Process, make
from mantra.runtime.spine import Spine
from mantra.runtime.tile import Tile
from mantra.runtime.topology import Node

CHATTER = """
import logging, threading
from mantra.runtime.actor import Actor

class Chatter(Actor):
    def __init__(self, name, reads, writes, *, since, tags):
        super().__init__(name, reads, writes)
        self.said = f"{since.year} {tags['a']}"
    def setup(self, spine):
        logging.getLogger("mine").warning(self.said)
    def step(self, spine):
        say = logging.getLogger("mine").info
        threads = [threading.Thread(target=say, args=("%s", str(n) * 300_000)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        raise ValueError("enough said")
"""


def chatter(tmp_path, **options):
    (tmp_path / "chatter.py").write_text(CHATTER)
    return Node("chatter", "chatter:Chatter", options=options, process=True, folder=str(tmp_path))


def test_all_that_it_logs_is_heard_however_long_and_its_failure_once(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with Spine.create(f"test-process-{os.getpid()}") as spine:
        tile = Tile(Process(chatter(tmp_path, since=date(2026, 11, 21), tags={"a": [1, 2]})), spine)
        tile.setup()
        tile.start()
        assert tile.join(20)
        assert tile.state == ActorState.FAILED
    mine = [record for record in caplog.records if record.name == "mine"]
    assert mine[0].getMessage() == "2026 [1, 2]", "options come as they are in TOML"
    assert sorted(record.getMessage() for record in mine[1:]) == [str(n) * 300_000 for n in range(5)]
    assert caplog.text.count("ValueError: enough said") == 1


def test_an_error_of_a_class_of_the_actors_own_is_told_as_it_is(tmp_path):
    (tmp_path / "refuser.py").write_text("""
from mantra.errors import MantraError
class Refused(MantraError): ...
class Refuser:
    def __init__(self, *_):
        raise Refused("not today")
""")
    node = Node("refuser", "refuser:Refuser", process=True, folder=str(tmp_path))
    with Spine.create(f"test-refuser-{os.getpid()}") as spine:
        tile = Tile(Process(node), spine)
        tile.setup()
        assert str(tile.error) == "not today"


def test_what_cannot_be_made_is_one_line(tmp_path):
    node = chatter(tmp_path, since=1)
    with pytest.raises(ConfigurationError, match=r"chatter: chatter:Chatter: .*tags"):
        make(node)
    with pytest.raises(ConfigurationError, match="is not a class of actors"):
        make(Node("chatter", "builtins:print"))
    with Spine.private() as spine, pytest.raises(ConfigurationError, match="a private run"):
        Tile(Process(node), spine).setup()
