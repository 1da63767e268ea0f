"""Pictures with a known beauty, and annotators with known faults: what a reward model should find again.

A picture is a tinted ramp with some grain and a dark frame; its utility is a known function of tint, contrast, grain
and
frame. Annotators answer by Rao & Kupper's model with a known threshold; a bad one answers at random, a contrary one the
opposite. Pure functions of a seed.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from preference_data.comparisons import Comparison
from preference_data.records import ImageRef, Prompt, Provenance
from rewards.cache import picture_hash

THRESHOLD = 0.45
SIDE = 24


@dataclass(frozen=True)
class World:
    """Answers, the pictures by hash, and the truth."""

    comparisons: list[Comparison]
    pictures: dict[str, np.ndarray]
    utility: dict[str, float]
    honest: list[bool]
    """of every answer: was it given by an honest annotator?"""


def picture(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """(uint8 3HW, utility); the utility has a standard deviation of about 1.6."""
    warmth, contrast, grain, frame = rng.uniform(-1, 1, 4)
    ramp = np.linspace(-1, 1, SIDE)
    luma = 0.5 + 0.2 * (1.2 + contrast) * (ramp[:, None] + ramp[None, :]) / 2
    noise = rng.normal(size=(SIDE, SIDE)) * 0.06 * (1 + grain)
    pixels = np.stack([luma + 0.12 * warmth, luma, luma - 0.12 * warmth]) + noise
    edge = np.ones((SIDE, SIDE), bool)
    edge[2:-2, 2:-2] = False
    pixels[:, edge] *= 1 - 0.35 * (frame + 1) / 2
    utility = 1.8 * warmth + 1.5 * contrast - 1.6 * grain - 0.9 * frame
    return (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8), float(utility)


def answer(rng: np.random.Generator, gap: float, kind: str) -> str:
    """An outcome by an honest, a random or a contrary annotator."""
    if kind == "random":
        return str(rng.choice(["left", "tie", "right"]))
    if kind == "contrary":
        gap = -gap
    left = 1 / (1 + math.exp(-(gap - THRESHOLD)))
    right = 1 / (1 + math.exp(gap + THRESHOLD))
    u = rng.uniform()
    return "left" if u < left else "right" if u < left + right else "tie"


def simulate(count: int, seed: int, bad: str = "random", annotators: int = 8, per_prompt: int = 4) -> World:
    """`count` answers; annotator 0 is of the kind `bad`, the others are honest ("" = all are)."""
    rng = np.random.default_rng(seed)
    comparisons: list[Comparison] = []
    pictures: dict[str, np.ndarray] = {}
    utility: dict[str, float] = {}
    honest: list[bool] = []
    group = 0
    while len(comparisons) < count:
        prompt = Prompt.from_text(f"scene {seed}-{group}", category=("warm" if group % 2 else "plain",))
        refs = []
        for place in range(per_prompt):
            pixels, value = picture(rng)
            sha = picture_hash(pixels)
            pictures[sha], utility[sha] = pixels, value
            made = Provenance("simulated", "1", place, 1, 0.0, "run", group)
            refs.append(ImageRef(sha, f"pictures/{sha}.png", SIDE, SIDE, made))
        for i in range(per_prompt):
            left, right = refs[i], refs[(i + 1) % per_prompt]
            who = int(rng.integers(annotators))
            kind = bad if who == 0 and bad else "honest"
            outcome = answer(rng, utility[left.sha256] - utility[right.sha256], kind)
            comparisons.append(Comparison(prompt, left, right, outcome, f"human:{who}"))
            honest.append(kind == "honest")
        group += 1
    return World(comparisons[:count], pictures, utility, honest[:count])


def bayes_limit(world: World) -> float:
    """Share of honest decided answers that the true utilities predict, in expectation over the answers."""
    total, right = 0.0, 0.0
    for c, honest in zip(world.comparisons, world.honest, strict=True):
        if honest:
            gap = abs(world.utility[c.left.sha256] - world.utility[c.right.sha256])
            better, worse = 1 / (1 + math.exp(-(gap - THRESHOLD))), 1 / (1 + math.exp(gap + THRESHOLD))
            total, right = total + better + worse, right + better
    return right / total


def write(world: World, folder: Path) -> Path:
    """Save the answers and their pictures as a campaign exports them; the path of the answers."""
    from preference_data.comparisons import to_jsonl

    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for sha, pixels in world.pictures.items():
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(folder / f"pictures/{sha}.png")
    path = folder / "answers.jsonl"
    path.write_text(to_jsonl(world.comparisons), encoding="utf-8")
    return path


def digest(text: str) -> str:
    """64 hex digits that stand for a picture nobody opens."""
    return hashlib.sha256(text.encode()).hexdigest()
