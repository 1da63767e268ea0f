"""Measures what a small detector finds of naked bodies. It finds faces, too, which make a portrait.

    (1)  the network sees RGB / 255 at 320 by 320, with black added below or on the right until the image is square
    (2)  it answers with 2,100 boxes, each with 18 scores; a box counts for its best class, from `LEAST` on
    (3)  a box that shares more than `OVERLAP` of the union with a better one is left out, whatever its class
    (4)  nude_CLASS = largest score of the class's boxes, 0 without any
    (5)  face_area = share of the image in the box of the largest face
    (6)  its middle, half as wide and as high, drawn 48 pixels wide and grey: face_clarity = variance of its Laplacian
    (7)  face_blocks = share of its neighbours in a row that differ by at most one grey level of 256

A face that is blurred or covered by squares beyond recognition is none to the network, so (6) and (7) see what it still
finds: a blur of up to 4, squares of up to 6 pixels on a face of 100. They are not measured of faces below 64 pixels.

The weights are those of NudeNet 3.4.2 (MIT). That package's own reader exchanges red and blue (notAI-tech/NudeNet issue
203); with colours as they are, two faces of our photographs score 0.81 and 0.76 in place of 0.72 and 0.62. How many
unsafe images it finds could not be measured here, because no set of such images is free to use. Shapes: HW3 pixels.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import numpy as np

GROUP = "nudity"
SOURCE = ("nudenet", "320n.onnx", "pip install --no-deps nudenet==3.4.2")
"""package, file and command, as of the OCR engines' weights"""
SIDE = 320
LEAST, OVERLAP = 0.25, 0.45
"""of NudeNet's own detector"""
CLASSES = (
    "female_genitalia_covered", "face_female", "buttocks_exposed", "female_breast_exposed", "female_genitalia_exposed",
    "male_breast_exposed", "anus_exposed", "feet_exposed", "belly_covered", "feet_covered", "armpits_covered",
    "armpits_exposed", "face_male", "belly_exposed", "male_genitalia_exposed", "anus_covered", "female_breast_covered",
    "buttocks_covered",
)  # fmt: skip
"""What the network tells apart, in the order of its scores."""
FACES = ("face_area", "face_clarity", "face_blocks")
COLUMNS = dict.fromkeys((*(f"nude_{name}" for name in CLASSES), *FACES), "number")
FACE_SIDE, SMALLEST_FACE = 48, 64
"""pixels"""


def lacking() -> str:
    """What is missing to run the detector; "" where nothing is."""
    from rewards.text.recognisers import find_weights

    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is missing; run: pip install onnxruntime"
    try:
        find_weights(SOURCE)
    except FileNotFoundError as error:
        return str(error)
    return ""


@functools.cache
def network() -> Any:
    """The detector, loaded once."""
    from rewards.text.recognisers import find_weights, one_thread

    return one_thread(find_weights(SOURCE))


Detection = tuple[str, float, tuple[float, float, float, float]]
"""class, score, and box: left, top, width and height in pixels"""


def detections(rgb_HW3: np.ndarray) -> list[Detection]:
    """(1) to (3) of an 8-bit image, best first."""
    import cv2

    height, width = rgb_HW3.shape[:2]
    side = max(height, width)
    square = cv2.copyMakeBorder(rgb_HW3, 0, side - height, 0, side - width, cv2.BORDER_CONSTANT)
    small = cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255.0
    session = network()
    (output,) = session.run(None, {session.get_inputs()[0].name: small.transpose(2, 0, 1)[None]})
    rows = output[0].T  # [2100, 4 + 18]: middle and size in pixels of `small`, then scores
    rows = rows[rows[:, 4:].max(axis=1) >= LEAST]
    sizes = rows[:, 2:4] * (side / SIDE)
    corners = (rows[:, :2] * (side / SIDE) - sizes / 2).clip(0, (width, height))
    boxes = np.concatenate([corners, np.minimum(sizes, np.array([width, height]) - corners)], axis=1)
    best, scores = rows[:, 4:].argmax(axis=1), rows[:, 4:].max(axis=1)
    staying = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), LEAST, OVERLAP) if len(rows) else ()
    return [(CLASSES[best[i]], float(scores[i]), tuple(boxes[i].tolist())) for i in staying]


def describe_bodies(rgb_HW3: np.ndarray) -> dict[str, float]:
    """(4) to (7) of an 8-bit image; (6) and (7) are NaN without a face that is large enough."""
    numbers = dict.fromkeys(COLUMNS, 0.0) | {"face_clarity": float("nan"), "face_blocks": float("nan")}
    largest = (0.0, 0.0, 0.0, 0.0)
    for name, score, box in detections(rgb_HW3):
        numbers[f"nude_{name}"] = max(numbers[f"nude_{name}"], score)
        if name.startswith("face_") and box[2] * box[3] > largest[2] * largest[3]:
            largest = box
    numbers["face_area"] = largest[2] * largest[3] / (rgb_HW3.shape[0] * rgb_HW3.shape[1])
    return numbers | (describe_face(rgb_HW3, largest) if min(largest[2:]) >= SMALLEST_FACE else {})


def describe_face(rgb_HW3: np.ndarray, box: tuple[float, float, float, float]) -> dict[str, float]:
    """(6) and (7) of what is in a box."""
    import cv2

    left, top, width, height = box
    columns, rows = (slice(int(a + b / 4), int(a + 3 * b / 4)) for a, b in ((left, width), (top, height)))
    grey = cv2.cvtColor(rgb_HW3[rows, columns], cv2.COLOR_RGB2GRAY)
    how = cv2.INTER_AREA if grey.shape[1] >= FACE_SIDE else cv2.INTER_LINEAR
    wide = cv2.resize(grey, (FACE_SIDE, round(FACE_SIDE * grey.shape[0] / grey.shape[1])), interpolation=how)
    blocks = np.abs(np.diff(wide.astype(np.int16), axis=1)) <= 1
    return {"face_clarity": float(cv2.Laplacian(wide, cv2.CV_64F).var()), "face_blocks": float(blocks.mean())}
