"""Whole pictures read: every line of text on them, in reading order.

Engines answer one question, ``read(picture) -> lines``:

- ``OnnxPage``: detection, straightening and recognition run directly by onnxruntime, the fastest of them;
- ``PaddlePage``: ``paddleocr.PaddleOCR``, with the weights of this installation or an official model by its name;
- ``TesseractPage`` (``rewards/reading/tesseract.py``): another family altogether, for judging.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from rewards.reading.detector import Detector, straightened
from rewards.reading.matching import Line
from rewards.recognisers import (
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


class PageReader(Protocol):
    """``name`` says which engine and weights. A reader that knows its alphabet has it in ``characters``."""

    name: str

    def read(self, picture_HW3: np.ndarray) -> list[Line]:
        """The lines of a uint8 RGB picture, in reading order; [] when it shows no text."""
        ...


def as_line(crop_HW3: np.ndarray) -> np.ndarray:
    """A crop as recognisers read it: ``LINE_HEIGHT`` high, shape kept."""
    height, width = crop_HW3.shape[:2]
    scaled = min(max(round(width * LINE_HEIGHT / height), 8), MAX_WIDTH)
    picture = Image.fromarray(np.ascontiguousarray(crop_HW3))
    return np.asarray(picture.resize((scaled, LINE_HEIGHT), Image.Resampling.BICUBIC))


class OnnxPage:
    """Detection and recognition by onnxruntime. ``least_confidence``: less sure lines are taken for decoration."""

    def __init__(self, detector: Detector, recogniser: Recogniser, least_confidence: float) -> None:
        self._detector = detector
        self._recogniser = recogniser
        self._least = least_confidence
        self.characters: Sequence[str] | None = getattr(recogniser, "characters", None)
        self.name = f"{recogniser.name}+{detector.name}"

    def read(self, picture_HW3: np.ndarray) -> list[Line]:
        crops = [straightened(picture_HW3, box) for box in self._detector.find(picture_HW3)]
        return kept([self._line(crop) for crop in crops], self._least)

    def _line(self, crop_HW3: np.ndarray) -> Reading:
        """One line; what is hardly legible is tried upside down too, and the surer reading counts."""
        scaled = as_line(crop_HW3)
        upright = self._recogniser.read(scaled)
        if upright.confidence >= UNSURE:
            return upright
        turned = self._recogniser.read(np.ascontiguousarray(scaled[::-1, ::-1]))
        return turned if turned.confidence > upright.confidence + 0.1 else upright


def kept(readings: Sequence[Reading], least: float) -> list[Line]:
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

    def read(self, picture_HW3: np.ndarray) -> list[Line]:
        found: Any = self._model.predict(np.ascontiguousarray(picture_HW3[:, :, ::-1]))[0]  # PaddleX takes BGR
        readings = [Reading(t, float(s)) for t, s in zip(found["rec_texts"], found["rec_scores"], strict=True)]
        return kept(readings, self._least)
