"""Each fuzz target for a few seconds; scripts/fuzz runs them for minutes."""
from __future__ import annotations

from pathlib import Path

import pytest

from . import fuzzing
from .compilers import COMPILERS, compile_c, sanitizing_compiler

pytestmark = pytest.mark.skipif(sanitizing_compiler("asan") is None,
                                reason="no compiler here builds with ASan and UBSan")


@pytest.mark.parametrize("target", fuzzing.TARGETS)
def test_target_survives_a_few_seconds(target: str, tmp_path: Path) -> None:
    done = fuzzing.run(target, 1, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def build_with_driver(source: Path, folder: Path) -> Path:
    program = folder / source.stem
    compile_c("gcc", source, program, *fuzzing.FLAGS, "-fsanitize=address,undefined",
              str(fuzzing.HERE / "fuzz_driver.c"))
    return program


@pytest.mark.skipif("gcc" not in COMPILERS, reason="the driver is for gcc, which is not here")
def test_driver_mutates_where_libfuzzer_is_not(tmp_path: Path) -> None:
    done = fuzzing.run("json", 1, tmp_path, build_with_driver)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[1]) > 1000


BROKEN = """
#include "fuzz.h"
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size, FUZZ_PADDING_A), *quote = memchr(text, '"', size);
    volatile char read = quote ? quote[MANTRA_PADDING + 1] : 0; /* past the padding of a late quote */
    (void)read;
    free(text);
    return 0;
}
"""


@pytest.mark.parametrize("builder", [fuzzing.build, pytest.param(build_with_driver, marks=pytest.mark.skipif(
    "gcc" not in COMPILERS, reason="the driver is for gcc, which is not here"))])
def test_a_read_past_the_padding_is_found_and_its_input_kept(builder, tmp_path: Path) -> None:
    source = tmp_path / "fuzz_broken.c"
    source.write_text(BROKEN)
    done = fuzzing.run("broken", 20, tmp_path, builder, source)
    assert done.returncode != 0
    assert list(tmp_path.glob("broken-crash*"))
