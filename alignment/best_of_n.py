"""Best-of-n fine-tuning: the best image of every group is fitted, the others are forgotten.

    (H1)  i* = argmax_i r_i within a group; of equally good ones the first that was sampled
    (H2)  L = mean over groups that teach of mean || v_theta(x, sigma, text) - (eps - x0_i*) ||^2        x as (X1)

Also known as rejection-sampling fine-tuning or RAFT (Dong et al., arXiv:2304.06767). A baseline, cheap to learn from:
one image a group instead of all, so it can be seen at several noise levels. A group without spread has no best.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from alignment.forward_process import FinishedImages, Forward, noised
from alignment.groups import Part, Passes, Prompts, over_updates, sample_groups
from alignment.rwr import loss
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.interface import FlowModel
from rewards.scores import ScoringPool


@dataclass(frozen=True)
class BestOfN(Forward):
    """Settings of best-of-n fine-tuning."""

    levels: int = 4
    """noise levels at which a best image is learned from in an update"""

    def passes(self) -> Passes:
        """See `Groups.passes`."""
        return Passes(1, 0, False)


def best_rows(advantage_B: Tensor, weight_B: Tensor, group: int) -> Tensor:
    """(H1) [P]: the row of each group's best image among the judged; of a group that teaches nothing, any row."""
    candidates = torch.where(weight_B > 0.0, advantage_B, -torch.inf).view(-1, group)
    first = torch.arange(len(candidates), device=candidates.device) * group
    return first + (candidates == candidates.amax(1, keepdim=True)).int().argmax(1)


def best(part: Part, group: int) -> FinishedImages:
    """The best images of a micro-batch, one a group; a group that teaches nothing weighs 0."""
    rows = best_rows(part.advantage_B, part.weight_B, group)
    x0 = part.trajectory.x0_BSC[rows]
    return FinishedImages(x0, part.trajectory.cond.take(rows), part.advantage_B[rows], part.weight_P)


def train(
    model: FlowModel, engine: Engine, prompts: Prompts, scorer: ScoringPool, cfg: BestOfN, start: int = 0
) -> Iterator[Step]:
    """Yields after every rollout and its updates."""
    for step in range(start, cfg.steps):
        rollouts = sample_groups(model, engine, prompts, scorer, cfg, step)
        metrics = dict(rollouts.metrics)
        if rollouts.teaches:
            points = noised([best(part, cfg.group) for part in rollouts.parts], cfg, step, engine.rank)
            metrics |= over_updates([engine.update(points, partial(loss, model)) for _ in range(cfg.updates)])  # (H2)
        yield Step(step, metrics)
