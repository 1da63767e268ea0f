"""What tests of online algorithms share: a judge that answers at once, an engine that watches, a model of one number.

Shapes: P prompts, G samples of each, B = P x G; S latent tokens, C channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from base_model.engine import LocalEngine, OptimConfig
from base_model.interface import Conditioning
from base_model.qwen_image import QwenImage
from preference_data.prompts import PromptSet
from preference_data.records import Prompt
from rewards.scores import Scores
from tests.tiny_model import tiny_model

G = 4
WORDS = ("ABC", "DE", "F", "GHI", "JK", "L")
PROMPTS = PromptSet.from_texts(f'the word "{word}" in red sans' for word in WORDS)
GENTLE = OptimConfig(steps=100, muon_lr=0.0, adamw_lr=1e-4, clip=0.0, warmup=0, decay_from=1.0)


@dataclass
class Judged:
    """A judge that answers at once with `reward(batch, prompts, pictures)`, and remembers what it was asked."""

    reward: Callable[[int, Sequence[Prompt], np.ndarray], np.ndarray]
    asked: list[tuple[tuple[Prompt, ...], np.ndarray]] = field(default_factory=list)

    def submit(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Future[Scores]:
        value_B = np.asarray(self.reward(len(self.asked), prompts, images_B3HW), dtype=np.float64)
        self.asked.append((tuple(prompts), images_B3HW))
        future: Future[Scores] = Future()
        future.set_result(Scores(value_B, {}))
        return future


def listed(*groups: Sequence[float]) -> Judged:
    """The same rewards for the first group, the second, and so on, whatever they show."""
    return Judged(lambda batch, *_: np.asarray(groups[batch % len(groups)]))


def redness(_: int, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> np.ndarray:
    pixels = images_B3HW.astype(np.float64) / 255.0
    return pixels[:, 0].mean((1, 2)) - pixels[:, 1:].mean((1, 2, 3))


SPREAD = ([0.0, 1.0, 0.5, 0.25], [1.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.9])


class Watching(LocalEngine):
    """Computes gradients and keeps them, with the micro-batches; moves nothing."""

    def __init__(self, model: QwenImage, rank: int = 0, others: Tensor | None = None) -> None:
        super().__init__(model.network, GENTLE)
        self.rank, self.world_size = rank, 1 if others is None else 2
        self.others, self.micros, self.calls = others, [], 0

    def update(self, micros, loss):
        self.module.zero_grad(set_to_none=True)
        reports = []
        for micro in micros:
            value, metrics = loss(micro)
            (value / len(micros)).backward()
            reports.append({name: float(x) for name, x in metrics.items()})
        self.micros, self.calls = list(micros), self.calls + 1
        return {name: sum(r[name] for r in reports) / len(reports) for name in reports[0]}

    def gather(self, x_B: Tensor) -> Tensor:
        return x_B if self.others is None else torch.cat([self.others.view(-1, *x_B.shape[1:]), x_B])


def moved() -> QwenImage:
    """A model that is no longer at its reference."""
    model, random = tiny_model(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=random))
    return model


class Line:
    """A model whose velocity is one number: everything about its policy can be worked out on paper."""

    def __init__(self, value: float, before: float) -> None:
        self.trainable = nn.Module()
        self.trainable.value = nn.Parameter(torch.tensor(value))
        self.before = before

    def velocity(self, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        return self.trainable.value.expand(x_BSC.shape)

    @contextlib.contextmanager
    def reference(self) -> Iterator[Line]:
        yield Line(self.before, self.before)
