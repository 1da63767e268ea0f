"""A model on held-out edits: is the new word there, and did the rest stay?

Every edit is scored twice, because either alone is won by doing nothing or by painting anything:

    (E1)  1 - NED of what an OCR engine reads in the cells where the target's word stands, cut out of the image
    (E2)  PSNR against the target outside of the region that the edit may change, and inside of it

and so are those that it is compared with on the same edits. Copying the input is perfect outside, so (E1) and the
inside are what it must be beaten at; sampling from the target's full caption (which is more than an instruction tells)
may be right inside, so (E2) outside is what it must be beaten at, and (E1) as far as it goes. The target through the
autoencoder is what no model over it can exceed.

Edits and noise are functions of the plan, so systems are compared edit by edit. Shapes: P edits, 3HW pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from base_model.data.edits import Example, Task, change_ink, change_position, change_word
from base_model.data.rendered_text import ENGLISH, HEIGHT, WIDTH, scene
from base_model.generate import generate_chunks
from base_model.interface import Conditioning, without_prompt
from base_model.qwen.model import QwenImage
from base_model.sample import pixels
from base_model.seeding import numpy_generator
from experiments.evaluation.evaluate import fixed_noise
from experiments.experiment import EditPlan
from experiments.record.intervals import bootstrap_ci, in_brackets, paired_ci
from experiments.record.whole_files import write_json, write_png
from preference_data.pixels import to_float
from preference_data.records import Prompt
from rewards.scores import Scorer

KINDS: dict[str, Task] = {"word": change_word, "ink": change_ink, "place": change_position}
ROUNDING = 1.0 / (12.0 * 255.0**2)
"""mean square of the rounding to 8 bits; no PSNR is higher than its 58.9 dB"""

Row = dict[str, Any]
Conditioner = Callable[[QwenImage, Sequence[Example], float], tuple[Conditioning, Conditioning]]
"""how a model is asked for the target at a guidance: its conditioning, and that of guidance where anybody reads it"""


def make_edits(plan: EditPlan) -> list[tuple[str, Example]]:
    """(kind, example), kinds in turn; all words, old and new, from the held-out side. A pure function of the plan."""
    edits = []
    for i in range(plan.count):
        kind = list(KINDS)[i % len(KINDS)]
        rng = numpy_generator(plan.seed, i, 0, "edit")
        before = scene(rng, ENGLISH, heldout=True)
        edits.append((kind, KINDS[kind](before, before.caption, (HEIGHT, WIDTH), rng, True)))
    return edits


def psnr(image_3HW: np.ndarray, target_3HW: np.ndarray, where_HW: np.ndarray) -> float:
    """dB over the pixels where it is True, of uint8 images; NaN when there are none."""
    if not where_HW.any():
        return math.nan
    error = (image_3HW.astype(np.float64) - target_3HW)[:, where_HW] / 255.0
    return float(-10.0 * np.log10(max(np.square(error).mean(), ROUNDING)))


def score_edits(edits: Sequence[tuple[str, Example]], images: Sequence[np.ndarray], scorer: Scorer) -> list[Row]:
    """(E1) and (E2) for a uint8 image of every edit."""
    rows: list[Row] = []
    for (kind, example), image in zip(edits, images, strict=True):
        word = example.target.scene.word
        scores = scorer([Prompt.from_text(f'"{word}"')], to_float(image[:, *example.target.box()][None]))
        target, region = example.target.render(), example.region()
        rows.append({
            "kind": kind, "text": example.text, "word": word,
            "ned": float(scores.parts["ned_score"][0]), "exact": float(scores.parts["exact"][0]),
            "outside": psnr(image, target, ~region), "inside": psnr(image, target, region),
        })  # fmt: skip
    return rows


def source_images(example: Example) -> list[torch.Tensor]:
    """The source as a model takes it."""
    return [torch.from_numpy(example.source.render() / np.float32(255.0))] if example.source else []


def instructed(model: QwenImage, examples: Sequence[Example], guidance: float) -> tuple[Conditioning, Conditioning]:
    """The source and the instruction; and for guidance, the source alone."""
    images = [source_images(example) for example in examples]
    texts = [example.text for example in examples]
    cond = model.encode_text(texts, images)
    return cond, without_prompt(model, cond, guidance, images)


def captioned(model: QwenImage, examples: Sequence[Example], guidance: float) -> tuple[Conditioning, Conditioning]:
    """The target's caption, and no image."""
    texts = [example.target.scene.caption for example in examples]
    cond = model.encode_text(texts)
    return cond, without_prompt(model, cond, guidance)


def sample_edits(
    model: QwenImage, edits: Sequence[tuple[str, Example]], plan: EditPlan, requested: Conditioner
) -> list[np.ndarray]:
    """A uint8 image of every edit."""
    noise = fixed_noise(model, len(edits), plan.noise_seed)
    examples = [example for _, example in edits]
    guidance = plan.sampler.guidance
    chunks = generate_chunks(model, lambda rows: requested(model, examples[rows], guidance), noise, plan.sampler)
    return [image for _, _, images in chunks for image in images]


def reconstructed(model: QwenImage, edits: Sequence[tuple[str, Example]]) -> list[np.ndarray]:
    """Every target through the autoencoder."""
    targets = torch.from_numpy(np.stack([example.target.render() for _, example in edits]) / np.float32(255.0))
    return list(pixels(model, model.encode_pixels(targets)))


def baselines(base: QwenImage, plan: EditPlan, scorer: Scorer) -> dict[str, list[Row]]:
    """What an edit model is compared with; `base` is the T2I model that it was trained from."""
    edits = make_edits(plan)
    sources = [example.source.render() for _, example in edits if example.source]
    return {
        "copy the input": score_edits(edits, sources, scorer),
        "T2I, target's caption": score_edits(edits, sample_edits(base, edits, plan, captioned), scorer),
        "target through the autoencoder": score_edits(edits, reconstructed(base, edits), scorer),
    }


def evaluate_edits(model: QwenImage, plan: EditPlan, folder: Path, scorer: Scorer) -> list[Row]:
    """Score a model's edits. Of the first ones, source, target and result go to `folder` as PNG."""
    edits = make_edits(plan)
    images = sample_edits(model, edits, plan, instructed)
    rows = score_edits(edits, images, scorer)
    for i, ((_, example), image) in enumerate(zip(edits[: plan.grid_images], images, strict=False)):
        shown = [sheet.render() for sheet in (example.source, example.target) if sheet] + [image]
        name = f"edit_{i:02d}.png"
        write_png(folder / name, np.concatenate(shown, axis=1))
        rows[i]["picture"] = name
    return rows


def column(rows: Sequence[Row], name: str, kind: str = "") -> np.ndarray:
    """One number an edit; of one kind only when it is named."""
    return np.array([row[name] for row in rows if not kind or row["kind"] == kind], dtype=np.float64)


def table(systems: Mapping[str, Sequence[Row]]) -> list[str]:
    """Means with 95 % bootstrap intervals over edits, as the lines of a Markdown table."""
    heads = ["system", "new word: 1 - NED", "exact", "all edits: 1 - NED", "PSNR outside, dB", "PSNR inside, dB"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---|" * (len(heads) - 1)]
    for name, rows in systems.items():
        cells = [column(rows, "ned", "word"), column(rows, "exact", "word"), column(rows, "ned"),
                 column(rows, "outside"), column(rows, "inside")]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(interval(values) for values in cells) + " |")
    return lines


def interval(values: np.ndarray) -> str:
    """Computes a mean with its interval."""
    low, high = bootstrap_ci(values, seed=0)
    indices = 1 if np.nanmax(values) > 1.0 else 3
    return f"{np.nanmean(values):.{indices}f} {in_brackets(low, high, f'.{indices}f')}"


def difference(before_P: np.ndarray, after_P: np.ndarray) -> str:
    """Computes after - before over the same prompts, with its interval."""
    delta, low, high = paired_ci(before_P, after_P, seed=0)
    return f"{delta:+.3f} {in_brackets(low, high, '+.3f')}"


COMPARED = (
    ("ned", "word", "new word, 1 - NED"),
    ("outside", "", "PSNR outside, dB"),
    ("inside", "", "PSNR inside, dB"),
)


def comparison(systems: Mapping[str, Sequence[Row]], name: str, others: Sequence[str]) -> list[str]:
    """How much one system is above others, edit by edit, as the lines of a Markdown table."""
    lines = [f"| {name} minus | " + " | ".join(head for *_, head in COMPARED) + " |", "|---|---|---|---|"]
    for other in others:
        cells = []
        for metric, kind, _ in COMPARED:
            before, after = (column(systems[person], metric, kind) for person in (other, name))
            cells.append(difference(before, after))
        lines.append(f"| {other} | " + " | ".join(cells) + " |")
    return lines


def rows_of_systems(file: Path, make: Callable[[], Mapping[str, Sequence[Row]]]) -> dict[str, list[Row]]:
    """The rows of systems by their names: read from the file, or made and written there first."""
    if not file.exists():
        write_json(file, make())
    systems: dict[str, list[Row]] = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: [{key: math.nan if value is None else value for key, value in row.items()} for row in rows]
        for name, rows in systems.items()
    }
