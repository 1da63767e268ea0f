"""Text recognition engines: a crop in, the text it shows and how sure the engine is out.

Three engines over two sets of real weights that come inside Python packages, so nothing is downloaded:

- ``OnnxRecogniser`` on PP-OCRv6_small (package ``rapidocr``): our own 20 lines of preprocessing and CTC decoding;
- ``PaddleRecogniser`` on the same weights, through ``paddleocr.TextRecognition``: the reference the first is tested by;
- ``OnnxRecogniser`` on PP-OCRv4 (package ``rapidocr-onnxruntime``): the judge.

A crop is uint8 (height, width, RGB). PP-OCR was trained on 48-pixel lines in BGR, scaled to [-1, 1].
CTC: Graves et al. 2006; greedy decoding (best class per column, repeats merged, blanks dropped).
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

LINE_HEIGHT = 48  # pixels, fixed by the weights
MAX_WIDTH = 3200  # pixels at that height; PaddleX squeezes longer lines to it
PADDLE_MIN_WIDTH = 320  # pixels; PaddleX pads every line to it, which a short word does not need
WIDTH_STEP = 8  # pixels per CTC column

V6 = ("rapidocr", "models/PP-OCRv6_rec_small.onnx", "pip install --no-deps rapidocr==3.10.0")
V4 = ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx", "pip install --no-deps rapidocr-onnxruntime==1.4.4")


@dataclass(frozen=True)
class Reading:
    """What an engine read. ``confidence`` in [0, 1] is the mean probability of the characters kept, 0 when there are none."""

    text: str
    confidence: float


class Recogniser(Protocol):
    name: str

    def read(self, line_HW3: np.ndarray) -> Reading:
        """Read one line: uint8 RGB, ``LINE_HEIGHT`` high."""
        ...


def find_weights(source: tuple[str, str, str]) -> Path:
    """The weights file inside an installed package, found without importing it. FileNotFoundError says what to install."""
    package, inside, install = source
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the OCR weights come in the package '{package}', which is not installed; run: {install}")
    path = Path(next(iter(spec.submodule_search_locations))) / inside
    if not path.is_file():
        raise FileNotFoundError(f"the package '{package}' is installed but has no {inside} (another version?); run: {install}")
    return path


class OnnxRecogniser:
    """Recognition weights run directly by onnxruntime, one thread, one crop at a time.

    Batching gains nothing on a CPU, and one crop at a time makes a score independent of what else is in the batch.
    """

    def __init__(self, weights: Path, min_width: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("reading text needs onnxruntime; run: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._characters = characters(self._session)
        self._min_width = min_width
        self.name = f"onnxruntime/{weights.stem}"

    def read(self, line_HW3: np.ndarray) -> Reading:
        pixels = line_HW3[:, :MAX_WIDTH, ::-1].astype(np.float32).transpose(2, 0, 1) / 127.5 - 1.0
        width = max(self._min_width, -(-pixels.shape[2] // WIDTH_STEP) * WIDTH_STEP)
        padded_13HW = np.zeros((1, 3, LINE_HEIGHT, width), dtype=np.float32)  # 0 = mid grey, what the weights saw as padding
        padded_13HW[0, :, :, : pixels.shape[2]] = pixels
        return decode(self._session.run(None, {self._input: padded_13HW})[0][0], self._characters)


def characters(session: Any) -> list[str]:
    """The classes of a recognition model in order: blank, then the dictionary in its metadata, then the space."""
    listed = session.get_modelmeta().custom_metadata_map.get("character", "")
    found = ["", *listed.splitlines(), " "]
    classes = session.get_outputs()[0].shape[-1]
    if len(found) != classes:
        raise ValueError(f"the OCR weights tell {classes} characters apart but their metadata lists {len(found)}: damaged file?")
    return found


def decode(probabilities_LK: np.ndarray, classes: list[str]) -> Reading:
    """Greedy CTC: L columns x K class probabilities -> the text. Class 0 is the blank."""
    best_L = probabilities_LK.argmax(axis=1)
    kept_L = (best_L != 0) & (best_L != np.concatenate(([0], best_L[:-1])))
    if not kept_L.any():
        return Reading("", 0.0)
    confidence = float(probabilities_LK.max(axis=1)[kept_L].mean(dtype=np.float64))
    return Reading("".join(classes[k] for k in best_L[kept_L]), confidence)
