"""Text recognition engines: a crop in, the text it shows and how sure the engine is out.

Three engines over two sets of real weights that come inside Python packages, so nothing is downloaded:

- ``OnnxRecogniser`` on PP-OCRv6_small (package ``rapidocr``): our own 20 lines of preprocessing and CTC decoding;
- ``PaddleRecogniser`` on the same weights, through ``paddleocr.TextRecognition``: the reference the first is tested by;
- ``OnnxRecogniser`` on PP-OCRv4 (package ``rapidocr-onnxruntime``): the judge.

A crop is uint8 (height, width, RGB). PP-OCR was trained on 48-pixel lines in BGR, scaled to [-1, 1].
CTC: Graves et al. 2006; greedy decoding (best class per column, repeats merged, blanks dropped).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rewards.weight_packages import package_folder

LINE_HEIGHT = 48  # pixels, fixed by the weights
MAX_WIDTH = 3200  # pixels at that height; PaddleX squeezes longer lines to it
PADDLE_MIN_WIDTH = 320  # pixels; PaddleX pads every line to it, which a short word does not need
WIDTH_STEP = 8  # pixels per CTC column
PADDLE_MODEL = "PP-OCRv6_small_rec"  # the names PaddleX knows these weights by
PADDLE_DETECTION = "PP-OCRv6_small_det"

V6 = ("rapidocr", "models/PP-OCRv6_rec_small.onnx", "pip install --no-deps rapidocr==3.10.0")
V6_DETECTION = ("rapidocr", "models/PP-OCRv6_det_small.onnx", V6[2])
V4 = ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx", "pip install --no-deps rapidocr-onnxruntime==1.4.4")
V4_DETECTION = ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx", V4[2])


@dataclass(frozen=True)
class Reading:
    """What an engine read. ``confidence`` in [0, 1] is the mean probability of its characters, 0 without any."""

    text: str
    confidence: float


class Recogniser(Protocol):
    name: str

    def read(self, line_HW3: np.ndarray) -> Reading:
        """Read one line: uint8 RGB, ``LINE_HEIGHT`` high."""
        ...


def find_weights(source: tuple[str, str, str]) -> Path:
    """The weights file inside a package, which is not imported. FileNotFoundError says what to install."""
    package, inside, install = source
    folder = package_folder(package)
    if folder is None:
        raise FileNotFoundError(f"the weights are in the package '{package}', which is missing; run: {install}")
    path = folder / inside
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {inside} (another version?); run: {install}")
    return path


def one_thread(weights: Path) -> Any:
    """The weights loaded into onnxruntime. One thread: under load two are slower."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("reading text needs onnxruntime; run: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])


class OnnxRecogniser:
    """Recognition weights run directly by onnxruntime, one thread, one crop at a time.

    Batching gains nothing on a CPU, and one crop at a time makes a score independent of what else is in the batch.
    """

    def __init__(self, weights: Path, min_width: int = 0) -> None:
        self._session = one_thread(weights)
        self._input = self._session.get_inputs()[0].name
        self.characters = characters(self._session)
        self._min_width = min_width
        self.name = f"onnxruntime/{weights.stem}"

    def read(self, line_HW3: np.ndarray) -> Reading:
        return decode(self.probabilities(line_HW3), self.characters)

    def probabilities(self, line_HW3: np.ndarray) -> np.ndarray:
        """[L, K] float32 for L columns of the line, K = len(self.characters) classes; class 0 is the blank."""
        pixels = line_HW3[:, :, ::-1].astype(np.float32).transpose(2, 0, 1) / 127.5 - 1.0
        width = max(self._min_width, -(-pixels.shape[2] // WIDTH_STEP) * WIDTH_STEP)
        padded_13HW = np.zeros((1, 3, LINE_HEIGHT, width), dtype=np.float32)  # 0 = mid grey, the padding of training
        padded_13HW[0, :, :, : pixels.shape[2]] = pixels
        probabilities_LK: np.ndarray = self._session.run(None, {self._input: padded_13HW})[0][0]
        return probabilities_LK


def characters(session: Any) -> list[str]:
    """The classes of a recognition model in order: blank, then the dictionary in its metadata, then the space."""
    listed = session.get_modelmeta().custom_metadata_map.get("character", "")
    # a dictionary may hold characters that end a line elsewhere, such as U+2028 or U+0085
    results = ["", *listed.removesuffix("\n").split("\n"), " "]
    classes = session.get_outputs()[0].shape[-1]
    if len(results) != classes:
        raise ValueError(
            f"the OCR weights have {classes} classes but their metadata lists {len(results)}: damaged file?"
        )
    return results


def decode(probabilities_LK: np.ndarray, classes: list[str]) -> Reading:
    """Greedy CTC: L columns x K class probabilities -> the text. Class 0 is the blank."""
    best_L = probabilities_LK.argmax(axis=1)
    stored_L = (best_L != 0) & (best_L != np.concatenate(([0], best_L[:-1])))
    if not stored_L.any():
        return Reading("", 0.0)
    confidence = float(probabilities_LK.max(axis=1)[stored_L].mean(dtype=np.float64))
    return Reading("".join(classes[k] for k in best_L[stored_L]), confidence)


class PaddleRecogniser:
    """The PP-OCRv6_small weights through ``paddleocr.TextRecognition`` on onnxruntime; nothing is downloaded."""

    def __init__(self, weights: Path) -> None:
        # Asked before the import: PaddleX looks for its model hosters when it is first imported otherwise.
        os.environ.setdefault("PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK", "True")
        try:
            from paddleocr import TextRecognition
        except ImportError as error:
            raise ImportError("the engine 'paddleocr' needs its package; run: pip install paddleocr") from error
        self._model = TextRecognition(
            model_name=PADDLE_MODEL,
            model_dir=str(paddle_folder(weights)),
            device="cpu",
            engine="onnxruntime",
            engine_config={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
        )
        self.characters = characters(one_thread(weights))
        self.name = f"paddleocr/{weights.stem}"

    def read(self, line_HW3: np.ndarray) -> Reading:
        prediction = self._model.predict(np.ascontiguousarray(line_HW3[:, :, ::-1]), batch_size=1)[
            0
        ]  # PaddleX takes BGR
        return Reading(prediction["rec_text"], float(prediction["rec_score"]) if prediction["rec_text"] else 0.0)


def paddle_folder(weights: Path, cache: Path | None = None) -> Path:
    """PaddleX's model folder of recognition weights, which hold their dictionary in their metadata."""
    return _model_folder(
        weights, PADDLE_MODEL, lambda: _recognition_config(characters(one_thread(weights))[1:-1]), cache
    )


def paddle_detection_folder(weights: Path, cache: Path | None = None) -> Path:
    """PaddleX's model folder of detection weights."""
    return _model_folder(weights, PADDLE_DETECTION, _detection_config, cache)


def _model_folder(weights: Path, model: str, config: Callable[[], str], cache: Path | None) -> Path:
    """A folder with ``inference.onnx`` and ``inference.yml`` as PaddleX expects them, made once per weights file.

    It lies in ``cache``, or the user's cache folder, or a temporary one when that cannot be written; it is renamed into
    place when complete, so another process sees all of it or nothing.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glyphlab" / "ocr"
    content = weights.read_bytes()
    name = f"{model}-{hashlib.sha256(content).hexdigest()[:16]}"
    for parent in [cache or home, Path(tempfile.gettempdir()) / f"glyphlab-ocr-{os.getuid()}"]:
        if (parent / name).is_dir():
            return parent / name
        try:
            parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=parent))
        except OSError:
            continue
        try:
            (fresh / "inference.onnx").write_bytes(content)
            (fresh / "inference.yml").write_text(config(), encoding="utf-8")
            with suppress(OSError):  # another process was first: its folder has the same content
                fresh.rename(parent / name)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return parent / name
    raise OSError(f"neither {home} nor {tempfile.gettempdir()} can be written; paddleocr needs a model folder there")


def _recognition_config(dictionary: list[str]) -> str:
    """``inference.yml`` in PaddleX's schema, written as JSON, which YAML contains."""
    operations = [
        {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
        {"RecResizeImg": {"image_shape": [3, LINE_HEIGHT, PADDLE_MIN_WIDTH]}},
    ]
    config = {
        "Global": {"model_name": PADDLE_MODEL},
        "PreProcess": {"transform_ops": operations},
        "PostProcess": {"name": "CTCLabelDecode", "character_dict": dictionary},
    }
    return json.dumps(config, ensure_ascii=False)


def _detection_config() -> str:
    """As ``_recognition_config``, with the constants of PaddleX's own file for this model."""
    normalise = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "scale": "1./255.", "order": "hwc"}
    operations = [
        {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
        {"DetResizeForTest": {"resize_long": 960}},
        {"NormalizeImage": normalise},
        {"ToCHWImage": None},
    ]
    thresholds = {"thresh": 0.3, "box_thresh": 0.6, "unclip_ratio": 1.5, "max_candidates": 1000}
    config = {
        "Global": {"model_name": PADDLE_DETECTION},
        "PreProcess": {"transform_ops": operations},
        "PostProcess": {"name": "DBPostProcess", **thresholds},
    }
    return json.dumps(config)
