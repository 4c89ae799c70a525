"""archive: `mantra archive VERB`: what was recorded, looked at, checked, mended, taken elsewhere."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

# verb: (module, function of it: argv -> exit code, what it does)
VERBS: dict[str, tuple[str, str, str]] = {
    "list": ("mantra.archive.look", "list_main", "which file holds what, and what is missing"),
    "show": ("mantra.archive.look", "show_main", "messages, or a book as it was at an instant"),
    "verify": ("mantra.archive.verify", "main", "is everything there, and as it was written?"),
    "repair": ("mantra.archive.verify", "repair", "write damaged and unfinished files anew"),
    "stats": ("mantra.archive.stats", "main", "describe it: rates, bursts, levels, and draw it"),
    "export": ("mantra.archive.exports", "main", "bring it to other programs: Parquet, CSV, hftbacktest"),
    "import": ("mantra.archive.imports", "main", "bring other people's recordings in"),
}
USAGE = "usage: mantra archive VERB [options]      mantra archive VERB --help explains one\n\n" + "".join(
    f"  {verb:<8} {what}\n" for verb, (_, _, what) in VERBS.items())


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] not in VERBS:
        print(f"mantra archive: no verb {arguments[0]!r}; there are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    module, function, _ = VERBS[arguments[0]]
    return int(getattr(import_module(module), function)(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main())
