"""Where the host waits for the card: how often each source line of each phase asks for numbers, in a short run.

    python -m experiments.benchmarks.card.waits [--only NAME ...]

Every recipe runs at two blocks in its own way, with two updates and a checkpoint between them. A wait lets the card run
dry, so none belongs into a forward pass.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from experiments.benchmarks.card.recipe import count_recipe
from experiments.configs.large_grpo import configs as grpo
from experiments.configs.large_tuning import configs as tuning

LAYERS = 2
RECIPES = {experiment.name: experiment for experiment in (*grpo, *tuning)}


def rows(name: str, syncs: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """A line of the table for every phase and source line, most waits of a phase first."""
    phases = list(dict.fromkeys(phase for phase, _ in syncs))
    for (phase, line), count in sorted(syncs.items(), key=lambda item: (phases.index(item[0][0]), -item[1], item[0])):
        yield f"| {name} | {phase} | `{line}` | {count} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], choices=[*RECIPES, []])
    print("| recipe | phase | line | waits |\n|---|---|---|---|", flush=True)
    for name in parser.parse_args().only or RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            print(*rows(name, count_recipe(RECIPES[name], Path(folder), LAYERS).syncs), sep="\n", flush=True)


if __name__ == "__main__":
    main()
