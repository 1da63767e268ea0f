"""Arguments that several commands share."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from experiments.record.moved_names import current_setting
from preference_data.spelling import not_a_number

RUNS = Path("runs")
RunFolder = Annotated[Positional[Path], arg(name="run", metavar="RUN")]
Out = Annotated[Path, arg(aliases=["-o"])]
MaybeOut = Annotated[Path | None, arg(aliases=["-o"], metavar="PATH")]

OLD_OPTIONS: dict[str, str] = {
    "--pictures": "--images",
    "--probe-pictures": "--probe-images",
    "--same-annotators": "--no-annotators",
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


@contextlib.contextmanager
def in_plain_words(command: str) -> Iterator[None]:
    """Says on stderr what the parser of a command line finds wrong as `plain_words` puts it; `command` is the words
    before the options, such as "train nano_sft"."""
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            yield
    except SystemExit:
        print(plain_words(heard.getvalue(), command), end="", file=sys.stderr)
        raise
    else:
        print(heard.getvalue(), end="", file=sys.stderr)


COLOUR = re.compile(r"\x1b\[[0-9;]*m")
NUMBER = re.compile(r"(?:invalid literal for (int)\(\)[^:]*|could not convert string to (float)): '(.*?)'")
TUPLE = re.compile(r"Could not parse arguments (\[.*?\]) into tuple type (?:typing\.)?[tT]uple\[(int|float)")


def plain_words(box: str, command: str) -> str:
    """tyro's box about a wrong command line as lines: numbers in words, and no options but those of the command."""
    rows = [line.rstrip() for line in COLOUR.sub("", box).splitlines()]
    if rows and rows[0].startswith("╭"):
        inner = [line[2:-1].rstrip() for line in rows[1:-1]]
    elif len(rows) > 2 and re.fullmatch(" -+", rows[1]):  # where the terminal has no such signs
        inner = [line[2:] for line in rows[2:]]
    else:
        return box
    first, *rest = [part.strip("\n").split("\n") for part in re.split(r"^[─-]+$", "\n".join(inner), flags=re.MULTILINE)]
    error = " ".join(" ".join(first).split())
    option = re.match(r"Error parsing (.*?): ", error)
    if option and (number := NUMBER.search(error)):
        first = [f"{option[1]}: {not_a_number(int if number[1] else float, number[3])}"]
    elif option and (numbers := TUPLE.search(error)):
        kind = int if numbers[2] == "int" else float
        wrong = next(each for each in ast.literal_eval(numbers[1]) if not is_number(kind, each))
        first = [f"{option[1]}: {not_a_number(kind, wrong)}"]
    if "--prompt," in error and command == "sample":
        first.append('the prompt is written without an option: glyphlab sample RUN "a red bus"')
    lines = [*first, *(line for part in rest for line in own_part(part, command))]
    return "\n".join([f"glyphlab: {lines[0]}", *lines[1:], f"see glyphlab {command} --help".replace("  ", " "), ""])


def is_number(kind: type, text: str) -> bool:
    """Whether a text is a number of that kind."""
    try:
        kind(text)
    except ValueError:
        return False
    return True


def own_part(part: Sequence[str], command: str) -> list[str]:
    """A part of tyro's box without its title and footer, and of what was perhaps meant what the command has itself."""
    if part[0].startswith("For full helptext"):
        return []
    if not part[0].startswith("Perhaps you meant"):
        return [re.sub(r"\{None\}\|\{?([A-Z ]+)\}?", r"\1", line) for line in part if line != "Argument helptext:"]
    chosen: list[str] = []
    option: list[str] = []
    listed = False
    for line in [*part[1:], "    -"]:
        where = line.strip()
        if line.startswith("    -"):  # the next option; one with no list of commands is of this command
            chosen += [] if listed else option
            option, listed = [line], False
        elif where.startswith("in glyphlab "):
            chosen += option if where == f"in glyphlab {command} --help" else []
            listed = True
        elif not listed:
            option.append(line)
    return ["perhaps you meant:", *chosen] if chosen else []
