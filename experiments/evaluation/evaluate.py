"""A model on held-out prompts at fixed noise, read by the rewarded engine and by the gold engine.

The noise of prompt i depends on (seed, i) alone, so two models see the same noise and their difference can be paired by
prompt. Shapes: P prompts, S latent tokens, C channels, 3HW pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from base_model.generate import generate, generate_chunks, prompted
from base_model.interface import FlowModel
from base_model.sample import Sampler
from base_model.seeding import generator
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import EvaluationPlan
from experiments.progress import Progress
from experiments.record.intervals import bootstrap_ci, paired_ci
from experiments.record.record import write_json, write_png
from preference_data.records import Prompt
from rewards.scores import Scores, concatenate
from rewards.serving.workers import ScorerPool


def fixed_noise(model: FlowModel, count: int, seed: int, copy: int = 0) -> Tensor:
    """[count, S, C]; row i depends on (seed, copy, i) alone."""
    return torch.cat([model.noise(1, generator(seed, i, copy, "evaluation")) for i in range(count)])


def diversity(model: FlowModel, prompts: Sequence[Prompt], sampler: Sampler, seed: int, copies: int) -> float:
    """Mean root-mean-square pixel distance, in [0, 1], of images of one prompt from different noise."""
    texts = [prompt.text for prompt in prompts]
    noises = [fixed_noise(model, len(prompts), seed, copy) for copy in range(copies)]
    generated = np.stack([generate(model, texts, noise, sampler) for noise in noises])
    images = generated.astype(np.float64).reshape(copies, len(prompts), -1) / 255.0
    pairs = [(a, b) for a in range(copies) for b in range(a)]
    return float(np.mean([np.sqrt(((images[a] - images[b]) ** 2).mean(-1)) for a, b in pairs]))


def evaluate(
    model: FlowModel, plan: EvaluationPlan, folder: Path, reward: ScorerPool, scorer: ScorerPool, bar: Progress,
    prompts: Sequence[Prompt] = (), measure: Callable[[np.ndarray], dict[str, object]] = lambda image: {},
) -> None:  # fmt: skip
    """Write `folder`/<sampler>.json (rows and diversity) and the images of the wall. Finished files are kept.

    `prompts` stand in for those of the plan; what `measure` says of an image stands in its row as well.
    """
    prompts = prompts or make_prompts(plan.prompts)
    for name, sampler in plan.samplers:
        target = folder / f"{name}.json"
        if not target.exists():
            noise = fixed_noise(model, len(prompts), plan.seed)
            requested = prompted(model, [prompt.text for prompt in prompts], sampler.guidance)
            waiting, chunks = [], []
            for rows, _, images in generate_chunks(model, requested, noise, sampler):
                waiting.append([engine.submit(prompts[rows], images) for engine in (reward, scorer)])
                chunks.append(images)
            spread = diversity(
                model, prompts[: plan.diversity_prompts], sampler, plan.seed + 1, plan.diversity_copies
            )  # the engines read meanwhile
            scores = [concatenate([one.result() for one in engine]) for engine in zip(*waiting, strict=True)]
            made = np.concatenate(chunks)
            table = [row(prompt, *scores, i) | measure(made[i]) for i, prompt in enumerate(prompts)]
            shown = made[: plan.grid_images]
            write_json(target, {"rows": with_images(table, shown, scores, folder, name), "diversity": spread})
        bar.advance(1, {})


def row(prompt: Prompt, mine: Scores, theirs: Scores, i: int) -> dict[str, object]:
    """One held-out prompt: what was asked and how far what each engine read is from it. NaN = could not be judged."""
    return {
        "prompt": prompt.text,
        "target": " ".join(prompt.spans),
        "ned": float(mine.parts["ned_score"][i]),
        "exact": float(mine.parts["exact"][i]),
        "judge_ned": float(theirs.parts["ned_score"][i]),
        "judge_exact": float(theirs.parts["exact"][i]),
    }


def with_images(
    table: list[dict[str, object]], images: np.ndarray, scores: Sequence[Scores], folder: Path, name: str
) -> list[dict[str, object]]:
    """Save the first images, and put them and what each engine read in them into their rows."""
    mine, theirs = (one.read or ("",) * len(table) for one in scores)  # none where nothing was judged
    for i, image in enumerate(images):
        file = f"{name}_{i:02d}.png"
        write_png(folder / file, image)
        table[i] |= {"read": mine[i], "judge_read": theirs[i], "picture": file}
    return table


def column(result: dict, name: str) -> np.ndarray:
    """One number a prompt; null in the file is NaN here."""
    return np.array([np.nan if row[name] is None else row[name] for row in result["rows"]], dtype=np.float64)


def summarise(result: dict, seconds: float) -> dict[str, object]:
    """The stage's row of the summary: means and their bootstrap intervals by prompt."""
    exact, ned = column(result, "exact"), column(result, "ned")
    return {
        "exact": float(np.nanmean(exact)),
        "exact_ci": list(bootstrap_ci(exact, seed=0)),
        "ned_score": float(np.nanmean(ned)),
        "ned_score_ci": list(bootstrap_ci(ned, seed=0)),
        "judge_exact": float(np.nanmean(column(result, "judge_exact"))),
        "judge_ned_score": float(np.nanmean(column(result, "judge_ned"))),
        "unjudged": int(np.isnan(ned).sum()),
        "prompts": len(ned),
        "diversity": result["diversity"],
        "seconds": seconds,
    }


def compare(before: dict, after: dict, name: str = "ned") -> dict[str, object]:
    """Mean difference after - before over the same prompts and noise, with its interval."""
    delta, low, high = paired_ci(column(before, name), column(after, name), seed=0)
    return {"delta": delta, "ci": [low, high]}


def is_judged(stage: Path, plan: EvaluationPlan, inside: str = "evaluation") -> bool:
    """Whether all evaluations of a stage are there, in that folder of it."""
    return all((stage / inside / f"{sampler}.json").exists() for sampler, _ in plan.samplers)
