"""Commands about rewards themselves: train one from answers, and compare several."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from experiments.commands.arguments import Out, tell
from experiments.reward_models.comparison_plan import ComparisonPlan
from experiments.reward_models.glyph_plan import GlyphPlan
from experiments.reward_models.judge_plan import JudgePlan
from rewards.learned import reward_settings

PairsFile = Annotated[Path, arg(metavar="FILE")]


@dataclass(frozen=True)
class TrainReward:
    """Train a reward model from answers: ties, annotators' reliability and calibration included, in minutes on a CPU.

    Example: glyphlab train-reward --pairs answers.jsonl -o runs/reward
    """

    pairs: PairsFile
    """answers or training pairs, one JSON object a line, with their images beside it"""
    out: Out = Path("runs/reward")
    """the reward's folder: use it as --reward learned:FOLDER"""
    backbone: str = "pixels"
    """what describes an image: pixels, efficientnet, clip:FOLDER (CLIP or SigLIP), scores:ocr+ocr_judge,
    network (a small one trained whole) or vlm:FOLDER (Qwen-VL; vlm:FOLDER,rank=16 adapts it)"""
    settings: Annotated[reward_settings.TrainReward, arg(name="")] = field(default_factory=reward_settings.TrainReward)

    def run(self) -> int:
        from experiments.reward_models.train_reward import train_reward

        return tell(train_reward(self.pairs, self.out, self.backbone, self.settings, print))


@dataclass(frozen=True)
class TrainJudge(JudgePlan):
    """Train a vision-language model to choose between two images as people did; checkpoints, several GPUs by torchrun.

    Example: glyphlab train-judge --pairs answers.jsonl --base Qwen/Qwen2.5-VL-3B-Instruct -o runs/judge
    """

    def run(self) -> int:
        from experiments.reward_models.train_judge import train_judge

        return tell(train_judge(self, print))


@dataclass(frozen=True)
class TrainGlyph(GlyphPlan):
    """Train a network that sees broken characters which recognisers guess right: a reward, in minutes of one core.

    Characters are rendered in many faces and broken in twelve ways, and the network learns to tell how sound each is,
    and where it is not, beside two renderings of what it should be. No images are needed. A training that was stopped
    goes on where it was; the same command finishes it.

    Example: glyphlab train-glyph -o runs/glyph
    """

    def run(self) -> int:
        from experiments.reward_models.train_glyph import train_glyph

        return tell(train_glyph(self))


@dataclass(frozen=True)
class CompareRewards(ComparisonPlan):
    """Compare rewards on people's answers: one page that says which to use for what and how sure that is.

    Writes comparison.html, comparison.json, comparison.csv and scores.csv.

    Example: glyphlab compare-rewards --pairs answers.jsonl --rewards ocr,ocr_judge,learned:runs/reward -o
    runs/comparison
    """

    def run(self) -> int:
        from experiments.reward_models.compare_rewards import compare_rewards

        return tell(compare_rewards(self, print))
