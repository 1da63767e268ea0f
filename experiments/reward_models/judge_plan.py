"""The settings of a judge's training, which are the options of `glyphlab train-judge`."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

METHODS = ("sft", "dpo")


@dataclass(frozen=True)
class JudgeSettings:
    """How a judge is trained."""

    method: str = "sft"
    """sft; or dpo, to go on from a judge that sft made and that --base names"""
    beta: float = 0.1
    """of dpo: the smaller, the further it may go from --base"""
    rank: int = 32
    """of LoRA on the language model; 0 = all weights learn"""
    alpha: float = 64.0
    """of LoRA: what it adds is scaled by alpha / rank"""
    epochs: float = 2.0
    """how often every question is asked"""
    batch: int = 16
    """questions an update, over all processes"""
    micro: int = 2
    """questions a pass and process"""
    rate: float = 1e-4
    """learning rate, after a warm-up of 5 % falling to zero in a straight line"""
    dtype: str = "bfloat16"
    """of the model on a GPU"""
    least_pixels: int = 56 * 56
    """smaller images are enlarged to this area"""
    most_pixels: int = 1024 * 28 * 28
    """area that the model is shown of an image; larger images are scaled down"""
    save_every: int = 100
    """updates between checkpoints"""
    seed: int = 0
    """of the split and the order"""

    def __post_init__(self) -> None:
        if self.dtype not in (kinds := ("float32", "bfloat16", "float16")):
            raise ValueError(f"dtype is {self.dtype!r}; choose one of {', '.join(kinds)}")
        if (
            self.rank < 0
            or self.epochs <= 0
            or not 0 < self.rate < 1
            or min(self.batch, self.micro, self.save_every) < 1
        ):
            raise ValueError(
                f"rank={self.rank}, epochs={self.epochs}, rate={self.rate}, batch={self.batch}, micro={self.micro}, "
                f"save_every={self.save_every}: rank at least 0, rate between 0 and 1, the others above 0"
            )
        if self.method not in METHODS or not self.beta > 0:
            raise ValueError(f"method={self.method}, beta={self.beta}: {' or '.join(METHODS)}, beta above 0")
        if self.method == "dpo" and not self.rank:
            raise ValueError("rank=0: dpo compares with the model without its adapter; choose a rank, such as 32")
        if self.batch % self.micro:
            raise ValueError(f"micro={self.micro} does not divide batch={self.batch}")


@dataclass(frozen=True)
class JudgePlan:
    """What a judge is trained from."""

    pairs: Annotated[Path, arg(metavar="FILE")]
    """answers or training pairs, one JSON object a line, with their images beside it"""
    base: str
    """folder or hub name of a Qwen2-VL or Qwen2.5-VL model, or a judge that is to learn more"""
    out: Annotated[Path, arg(aliases=["-o"])] = Path("runs/judge")
    """the judge's folder: use it as vlm:weights=FOLDER. A training that was stopped goes on there"""
    rubric: str = "text_correctness"
    """whose question about pairs it learns to answer: a rubric's name, or a file"""
    ties: bool = False
    """a tie is an answer of its own; otherwise ties are left out"""
    strengths: bool = False
    """an answer counts as much as it is strong"""
    annotators: bool = True
    """trust each annotator by how often others agree with them, beyond chance; otherwise all alike"""
    single: bool = False
    """teach the question about single images too, which a GRPO run asks: yes of the preferred one, no of the other"""
    held_out: float = 0.15
    """share of the answers that it is measured on, by prompt and by image"""
    settings: Annotated[JudgeSettings, arg(name="")] = field(default_factory=JudgeSettings)

    def facts(self, rubric: str) -> dict[str, Any]:
        """What the judge depends on; `rubric` is the digest of its questions. Memory and checkpoints change nothing."""
        own = {name: value for name, value in asdict(self.settings).items() if name not in ("micro", "save_every")}
        base = Path(self.base).expanduser()
        return {
            "pairs": hashlib.sha256(self.pairs.read_bytes()).hexdigest()[:16],
            "base": str(base.resolve() if base.exists() else self.base), "rubric": rubric, "ties": self.ties,
            "strengths": self.strengths, "annotators": self.annotators, "single": self.single,
            "held_out": self.held_out, **own,
        }  # fmt: skip

    def check(self) -> None:
        """Raises ValueError for a share that leaves nothing to learn from, or to be measured on."""
        if not 0 < self.held_out < 0.8:
            raise ValueError(f"held_out={self.held_out}: a share above 0 and below 0.8")
