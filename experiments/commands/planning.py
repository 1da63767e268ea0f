"""The command that works out what a training run would need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Plan:
    """Work out memory, work and time of a training run before anything is allocated; exit status 1 if it cannot fit.

    Example: glyphlab plan qwen_image --rank 64 --gpus 8 --card h100-80gb
    """

    name: Annotated[Positional[str], arg(metavar="CONFIG")]
    """a preset, such as qwen_image, or an experiment, such as nano_grpo"""
    base: str = ""
    """folder of a released checkpoint, whose network is counted in place of the preset's or the experiment's own"""
    card: str = "h100-80gb"
    """of the table in experiments/planning/accelerators.py"""
    gpus: int = 8
    """cards, one process each"""
    zero: int | None = None
    """ZeRO stage; all are compared and the first that fits is chosen when not given"""
    rank: int | None = None
    """of LoRA, 0 = all weights learn; the experiment's, or 0, when not given"""
    bf16: bool = True
    """bfloat16 weights with float32 masters; otherwise float32"""
    offload: bool = False
    """with --zero: optimizer state in host memory"""
    recompute: bool = True
    """activation checkpointing of every block"""
    base_bits: Literal[0, 4, 8] = 0
    """bits a weight of the frozen base beside an adapter: 8, 4, 0 = as it is"""
    base_on_host: bool = False
    """the frozen base beside an adapter in host memory"""
    ema: bool | None = None
    """an average of the trained weights; the experiment's, or none, when not given"""
    batch: int = 0
    """samples an update and card; the experiment's, or one pass, when 0"""
    micro: int = 0
    """samples a pass; the experiment's, or 1, when 0"""
    size: tuple[int, int] = (0, 0)
    """height and width in pixels; the preset's when 0 0"""
    text: int = 512
    """text tokens of a sample"""
    updates: int = 1000
    """of a preset's run; an experiment has its own"""
    share: float = 0.4
    """part of the card's peak that products reach; 0.3 to 0.5 is usual for transformers of this width"""
    frozen_gb: float = 0.0
    """memory of other models on every card, in GB: reward models, Qwen2.5-VL in bfloat16 (16.6), autoencoder (0.3)"""

    def run(self) -> int:
        from experiments.planning.estimate import Setup
        from experiments.planning.from_experiment import CommandLine, plan

        setup = Setup(
            self.card, self.gpus, -1 if self.zero is None else self.zero, self.bf16, self.offload, self.recompute,
            self.rank or 0, self.share, bool(self.ema), False, self.frozen_gb,
            self.base_bits, self.base_on_host,
        )  # fmt: skip
        requested = CommandLine(
            self.name, setup, self.rank, self.ema, self.zero, self.micro, self.batch, self.size, self.text,
            self.updates, self.base,
        )  # fmt: skip
        status, message = plan(requested)
        print("\n".join(message))
        return status
