"""Turning a flow into a policy: the only place where a model becomes a distribution.

A trajectory follows the ordinary differential equation except inside a short window of stochastic steps
(MixGRPO, arXiv:2507.21802). `policy` gives the Gaussian of one step; `rollout` samples from it and a loss evaluates it
again on the same batch, so the ratio before the first update is 1 by construction.

When a group shares its first noise, everything before the window is the same for the whole group and is computed once;
so is the network's answer at the window's first step, where the members only begin to differ by their noise.

Shapes: B = P prompts x G samples each, members of a group side by side; S latent tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from base_model import flow
from base_model.interface import Conditioning, FlowModel
from base_model.sample import Sampler, sample, velocity
from base_model.seeding import generator


@dataclass(frozen=True)
class Walk:
    """How a trajectory explores."""

    kernel: flow.StepKernel = flow.ddim
    """the stochastic step: flow.ddim, flow.flow_sde, flow.cps or flow.dance"""
    noise: float = 1.0
    """the kernel's knob"""
    window: int = 2
    """stochastic steps in a trajectory"""
    within: int = 4
    """the window lies inside the first `within` steps and moves every update"""
    shared_noise: bool = True
    """members of a group start from one noise; prefix steps are then computed once a group"""

    def __post_init__(self) -> None:
        if self.noise <= 0.0:
            raise ValueError(
                f"noise is {self.noise}: a deterministic walk has no log-probability to reinforce; "
                "use noise > 0 here, or `sample` for plain sampling"
            )
        if not 1 <= self.window <= self.within:
            raise ValueError(f"a window of {self.window} steps does not fit the first {self.within}; lower `window`")

    def start(self, seed: int, step: int) -> int:
        """First stochastic step of update `step`: the same for every group and rank, another one every update."""
        choices = self.within - self.window + 1
        order = torch.randperm(choices, generator=generator(seed, 0, 0, "window"))
        return int(order[step % choices])


@dataclass(frozen=True)
class Transition:
    """One stochastic step: enough to evaluate it again. `x_BSC` holds one row for every `copies` rows of `next_BSC`."""

    x_BSC: Tensor
    next_BSC: Tensor
    sigma: float
    sigma_next: float
    copies: int
    log_prob_B: Tensor


@dataclass(frozen=True)
class Trajectory:
    """What a rollout leaves behind."""

    cond: Conditioning
    """B rows"""
    uncond: Conditioning
    """B rows"""
    transitions: tuple[Transition, ...]
    x0_BSC: Tensor
    """final latents"""


def policy(
    model: FlowModel, t: Transition, cond: Conditioning, uncond: Conditioning, sampler: Sampler, walk: Walk
) -> flow.Gaussian:
    """The distribution of one stochastic step. `cond` has a row for every row of `t.x_BSC`."""
    v = velocity(model, t.x_BSC, t.sigma, cond, uncond, sampler.guidance)
    step = walk.kernel(t.x_BSC, v, t.sigma, t.sigma_next, walk.noise)
    return flow.Gaussian(step.mean_BSC.repeat_interleave(t.copies, 0), step.std)


@torch.no_grad()
def rollout(
    model: FlowModel, texts: Sequence[str], group: int, sampler: Sampler, walk: Walk,
    seed: int, step: int, rank: int, part: int = 0,
) -> Trajectory:  # fmt: skip
    """Sample `group` pictures for each text, exploring in the window of update `step`.

    Its noise belongs to (seed, step, rank, part): the parts of an update differ in noise and share the window.
    """
    levels, first = sampler.levels(), walk.start(seed, step)
    copies = group if walk.shared_noise else 1
    cond = model.encode_text(texts).repeat(group // copies)
    uncond = model.unconditional(len(cond))
    random = generator(seed, step, rank, f"rollout {part}")
    x = model.noise(len(cond), random)
    x = sample(model, x, cond, uncond, sampler, levels[: first + 1])
    full, full_uncond = cond.repeat(copies), uncond.repeat(copies)
    transitions = []
    for i in range(first, first + walk.window):
        eps = model.noise(len(full), random)
        bare = Transition(x, eps, levels[i], levels[i + 1], copies, eps[:, 0, 0])
        where = policy(model, bare, cond, uncond, sampler, walk)
        after = where.sample(eps)
        transitions.append(Transition(x, after, levels[i], levels[i + 1], copies, where.log_prob(after)))
        x, cond, uncond, copies = after, full, full_uncond, 1
    x0 = sample(model, x, full, full_uncond, sampler, levels[first + walk.window :])
    return Trajectory(full, full_uncond, tuple(transitions), x0)
