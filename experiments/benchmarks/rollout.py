"""One iteration of GRPO, rollout + reward + update: ours beside the common recipe, same model, prompts and images.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.rollout

The common recipe is that of the public Flow-GRPO code (arXiv:2505.05470) and its followers, restated with our kernels:

- every image of a group starts from its own noise, so no step is shared;
- every step but the last is stochastic and is trained on;
- guidance is two forward passes, one after the other;
- the prompts and the empty prompt are encoded again at every step;
- images are decoded and judged after the whole rollout, in the trainer's process;
- all steps of all images are then learned from, one step of one micro-batch at a time.

Ours is alignment/grpo.py as a run uses it: a window of stochastic steps, the steps before it computed once a group,
one batched forward pass for guidance, every prompt encoded once, other processes judging while the next images are
drawn, learning from the window alone. `hybrid` is ours with hybrid guidance: guided rollouts, unguided updates.
All draw the same number of images with the same number of steps from
equal weights, judge them by the same reward, and make one optimizer step of the same engine. They are not the same
update: ours trains on a window, and that it learns as much from it is shown elsewhere (experiments/reports).

The sides alternate within one process, and who goes first alternates too. Time is of the clock, because overlap is part
of what is compared: run it on an idle machine. Prints a table with a breakdown, then one JSON line; `ratio` is the
common recipe's median time over ours, and `hybrid_ratio` over that of hybrid guidance.
Shapes: B samples, S latent tokens, C channels.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from alignment.advantages import advantages
from alignment.grpo import Grpo
from alignment.grpo import train as grpo_train
from alignment.trajectory import Exploration
from base_model import flow
from base_model.engine.engine import LocalEngine, Loss, Micro, OptimConfig
from base_model.files.weights import NANO_VAE, load_vae
from base_model.interface import Conditioning
from base_model.qwen.model import QwenImage, build
from base_model.qwen.presets import IMAGE_SIZES, PRESETS
from base_model.sample import Sampler, pixels
from base_model.seeding import generator
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import PromptPlan
from preference_data.pixels import to_float
from preference_data.prompts import PromptSet
from preference_data.records import Prompt
from rewards.parse import named_reward
from rewards.scores import Scorer, Scores
from rewards.serving.workers import ScorerPool

SIDES = ("ours", "hybrid", "common")
PARTS = ("rollout", "reward", "update")


@dataclass(frozen=True)
class Benchmark:
    """Sizes of the comparison."""

    preset: str = "nano"
    prompts: int = 4
    """groups an iteration"""
    group: int = 12
    """images a prompt"""
    micro: int = 48
    """images at a time, in the rollout and the update of both sides"""
    steps: int = 10
    """noise levels of a rollout"""
    window: int = 2
    """stochastic steps of ours"""
    within: int = 5
    guidance: float = 4.0
    """of all sides, in the rollout and, but for `hybrid`, the update; 1 = none"""
    reward: str = "ocr"
    workers: int = 2
    """processes that judge for ours"""
    repeats: int = 5
    """timed iterations of each side, after one that is not"""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.workers < 1:
            raise ValueError(f"repeats={self.repeats} and workers={self.workers} must be at least 1")

    def grpo(self, steps: int, guide_update: bool = True) -> Grpo:
        """Ours, for that many iterations. Raises ValueError for sizes that do not fit."""
        sampler, exploration = Sampler(self.steps, self.guidance), Exploration(window=self.window, within=self.within)
        return Grpo(
            steps, self.prompts, self.group, sampler, exploration, self.micro, seed=self.seed, guide_update=guide_update
        )


OPTIM = OptimConfig(steps=1000, muon_lr=0.0, adamw_lr=1e-5, warmup=0)


class Clock:
    """Measures the seconds of each part."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def timed(self, part: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds[part] += time.perf_counter() - start


class TimedEngine(LocalEngine):
    """Notes the time of its updates."""

    def __init__(self, model: QwenImage, clock: Clock) -> None:
        super().__init__(model.trainable, OPTIM, model.device)
        self.clock = clock

    def update(self, micros: Sequence[Micro], loss: Loss[Micro]) -> dict[str, float]:
        metrics: dict[str, float] = self.clock.timed("update", lambda: super(TimedEngine, self).update(micros, loss))
        return metrics


class TimedScorer:
    """A pool whose answers are waited for on the clock: what judging costs beyond what overlaps with drawing."""

    def __init__(self, pool: ScorerPool, clock: Clock) -> None:
        self.pool, self.clock = pool, clock

    def submit(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Future[Scores]:
        waiting, clock = self.pool.submit(prompts, images_B3HW), self.clock

        class Waited(Future):  # type: ignore[type-arg]
            def result(self, timeout: float | None = None) -> Scores:
                scores: Scores = clock.timed("reward", lambda: waiting.result(timeout))
                return scores

        return Waited()


# --- the common recipe --------------------------------------------------------------------------------------------


class StoredStep(NamedTuple):
    """One step of some images, as the common recipe stores it."""

    x_BSC: Tensor
    next_BSC: Tensor
    sigma: float
    sigma_next: float
    log_prob_B: Tensor
    texts: tuple[str, ...]
    rows: slice
    advantage_B: Tensor


def guided_velocity(model: QwenImage, x_BSC: Tensor, sigma: float, texts: Sequence[str], scale: float) -> Tensor:
    """Text encoded here and now, and guidance by two forward passes."""
    sigma_B = torch.full((len(x_BSC),), sigma, device=x_BSC.device)
    with torch.no_grad():
        cond: Conditioning = model.encode_text(texts)
        uncond: Conditioning = model.unconditional(len(texts))
    v_cond = model.velocity(x_BSC, sigma_B, cond)
    if scale == 1.0:
        return v_cond
    return flow.guided(v_cond, model.velocity(x_BSC, sigma_B, uncond), scale)


@torch.no_grad()
def common_rollout(model: QwenImage, texts: tuple[str, ...], cfg: Benchmark, random: torch.Generator,
                   rows: slice) -> tuple[list[StoredStep], Tensor]:  # fmt: skip
    """A whole trajectory of stochastic steps; the last has no noise and is not kept."""
    levels, steps = Sampler(cfg.steps).levels(), []
    x = model.noise(len(texts), random)
    for sigma, sigma_next in itertools.pairwise(levels):
        v = guided_velocity(model, x, sigma, texts, cfg.guidance)
        if sigma_next == 0.0:
            return steps, flow.euler(x, v, sigma, sigma_next).mean_BSC
        step = flow.flow_sde(x, v, sigma, sigma_next, 0.7)
        after = step.sample(model.noise(len(texts), random))
        steps.append(StoredStep(x, after, sigma, sigma_next, step.log_prob(after), texts, rows, torch.empty(0)))
        x = after
    raise AssertionError("a schedule ends at 0")


def common_loss(model: QwenImage, m: StoredStep, cfg: Benchmark) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped surrogate of one step."""
    v = guided_velocity(model, m.x_BSC, m.sigma, m.texts, cfg.guidance)
    now = flow.flow_sde(m.x_BSC, v, m.sigma, m.sigma_next, 0.7)
    ratio = torch.exp(now.log_prob(m.next_BSC) - m.log_prob_B)
    clipped = ratio.clamp(1.0 - 1e-3, 1.0 + 1e-3)
    total = -torch.minimum(ratio * m.advantage_B, clipped * m.advantage_B).mean()
    return total, {"ratio_gap": (ratio.detach() - 1.0).abs().max()}


def common_iteration(
    model: QwenImage, engine: TimedEngine, prompts: PromptSet, scorer: Scorer, cfg: Benchmark, step: int
) -> dict[str, float]:
    """Draw all, judge all, learn from all."""
    clock, chosen = engine.clock, [p for p in prompts.batch(step, cfg.prompts) for _ in range(cfg.group)]

    def sample() -> tuple[list[StoredStep], np.ndarray]:
        random, steps, images = generator(cfg.seed, step, 0, "common rollout"), [], []
        for i in range(0, len(chosen), cfg.micro):
            rows = slice(i, i + cfg.micro)
            selection, x0 = common_rollout(model, tuple(p.text for p in chosen[rows]), cfg, random, rows)
            steps += selection
            images.append(pixels(model, x0))
        return steps, np.concatenate(images)

    steps, images = clock.timed("rollout", sample)
    scores: Scores = clock.timed("reward", lambda: scorer(chosen, to_float(images)))
    reward_PG = torch.from_numpy(scores.value_B).float().view(cfg.prompts, cfg.group)
    advantage_B = advantages(reward_PG, False, 5.0)[0].view(-1).to(model.device)
    micros = [selection._replace(advantage_B=advantage_B[selection.rows]) for selection in steps]
    return engine.update(micros, lambda m: common_loss(model, m, cfg))


# --- the comparison -----------------------------------------------------------------------------------------------


def race(
    cfg: Benchmark, models: Mapping[str, QwenImage], pool: ScorerPool, scorer: Scorer
) -> tuple[dict[str, list[float]], dict[str, list[dict[str, float]]]]:
    """Seconds of every iteration of every side, and their parts. One untimed round first; the order alternates."""
    prompts = PromptSet(make_prompts(PromptPlan(count=10 * cfg.prompts, seed=cfg.seed)))
    engines = {side: TimedEngine(models[side], Clock()) for side in SIDES}
    loops = {
        side: grpo_train(
            models[side], engines[side], prompts, TimedScorer(pool, engines[side].clock),
            cfg.grpo(cfg.repeats + 1, guide_update=side == "ours"),
        )
        for side in ("ours", "hybrid")
    }  # fmt: skip
    steps = {
        "ours": lambda _: next(loops["ours"]),
        "hybrid": lambda _: next(loops["hybrid"]),
        "common": lambda i: common_iteration(models["common"], engines["common"], prompts, scorer, cfg, i),
    }
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    parts: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for repeat in range(cfg.repeats + 1):
        for side in sorted(SIDES, reverse=bool(repeat % 2)):
            clock = engines[side].clock
            clock.seconds = dict.fromkeys(PARTS, 0.0)
            start = time.perf_counter()
            steps[side](repeat)
            took = time.perf_counter() - start
            if repeat:
                times[side].append(took)
                rest = took - clock.seconds["reward"] - clock.seconds["update"]
                parts[side].append(clock.seconds | {"rollout": rest})
    return times, parts


def measure(cfg: Benchmark, model: QwenImage | None = None) -> dict[str, Any]:
    """The comparison's numbers, on a fresh model of the preset unless one is given."""
    if model is None:
        model = build(PRESETS[cfg.preset], load_vae(NANO_VAE), IMAGE_SIZES[cfg.preset], cfg.seed)
    models = {"ours": model}
    for side in SIDES[1:]:
        models[side] = build(model.network.cfg, model.vae, model.picture, cfg.seed, str(model.device))
        models[side].network.load_state_dict(model.network.state_dict())
    reward = named_reward(cfg.reward)
    with ScorerPool(reward, cfg.workers) as pool:
        times, parts = race(cfg, models, pool, reward.load())
    median = {side: statistics.median(values) for side, values in times.items()}
    images = cfg.prompts * cfg.group
    numbers: dict[str, Any] = {
        "ratio": round(median["common"] / median["ours"], 3),
        "hybrid_ratio": round(median["common"] / median["hybrid"], 3),
    }
    for side in SIDES:
        numbers[f"{side}_seconds"] = round(median[side], 4)
        numbers[f"{side}_pictures_per_second"] = round(images / median[side], 3)
        for part in PARTS:
            numbers[f"{side}_{part}_seconds"] = round(statistics.median(each[part] for each in parts[side]), 4)
    return {**numbers, "threads": torch.get_num_threads(), "torch": torch.__version__, **asdict(cfg)}


def main() -> None:
    import tyro

    numbers = measure(tyro.cli(Benchmark, description=__doc__))
    print(f"{'':10}{'pictures/s':>12}{'seconds':>10}" + "".join(f"{part:>10}" for part in PARTS))
    for side in SIDES:
        cells = "".join(f"{numbers[f'{side}_{part}_seconds']:10.3f}" for part in PARTS)
        print(f"{side:10}{numbers[f'{side}_pictures_per_second']:12.2f}{numbers[f'{side}_seconds']:10.3f}{cells}")
    print("reward: what judging cost beyond what overlapped with drawing; rollout: the rest, decoding included")
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
