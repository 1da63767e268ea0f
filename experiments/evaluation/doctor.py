"""Is this run to be trusted? Checks of its own settings, its record and its model, which cost seconds.

They catch what would waste hours. What needs a model is left out where the run has none yet.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from alignment import dpo, grpo
from alignment.groups import Groups
from alignment.trajectory import rollout
from base_model import flow
from base_model.data import rendered_chinese as chinese
from base_model.data.rendered_text import COLOURS, COLUMNS, FACES, ROWS, SIZES, render, scene
from base_model.devices import best_device
from base_model.files.checkpoint import verify
from base_model.files.weights import load_model
from base_model.interface import ConditionImages
from base_model.qwen.model import QwenImage
from base_model.sample import velocity
from base_model.seeding import generator, numpy_generator
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.evaluation.sample_run import STAGES, model_folder
from experiments.experiment import Experiment, laid_out
from experiments.record.record import RUN, Run, read_metrics, read_run
from experiments.record.recorded_settings import rebuild
from experiments.record.whole_files import model_identity
from preference_data.image_files import source_readers
from preference_data.records import Prompt
from rewards.learned.reward import learned_at
from rewards.parse import named_reward
from rewards.text.ocr import Ocr

WIDEST = 3.0
"""A stochastic step beyond this spread is noise alone: latents have a spread of 1."""
MOST_FLOOR = 0.5
"""The largest share of a run's updates at the floor of its rate."""
READ_BYTES = 4 * 2**30
"""of a model, read in a few seconds"""
MOST_ODD = 0.1
"""The largest share of prompts that a preset was never trained on, or that its reward cannot read."""
FACE = "|".join((*FACES, *chinese.FACES))
CAPTION = re.compile(
    rf'the word "[^"]+"( in ({"|".join(COLOURS)}) ({FACE})| in ({"|".join(COLOURS)}|{FACE}))?(, ({"|".join(SIZES)}))?'
    rf"(, ({'|'.join(ROWS)}) ({'|'.join(COLUMNS)}))?(, on ({'|'.join(COLOURS)}))?|no text, .*"
)
"""What the captions of small presets look like: see `Scene.caption` and `Scene.caption_naming`."""


@dataclass(frozen=True)
class Check:
    """Describes one finding of the doctor."""

    name: str
    passed: bool
    detail: str


def prompts_of(experiment: Experiment) -> list[Prompt]:
    """The prompts that a run samples, for rollouts or for pairs; none for one that learns from images."""
    plan = experiment.prompts or (experiment.pairs and experiment.pairs.prompts)
    return make_prompts(plan) if plan else []


def rate_moves(experiment: Experiment) -> Check:
    """The learning rate is above its floor for most of the run."""
    settled = laid_out(experiment)
    updates = settled.algorithm.steps * getattr(settled.algorithm, "updates", 1)
    shares = np.array([settled.optim.lr_share(i) for i in range(updates)])
    low = settled.optim.final_lr < 1.0 and settled.optim.decay_from < 1.0
    floor = float((shares <= settled.optim.final_lr * (1 + 1e-9)).mean()) if low else 0.0
    detail = (
        f"{100 * floor:.0f} % of {updates} updates are at {settled.optim.final_lr:g} of the peak rate, the mean is "
        f"{shares.mean():.2f} and the highest {shares.max():.2f} of it"
    )
    enough = floor <= MOST_FLOOR and shares.max() >= 0.5
    return Check(
        "the learning rate is high enough", enough, detail if enough else f"{detail}; {fitting(settled, updates)}"
    )


def fitting(settled: Experiment, updates: int) -> str:
    """What to change where the schedule does not fit the number of updates."""
    steps, warmup, advice = settled.optim.steps, settled.optim.warmup, []
    if steps < updates:  # set by hand: a schedule that is laid out is as long as the run
        advice.append(f"the schedule ends after {steps} of them (`optim.steps`): leave out `--optim.steps`")
    if warmup > updates / 2 or not advice:
        advice.append(
            f"only {updates} updates, but the rate rises for {warmup} (`optim.warmup`): train more updates or pass "
            "`--optim.warmup 1`"
        )
    return "; ".join(advice)


def prompts_are_known(experiment: Experiment, prompts: Sequence[Prompt]) -> Check:
    """The prompts of a small preset look like the captions that it was trained on."""
    odd = [prompt.text for prompt in prompts if not CAPTION.fullmatch(prompt.text)]
    detail = f"{len(odd)} of {len(prompts)} prompts are unlike the training captions"
    if odd:
        detail += f", first {odd[0]!r}; write them as 'the word \"GLYPH\" in red sans, large, middle centre, on white'"
    return Check("prompts are like the training captions", len(odd) <= MOST_ODD * len(prompts), detail)


def reward_can_read(experiment: Experiment, prompts: Sequence[Prompt], folder: Path) -> Check | None:
    """The reward's engine has the characters that the prompts ask for; None for a reward that reads nothing.

    A quickstart's own reward model lies beside its stages.
    """
    reward, own = named_reward(experiment.reward), folder.parent / "reward"
    scorer = (learned_at(reward, own) if own.exists() else reward).load()
    can_write = getattr(scorer, "can_write", None)
    if can_write is None:
        return None
    lost = [prompt.text for prompt in prompts if not can_write(prompt)]
    detail = f"{experiment.reward} lacks characters of {len(lost)} of {len(prompts)} prompts"
    detail += f", first {lost[0]!r}; choose an engine of that script, e.g. ocr:engine=paddleocr" if lost else ""
    return Check("the reward can read what is asked", len(lost) <= MOST_ODD * len(prompts), detail)


def reward_rises(folder: Path) -> Check | None:
    """The reward did not fall while training; None for a run with too few rewards to say."""
    rewards = [line["reward"] for line in read_metrics(folder) if line.get("reward") is not None]
    if len(rewards) < 4:
        return None
    values = np.array(rewards, dtype=float)
    fit = stats.linregress(np.arange(len(values)), values)
    fell = fit.slope < 0.0 and fit.pvalue / 2 < 0.025
    quarter = max(1, len(values) // 4)
    detail = f"{values[:quarter].mean():.3f} in the first quarter, {values[-quarter:].mean():.3f} in the last"
    return Check("the reward does not fall", not fell, detail + (", and the trend is no chance" if fell else ""))


def is_finite(folder: Path) -> Check:
    """No metric of the record is NaN or infinite."""
    bad = [(int(line["step"] or 0), name) for line in read_metrics(folder) for name, x in line.items()
           if name in ("loss", "grad_norm") and (x is None or isinstance(x, str))]  # fmt: skip
    detail = f"update {bad[0][0]}: {bad[0][1]} is not finite, and {len(bad) - 1} more" if bad else "loss and gradients"
    return Check("the record is finite", not bad, detail)


def record_is_whole(experiment: Experiment, run: Run) -> Check:
    """Every update has one line in the record; of a finished run that nothing may end early, all of its updates."""
    steps = [int(line["step"] or 0) for line in run.metrics]
    is_full = run.status == "finished" and experiment.monitors is None
    last = experiment.algorithm.steps if is_full else max(steps, default=-1) + 1
    lost = sorted(set(range(last)).difference(steps))
    odd = len(steps) - len(set(steps).intersection(range(last)))
    first = f", first {lost[0]}" if lost else ""
    fault = (
        f"; {len(lost)} of {last} are missing{first}, and {odd} lines are there twice or behind the end: restore "
        "metrics.jsonl from a copy"
    )
    detail = f"{len(steps)} lines{fault if lost or odd else ''}"
    return Check("the record is whole", not lost and not odd, detail)


def model_is_its_own(run: Run) -> Check | None:
    """The model is the one that the run ended with, whole and unchanged; None for a run that is not finished. Of models
    above READ_BYTES only the sizes of their files are compared."""
    if run.status != "finished":
        return None
    folder, name = run.folder / "model", "the model is the run's own"
    recorded = json.loads((run.folder / RUN).read_text(encoding="utf-8")).get("model")
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    try:  # runs of older versions do not tell, and a quickstart's had its decoder put in without a new manifest
        verify(folder, contents=recorded is not None and size <= READ_BYTES)
    except (ValueError, OSError) as error:
        return Check(name, False, f"{error}; restore the folder from a copy, or train again")
    same = recorded in (None, model_identity(run.folder))
    other = f"{folder} is another one than the run ended with: numbers of the run are not of this model"
    return Check(name, same, "as the run ended with it" if same else other)


def sources_of(model: QwenImage, prompts: Sequence[Prompt]) -> ConditionImages:
    """What prompts ask to edit."""
    return model.read_images(source_readers(p.sources for p in prompts))[:]


def on_policy_ratio(model: QwenImage, cfg: grpo.Grpo, prompts: Sequence[Prompt]) -> Check:
    """Roll out and replay without an update between, as the run does: every ratio must be exactly 1."""
    group = min(cfg.group, 4)
    cfg = replace(cfg, prompts=2, group=group, micro=2 * group)
    texts, images = [p.text for p in prompts[:2]], sources_of(model, prompts[:2])
    worst = 0.0
    for step in range(3):
        path = rollout(model, texts, cfg.group, cfg.sampler, cfg.exploration, cfg.seed, step, 0, images=images)
        path = grpo.of_learner(model, path, cfg)
        ones = torch.ones(len(texts) * group, device=model.device)
        for t in path.transitions:
            gap = float(grpo.loss(model, grpo.Micro(path, t, ones, ones), cfg)[1]["ratio_gap"])
            worst = max(worst, gap if math.isfinite(gap) else math.inf)
    return Check("on-policy ratio is exactly 1", worst == 0.0, f"largest |ratio - 1| over 3 windows: {worst:.2e}")


def steps_are_sound(model: QwenImage, cfg: Groups, prompts: Sequence[Prompt]) -> list[Check]:
    """The run's stochastic step at its own levels: without noise the Euler step, with noise of a moderate spread."""
    cond = model.encode_text([p.text for p in prompts[:2]], sources_of(model, prompts[:2]))
    x = model.noise(len(cond), generator(0, 0, 0, "doctor"))
    kernel, worst, widest = cfg.exploration.kernel, 0.0, 0.0
    with torch.no_grad():
        for i, (sigma, sigma_next) in enumerate(itertools.pairwise(model.levels(cfg.sampler))):
            v = velocity(model, x, sigma, cond, cond, 1.0)
            after = flow.euler(x, v, sigma, sigma_next).mean_BSC
            worst = max(worst, float((kernel(x, v, sigma, sigma_next, 0.0).mean_BSC - after).abs().max()))
            if i < cfg.exploration.within:
                widest = max(widest, float(kernel(x, v, sigma, sigma_next, cfg.exploration.noise).std))
            x = after
    return [
        Check("steps without noise are the ODE", worst < 1e-4, f"{kernel.__name__}: largest difference {worst:.1e}"),
        Check("steps with noise keep the latents", widest < WIDEST, f"{kernel.__name__}: widest spread {widest:.2g}"),
    ]


def autoencoder_keeps_letters(model: QwenImage) -> Check:
    """What the autoencoder keeps of rendered words bounds every score of a small preset."""
    scenes = [scene(numpy_generator(0, i, 0, "doctor"), 5, heldout=True) for i in range(64)]
    prompts = [Prompt.from_text(s.caption) for s in scenes]
    images = np.stack([render(s) for s in scenes]).astype(np.float32) / 255.0
    scorer = Ocr().load()
    truth = float(np.nanmean(scorer(prompts, images).value_B))
    again = model.decode(model.encode_pixels(torch.from_numpy(images))).cpu().numpy()
    score = float(np.nanmean(scorer(prompts, again).value_B))
    detail = f"64 renderings, encoded and decoded: {score:.3f} of {truth:.3f} under {scorer.name}"
    return Check("the autoencoder keeps the letters", score >= 0.8, detail)


def dpo_at_reference(model: QwenImage, cfg: dpo.Dpo, prompts: Sequence[Prompt]) -> Check:
    """Before the first update the DPO loss is log 2, whatever the pairs."""
    random, P = generator(0, 0, 0, "doctor pairs"), len(prompts[:4])
    x0, eps = model.noise(2 * P, random), model.noise(P, random)
    cond = model.encode_text([p.text for p in prompts[:4]], sources_of(model, prompts[:4]))
    model.freeze_reference()
    levels = torch.full((2 * P,), 0.5, device=model.device)
    micro = dpo.Micro(x0, eps.repeat(2, 1, 1), levels, type(cond).stack([cond, cond]))
    value = float(dpo.loss(model, micro, cfg)[0].detach())
    return Check("DPO starts at log 2", abs(value - dpo.AT_REFERENCE) < 1e-6, f"{value:.7f}")


def stage_of(run: Path) -> Path:
    """The folder of the stage that is meant: the run itself, or the last of its stages that has begun."""
    if "experiment" in read_run(run).config:
        return run
    begun = [run / name for name in STAGES if (run / name / RUN).exists()]
    if not begun:
        raise ValueError(f"{run} has no stage to check; name the folder of one training run")
    return next((stage for stage in begun if (stage / "model").exists()), begun[0])


def checks_of_settings(experiment: Experiment, folder: Path, small: bool) -> list[Check]:
    """What run.json and metrics.jsonl tell without a model."""
    run = read_run(folder)
    results: list[Check | None] = [rate_moves(experiment), record_is_whole(experiment, run), is_finite(folder)]
    results.append(model_is_its_own(run))
    prompts = prompts_of(experiment)
    if prompts and small:
        results.append(prompts_are_known(experiment, prompts))
    if prompts and experiment.algorithm.learns_from != "images":
        results.append(reward_can_read(experiment, prompts, folder))
    results.append(reward_rises(folder))
    return [check for check in results if check]


def checks_of_model(experiment: Experiment, model: QwenImage) -> list[Check]:
    """What the run's model does under the run's own settings."""
    cfg, prompts = experiment.algorithm, prompts_of(experiment)
    checks = [] if model.keeps_base else [autoencoder_keeps_letters(model)]
    if cfg.learns_from == "rollouts" and cfg.exploration.window:
        checks += steps_are_sound(model, cfg, prompts)
    if cfg.learns_from == "rollouts" and cfg.learns_at == "steps":
        checks.append(on_policy_ratio(model, cfg, prompts))
    if cfg.learns_from == "pairs" and cfg.reads == "pairs" and prompts:
        checks.append(dpo_at_reference(model, cfg, prompts))
    return checks


def doctor(run: Path) -> list[Check]:
    """All checks that fit a run, with its own settings, in a few seconds."""
    stage = stage_of(run)
    experiment: Experiment = rebuild(json.loads((stage / RUN).read_text(encoding="utf-8"))["config"]["experiment"])
    small = not experiment.base and not (stage / "model" / "base.json").exists()
    checks = checks_of_settings(experiment, stage, small)
    try:
        path = model_folder(stage)
    except ValueError:
        return checks
    if (path / "transformer.safetensors").exists() or not small:
        model = load_model(path, best_device(), cache=stage / "embeddings")
        if small:
            model.text, model.network.scheme = experiment.sight(model.vae), experiment.positions
        checks += checks_of_model(experiment, model)
    return checks
