"""Type faces: where they are, which languages they write, and which characters they can.

A character is drawable in a face when the face's table of characters has it, it leaves ink, and its ink is not that of
the box that stands for a missing character: faces are in use whose tables claim characters that they leave blank.
Coverage is not language, though. A Japanese face has most simplified Chinese characters and writes them in Japanese
forms, so every face names the languages that it may write.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFont

LATIN = ("en",)
LANGUAGES = ("en", "zh-Hans", "zh-Hant", "ja", "ko")
ALIASES = {"zh": "zh-Hans", "zh-cn": "zh-Hans", "zh-tw": "zh-Hant", "zh-hk": "zh-Hant", "jp": "ja", "kr": "ko"}
"""Other names of languages, in small letters."""
INSTALL = 'pip install "glyphlab[data]"'
SPACES = " \u3000\u00a0"
OWN_LEAST = 18
"""em size in pixels that a face of one's own is not written below, because nobody has measured it"""
OWN_WEIGHTS = (400, 700)
"""that a variable face of one's own is written in, as far as it has them"""
SUFFIXES = (".ttf", ".otf", ".ttc", ".otc", ".woff")
REGIONS = {"zh-Hans": "SC", "zh-Hant": "TC", "ja": "JP", "ko": "KR"}
"""how the names of faces end that have the forms of a language, where a collection has one for each"""
SAMPLE = 40
"""em size in pixels at which ink is compared"""
SHAPED = (
    ("Arabic", 0x0600, 0x06FF), ("Arabic", 0x0750, 0x077F), ("Arabic", 0x08A0, 0x08FF), ("Arabic", 0xFB50, 0xFDFF),
    ("Arabic", 0xFE70, 0xFEFC), ("Hebrew", 0x0590, 0x05FF), ("Syriac", 0x0700, 0x074F), ("Thaana", 0x0780, 0x07BF),
    ("Devanagari", 0x0900, 0x097F), ("Bengali", 0x0980, 0x09FF), ("Gurmukhi", 0x0A00, 0x0A7F),
    ("Gujarati", 0x0A80, 0x0AFF), ("Oriya", 0x0B00, 0x0B7F), ("Tamil", 0x0B80, 0x0BFF), ("Telugu", 0x0C00, 0x0C7F),
    ("Kannada", 0x0C80, 0x0CFF), ("Malayalam", 0x0D00, 0x0D7F), ("Sinhala", 0x0D80, 0x0DFF), ("Thai", 0x0E00, 0x0E7F),
    ("Lao", 0x0E80, 0x0EFF), ("Tibetan", 0x0F00, 0x0FFF), ("Myanmar", 0x1000, 0x109F), ("Khmer", 0x1780, 0x17FF),
    ("Mongolian", 0x1800, 0x18AF), ("Hangul jamo", 0x1100, 0x11FF),
)  # fmt: skip
"""Scripts whose letters join, move or change with their neighbours or direction. They are refused by name: rendered
letter by letter they would be wrong, and nothing would say so."""
UNSEEN = {"M": "a combining mark", "Cf": "an invisible character", "Cc": "a control character"}
"""Characters that stand on others or are none, by Unicode category or its first letter."""


@dataclass(frozen=True)
class Face:
    """A type face of a package."""

    name: str
    """as its makers and typst call it"""
    style: str
    """sans, serif, slab, mono, display, hand, script or own: a key of `wording.STYLES`"""
    package: str
    """what is imported; `packages` of pip have hyphens where this has underscores; "" for a file of one's own"""
    file: str
    """of the face inside the package, or the whole path"""
    languages: tuple[str, ...] = LATIN
    weights: tuple[int, ...] = (400,)
    """of a variable face, the weights that are used"""
    index: int = 0
    """of the face in a collection"""
    capitals: bool = False
    """its small letters look like its capitals, so that its text is upper-cased in the label as well"""
    least: int = 12
    """em size in pixels that it is never written below: where 95 % of lines are read exactly, black on white, with some
    reserve for other colours, and no less than 12 (`python -m experiments.benchmarks.data --least`)"""

    @property
    def path(self) -> Path:
        """Of its file. Raises ValueError, naming what to install, when the package is missing."""
        if not self.package:
            return Path(self.file)
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise ValueError(f"the type face {self.name} is missing ({self.package}): {INSTALL}")
        return Path(spec.origin).parent / self.file


def _fontpkg(
    name: str, style: str, file: str, weights: tuple[int, ...] = (400,), least: int = 12, capitals: bool = False
) -> Face:
    package = f"fontpkg_{name.lower().replace(' ', '_')}"
    return Face(name, style, package, f"files/{file}", LATIN, weights, capitals=capitals, least=least)


def _noto(language: str, region: str, package: str) -> tuple[Face, Face, Face]:
    """The three faces of a language: sans and serif, and the sans in heavier weights."""
    folder = f"pylopdf_fonts_{package}"
    index = ("JP", "KR", "SC", "TC").index(region)
    heavy = "NotoSansCJK-VF.otf.ttc"
    return (
        Face(f"Noto Sans {region}", "sans", folder, f"NotoSans{region}-Regular.otf", (language,), least=13),
        Face(f"Noto Serif {region}", "serif", folder, f"NotoSerif{region}-Regular.otf", (language,), least=13),
        Face(
            f"Noto Sans CJK {region}", "sans", "manimgx_fonts_cjk", heavy, (language,), (500, 700, 900), index, least=13
        ),
    )


FACES: dict[str, Face] = {face.name: face for face in (
    _fontpkg("Inter", "sans", "Inter[opsz,wght].ttf", (400, 700)),
    _fontpkg("Montserrat", "sans", "Montserrat[wght].ttf", (400, 600, 800)),
    _fontpkg("Oswald", "display", "Oswald[wght].ttf", (300, 500, 700)),
    _fontpkg("Lora", "serif", "Lora[wght].ttf", (400, 700)),
    _fontpkg("Playfair Display", "serif", "PlayfairDisplay[wght].ttf", (400, 800)),
    _fontpkg("Source Serif 4", "serif", "SourceSerif4[opsz,wght].ttf", (400, 700)),
    _fontpkg("Roboto Slab", "slab", "RobotoSlab[wght].ttf", (400, 700)),
    _fontpkg("JetBrains Mono", "mono", "JetBrainsMono[wght].ttf", (400, 700)),
    _fontpkg("Bebas Neue", "display", "BebasNeue-Regular.ttf", capitals=True),
    _fontpkg("Kalam", "hand", "Kalam-Regular.ttf"),
    _fontpkg("Caveat", "hand", "Caveat[wght].ttf", (400, 700), least=18),
    _fontpkg("Dancing Script", "script", "DancingScript[wght].ttf", (400, 700), least=20),
    *_noto("zh-Hans", "SC", "zh_cn"), *_noto("zh-Hant", "TC", "zh_tw"), *_noto("ja", "JP", "jp"),
    *_noto("ko", "KR", "ko"),
)}  # fmt: skip


def own_face(path: Path, language: str) -> Face:
    """A face of one's own for a language; of a collection the one that has the language's forms, or the first.

    Raises ValueError when the file is no face.
    """
    names = _names_in(path)
    if not names:
        raise ValueError(f"{path} is not a type face that can be read; name a .ttf, .otf or .woff file")
    region = REGIONS.get(language, "none")
    index = next((i for i, (family, _) in enumerate(names) if family.split()[-1:] == [region]), 0)
    family, style = names[index]
    face = Face(family or path.stem, "own", "", str(path), (language,), index=index, least=OWN_LEAST)
    weights = _weights_in(path, index) or ((700,) if "bold" in style.lower() else (400,))
    return replace(face, weights=weights, capitals=small_letters_are_capitals(replace(face, weights=weights)))


def _names_in(path: Path) -> list[tuple[str, str]]:
    """Family and style of each face of a file; [] where it is none."""
    names: list[tuple[str, str]] = []
    with contextlib.suppress(OSError):
        while True:
            family, style = ImageFont.truetype(str(path), SAMPLE, index=len(names)).getname()
            names.append((family or "", style or ""))
    return names


def _weights_in(path: Path, index: int) -> tuple[int, ...]:
    """`OWN_WEIGHTS` as far as a variable face goes; () for one that is not."""
    try:
        axes: list[Any] = ImageFont.truetype(str(path), SAMPLE, index=index).get_variation_axes()
    except OSError:
        return ()
    bounds = next(((axis["minimum"], axis["maximum"]) for axis in axes if _is_weight(axis)), None)
    return tuple(round(min(max(weight, bounds[0]), bounds[1])) for weight in OWN_WEIGHTS) if bounds else ()


def language_named(name: str) -> str:
    """The language of a name or alias. Raises ValueError for one that is not written."""
    by_name = {language.lower(): language for language in LANGUAGES} | ALIASES
    if name.lower() in by_name:
        return by_name[name.lower()]
    joined = {
        "ar": "Arabic",
        "fa": "Persian",
        "ur": "Urdu",
        "hi": "Hindi",
        "he": "Hebrew",
        "th": "Thai",
        "bn": "Bengali",
    }
    why = f" ({joined[name.lower()]}: letters that join or reorder are not written)" if name.lower() in joined else ""
    raise ValueError(f"the language {name!r} is not written{why}; there are {', '.join(LANGUAGES)}")


def faces_of(language: str) -> tuple[Face, ...]:
    """The faces that may write a language."""
    return tuple(face for face in FACES.values() if language in face.languages)


@functools.lru_cache(maxsize=64)
def font(face: Face, weight: int, size: int) -> ImageFont.FreeTypeFont:
    """A face at an em size in pixels, one object for each weight: setting a weight changes the object itself.

    Each takes some megabytes, so few are kept. Letters are placed one after the other without a shaping engine, which
    the scripts of `LANGUAGES` do not need and which not every machine has. Raises ValueError when the face's package is
    missing.
    """
    loaded = ImageFont.truetype(str(face.path), size, index=face.index, layout_engine=ImageFont.Layout.BASIC)
    if len(face.weights) > 1:
        axes: list[Any] = loaded.get_variation_axes()
        loaded.set_variation_by_axes([float(weight if _is_weight(axis) else axis["default"]) for axis in axes])
    return loaded


def _is_weight(axis: Any) -> bool:
    return bool(axis["minimum"] >= 50 and axis["maximum"] >= 600)


@functools.cache
def characters(face: Face) -> frozenset[int]:
    """The code points that the face claims to have."""
    from fontTools.ttLib import TTFont

    with TTFont(face.path, fontNumber=face.index, lazy=True) as table:
        table.setGlyphOrder(
            [f"glyph{i}" for i in range(table["maxp"].numGlyphs)]
        )  # their names take long and say nothing
        return frozenset(table.getBestCmap())


def ink(face: Face, text: str) -> tuple[tuple[int, int], bytes]:
    """Size and levels of what a character leaves; ((0, 0), b"") when it leaves nothing."""
    mask, _ = font(face, face.weights[0], SAMPLE).getmask2(text, mode="L")
    levels = bytes(mask)
    return (mask.size, levels) if any(levels) else ((0, 0), b"")


@functools.cache
def missing(face: Face) -> tuple[tuple[int, int], bytes]:
    """The ink of the box that stands for a character that the face does not have."""
    return ink(face, "\U0010fffd")


@functools.lru_cache(maxsize=200_000)
def undrawable(face: Face, character: str) -> str:
    """Why a face cannot write a character; "" when it can."""
    if character in SPACES:
        return ""
    if script := next((name for name, low, high in SHAPED if low <= ord(character) <= high), ""):
        return f"{script} has to be shaped"
    kind = unicodedata.category(character)
    if unseen := UNSEEN.get(kind) or UNSEEN.get(kind[0]):
        return f"is {unseen}"
    if ord(character) not in characters(face):
        return "not in the face"
    rendered = ink(face, character)
    if not rendered[1]:
        return "leaves no ink"
    return "is the box of a missing character" if rendered == missing(face) else ""


def refused(face: Face, text: str, language: str) -> str:
    """Why a face may not write a text of a language, naming the first character; "" when it may."""
    if language not in face.languages:
        return f"{face.name} does not write {language}"
    for character in dict.fromkeys(text):
        if why := undrawable(face, character):
            return f"{face.name}: {character!r} (U+{ord(character):04X}) {why}"
    return ""


def small_letters_are_capitals(face: Face) -> bool:
    """Whether a face draws capitals for small letters, at their size or smaller, as its ink shows.

    Only letters whose two shapes differ count.
    """
    if any(undrawable(face, letter) for letter in "abdeghnqrtABDEGHNQRT"):
        return False
    same = [_alike(_trimmed(face, small), _trimmed(face, small.upper())) for small in "abdeghnqrt"]
    return sum(same) >= 8


def _trimmed(face: Face, character: str) -> np.ndarray:
    """The ink of a character, stretched to one size, as levels in [0, 1]."""
    size, levels = ink(face, character)
    image = Image.frombytes("L", size, levels)
    return np.asarray(image.crop(image.getbbox()).resize((24, 32))) / 255.0


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two shapes share four fifths of their ink."""
    return bool(np.minimum(a, b).sum() >= 0.8 * np.maximum(a, b).sum())
