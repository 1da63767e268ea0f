"""Machine-made preferences: sample several images a prompt, score them, keep the best and the worst.

A stage folder gets pairs.jsonl, pictures/<sha256>.png for both sides of every pair, and the latents that they were
decoded from. Every chunk of prompts is kept in a part of its own until all are
there; interrupted, only what no part holds is sampled again.

Latents are kept because the model is to learn from what it did: encoding an image gives other latents than the
ones it was decoded from, and pairs made of those taught the encoder's view (experiments/reports). Images without kept
latents, such as annotated ones from elsewhere, are encoded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from alignment.dpo import Pairs
from alignment.trajectory import all_noise, explore
from base_model.engine.engine_files import layout_of, read_one, write_one_by_one
from base_model.generate import at_once
from base_model.interface import FlowModel, Grid, padded_together
from base_model.policy_model import PolicyModel
from base_model.sample import pixels
from base_model.seeding import generator
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import PairPlan
from experiments.images.canvases import BUCKETS, Size, canvas, cover
from experiments.progress import Progress
from experiments.record.record import read_png, write_json, write_png
from preference_data import pairs as machine
from preference_data.image_files import read_source, source_readers
from preference_data.pixels import pixel_hash
from preference_data.records import ImageRef, Prompt, Provenance
from rewards.scores import Scores
from rewards.serving.workers import ScorerPool

CHUNK = 16
"""Prompts sampled at a time."""

PAIRS, LATENTS = "pairs.jsonl", "latents.safetensors"
PARTS, SCORES = "pairs_parts", "scores.json"


class Chunk(NamedTuple):
    """Holds some prompts and their images, a prompt's side by side, until the scores are there."""

    first: int
    """index of the first prompt among all"""
    prompts: Sequence[Prompt]
    latents: Sequence[torch.Tensor]
    """[S, C] of every image"""
    images: Sequence[np.ndarray]
    """uint8 [3, H, W]"""
    scores: Sequence[tuple[Sequence[int], Future[Scores]]]
    """of the prompts of each size: their rows, and what is waited for"""


def make_pairs(
    model: PolicyModel, plan: PairPlan, folder: Path, scorer: ScorerPool, bar: Progress, origin: str = "",
    rank: int = 0, ranks: int = 1, barrier: Callable[[], None] = lambda: None,
) -> Path:  # fmt: skip
    """Write `folder`/pairs.jsonl unless it is there. Raises ValueError when no prompt gave a pair.

    With several processes call it on every rank, with a `barrier` for all: each samples its share of the chunks
    into the folder that all share. Parts of an interrupted call are used again if plan, scorer and `origin`, which
    names the model, are the same.
    """
    target = folder / PAIRS
    done = target.exists()
    barrier()  # nobody may write the pairs before all have looked
    if done:
        return target
    prompts = make_prompts(plan.prompts)
    mark = {"plan": repr(plan), "judge": scorer.name, "origin": origin}
    parts = [folder / PARTS / f"{first:06d}" for first in range(0, len(prompts), CHUNK)]
    missing = [chunk for chunk, part in enumerate(parts) if not _is_whole(part, mark)]
    barrier()  # nobody may write a part before all have listed what is missing
    waiting: list[Chunk] = []
    for turn in range(0, len(missing), ranks):  # all barrier after each, so nobody waits longer than for a chunk
        for chunk in missing[turn : turn + ranks][rank : rank + 1]:
            first = chunk * CHUNK
            waiting.append(sample_chunk(model, prompts[first : first + CHUNK], plan, scorer, first))
            bar.note(f"pairs: {min(first + CHUNK, len(prompts))} of {len(prompts)} prompts drawn")
        while len(waiting) > 1:  # the scorer works on one chunk while the next is sampled
            _write_part(plan, folder, scorer, mark, waiting.pop(0))
        barrier()
    for one in waiting:
        _write_part(plan, folder, scorer, mark, one)
    barrier()
    if rank == 0:
        _merge(plan, folder, parts, len(prompts))
    barrier()
    return target


def _is_whole(part: Path, mark: dict[str, str]) -> bool:
    """Whether this part was written to its end, for the same pairs."""
    try:
        saved = json.loads((part / SCORES).read_text())
    except (FileNotFoundError, ValueError):  # never written, or not to its end
        return False
    return {name: saved.get(name) for name in mark} == mark


def _write_part(plan: PairPlan, folder: Path, scorer: ScorerPool, mark: dict[str, str], chunk: Chunk) -> None:
    """Keep the pairs of one chunk with their images and latents. The scores come last and say that it is whole."""
    part = folder / PARTS / f"{chunk.first:06d}"
    part.mkdir(parents=True, exist_ok=True)
    (part / SCORES).unlink(missing_ok=True)
    score_PG = np.empty((len(chunk.prompts), plan.group))
    for rows, scores in chunk.scores:
        score_PG[rows] = scores.result().value_B.reshape(len(rows), plan.group)
    refs_PG = [
        [reference(chunk.images[i], plan, folder, chunk.first * plan.group + i) for i in range(k, k + plan.group)]
        for k in range(0, len(chunk.images), plan.group)
    ]
    pairs = machine.best_and_worst(
        [with_own_sources(prompt, folder) for prompt in chunk.prompts], score_PG, refs_PG, source=scorer.name,
        min_margin=plan.min_margin, per_prompt=plan.per_prompt,
    )  # fmt: skip
    shas = {r.sha256 for pair in pairs for r in (pair.chosen, pair.rejected)}
    latents = {}
    for latent, image in zip(chunk.latents, chunk.images, strict=True):
        if (sha := pixel_hash(image)) in shas:
            write_png(folder / "pictures" / f"{sha}.png", image)
            latents[sha] = latent.clone()
    save_file(latents, part / LATENTS)
    machine.save(pairs, part / PAIRS)
    write_json(part / SCORES, mark | {"scores": score_PG.tolist()})


def _merge(plan: PairPlan, folder: Path, parts: list[Path], prompts: int) -> None:
    """Put the parts together, in the order of their prompts, and delete them. The pairs are written last."""
    results, scores_PG = [], []
    indices: dict[str, Path] = {}  # where a latent lies: all together may be more than the memory holds
    layout: dict[str, torch.Tensor] = {}
    for part in parts:
        scores_PG.extend(json.loads((part / SCORES).read_text())["scores"])
        results.extend(machine.load(part / PAIRS))
        own = layout_of(part / LATENTS)
        layout.update(own)
        indices.update(dict.fromkeys(own, part / LATENTS))
    counts = machine.summary(scores_PG, min_margin=plan.min_margin)
    if not results:
        raise ValueError(f"none of {prompts} prompts gave a pair ({counts}): the model's images all score alike")
    write_json(folder / "pairs_summary.json", vars(counts))
    write_one_by_one(folder / LATENTS, layout, lambda sha: read_one(indices[sha], sha), writes=True)
    machine.save(results, folder / PAIRS)
    shutil.rmtree(folder / PARTS)


def sample_chunk(
    model: PolicyModel, prompts: Sequence[Prompt], plan: PairPlan, scorer: ScorerPool, first: int
) -> Chunk:
    """Sample some prompts, those of one size together, and send them to the scorer."""
    by_size: dict[Size | None, list[int]] = {}
    for row, prompt in enumerate(prompts):
        by_size.setdefault(prompt.size, []).append(row)
    latents, images, scores = dict[int, torch.Tensor](), dict[int, np.ndarray](), []
    for size, rows in by_size.items():
        own, batch = model.sized_for_run(size) if size else model, [prompts[row] for row in rows]
        sampled = sample_group(own, batch, plan, first, rows[0])
        scores.append((rows, scorer.submit([p for p in batch for _ in range(plan.group)], sampled[1])))
        members = [row * plan.group + i for row in rows for i in range(plan.group)]
        latents |= zip(members, sampled[0], strict=True)
        images |= zip(members, sampled[1], strict=True)
    return Chunk(first, prompts, [latents[i] for i in sorted(latents)], [images[i] for i in sorted(images)], scores)


def sample_group(
    model: FlowModel, prompts: list[Prompt], plan: PairPlan, first: int, row: int = 0
) -> tuple[torch.Tensor, np.ndarray]:
    """Latents [len(prompts) * group, S, C] and their uint8 images, a prompt's side by side.

    The chunk's `first` prompt and the `row` of the first of these in it seed the noise.
    """
    texts, exploration, G = [p.text for p in prompts], plan.exploration, plan.group
    noise = all_noise(model, len(texts), G, exploration, generator(plan.seed, first // CHUNK, 0, f"rollout {row}"))
    start = exploration.start(plan.seed, first // CHUNK)
    batch = max(1, at_once(noise[0].shape[1], len(texts) * G) // G)
    latents, images = [], []
    for rows in (
        slice(i, i + batch) for i in range(0, len(texts), batch)
    ):  # the noise is that of all, whatever the parts
        own = [x.unflatten(0, (len(texts), -1))[rows].flatten(0, 1) for x in noise]
        shown = model.read_images(source_readers(p.sources for p in prompts[rows]))[:]
        x0 = explore(model, texts[rows], G, plan.sampler, exploration, start, own, shown).x0_BSC
        images.append(pixels(model, x0))
        latents.append(x0.cpu())  # all wait for their scores, so they wait where there is room
    return torch.cat(latents), np.concatenate(images)


def with_own_sources(prompt: Prompt, folder: Path) -> Prompt:
    """The prompt with its source images copied to `folder`/pictures, so that the folder is whole by itself."""
    for source in prompt.sources:
        if not (path := folder / "pictures" / f"{source.sha256}.png").exists():
            write_png(path, read_source(source).transpose(2, 0, 1))
    return replace(prompt, sources=tuple(replace(s, path=f"pictures/{s.sha256}.png") for s in prompt.sources))


def reference(image: np.ndarray, plan: PairPlan, folder: Path, index: int) -> ImageRef:
    """The record of an image; `place` is its place among all images that were sampled."""
    sha, sampler = pixel_hash(image), plan.sampler
    made = Provenance(
        model=folder.name, revision="", seed=plan.seed, steps=sampler.steps, guidance=sampler.guidance,
        run=str(folder), step=index,
    )  # fmt: skip
    return ImageRef(sha, f"pictures/{sha}.png", image.shape[2], image.shape[1], made)


def load_pairs(model: PolicyModel, folder: Path) -> Pairs:
    """The pairs of a folder in latent space: the kept latents where there are, the encoded images elsewhere."""
    pairs = machine.load(folder / PAIRS)
    prompts = [pair.prompt.located(folder) for pair in pairs]
    (chosen, rejected), grids = latents_of(model, folder, [(pair.chosen, pair.rejected) for pair in pairs])
    shown = model.read_images(source_readers(prompt.sources for prompt in prompts))
    return Pairs(chosen, rejected, tuple(prompt.text for prompt in prompts), shown, grids)


def latents_of(
    model: PolicyModel, folder: Path, rows: Sequence[Sequence[ImageRef]]
) -> tuple[list[torch.Tensor], tuple[Grid, ...]]:
    """[N, S, C] in host memory for every column of `rows`, zeros behind the shorter ones, and the grid of every row.

    Kept latents where there are, encoded images elsewhere. Images of another size than the model's keep their aspect;
    all of a row get the canvas of its first.
    """
    stored = load_file(folder / LATENTS) if (folder / LATENTS).exists() else {}
    sizes = [shared_size(model, row, stored) for row in rows]
    latents: dict[tuple[str, Size], torch.Tensor] = {
        (ref.sha256, size): stored[ref.sha256]
        for row, size in zip(rows, sizes, strict=True)
        for ref in row
        if ref.sha256 in stored and (ref.height, ref.width) == size
    }
    wanted = {(ref.sha256, size): ref for row, size in zip(rows, sizes, strict=True) for ref in row}
    missing: dict[Size, list[ImageRef]] = {}
    for (sha, size), ref in wanted.items():
        if (sha, size) not in latents:
            missing.setdefault(size, []).append(ref)
    for size, refs in missing.items():
        for batch in (refs[i : i + 64] for i in range(0, len(refs), 64)):
            images = np.stack([fitting(read_png(folder / ref.path), size) for ref in batch])
            encoded = model.encode_pixels(torch.from_numpy(images).float() / 255.0).cpu()
            latents.update(((ref.sha256, size), latent) for ref, latent in zip(batch, encoded, strict=True))
    columns = [
        padded_together([latents[ref.sha256, size][None] for ref, size in zip(column, sizes, strict=True)])
        for column in zip(*rows, strict=True)
    ]
    return columns, tuple((height // model.side, width // model.side) for height, width in sizes)


def shared_size(model: PolicyModel, refs: Sequence[ImageRef], stored: Mapping[str, object]) -> Size:
    """The (height, width) in which images are learned from together: that of kept latents, or else the canvas of the
    first, about as large as what the model makes."""
    sampled = [(ref.height, ref.width) for ref in refs if ref.sha256 in stored]
    first = (refs[0].height, refs[0].width)
    if sampled or first == model.picture:
        return sampled[0] if sampled else first
    return canvas(first, model.picture, model.multiple, BUCKETS if model.one_size_a_call else ())


def fitting(image_3HW: np.ndarray, size: Size) -> np.ndarray:
    """The image in a size: itself, or scaled until it covers it, without what sticks out."""
    if image_3HW.shape[1:] == size:
        return image_3HW
    return cover(image_3HW.transpose(1, 2, 0), size).transpose(2, 0, 1)
