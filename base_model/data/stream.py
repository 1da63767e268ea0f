"""An endless, seeded stream of captioned images, addressable by (step, size, rank, ranks).

At every step each of `ranks` processes takes `size` samples, one after the other from the stream, so samples follow
from the place that a rank reads at. What varies with the step is the curriculum (curriculum.py). Captions can carry the
noise of web data: some are misspelt, some leave the text or an attribute out. That noise is what alignment has to work
against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from base_model.data import rendered_chinese as chinese
from base_model.data.curriculum import Curriculum, require_rising
from base_model.data.rendered_text import ANYWHERE, CELL, ENGLISH, HEIGHT, LEVELS, WIDE, WIDTH, Scene, render, scene
from base_model.engine.bounds import require_at_least
from base_model.interface import ConditionImages
from base_model.seeding import numpy_generator


class CaptionedImages(NamedTuple):
    """Images with what asks for them."""

    images: Sequence[Tensor] | Tensor
    """uint8 [3, H, W] each, of any sizes"""
    texts: list[str]
    """captions or instructions"""
    sources: ConditionImages = ()
    """uint8 images that each is made from; () when none is"""


@dataclass(frozen=True)
class CaptionNoise:
    """Shares of captions that are wrong in a known way, each in [0, 1]."""

    misspelt: float = 0.0
    """one letter of the word replaced, dropped or doubled"""
    textless: float = 0.0
    """the word is not named: `a word in red serif, ...`"""
    incomplete: float = 0.0
    """one to four of the other attributes (face, size, place, ink) are left out"""
    bare: float = 0.0
    """true and short: a third names the word and its place alone; of the others each of face, size, place, ink and
    ground is left out in half of the cases"""
    misspelt_chinese: float | None = None
    """`misspelt` of Chinese words; None: the same share as of others"""

    def __post_init__(self) -> None:
        for misspelt in (self.misspelt, self.misspelt if self.misspelt_chinese is None else self.misspelt_chinese):
            shares = (misspelt, self.textless, self.incomplete, self.bare)
            if not (min(shares) >= 0 and sum(shares) <= 1):
                raise ValueError(f"caption noise needs shares >= 0 that sum to at most 1, got {self}")

    def misspelt_of(self, word: str) -> float:
        """The share of captions of that word that misspell it."""
        if self.misspelt_chinese is not None and chinese.is_chinese(word):
            return self.misspelt_chinese
        return self.misspelt


@dataclass(frozen=True)
class Stage:
    """From update `start` on, images come from the levels of `text.scene` with these weights."""

    start: int
    """first update of the stage"""
    weights: tuple[float, ...]
    """of level 0, 1, ...; levels that are not named get none"""

    def __post_init__(self) -> None:
        if not 1 <= len(self.weights) <= LEVELS or min(self.weights) < 0 or sum(self.weights) <= 0:
            raise ValueError(f"weights {self.weights} must be 1 to {LEVELS} shares >= 0 of levels, one above 0")


def stream_indices(step: int, size: int, rank: int, ranks: int) -> range:
    """The places in a stream that a rank reads at a step. Raises ValueError for a rank that there is not."""
    if not 0 <= rank < ranks:
        raise ValueError(f"rank={rank} must be from 0 to ranks - 1 = {ranks - 1}")
    first = (step * ranks + rank) * size
    return range(first, first + size)


def misspell(word: str, rng: np.random.Generator) -> str:
    """One letter replaced, dropped or doubled; never the word itself."""
    i = int(rng.integers(len(word)))
    kind = int(rng.integers(3))
    if kind == 0 or len(word) == 1:
        alphabet = chinese.CHARACTERS if chinese.is_chinese(word) else "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        other = [c for c in alphabet if c != word[i]]
        return word[:i] + str(rng.choice(other)) + word[i + 1 :]
    return word[:i] + word[i + 1 :] if kind == 1 else word[: i + 1] + word[i:]


def noisy_caption(scene: Scene, noise: CaptionNoise, rng: np.random.Generator) -> str:
    """The caption of a scene as a careless annotator would write it."""
    u, caption, misspelt = rng.random(), scene.caption, noise.misspelt_of(scene.word)
    if scene.word and u < misspelt:
        return caption.replace(f'"{scene.word}"', f'"{misspell(scene.word, rng)}"')
    if scene.word and u < misspelt + noise.textless:
        return caption.replace(f'the word "{scene.word}"', "a word")
    if scene.word and u < misspelt + noise.textless + noise.incomplete:
        parts = [f" {scene.face}", f", {scene.size}", f", {scene.row} {scene.column}", f" in {scene.ink}"]
        for part in rng.permutation(parts)[: int(rng.integers(1, len(parts) + 1))]:
            caption = caption.replace(str(part), "", 1)
    elif scene.word and u >= 1.0 - noise.bare:
        named = {f for f in ("face", "size", "place", "ink", "ground") if rng.random() < 0.5}
        return scene.caption_naming({"place"} if rng.random() < 1 / 3 else named)
    return caption


@dataclass(frozen=True)
class TextStream:
    """Rendered text. `limit` > 0 makes it a finite set of that many images, repeated in a new order each pass."""

    seed: int
    """of scenes and captions"""
    stages: tuple[Stage, ...] = ()
    """the curriculum where nothing but the kinds of scene changes: their shares, from some update on"""
    noise: CaptionNoise = CaptionNoise()
    """how captions are spoilt"""
    limit: int = 0
    """scenes of a finite set, which is shuffled at every pass; 0 = endless"""
    curriculum: Curriculum = field(default_factory=Curriculum)
    """all that changes with the update; its text in place of `stages`"""
    size: tuple[int, int] = (HEIGHT, WIDTH)
    """height and width in pixels; level 8 needs a width of 160"""

    def __post_init__(self) -> None:
        require_at_least(self, 0, "limit")
        if self.stages and self.curriculum.text:
            raise ValueError(
                f"a stream needs shares of the kinds of scene once, as stages or as curriculum.text; got {self.stages} "
                f"and {self.curriculum.text}"
            )
        if not self.curriculum.text:
            require_rising([stage.start for stage in self.stages], "curriculum stages")
        for start, weights in self.curriculum.text:
            Stage(start, weights)
        self._require_room()
        for scale in {scale for _, scales in self.curriculum.resolution for scale in scales}:
            if any(side * scale % CELL or not 0 < scale <= 1 for side in self.size):
                raise ValueError(
                    f"resolution {scale}: {self.size[0]} x {self.size[1]} pixels times it must be multiples of {CELL}, "
                    "and no larger"
                )

    def _require_room(self) -> None:
        """Raises ValueError for a canvas on which some scene of the curriculum does not fit."""
        anywhere = any(len(weights) > ANYWHERE and weights[ANYWHERE] for _, weights in self.progress.text)
        least = (HEIGHT, WIDE if anywhere else WIDTH)
        if any(side < needed or side % CELL for side, needed in zip(self.size, least, strict=True)):
            raise ValueError(
                f"size={self.size} must be at least {least} for the levels of its stages, in multiples of {CELL} pixels"
            )

    @cached_property
    def progress(self) -> Curriculum:
        """The whole curriculum."""
        text = tuple((stage.start, stage.weights) for stage in self.stages)
        return replace(self.curriculum, text=text) if text else self.curriculum

    @property
    def is_constant(self) -> bool:
        """Whether an index shows the same image at every update, on the full canvas."""
        return self.progress.changes == (0,) and not self.curriculum.resolution

    def scenes(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> tuple[list[Scene], list[str]]:
        """The scenes and captions of a batch: a pure function of (seed, step, size, rank, ranks)."""
        samples = [self.one(step, index) for _, index in self.indices(step, size, rank, ranks)]
        return [s for s, _ in samples], [c for _, c in samples]

    def indices(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> list[tuple[int, int]]:
        """(place in the stream, index of the scene) of every sample of a batch; different with a limit alone."""
        indices = stream_indices(step, size, rank, ranks)
        return list(zip(indices, self._finite(indices) if self.limit else indices, strict=True))

    def one(self, step: int, index: int, with_word: bool = False) -> tuple[Scene, str]:
        """The scene of an index at the levels of a step, and its caption. `with_word` leaves level 0 out."""
        plan = self.progress.at(step)
        synthetic = refined = False
        if plan.synthetic or plan.refinement:
            chosen = numpy_generator(self.seed, int(index), 0, "curriculum").random(2)
            synthetic, refined = bool(chosen[0] < plan.synthetic), bool(chosen[1] < plan.refinement)
        weights = np.asarray(plan.text, dtype=float)
        weights = weights * ([not (with_word or synthetic)] + [True] * (len(weights) - 1))
        rng = numpy_generator(self.seed, int(index), 0, "scene")
        level = int(rng.choice(len(weights), p=weights / weights.sum())) if weights.any() else ENGLISH
        samples = scene(rng, level, balance=plan.balance)
        return samples, samples.caption if refined or synthetic else noisy_caption(samples, self.noise, rng)

    def canvas(self, step: int, index: int) -> tuple[int, int]:
        """The (height, width) of an image at the resolution of a step."""
        scales = self.progress.at(step).resolution
        chosen = numpy_generator(self.seed, index, 0, "resolution").integers(len(scales)) if len(scales) > 1 else 0
        height, width = (round(side * scales[int(chosen)]) for side in self.size)
        return height, width

    def _finite(self, indices: range) -> np.ndarray:
        """Which images of a finite set these places show."""
        passes = range(indices.start // self.limit, (indices.stop - 1) // self.limit + 1)
        order = np.concatenate([numpy_generator(self.seed, p, 0, "order").permutation(self.limit) for p in passes])
        return order[indices.start - passes[0] * self.limit :][: len(indices)]

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> tuple[Sequence[Tensor] | Tensor, list[str]]:
        """uint8 images [3, H, W] and their captions; one tensor where the curriculum has no resolutions."""
        scenes, captions = self.scenes(step, size, rank, ranks)
        pixels = [render(each, self.size) for each in scenes]
        if not self.curriculum.resolution:
            return torch.from_numpy(np.stack(pixels)), captions
        canvases = [self.canvas(step, position) for position, _ in self.indices(step, size, rank, ranks)]
        return [torch.from_numpy(reduced(*each)) for each in zip(pixels, canvases, strict=True)], captions

    def images(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Tensor:
        """Returns the images without their captions. Raises ValueError where they are of several sizes."""
        if self.curriculum.resolution:
            raise ValueError("an autoencoder learns from images of one size: leave curriculum.resolution out")
        return torch.as_tensor(self.batch(step, size, rank, ranks)[0])


def reduced(pixels_3HW: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """uint8 [3, h, w]: the whole image on a smaller canvas; itself on its own."""
    if pixels_3HW.shape[1:] == canvas:
        return pixels_3HW.copy()
    image = Image.fromarray(pixels_3HW.transpose(1, 2, 0)).resize(canvas[::-1], Image.Resampling.BOX)
    return np.asarray(image).transpose(2, 0, 1).copy()
