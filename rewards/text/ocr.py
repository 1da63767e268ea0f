"""Does the image show the words its prompt asks for? Known-crop text recognition, no detector.

Each image is one line of text somewhere on a plain ground. It is cropped to what differs from its border, scaled to
the 48 pixels the engine reads, read, and compared with the spans of the prompt:

    (1)  score = 1 - d(target, read) / max(|target|, |read|)        d = Levenshtein distance, both texts normalised

Dividing by the longer of the two makes everything extra cost: repeated words and garbage around the right word do not
score 1, as they do when any text containing the target counts. Nothing read scores 0; an image that could not be
judged is NaN. Source: the 1 - NED of the ICDAR 2019 ReCTS challenge (Zhang et al. 2019), of one line.

Cropping first costs 0.3 ms of about 11. It lets the judge read 99 % of clean words instead of 93 % on 32x96 images,
and both engines read a word that fills a sixth of a 64x256 image (judge: 99 % instead of 51 %).

Shapes: B samples, 3HW pixels (H rows, W columns).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from rapidfuzz.distance import Levenshtein

from preference_data.pixels import to_uint8
from preference_data.records import Prompt
from preference_data.texts.normalised_text import Policy, as_compared, read_right
from rewards.scores import Read, Row, Scores, View, score_each
from rewards.text.reading.alphabet import MOST, SCRIPT, alphabet_of
from rewards.text.reading.ink import text_crop as text_crop
from rewards.text.reading.read_page import as_line
from rewards.text.recognisers import (
    LINE_HEIGHT,
    V4,
    V6,
    OnnxRecogniser,
    PaddleRecogniser,
    Reading,
    Recogniser,
    find_weights,
)

ENGINES = ("onnxruntime", "paddleocr")


def ned_score(target: str, read: str, ignore_case: bool = True) -> float:
    """Eq. (1), in [0, 1]: 1 = the same text, 0 = nothing in common or nothing read."""
    a, b = as_compared(target, target, ignore_case), as_compared(read, target, ignore_case)
    return Levenshtein.normalized_similarity(a, b)


def line(image_HW3: np.ndarray, crop: bool = True) -> np.ndarray | None:
    """The image as the engine reads it: uint8 RGB, ``LINE_HEIGHT`` high, shape kept; None when blank."""
    result = text_crop(image_HW3) if crop else image_HW3
    if result is None:
        return None
    return as_line(result)


class OcrScorer:
    """A loaded engine that scores images against their prompts' spans. ``name`` says which engine and weights."""

    def __init__(self, recogniser: Recogniser, reward: str, ignore_case: bool, crop: bool) -> None:
        self._recogniser = recogniser
        self._ignore_case = ignore_case
        self._crop = crop
        self._alphabet = alphabet_of(recogniser, Policy(case=not ignore_case))
        self.name = f"{reward}:{recogniser.name}"

    def read(self, images_B3HW: np.ndarray) -> list[Reading]:
        """What each image says, in order. Images as in ``__call__``; an engine failure is raised here."""
        return [self._read(image) for image in to_uint8(images_B3HW).transpose(0, 2, 3, 1)]

    def texts(self, images_B3HW: np.ndarray) -> list[str]:
        """Returns the texts of ``read``."""
        return [reading.text for reading in self.read(images_B3HW)]

    def _read(self, image_HW3: np.ndarray) -> Reading:
        line_image = line(image_HW3, self._crop)
        return Reading("", 0.0) if line_image is None else self._recogniser.read(line_image)

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """Value in [0, 1]: eq. (1). Parts: ``ned_score`` (the value), ``exact`` (0 or 1), ``confidence`` of the engine,
        ``unwritable``: the share of the text that the engine has no characters for; only the rest is compared, and of a
        letter with an accent that the engine lacks the bare letter, which is then no fault.

        NaN, and a count in ``unjudged``: "no_spans" (the prompt asks for no text), "script" (the engine has no
        characters for half of it or more), "shape" (not B x 3 x H x W), "not_finite" (NaN or infinite pixels),
        "engine" (it raised; the log says what).
        """
        parts = ("ned_score", "exact", "confidence", "unwritable")
        return score_each(self.name, self._score, prompts, images_B3HW, ("spans",), parts)

    def _score(self, prompt: Prompt, image_HW3: np.ndarray) -> Row:
        target, unwritable = self._target(prompt)
        if unwritable >= MOST:
            return SCRIPT
        reading = self._read(image_HW3)
        value = ned_score(target, reading.text, self._ignore_case)
        exact, confidence = float(read_right(target, reading.text, self._ignore_case)), reading.confidence
        parts = {"ned_score": value, "exact": exact, "confidence": confidence, "unwritable": unwritable}
        return Read(parts, reading.text)

    def can_write(self, prompt: Prompt) -> bool:
        """Whether the engine has every character of the texts that a prompt asks for."""
        return self._target(prompt)[1] == 0.0

    def _target(self, prompt: Prompt) -> tuple[str, float]:
        """The text to compare with, and the share of it that the engine cannot write."""
        texts, unwritable = self._alphabet.known_part(prompt.spans)
        return " ".join(text for text in texts if text), unwritable


class OneLine:
    """What rewards have in common that read an image as one line."""

    version: ClassVar[int] = 3  # raise it when the same settings would give another score
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ("spans",)
    crop: bool = True

    def sees(self, height: int, width: int) -> View:
        """All of the image; its text, or without ``crop`` the image itself, is scaled to the height of a line."""
        if self.crop:
            return View(1.0, height, width, f"all of it, to find the text; that is scaled to {LINE_HEIGHT} pixels high")
        return View(1.0, LINE_HEIGHT, max(round(width * LINE_HEIGHT / height), 1), "all of it, as one line")


@dataclass(frozen=True)
class Ocr(OneLine):
    """Reads the image with PP-OCRv6_small and compares with the prompt's spans; range [0, 1], 1 = exactly equal.

    engine: "onnxruntime" runs the weights directly, 11 ms a crop; "paddleocr" runs the same weights through PaddleX,
    25 ms because it pads every line to 320 pixels, and is what the other is tested against. ignore_case: compare in
    capitals. crop: zoom in on the text first. Several spans are expected in order, with a space between.
    """

    reads: ClassVar[bool] = True

    engine: str = "onnxruntime"
    ignore_case: bool = True
    crop: bool = True

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"OCR engine is {self.engine!r}; choose one of {', '.join(ENGINES)}")

    def load(self, device: str = "cpu") -> OcrScorer:
        """Open the engine (0.3 s; paddleocr 8 s, most of it its import), on the CPU whatever ``device`` says.

        FileNotFoundError or ImportError when the weights or the engine are not installed, saying what to run."""
        weights = find_weights(V6)
        recogniser = PaddleRecogniser(weights) if self.engine == "paddleocr" else OnnxRecogniser(weights)
        return OcrScorer(recogniser, "ocr", self.ignore_case, self.crop)


@dataclass(frozen=True)
class OcrGold(OneLine):
    """Reads with PP-OCRv4 instead, for evaluation only: never train on it; range [0, 1], as ``Ocr``.

    An older generation with another architecture and its own training, so a model that learned to please the engine of
    ``Ocr`` and not to write pleases this one less. Both come from the PaddleOCR family and likely share training data,
    and both see the same crop: their agreement is weaker evidence than that of engines with nothing in common.
    """

    reads: ClassVar[bool] = True
    for_judging: ClassVar[bool] = True

    ignore_case: bool = True
    crop: bool = True

    def load(self, device: str = "cpu") -> OcrScorer:
        """Open the engine (0.1 s), on the CPU whatever ``device`` says. Errors as ``Ocr.load``."""
        return OcrScorer(OnnxRecogniser(find_weights(V4)), "ocr_judge", self.ignore_case, self.crop)
