"""Arguments that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from experiments.record.moved_names import current_setting

RUNS = Path("runs")
RunFolder = Annotated[Positional[Path], arg(name="run", metavar="RUN")]
Out = Annotated[Path, arg(aliases=["-o"])]
MaybeOut = Annotated[Path | None, arg(aliases=["-o"], metavar="PATH")]

OLD_OPTIONS: dict[str, str] = {
    "--pictures": "--images",
    "--probe-pictures": "--probe-images",
}
"""Options of commands by their old names; settings of an experiment are in `MOVED_FIELDS`."""


def tell(lines: Iterable[str]) -> int:
    """Print what came out, each line as soon as it is there; the exit status."""
    for line in lines:
        print(line, flush=True)
    return 0


def with_current_options(arguments: Sequence[str]) -> list[str]:
    """The command line with today's names of options. Each old one is named on stderr, with what to say instead."""
    changed = []
    for argument in arguments:
        new = current_option(argument)
        if new != argument:
            old, now = argument.partition("=")[0], new.partition("=")[0]
            print(f"glyphlab: {old} is called {now} now; the old name goes with the next version", file=sys.stderr)
        changed.append(new)
    return changed


def current_option(argument: str) -> str:
    """An option with its name of today and its value as it is; anything else as it is."""
    if not argument.startswith("--") or argument == "--":
        return argument
    name, equals, value = argument.partition("=")
    known = OLD_OPTIONS.get(name.replace("_", "-"))
    return known + equals + value if known else current_setting(argument)
