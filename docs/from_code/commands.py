"""Makes a page for every command: what `--help` prints, of the command and of each command within it."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from unittest import mock

from experiments import cli
from from_code.markdown import block, page, table

WIDTH = "100"
"""Columns of the help texts, so that a page is the same on every machine."""


def help_text(*names: str) -> str:
    """Return what `glyphlab NAMES --help` prints."""
    printed = io.StringIO()
    plain = mock.patch.dict(os.environ, {"COLUMNS": WIDTH, "NO_COLOR": "1"})
    with plain, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        cli.parsed([*names, "--help"])
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines())


def summary(command: type) -> str:
    """Return the first line of a command's docstring."""
    return (command.__doc__ or "").strip().split("\n")[0]


def command_page(name: str) -> str:
    """Return the page of one command."""
    inner = cli.inner_commands(cli.COMMANDS[name])
    within = (f"## glyphlab {name} {each}\n\n{block(help_text(name, each))}" for each in inner)
    return page(f"glyphlab {name}", block(help_text(name)), *within)


def pages() -> Iterator[tuple[str, str]]:
    """Yield (file, Markdown) of the list of commands and of every command."""
    rows = ((f"[`glyphlab {name}`]({name}.md)", summary(command)) for name, command in cli.COMMANDS.items())
    about = "`glyphlab train NAME --help` lists the settings of an experiment; [settings](../settings.md) has them all."
    yield "commands/index.md", page("Commands", table(("command", "what it does"), rows), about)
    for name in cli.COMMANDS:
        yield f"commands/{name}.md", command_page(name)
