"""What travels between a reward server and its clients: JSON with PNG images in base64. Nothing is ever unpickled.

    request   {"pictures": [{"prompt": "a sign \\"CAT\\"", "png": "iVBORw0..."}, ...]}
              an image that is an edit has "sources" beside them: the PNG images that its prompt asks to edit
    answer    {"value": [0.9, null], "parts": {"exact": [0.0, null]}, "unjudged": {"engine": 1}, "spent": {},
               "identity": "ocr:... 5c1e..."}
    refusal   {"error": "image 3 is 20000x20000 pixels; ..."} with a 4xx or 5xx status

A prompt is a text or an object with the fields of ``Prompt``. null is NaN: not judged. Numbers keep all their digits.
"identity" says which reward answered, with which settings, so that a client notices when another one does.

Shapes: 3HW pixels.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from preference_data.image_files import decode_image, read_source, source_of
from preference_data.records import Prompt, SourceImage, prompt_from_json, to_json
from rewards.scores import Scores

_END = b"IEND\xaeB`\x82"  # a PNG's last chunk; PIL would do without it


@dataclass(frozen=True)
class Limits:
    """What a server accepts. More is refused before memory is spent on it."""

    bytes: int = 64 * 2**20
    """of a request's body"""
    images: int = 64
    """in a request"""
    side: int = 8192
    """pixels of an image's longer side"""
    pixels: int = 64 * 2**20
    """of all images of a request together, as they are when unpacked"""

    def __post_init__(self) -> None:
        if min(self.bytes, self.images, self.side, self.pixels) < 1:
            raise ValueError(f"{self}: every limit must be at least 1")


class Refused(ValueError):
    """A request that is wrong. ``status`` is the HTTP status that says so."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class OtherReward(RuntimeError):
    """Another reward answered than the one that the client began with."""


def encode_request(prompts: Sequence[Prompt], images_3HW: Sequence[np.ndarray]) -> bytes:
    """A request about uint8 images."""
    known: dict[SourceImage, str] = {}
    rows = []
    for prompt, image in zip(prompts, images_3HW, strict=True):
        rows.append({"prompt": to_json(replace(prompt, sources=())), "png": in_base64(image)})
        if prompt.sources:
            for source in prompt.sources:
                known[source] = known.get(source) or in_base64(read_source(source).transpose(2, 0, 1))
            rows[-1]["sources"] = [known[source] for source in prompt.sources]
    return json.dumps({"pictures": rows}).encode("utf-8")


def in_base64(image_3HW: np.ndarray) -> str:
    """A uint8 image as the text of a PNG."""
    return base64.b64encode(to_png(image_3HW)).decode("ascii")


def decode_request(body: bytes, limits: Limits) -> tuple[list[Prompt], list[np.ndarray]]:
    """Prompts and uint8 images of a request. Refused says what is wrong with which image."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from error
    rows = document.get("pictures") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise Refused(422, 'the body must be {"pictures": [{"prompt": "...", "png": "..."}, ...]}')
    if len(rows) > limits.images:
        raise Refused(413, f"{len(rows)} images in one request; at most {limits.images}, send them in several")
    prompts, images, left = [], [], limits.pixels
    for i, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) - {"sources"} != {"prompt", "png"} or not isinstance(row["png"], str):
            raise Refused(422, f'image {i} must be {{"prompt": ..., "png": "base64"}} and nothing else but "sources"')
        images.append(from_png(row["png"], i, limits, left))
        left -= images[-1].shape[1] * images[-1].shape[2]
        sources = []
        for text in _listed(row.get("sources", []), i):
            pixels = from_png(text, i, limits, left)
            left -= pixels.shape[1] * pixels.shape[2]
            sources.append(source_of(to_png(pixels), f"a source image of image {i}"))
        prompts.append(replace(_prompt(row["prompt"], i), sources=tuple(sources)))
    return prompts, images


def _listed(sources: Any, number: int) -> list[str]:
    if not isinstance(sources, list) or not all(isinstance(text, str) for text in sources):
        raise Refused(422, f"sources of image {number} must be a list of PNG images in base64")
    return sources


def _prompt(data: Any, number: int) -> Prompt:
    try:
        return Prompt.from_text(data) if isinstance(data, str) else prompt_from_json(data)
    except (ValueError, TypeError) as error:
        raise Refused(422, f"the prompt of image {number}: {error}") from error


def to_png(image_3HW: np.ndarray) -> bytes:
    """A uint8 image as PNG, packed quickly rather than tightly."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image_3HW.transpose(1, 2, 0))).save(file, "PNG", compress_level=1)
    return file.getvalue()


def from_png(text: str, number: int, limits: Limits, pixels: int) -> np.ndarray:
    """The uint8 image (3, H, W) of a base64 PNG, as `decode_image` shows it. Its size is checked first."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(422, f"image {number} is not base64: {error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limits below are the narrower ones
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                _check_size(image.width, image.height, number, limits, pixels)
                image.verify()  # every chunk's checksum
            if not content.endswith(_END):
                raise Refused(422, f"image {number} is not a readable PNG: it is cut off, or something follows it")
        return decode_image(content, f"image {number}").transpose(2, 0, 1).copy()
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        raise Refused(413, f"image {number} is far too large: {error}") from error
    except Exception as error:  # PIL raises many kinds for damaged files
        raise Refused(422, f"image {number} is not a readable PNG: {error}") from error


def _check_size(width: int, height: int, number: int, limits: Limits, pixels: int) -> None:
    if max(width, height) > limits.side:
        raise Refused(413, f"image {number} is {width}x{height} pixels; at most {limits.side} on a side")
    if width * height > pixels:
        most = limits.pixels
        raise Refused(413, f"the images up to number {number} have more than {most} pixels; send them in several")


def encode_scores(scores: Scores, identity: str = "") -> bytes:
    """Encodes scores as an answer of the server. ``identity`` says what gave them."""
    document = {
        "value": _numbers(scores.value_B),
        "parts": {name: _numbers(part) for name, part in scores.parts.items()},
        "unjudged": dict(scores.unjudged),
        "spent": dict(scores.spent),
        "identity": identity,
    }
    return json.dumps(document, allow_nan=False).encode("utf-8")


def decode_scores(body: bytes, count: int, identity: str = "") -> Scores:
    """The scores of an answer about ``count`` images. ValueError when it is something else, OtherReward when both
    say which reward it is and another one than ``identity`` gave them."""
    try:
        document = json.loads(body)
        value_B = _array(document["value"])
        parts = {str(name): _array(part) for name, part in document["parts"].items()}
        causes = {str(cause): int(number) for cause, number in document["unjudged"].items()}
        spent = {str(name): float(amount) for name, amount in document["spent"].items()}
        scores = Scores(value_B, parts, causes, spent)
        answered = str(document.get("identity", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the server's answer holds no scores ({error!r}); is it a server of `glyphlab serve-rewards`?"
        ) from error
    if len(value_B) != count:
        raise ValueError(f"the server answered {len(value_B)} scores to {count} images")
    if identity and answered and answered != identity:
        raise OtherReward(
            f"the server answers as {answered!r}, and was {identity!r} when this began: scores of the two cannot be "
            "compared. Start the first one again, or begin anew with the other"
        )
    return scores


def _numbers(array_B: np.ndarray) -> list[float | None]:
    return [None if math.isnan(number) else number for number in array_B.tolist()]


def _array(numbers: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if number is None else float(number) for number in numbers], dtype=np.float64)
