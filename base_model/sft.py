"""Supervised fine-tuning: the flow-matching loss on a small, clean, curated set.

    (S1)  L = E || v_theta(x, sigma, text) - (eps - x0) ||^2,   (x0, text) from a finite set of N, seen for
          steps * batch / N passes                                               Qwen-Image, arXiv:2508.02324

It is pretraining's loss (P3) with other data and other settings: captions are right, so guidance dropout can be small,
and noise levels spread evenly (mean 0), because what is left to learn is detail as well as letters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.interface import FlowModel
from base_model.pretrain import Latents, Pretrain
from base_model.pretrain import train as flow_matching


@dataclass(frozen=True)
class Sft(Pretrain):
    """Settings of supervised fine-tuning; the fields are pretraining's."""

    begins_anew: ClassVar[bool] = False

    sigma_mean: float = 0.0
    dropout: float = 0.1


def train(model: FlowModel, engine: Engine, data: Latents, cfg: Sft, start: int = 0) -> Iterator[Step]:
    """(S1). Yields after every update. `data` is a finite stream (`TextStream.limit`), reshuffled at every pass."""
    yield from flow_matching(model, engine, data, cfg, start)
