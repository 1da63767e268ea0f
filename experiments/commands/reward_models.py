"""Commands about rewards themselves: train one from answers, and compare several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from experiments.commands.arguments import Out

PairsFile = Annotated[Path, arg(metavar="FILE")]


@dataclass(frozen=True)
class TrainReward:
    """Train a reward model from answers: ties, annotators' reliability and calibration included, in minutes on a CPU.

    Example: glyphlab train-reward --pairs answers.jsonl -o runs/reward
    """

    pairs: PairsFile
    """answers or training pairs, one JSON object a line, with their pictures beside it"""
    out: Out = Path("runs/reward")
    """the reward's folder: use it as --reward learned:FOLDER"""
    backbone: str = "pixels"
    """what describes a picture: pixels, efficientnet, clip:FOLDER (CLIP or SigLIP), scores:ocr+ocr_judge"""
    ties: str = "rao_kupper"
    """likelihood of ties: rao_kupper or davidson"""
    hidden: int = 0
    """units of a hidden layer; 0 = a linear head"""
    margin: float = 0.0
    """how much larger a gap should be per unit of an answer's strength; 0 ignores strengths"""
    same_annotators: bool = False
    """trust every annotator alike instead of learning how reliable each is"""
    held_out: float = 0.15
    """share of the answers kept for the model card's numbers, by prompt and by picture"""
    seed: int = 0
    """of the split and the fit"""

    def run(self) -> int:
        from experiments.reward_training import train_reward
        from rewards import train

        cfg = train.TrainReward(
            ties=self.ties, hidden=self.hidden, margin=self.margin, annotators=not self.same_annotators,
            held_out=self.held_out, seed=self.seed,
        )  # fmt: skip
        for line in train_reward(self.pairs, self.out, self.backbone, cfg, print):
            print(line)
        return 0
