"""Every command that README and the documents show is one that the command line takes, with options that it has."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import tyro
from tyro.conf import ConsolidateSubcommandArgs, OmitSubcommandPrefixes

from experiments.cli import COMMANDS, require_command
from experiments.settings import parse
from experiments.training.launch import find

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```sh.*?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"^ *Example: (glyphlab .+?)(?=\n *\n|\n *\"\"\")", re.MULTILINE | re.DOTALL)


def lines(page: str) -> list[list[str]]:
    """Return the words behind `glyphlab` of each command in the page's blocks of shell."""
    found = []
    for block in FENCED.findall(page):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "glyphlab" in words[:20]:
                found.append([word for word in words[words.index("glyphlab") + 1 :] if word != "..."])
    return found


def check(arguments: list[str]) -> None:
    """Raise where the command line would not take these words."""
    name, *rest = arguments
    if name.startswith("-"):
        return
    require_command(arguments)
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            if name == "train" and rest and not rest[0].startswith("-"):
                parse(find("nano_grpo" if rest[0] == "NAME" else rest[0]), Path("runs") / rest[0], rest[1:])
                return
            tyro.cli(OmitSubcommandPrefixes[ConsolidateSubcommandArgs[COMMANDS[name]]], args=rest)  # type: ignore
    except SystemExit as end:
        raise ValueError(f"{name}: {said.getvalue()}") from end


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_command_line_takes_every_command_of_a_page(page: Path) -> None:
    wrong = []
    for arguments in lines(page.read_text(encoding="utf-8")):
        try:
            check(arguments)
        except ValueError as error:
            wrong.append((shlex.join(arguments), str(error)[-400:]))
    assert not wrong, wrong


def test_the_command_line_takes_the_examples_of_its_commands() -> None:
    text = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "experiments" / "commands").glob("*.py"))
    examples = EXAMPLE.findall(text)
    assert len(examples) > len(COMMANDS)
    for example in examples:
        check(shlex.split(example)[1:])


@pytest.mark.parametrize(
    "line", ["glyphlab trian nano_grpo", "glyphlab train nano_grpo --algorithm.grop 3", "glyphlab evaluate a --fast"]
)
def test_a_command_that_is_not_there_is_found(line: str) -> None:
    (arguments,) = lines(f"```sh\n{line}   # a remark\n```\n")
    with pytest.raises(ValueError, match=r"."):
        check(arguments)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if FENCED.search(page.read_text("utf-8"))], ids=lambda p: p.stem
)
def test_a_shell_takes_every_block_and_torchrun_its_options(page: Path) -> None:
    from torch.distributed.run import get_args_parser

    for block in FENCED.findall(page.read_text(encoding="utf-8")):
        said = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert not said.returncode and not said.stderr, (block, said.stderr)
        for line in (line for line in block.replace("\\\n", " ").splitlines() if " glyphlab " in line):
            words = shlex.split(line, comments=True)
            if "torchrun" in words and "..." not in words:
                taken, _ = get_args_parser().parse_known_args(words[words.index("torchrun") + 1 :])
                assert taken.training_script == "glyphlab" and taken.no_python, line
