"""Flow-GRPO: group-relative policy optimisation of a flow model.

    (G1)  A_i = advantage of an image over the others of its prompt (alignment/advantages.py)
                                                                                     Liu et al., arXiv:2505.05470
    (G2)  rho_i,t = exp(log p_theta(x_t+1 | x_t) - log p_old(x_t+1 | x_t))           mean log-probabilities
    (G3)  L = - mean_i,t min(rho A, clip(rho, 1 - e, 1 + e) A) + beta K
    (G4)  KL_t = mean (mu_theta - mu_ref)^2 / (2 std^2), std = the step's own, so it carries the step size
    (G5)  K = sum_t KL_t / sum_t (sigma_t - sigma_t+1), over the stochastic steps

KL_t shrinks with the step, so its mean over steps depends on how many there are. (G5) is the divergence gathered along
the path by unit of noise level: as steps through the same levels grow finer it tends to an integral, so beta stays.

Samples that could not be judged (NaN), and groups whose rewards are all equal, teach nothing: they are left out of
the mean (G3) and counted. Rollout and update use the same batches: rho is exactly 1 before the first update (logged).

Guidance of rollout and update are two choices. `sampler.guidance` guides the rollout. The policy of (G2) to (G5) is

    (G6)  p_theta(x_t+1 | x_t) = the kernel's step along  v = guided(v_theta(x_t, text), v_theta(x_t, no text))
          or, with guide_update=False, along              v = v_theta(x_t, text)

The second is hybrid guidance (Qwen-Image-2.0-RL, arXiv:2606.27608: guidance while sampling, none in the forward pass of
the policy gradient; so does DGPO). Actions still come from the guided rollout. p_old is the unguided policy that
learns, asked once more on the rollout's batches before the first step, so that rho begins at exactly 1 there too; the
reference of (G4) is unguided as well. A network that reads its guidance as a number has one policy for each number: it
keeps the rollout's in the update, whatever `guide_update` says. Learning from finished images (forward_process.py) is
unguided anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from alignment.groups import Groups, Prompts, over_updates, sample_groups
from alignment.trajectory import Trajectory, Transition, policy
from base_model import flow
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.interface import Conditioning, FlowModel
from base_model.sample import Sampler
from rewards.scores import ScoringPool


@dataclass(frozen=True)
class Grpo(Groups):
    """Settings of Flow-GRPO."""

    learns_at: ClassVar[Literal["steps", "images"]] = "steps"

    clip: float = 1e-3
    """e of (G3), in units of the mean log-probability's ratio"""
    beta: float = 0.0
    """weight of the KL to the reference (G5); 0 needs no reference"""
    paper_compat: bool = False
    """KL_t without its step size, mean (mu - mu_ref)^2 / (2 s^2), as in the published code, to use its beta"""
    guide_update: bool = True
    """whether the policy that learns is guided as the rollout is (G6); False: hybrid guidance, rollouts alone are"""

    @property
    def needs_reference(self) -> bool:
        """See `Groups.needs_reference`."""
        return self.beta > 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.exploration.window:
            raise ValueError(
                "exploration.window=0: without a stochastic step there is no likelihood to reinforce; choose 1 or more"
            )
        if self.paper_compat and self.exploration.kernel not in (flow.flow_sde, flow.dance):
            raise ValueError("paper_compat is for exploration.kernel flow.flow_sde or flow.dance: the others have no s")


class Micro(NamedTuple):
    """One stochastic step of some samples; `weight_B` is 0 for samples that teach nothing, else total / taught."""

    trajectory: Trajectory
    transition: Transition
    advantage_B: Tensor
    weight_B: Tensor


Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]
"""called as `loss(model, m, cfg=cfg)`"""


def policy_now(model: FlowModel, m: Micro, cfg: Grpo) -> flow.Gaussian:
    """The distribution that the model now has where the sample took its step."""
    one_a_row = slice(None, None, m.transition.copies)
    cond, uncond = m.trajectory.cond.take(one_a_row), m.trajectory.uncond.take(one_a_row)
    return policy(model, m.transition, cond, uncond, update_sampler(cfg, cond), cfg.exploration)


def update_sampler(cfg: Grpo, cond: Conditioning) -> Sampler:
    """The sampler of the policy that learns (G6)."""
    return cfg.sampler if cfg.guide_update or cond.reads_guidance else replace(cfg.sampler, guidance=1.0)


@torch.no_grad()
def of_learner(model: FlowModel, path: Trajectory, cfg: Grpo) -> Trajectory:
    """The same with mean and log-probability of the policy that learns, where the rollout had another (G6)."""
    if update_sampler(cfg, path.cond) == cfg.sampler:
        return path
    old = [(t, policy_now(model, Micro(path, t, t.log_prob_B, t.log_prob_B), cfg)) for t in path.transitions]
    steps = (replace(t, log_prob_B=p.log_prob(t.next_BSC), mean_BSC=p.mean_BSC) for t, p in old)
    return replace(path, transitions=tuple(steps))


def with_kl(
    model: FlowModel, m: Micro, cfg: Grpo, now: flow.Gaussian, total: Tensor, metrics: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Adds beta times the KL to the reference to `total`, where there is a reference."""
    if cfg.beta <= 0.0:
        return total, metrics
    with torch.no_grad(), model.reference() as reference:
        before = policy_now(reference, m, cfg)
    kl = (m.weight_B * now.kl(before)).mean()  # (G4)
    steps = [t.sigma - t.sigma_next for t in m.trajectory.transitions]
    unit = m.transition.sigma - m.transition.sigma_next if cfg.paper_compat else len(steps) / sum(steps)  # (G5)
    return total + cfg.beta * unit * kl, {**metrics, "kl": kl.detach(), "kl_rate": unit * kl.detach()}


def loss(model: FlowModel, m: Micro, cfg: Grpo) -> tuple[Tensor, dict[str, Tensor]]:
    """(G3) for one stochastic step of some samples."""
    now = policy_now(model, m, cfg)
    ratio = torch.exp(now.log_prob(m.transition.next_BSC) - m.transition.log_prob_B)  # (G2)
    clipped = ratio.clamp(1.0 - cfg.clip, 1.0 + cfg.clip)
    objective = torch.minimum(ratio * m.advantage_B, clipped * m.advantage_B)
    total = -(m.weight_B * objective).mean()  # (G3)
    gap = (ratio.detach() - 1.0).abs()
    metrics = {"ratio": ratio.detach().mean(), "ratio_gap": gap.max(), "clip_share": (gap > cfg.clip).float().mean()}
    return with_kl(model, m, cfg, now, total, metrics)


def train(
    model: FlowModel, engine: Engine, prompts: Prompts, scorer: ScoringPool, cfg: Grpo, start: int = 0,
    loss: Loss = loss,
) -> Iterator[Step]:  # fmt: skip
    """Yields after every rollout and its updates; a variant is another `loss`."""
    for step in range(start, cfg.steps):
        finish = partial(of_learner, model, cfg=cfg)
        rollouts = sample_groups(model, engine, prompts, scorer, cfg, step, finish)  # (G1)
        metrics = dict(rollouts.metrics)
        if rollouts.teaches:
            micros = [
                Micro(part.trajectory, transition, part.advantage_B, part.weight_B)
                for part in rollouts.parts
                for transition in part.trajectory.transitions
            ]
            metrics |= over_updates([engine.update(micros, partial(loss, model, cfg=cfg)) for _ in range(cfg.updates)])
        yield Step(step, metrics)
