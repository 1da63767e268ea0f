"""A character in an image, sound or broken, as a function of (seed, index).

What a network is trained on and what it is measured on are two ``Source``s: other faces, other characters, other kinds
of damage. Legend: HW3 an image, HW its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from base_model.data.glyphs.damage import KINDS, broken
from base_model.data.glyphs.shapes import BARS, LANGUAGES, SIDE, TRAINING, Cut, Shape, alphabet, cuts, shape
from base_model.data.glyphs.texture import CLEAN, USUAL, Conditions, geometry, inked, placed, weight_varied
from base_model.data.writing.faces import Face

SOUND, BLANK, HALF, SOLID = "sound", "blank", "half", "solid"


@dataclass(frozen=True)
class Source:
    """Which characters in which faces, and how they are broken. Raises ValueError for what cannot work."""

    faces: tuple[tuple[str, Face], ...] = ()
    """(language, face); () = those of training"""
    characters: tuple[tuple[str, str], ...] = ()
    """(language, characters); () = those of training"""
    kinds: tuple[str, ...] = tuple(KINDS)
    sound: float = 0.56
    """share of sound characters"""
    empty: float = 0.16
    """share of crops without a whole character: blank, half or solid"""
    conditions: Conditions = USUAL
    clean: float = 0.0
    """share of crops, sound or broken, as a program renders them instead"""
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise ValueError(f"kinds of damage are {', '.join(KINDS)}, not {', '.join(unknown)}")
        if not self.kinds:
            raise ValueError("name at least one kind of damage")
        if not (min(self.sound, self.empty) >= 0 and self.sound + self.empty <= 1):
            raise ValueError(f"sound={self.sound} and empty={self.empty} are shares whose sum is at most 1")
        if not 0 <= self.clean <= 1:
            raise ValueError(f"clean={self.clean} is a share from 0 to 1")
        if not self.faces:
            known = tuple((language, face) for language in LANGUAGES for face in TRAINING[language])
            object.__setattr__(self, "faces", known)
        if not self.characters:
            languages = dict.fromkeys(language for language, _ in self.faces)
            object.__setattr__(self, "characters", tuple((each, alphabet(each)) for each in languages))


@dataclass(frozen=True)
class Crop:
    """A character in an image."""

    character: str
    language: str
    face: str
    kind: str
    """a kind of damage, or sound, blank, half, solid"""
    image_HW3: np.ndarray
    """uint8"""
    broken_HW: np.ndarray
    """float32 in [0, 1]: where its shape is not that of the sound character"""


def crop(source: Source, index: int) -> Crop:
    """The crop at an index: the same for the same source, whatever else is made."""
    rng = np.random.default_rng((source.seed, index))
    chosen, language, sound = _chosen(rng, source)
    by_lot = rng.random()
    conditions = CLEAN if source.clean and rng.random() < source.clean else source.conditions
    if conditions.reshaped and rng.random() < 0.5:
        sound = weight_varied(rng, sound)
    mask_HW, kind = sound.mask_HW, SOUND
    changed_HW = np.zeros((SIDE, SIDE), dtype=np.float32)
    if by_lot >= source.sound + source.empty:
        other = _other(rng, source, chosen, language, sound.character)
        kind, mask_HW, changed_HW = broken(rng, sound, other, source.kinds)
    elif by_lot >= source.sound:
        kind, mask_HW = _empty(rng, sound)
        changed_HW = np.ones((SIDE, SIDE), dtype=np.float32)
    matrix_23, size = geometry(rng, conditions)
    image_HW3 = inked(rng, placed(mask_HW, matrix_23, size), conditions)
    broken_HW = placed(changed_HW, matrix_23, size)
    return Crop(sound.character, language, chosen.face.name, kind, image_HW3, broken_HW)


def _chosen(rng: np.random.Generator, source: Source) -> tuple[Cut, str, Shape]:
    """A face and a character that it has, every language as often as any other."""
    languages = list(dict.fromkeys(language for language, _ in source.faces))
    language = languages[int(rng.integers(len(languages)))]
    of_language = cuts([face for each, face in source.faces if each == language])
    characters = dict(source.characters)[language]
    for _ in range(100):
        chosen = of_language[int(rng.integers(len(of_language)))]
        character = characters[int(rng.integers(len(characters)))]
        try:
            return chosen, language, shape(chosen, character)
        except ValueError:
            continue
    raise ValueError(f"the faces of {language} have none of the characters {characters[:20]!r}; name other faces")


def _other(rng: np.random.Generator, source: Source, chosen: Cut, language: str, character: str) -> Shape:
    """Another character of the same face."""
    characters = dict(source.characters)[language]
    for _ in range(100):
        each = characters[int(rng.integers(len(characters)))]
        if each.lower() == character.lower():
            continue
        try:
            return shape(chosen, each)
        except ValueError:
            continue
    raise ValueError(f"{chosen.face.name} has too few of the characters of {language}; name another face")


def _empty(rng: np.random.Generator, sound: Shape) -> tuple[str, np.ndarray]:
    """A crop without a whole character, by lot."""
    choice = rng.random()
    if choice < 0.15:
        return BLANK, np.zeros((SIDE, SIDE), dtype=np.float32)
    if choice < 0.3 or sound.character in BARS:
        return SOLID, solid(rng)
    return HALF, half(rng, sound)


def half(rng: np.random.Generator, sound: Shape) -> np.ndarray:
    """The left, right, upper or lower half of a character's ink."""
    mask_HW = sound.mask_HW
    axis = int(rng.integers(2))
    used = np.flatnonzero(mask_HW.max(axis) > 0.5)
    middle = (int(used[0]) + int(used[-1]) + 1) // 2
    keep: slice = slice(0, middle) if rng.random() < 0.5 else slice(middle, SIDE)
    result = np.zeros_like(mask_HW)
    if axis == 0:
        result[:, keep] = mask_HW[:, keep]
    else:
        result[keep] = mask_HW[keep]
    return result


def solid(rng: np.random.Generator) -> np.ndarray:
    """A filled rectangle or ellipse."""
    import cv2

    levels_HW = np.zeros((SIDE, SIDE), dtype=np.uint8)
    high, wide = (int(each) for each in rng.integers(SIDE // 5, 2 * SIDE // 5, 2))
    middle = SIDE // 2
    if rng.random() < 0.6:
        cv2.rectangle(levels_HW, (middle - wide, middle - high), (middle + wide, middle + high), (255,), -1)
    else:
        cv2.ellipse(levels_HW, (middle, middle), (wide, high), 0, 0, 360, (255,), -1)
    return levels_HW.astype(np.float32) / 255.0
