"""Flow-GRPO: group-relative policy optimisation of a flow model.

    (G1)  A_i = (r_i - mean_group r) / (std + 1e-4), clamped to +-`advantage_clip`          Liu et al., arXiv:2505.05470
          std over all groups of the update ("global") or over the sample's own group
    (G2)  rho_i,t = exp(log p_theta(x_t+1 | x_t) - log p_old(x_t+1 | x_t))                  mean log-probabilities
    (G3)  L = - mean_i,t min(rho A, clip(rho, 1 - e, 1 + e) A) + beta KL(theta || reference)
    (G4)  KL = mean (mu_theta - mu_ref)^2 / (2 std^2), std = the step's own, so it carries the step size

Samples that could not be judged (NaN), and groups whose rewards are all equal, teach nothing: they are left out of
the mean (G3) and counted. Rollout and update use the same batches: rho is exactly 1 before the first update (logged).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from alignment.trajectory import Trajectory, Transition, Walk, policy, rollout
from base_model.engine import Engine
from base_model.interface import FlowModel
from base_model.sample import Sampler
from base_model.step import Step
from preference_data.records import Prompt
from rewards.scores import Scores


@dataclass(frozen=True)
class Grpo:
    """Settings of Flow-GRPO."""

    steps: int
    """rollouts"""
    prompts: int = 3
    """groups a rollout and rank (P)"""
    group: int = 16
    """pictures a prompt (G)"""
    sampler: Sampler = field(default_factory=lambda: Sampler(steps=8))
    walk: Walk = field(default_factory=Walk)
    micro: int = 24
    """pictures drawn, judged and learned from at a time, whole groups: while some are judged the next are drawn"""
    updates: int = 1
    """optimizer steps a rollout"""
    clip: float = 1e-3
    """e of (G3), in units of the mean log-probability's ratio"""
    beta: float = 0.0
    """weight of the KL to the reference (G4); 0 needs no reference"""
    group_spread: bool = False
    """divide by the group's own spread instead of the update's"""
    advantage_clip: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ValueError(f"group={self.group}: a group needs at least 2 pictures to be compared")
        if self.micro % self.group or (self.prompts * self.group) % self.micro:
            raise ValueError(
                f"micro={self.micro} must be a multiple of group={self.group} and divide the "
                f"{self.prompts} x {self.group} = {self.prompts * self.group} pictures of a rollout"
            )
        if self.walk.within >= (steps := self.sampler.steps):
            raise ValueError(f"within={self.walk.within} must be below sampler.steps={steps}: the last has no noise")


class Judge(Protocol):
    """Scores pictures elsewhere while the trainer goes on."""

    def submit(self, prompts: Sequence[Prompt], images_B3HW: object) -> Future[Scores]:
        """uint8 pictures, in the order of the prompts."""
        ...


class Prompts(Protocol):
    """Prompts addressable by (step, size)."""

    def batch(self, step: int, size: int) -> Sequence[Prompt]: ...


class Micro(NamedTuple):
    """One stochastic step of some samples; `weight_B` is 0 for samples that teach nothing, else total / taught."""

    trajectory: Trajectory
    transition: Transition
    advantage_B: Tensor
    weight_B: Tensor


def advantages(reward_PG: Tensor, group_spread: bool, clip: float) -> tuple[Tensor, Tensor]:
    """(G1) -> (advantage_PG, teaches_PG). NaN rewards and groups without spread get 0 and False."""
    judged = ~reward_PG.isnan()
    # float64 holds sums of float32 exactly, so that equal rewards differ from their mean by 0 and not by rounding.
    r = torch.where(judged, reward_PG, torch.zeros_like(reward_PG)).double()
    count = judged.sum(1, keepdim=True).clamp_min(1)
    centred = torch.where(judged, r - r.sum(1, keepdim=True) / count, torch.zeros_like(r))
    teaches = judged & (centred.abs().amax(1, keepdim=True) > 1e-8)
    axes = 1 if group_spread else (0, 1)
    spread = (centred.square().sum(axes, keepdim=True) / judged.sum(axes, keepdim=True).clamp_min(1)).sqrt()
    advantage = (centred / (spread + 1e-4)).clamp(-clip, clip)
    return torch.where(teaches, advantage, torch.zeros_like(r)).float(), teaches


def loss(model: FlowModel, m: Micro, cfg: Grpo) -> tuple[Tensor, dict[str, Tensor]]:
    """(G3) for one stochastic step of some samples."""
    one_a_row = slice(None, None, m.transition.copies)
    cond, uncond = m.trajectory.cond.take(one_a_row), m.trajectory.uncond.take(one_a_row)
    now = policy(model, m.transition, cond, uncond, cfg.sampler, cfg.walk)
    ratio = torch.exp(now.log_prob(m.transition.next_BSC) - m.transition.log_prob_B)  # (G2)
    clipped = ratio.clamp(1.0 - cfg.clip, 1.0 + cfg.clip)
    objective = torch.minimum(ratio * m.advantage_B, clipped * m.advantage_B)
    total = -(m.weight_B * objective).mean()  # (G3)
    metrics = {
        "ratio": ratio.detach().mean(),
        "ratio_gap": (ratio.detach() - 1.0).abs().max(),
        "clip_share": ((ratio.detach() - 1.0).abs() > cfg.clip).float().mean(),
    }
    if cfg.beta > 0.0:
        with torch.no_grad(), model.reference() as reference:
            before = policy(reference, m.transition, cond, uncond, cfg.sampler, cfg.walk)
        kl = (m.weight_B * now.kl(before)).mean()  # (G4)
        total = total + cfg.beta * kl
        metrics["kl"] = kl.detach()
    return total, metrics


def send(model: FlowModel, judge: Judge, prompts: Sequence[Prompt], x0_BSC: Tensor, group: int) -> list[Future[Scores]]:
    """Each group is sent to the judge as soon as it is decoded; one future a group."""
    waiting = []
    for i in range(0, len(prompts), group):
        pixels = model.decode(x0_BSC[i : i + group])
        waiting.append(judge.submit(prompts[i : i + group], (pixels * 255.0).round().byte().cpu().numpy()))
    return waiting


def explore(
    model: FlowModel, judge: Judge, chosen: Sequence[Prompt], cfg: Grpo, step: int, rank: int
) -> tuple[list[Trajectory], Tensor]:
    """The rollouts of an update, `micro` pictures each, and their rewards [P G]: judged while the next are drawn."""
    trajectories, waiting = [], []
    for part in range(0, cfg.prompts, cfg.micro // cfg.group):
        few = chosen[part : part + cfg.micro // cfg.group]
        texts = [prompt.text for prompt in few]
        one = rollout(model, texts, cfg.group, cfg.sampler, cfg.walk, cfg.seed, step, rank, part)
        waiting += send(model, judge, [prompt for prompt in few for _ in range(cfg.group)], one.x0_BSC, cfg.group)
        trajectories.append(one)
    return trajectories, torch.cat([torch.from_numpy(f.result().value_B) for f in waiting]).float()


def train(
    model: FlowModel, engine: Engine, prompts: Prompts, judge: Judge, cfg: Grpo, start: int = 0,
    loss: Callable[[FlowModel, Micro, Grpo], tuple[Tensor, dict[str, Tensor]]] = loss,
) -> Iterator[Step]:  # fmt: skip
    """Yields after every rollout and its updates; a variant is another `loss`."""
    for step in range(start, cfg.steps):
        chosen = prompts.batch(step * engine.world_size + engine.rank, cfg.prompts)
        trajectories, reward_B = explore(model, judge, chosen, cfg, step, engine.rank)
        # Every rank sees all rewards, so that the global spread and the share that teaches are the same everywhere.
        everyone = engine.gather(reward_B.to(engine.device)).view(-1, cfg.group)
        advantage_PG, teaches_PG = advantages(everyone, cfg.group_spread, cfg.advantage_clip)
        mine = slice(engine.rank * cfg.prompts, (engine.rank + 1) * cfg.prompts)
        taught = teaches_PG.float().mean()
        metrics = {
            "reward": float(everyone.nanmean()),
            "unjudged": float(everyone.isnan().float().mean()),
            "groups_without_spread": float((~teaches_PG.any(1)).float().mean()),
            "window": float(cfg.walk.start(cfg.seed, step)),
        }
        if taught > 0:
            advantage_MB = advantage_PG[mine].reshape(-1, cfg.micro)
            weight_MB = teaches_PG[mine].float().reshape(-1, cfg.micro) / taught
            micros = [
                Micro(one, transition, advantage_B, weight_B)
                for one, advantage_B, weight_B in zip(trajectories, advantage_MB, weight_MB, strict=True)
                for transition in one.transitions
            ]
            for update in range(cfg.updates):
                done = engine.update(micros, lambda m: loss(model, m, cfg))
                if update == 0:
                    metrics |= {"ratio_first": done["ratio"], "ratio_gap_first": done["ratio_gap"]}
            metrics |= done
        yield Step(step, metrics)
