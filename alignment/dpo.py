"""Diffusion-DPO for flows, offline on decided pairs.

One sigma and one noise eps are shared by the preferred and the rejected image of a pair:

    (D1)  x^w = (1 - sigma) x0^w + sigma eps,   x^l = (1 - sigma) x0^l + sigma eps
    (D2)  e_theta(x) = mean || v_theta(x, sigma, text) - (eps - x0) ||^2,  e_ref likewise with the frozen reference
    (D3)  L = - log sigmoid( -beta/2 [ (e_theta^w - e_ref^w) - (e_theta^l - e_ref^l) ] )

Wallace et al., arXiv:2311.12908, on the flow-matching error as in Qwen-Image, arXiv:2508.02324. The error is a mean
over latent dimensions; `beta` refers to that. At the reference the loss is log 2. Ties are no pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from base_model.engine.bounds import require_at_least
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.flow import add_noise, logit_normal
from base_model.interface import ConditionImages, Conditioning, FlowModel, Grid
from base_model.micro_batches import Part, split, weighed
from base_model.pretrain import token_counts
from base_model.qwen.packing import leading
from base_model.seeding import generator


@dataclass(frozen=True)
class Dpo:
    """Settings of offline DPO."""

    learns_from: ClassVar[Literal["images", "pairs", "rollouts"]] = "pairs"
    reads: ClassVar[Literal["pairs", "answers", "verdicts"]] = "pairs"
    """decided pairs; answers, with their ties; or verdicts on single images"""

    steps: int
    """updates"""
    batch: int = 32
    """pairs an update and rank"""
    micro: int = 32
    """pairs a backward pass"""
    beta: float = 500.0
    """how fast a pair saturates, per unit of mean squared velocity error"""
    sigma_mean: float = 0.0
    """mean of the logit of the noise levels; above 0 leans to noise"""
    sigma_std: float = 1.0
    """noise levels are logit-normal"""
    seed: int = 0
    """of the order of pairs, noise levels and noise"""

    @property
    def needs_reference(self) -> bool:
        """The loss compares with the model as it was when training began."""
        return True

    def __post_init__(self) -> None:
        require_at_least(self, 1, "batch", "micro")
        require_at_least(self, 0.0, "sigma_std")
        if self.batch % self.micro:
            raise ValueError(f"micro={self.micro} must divide batch={self.batch}: the engine averages equal micros")
        if self.beta <= 0.0:
            raise ValueError(f"beta={self.beta} must be positive; the loss is constant at 0")


def shuffled_rows(N: int, step: int, size: int, seed: int) -> Tensor:
    """[size] rows of batch `step` of an endless sequence of shuffled passes: a pure function of its arguments."""
    indices = range(step * size, (step + 1) * size)
    orders = {p: torch.randperm(N, generator=generator(seed, p, 0, "pairs")) for p in {i // N for i in indices}}
    return torch.stack([orders[i // N][i % N] for i in indices])


def of_rows(images: ConditionImages, rows: Tensor) -> ConditionImages:
    """The condition images of these rows; () when no row of any batch has one."""
    return [images[int(i)] for i in rows] if images else ()


@dataclass(frozen=True)
class Pairs:
    """Decided pairs in latent space: row i of each belongs to text i."""

    chosen_NSC: Tensor
    rejected_NSC: Tensor
    texts: tuple[str, ...]
    images: ConditionImages = ()
    """what each text asks to edit; () when none does"""
    grids: tuple[Grid, ...] = ()
    """of both latents of a pair, zeros behind the shorter ones; () when all are of the model's own size"""

    def __post_init__(self) -> None:
        if not len(self.chosen_NSC) == len(self.rejected_NSC) == len(self.texts) > 0:
            raise ValueError(
                f"{len(self.chosen_NSC)} preferred and {len(self.rejected_NSC)} rejected latents for "
                f"{len(self.texts)} texts: DPO needs one of each and at least one pair"
            )


class Micro(NamedTuple):
    """What one backward pass reads; the first half of every tensor with 2B rows is the preferred one."""

    x0_2BSC: Tensor
    eps_2BSC: Tensor
    sigma_2B: Tensor
    cond_2B: Conditioning
    share: float = 1.0
    """of the batch, times the number of micro-batches: see base_model/micro_batches.py"""


def conditioned(
    model: FlowModel, texts: Sequence[str], images: ConditionImages, grids: Sequence[Grid], rows: Tensor
) -> Conditioning:
    """What the network reads for these rows, in the sizes of what they show; without `grids` in the model's own."""
    cond = model.encode_text([texts[int(i)] for i in rows], of_rows(images, rows))
    return replace(cond, grids=tuple(grids[int(i)] for i in rows)) if grids else cond


def without_padding(eps_BSC: Tensor, cond: Conditioning) -> Tensor:
    """The noise, zeros where a sample has no tokens."""
    return eps_BSC * leading(token_counts(cond).tolist(), eps_BSC.shape[1], eps_BSC.device)[..., None]


def micro_batch(images: Sequence[Tensor], eps_BSC: Tensor, sigma_B: Tensor, cond: Conditioning, part: Part) -> Micro:
    """Some samples with the padding that they need, at one noise and one noise level for all `images` of a sample."""
    rows, share = part
    own, copies = cond.take(rows), len(images)
    S = int(token_counts(own).max())
    x0 = torch.cat([x_BSC[rows, :S] for x_BSC in images])
    many = Conditioning.stack([own] * copies) if copies > 1 else own
    return Micro(x0, eps_BSC[rows, :S].repeat(copies, 1, 1), sigma_B[rows].repeat(copies), many, share)


def errors(model: FlowModel, m: Micro) -> Tensor:
    """(D2) [2B]: means over what is no padding, which has neither noise nor data, so no error."""
    x = add_noise(m.x0_2BSC, m.eps_2BSC, m.sigma_2B)  # (D1)
    error_2B = (model.velocity(x, m.sigma_2B, m.cond_2B) - (m.eps_2BSC - m.x0_2BSC)).square().mean((1, 2))
    return error_2B * (x.shape[1] / token_counts(m.cond_2B).to(x.device))


def loss(model: FlowModel, m: Micro, cfg: Dpo) -> tuple[Tensor, dict[str, Tensor]]:
    """(D3)"""
    with torch.no_grad(), model.reference() as reference:
        before_2B = errors(reference, m)
    now_2B = errors(model, m)
    gain_w, gain_l = (now_2B - before_2B).chunk(2)
    inside = gain_w - gain_l
    total = -F.logsigmoid(-0.5 * cfg.beta * inside).mean()  # (D3)
    metrics = {
        "implicit_accuracy": (inside.detach() < 0.0).float().mean(),
        "margin": -0.5 * cfg.beta * inside.detach().mean(),
        # The usual way DPO fails is that both errors rise and the rejected one merely rises faster.
        "chosen_drift": gain_w.detach().mean(),
        "rejected_drift": gain_l.detach().mean(),
    }
    return weighed(total, metrics, m.share)


def train(model: FlowModel, engine: Engine, pairs: Pairs, cfg: Dpo, start: int = 0) -> Iterator[Step]:
    """Yields after every update. The model's reference must be frozen where training begins."""
    for step in range(start, cfg.steps):
        rows = shuffled_rows(len(pairs.texts), step * engine.world_size + engine.rank, cfg.batch, cfg.seed)
        both = [x_NSC[rows].to(engine.device) for x_NSC in (pairs.chosen_NSC, pairs.rejected_NSC)]
        random = generator(cfg.seed, step, engine.rank, "dpo")
        eps = torch.randn(both[0].shape, generator=random)
        sigma = logit_normal(cfg.batch, cfg.sigma_mean, cfg.sigma_std, random).to(engine.device)
        cond = conditioned(model, pairs.texts, pairs.images, pairs.grids, rows)
        eps = without_padding(eps, cond).to(engine.device)
        micros = [micro_batch(both, eps, sigma, cond, part) for part in split(model, engine, cond, cfg.micro)]
        yield Step(step, engine.update(micros, lambda m: loss(model, m, cfg)))


AT_REFERENCE = math.log(2.0)
"""(D3) before the first update, whatever the pairs."""
