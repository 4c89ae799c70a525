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
    "annotation_typing": False,     # annotations are for the stubs; C types are declared
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


STATEMENT = re.compile(r"""^(?P<inner>[ ]{4})?(?:
    @(?P<decorator>property|staticmethod|classmethod)$
    | (?:cdef[ ])?class[ ](?P<name>\w+)(?:\((?P<base>\w+)\))?:
    | (?:cpdef[ ](?P<type>\w+)|def)[ ](?P<function>\w+)\((?P<takes>(?:[^()]|\([^()]*\))*)\)
      (?:[ ]->[ ](?P<gives>[^:\n]+))?:
    | cdef[ ](?:readonly|public)[ ](?P<kind>\w+)[ ](?P<members>[\w, ]+)
    | (?P<constants>[A-Z][\w, ]*)[ ]=[ ](?P<number>MANTRA_|\d)?
    | (?P<member>[a-z]\w*):[ ](?P<its>[^#\n]*\w\]?)
    | \S.*)""", re.MULTILINE | re.VERBOSE)
PROLOGUE = """\
import builtins, numpy, os, threading
import numpy as np
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Any, Literal, NamedTuple
from numpy.typing import NDArray
from typing_extensions import Buffer, Self
"""


def python_type(c: str) -> str:
    """What Python calls a C or Cython type."""
    if view := re.fullmatch(r"(?:const )?([\w ]+)\[.*\]", c):
        return f"NDArray[numpy.{view[1].replace('unsigned char', 'uint8').removesuffix('_t')}]"
    if re.fullmatch(r"u?int\d*_t|int|size_t|Py_ssize_t", c):
        return "int"
    return {"bint": "bool", "double": "float", "object": "Any", "list": "list[Any]", "dict": "dict[Any, Any]"}.get(c, c)


def parameter(text: str) -> str:
    """One parameter of a Cython `def`, as a stub has it."""
    before, equals, value = (part.strip() for part in text.partition("="))
    if typed := re.fullmatch(r"((?:const )?[^:]*?(?:\[.*\])?) (\w+)( not None)?", before):
        kind = python_type(typed[1])
        optional = kind == typed[1] != "int" and not typed[3] and value in ("None", "")
        before = f"{typed[2]}: {kind}{' | None' if optional else ''}"
    elif re.fullmatch(r"\*{0,2}\w+", before) and before not in ("self", "cls"):
        before += ": Any"
    return before + (" = ..." if equals else "")


def stub(source: Path) -> str:
    """The .pyi of a compiled module, made of what its .pyx and .pxd say of its public names: nothing is told twice."""
    text = re.sub(r'""".*?"""', "", source.with_suffix(".pxd").read_text() + "\n" + source.read_text(), flags=re.DOTALL)
    lines, classes, inside, decorator = [PROLOGUE], {}, None, ""
    for module, names in re.findall(r"^from (mantra\.core\.\w+) c?import (.+)", text, re.MULTILINE):
        lines += [f"from {module} import {name}" for name in names.split(", ") if re.fullmatch(r"[A-Z][a-z]\w*", name)]
    for said in STATEMENT.finditer(text):
        if said["name"]:
            inside = classes.setdefault(said["name"], [f"class {said['name']}({said['base'] or 'object'}):"])
            continue
        into, indent = (inside, "    ") if said["inner"] else (lines, "")
        inside = inside if said["inner"] else None
        name = (said["function"] or said["constants"] or said["member"] or "").replace("__cinit__", "__init__")
        hidden = said["takes"] == "self, *_, **__" or re.match(r"_(?!_)|__(dealloc|repr|reduce|get|eq|hash)__", name)
        if into is None or hidden:
            decorator = ""
        elif said["decorator"]:
            decorator = f"{indent}@{said['decorator']}\n"
        elif said["function"]:
            takes = ", ".join(map(parameter, re.split(r",\s*(?![^\[(]*[\])])", said["takes"]))) if said["takes"] else ""
            gives = said["gives"] or said["type"] or ("None" if name == "__init__" else "Any")
            into.append(f"{decorator}{indent}def {name}({takes}) -> {gives}: ...")
            decorator = ""
        elif said["members"]:
            into += [f"{indent}{member}: {python_type(said['kind'])}" for member in said["members"].strip().split(", ")]
        elif said["member"]:
            into.append(f"{indent}{name}: {said['its']}")
        elif said["constants"]:
            its = " = ..." if indent else ": int" if said["number"] else ": Any"
            into += [f"{indent}{each}{its}" for each in name.split(", ")]
    for message, table in re.findall(r"#define MANTRA_(\w+?)(?:_FIELDS)?\(FIELD, ARRAY\)((?:.*\\\n)*.*)",
                                     Path("csrc/mantra/messages.h").read_text()) if "Message" in classes else ():
        named = "Message" if message == "TRACKING" else message.title()
        owner = classes[named if named in classes else f"{named}Row"]
        for kind, name in re.findall(r"(FIELD|ARRAY)\(\w+, (\w+)", table):
            if f"def {name}(" not in "".join(owner):
                owner.append(f"    {name}: {'int' if kind == 'FIELD' else 'tuple[int, ...]'}")
    return "\n".join(lines + [line for body in classes.values() for line in (*body, "    ...")]) + "\n"


for source in Path("mantra/core").glob("*.pyx"):
    source.with_suffix(".pyi").write_text(stub(source))


if {"bdist_wheel", "editable_wheel", "build_ext"} & set(sys.argv):
    require_compiler()      # before anything else is done or printed: pip then shows this one line

setup(
    ext_modules=[extension(source) for source in sorted(Path("mantra/core").glob("*.pyx"))],
    cmdclass={"build_ext": BuildExtensions, "build_py": BuildPackage},
)
