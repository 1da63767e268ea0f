"""Pages full of small text, English and Chinese, for autoencoders: an endless stream, a pure function of the index.

A line has a known em size, because what an autoencoder loses first is small text (Qwen-Image, arXiv:2508.02324,
section 2.3, fine-tunes its decoder on such pages). A tenth of the English words and of the Chinese characters is held
out, so that a page of the evaluation shows none that was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from base_model.data.rendered_text import COLOURS, FACES, INKS, backgrounds, font
from base_model.data.stream import stream_indices
from base_model.data.writing.corpora import common_characters
from base_model.data.writing.faces import FACES as WRITING_FACES
from base_model.data.writing.faces import font as chinese_font
from base_model.seeding import numpy_generator

LANGUAGES = ("en", "zh")
CHINESE = WRITING_FACES["Noto Sans CJK SC"]
"""the face of Chinese lines, in its medium weight"""
ENGLISH = (
    "about above after again air all along also always animal another answer any around ask back because before "
    "began below between book both boy call came carry change children city close come country cut day did "
    "different does down each earth eat end enough even every example eye face family far father feet few find "
    "first follow food form found four girl give good great grow hand hard head help here high home house idea "
    "important kind know land large last late learn leave left letter life light line list little live long look "
    "made make man many mean might mile most mother mountain move much must name near need never new next night "
    "number off often old open order other our over own page paper part people place plant play point press put "
    "read right river run same saw say school sea second see sentence set should show side small something sound "
    "spell state still stop story study such take tell their them then there these thing think those thought "
    "three through time together took tree try turn under until use very walk want watch water way well went were "
    "what when where which while white who why will with without word work world would write year young "
)
"""frequent words, in a row"""


@dataclass(frozen=True)
class PageStream:
    """Pages of text. `images` makes it a stream that autoencoder training reads."""

    seed: int
    """of the pages"""
    size: tuple[int, int] = (64, 192)
    """height and width in pixels"""
    heights: tuple[int, ...] = (8, 10, 12, 14, 16, 20, 24)
    """em sizes in pixels, equally often"""
    languages: tuple[str, ...] = LANGUAGES
    """en, zh, equally often"""
    heldout: bool = False
    """use only words and characters that training never shows"""

    def __post_init__(self) -> None:
        if min(self.size) < 16 or not self.heights or min(self.heights) < 4 or max(self.heights) > self.size[0]:
            raise ValueError(
                f"size={self.size} must be at least 16 pixels, heights={self.heights} from 4 to its height"
            )
        if not self.languages or set(self.languages) - set(LANGUAGES):
            raise ValueError(f"languages={self.languages} must be chosen from {LANGUAGES}")

    def images(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Tensor:
        """uint8 [size, 3, H, W]: a pure function of (seed, step, size, rank, ranks)."""
        return torch.from_numpy(np.stack([self.page(index) for index in stream_indices(step, size, rank, ranks)]))

    def page(self, index: int) -> np.ndarray:
        """uint8 [3, H, W]"""
        rng = numpy_generator(self.seed, index, 0, "page")
        language = str(rng.choice(self.languages))
        em = int(rng.choice(self.heights))
        ink = str(rng.choice(INKS))
        ground = str(rng.choice(backgrounds(ink)))
        height, width = self.size
        image = Image.new("RGB", (width, height), COLOURS[ground])
        pen = ImageDraw.Draw(image)
        face = chinese_font(CHINESE, 500, em) if language == "zh" else font(str(rng.choice(list(FACES))), em)
        step = round(1.3 * em)
        for top in range(int(rng.integers(0, 3)), max(1, height - em), step):
            line = (
                chinese(rng, width // em, self.heldout) if language == "zh" else english(rng, width, em, self.heldout)
            )
            pen.text((2, top), line, fill=COLOURS[ink], font=face)
        return np.asarray(image).transpose(2, 0, 1).copy()


def is_heldout(index: int) -> bool:
    """Says whether a page is held out: every tenth is."""
    return index % 10 == 3


def english(rng: np.random.Generator, width: int, em: int, heldout: bool) -> str:
    """Words enough to fill a line."""
    words = [word for i, word in enumerate(ENGLISH.split()) if is_heldout(i) == heldout]
    line = ""
    while len(line) * 0.4 * em < width:
        line += str(rng.choice(words)) + str(rng.choice([" ", " ", " ", ", ", ". "]))
    return line


def chinese(rng: np.random.Generator, length: int, heldout: bool) -> str:
    """Characters of GB 2312's first level, the 3,755 most used ones."""
    known = [c for i, c in enumerate(common_characters()) if is_heldout(i) == heldout]
    return "".join(str(c) for c in rng.choice(known, length))
