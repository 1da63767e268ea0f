"""Measures what an OCR engine reads in an image: how much, how large, and whether captions quote it.

    (1)  text_area = share of the image in the boxes of lines that are read, of two letters or more
    (2)  line_height = median height of these lines in pixels, at a short side of at most 512
    (3)  quoted_read = share of the characters that captions quote which are read, in the best assignment of lines
    (4)  marks = lines that look like a mark of a photo agency or a web page, and that no caption quotes

Reading takes 0.1 to 0.5 s an image, so only images that the stages before left are read; `reading=no` leaves it out. A
text in a script that the engine does not know has no number (3). A gate prefers type faces that the engine likes, so
the line of (3) is low, and the page shows drop rates by face. Shapes: HW3 pixels, 42 corners x (column, row).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

GROUP = "text"
CONFIDENCE = 0.5
UNKNOWN = 0.5
"""share of quoted characters from which a text is not compared, because the engine has no such characters"""
MARK = re.compile(
    r"©|\(c\)\s*\d{4}|\bwww\.|\bhttps?:|\.(com|net|org|cn|jp|de)\b"
    r"|\b(shutterstock|getty ?images|alamy|istock|dreamstime|depositphotos|123rf|adobe ?stock|bigstock|fotolia|"
    r"stock ?photo|watermark|all rights reserved|visual china|vcg)\b|视觉中国|图虫|昵图网|千图网|包图网|摄图网", re.I,
)  # fmt: skip


@functools.cache
def reader() -> Any:
    """The engine. Raises FileNotFoundError that says what to install, and how to do without."""
    from rewards.text.ocr_page import page_reader

    try:
        return page_reader("onnxruntime", (), CONFIDENCE)
    except (FileNotFoundError, ImportError) as error:
        raise FileNotFoundError(f"{error}; or leave reading out with --set reading=no") from error


def read_text(rgb_HW3: np.ndarray, captions: Sequence[str]) -> dict[str, float | str]:
    """(1) to (4) of an image, and what is read as `read_text`, lines apart by " / "."""
    pairs = [pair for pair in reader().read_boxes(np.ascontiguousarray(rgb_HW3)) if is_text(pair[0].text)]
    lines = [line for line, _ in pairs]
    quoted = spans(captions)
    marks = [line for line in lines if MARK.search(line.text) and not any(line.text in span for span in quoted)]
    heights = [height(corners) for _, corners in pairs]
    return {
        "text_area": min(1.0, sum(area(corners) for _, corners in pairs) / rgb_HW3[..., 0].size),  # (1)
        "line_height": float(np.median(heights)) if heights else float("nan"),  # (2)
        "quoted_read": quoted_read(quoted, lines),  # (3)
        "marks": float(len(marks)),  # (4)
        "read_text": " / ".join(line.text for line in lines),
    }


def is_text(text: str) -> bool:
    """Whether a line has several letters or digits. A cup is an 8 to the engine, and a snake a G."""
    return sum(letter.isalnum() for letter in text) >= 2


def spans(captions: Sequence[str]) -> tuple[str, ...]:
    """What captions quote, each text once."""
    from preference_data.texts.quotations import quoted_spans

    return tuple(dict.fromkeys(span for caption in captions for span in quoted_spans(caption)))


def quoted_read(quoted: Sequence[str], lines: Sequence[Any]) -> float:
    """(3); NaN where nothing is quoted, or the engine has no characters for it."""
    from preference_data.texts.normalised_text import Policy
    from rewards.text.reading.alphabet import alphabet_of
    from rewards.text.reading.matching import score_reading

    known, unknown = alphabet_of(reader()).known_part(quoted)
    wanted = tuple(span for span in known if span.strip())
    if not wanted or unknown >= UNKNOWN:
        return float("nan")
    return float(score_reading(wanted, lines, Policy())["recall"])


def height(corners_42: np.ndarray) -> float:
    """The shorter side of a box: the height of its line, upright or not."""
    across = np.linalg.norm(corners_42[1] - corners_42[0]), np.linalg.norm(corners_42[2] - corners_42[1])
    return float(min(across))


def area(corners_42: np.ndarray) -> float:
    """The area of a box."""
    after = np.roll(corners_42, -1, axis=0)
    return float(abs((corners_42[:, 0] * after[:, 1] - corners_42[:, 1] * after[:, 0]).sum()) / 2.0)
