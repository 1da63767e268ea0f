"""Reward-weighted regression: fine-tuning on the model's own images, the better ones more.

    (R1)  w_i = n softmax_group(A_i / T),  n judged images in the group: mean 1, only the order and T matter
    (R2)  L = mean_i w_i mean || v_theta(x, sigma, text) - (eps - x0_i) ||^2                             x as (X1)

Peters & Schaal 2007; for text-to-image Lee et al., arXiv:2302.12192. A baseline: it never learns from what was bad,
only less of it. A high T tends to fitting everything alike, T to 0 to the best of each group (alignment/best_of_n.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from alignment.forward_process import FinishedImages, Forward, Point, error, noised
from alignment.groups import Passes, Prompts, over_updates, sample_groups
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.interface import FlowModel
from rewards.scores import ScoringPool


@dataclass(frozen=True)
class Rwr(Forward):
    """Settings of reward-weighted regression."""

    temperature: float = 1.0
    """T of (R1), in standard deviations of the reward"""

    def passes(self) -> Passes:
        """See `Groups.passes`."""
        return Passes(self.group, 0, False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0.0:
            raise ValueError(f"temperature={self.temperature} must be positive; for the best alone use best of n")


def regression_weights(advantage_PG: Tensor, judged_PG: Tensor, temperature: float) -> Tensor:
    """(R1) [P, G]; 0 for what was not judged, and in groups where nothing was."""
    share = torch.where(judged_PG, advantage_PG / temperature, -torch.inf).softmax(1).nan_to_num(0.0)
    return share * judged_PG.sum(1, keepdim=True)


def loss(model: FlowModel, p: Point) -> tuple[Tensor, dict[str, Tensor]]:
    """(R2), over what teaches."""
    error_B = error(model.velocity(p.x_BSC, p.sigma_B, p.cond), p)
    return (p.weight_B * error_B).mean(), {"flow_error": error_B.detach().mean(), "weight_most": p.weight_B.max()}


def train(
    model: FlowModel, engine: Engine, prompts: Prompts, scorer: ScoringPool, cfg: Rwr, start: int = 0
) -> Iterator[Step]:
    """Yields after every rollout and its updates."""
    for step in range(start, cfg.steps):
        rollouts = sample_groups(model, engine, prompts, scorer, cfg, step)
        metrics = dict(rollouts.metrics)
        if rollouts.teaches:
            images = []
            for one, advantage, w, _ in rollouts.parts:
                by_group = advantage.view(-1, cfg.group), w.view(-1, cfg.group) > 0.0
                weights = regression_weights(*by_group, cfg.temperature).flatten()  # (R1)
                images.append(FinishedImages(one.x0_BSC, one.cond, advantage, w * weights))
            points = noised(images, cfg, step, engine.rank)
            metrics |= over_updates([engine.update(points, partial(loss, model)) for _ in range(cfg.updates)])
        yield Step(step, metrics)
