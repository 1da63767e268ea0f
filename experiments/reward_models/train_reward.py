"""From a file of answers to a folder that is a reward: read, describe the images, train, write everything at once.

The features of an image are kept beside the answers, in features/BACKBONE-HASH.npz, so that another head costs
seconds.

Shapes: P images, F features.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from base_model.devices import best_device
from experiments.record.whole_files import read_png, write_bytes
from preference_data.atomic_files import replacing
from preference_data.comparisons import Comparison, load, split, to_jsonl
from preference_data.line_files import first_existing
from preference_data.pixels import pixel_hash
from preference_data.records import ImageRef, Prompt
from rewards.comparison.checks.hygiene import words_hash
from rewards.comparison.checks.likeness import perceptual_hash
from rewards.learned.backbones import Backbone, Extractor, LearningBackbone, parse
from rewards.learned.model_card import data_card, held_out_interval, model_card
from rewards.learned.reward import HASHES, HELD_OUT, NETWORK, TRAINED_ON, as_files, digest_of
from rewards.learned.reward_settings import TrainReward
from rewards.learned.train import Answers, Trained, as_arrays, train
from rewards.serving.cache import score_key

CHUNK = 64
"""Images that are described at a time."""
STORE_EVERY = 60.0
"""Seconds after which what is described is stored, so that it survives an interruption."""

Say = Callable[[str], None]


def path_of_image(folder: Path, image: ImageRef) -> Path:
    """Where an image is: its own path, from `folder` when relative, or pictures/SHA256.png there.

    Raises FileNotFoundError naming both places.
    """
    named, by_hash = folder / image.path, folder / "pictures" / f"{image.sha256}.png"
    try:
        return first_existing(named, by_hash)
    except FileNotFoundError:
        raise FileNotFoundError(f"the image {image.sha256[:12]} is neither {named} nor {by_hash}") from None


def opened(folder: Path, image: ImageRef) -> np.ndarray:
    """The pixels of an image, which are those that its row names; ValueError where hash or size say otherwise."""
    path = path_of_image(folder, image)
    pixels = read_png(path)
    height, width = pixels.shape[1:]
    if (width, height) != (image.width, image.height):
        raise ValueError(
            f"{path} is {width} x {height} and its row says {image.width} x {image.height}; the answers were given to "
            "another image: export them again"
        )
    if (sha256 := pixel_hash(pixels)) != image.sha256:
        raise ValueError(
            f"{path} has the hash {sha256[:12]} and its row says {image.sha256[:12]}; the answers were given to another "  # noqa: E501
            "image: export them again"
        )
    return pixels


def perceptual_hashes(folder: Path, images: Sequence[ImageRef]) -> dict[str, np.ndarray]:
    """hash -> look of every image, each opened and checked before anything that takes long."""
    return {image.sha256: perceptual_hash(opened(folder, image)) for image in _different(images)}


def check_those_here(folder: Path, images: Sequence[ImageRef]) -> None:
    """Refuse, as `opened` does, rows that name other pixels; images that are not there are left out."""
    for image in _different(images):
        with suppress(FileNotFoundError):
            opened(folder, image)


def _different(images: Sequence[ImageRef]) -> list[ImageRef]:
    """Every different row about an image, for one of two rows may be wrong."""
    return list({(i.path, i.sha256, i.width, i.height): i for i in images}.values())


def describe(
    backbone: Backbone, extractor: Extractor, items: Sequence[tuple[Prompt, ImageRef]], folder: Path, say: Say
) -> np.ndarray:
    """Features [P, F] of images, from the file of kept ones where they are in it."""
    parts = (type(backbone).__qualname__, backbone.version, backbone, *filter(None, [digest_of(extractor)]))
    text = hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
    stored_file = folder / "features" / f"{type(backbone).__name__.lower()}-{text}.npz"
    keys = [score_key(i.sha256, p) for p, i in items]
    features: dict[str, np.ndarray] = {}
    if stored_file.exists():
        with np.load(stored_file, allow_pickle=False) as file:
            features = dict(zip(file["keys"].tolist(), file["features"], strict=True))
    new = [i for i, key in enumerate(keys) if key not in features]
    start = stored = time.perf_counter()
    for first in range(0, len(new), CHUNK):
        some = new[first : first + CHUNK]
        images = [read_png(path_of_image(folder, items[i][1])) for i in some]
        rows = extractor([items[i][0] for i in some], images)
        features.update(zip((keys[i] for i in some), rows, strict=True))
        if time.perf_counter() - stored > STORE_EVERY:
            _keep(stored_file, features)
            stored = time.perf_counter()
    if new:
        say(f"described {len(new)} images in {time.perf_counter() - start:.1f} s")
        _keep(stored_file, features)
    return np.array([features[key] for key in keys], dtype=np.float64)


def _hash(backbone: str, cfg: TrainReward, answers: bytes) -> str:
    """Of what a training of a backbone depends on."""
    return hashlib.sha256(f"{backbone} {cfg} ".encode() + answers).hexdigest()[:12]


def _keep(path: Path, features: dict[str, np.ndarray]) -> None:
    with replacing(path) as file:
        np.savez(file, keys=np.array(list(features)), features=np.array(list(features.values())))


def train_reward(pairs: Path, out: Path, backbone: str, cfg: TrainReward, say: Say = lambda line: None) -> list[str]:
    """Train on the answers of a file and write the folder `out`, whole or not at all; what to tell the user.

    Raises ValueError or FileNotFoundError for a damaged file, a missing image, too few prompts, answers about edits, or
    a folder that exists and is no reward model.
    """
    if out.exists() and any(out.iterdir()) and not (out / "reward.json").exists():
        raise ValueError(f"{out} is a folder with other files in it; name a new one with --out")
    start = time.perf_counter()
    everything = comparisons = [replace(c, prompt=c.prompt.located(pairs.parent)) for c in load(pairs)]
    settings, device = parse(backbone), best_device()
    check_edits(settings, everything)
    base = Path(getattr(settings, "weights", ""))
    before = seen_by_base(base, everything, f"use {base / HELD_OUT}, or the model that the judge was made of")
    checks = perceptual_hashes(pairs.parent, [i for c in everything for i in (c.left, c.right)])
    extra: dict[str, bytes] = {}
    work = pairs.parent / "features" / f"training-{_hash(backbone, cfg, pairs.read_bytes())}"
    if isinstance(settings, LearningBackbone) and settings.learns:
        comparisons, weights = fit_backbone(settings, everything, cfg, pairs.parent, work, device)
        extractor: Extractor = settings.with_weights(weights, device)
        extra[NETWORK] = save(weights)
    else:
        extractor = settings.load(device)
    answers, shown = as_arrays(comparisons)
    items = [(c.prompt, c.left if side == "left" else c.right) for c, side in shown]
    if extra:
        features_PF = extractor([p for p, _ in items], [read_png(path_of_image(pairs.parent, i)) for _, i in items])
    else:
        features_PF = describe(settings, extractor, items, pairs.parent, say)
    trained = train(features_PF, comparisons, answers, cfg)
    seconds = time.perf_counter() - start
    source = {
        "answers": f"{pairs.name}, sha256 {hashlib.sha256(pairs.read_bytes()).hexdigest()[:16]}",
        "made": time.strftime("%Y-%m-%d", time.gmtime()), "training took": f"{seconds:.0f} s",
    }  # fmt: skip
    held = {(c.prompt.id, c.left.sha256, c.right.sha256) for c in (comparisons[i] for i in trained.rows_held_out)}
    used = [c for c in everything if (c.prompt.id, c.left.sha256, c.right.sha256) not in held]
    files = content(backbone, settings, extractor, comparisons, answers, trained, cfg, source)
    files[TRAINED_ON] = (before + seen_in(used)).encode()
    files[HASHES] = _array([checks[sha] for sha in sorted({i.sha256 for c in used for i in (c.left, c.right)})])
    rest = [seen_from(out, pairs.parent, comparisons[i]) for i in trained.rows_held_out]
    files[HELD_OUT] = to_jsonl(rest).encode()
    _write(out, files | extra)
    shutil.rmtree(work, ignore_errors=True)
    return lines(out, answers, trained, features_PF, seconds)


def check_edits(backbone: Backbone, comparisons: Sequence[Comparison]) -> None:
    """Raises ValueError naming the first answer about an edit, where features say nothing of what it was made from."""
    edits = [(row, c.prompt) for row, c in enumerate(comparisons, start=1) if c.prompt.sources]
    if not edits or getattr(backbone, "sees_sources", False):
        return
    row, prompt = edits[0]
    raise ValueError(
        f"answer {row}, to {prompt.text!r}, is about an edit of {prompt.sources[0].path} ({len(edits)} of "
        f"{len(comparisons)} answers are), and this backbone is never shown what was edited: leave them out, or take "
        "one that is: --backbone vlm:FOLDER,rubric=edit_faithfulness"
    )


def _array(rows: Sequence[np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(rows), allow_pickle=False)
    return file.getvalue()


def seen_in(comparisons: Sequence[Comparison]) -> str:
    """The lines of `TRAINED_ON`: hashes of what a model has seen that learned from these answers."""
    seen = {f"prompt:{c.prompt.id}" for c in comparisons} | {i.sha256 for c in comparisons for i in (c.left, c.right)}
    seen |= {f"words:{words_hash(c.prompt.text)}" for c in comparisons}
    return "\n".join(sorted(seen)) + "\n"


def seen_from(out: Path, folder: Path, c: Comparison) -> Comparison:
    """The answer with paths of its images as seen from `out`."""
    left, right = (
        replace(i, path=os.path.relpath(path_of_image(folder, i).resolve(), out.resolve())) for i in (c.left, c.right)
    )
    return replace(c, left=left, right=right)


def seen_by_base(folder: Path | str, comparisons: Sequence[Comparison], advice: str) -> str:
    """The lines of `TRAINED_ON` of a judge from which training goes on; "" for a model that is none.

    Raises ValueError with `advice` when it has learned from these answers: they would flatter what is made of it.
    """
    path = Path(folder) / TRAINED_ON
    if not path.is_file() or path == Path(TRAINED_ON):
        return ""
    lines = path.read_text("utf-8")
    known = {line for line in lines.split() if not line.startswith("words:")}
    if shared := known & set(seen_in(comparisons).split()):
        raise ValueError(f"the judge in {folder} has learned from {len(shared)} of these prompts and images; {advice}")
    return lines


def fit_backbone(
    settings: LearningBackbone, comparisons: Sequence[Comparison], cfg: TrainReward, folder: Path, work: Path,
    device: str,
) -> tuple[list[Comparison], dict[str, np.ndarray]]:  # fmt: skip
    """(the answers left for the head, the backbone's weights): it learns from six of ten answers, by prompt."""
    part = split(comparisons, (0.6, 0.4), cfg.seed + 2)
    mine = [c for c, k in zip(comparisons, part, strict=True) if k == 0]
    answers, shown = as_arrays(mine)
    images = [partial(read_png, path_of_image(folder, c.left if side == "left" else c.right)) for c, side in shown]
    weights = settings.fit([c.prompt for c, _ in shown], images, answers, cfg, work, device)
    return [c for c, k in zip(comparisons, part, strict=True) if k == 1], weights


def content(
    backbone: str, settings: Backbone, extractor: Extractor, comparisons: Sequence[Comparison], answers: Answers,
    trained: Trained, cfg: TrainReward, source: dict[str, str],
) -> dict[str, bytes]:  # fmt: skip
    """The files of the folder that say what it is, by name."""
    card = {
        "ties": cfg.ties, "tie": trained.fitted.tie, "seed": cfg.seed, "held_out": trained.held_out,
        "cross_fitted": trained.cross_fitted, "source": source,
        "annotators": dict(zip(answers.annotators, trained.reliability_A.tolist(), strict=True)),
        "digest": digest_of(extractor),
    }  # fmt: skip
    files = as_files(backbone, extractor.names, trained, card)
    files["data_card.md"] = data_card(comparisons, answers, trained, source).encode()
    view = f"{settings.view} image" + (f", scaled to {settings.side} x {settings.side}" if settings.side else "")
    files["model_card.md"] = model_card(backbone, view, cfg, answers, trained, source).encode()
    return files


def _write(out: Path, files: dict[str, bytes]) -> None:
    """A new folder beside the old one takes its place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for name, data in files.items():
            write_bytes(fresh / name, data)
        fresh.chmod(0o755)
        if out.exists():
            old = fresh.with_name(f"{fresh.name}.old")
            out.rename(old)
            fresh.rename(out)
            shutil.rmtree(old)
        else:
            fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def lines(out: Path, answers: Answers, trained: Trained, features_PF: np.ndarray, seconds: float) -> list[str]:
    """The result, as a person reads it."""
    held = trained.held_out
    low, high = held_out_interval(answers, trained)
    unknown = int((~np.isfinite(features_PF).all(1)).sum())
    hits = [
        f"{len(answers.left_N)} answers about {len(features_PF)} images, {features_PF.shape[1]} features, "
        f"{seconds:.0f} s",
        f"held out: {held['accuracy']:.3f} of {held['answers']:.0f} decided answers ({low:.3f} to {high:.3f}), "
        f"calibration error {held['ece']:.3f} (chance alone gives {held['ece_by_chance']:.3f})",
    ]
    if unknown:
        hits.append(f"{unknown} images could not be described; answers about them were left out")
    hits += [
        f"{name}: reliability {value:.2f}" + ("  <- says little or the opposite" if value < 0.3 else "")
        for name, value in zip(answers.annotators, trained.reliability_A, strict=True)
    ]
    return [*hits, f"written: {out} (use it as --reward learned:{out})"]
