"""Answers "left or right?" about a model's own images, by simulated people: what a campaign would export.

    FOLDER/answers.jsonl        one comparison a prompt, of two images from independent noise
    FOLDER/pairs.jsonl          the same as training pairs, the preferred image first
    FOLDER/pictures/SHA256.png, FOLDER/latents/SHA256.safetensors
    FOLDER/preferred/           the preferred images with their captions, as fine-tuning reads them
    FOLDER/prompts.txt          for people who are to answer about images of the same prompts

Where real people answer, `glyphlab campaign create --prompts FOLDER/prompts.txt` samples, `glyphlab annotate` asks, and
`glyphlab campaign export` writes a file like the first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from base_model.generate import generate_chunks, prompted
from base_model.interface import FlowModel
from base_model.seeding import numpy_generator
from experiments.evaluation.evaluate import fixed_noise
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import AnswerPlan
from experiments.preferences.from_people import keep_latent
from experiments.preferences.from_scores import PAIRS
from experiments.preferences.simulated_people import Person, facts
from experiments.progress import Progress
from experiments.record.record import write_png
from experiments.record.whole_files import write_bytes
from preference_data import pairs
from preference_data.comparisons import Comparison, to_jsonl
from preference_data.pixels import pixel_hash
from preference_data.records import ImageRef, PreferencePair, Prompt, Provenance

ANSWERS, CHOSEN, PROMPTS = "answers.jsonl", "preferred", "prompts.txt"


def collect_answers(
    model: FlowModel, plan: AnswerPlan, annotators: Sequence[Person], folder: Path, bar: Progress
) -> Path:
    """Write `folder`/answers.jsonl unless it is there, and everything that it speaks of before it."""
    target = folder / ANSWERS
    if target.exists():
        return target
    prompts = make_prompts(plan.prompts)
    sides = [sampled(model, prompts, plan, folder, copy, bar) for copy in range(2)]
    answers = []
    for i, prompt in enumerate(prompts):
        (left, left_F), (right, right_F) = (side[i] for side in sides)
        person = annotators[i % len(annotators)]
        says_left = numpy_generator(plan.seed, i, 0, "answer").random() < person.probability(left_F, right_F)
        if left.sha256 != right.sha256:
            answers.append(Comparison(prompt, left, right, "left" if says_left else "right", person.name))
    preferred = [one.left if one.outcome == "left" else one.right for one in answers]
    keep_chosen(folder, [one.prompt for one in answers], preferred)
    others = [one.right if one.outcome == "left" else one.left for one in answers]
    ordered = zip(answers, preferred, others, strict=True)
    pairs.save(
        [PreferencePair(one.prompt, a, b, one.annotator, 1.0, one.outcome) for one, a, b in ordered], folder / PAIRS
    )
    write_bytes(folder / PROMPTS, "".join(f"{prompt.text}\n" for prompt in prompts).encode())
    write_bytes(target, to_jsonl(answers).encode())
    return target


def sampled(
    model: FlowModel, prompts: list[Prompt], plan: AnswerPlan, folder: Path, copy: int, bar: Progress
) -> list[tuple[ImageRef, np.ndarray]]:
    """An image a prompt, kept with its latents, and its facts."""
    noise = fixed_noise(model, len(prompts), plan.seed, copy)
    requested = prompted(model, [prompt.text for prompt in prompts], plan.sampler.guidance)
    rows: list[tuple[ImageRef, np.ndarray]] = []
    for _, latents, images in generate_chunks(model, requested, noise, plan.sampler):
        for latent, image in zip(latents, images, strict=True):
            sha = pixel_hash(image)
            write_png(folder / "pictures" / f"{sha}.png", image)
            keep_latent(folder, sha, latent.clone())
            made = Provenance(
                folder.parent.name, "", plan.seed, plan.sampler.steps, plan.sampler.guidance, "", len(rows)
            )
            ref = ImageRef(sha, f"pictures/{sha}.png", image.shape[2], image.shape[1], made)
            rows.append((ref, facts(image)))
        bar.note(f"answers: {len(rows)} of {len(prompts)} prompts sampled, {'left' if copy == 0 else 'right'}")
    return rows


def keep_chosen(folder: Path, prompts: list[Prompt], chosen: list[ImageRef]) -> None:
    """The preferred images with metadata.jsonl, as `--data.folder` reads them."""
    lines = []
    for prompt, ref in zip(prompts, chosen, strict=True):
        name = f"{ref.sha256}.png"
        write_bytes(folder / CHOSEN / name, (folder / ref.path).read_bytes())
        lines.append(json.dumps({"file_name": name, "text": prompt.text}, ensure_ascii=False) + "\n")
    write_bytes(folder / CHOSEN / "metadata.jsonl", "".join(lines).encode())
