"""Groups of images that the model sampled itself, scored and compared: where every online algorithm begins.

For each of P prompts G images are sampled (alignment/trajectory.py), each group is sent to the scorer as soon as it is
decoded, and what came out better than the rest of its group is worth more (alignment/advantages.py). With `tries` above
1 further prompts are sampled, within that bound, while too many groups of an update have no spread.

What an algorithm makes of it is its own file: grpo.py, nft.py, awm.py, rwr.py, best_of_n.py, online_dpo.py.
Shapes: B = P prompts x G samples; M micro-batches of `micro` samples, whole groups each; W ranks, K rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from alignment.advantages import advantages, fullest, mixed, reward_table
from alignment.monitoring.step_metrics import group_means, rollout_metrics
from alignment.trajectory import Exploration, Trajectory, rollout
from base_model.engine.bounds import require_above
from base_model.engine.engine import Engine
from base_model.interface import FlowModel
from base_model.micro_batches import alike
from base_model.sample import Sampler, pixels
from preference_data.image_files import source_readers
from preference_data.records import Prompt
from rewards.scores import Scores, ScoringPool, concatenate


class Passes(NamedTuple):
    """What an update of an algorithm on finished images asks of the model."""

    learned: int
    """images of a prompt that it learns from"""
    requests: int
    """how often each is also asked for without learning"""
    reference: bool
    """whether a reference is kept"""


@dataclass(frozen=True)
class Groups:
    """Settings of sampling, scoring and comparing."""

    learns_from: ClassVar[Literal["images", "pairs", "rollouts"]] = "rollouts"
    learns_at: ClassVar[Literal["steps", "images"]] = "images"
    """the stochastic steps of rollouts, or finished images at noise levels of their own"""

    steps: int
    """rollouts"""
    prompts: int = 3
    """groups a rollout and rank (P)"""
    group: int = 16
    """images a prompt (G)"""
    sampler: Sampler = field(default_factory=lambda: Sampler(steps=8))
    """steps and guidance of a rollout; algorithms on finished images learn without guidance"""
    exploration: Exploration = field(default_factory=Exploration)
    """kernel, noise and window of the stochastic steps"""
    micro: int = 24
    """images sampled, scored and learned from at a time, whole groups: while some are scored the next are sampled"""
    updates: int = 1
    """optimizer steps a rollout"""
    group_spread: bool = False
    """divide by the group's own spread instead of the update's"""
    raw_spread: bool = False
    """divide by the update's spread of the rewards themselves, differences between prompts included, as published"""
    advantage_clip: float = 5.0
    """advantages are cut to this many standard deviations, either way"""
    parts: tuple[tuple[str, float], ...] = ()
    """(part of the reward, weight): each normalised in its group before they are mixed; () = the reward's own value"""
    tries: int = 1
    """rollouts of new prompts at most, until every group of the update teaches; 1 = what does not is left out"""
    success: tuple[float, float] | None = None
    """bounds of a prompt's mean reward from 0 to 1, outside of which it waits; None = none waits"""
    seed: int = 0
    """of the noise and of the window"""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Groups of a rank that are sampled, scored and learned from together."""
        return (self.micro // self.group,) * (self.prompts * self.group // self.micro)

    @property
    def needs_reference(self) -> bool:
        """Whether the loss asks the model as it was when training began."""
        return False

    def passes(self) -> Passes:
        """What an update asks of the model, for plans. Raises ValueError where an algorithm does not say it."""
        raise ValueError(f"no plan is known for {type(self).__name__}; say in its `passes` how often it asks the model")

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ValueError(f"group={self.group}: a group needs at least 2 images to be compared")
        require_above(self, 0, "prompts", "micro", "tries", "updates", "advantage_clip")
        if self.micro % self.group or (self.prompts * self.group) % self.micro:
            raise ValueError(
                f"micro={self.micro} must be a multiple of group={self.group} and divide the "
                f"{self.prompts} x {self.group} = {self.prompts * self.group} images of a rollout"
            )
        if self.exploration.within >= (steps := self.sampler.steps):
            raise ValueError(
                f"within={self.exploration.within} must be below sampler.steps={steps}, whose last step has no noise: "
                f"take --algorithm.exploration.within {steps - 1}, or more steps"
            )
        if self.raw_spread and (self.group_spread or self.parts):
            other = "group_spread" if self.group_spread else "parts, which are normalised in their group"
            raise ValueError(f"raw_spread divides by one spread of raw rewards: it does not go with {other}")


class Prompts(Protocol):
    """Prompts addressable by (step, size)."""

    def batch(self, step: int, size: int) -> Sequence[Prompt]: ...


class Part(NamedTuple):
    """A micro-batch of images, and what each weighs, so that a mean over all is one over what teaches."""

    trajectory: Trajectory
    advantage_B: Tensor
    weight_B: Tensor
    """0 for samples that teach nothing, else samples / samples that teach, over all ranks"""
    weight_P: Tensor
    """0 for groups in which nothing teaches, else groups / groups that teach, over all ranks"""


@dataclass(frozen=True)
class Rollouts:
    """Holds this rank's images of an update, and metrics over the images of all ranks."""

    parts: tuple[Part, ...]
    metrics: dict[str, float]
    teaches: bool
    """whether anything does, on any rank"""


def send(
    model: FlowModel, scorer: ScoringPool, prompts: Sequence[Prompt], x0_BSC: Tensor, group: int
) -> list[Future[Scores]]:
    """Each group is sent to the scorer as soon as it is decoded; one future a group."""
    rows = (slice(i, i + group) for i in range(0, len(prompts), group))
    return [scorer.submit(prompts[own], pixels(model, x0_BSC[own])) for own in rows]


def explore(
    model: FlowModel, scorer: ScoringPool, chosen: Sequence[Prompt], chunks: Sequence[int], cfg: Groups, step: int,
    rank: int, first: int, finish: Callable[[Trajectory], Trajectory],
) -> tuple[list[Trajectory], Tensor]:  # fmt: skip
    """Rollouts of `chunks` prompts each, of one size, and their rewards [B, K]: scored while the next are sampled.

    `first` groups of the update were sampled before; it seeds the noise. `finish` is called while images are scored.
    """
    trajectories, waiting, part = [], [], 0
    for count in chunks:
        batch = chosen[part : part + count]
        own = model.sized_for_run(size) if (size := batch[0].size) else model
        shown = own.read_images(source_readers(prompt.sources for prompt in batch))[:]
        texts = [prompt.text for prompt in batch]
        one = rollout(own, texts, cfg.group, cfg.sampler, cfg.exploration, cfg.seed, step, rank, first + part, shown)
        waiting += send(own, scorer, [prompt for prompt in batch for _ in range(cfg.group)], one.x0_BSC, cfg.group)
        trajectories.append(finish(one))
        part += count
    return trajectories, reward_table(concatenate([future.result() for future in waiting]), cfg.parts)


def sample_groups(
    model: FlowModel, engine: Engine, prompts: Prompts, scorer: ScoringPool, cfg: Groups, step: int,
    finish: Callable[[Trajectory], Trajectory] = lambda trajectory: trajectory,
) -> Rollouts:  # fmt: skip
    """The images of update `step`: a pure function of it and of the weights.

    Every rank sees all rewards, so that spread, share that teaches and number of tries are the same everywhere. Prompts
    that name a size are sampled and learned from with those of their size, and weigh as the others do (B1).
    """
    chunks, sizes_differ = cfg.chunks, getattr(prompts, "has_sizes", False)
    if sizes_differ and cfg.tries > 1:
        raise ValueError(f"tries={cfg.tries} samples further prompts, whose sizes may be others: set tries to 1")
    W, batch, keep = engine.world_size, cfg.micro // cfg.group, cfg.prompts * cfg.group // cfg.micro
    weights = [weight for _, weight in cfg.parts]
    results, tables, full = list[Trajectory](), list[Tensor](), False
    while len(tables) < cfg.tries and not full:
        index = (step * W + engine.rank) * cfg.tries + len(tables)
        chosen = prompts.batch(index, cfg.prompts)
        if sizes_differ:
            of_one_size = alike(engine, [prompt.size for prompt in chosen], batch)
            chosen = [chosen[row] for rows in of_one_size for row in rows]
            chunks = tuple(map(len, of_one_size))
        before = len(tables) * cfg.prompts
        added, reward_BK = explore(model, scorer, chosen, chunks, cfg, step, engine.rank, before, finish)
        results += added
        tables.append(engine.gather(reward_BK.to(engine.device)).view(W, keep, cfg.micro, -1))
        reward_BK = torch.cat(tables, 1).flatten(0, 2)
        reward_PG = mixed(reward_BK, weights, cfg.group)
        spread_PG = compared(reward_PG, cfg)[1]
        teaching_WN = spread_PG.any(1).view(W, -1, batch).sum(2)
        stored_WM = fullest(teaching_WN, keep)
        full = bool((teaching_WN.gather(1, stored_WM) == batch).all())
    of_stored = torch.stack([r[rows] for r, rows in zip(reward_PG.view(W, -1, cfg.micro), stored_WM, strict=True)])
    advantage_PG, teaches_PG = compared(of_stored.view(-1, cfg.group), cfg)
    rows_P = torch.tensor([n * len(chunks) / cfg.prompts for n in chunks for _ in range(n)], device=reward_PG.device)
    images = [n * cfg.group for n in chunks]
    mine = zip(
        results if sizes_differ else (results[i] for i in stored_WM[engine.rank].tolist()),
        advantage_PG.view(W, -1)[engine.rank].split(images),
        (shares(teaches_PG).view(W, -1)[engine.rank] * rows_P.repeat_interleave(cfg.group)).split(images),
        (shares(teaches_PG.any(1)).view(W, -1)[engine.rank] * rows_P).split(chunks),
        strict=True,
    )
    metrics = rollout_metrics(reward_BK, weights, spread_PG) | {"window": float(cfg.exploration.start(cfg.seed, step))}
    metrics |= {"tries": float(len(tables))} if cfg.tries > 1 else {}
    if record := getattr(prompts, "record", None):
        metrics |= record(step, group_means(reward_BK, weights, cfg.group).view(W, -1).tolist())
    return Rollouts(tuple(Part(*one) for one in mine), metrics, bool(teaches_PG.any()))


def compared(reward_PG: Tensor, cfg: Groups) -> tuple[Tensor, Tensor]:
    """(advantage_PG, teaches_PG) as the settings say."""
    return advantages(reward_PG, cfg.group_spread, cfg.advantage_clip, cfg.raw_spread)


def shares(teaches: Tensor) -> Tensor:
    """Weights with which a mean over everything is one over what teaches; all 0 where nothing does."""
    counts = teaches.float()
    return counts / counts.mean().clamp_min(1e-12)


def over_updates(updates: Sequence[dict[str, float]]) -> dict[str, float]:
    """Returns the metrics of the last of several updates on the same images, and the ratio before the first."""
    first, last = updates[0], updates[-1]
    return {**{f"{name}_first": first[name] for name in ("ratio", "ratio_gap") if name in first}, **last}
