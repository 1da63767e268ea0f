"""Takes the commands and the Python out of a tutorial and runs them, in their order, in one folder.

    ```sh                    run by bash; the first command that fails ends the test
    ```python                run as a script
    ```python title="a.py"   saved as a.py, and run unless a later block imports it or runs it
    <!-- tested with: ... -->   options that the next block's `glyphlab train` or `train-judge` gets, to take seconds
    <!-- a server: not run -->  the next block does not end by itself; its options alone are checked

Blocks in other languages, such as text, are not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs" / "tutorial"
BLOCK = re.compile(
    r"(?:<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>sh|python)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """What a tutorial asks its reader to run."""

    language: str
    text: str
    title: str = ""
    note: str = ""

    @property
    def command(self) -> str:
        """The text for bash, with the options of the note."""
        if self.note.startswith("tested with: "):
            options = self.note.removeprefix("tested with: ")
            command = r"^glyphlab (train (?!-)|train-judge ).*$"
            return re.sub(command, rf"\g<0> {options}", self.text, flags=re.MULTILINE)
        if self.note.startswith("a server"):
            return re.sub(r"^glyphlab .*$", r"\g<0> --help > /dev/null", self.text, flags=re.MULTILINE)
        return self.text


def blocks(page: str) -> list[Block]:
    """Return what is to be run, in its order."""
    return [Block(m["language"], m["text"], m["title"] or "", m["note"] or "") for m in BLOCK.finditer(page)]


def waits(block: Block, later: list[Block]) -> bool:
    """Whether a saved file is run, or imported, by a later block."""
    module = Path(block.title).stem
    return any(re.search(rf"\b(python {re.escape(block.title)}|(from|import) {module})\b", each.text) for each in later)


def scripts(page: str, folder: Path) -> Iterator[list[str]]:
    """Save the files of a page in `folder`; yield the command line of every block that runs."""
    found = blocks(page)
    for i, block in enumerate(found):
        if block.language == "sh":
            yield ["bash", "-euo", "pipefail", "-c", block.command]
            continue
        file = folder / (block.title or f"block_{i}.py")
        file.write_text(block.text, encoding="utf-8")
        if not (block.title and waits(block, found[i + 1 :])):
            yield [sys.executable, str(file)]


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which `glyphlab` and `python` are ours, and nothing of the caller's home is read."""
    commands = folder / ".bin"
    commands.mkdir()
    for name, line in (
        ("glyphlab", f'"{sys.executable}" -m tests.docs.tiny_command'),
        ("python", f'"{sys.executable}"'),
    ):
        (commands / name).write_text(f'#!/bin/sh\nexec {line} "$@"\n')
        (commands / name).chmod(0o755)
    return {
        "PATH": f"{commands}:{os.environ['PATH']}", "HOME": str(folder), "PYTHONPATH": f"{folder}:{ROOT}",
        "OMP_NUM_THREADS": "1", "COLUMNS": "120",
    }  # fmt: skip


def run(page: str, folder: Path) -> str:
    """Run a page; everything that it printed. Raises AssertionError with the block that failed."""
    around, printed = environment(folder), ""
    for line in scripts(page, folder):
        done = subprocess.run(line, cwd=folder, env=around, capture_output=True, text=True, timeout=1800, check=False)
        assert done.returncode == 0, f"{line[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        printed += done.stdout
    return printed
