"""Online DPO: the best and the worst of every group the model has just sampled are a pair.

    (L1)  (w, l) = (argmax_i r_i, argmin_i r_i) of a group, both judged; a group without spread makes no pair
    (L2)  L = - log sigmoid( -beta/2 [ (e_theta^w - e_ref^w) - (e_theta^l - e_ref^l) ] )           e as (D2), (D3)

One noise eps and one sigma are shared by both images of a pair. Offline pairs are those of a model that the policy
leaves behind; these are its own. The reference is the model where training began, or, with `follow`, the engine's
weight average: then the loss stays near log 2, and each update is a step away from where the policy has been of late.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from alignment import dpo
from alignment.best_of_n import best_rows
from alignment.forward_process import Forward
from alignment.groups import Part, Passes, Prompts, over_updates, sample_groups
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.flow import logit_normal
from base_model.interface import FlowModel
from base_model.seeding import generator
from rewards.scores import ScoringPool


@dataclass(frozen=True)
class OnlineDpo(Forward):
    """Settings of online DPO."""

    levels: int = 4
    """noise levels at which a pair is learned from in an update"""
    beta: float = 100.0
    """how fast a pair saturates, per unit of mean squared velocity error"""
    follow: bool = False
    """the reference is the run's weight average instead of the model where training began"""

    def passes(self) -> Passes:
        """See `Groups.passes`."""
        return Passes(2, 1, not self.follow)

    @property
    def needs_reference(self) -> bool:
        """See `Groups.needs_reference`."""
        return not self.follow

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta <= 0.0:
            raise ValueError(f"beta={self.beta} must be positive; the loss is constant at 0")


class Micro(NamedTuple):
    """Pairs at one noise level each, the reference's errors there, and what each pair weighs."""

    pairs: dpo.Micro
    before_2B: Tensor
    weight_B: Tensor


def extremes(part: Part, group: int) -> tuple[Tensor, Tensor]:
    """(L1): rows of the best and of the worst image of every group."""
    best = best_rows(part.advantage_B, part.weight_B, group)
    return best, best_rows(-part.advantage_B, part.weight_B, group)


def paired(parts: Sequence[Part], cfg: OnlineDpo, step: int, rank: int) -> list[tuple[dpo.Micro, Tensor]]:
    """The pairs of every micro-batch at `levels` noise levels, and their weights."""
    random, results = generator(cfg.seed, step, rank, "online dpo"), []
    for part in parts:
        best, worst = extremes(part, cfg.group)
        rows = torch.cat([best, worst])
        x0, cond = part.trajectory.x0_BSC[rows], part.trajectory.cond.take(rows)
        for _ in range(cfg.levels):
            eps = torch.randn(x0[: len(best)].shape, generator=random).repeat(2, 1, 1)
            sigma = logit_normal(len(best), cfg.sigma_mean, cfg.sigma_std, random).repeat(2)
            micro = dpo.Micro(x0, eps.to(x0.device), sigma.to(x0.device), cond)
            results.append((micro, part.weight_P))
    return results


def loss(model: FlowModel, m: Micro, cfg: OnlineDpo) -> tuple[Tensor, dict[str, Tensor]]:
    """(L2), over the pairs there are."""
    gain_w, gain_l = (dpo.errors(model, m.pairs) - m.before_2B).chunk(2)
    inside = gain_w - gain_l
    total = -(m.weight_B * F.logsigmoid(-0.5 * cfg.beta * inside)).mean()  # (L2)
    weight, inside = m.weight_B, inside.detach()
    return total, {
        "implicit_accuracy": (weight * (inside < 0.0)).mean(),
        "margin": (weight * (-0.5 * cfg.beta * inside)).mean(),
        "chosen_drift": (weight * gain_w.detach()).mean(),
        "rejected_drift": (weight * gain_l.detach()).mean(),
    }


@torch.no_grad()
def before(model: FlowModel, engine: Engine, pairs: Sequence[dpo.Micro], follow: bool) -> list[Tensor]:
    """Computes the errors of the reference."""
    if follow:
        with engine.averaged():
            return [dpo.errors(model, micro) for micro in pairs]
    with model.reference() as reference:
        return [dpo.errors(reference, micro) for micro in pairs]


def train(
    model: FlowModel, engine: Engine, prompts: Prompts, scorer: ScoringPool, cfg: OnlineDpo, start: int = 0
) -> Iterator[Step]:
    """Yields after every rollout and its updates."""
    for step in range(start, cfg.steps):
        rollouts = sample_groups(model, engine, prompts, scorer, cfg, step)
        metrics = dict(rollouts.metrics)
        if rollouts.teaches:
            pairs = paired(rollouts.parts, cfg, step, engine.rank)
            then = before(model, engine, [micro for micro, _ in pairs], cfg.follow)
            micros = [Micro(micro, b, weight) for (micro, weight), b in zip(pairs, then, strict=True)]
            metrics |= over_updates([engine.update(micros, partial(loss, model, cfg=cfg)) for _ in range(cfg.updates)])
        yield Step(step, metrics)
