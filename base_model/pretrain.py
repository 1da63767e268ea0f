"""Flow-matching pretraining, from captions and from images with instructions.

    (P1)  sigma = sigmoid(m + mu(S) - mu(S0) + s n),  n ~ N(0, 1)         logit-normal, Esser et al., arXiv:2403.03206
    (P2)  x = (1 - sigma) x0 + sigma eps
    (P3)  L = E sigma^k || v_theta(x, sigma, text, images) - (eps - x0) ||^2    Lipman et al., arXiv:2210.02747, k = 0
    (P4)  text is replaced by the unconditional template with probability `dropout`
                                                                          Ho & Salimans, arXiv:2207.12598
    (P5)  L + glyph_weight L_g: a middle layer says which character each token shows    base_model/qwen/glyph_labels.py

Samples of a batch may differ in size, and some may have images that they are made from. Every sample weighs the same
in (P3), whatever its size, and only what is to be made is predicted. mu (`FlowModel.shift`) is the shift with which the
model samples S tokens, S0 the tokens of the model's own image: more tokens of one signal hide noise better, so
larger images are trained at noise as much higher as they are sampled at; at the own size m stands alone.

The error of the data that (x, v) point at is sigma times that of v, so k = 2 weighs the data's error alike at all noise
levels, and 0 < k < 2 lies between. What only the text can tell is asked at high noise.

(P4) drops the text of a sample alone: the images stay, in both of their encodings, because guidance of an edit asks
what the instruction adds to them. What is dropped is replaced by what guidance will later ask (`unconditional`), never
by zeros, which no sampler asks.

Noise, sigma and dropout of an update are functions of (seed, step, rank), so a resumed run is the same run.
Shapes: B samples, S latent tokens of the largest, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from base_model.engine.bounds import require_at_least
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.flow import add_noise, logit_normal
from base_model.interface import ConditionImages, Conditioning, FlowModel, Grid, token_count
from base_model.micro_batches import split, weighed
from base_model.qwen.glyph_labels import UNKNOWN, GlyphLabels, answers_of, glyph_error, label
from base_model.qwen.mmdit import MMDiT
from base_model.qwen.packing import leading
from base_model.seeding import generator


class Batch(NamedTuple):
    """What is learned from: clean latents and what asks for them."""

    x0_BSC: Tensor
    """zeros behind the shorter ones"""
    texts: Sequence[str]
    """captions or instructions"""
    grids: tuple[Grid, ...] = ()
    """one a sample; () when all are of the model's own size"""
    sources: ConditionImages = ()
    """images that a sample is made from, 8-bit levels [3, H, W]; () when none is"""

    def images(self) -> ConditionImages:
        """The sources in [0, 1]."""
        return [[image.float() / 255.0 for image in own] for own in self.sources]


class Latents(Protocol):
    """Batches addressable by (step, size) and by who of how many ranks reads them."""

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch: ...


@dataclass(frozen=True)
class Pretrain:
    """Settings of flow-matching training."""

    learns_from: ClassVar[Literal["images", "pairs", "rollouts"]] = "images"
    trains: ClassVar[Literal["transformer", "autoencoder"]] = "transformer"
    begins_anew: ClassVar[bool] = True
    """whether fresh weights are a beginning"""

    steps: int
    """updates"""
    batch: int = 64
    """images an update and rank"""
    micro: int = 64
    """images a backward pass"""
    sigma_mean: float = 1.0
    """m of (P1), at the model's own size; > 0 leans to noise, where letters are decided"""
    sigma_std: float = 1.0
    """s of (P1)"""
    sigma_power: float = 0.0
    """k of (P3)"""
    dropout: float = 0.1
    """share of samples trained without their text (P4)"""
    glyph_weight: float = 0.0
    """of (P5), for captions of rendered words and our own network; 0 = not asked"""
    glyph_block: int = 2
    """the block, counted from 0, whose answer (P5) asks"""
    seed: int = 0
    """of noise levels, noise and dropout"""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "batch", "micro")
        require_at_least(self, 0.0, "sigma_std", "glyph_block")
        if self.batch % self.micro:
            raise ValueError(f"micro={self.micro} must divide batch={self.batch}: the engine averages equal micros")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout={self.dropout} must be in [0, 1)")
        if not 0.0 <= self.glyph_weight < math.inf:
            raise ValueError(f"glyph_weight={self.glyph_weight} must be finite and >= 0 (0 = not asked)")


class Micro(NamedTuple):
    """What one backward pass reads."""

    x0_BSC: Tensor
    eps_BSC: Tensor
    sigma_B: Tensor
    cond: Conditioning
    share: float = 1.0
    """of the batch, times the number of micro-batches: see micro_batches.py"""
    glyphs: GlyphLabels | None = None
    """of (P5)"""


def drop_text(cond: Conditioning, uncond: Conditioning, dropped_B: Tensor) -> Conditioning:
    """(P4): the conditioning with the dropped samples replaced by the rows of `uncond`, which has one for each."""
    rows = torch.arange(len(cond))
    rows[dropped_B] = len(cond) + torch.arange(len(uncond))
    return Conditioning.stack([cond, uncond]).take(rows)


def condition(model: FlowModel, batch: Batch, dropped_B: Tensor) -> Conditioning:
    """What the network reads beside the noisy latent, with (P4)."""
    images = batch.images()
    cond = model.encode_text(batch.texts, images)
    if chosen := dropped_B.nonzero()[:, 0].tolist():
        chosen_images: ConditionImages = [images[i] for i in chosen] if images else ()
        cond = drop_text(cond, model.unconditional(len(chosen), chosen_images), dropped_B)
    return replace(cond, grids=batch.grids) if batch.grids else cond


def loss(model: FlowModel, micro: Micro, sigma_power: float = 0.0) -> tuple[Tensor, dict[str, Tensor]]:
    """(P3): the mean over samples of their means over tokens. Padding has neither noise nor data, so no error."""
    x, glyphs = add_noise(micro.x0_BSC, micro.eps_BSC, micro.sigma_B), micro.glyphs  # (P2)
    listening: AbstractContextManager[list[Tensor]] = answers_of(glyphs.block) if glyphs else nullcontext([])
    with listening as seen:
        v = model.velocity(x, micro.sigma_B, micro.cond)
    padding_B = micro.x0_BSC.shape[1] / token_counts(micro.cond).to(x.device)
    error_B = (v - (micro.eps_BSC - micro.x0_BSC)).square().mean((1, 2)) * padding_B  # (P3)
    total, metrics = (micro.sigma_B**sigma_power * error_B).mean(), {"flow_error": error_B.detach().mean()}
    if glyphs:
        extra = glyph_error(seen[0], glyphs.labels_BS, glyphs.readout_KD)
        total, metrics = total + glyphs.weight * extra, metrics | {"glyph_error": extra.detach()}  # (P5)
    return weighed(total, metrics, micro.share)


def token_counts(cond: Conditioning) -> Tensor:
    """[B] latent tokens of what is to be made."""
    return torch.tensor([token_count([grid]) for grid in cond.grids])


def micro_batch(
    x0_BSC: Tensor, eps_BSC: Tensor, sigma_B: Tensor, cond: Conditioning, rows: slice | list[int], share: float = 1.0,
    glyphs: GlyphLabels | None = None,
) -> Micro:  # fmt: skip
    """Some samples, without the padding that none of them needs."""
    own = cond.take(rows)
    S = int(token_counts(own).max())
    glyphs = glyphs and glyphs._replace(labels_BS=glyphs.labels_BS[rows])
    return Micro(x0_BSC[rows, :S], eps_BSC[rows, :S], sigma_B[rows], own, share, glyphs)


def glyph_labels(
    model: FlowModel, texts: Sequence[str], cond: Conditioning, dropped_B: Tensor, cfg: Pretrain
) -> GlyphLabels | None:
    """What (P5) asks of a batch: nothing where the text was dropped, and None when it is off.

    Raises ValueError for another network than our own, and for a batch of images of several sizes.
    """
    if not cfg.glyph_weight:
        return None
    if not isinstance(network := getattr(model, "network", None), MMDiT) or cfg.glyph_block >= network.cfg.num_layers:
        raise ValueError(
            f"glyph_weight={cfg.glyph_weight} asks block {cfg.glyph_block} of our own network, and this one has none"
        )
    if len(sizes := set(cond.grids)) > 1:
        raise ValueError(f"glyph_weight={cfg.glyph_weight} needs images of one size, not of {sorted(sizes)} tokens")
    labels, readout = label(texts, cond.grids[0], network.cfg.width)
    labels[dropped_B] = UNKNOWN
    block = network.transformer_blocks[cfg.glyph_block]
    return GlyphLabels(labels.to(cond.text_BLD.device), readout.to(cond.text_BLD.device), block, cfg.glyph_weight)


def train(model: FlowModel, engine: Engine, data: Latents, cfg: Pretrain, start: int = 0) -> Iterator[Step]:
    """Yields after every update."""
    own = model.shift(model.noise(1, generator(cfg.seed, 0, 0, "size")).shape[1])
    for step in range(start, cfg.steps):
        batch = data.batch(step, cfg.batch, engine.rank, engine.world_size)
        random = generator(cfg.seed, step, engine.rank, "flow")
        eps = torch.randn(batch.x0_BSC.shape, generator=random)
        shift = torch.tensor([model.shift(token_count([g])) - own for g in batch.grids]) if batch.grids else 0.0
        sigma = logit_normal(cfg.batch, cfg.sigma_mean + shift, cfg.sigma_std, random)  # (P1)
        dropped = torch.rand(cfg.batch, generator=random) < cfg.dropout
        cond = condition(model, batch, dropped)  # (P4)
        eps = eps * leading(token_counts(cond).tolist(), eps.shape[1], eps.device)[..., None]
        x0, eps, sigma = (t.to(engine.device) for t in (batch.x0_BSC, eps, sigma))
        parts = split(model, engine, cond, cfg.micro)
        glyphs = glyph_labels(model, batch.texts, cond, dropped, cfg)
        micros = [micro_batch(x0, eps, sigma, cond, *part, glyphs) for part in parts]
        yield Step(step, engine.update(micros, lambda m: loss(model, m, cfg.sigma_power)))
