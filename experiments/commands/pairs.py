"""Commands that make preference pairs, or look at them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg, subcommand

from experiments.commands.arguments import RUNS, Out, RunFolder, tell
from experiments.commands.campaigns import Export, Import


@dataclass(frozen=True)
class FromScores:
    """Make preferences by machine: sample several images a prompt, score them, keep the best and the worst.

    Example: glyphlab pairs from-scores runs/nano_sft -o runs/pairs --count 240
    """

    run_folder: RunFolder
    """folder of the finished run whose model is sampled"""
    out: Out = RUNS / "pairs"
    """folder for pairs.jsonl and the images"""
    reward: str = "ocr"
    """a reward, its settings or a mixture: ocr, ocr:ignore_case=no, 0.7*ocr+0.3*ocr_judge"""
    count: int = 240
    """prompts; each gives one pair at most"""
    group: int = 8
    """images a prompt"""
    min_margin: float = 0.0
    """least difference of scores, in the reward's units; 0 keeps every pair that is no tie"""
    seed: int = 0
    """of the prompts and of the noise"""

    def run(self) -> int:
        from experiments.reward_models.score_folder import pairs_from_run, pairs_lines

        file = pairs_from_run(
            self.run_folder, self.out, self.reward, self.count, self.group, self.min_margin, self.seed
        )
        return tell(pairs_lines(file))


@dataclass(frozen=True)
class Show:
    """Say what is in a file of preference pairs: how many, who decided, how far apart, and a few of them.

    Example: glyphlab pairs show runs/quickstart/dpo/pairs.jsonl
    """

    file: Annotated[Positional[Path], arg(metavar="FILE")]
    """a pairs.jsonl"""
    count: int = 5
    """pairs to print"""

    def run(self) -> int:
        from experiments.reward_models.score_folder import pairs_lines

        return tell(pairs_lines(self.file, self.count))


@dataclass(frozen=True)
class ExportPairs(Export):
    """Write the answers of a campaign, or its items' outcomes, to a file in one of the formats that others read.

    Example: glyphlab pairs export words -o words.parquet --format pickapic
    """


@dataclass(frozen=True)
class Pairs:
    """Make preference pairs, look at them, or exchange them with others."""

    action: (
        Annotated[FromScores, subcommand("from-scores")]
        | Annotated[Show, subcommand("show")]
        | Annotated[Import, subcommand("import")]
        | Annotated[ExportPairs, subcommand("export")]
    )

    def run(self) -> int:
        return self.action.run()
