"""Diffusion-DPO from what people answered: ties by a likelihood that knows them, weights, and margins.

With D = -beta/2 [ (e_theta^1 - e_ref^1) - (e_theta^2 - e_ref^2) ] - c m, e as (D2) in alignment/dpo.py, where m is how
far apart people held the two and c how much of that the model must show (Amini et al., arXiv:2402.10571):

    (T1)  Rao-Kupper   log P(1 beats 2) = log s(D - kappa)
                       log P(tie) = log(e^(2 kappa) - 1) + log s(D - kappa) + log s(-D - kappa)      s = sigmoid
    (T2)  Davidson     log P(1 beats 2) = D/2 - log Z,   log P(tie) = log nu - log Z,
                       Z = e^(D/2) + e^(-D/2) + nu
    (T3)  L = - mean_i w_i log P(answer_i),   w_i of mean 1 over all answers

Rao & Kupper 1967, Davidson 1970, as in preference_data/statistics/ranking.py; for DPO Chen et al., arXiv:2409.17431. A
tie pulls the two together: its likelihood is greatest at D = 0. With `tie_weight` 0 ties are left out; never is one a
win. Without ties, and with kappa or nu towards 0, (T3) is (D3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from alignment import dpo
from alignment.dpo import Dpo, errors, shuffled_rows
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.flow import logit_normal
from base_model.interface import ConditionImages, FlowModel, Grid
from base_model.micro_batches import split, weighed
from base_model.seeding import generator

Likelihood = Callable[[Tensor, Tensor, float], Tensor]
"""(D [B], whether a tie [B], kappa or nu) -> log-likelihood of the answers [B]"""


def rao_kupper(D: Tensor, tie: Tensor, kappa: float) -> Tensor:
    """(T1)"""
    won, lost = F.logsigmoid(D - kappa), F.logsigmoid(-D - kappa)
    return torch.where(tie, math.log(math.expm1(2.0 * kappa)) + won + lost, won)


def davidson(D: Tensor, tie: Tensor, nu: float) -> Tensor:
    """(T2)"""
    constant = torch.full_like(D, math.log(nu))
    Z = torch.logsumexp(torch.stack([0.5 * D, -0.5 * D, constant]), 0)
    return torch.where(tie, constant, 0.5 * D) - Z


@dataclass(frozen=True)
class TiedDpo(Dpo):
    """Settings of DPO with ties; the other fields are DPO's."""

    reads: ClassVar[Literal["pairs", "answers", "verdicts"]] = "answers"

    likelihood: Likelihood = rao_kupper
    """rao_kupper or davidson"""
    ties: float = 0.5
    """kappa or nu: how close two images may be and still be told apart; about log odds at which ties give way"""
    tie_weight: float = 1.0
    """weight of a tie beside a decided answer; 0 = ties are left out"""
    weigh_by_margin: bool = False
    """a decided answer weighs its margin (such as the share of people it won by) instead of 1"""
    margin: float = 0.0
    """c, in log odds per unit of an answer's margin"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ties <= 0.0 or self.tie_weight < 0.0:
            raise ValueError(
                f"ties={self.ties} must be positive (at 0 a tie is impossible) and tie_weight={self.tie_weight} at "
                "least 0 (0 leaves ties out)"
            )


@dataclass(frozen=True)
class Answers:
    """What was answered about two images, in latent space: the first is the better one, unless it is a tie."""

    first_NSC: Tensor
    second_NSC: Tensor
    texts: tuple[str, ...]
    tie_N: Tensor
    margin_N: Tensor
    """how far apart, in the annotators' units; NaN when nobody said"""
    images: ConditionImages = ()
    """what each text asks to edit; () when none does"""
    grids: tuple[Grid, ...] = ()
    """of both latents of an answer, zeros behind the shorter ones; () when all are of the model's own size"""

    def __post_init__(self) -> None:
        counts = [len(x) for x in (self.first_NSC, self.second_NSC, self.texts, self.tie_N, self.margin_N)]
        if len(set(counts)) > 1 or not counts[0]:
            raise ValueError(f"{counts} first and second latents, texts, ties and margins: one of each, at least one")


def weights(answers: Answers, cfg: TiedDpo) -> Tensor:
    """(T3): w [N]. Raises ValueError when every answer weighs 0."""
    decided = answers.margin_N.nan_to_num(1.0) if cfg.weigh_by_margin else torch.ones_like(answers.margin_N)
    w = torch.where(answers.tie_N, torch.full_like(decided, cfg.tie_weight), decided)
    if not w.sum() > 0.0:
        raise ValueError(
            f"all {len(w)} answers weigh 0 ({int(answers.tie_N.sum())} are ties, tie_weight={cfg.tie_weight}): nothing "
            "to learn from; raise tie_weight, or collect decided answers"
        )
    return w / w.mean()


class Micro(NamedTuple):
    """What one backward pass reads; the first half of `pairs` is the first image of every answer."""

    pairs: dpo.Micro
    tie_B: Tensor
    margin_B: Tensor
    weight_B: Tensor


def loss(model: FlowModel, m: Micro, cfg: TiedDpo) -> tuple[Tensor, dict[str, Tensor]]:
    """(T3)"""
    with torch.no_grad(), model.reference() as reference:
        before_2B = errors(reference, m.pairs)
    gain_1, gain_2 = (errors(model, m.pairs) - before_2B).chunk(2)
    implicit = -0.5 * cfg.beta * (gain_1 - gain_2)
    D = implicit - torch.where(m.tie_B, 0.0, cfg.margin * m.margin_B.nan_to_num(0.0))
    total = -(m.weight_B * cfg.likelihood(D, m.tie_B, cfg.ties)).mean()  # (T3)
    shown, decided = implicit.detach(), ~m.tie_B
    metrics = {
        "implicit_accuracy": torch.where(decided, (shown > 0.0).float(), 0.5).mean(),  # a tie is half right
        "margin": (shown * decided).mean(),
        "tie_gap": (shown.abs() * m.tie_B).mean(),
        "ties": m.tie_B.float().mean(),
        "chosen_drift": (gain_1.detach() * decided).mean(),
        "rejected_drift": (gain_2.detach() * decided).mean(),
    }
    return weighed(total, metrics, m.pairs.share)


def train(model: FlowModel, engine: Engine, answers: Answers, cfg: TiedDpo, start: int = 0) -> Iterator[Step]:
    """Yields after every update. The model's reference must be frozen where training begins."""
    weight_N = weights(answers, cfg)
    for step in range(start, cfg.steps):
        rows = shuffled_rows(len(answers.texts), step * engine.world_size + engine.rank, cfg.batch, cfg.seed)
        random = generator(cfg.seed, step, engine.rank, "dpo")
        both = [x_NSC[rows].to(engine.device) for x_NSC in (answers.first_NSC, answers.second_NSC)]
        eps = torch.randn(both[0].shape, generator=random)
        sigma = logit_normal(cfg.batch, cfg.sigma_mean, cfg.sigma_std, random).to(engine.device)
        cond = dpo.conditioned(model, answers.texts, answers.images, answers.grids, rows)
        eps = dpo.without_padding(eps, cond).to(engine.device)
        micros = []
        for part in split(model, engine, cond, cfg.micro):
            batch = rows[part.rows]
            tie, margin, weight = (x[batch].to(engine.device) for x in (answers.tie_N, answers.margin_N, weight_N))
            micros.append(Micro(dpo.micro_batch(both, eps, sigma, cond, part), tie, margin, weight))
        yield Step(step, engine.update(micros, lambda m: loss(model, m, cfg)))
