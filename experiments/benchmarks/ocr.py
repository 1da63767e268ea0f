"""Reading images: our engines beside paddleocr's own calls and rapidocr-onnxruntime, on the same images.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.ocr

Crops are words of a nano image, cut to their ink, English and (with the package manimgx-fonts-cjk) Chinese. Pages are
256-pixel images with three lines. Every side gets the same pixels and does its own scaling:

    crops   ours: the engine of the reward `ocr`; `TextRecognition.predict` of paddleocr on the same weights; RapidOCR
            without detection
    pages   ours: the engine of the reward `ocr_page`; `PaddleOCR.predict` on the same weights, without its optional
            orientation models; RapidOCR as it is called by default

The default weights of paddleocr are larger and would be downloaded, so it is called with those that are installed.
The sides alternate within one process, image by image, and who goes first alternates. Each has one thread. Time is
CPU time of the process, which waiting for other work on the machine does not lengthen. Accuracy is the share of
images read exactly (capitals, spaces ignored), so that none is fast by reading worse.

Prints a table, then one JSON line; `crops_ratio_NAME` is that side's median time over ours.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from base_model.data.rendered_text import FACES, font
from preference_data.texts.normalised_text import Policy, normalise
from rewards.text.ocr import text_crop
from rewards.text.ocr_page import page_reader
from rewards.text.reading.read_page import PaddlePage, as_line
from rewards.text.recognisers import V6, V6_DETECTION, OnnxRecogniser, PaddleRecogniser, find_weights
from rewards.weight_packages import FOLDER

Reader = Callable[[np.ndarray], str]
PEERS = ("paddleocr", "rapidocr")
HANZI = "天地人和平安乐大小上下左右东西南北春夏秋冬风花雪月山水火木金土日星云雨电车船飞机学校"


@dataclass(frozen=True)
class Benchmark:
    """Sizes of the comparison."""

    crops: int = 60
    pages: int = 12
    size: int = 256
    """pixels of a page's sides"""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.crops, self.pages) < 2 or self.size < 128:
            raise ValueError(f"crops={self.crops}, pages={self.pages}, size={self.size}: at least 2, 2 and 128")


def chinese_font(size: int) -> ImageFont.FreeTypeFont | None:
    """A face with Chinese characters, None where the package is missing."""
    spec = importlib.util.find_spec("manimgx_fonts_cjk")
    if spec is None or spec.origin is None:
        return None
    return ImageFont.truetype(str(Path(spec.origin).parent / "NotoSansCJK-VF.otf.ttc"), size, index=2)


def a_word(rng: np.random.Generator, number: int, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """Every second word is Chinese where there is a face for it."""
    face = chinese_font(size) if number % 2 else None
    if face is not None:
        return "".join(rng.choice(list(HANZI), 3)), face
    word = "".join(
        str(rng.choice(list("AEIOU" if i % 2 else "BCDFGHKLMNPRST"))) for i in range(int(rng.integers(4, 7)))
    )
    return word, font(list(FACES)[number // 2 % len(FACES)], size)


def render_crops(cfg: Benchmark) -> list[tuple[str, np.ndarray]]:
    """(word, uint8 image cut to its ink)."""
    rng = np.random.default_rng(cfg.seed)
    made = []
    for i in range(cfg.crops):
        word, face = a_word(rng, i, 18)
        image = Image.new("RGB", (112, 32), "white")
        ImageDraw.Draw(image).text((56, 16), word, font=face, fill="black", anchor="mm")
        crop = text_crop(np.asarray(image))
        assert crop is not None
        made.append((word, np.ascontiguousarray(crop)))
    return made


def render_pages(cfg: Benchmark) -> list[tuple[str, np.ndarray]]:
    """(all lines as one text, uint8 image)."""
    rng = np.random.default_rng(cfg.seed + 1)
    made = []
    for i in range(cfg.pages):
        image = Image.new("RGB", (cfg.size, cfg.size), "white")
        pen, answer = ImageDraw.Draw(image), []
        for row in range(3):
            word, face = a_word(rng, 3 * i + row, 24)
            pen.text((cfg.size / 2, cfg.size * (row + 1) / 4), word, font=face, fill="black", anchor="mm")
            answer.append(word)
        made.append(("".join(answer), np.asarray(image)))
    return made


def crop_readers() -> dict[str, Reader]:
    ours, paddle = OnnxRecogniser(find_weights(V6)), PaddleRecogniser(find_weights(V6))
    rapid = rapidocr()
    return {
        "ours": lambda crop: ours.read(as_line(crop)).text,
        "paddleocr": lambda crop: paddle.read(crop).text,
        "rapidocr": lambda crop: _first(rapid(crop[:, :, ::-1], use_det=False, use_cls=False, use_rec=True)[0]),
    }


def page_readers() -> dict[str, Reader]:
    ours = page_reader("onnxruntime", (), 0.5)
    paddle = PaddlePage((find_weights(V6_DETECTION), find_weights(V6)), (), 0.5)
    rapid = rapidocr()
    return {
        "ours": lambda page: "".join(line.text for line in ours.read(page)),
        "paddleocr": lambda page: "".join(line.text for line in paddle.read(page)),
        "rapidocr": lambda page: "".join(row[1] for row in rapid(page[:, :, ::-1])[0] or []),
    }


def rapidocr() -> Any:
    sys.path.append(str(FOLDER))  # used when it is not installed
    from rapidocr_onnxruntime import RapidOCR

    return RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)


def _first(rows: Any) -> str:
    return rows[0][0] if rows else ""


def race(images: list[tuple[str, np.ndarray]], sides: dict[str, Reader]) -> dict[str, dict[str, float]]:
    """Median milliseconds an image, images a second and share read exactly, of every side."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    right: dict[str, list[bool]] = {name: [] for name in sides}
    for read in sides.values():
        read(images[0][1])
    for number, (text, image) in enumerate(images):
        names = list(sides)
        for name in names if number % 2 else names[::-1]:
            start = time.process_time()
            texts = sides[name](image)
            times[name].append(time.process_time() - start)
            right[name].append(normalise(texts, Policy(), digits=False) == normalise(text, Policy(), digits=False))
    return {
        name: {
            "ms": round(1000 * statistics.median(times[name]), 2),
            "a_second": round(len(images) / sum(times[name]), 2),
            "exact": round(float(np.mean(right[name])), 3),
        }
        for name in sides
    }


def measure(cfg: Benchmark) -> dict[str, Any]:
    """The comparison's numbers."""
    numbers: dict[str, Any] = {}
    for kind, images, sides in (
        ("crops", render_crops(cfg), crop_readers()), ("pages", render_pages(cfg), page_readers()),
    ):  # fmt: skip
        result = race(images, sides)
        numbers |= {f"{kind}_{what}_{name}": value for name, each in result.items() for what, value in each.items()}
        numbers |= {f"{kind}_ratio_{peer}": round(result[peer]["ms"] / result["ours"]["ms"], 3) for peer in PEERS}
    return (
        numbers
        | {"chinese": chinese_font(18) is not None, "clock": "CPU"}
        | {f"of_{k}": v for k, v in asdict(cfg).items()}
    )


def main() -> None:
    import tyro

    numbers = measure(tyro.cli(Benchmark, description=__doc__))
    for kind in ("crops", "pages"):
        print(f"{kind:12}{'ms':>10}{'a second':>12}{'exact':>10}{'theirs / ours':>16}")
        for name in ("ours", *PEERS):
            ratio = numbers.get(f"{kind}_ratio_{name}", 1.0)
            ms, rate, exact = (numbers[f"{kind}_{what}_{name}"] for what in ("ms", "a_second", "exact"))
            print(f"{name:12}{ms:10.1f}{rate:12.1f}{exact:10.3f}{ratio:16.2f}")
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
