"""A document as typst sets it: pixels, and where every character stands.

typst makes a PDF of a template and its fields, and pdfium reads it: in a page whose points are pixels, characters have
the box of their ink. No machine's own fonts are used, and no other face stands in for a character that is missing.
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from base_model.data.writing.faces import FACES
from base_model.data.writing.written_image import Colour, Unwritable

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Character:
    """A character of a page, blanks left out."""

    text: str
    box: tuple[float, float, float, float]
    """left, top, right and bottom of its ink, in pixels"""
    size: float
    """em size in pixels"""
    ink: Colour


@dataclass(frozen=True)
class Set:
    """A page."""

    pixels_HW3: np.ndarray
    characters: tuple[Character, ...]
    """in the order in which they were set"""


@functools.cache
def compiler() -> Any:
    """typst with the faces that are installed; it reads them once a process."""
    import typst

    installed = [face for face in FACES.values() if importlib.util.find_spec(face.package) is not None]
    folders = sorted({str(face.path.parent) for face in installed})
    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=folders)
    return typst.Compiler(root=str(TEMPLATES), font_paths=fonts)


def typeset(template: str, fields: str) -> Set:
    """A template with its fields, which are JSON. Raises Unwritable when it needs more than one page."""
    import pypdfium2

    path = str(TEMPLATES / f"{template}.typ")
    content = compiler().compile(input=path, format="pdf", sys_inputs={"d": fields}, pdf_tags=False)
    document = pypdfium2.PdfDocument(content)
    try:
        if len(document) > 1:
            raise Unwritable(template, "the texts need more than one page")
        page = document[0]
        pixels = page.render(scale=1, rev_byteorder=True).to_numpy()[..., :3].copy()
        return Set(pixels, _characters(page))
    finally:
        document.close()


def _characters(page: Any) -> tuple[Character, ...]:
    """What pdfium says of every character that is no blank."""
    import ctypes

    from pypdfium2 import raw

    text = page.get_textpage()
    height, sides = page.get_height(), [ctypes.c_double() for _ in range(4)]
    left, right, bottom, top = sides
    levels = [ctypes.c_uint() for _ in range(4)]
    characters = []
    for i in range(text.count_chars()):
        character = chr(raw.FPDFText_GetUnicode(text, i))
        if character.isspace() or ord(character) < 32:
            continue
        raw.FPDFText_GetCharBox(text, i, left, right, bottom, top)
        raw.FPDFText_GetFillColor(text, i, *levels)
        red, green, blue, _ = (int(level.value) for level in levels)
        box = left.value, height - top.value, right.value, height - bottom.value
        characters.append(Character(character, box, raw.FPDFText_GetFontSize(text, i), (red, green, blue)))
    return tuple(characters)
