"""One iteration of GRPO, rollout + reward + update: ours beside the common recipe, same model, prompts and images.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.rollout
         python -m experiments.benchmarks.rollout --base stable-diffusion-3.5-medium --prompts 3 --group 24 --micro 24 \
             --guidance 4.5 --rank 32 --recompute --reward brisque

The second is for a GPU (80 GB: four networks stand on it): a LoRA of a published checkpoint's network with random
weights, at the recipe's sizes. It prints, for each side, the share of the card's own product, measured in the same run,
that its passes reach; what is computed again to save memory is no part of it. The reward is one that tells random
images apart, or there would be nothing to learn.

The common recipe is that of the public Flow-GRPO code (arXiv:2505.05470) and its followers, restated with our kernels:

- every image of a group starts from its own noise, so no step is shared;
- every step but the last is stochastic and is trained on;
- guidance is two forward passes, one after the other;
- the prompts and the empty prompt are encoded again at every step;
- images are decoded and scored after the whole rollout, in the trainer's process;
- all steps of all images are then learned from, one step of one micro-batch at a time.

Ours is alignment/grpo.py as a run uses it: a window of stochastic steps, the steps before it computed once a group,
one batched forward pass for guidance, every prompt encoded once, other processes scoring while the next images are
sampled, learning from the window alone. `hybrid` is ours with hybrid guidance: guided rollouts, unguided updates.
`hybrid_short` is the same with fewer steps after the window, of second order (`Exploration.after_window`, as in
MixGRPO-Flash): the only side whose images are not made in all steps. All sample the same number of images from equal
weights, score them by the same reward, and make one optimizer step of the same engine. They are not the same update:
ours trains on a window, and that it learns as much from it is shown elsewhere (experiments/reports).

The sides alternate within one process, and who goes first alternates too. Time is of the clock, because overlap is part
of what is compared: run it on an idle machine. Prints a table with a breakdown, then one JSON line; `ratio` is the
common recipe's median time over ours, `hybrid_ratio` and `hybrid_short_ratio` over those of hybrid guidance;
`ours_cpu_seconds` are the trainer's own, which waiting does not lengthen (the common recipe scores in them, too);
`ours_forward` and `ours_learned` count the samples that went through the network, and those that were learned from.
Shapes: B samples, S latent tokens, C channels.
"""

from __future__ import annotations

import copy
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
from base_model.devices import best_device
from base_model.engine.engine import LocalEngine, Loss, Micro, OptimConfig
from base_model.files.weights import NANO_VAE, load_vae
from base_model.interface import Conditioning
from base_model.lora import Lora, has_adapter
from base_model.policy_model import PolicyModel
from base_model.qwen.model import build
from base_model.qwen.presets import IMAGE_SIZES, PRESETS
from base_model.sample import Sampler, pixels
from base_model.seeding import generator
from experiments.benchmarks.card.random_weights import family_of_base, random_model
from experiments.benchmarks.clock import clock_of, product_tflops
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import PromptPlan
from experiments.planning.dry_run import Pass
from experiments.planning.family_plan import family_footprint, text_tokens
from experiments.training.throughput import peak_gb
from preference_data.pixels import to_float
from preference_data.prompts import PromptSet
from preference_data.records import Prompt
from rewards.parse import named_reward
from rewards.scores import Scorer, Scores
from rewards.serving.workers import ScorerPool

LOOPS = ("ours", "hybrid", "hybrid_short")
SIDES = (*LOOPS, "common")
PARTS = ("rollout", "reward", "update")


@dataclass(frozen=True)
class Benchmark:
    """Sizes of the comparison."""

    preset: str = "nano"
    base: str = ""
    """a published checkpoint, or a folder, whose network is taken with random weights in place of the preset's"""
    size: tuple[int, int] = (512, 512)
    """height and width in pixels of what a base makes"""
    rank: int = 0
    """of a base's adapter; 0 = all weights learn"""
    recompute: bool = False
    """keep what enters a base's blocks and compute the rest again in the backward pass"""
    product: int = 8192
    """side of the square matrices of the bare product that a base's passes are compared with"""
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
    after_window: float = 0.4
    """share of the steps after the window that `hybrid_short` computes, of second order"""
    guidance: float = 4.0
    """of all sides, in the rollout and, but for `hybrid` and `hybrid_short`, the update; 1 = none"""
    reward: str = "ocr"
    workers: int = 2
    """processes that score for ours"""
    repeats: int = 5
    """timed iterations of each side, after one that is not"""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.workers < 1:
            raise ValueError(f"repeats={self.repeats} and workers={self.workers} must be at least 1")

    def grpo(self, steps: int, side: str = "ours") -> Grpo:
        """A side of ours, for that many iterations. Raises ValueError for sizes that do not fit."""
        share = self.after_window if side == "hybrid_short" else 1.0
        exploration = Exploration(window=self.window, within=self.within, after_window=share)
        return Grpo(
            steps, self.prompts, self.group, Sampler(self.steps, self.guidance), exploration, self.micro,
            seed=self.seed, guide_update=side == "ours",
        )  # fmt: skip


OPTIM = OptimConfig(steps=1000, muon_lr=0.0, adamw_lr=1e-5, warmup=0)


class Clock:
    """Measures the seconds of each part, and counts the samples that go through a network."""

    def __init__(self, model: PolicyModel) -> None:
        self.now = clock_of(model.device.type, threads=2)
        self.start()
        model.network.register_forward_hook(self._count)

    def start(self) -> None:
        """Begin an iteration."""
        self.seconds, self.forward, self.learned = dict.fromkeys(PARTS, 0.0), 0, 0
        self.began, self.cpu_began = self.now(), time.process_time()

    def timed(self, part: str, work: Callable[[], Any]) -> Any:
        start = self.now()
        try:
            return work()
        finally:
            self.seconds[part] += self.now() - start

    def _count(self, network: object, inputs: object, output: Any) -> None:
        samples = len(output[0] if isinstance(output, tuple) else output)
        self.forward += samples
        self.learned += samples * torch.is_grad_enabled()


class TimedEngine(LocalEngine):
    """Notes the time of its updates."""

    def __init__(self, model: PolicyModel) -> None:
        super().__init__(model.trainable, OPTIM, model.device, keep_frozen=not has_adapter(model.network))
        model.trainable, self.clock = self.module, Clock(model)

    def update(self, micros: Sequence[Micro], loss: Loss[Micro]) -> dict[str, float]:
        metrics: dict[str, float] = self.clock.timed("update", lambda: super(TimedEngine, self).update(micros, loss))
        return metrics


class TimedScorer:
    """A pool whose answers are waited for on the clock: what scoring costs beyond what overlaps with sampling."""

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


def guided_velocity(model: PolicyModel, x_BSC: Tensor, sigma: float, texts: Sequence[str], scale: float) -> Tensor:
    """Text encoded here and now, and guidance by two forward passes."""
    sigma_B = torch.full((len(x_BSC),), sigma, device=x_BSC.device)
    with torch.no_grad():
        cond: Conditioning = model.encode_text(texts)
        uncond: Conditioning = model.unconditional(len(texts))
    if cond.reads_guidance:
        return model.velocity(x_BSC, sigma_B, cond.telling(scale))
    v_cond = model.velocity(x_BSC, sigma_B, cond)
    if scale == 1.0:
        return v_cond
    return model.combine(v_cond, model.velocity(x_BSC, sigma_B, uncond), scale, cond)


@torch.no_grad()
def common_rollout(model: PolicyModel, texts: tuple[str, ...], cfg: Benchmark, random: torch.Generator,
                   rows: slice) -> tuple[list[StoredStep], Tensor]:  # fmt: skip
    """A whole trajectory of stochastic steps; the last has no noise and is not kept."""
    levels, steps = model.levels(Sampler(cfg.steps)), []
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


def common_loss(model: PolicyModel, m: StoredStep, cfg: Benchmark) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped surrogate of one step."""
    v = guided_velocity(model, m.x_BSC, m.sigma, m.texts, cfg.guidance)
    now = flow.flow_sde(m.x_BSC, v, m.sigma, m.sigma_next, 0.7)
    ratio = torch.exp(now.log_prob(m.next_BSC) - m.log_prob_B)
    clipped = ratio.clamp(1.0 - 1e-3, 1.0 + 1e-3)
    total = -torch.minimum(ratio * m.advantage_B, clipped * m.advantage_B).mean()
    return total, {"ratio_gap": (ratio.detach() - 1.0).abs().max()}


def common_iteration(
    model: PolicyModel, engine: TimedEngine, prompts: PromptSet, scorer: Scorer, cfg: Benchmark, step: int
) -> dict[str, float]:
    """Sample all, score all, learn from all."""
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


class Iteration(NamedTuple):
    """What an iteration took."""

    seconds: float
    cpu: float
    parts: Mapping[str, float]
    forward: int
    """samples that went through the network"""
    learned: int
    """of these, with a backward pass"""


def race(
    cfg: Benchmark, models: Mapping[str, PolicyModel], pool: ScorerPool, scorer: Scorer
) -> dict[str, list[Iteration]]:
    """Every iteration of every side. One untimed round first; the order alternates.

    Raises ValueError where ours had nothing to learn from.
    """
    prompts = PromptSet(make_prompts(PromptPlan(count=10 * cfg.prompts, seed=cfg.seed)))
    for model in models.values():
        model.encode_ahead([prompt.text for prompt in prompts])
    engines = {side: TimedEngine(models[side]) for side in SIDES}
    loops = {
        side: grpo_train(
            models[side], engines[side], prompts, TimedScorer(pool, engines[side].clock),
            cfg.grpo(cfg.repeats + 1, side),
        )
        for side in LOOPS
    }  # fmt: skip

    def iterate(side: str, step: int) -> None:
        if side == "common":
            common_iteration(models["common"], engines["common"], prompts, scorer, cfg, step)
        elif "loss" not in next(loops[side]).metrics:
            raise ValueError(
                f"the reward {cfg.reward!r} scores all images of every prompt alike: nothing was learned from, and the "
                "sides would not be comparable. Choose another with --reward"
            )

    results: dict[str, list[Iteration]] = {side: [] for side in SIDES}
    for repeat in range(cfg.repeats + 1):
        for side in sorted(SIDES, reverse=bool(repeat % 2)):
            clock = engines[side].clock
            clock.start()
            iterate(side, repeat)
            took, cpu = clock.now() - clock.began, time.process_time() - clock.cpu_began
            if repeat:
                rest = took - clock.seconds["reward"] - clock.seconds["update"]
                parts = clock.seconds | {"rollout": rest}
                results[side].append(Iteration(took, cpu, parts, clock.forward, clock.learned))
    return results


def opened_model(cfg: Benchmark) -> PolicyModel:
    """A fresh model of the preset or the base."""
    if not cfg.base:
        return build(PRESETS[cfg.preset], load_vae(NANO_VAE), IMAGE_SIZES[cfg.preset], cfg.seed)
    model = random_model(cfg.base, cfg.size, Lora(cfg.rank), best_device())
    model.recompute(cfg.recompute)
    return model


def measure(cfg: Benchmark, model: PolicyModel | None = None) -> dict[str, Any]:
    """The comparison's numbers, on a fresh model unless one is given."""
    model = model or opened_model(cfg)
    models = {"ours": model} | {side: copy.deepcopy(model) for side in SIDES[1:]}
    reward = named_reward(cfg.reward)
    with ScorerPool(reward, cfg.workers) as pool:
        results = race(cfg, models, pool, reward.load())
    median = {side: statistics.median(each.seconds for each in results[side]) for side in SIDES}
    images = cfg.prompts * cfg.group
    numbers: dict[str, Any] = {
        "ratio": round(median["common"] / median["ours"], 3),
        "hybrid_ratio": round(median["common"] / median["hybrid"], 3),
        "hybrid_short_ratio": round(median["common"] / median["hybrid_short"], 3),
    }
    for side in SIDES:
        numbers[f"{side}_seconds"] = round(median[side], 4)
        numbers[f"{side}_cpu_seconds"] = round(statistics.median(each.cpu for each in results[side]), 4)
        numbers[f"{side}_pictures_per_second"] = round(images / median[side], 3)
        for count in ("forward", "learned"):
            numbers[f"{side}_{count}"] = statistics.mean(getattr(each, count) for each in results[side])
        for part in PARTS:
            numbers[f"{side}_{part}_seconds"] = round(statistics.median(each.parts[part] for each in results[side]), 4)
    if cfg.base:
        numbers |= shares(cfg, results, model.device.type) | {"peak_gb": round(peak_gb(model.device), 2)}
    return {**numbers, "threads": torch.get_num_threads(), "torch": torch.__version__, **asdict(cfg)}


def shares(cfg: Benchmark, results: Mapping[str, Sequence[Iteration]], device: str) -> dict[str, float]:
    """The bare product's rate, and the share of it that each side's passes reach, scoring and decoding included in
    their time."""
    family, bare = family_of_base(cfg.base), product_tflops(device, cfg.product, repeats=10)
    grid = (cfg.size[0] // family.multiple, cfg.size[1] // family.multiple)
    need = family_footprint(family, cfg.rank, Pass(1, grid, text_tokens(family)), True)
    rates = {
        side: statistics.median(
            (each.forward * need.forward + each.learned * need.backward) / each.seconds / 1e12 for each in results[side]
        )
        for side in SIDES
    }
    return {"product_tflops": round(bare, 2)} | {f"{side}_share": round(rates[side] / bare, 4) for side in SIDES}


def main() -> None:
    import tyro

    numbers = measure(tyro.cli(Benchmark, description=__doc__))
    print(f"{'':12}{'pictures/s':>12}{'seconds':>10}" + "".join(f"{part:>10}" for part in PARTS))
    for side in SIDES:
        cells = "".join(f"{numbers[f'{side}_{part}_seconds']:10.3f}" for part in PARTS)
        print(f"{side:12}{numbers[f'{side}_pictures_per_second']:12.2f}{numbers[f'{side}_seconds']:10.3f}{cells}")
    for side in SIDES if "product_tflops" in numbers else ():
        print(f"{side}: {numbers[f'{side}_share']:.1%} of a bare product's {numbers['product_tflops']} TFLOP/s")
    print("reward: what scoring cost beyond what overlapped with sampling; rollout: the rest, decoding included")
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
