"""The settings of a rewriter's training, which are the options of `glyphlab train-rewriter`."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class RewriterSettings:
    """How a rewriter is trained."""

    rank: int = 32
    """of LoRA; 0 = all weights learn"""
    alpha: float = 64.0
    """of LoRA: what it adds is scaled by alpha / rank"""
    epochs: float = 2.0
    """over the examples; 0 = no fine-tuning"""
    sft_batch: int = 32
    """examples an update of fine-tuning, over all processes"""
    sft_rate: float = 2e-4
    """learning rate of fine-tuning, after a warm-up of 5 % falling to zero in a straight line"""
    updates: int = 200
    """of GRPO; 0 = fine-tuning alone"""
    group: int = 8
    """rewrites of a prompt"""
    batch: int = 8
    """prompts an update of GRPO, over all processes"""
    micro: int = 16
    """texts a pass and process, in both stages"""
    rate: float = 2e-5
    """learning rate of GRPO, constant after a warm-up of 5 %"""
    beta: float = 0.0
    """weight of the KL divergence from the fine-tuned model"""
    temperature: float = 1.0
    """of the rewrites that GRPO samples"""
    dtype: str = "bfloat16"
    """of the frozen weights on a GPU"""
    save_every: int = 50
    """updates between checkpoints"""
    seed: int = 0
    """of prompts, order and noise"""

    def __post_init__(self) -> None:
        numbers = (self.sft_batch, self.batch, self.micro, self.save_every)
        if self.group < 2 or min(numbers) < 1 or min(self.rank, self.updates, self.epochs, self.beta) < 0:
            raise ValueError(
                f"rank={self.rank}, epochs={self.epochs}, sft_batch={self.sft_batch}, updates={self.updates}, "
                f"batch={self.batch}, group={self.group}, micro={self.micro}, beta={self.beta}, "
                f"save_every={self.save_every}: group at least 2, rank, epochs, updates and beta at least 0, the "
                "others above 0"
            )
        if not (0 < self.rate < 1 and 0 < self.sft_rate < 1 and self.temperature > 0):
            raise ValueError(
                f"rate={self.rate}, sft_rate={self.sft_rate}, temperature={self.temperature}: rates lie between 0 and "
                "1, the temperature above 0"
            )

    def micros(self, texts: int, name: str) -> int:
        """Passes of a process an update. Raises ValueError when the processes cannot share the texts evenly."""
        share = self.micro * (ranks := int(os.environ.get("WORLD_SIZE", "1")))
        if texts % share:
            raise ValueError(
                f"{name} must be a multiple of micro={self.micro} times {ranks} ranks: {share}, {2 * share}, ..."
            )
        return texts // share

    def check(self) -> None:
        """Raises ValueError when a batch cannot be shared evenly."""
        self.micros(self.sft_batch, f"sft_batch={self.sft_batch}")
        self.micros(self.batch * self.group, f"batch={self.batch} times group={self.group}")


@dataclass(frozen=True)
class RewriterPlan:
    """What a rewriter is trained for."""

    model: Annotated[Positional[str], arg(metavar="RUN_OR_CHECKPOINT")]
    """folder of a finished run, or a released checkpoint: whose images are scored"""
    base: str
    """folder or hub name of a causal language model"""
    out: Annotated[Path, arg(aliases=["-o"])] = Path("runs/rewriter")
    """the rewriter's folder; a training that was stopped goes on there"""
    reward: str = "ocr"
    """what the images are worth: a reward, or a mixture such as 0.7*ocr+0.3*brisque"""
    stage: str = ""
    """of a run with several stages, the one whose model samples; the last aligned one when not given"""
    prompts: Annotated[Path | None, arg(metavar="FILE")] = None
    """short prompts, .txt, .jsonl or .csv; built-in ones for the small presets when not given"""
    count: int = 1000
    """built-in prompts"""
    examples: Annotated[Path | None, arg(metavar="FILE")] = None
    """prompts with their rewrites, {"prompt": ..., "rewrite": ...} a line; completions by rule when not given"""
    varied: int = 4
    """without --examples: rewrites of each prompt beside its completion by rule, with what it leaves open drawn by
    lot"""
    by_rule: bool = True
    """the completion by rule is among these; --no-by-rule leaves it to the reward to say which rewrites are good"""
    images: int = 1
    """of each rewrite in training"""
    steps: int | None = None
    """from noise to image; what suits the model when not given"""
    guidance: float | None = None
    """weight of the prompt; what suits the model when not given"""
    size: tuple[int, int] | None = None
    """of a released checkpoint: height and width in pixels; what it is for when not given"""
    workers: int = 1
    """processes that score"""
    instruction: str | None = None
    """what is put before a prompt; one sentence when not given"""
    longest: int = 400
    """characters of a rewrite"""
    most_tokens: int = 96
    """tokens of a rewrite"""
    held_out: float = 0.1
    """share of the prompts that it is measured on; none of their texts is learned from"""
    seeds: int = 2
    """images of each held-out prompt"""
    settings: Annotated[RewriterSettings, arg(name="")] = field(default_factory=RewriterSettings)

    def facts(self, model: str) -> dict[str, Any]:
        """What the rewriter depends on; `model` is the image model's fingerprint. Memory and checkpoints change
        nothing, nor does what is measured at the end."""
        own = {name: value for name, value in asdict(self.settings).items() if name not in ("micro", "save_every")}
        plain = ("reward", "count", "varied", "by_rule", "images", "steps", "guidance", "size", "instruction",
                 "longest", "most_tokens", "held_out")  # fmt: skip
        files = {name: getattr(self, name) for name in ("prompts", "examples")}
        base = Path(self.base).expanduser()
        return {
            "model": model, "base": str(base.resolve() if base.exists() else self.base),
            **{name: path and hashlib.sha256(path.read_bytes()).hexdigest()[:16] for name, path in files.items()},
            **{name: getattr(self, name) for name in plain}, **own,
        }  # fmt: skip

    def check(self) -> None:
        """Raises ValueError for what cannot be, or a batch that processes cannot share."""
        self.settings.check()
        if not (self.settings.epochs or self.settings.updates):
            raise ValueError("epochs=0, updates=0: nothing would be trained; give one of them a number above 0")
        if not 0 < self.held_out < 0.8:
            raise ValueError(f"held_out={self.held_out}: a share above 0 and below 0.8")
        if min(self.count, self.images, self.seeds, self.workers) < 1 or self.varied < 0:
            raise ValueError(
                f"count={self.count}, images={self.images}, seeds={self.seeds}, workers={self.workers}, "
                f"varied={self.varied}: varied at least 0, the others at least 1"
            )
