"""Whole pictures of English and Chinese text, clean and degraded, with the true distance from what was asked for."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from rapidfuzz.distance import Levenshtein

from tests.writing import CONSONANTS, FACES, VOWELS

HANZI = "天地人和平安乐大小上下左右东西南北春夏秋冬风花雪月山水火木金土日星云雨电车船飞机学校医院商店"
HANZI += "饭茶酒米面鱼肉果红黄蓝白黑新老长高明光"
MARKS = ("!", ".", ",", "?")


@cache
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """A face of matplotlib's, or "cjk" / "cjk-bold": Noto Sans CJK of the package manimgx-fonts-cjk."""
    package = "manimgx_fonts_cjk" if face.startswith("cjk") else "matplotlib"
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    if package == "matplotlib":
        return ImageFont.truetype(str(Path(spec.origin).parent / "mpl-data/fonts/ttf" / face), size)
    found = ImageFont.truetype(str(Path(spec.origin).parent / "NotoSansCJK-VF.otf.ttc"), size, index=2)  # SC
    found.set_variation_by_axes([700 if face == "cjk-bold" else 400])
    return found


def page(
    lines: Sequence[str], face: str = "cjk-bold", size: int = 28, canvas: tuple[int, int] = (192, 384),
    turn: float = 0.0, ink: str = "black", ground: str = "white",
) -> Image.Image:  # fmt: skip
    """Lines below each other, centred. ``turn``: degrees to the left."""
    height, width = canvas
    picture = Image.new("RGB", (width, height), ground)
    pen = ImageDraw.Draw(picture)
    step = height / (len(lines) + 1)
    for i, line in enumerate(lines, 1):
        pen.text((width / 2, step * i), line, font=font(face, size), fill=ink, anchor="mm")
    return picture.rotate(turn, Image.Resampling.BICUBIC, fillcolor=ground) if turn else picture


def pixels(picture: Image.Image) -> np.ndarray:
    """float32 (3, H, W) in [0, 1]."""
    return np.asarray(picture).transpose(2, 0, 1).astype(np.float32) / 255.0


def blurred(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(1.0))


def compressed(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=30)
    return Image.open(file).convert("RGB")


def noisy(picture: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 16, (picture.height, picture.width, 3))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))


def small(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width * 2 // 3, picture.height * 2 // 3), Image.Resampling.LANCZOS)


def clean(picture: Image.Image) -> Image.Image:
    return picture


DEGRADED = (clean, clean, blurred, compressed, noisy, small)


@dataclass(frozen=True)
class Drawn:
    """A picture, the text that was asked for, and how far what was drawn is from it, in [0, 1]."""

    prompt: str
    picture_3HW: np.ndarray
    distance: float
    what: str


def words(rng: np.random.Generator, chinese: bool, count: int) -> list[str]:
    if chinese:
        return ["".join(rng.choice(list(HANZI), 2)) for _ in range(count)]
    return [
        "".join(str(rng.choice(list(VOWELS if i % 2 else CONSONANTS))) for i in range(int(rng.integers(3, 7))))
        for _ in range(count)
    ]


def spoil(target: list[str], how: int, rng: np.random.Generator, chinese: bool) -> tuple[str, list[str]]:
    """The words as they are drawn: what was done and the result."""
    drawn = list(target)
    letters = list(HANZI if chinese else CONSONANTS + VOWELS)

    def typos(count: int) -> list[str]:
        joined = list(" ".join(drawn))
        places = [i for i, c in enumerate(joined) if c != " "]
        for place in rng.choice(places, min(count, len(places)), replace=False):
            joined[place] = str(rng.choice([c for c in letters if c != joined[place]]))
        return "".join(joined).split()

    ways: list[tuple[str, Callable[[], list[str]]]] = [
        ("exact", lambda: drawn),
        ("punctuation", lambda: [*drawn[:-1], drawn[-1] + str(rng.choice(MARKS))]),
        ("one typo", lambda: typos(1)),
        ("two typos", lambda: typos(2)),
        ("half typos", lambda: typos(len("".join(drawn)) // 2)),
        ("missing word", lambda: drawn[:-1]),
        ("only a word", lambda: drawn[:1]),
        ("duplicated word", lambda: [*drawn, drawn[-1]]),
        ("garbage around", lambda: [*words(rng, chinese, 1), *drawn, *words(rng, chinese, 2)]),
        ("wrong text", lambda: words(rng, chinese, len(drawn))),
        ("nothing", lambda: []),
    ]
    name, way = ways[how % len(ways)]
    return name, way()


def drawn(count: int, seed: int) -> list[Drawn]:
    """Pictures of 2 to 4 words in turn English and Chinese, in several faces, sizes, colours and degradations."""
    rng = np.random.default_rng(seed)
    inks = (("black", "white"), ("white", "navy"), ("darkred", "ivory"), ("black", "gold"), ("white", "gray"))
    made = []
    for i in range(count):
        chinese = i % 2 == 1
        target = words(rng, chinese, int(rng.integers(2, 5)))
        what, shown = spoil(target, i // 2, rng, chinese)
        face = ("cjk", "cjk-bold")[i // 2 % 2] if chinese else (*FACES, "cjk")[i // 2 % 5]
        size = int(rng.integers(20, 34))
        fits = 360 // (size * (3 if chinese else 4))  # words in a line
        lines = [("" if chinese else " ").join(shown[k : k + fits]) for k in range(0, len(shown), max(fits, 1))]
        ink, ground = inks[int(rng.integers(len(inks)))]
        degrade = DEGRADED[int(rng.integers(len(DEGRADED)))]
        picture = degrade(page(lines, face, size, (224, 384), float(rng.integers(-4, 5)), ink, ground))
        joined, asked = "".join(shown), "".join(target)
        distance = Levenshtein.normalized_distance(asked, joined)
        text = ("" if chinese else " ").join(target)
        made.append(Drawn(f'a sign that says "{text}"', pixels(picture), distance, f"{what}, {degrade.__name__}"))
    return made
