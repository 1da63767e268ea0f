"""BRISQUE against OpenCV's whole implementation, on clean and on spoilt photographs."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from preference_data.records import Prompt
from rewards.published import brisque
from rewards.published.brisque import Brisque, SupportVectors, features, read_support_vectors
from rewards.weight_packages import package_folder
from tests.fixtures.tiny.tiny_judges import as_batch, photographs

ANY = [Prompt.from_text("any")]


def noisy(picture: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, deviation, picture.shape)
    return np.clip(picture + noise, 0, 255).round().astype(np.uint8)


def jpeg(picture: np.ndarray, level: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, level])[1], cv2.IMREAD_COLOR)


WORSE: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "blur": lambda picture, by: cv2.GaussianBlur(picture, (0, 0), by),
    "noise": noisy,
    "jpeg": lambda picture, by: jpeg(picture, int(by)),
}
LEVELS = {"blur": (1, 2), "noise": (10, 25, 50), "jpeg": (50, 20, 5)}


def opencv_files(folder: Path, vectors: SupportVectors) -> tuple[str, str]:
    """The support vectors and the scaling as the files that OpenCV's own BRISQUE reads."""
    count, width = vectors.s_NF.shape

    def row(values: Any) -> str:
        return "[ " + ", ".join(f"{float(v):.17g}" for v in values) + " ]"

    lines = "\n".join(f"      - {row(s_F)}" for s_F in vectors.s_NF)
    model = (
        "%YAML:1.0\n---\nopencv_ml_svm:\n   format: 3\n   svmType: EPS_SVR\n"
        f"   kernel: {{ type:RBF, gamma:{vectors.gamma} }}\n   C: 1024.\n   p: 0.1\n"
        "   term_criteria: { epsilon:1.0e-3, iterations:1000 }\n"
        f"   var_count: {width}\n   class_count: 0\n   sv_total: {count}\n   support_vectors:\n{lines}\n"
        f"   decision_functions:\n      -\n         sv_count: {count}\n         rho: {vectors.rho}\n"
        f"         alpha: {row(vectors.a_N)}\n         index: [ {', '.join(map(str, range(count)))} ]\n"
    )
    (folder / "model.yml").write_text(model)
    matrix = ", ".join(f"{v:.9g}" for v in np.concatenate([vectors.low_F, vectors.high_F]))
    text = f"%YAML:1.0\n---\nrange: !!opencv-matrix\n   rows: 2\n   cols: {width}\n   dt: f\n   data: [ {matrix} ]\n"
    (folder / "range.yml").write_text(text)
    return str(folder / "model.yml"), str(folder / "range.yml")


def test_the_score_is_that_of_opencv(tmp_path: Path) -> None:
    model, scaling = opencv_files(tmp_path, read_support_vectors())
    scorer = Brisque().load()
    seen = []
    for photograph in (data.astronaut()[:256, :200], data.coffee()[:180, 100:331], data.chelsea(), *photographs()):
        for picture in (photograph, noisy(photograph, 20), jpeg(photograph, 15)):
            theirs = cv2.quality.QualityBRISQUE_compute(np.ascontiguousarray(picture[:, :, ::-1]), model, scaling)[0]
            scores = scorer(ANY, as_batch(picture))
            seen.append(float(scores.value_B[0]))
            assert 100 * (1 - seen[-1]) == pytest.approx(theirs, abs=0.01)  # OpenCV's is float32
            assert np.clip(scores.parts["brisque"][0], 0, 100) == pytest.approx(theirs, abs=0.01)
    assert min(seen) < 0.4 and max(seen) > 0.9


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket"])
@pytest.mark.parametrize("kind", WORSE)
def test_clean_photographs_are_good_and_worse_is_worse(name: str, kind: str) -> None:
    photograph = getattr(data, name)()
    scorer = Brisque().load()
    pictures = [photograph, *(WORSE[kind](photograph, by) for by in LEVELS[kind])]
    values = [float(scorer(ANY, as_batch(picture)).value_B[0]) for picture in pictures]
    assert values[0] > 0.9 and all(a > b + 0.05 for a, b in pairwise(values)), values


def test_features_tell_sharp_from_blurred_and_red_from_blue() -> None:
    """RGB is RGB: the grey of an image and of the same with red and blue swapped differ."""
    photograph = data.coffee()[:100, :150]
    f_F = features(photograph)
    assert f_F.shape == (36,) and np.isfinite(f_F).all()
    assert np.abs(f_F - features(photograph[:, :, ::-1])).max() > 1e-3
    grey = np.array(Image.fromarray(photograph).convert("L"))[:, :, None].repeat(3, 2)
    np.testing.assert_allclose(f_F, features(grey), atol=0.05)


def test_a_picture_without_statistics_is_not_judged() -> None:
    scorer = Brisque().load()
    flat = scorer(ANY, np.full((1, 3, 64, 64), 0.5, dtype=np.float32))
    small = scorer(ANY, np.random.default_rng(0).random((1, 3, 15, 40)).astype(np.float32))
    assert np.isnan(flat.value_B[0]) and flat.unjudged == {"flat": 1}
    assert np.isnan(small.value_B[0]) and small.unjudged == {"small": 1}
    least = scorer(ANY, np.random.default_rng(0).random((1, 3, 16, 16)).astype(np.float32))
    assert np.isfinite(least.value_B[0])


def test_weights_that_are_missing_or_others_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = package_folder("brisque")
    assert real is not None
    weights = (real / "models/svm.txt").read_text()
    monkeypatch.setattr(brisque, "package_folder", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps brisque==0\.2\.0"):
        Brisque().load()
    monkeypatch.setattr(brisque, "package_folder", lambda name: tmp_path)
    with pytest.raises(ValueError, match=r"is not that of brisque 0\.2\.0"):
        Brisque().load()
    (tmp_path / "models").mkdir()
    (tmp_path / "models/svm.txt").write_text(weights)
    (tmp_path / "models/normalize.pickle").write_bytes(pickle.dumps({"min_": [0.0] * 36, "max_": print}))
    with pytest.raises(ValueError, match=r"it asks for builtins\.print"):  # a pickle that would run code
        Brisque().load()
    (tmp_path / "models/normalize.pickle").write_bytes(pickle.dumps({"min_": [0.0] * 36, "max_": [1.0] * 36}))
    (tmp_path / "models/svm.txt").write_text("\n".join(weights.splitlines()[:-5]))
    with pytest.raises(ValueError, match="765, 36"):
        Brisque().load()
