"""Turning a flow into a policy: the only place where a model becomes a distribution.

A trajectory follows the ordinary differential equation except inside a window of stochastic steps (MixGRPO,
arXiv:2507.21802). A window of all steps but the last is Flow-GRPO's full trajectory: the last has no noise under CPS
and DDIM, and under the others would leave it in the image. `policy` gives the Gaussian of one step; `rollout` samples
from it and a loss evaluates it again on the same batch, so the ratio before the first update is 1 by construction.

What comes after the window carries no gradient and has no likelihood, so it may take fewer steps of second order
(`after_window`; MixGRPO-Flash in the same paper).

When a group shares its first noise, everything before the window is the same for the whole group and is computed once;
so is the network's answer at the window's first step, where the members only begin to differ by their noise.

Shapes: B = P prompts x G samples each, members of a group side by side; S latent tokens, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from base_model import flow
from base_model.interface import ConditionImages, Conditioning, FlowModel, encoded
from base_model.sample import Sampler, sample, velocity
from base_model.seeding import generator


@dataclass(frozen=True)
class Exploration:
    """Settings of a trajectory's exploration: kernel, noise and window."""

    kernel: flow.StepKernel = flow.ddim
    """the stochastic step: flow.ddim, flow.flow_sde, flow.cps or flow.dance"""
    noise: float = 1.0
    """the kernel's knob"""
    window: int = 2
    """stochastic steps in a trajectory; 0 = none, for algorithms that learn from the image alone"""
    within: int = 4
    """the window lies inside the first `within` steps and moves through them"""
    stay: int = 1
    """updates that the window stays at a place"""
    in_order: bool = False
    """the window slides from noise to image and begins again, instead of visiting its places in a drawn order"""
    shared_noise: bool = True
    """members of a group start from one noise; prefix steps are then computed once a group"""
    storage: Literal["float32", "bfloat16", "float16"] = "float32"
    """what latents are kept in; they are rounded to it before their likelihood is taken, so the ratio begins at 1"""
    after_window: float = 1.0
    """share of the steps after the window that are computed: 1 = all, of first order; below 1 fewer, of second order"""

    def __post_init__(self) -> None:
        if not 0.0 < self.noise < math.inf:
            raise ValueError(
                f"noise is {self.noise}: a deterministic walk has no log-probability to reinforce; "
                "use finite noise > 0 here, or `sample` for plain sampling"
            )
        if self.noise > (most := flow.LARGEST_NOISE.get(self.kernel, math.inf)):
            raise ValueError(
                f"noise={self.noise} is more than flow.{self.kernel.__name__} can add, which is {most:g}: a step would "
                "have to be noisier than its noise level. Lower it, or choose kernel flow.flow_sde or flow.dance"
            )
        if not 0 <= self.window <= self.within or self.stay < 1:
            raise ValueError(
                f"a window of {self.window} steps does not fit the first {self.within}, or stay={self.stay} is below 1"
            )
        if not 0.0 < self.after_window <= 1.0:
            raise ValueError(f"after_window={self.after_window}, a share of steps, must be above 0 and at most 1")
        if not self.window and self.shared_noise:
            raise ValueError("window=0 with shared_noise makes every image of a group the same; unset shared_noise")

    def start(self, seed: int, step: int) -> int:
        """First stochastic step of update `step`: the same for every group and rank, another one every `stay`."""
        index = step // self.stay % (choices := self.starts)
        return (
            index if self.in_order else int(torch.randperm(choices, generator=generator(seed, 0, 0, "window"))[index])
        )

    @property
    def starts(self) -> int:
        """Number of places of the window; without one, shortened steps all come after it."""
        return self.within - self.window + 1 if self.window or self.after_window == 1.0 else 1

    def shortened(self, levels: Sequence[float]) -> list[float]:
        """Those of the noise levels after the window that are kept: both ends, and between them as even as they go."""
        steps = len(levels) - 1
        fewer = math.ceil(self.after_window * steps - 1e-9)  # 0.28 * 25 is a hair above 7
        return [levels[round(i * steps / fewer)] for i in range(fewer + 1)]


@dataclass(frozen=True)
class Transition:
    """One stochastic step: enough to evaluate it again. `x_BSC` holds one row for every `copies` rows of `next_BSC`."""

    x_BSC: Tensor
    next_BSC: Tensor
    sigma: float
    sigma_next: float
    copies: int
    log_prob_B: Tensor
    mean_BSC: Tensor
    """where the step pointed before its noise"""


@dataclass(frozen=True)
class Trajectory:
    """What a rollout leaves behind."""

    cond: Conditioning
    """B rows"""
    uncond: Conditioning
    """B rows of no prompt; `cond` itself where guidance does not read them"""
    transitions: tuple[Transition, ...]
    x0_BSC: Tensor
    """final latents"""


def policy(
    model: FlowModel, t: Transition, cond: Conditioning, uncond: Conditioning, sampler: Sampler, cfg: Exploration
) -> flow.Gaussian:
    """The distribution of one stochastic step. `cond` has a row for every row of `t.x_BSC`."""
    x = t.x_BSC.float()
    v = velocity(model, x, t.sigma, cond, uncond, sampler.guidance)
    step = cfg.kernel(x, v, t.sigma, t.sigma_next, cfg.noise)
    return flow.Gaussian(step.mean_BSC.repeat_interleave(t.copies, 0), step.std)


@torch.no_grad()
def rollout(
    model: FlowModel, texts: Sequence[str], group: int, sampler: Sampler, cfg: Exploration,
    seed: int, step: int, rank: int, part: int = 0, images: ConditionImages = (),
) -> Trajectory:  # fmt: skip
    """Sample `group` images for each text, or edits of its `images`, exploring in the window of update `step`.

    Its noise belongs to (seed, step, rank, part): the parts of an update differ in noise and share the window.
    """
    noise = all_noise(model, len(texts), group, cfg, generator(seed, step, rank, f"rollout {part}"))
    return explore(model, texts, group, sampler, cfg, cfg.start(seed, step), noise, images)


def all_noise(model: FlowModel, texts: int, group: int, cfg: Exploration, random: torch.Generator) -> list[Tensor]:
    """The noise that a rollout starts from, a row a text when it is shared and B rows otherwise, and [B, S, C] of every
    stochastic step."""
    first = model.noise(texts * (1 if cfg.shared_noise else group), random)
    return [first, *(model.noise(texts * group, random) for _ in range(cfg.window))]


@torch.no_grad()
def explore(
    model: FlowModel, texts: Sequence[str], group: int, sampler: Sampler, cfg: Exploration, first: int,
    noise: Sequence[Tensor], images: ConditionImages = (),
) -> Trajectory:  # fmt: skip
    """Follow the noise to images, exploring from step `first` on."""
    levels = model.levels(sampler)
    copies = group if cfg.shared_noise else 1
    cond, uncond = encoded(model, texts, sampler.guidance, images, group // copies)
    x = sample(model, noise[0], cond, uncond, sampler, levels[: first + 1]).to(dtype := getattr(torch, cfg.storage))
    full = cond.repeat(copies)
    full_uncond = full if uncond is cond else uncond.repeat(copies)
    transitions = []
    for i in range(first, first + cfg.window):
        eps = noise[1 + i - first]
        bare = Transition(x, eps, levels[i], levels[i + 1], copies, eps[:, 0, 0], eps)
        where = policy(model, bare, cond, uncond, sampler, cfg)
        after = where.sample(eps).to(dtype)
        log_prob = where.log_prob(after)
        transitions.append(Transition(x, after, levels[i], levels[i + 1], copies, log_prob, where.mean_BSC))
        x, cond, uncond, copies = after, full, full_uncond, 1
    levels = cfg.shortened(levels[first + cfg.window :])
    x0 = sample(model, x.float(), full, full_uncond, sampler, levels, second_order=cfg.after_window < 1.0)
    return Trajectory(full, full_uncond, tuple(transitions), x0)
