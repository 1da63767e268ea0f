"""Probes: change one thing about an image or its prompt whose effect is known, and see whether the reward notices.

Every probe has a required direction. "falls": the score must drop by more than half of `NOISE` of the reward's spread;
"stays": it must not move by more than that. A probe the reward is not meant to notice (a caption swap, for a judge that
reads no prompt) shows what it is blind to, which is what a reader has to know before trusting it.

Shapes: 3HW pixels, uint8.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from preference_data.pixels import to_float
from preference_data.records import Prompt
from preference_data.statistics.shares import exact
from rewards.scores import Scorer

NOISE = 0.05
"""Of the spread of the scores of the unchanged images: a smaller change is none."""
FALLS, STAYS = "falls", "stays"

Change = Callable[[Prompt, np.ndarray, np.random.Generator], tuple[Prompt, np.ndarray] | None]
"""A changed prompt and image; None where the probe does not apply."""


@dataclass(frozen=True)
class Probe:
    """A change and what it must do. `drawn`: it needs images whose text we drew ourselves."""

    name: str
    required: str
    what: str
    change: Change
    base: bool = False


def _pillow(change: Callable[[Image.Image], Image.Image]) -> Change:
    def changed(prompt: Prompt, pixels: np.ndarray, random: np.random.Generator) -> tuple[Prompt, np.ndarray]:
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        return prompt, np.asarray(change(image).convert("RGB")).transpose(2, 0, 1).copy()

    return changed


def blurred(image: Image.Image) -> Image.Image:
    """Shrunk to a sixth and enlarged again: what the eye calls out of focus, whatever the size."""
    small = image.resize((max(image.width // 6, 1), max(image.height // 6, 1)), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def recompressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=8)
    return Image.open(io.BytesIO(file.getvalue()))


def resized(image: Image.Image) -> Image.Image:
    return image.resize((max(round(image.width * 0.9), 1), max(round(image.height * 0.9), 1)), Image.Resampling.LANCZOS)


def cropped(image: Image.Image) -> Image.Image:
    """The middle 60 % of either side: subjects and words at the edge are lost."""
    x, y = round(image.width * 0.2), round(image.height * 0.2)
    return image.crop((x, y, max(image.width - x, x + 1), max(image.height - y, y + 1)))


def padded(image: Image.Image) -> Image.Image:
    """A flat grey frame of a twelfth of the longer side."""
    air = max(max(image.size) // 12, 1)
    canvas = Image.new("RGB", (image.width + 2 * air, image.height + 2 * air), (128, 128, 128))
    canvas.paste(image, (air, air))
    return canvas


def tinted(image: Image.Image) -> Image.Image:
    """Two channels exchanged: skin turns blue, a red word no longer is red."""
    red, green, blue = image.split()
    return Image.merge("RGB", (blue, green, red))


def _noisy(prompt: Prompt, image: np.ndarray, random: np.random.Generator) -> tuple[Prompt, np.ndarray]:
    grain = random.normal(scale=45.0, size=image.shape)
    return prompt, np.clip(image + grain, 0, 255).astype(np.uint8)


def _edges(prompt: Prompt, image: np.ndarray, random: np.random.Generator) -> tuple[Prompt, np.ndarray]:
    """The outer quarter on either end of the longer side becomes static; what is cropped away cannot be missed."""
    changed = image.copy()
    axis = 2 if image.shape[2] >= image.shape[1] else 1
    size = max(round(image.shape[axis] * 0.18), 1)
    for index in (slice(0, size), slice(image.shape[axis] - size, None)):
        where = (slice(None), slice(None), index) if axis == 2 else (slice(None), index, slice(None))
        changed[where] = random.integers(0, 256, size=changed[where].shape)
    return prompt, changed


def typo(text: str, random: np.random.Generator) -> str:
    """One letter replaced by another; the text as it is when it has none."""
    letters = [i for i, c in enumerate(text) if c.isalnum()]
    if not letters:
        return text
    i = letters[int(random.integers(len(letters)))]
    pool = "ABCDEFGHJKLMNPRSTUVXZ" if text[i].isupper() else "abcdefghkmnprstuvxz" if text[i].islower() else "3478"
    pool = "们在有这中大来上国" if ord(text[i]) > 0x2E80 else pool
    choices = [c for c in pool if c != text[i]]
    return text[:i] + choices[int(random.integers(len(choices)))] + text[i + 1 :]


def _typo_in_prompt(prompt: Prompt, image: np.ndarray, random: np.random.Generator) -> tuple[Prompt, np.ndarray] | None:
    """The prompt asks for another letter than the image shows, which is then a typo."""
    if not prompt.spans:
        return None
    k = int(random.integers(len(prompt.spans)))
    wrong = typo(prompt.spans[k], random)
    spans = (*prompt.spans[:k], wrong, *prompt.spans[k + 1 :])
    return replace(prompt, id=f"{prompt.id}-typo", text=prompt.text.replace(prompt.spans[k], wrong), spans=spans), image


def rendered_lines(
    lines: Sequence[str], size: tuple[int, int] = (160, 320), height: int = 34, seed: int = 0
) -> np.ndarray:
    """uint8 3HW: lines of text on a soft two-coloured ground, the first on the optical middle. ASCII letters only."""
    random = np.random.default_rng(seed)
    rows, columns = size
    top, bottom = random.integers(180, 255, size=(2, 3))
    ramp = np.linspace(0, 1, rows)[:, None, None]
    ground = (top * (1 - ramp) + bottom * ramp) * np.ones((rows, columns, 1))
    image = Image.fromarray(ground.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    ink = tuple(int(v) for v in random.integers(0, 80, size=3))
    font = ImageFont.load_default(height / 0.72)  # its capitals are 0.72 of its size high
    step = rows / (len(lines) + 1)
    for k, text in enumerate(lines, 1):
        pen.text((columns / 2, step * k), text, font=font, fill=ink, anchor="mm")
    return np.asarray(image).transpose(2, 0, 1).copy()


def rendered_word(
    word: str, seed: int, size: tuple[int, int] = (160, 320), height: int = 34
) -> tuple[Prompt, np.ndarray]:
    """A prompt that asks for the word, and an image that shows it."""
    return Prompt.from_text(f'a sign that says "{word}"'), rendered_lines([word], size, height, seed)


def _redrawn(lines: Callable[[str, np.random.Generator], list[str]]) -> Change:
    def changed(prompt: Prompt, image: np.ndarray, random: np.random.Generator) -> tuple[Prompt, np.ndarray]:
        seed = int(prompt.category[0])
        return prompt, rendered_lines(lines(prompt.spans[0], random), image.shape[1:], 26, seed)

    return changed


PROBES = (
    Probe("blur", FALLS, "shrunk to a sixth and enlarged again", _pillow(blurred)),
    Probe("jpeg", FALLS, "JPEG of quality 8", _pillow(recompressed)),
    Probe("noise", FALLS, "grain with a standard deviation of 45 of 255 levels", _noisy),
    Probe("crop", FALLS, "only the middle 60 % of either side", _pillow(cropped)),
    Probe("edges", FALLS, "the outer 18 % at both ends of the longer side are static", _edges),
    Probe("colour", FALLS, "red and blue exchanged", _pillow(tinted)),
    Probe("flip", FALLS, "mirrored left to right; letters no longer are letters",
          _pillow(lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))),
    Probe("resize", STAYS, "nine tenths of the size", _pillow(resized)),
    Probe("pad", STAYS, "a grey frame of a twelfth of the longer side", _pillow(padded)),
    Probe("typo asked", FALLS, "the prompt asks for another letter than the image shows", _typo_in_prompt),
    Probe("typo drawn", FALLS, "one letter of the drawn word is another",
          _redrawn(lambda word, random: [typo(word, random)]), base=True),
    Probe("text twice", FALLS, "the word three times instead of once", _redrawn(lambda word, random: [word] * 3),
          base=True),
    Probe("text removed", FALLS, "the ground without the word", _redrawn(lambda word, random: []), base=True),
)  # fmt: skip
SWAP = "caption swap"
WORDS = ("GARDEN", "COFFEE", "Harbour", "MARKET", "Winter", "BRIDGE", "Silver", "PLANET", "Orange", "THUNDER", "Velvet",
         "SUMMER")  # fmt: skip


def run(scorer: Scorer, prompts: Sequence[Prompt], images: Sequence[np.ndarray], seed: int) -> list[dict[str, Any]]:
    """All probes of a reward over some images and over words that are drawn here, one row a probe."""
    own = list(zip(prompts, images, strict=True))
    words = []
    for k, word in enumerate(WORDS):
        prompt = Prompt.from_text(f'a sign that says "{word}"', category=(str(k),))
        words.append((prompt, rendered_lines([word], height=26, seed=k)))
    bases = {False: (own, score_any_sizes(scorer, own)), True: (words, score_any_sizes(scorer, words))}
    # of all unchanged images: words that all are read rightly hardly differ, and no change is thousands of spreads
    scale = spread(np.concatenate([before for _, before in bases.values()]))
    rows = []
    for probe in PROBES:
        items, before = bases[probe.base]
        random = np.random.default_rng(seed)
        changed = [probe.change(p, image, random) for p, image in items]
        applies = [i for i, item in enumerate(changed) if item is not None]
        after = score_any_sizes(scorer, [item for item in changed if item is not None])
        rows.append(verdict(probe.name, probe.required, probe.what, before[applies], after, scale))
    items, before = bases[False]
    swap = swapped([p for p, _ in items])
    applies = [i for i, j in enumerate(swap) if j is not None]
    after = score_any_sizes(scorer, [(items[j][0], items[i][1]) for i, j in enumerate(swap) if j is not None])
    what = "the prompt of another image"
    return [*rows, verdict(SWAP, FALLS, what, before[applies], after, scale)]


def swapped(prompts: Sequence[Prompt]) -> list[int | None]:
    """For every image one with another prompt, of the same kind (with text or without); None when there is none."""
    results: list[int | None] = []
    for i, prompt in enumerate(prompts):
        order = [*range(i + 1, len(prompts)), *range(i)]
        others = [j for j in order if prompts[j].text != prompt.text and bool(prompts[j].spans) == bool(prompt.spans)]
        results.append(others[0] if others else None)
    return results


def score_any_sizes(scorer: Scorer, items: Sequence[tuple[Prompt, np.ndarray]]) -> np.ndarray:
    """[B] values of images that may differ in size."""
    values = [scorer([prompt], to_float(image[None])).value_B[0] for prompt, image in items]
    return np.array(values, dtype=np.float64)


def spread(value_B: np.ndarray) -> float:
    """What counts as much for this reward: the standard deviation over the unchanged images, or the size of their
    mean where they are all alike; 0 for a reward that always says 0."""
    known = value_B[~np.isnan(value_B)]
    if not len(known):
        return 0.0
    return float(known.std()) or abs(float(known.mean()))


def verdict(name: str, required: str, what: str, before: np.ndarray, after: np.ndarray, scale: float) -> dict[str, Any]:
    """Pass rate with its exact interval, and the mean change in standard deviations of the unchanged scores."""
    known = ~np.isnan(before) & ~np.isnan(after)
    change = after[known] - before[known]
    limit = NOISE * scale
    passed = change < -limit if required == FALLS else np.abs(change) <= max(limit, 1e-12)
    if scale == 0.0 and required == FALLS:
        passed = change < 0
    low, high = exact(float(passed.sum()), len(change))
    return {
        "probe": name, "required": required, "what": what, "n": len(change), "not_judged": int((~known).sum()),
        "pass": float(passed.mean()) if len(change) else float("nan"), "low": low, "high": high,
        "change": float(change.mean() / scale) if len(change) and scale else float("nan"),
        "unmoved": float((np.abs(change) <= max(1e-9, 1e-6 * scale)).mean()) if len(change) else float("nan"),
    }  # fmt: skip
