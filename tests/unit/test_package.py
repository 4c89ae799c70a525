"""The package as a user meets it."""
from pathlib import Path

import mantra


def test_headers_are_where_get_include_says():
    assert (Path(mantra.get_include()) / "mantra" / "messages.h").is_file()
