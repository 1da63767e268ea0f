"""Pure images: one paragraph on a clean ground, with size and spacing fitted to the canvas."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from base_model.data.writing.faces import Face
from base_model.data.writing.grounds import GROUNDS, ground, ink_and_ground, varied
from base_model.data.writing.text_lines import Align, as_line, fitted, placed, render_lines
from base_model.data.writing.wording import pure_captions
from base_model.data.writing.written_image import Unwritable, WrittenImage

ALIGNS: tuple[Align, ...] = ("left", "left", "centre", "right")
MARGIN = (0.04, 0.12)
"""of the shorter side"""


def write_paragraph(
    rng: np.random.Generator, text: str, language: str, face: Face, size: tuple[int, int]
) -> WrittenImage:
    """A paragraph as an image of a size. Raises Unwritable when it does not fit at the face's least size."""
    height, width = size
    weight = int(rng.choice(face.weights))
    margin = round(min(size) * rng.uniform(*MARGIN))
    box = (round((width - 2 * margin) * rng.uniform(0.6, 1.0)), height - 2 * margin)
    leading = float(rng.uniform(1.2, 1.7))
    align = ALIGNS[int(rng.integers(len(ALIGNS)))]
    largest = math.exp(rng.uniform(math.log(face.least), math.log(max(face.least, height / 3))))
    fit = fitted(text, face, weight, box, (face.least, max(face.least, round(largest))), leading)
    if fit is None:
        box = (width - 2 * margin, box[1])
        fit = fitted(text, face, weight, box, (face.least, face.least), 1.2)
        leading = 1.2
    if fit is None:
        raise Unwritable(face.name, "too long for the canvas at the least size of the face")
    kind, lines = fit
    ink_name, ground_name = ink_and_ground(rng)
    ink, paper = varied(ink_name, rng), str(rng.choice(GROUNDS))
    left = margin + rng.uniform(0.0, 1.0) * (width - 2 * margin - box[0])
    used = (len(lines) - 1) * kind.size * leading + 1.2 * kind.size
    top = margin + float(rng.choice([0.0, 0.5, 1.0])) * (box[1] - used)
    rows = placed(lines, kind, (left, top, box[0]), leading, align)
    image = Image.fromarray(ground(rng, size, varied(ground_name, rng), paper))
    render_lines(image, rows, ink)
    recorded = tuple(as_line(row, ink_name, ink) for row in rows)
    captions = pure_captions(recorded, text, language, size, (ground_name, paper), align)
    return WrittenImage(np.asarray(image), "pure", language, text, recorded, captions, {"ground": ground_name})
