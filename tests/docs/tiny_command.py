"""`python -m tests.docs.tiny_command ...` is `glyphlab ...` with a chain of seconds, and evaluations of a few words."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fixtures.tiny.tiny_chain import tiny_plan
from tests.fixtures.tiny.tiny_taste import tiny_taste


def run(arguments: list[str]) -> int:
    """Run one command; its exit status."""
    from experiments.configs import nano

    plan, nano.evaluation = nano.evaluation, tiny_plan()  # before anything reads it
    assert plan != nano.evaluation
    if arguments == ["quickstart"]:
        from experiments.quickstart.quickstart import quickstart

        quickstart(Path("runs/quickstart"), tiny_taste())
        return 0
    from experiments.cli import main

    return main(arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
