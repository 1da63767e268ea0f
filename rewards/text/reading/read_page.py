"""Whole images read: every line of text on them, in reading order.

Engines answer one question, ``read(image) -> lines``:

- ``OnnxPage``: detection, straightening and recognition run directly by onnxruntime, the fastest of them;
- ``PaddlePage``: ``paddleocr.PaddleOCR``, with the weights of this installation or an official model by its name;
- ``TesseractPage`` (``rewards/text/reading/tesseract.py``): another family altogether, for judging.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from preference_data.texts.normalised_text import is_bar, is_wide
from rewards.text.reading.detector import Detector, cut_out, in_reading_order, is_tall
from rewards.text.reading.ink import LEAST, box_of, ink, ink_boxes, text_crop
from rewards.text.reading.matching import Line
from rewards.text.recognisers import (
    LINE_HEIGHT,
    MAX_WIDTH,
    PADDLE_DETECTION,
    PADDLE_MODEL,
    Reading,
    Recogniser,
    characters,
    one_thread,
    paddle_detection_folder,
    paddle_folder,
)

UNSURE = 0.9  # confidence below which a line is also read upside down
LETTER = 0.4  # confidence from which ink that is no line is a letter
WIDEST_LETTER = 1.6  # width / height up to which a crop may be a single letter
FRAME = 0.85  # of both sides of a page: ink that reaches further is a frame around it
DOT = 0.6  # height of a box, in that of another, below which it is no letter beside it
FRAMES = ((0.0, 1.0), (0.3, 1.6), (0.5, 2.0), (0.3, 2.5))  # see ``_framed``
SMALL = 40  # pixels as the detector sees them: higher strokes are not overlooked for being small
CLOSER = 2.0  # how much what was overlooked is enlarged at least
NEARER = 1.25  # times the page's own scale: with less there is nothing new to see
CLOSE_AREA = 2.0e6  # pixels of an enlarged part at most


class PageReader(Protocol):
    """``name`` says which engine and weights. A reader that knows its alphabet has it in ``characters``."""

    name: str

    def read(self, image_HW3: np.ndarray) -> list[Line]:
        """The lines of a uint8 RGB image, in reading order; [] when it shows no text."""
        ...


def as_line(crop_HW3: np.ndarray) -> np.ndarray:
    """A crop as recognisers read it: ``LINE_HEIGHT`` high, shape kept."""
    height, width = crop_HW3.shape[:2]
    scaled = min(max(round(width * LINE_HEIGHT / height), 8), MAX_WIDTH)
    image = Image.fromarray(np.ascontiguousarray(crop_HW3))
    return np.asarray(image.resize((scaled, LINE_HEIGHT), Image.Resampling.BICUBIC))


class OnnxPage:
    """Detection and recognition by onnxruntime. ``least_confidence``: less sure lines are taken for decoration.

    Ink on a plain ground that stands in no box is looked at again, enlarged, so that how small a text may be does not
    depend on the blank around it. A page on which hardly anything is found is read as a single letter too.
    """

    def __init__(self, detector: Detector, recogniser: Recogniser, least_confidence: float) -> None:
        self._detector = detector
        self._recogniser = recogniser
        self._least = least_confidence
        self.characters: Sequence[str] | None = getattr(recogniser, "characters", None)
        self.name = f"{recogniser.name}+{detector.name}"

    def read(self, image_HW3: np.ndarray) -> list[Line]:
        boxes = self._detector.find(image_HW3)
        ink_HW = ink(image_HW3)
        if ink_HW is not None:
            boxes = in_reading_order([*boxes, *self._overlooked(image_HW3, ink_HW, boxes)])
        readings = [self._line(cut_out(image_HW3, box)) for box in boxes]
        if ink_HW is not None and sum(_letters(reading) for reading in readings) <= 2:
            readings = self._letter(image_HW3, ink_HW, boxes, readings)
        return sure_lines(readings, self._least)

    def read_boxes(self, image_HW3: np.ndarray) -> list[tuple[Line, np.ndarray]]:
        """The lines of a photograph with their corners, each 42; without the care that `read` takes of blank pages."""
        boxes = self._detector.find(image_HW3)
        readings = [self._line(cut_out(image_HW3, box)) for box in boxes]
        pairs = [(sure_lines([reading], self._least), box) for reading, box in zip(readings, boxes, strict=True)]
        return [(lines[0], box) for lines, box in pairs if lines]

    def _overlooked(self, image_HW3: np.ndarray, ink_HW: np.ndarray, results: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Boxes of what the detector finds when it looks closer at ink that stands in no box."""
        seen = self._detector.scale(*image_HW3.shape[:2])
        boxes: list[np.ndarray] = []
        for left, top, right, bottom in ink_boxes(ink_HW, results, SMALL / seen):
            around = max(8, min(right - left, bottom - top))
            x, y = max(left - around, 0), max(top - around, 0)
            part_HW3 = image_HW3[y : bottom + around, x : right + around]
            height, width = part_HW3.shape[:2]
            closer = min(max(self._detector.scale(height, width), CLOSER), (CLOSE_AREA / (height * width)) ** 0.5)
            if closer > NEARER * seen:
                near = [box + np.array([x, y]) for box in self._detector.find(part_HW3, closer)]
                index = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=float)
                boxes += [box for box in near if _holds(index, box) and not any(_holds(each, box) for each in results)]
        return boxes

    def _line(self, crop_HW3: np.ndarray) -> Reading:
        """One line, its upper side up; a tall one is read turned to the left.

        What is hardly legible is tried as a single letter where it has the shape of one, else upside down: of a single
        letter nobody can say which side is up (W and M, 6 and 9)."""
        tall = is_tall(crop_HW3)
        scaled = as_line(np.rot90(crop_HW3) if tall else crop_HW3)
        line = self._recogniser.read(scaled)
        # a bar that lies down is a dash to the recogniser: of one sign the upright reading counts
        lone = crop_HW3.shape[1] <= WIDEST_LETTER * crop_HW3.shape[0] and _letters(line) < 2
        if line.confidence >= UNSURE and not (tall and lone):
            return line
        if lone:
            letter = self._as_letter(crop_HW3)
            if letter.confidence >= (max(self._least, LETTER) if tall else line.confidence):
                return letter
        return _better(line, self._recogniser.read(np.ascontiguousarray(scaled[::-1, ::-1])))

    def _as_letter(self, crop_HW3: np.ndarray, dotted: bool = False) -> Reading:
        """A crop as a single letter: engines want letters in lines, with blank around.

        How much blank decides what a thin letter is read as (a J or a ! as 1), so it is read in several frames, and the
        character counts that they are surest of together. Its confidence is that of its surest frame. What has a dot,
        as i and ! have, is no bar, so the frames that doubt between a letter and a bar are sure of it together."""
        inner = text_crop(crop_HW3)
        if inner is None:
            return Reading("", 0.0)
        surest: dict[str, list[Reading]] = {}
        for above, wide in FRAMES:
            reading = self._recogniser.read(as_line(_framed(inner, above, wide)))
            text = unicodedata.normalize("NFKC", reading.text.strip())
            if len(text) == 1 and not (dotted and (is_bar(text) or text == "1")):
                surest.setdefault(text, []).append(reading)
        votes = max(surest.values(), key=lambda each: sum(map(_confidence, each)), default=[])
        best = max(votes, key=_confidence, default=Reading("", 0.0))
        return Reading(best.text, min(sum(map(_confidence, votes)), 1.0)) if dotted else best

    def _letter(
        self, image_HW3: np.ndarray, ink_HW: np.ndarray, boxes: Sequence[np.ndarray], readings: list[Reading]
    ) -> list[Reading]:
        """The readings, or the one letter that all ink of the page makes, whichever is surer. A box that is much
        smaller than another is the dot of an i: it says nothing by itself."""
        left, top, right, bottom = box_of(ink_HW)
        sure = float(np.mean([r.confidence if _letters(r) else 0.0 for r in readings])) if readings else 0.0
        high = [float(np.ptp(box[:, 1])) for box in boxes]
        if len(readings) == 1 and sure >= UNSURE and len(readings[0].text.strip()) > 1:
            return readings
        if right - left > WIDEST_LETTER * (bottom - top) or bottom - top < LEAST:
            return readings
        if right - left > FRAME * ink_HW.shape[1] and bottom - top > FRAME * ink_HW.shape[0]:
            return readings
        beyond = bottom - top
        around = image_HW3[max(top - beyond, 0) : bottom + beyond, max(left - beyond, 0) : right + beyond]
        dotted = len(high) > 1 and min(high) < DOT * max(high)
        letter = self._as_letter(around, dotted)
        enough = max(self._least, LETTER, 0.0 if dotted else sure)
        return [letter] if letter.confidence >= enough else readings


def _holds(around_42: np.ndarray, box_42: np.ndarray) -> bool:
    """Whether the middle of a box lies in another."""
    import cv2

    x, y = box_42.mean(axis=0)
    return cv2.pointPolygonTest(around_42.astype(np.float32), (float(x), float(y)), False) >= 0.0


def _framed(crop_HW3: np.ndarray, above: float, wide: float) -> np.ndarray:
    """A crop in a line: blank of ``above`` times its height over and under it, and ``wide`` times as wide as high."""
    height, width = crop_HW3.shape[:2]
    rows = round(above * height)
    columns = max(round(wide * (height + 2 * rows)) - width, 0) // 2
    return np.pad(crop_HW3, ((rows, rows), (columns, columns), (0, 0)), mode="edge")


def _confidence(reading: Reading) -> float:
    return reading.confidence


def _letters(reading: Reading) -> int:
    return sum(c.isalnum() for c in reading.text)


def _better(upright: Reading, turned: Reading) -> Reading:
    """The reading upside down only when it is surer and explains no less: more sure characters altogether."""
    surer = turned.confidence > upright.confidence + 0.1
    return turned if surer and _amount(turned) > _amount(upright) else upright


def _amount(reading: Reading) -> float:
    """How much of a line is read, in letters: wide characters count twice, and each as far as it is sure."""
    return reading.confidence * sum(1 + is_wide(c) for c in reading.text if not c.isspace())


def sure_lines(readings: Sequence[Reading], least: float) -> list[Line]:
    """Lines with text that is sure enough."""
    return [Line(r.text, r.confidence) for r in readings if r.text.strip() and r.confidence >= least]


class PaddlePage:
    """``paddleocr.PaddleOCR``. ``models`` is () for the weights that are installed, or the official names of a
    detection and a recognition model, such as PP-OCRv5_server_det and PP-OCRv5_server_rec, which it fetches once."""

    def __init__(self, weights: tuple[Path, Path], models: Sequence[str], least_confidence: float) -> None:
        os.environ.setdefault("PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK", "True")  # before paddlex is first imported
        try:
            from paddleocr import PaddleOCR
        except ImportError as error:
            raise ImportError("the engine 'paddleocr' needs its package; run: pip install paddleocr") from error
        if models and len(models) != 2:
            raise ValueError(f"models are {tuple(models)}; name a detection and a recognition model, or none")
        self._least = least_confidence
        detection, recognition = weights
        self.characters = None if models else characters(one_thread(recognition))
        self._model = PaddleOCR(
            text_detection_model_name=models[0] if models else PADDLE_DETECTION,
            text_detection_model_dir=None if models else str(paddle_detection_folder(detection)),
            text_recognition_model_name=models[1] if models else PADDLE_MODEL,
            text_recognition_model_dir=None if models else str(paddle_folder(recognition)),
            use_doc_orientation_classify=False, use_doc_unwarping=False, use_textline_orientation=False,
            device="cpu", engine=None if models else "onnxruntime",
            engine_config=None if models else {"intra_op_num_threads": 1, "inter_op_num_threads": 1},
        )  # fmt: skip
        self.name = "paddleocr/" + ("+".join(models[::-1]) if models else f"{recognition.stem}+{detection.stem}")

    def read(self, image_HW3: np.ndarray) -> list[Line]:
        prediction: Any = self._model.predict(np.ascontiguousarray(image_HW3[:, :, ::-1]))[0]  # PaddleX takes BGR
        readings = [
            Reading(t, float(s)) for t, s in zip(prediction["rec_texts"], prediction["rec_scores"], strict=True)
        ]
        return sure_lines(readings, self._least)
