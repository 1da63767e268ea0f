"""Is this run to be trusted? Checks that cost seconds and catch what would waste hours."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from alignment import dpo, grpo
from alignment.trajectory import rollout
from base_model import flow
from base_model.data.text import draw, scene
from base_model.qwen_image import QwenImage
from base_model.sample import velocity
from base_model.seeding import generator, numpy_generator
from base_model.weights import load_model
from experiments.configs import nano
from experiments.prompt_sets import make_prompts
from experiments.sampling import model_folder
from preference_data.records import Prompt
from rewards.ocr import Ocr

KERNELS = {"flow_sde": flow.flow_sde, "dance": flow.dance, "cps": flow.cps, "ddim": flow.ddim}


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    passed: bool
    detail: str


def on_policy_ratio(model: QwenImage) -> Check:
    """Roll out and replay without an update between: every ratio must be exactly 1."""
    cfg = replace(nano.grpo.algorithm, prompts=2, group=4, micro=8)
    assert isinstance(cfg, grpo.Grpo)
    texts = [p.text for p in make_prompts(replace(nano.grpo.prompts or nano.evaluation.prompts, count=2))]
    worst = 0.0
    for step in range(3):
        path = rollout(model, texts, cfg.group, cfg.sampler, cfg.walk, 0, step, 0)
        for t in path.transitions:
            micro = grpo.Micro(path, t, torch.ones(8), torch.ones(8))
            worst = max(worst, float(grpo.loss(model, micro, cfg)[1]["ratio_gap"]))
    return Check("on-policy ratio is exactly 1", worst == 0.0, f"largest |ratio - 1| over 3 windows: {worst:.2e}")


def no_noise_is_ode(model: QwenImage) -> Check:
    """Every stochastic step with its noise turned off must be the Euler step, on this model's own velocities."""
    x = model.noise(4, generator(0, 0, 0, "doctor"))
    cond = model.encode_text([p.text for p in make_prompts(replace(nano.evaluation.prompts, count=4))])
    worst = 0.0
    levels = nano.grpo.algorithm.sampler.levels() if isinstance(nano.grpo.algorithm, grpo.Grpo) else [1.0, 0.0]
    with torch.no_grad():
        for sigma, sigma_next in itertools.pairwise(levels):
            v = velocity(model, x, sigma, cond, cond, 1.0)
            after = flow.euler(x, v, sigma, sigma_next).mean_BSC
            for kernel in KERNELS.values():
                worst = max(worst, float((kernel(x, v, sigma, sigma_next, 0.0).mean_BSC - after).abs().max()))
            x = after
    return Check(
        "steps without noise are the ODE", worst < 1e-4, f"{', '.join(KERNELS)}: largest difference {worst:.1e}"
    )


def ground_truth_scores(model: QwenImage) -> list[Check]:
    """Rendered pictures must satisfy the reward; what the autoencoder keeps of them bounds every later score."""
    scenes = [scene(numpy_generator(0, i, 0, "doctor"), 5, heldout=True) for i in range(64)]
    prompts = [Prompt.from_text(s.caption) for s in scenes]
    images = np.stack([draw(s) for s in scenes]).astype(np.float32) / 255.0
    scorer = Ocr().load()
    truth = float(np.nanmean(scorer(prompts, images).value_B))
    again = model.decode(model.encode_pixels(torch.from_numpy(images))).numpy()
    kept = float(np.nanmean(scorer(prompts, again).value_B))
    return [
        Check("ground truth scores at least 0.95", truth >= 0.95, f"64 renderings under {scorer.name}: {truth:.3f}"),
        Check("the autoencoder keeps the letters", kept >= 0.8, f"the same pictures encoded and decoded: {kept:.3f}"),
    ]


def dpo_at_reference(model: QwenImage) -> Check:
    """Before the first update the DPO loss is log 2, whatever the pairs."""
    cfg = nano.dpo.algorithm
    assert isinstance(cfg, dpo.Dpo)
    random = generator(0, 0, 0, "doctor pairs")
    x0, eps = model.noise(8, random), model.noise(4, random)
    cond = model.encode_text([p.text for p in make_prompts(replace(nano.evaluation.prompts, count=4))])
    model.freeze_reference()
    micro = dpo.Micro(x0, eps.repeat(2, 1, 1), torch.full((8,), 0.5), type(cond).stack([cond, cond]))
    value = float(dpo.loss(model, micro, cfg)[0].detach())
    return Check("DPO starts at log 2", abs(value - math.log(2.0)) < 1e-6, f"{value:.7f}")


def batch_arithmetic() -> Check:
    """What one update of each stage is made of."""
    cfg = nano.grpo.algorithm
    assert isinstance(cfg, grpo.Grpo)
    pictures = cfg.prompts * cfg.group
    micros = pictures // cfg.micro * cfg.walk.window
    lines = (
        f"GRPO: {cfg.prompts} prompts x {cfg.group} = {pictures} pictures a rollout; {cfg.walk.window} stochastic "
        f"steps in slices of {cfg.micro} = {micros} backward passes an update, {cfg.updates} update(s) a rollout; "
        f"{cfg.sampler.steps} steps a picture, those before the window computed once a group"
    )
    return Check("batch arithmetic", pictures % cfg.micro == 0 and cfg.micro % cfg.group == 0, lines)


def doctor(run: Path) -> list[Check]:
    """All checks on the model of a run, in a few seconds."""
    model = load_model(model_folder(run))
    return [
        on_policy_ratio(model), no_noise_is_ode(model), *ground_truth_scores(model), dpo_at_reference(model),
        batch_arithmetic(),
    ]  # fmt: skip
