"""Settings: read once, checked, frozen."""
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from mantra.errors import ConfigurationError
from mantra.runtime.settings import RULES, Settings, read


def test_without_anything_the_defaults_hold_and_nothing_is_named():
    assert read() == Settings()
    assert read().named == frozenset()


def test_every_setting_has_its_rule():
    assert {each.name for each in fields(Settings)} == {*RULES, "named"}


def test_arguments_win_over_the_file_and_both_are_named(tmp_path):
    file = tmp_path / "mantra.toml"
    file.write_text('venues = ["bitstamp"]\nmode = "top"\nleast-trust = "verified"\nendpoints = "ends.toml"\n'
                    "[pin]\nbitstamp = 1\n")
    settings = read(file, mode="book", instruments="eth-btc, btc-usd,eth-btc", grpc=None)
    assert settings.venues == ("bitstamp",)
    assert settings.instruments == ("eth-btc", "btc-usd")
    assert (settings.mode, settings.least_trust, settings.pin) == ("book", "verified", {"bitstamp": 1})
    assert settings.endpoints == tmp_path / "ends.toml"
    assert settings.grpc == "127.0.0.1:50051"
    assert settings.named == {"venues", "mode", "least_trust", "endpoints", "pin", "instruments"}


def test_settings_do_not_change_once_read():
    settings = read(endpoints="x.toml")
    assert settings.endpoints == Path("x.toml")
    with pytest.raises(FrozenInstanceError):
        settings.depth = 3
    with pytest.raises(TypeError):
        settings.pin["binance"] = 1


@pytest.mark.parametrize(("given", "line"), [
    ({"mode": "tops"}, "mode must be one of book, top, orders, not 'tops'"),
    ({"depth": 0}, "depth must be a whole number from 1 to 10, not 0"),
    ({"depth": True}, "depth must be a whole number from 1 to 10, not True"),
    ({"venues": ""}, "venues must be one or more names, in a list or separated by commas, not ''"),
    ({"venues": 3}, "venues must be one or more names, in a list or separated by commas, not 3"),
    ({"venues": [[]]}, "venues must be one or more names, in a list or separated by commas, not [[]]"),
    ({"run": "a/b"}, "run must be 1 to 32 letters, digits, dots, hyphens or underscores, not starting with a dot, "
                     "not 'a/b'"),
    ({"grpc": "50051"}, "grpc must be HOST:PORT, not '50051'"),
    ({"grpc": "localhost:65536"}, "grpc must be HOST:PORT, not 'localhost:65536'"),
    ({"least_trust": "down"}, "least-trust must be one of suspect, unverified, verified, not 'down'"),
    ({"pin": {"binance": -1}}, "pin must be a table of actor = core number, not {'binance': -1}"),
    ({"trades": "yes"}, "trades must be true or false, not 'yes'"),
    ({"instrument": "x"}, "no setting is called 'instrument'; did you mean instruments?"),
])
def test_a_bad_setting_is_one_line_that_says_what_it_must_be(given, line):
    with pytest.raises(ConfigurationError) as error:
        read(**given)
    assert str(error.value) == line
    assert error.value.exit_code == 2


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "bad.toml").write_text("venues = [")
    for name in ("bad.toml", "none.toml"):
        with pytest.raises(ConfigurationError, match=rf"^cannot read the settings .*{name}: [^\n]*$"):
            read(tmp_path / name)


def test_ipv6_addresses_are_addresses():
    assert read(grpc="[::1]:50051").grpc == "[::1]:50051"
