"""Ablations: arms that differ in one setting, trained one after the other and evaluated on the same held-out set.

An arm is a run folder like any other, so an ablation can be interrupted at any moment and goes on where it was; an arm
that is finished is not trained again. The result is a table in Markdown, `table.md` in the ablation's folder.

Shapes: P prompts, S latent tokens, C channels, 3HW pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from base_model.data.rendered_text import render
from base_model.devices import best_device
from base_model.files.weights import load_model
from base_model.flow import add_noise
from base_model.generate import CHUNK, generate
from base_model.qwen.model import QwenImage
from experiments.configs import nano_edit, nano_positions
from experiments.evaluation.edit_evaluation import (
    baselines,
    comparison,
    difference,
    evaluate_edits,
    interval,
    rows_of_systems,
    table,
)
from experiments.evaluation.evaluate import fixed_noise
from experiments.evaluation.prompts_of_plan import make_scenes
from experiments.experiment import THREADS, EditPlan, Experiment, SizePlan
from experiments.progress import Progress
from experiments.record.record import RunRecord
from experiments.record.recorded_settings import rebuild
from experiments.record.whole_files import write_bytes, write_json
from experiments.training.runner import run
from experiments.training.start_from import equip
from preference_data.pixels import to_float
from preference_data.records import Prompt
from rewards.scores import Scorer
from rewards.text.ocr import Ocr


def finished(folder: Path) -> QwenImage:
    """The model of a finished run with the sight and the positions that it was trained with.

    Raises ValueError when the run is not finished.
    """
    record = RunRecord.read(folder)
    if not record.finished:
        raise ValueError(f"the run in {folder} is not finished; go on with `glyphlab resume {folder}`")
    experiment = rebuild(record.config["experiment"])
    return equip(load_model(folder / "model", best_device()), experiment)


def train_arms(arms: Mapping[str, Experiment], out: Path, parent: Path | None) -> None:
    """Every arm in `out`/its name, from the same start."""
    torch.set_num_threads(THREADS)
    bar = Progress({experiment.name: experiment.minutes * 60.0 for experiment in arms.values()})
    for name, experiment in arms.items():
        run(experiment, out / name, parent, progress=bar)


# --- dual encoding ------------------------------------------------------------------------------------------------


def evaluate_run(folder: Path, plan: EditPlan = nano_edit.evaluation) -> list[str]:
    """The edits of a finished run beside the baselines; lines of text."""
    torch.set_num_threads(THREADS)
    parent = RunRecord.read(folder).config["parent"]
    if not parent:
        raise ValueError(f"the run in {folder} began from nothing, so there is no T2I model to compare its edits with")
    scorer = Ocr().load()
    systems = baselines(load_model(folder / parent / "model", best_device()), plan, scorer)
    name = RunRecord.read(folder).config["experiment"]["name"]
    systems[name] = evaluate_edits(finished(folder), plan, folder / "evaluation", scorer)
    return [*table(systems), "", *comparison(systems, name, list(systems)[:2])]


def ablate_editing(
    parent: Path, out: Path, arms: Mapping[str, Experiment] = nano_edit.ARMS, plan: EditPlan = nano_edit.evaluation
) -> list[str]:
    """Dual encoding against its halves, from one T2I model; lines of a Markdown report, also in `out`/table.md."""
    train_arms(arms, out, parent)
    scorer = Ocr().load()
    systems = rows_of_systems(
        out / "baselines.json", lambda: baselines(load_model(parent / "model", best_device()), plan, scorer)
    )
    for name in arms:
        evaluated = out / name / "evaluation"
        systems |= rows_of_systems(
            evaluated / "edits.json",
            lambda name=name, evaluated=evaluated: {
                name: evaluate_edits(finished(out / name), plan, evaluated, scorer)
            },
        )
    first = next(iter(arms))
    lines = [*table(systems), "", *comparison(systems, first, [name for name in systems if name != first])]
    for kind in ("word", "ink", "place"):
        some = {name: [row for row in rows if row["kind"] == kind] for name, rows in systems.items()}
        lines += ["", f"{kind} edits alone:", "", *comparison(some, first, [name for name in some if name != first])]
    write_bytes(out / "table.md", "\n".join([*lines, ""]).encode())
    return lines


# --- positions ----------------------------------------------------------------------------------------------------


def ablate_positions(
    out: Path, arms: Mapping[str, Experiment] = nano_positions.ARMS, plan: SizePlan = nano_positions.evaluation
) -> list[str]:
    """Schemes of positions at the training size and beyond; lines of a Markdown table, also in `out`/table.md."""
    train_arms(arms, out, None)
    scorer = Ocr().load()
    rows = {name: evaluate_sizes(finished(out / name), plan, scorer) for name in arms}
    write_json(out / "positions.json", rows)
    lines = size_table(rows, plan)
    write_bytes(out / "table.md", "\n".join([*lines, ""]).encode())
    return lines


def evaluate_sizes(model: QwenImage, plan: SizePlan, scorer: Scorer) -> dict[str, dict[str, np.ndarray]]:
    """For every size: flow error, 1 - NED and exactness of every prompt."""
    scenes = make_scenes(plan.prompts)
    captions = [scene.caption for scene in scenes]
    entries = {}
    for size in plan.sizes:
        sized = model.sized(size)
        rendered = np.stack([render(scene, size) for scene in scenes])
        noise = fixed_noise(sized, len(scenes), plan.noise_seed)
        images = generate(sized, captions, noise, plan.sampler)
        scores = scorer([Prompt.from_text(caption) for caption in captions], to_float(images))
        entries[name_of(size)] = {
            "error": flow_error(sized, captions, rendered, noise, plan.levels),
            "ned": scores.parts["ned_score"], "exact": scores.parts["exact"],
        }  # fmt: skip
    return entries


def name_of(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


@torch.no_grad()
def flow_error(
    model: QwenImage, captions: Sequence[str], images_P3HW: np.ndarray, noise_PSC: torch.Tensor,
    levels: Sequence[float],
) -> np.ndarray:  # fmt: skip
    """[P] mean over noise levels of the squared error of the velocity (pretrain, P3)."""
    total = []
    for i in range(0, len(captions), CHUNK):
        x0 = model.encode_pixels(torch.from_numpy(images_P3HW[i : i + CHUNK] / np.float32(255.0)))
        cond, eps = model.encode_text(captions[i : i + CHUNK]), noise_PSC[i : i + CHUNK]
        sigmas = [torch.full((len(x0),), level) for level in levels]
        errors = [model.velocity(add_noise(x0, eps, s), s, cond).sub(eps - x0).square().mean((1, 2)) for s in sigmas]
        total.append(torch.stack(errors).mean(0))
    return torch.cat(total).double().numpy()


def size_table(rows: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]], plan: SizePlan) -> list[str]:
    """One line an arm and size, with paired differences to the first arm."""
    first = next(iter(rows))
    heads = ["size", "scheme", "flow error", f"minus {first}", "1 - NED", f"minus {first}", "exact"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---|" * (len(heads) - 1)]
    for size in map(name_of, plan.sizes):
        for name, sizes in rows.items():
            own, base = sizes[size], rows[first][size]
            gaps = ["" if name == first else difference(base[what], own[what]) for what in ("error", "ned")]
            cells = [interval(own["error"]), gaps[0], interval(own["ned"]), gaps[1], interval(own["exact"])]
            lines.append(f"| {size} | {name} | " + " | ".join(cells) + " |")
    return lines
