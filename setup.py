"""Build the compiled core. Everything declarative is in pyproject.toml."""
import os
import platform
import re
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

if sys.maxsize < 2**32 or platform.machine().lower() not in ("x86_64", "amd64", "aarch64", "arm64"):
    sys.exit(f"mantra needs a 64-bit x86 or Arm CPU; this is {platform.machine()}")
if sys.platform != "linux":
    sys.exit(f"mantra runs on Linux; this is {sys.platform}")

HEADERS = sorted(Path("csrc/mantra").glob("*.h"))
DIRECTIVES = {
    "language_level": "3",
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
    "freethreading_compatible": False,
}


def require_compiler() -> None:
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        sys.exit(f"mantra needs a C compiler and `{compiler}` was not found: "
                 "install one (Debian: apt install gcc python3-dev), or set CC")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        sys.exit(f"mantra needs the C headers of Python {platform.python_version()} and found no Python.h: "
                 "install them (Debian: apt install python3-dev)")


class BuildExtensions(build_ext):
    """Translate and compile, several at once."""

    def run(self) -> None:
        try:
            from Cython.Build import cythonize
        except ImportError:
            sys.exit("mantra is built with Cython: run `pip install .`, which fetches it, instead of setup.py by hand")
        made = cythonize(self.extensions, compiler_directives=DIRECTIVES, nthreads=os.cpu_count())
        for extension, translated in zip(self.extensions, made, strict=True):
            extension.sources, extension.depends = translated.sources, translated.depends
        self.parallel = self.parallel or os.cpu_count()
        super().run()


class BuildPackage(build_py):
    """Ship the C headers inside the package, so that users can build decoders of their own against them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "mantra", "include", "mantra")
            target.mkdir(parents=True, exist_ok=True)
            for header in HEADERS:
                shutil.copy2(header, target / header.name)


def named(text: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, text, re.MULTILINE))


def headers(source: Path) -> list[str]:
    """Every C header that `source` is built from, through what it cimports and what those include: a changed header
    rebuilds what uses it and nothing else."""
    modules, found, waiting = set(), set(), {source.stem}
    while waiting:
        modules |= waiting
        texts = [file.read_text() for name in waiting for file in source.parent.glob(f"{name}.p[xy][dx]")]
        waiting = {name for text in texts for name in named(text, r"^from mantra\.core\.(\w+) cimport")} - modules
        includes = {name for text in texts for name in named(text, r"[\"<]mantra/(\w+)\.h")}
        while includes := includes - found:
            found |= includes
            texts = [Path("csrc/mantra", f"{header}.h").read_text() for header in includes]
            includes = {name for text in texts for name in named(text, r'^#include "mantra/(\w+)\.h"')}
    return sorted(f"csrc/mantra/{name}.h" for name in found)


def extension(source: Path) -> Extension:
    return Extension(
        ".".join(source.with_suffix("").parts),
        [str(source)],
        include_dirs=["csrc"],
        depends=headers(source),
        extra_compile_args=["-std=gnu11", "-O3", "-g0", "-fno-semantic-interposition", "-Wall", "-Wno-unused-function"],
        libraries=["dl", "pthread", "rt"],
    )


if {"bdist_wheel", "editable_wheel", "build_ext"} & set(sys.argv):
    require_compiler()      # before anything else is done or printed: pip then shows this one line

setup(
    ext_modules=[extension(source) for source in sorted(Path("mantra/core").glob("*.pyx"))],
    cmdclass={"build_ext": BuildExtensions, "build_py": BuildPackage},
)
