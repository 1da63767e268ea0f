"""Commands about rewards themselves: train one from answers, and compare several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from experiments.commands.arguments import Out, tell
from experiments.reward_models.comparison_plan import ComparisonPlan
from experiments.reward_models.judge_plan import JudgePlan

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
    ties: str = "rao_kupper"
    """likelihood of ties: rao_kupper or davidson"""
    hidden: int = 0
    """units of a hidden layer; 0 = a linear head"""
    margin: float = 0.0
    """how much larger a gap should be per unit of an answer's strength; 0 ignores strengths"""
    same_annotators: bool = False
    """trust every annotator alike instead of learning how reliable each is"""
    held_out: float = 0.15
    """share of the answers kept for the model card's numbers, by prompt and by image"""
    seed: int = 0
    """of the split and the fit"""

    def run(self) -> int:
        from experiments.reward_models.train_reward import train_reward
        from rewards.learned import train

        cfg = train.TrainReward(
            ties=self.ties, hidden=self.hidden, margin=self.margin, annotators=not self.same_annotators,
            held_out=self.held_out, seed=self.seed,
        )  # fmt: skip
        return tell(train_reward(self.pairs, self.out, self.backbone, cfg, print))


@dataclass(frozen=True)
class TrainJudge(JudgePlan):
    """Train a vision-language model to choose between two images as people did; checkpoints, several GPUs by torchrun.

    Example: glyphlab train-judge --pairs answers.jsonl --base Qwen/Qwen2.5-VL-3B-Instruct -o runs/judge
    """

    def run(self) -> int:
        from experiments.reward_models.train_judge import train_judge

        return tell(train_judge(self, print))


@dataclass(frozen=True)
class TrainGlyph:
    """Train a network that sees broken characters which recognisers guess right: a reward, in minutes of one core.

    Characters are rendered in many faces and broken in twelve ways, and the network learns to tell how sound each is,
    and where it is not, beside two renderings of what it should be. No images are needed. A training that was stopped
    goes on where it was; the same command finishes it.

    Example: glyphlab train-glyph -o runs/glyph
    """

    out: Out = Path("runs/glyph")
    """the network's folder: use it as glyph:weights=FOLDER"""
    languages: str = "en,zh-Hans"
    """what it learns to see: en (letters and digits), zh-Hans, or both"""
    crops: int = 40_000
    """characters that are rendered to learn from, 1.5 ms each"""
    updates: int = 3600
    """steps of the training, about 60 ms each; more see better"""
    kinds: str = ""
    """ways of breaking that it learns, such as cut,gap,add; all twelve when empty"""
    faces: str = ""
    """further faces to learn from, as zh-Hans:FILE.ttf,en:FILE.otf"""
    save_every: int = 500
    """updates between checkpoints"""
    seed: int = 0
    """of characters, damage and network: train two, learn from one and evaluate with the other"""

    def run(self) -> int:
        from base_model.data.glyphs.damage import KINDS
        from base_model.data.writing.faces import language_named
        from experiments.reward_models.train_glyph import GlyphPlan, train_glyph
        from rewards.glyph import glyph_training

        named = [each.partition(":") for each in self.faces.split(",") if each]
        if wrong := [head for head, colon, path in named if not colon or not path]:
            raise ValueError(f"--faces {wrong[0]} names no language; write zh-Hans:{wrong[0]} or en:{wrong[0]}")
        plan = GlyphPlan(
            self.out, tuple(language_named(each) for each in self.languages.split(",") if each), self.crops,
            tuple(each for each in self.kinds.split(",") if each) or tuple(KINDS),
            tuple((language_named(head), Path(path)) for head, _, path in named), self.save_every,
            glyph_training.TrainGlyph(updates=self.updates, seed=self.seed),
        )  # fmt: skip
        return tell(train_glyph(plan))


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
