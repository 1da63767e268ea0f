"""The detector of bodies reads its network as NudeNet does, and its filter says which detections count."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from experiments.curation.curated_folder import CAPTIONS, curate
from experiments.curation.curation_report import write_report
from experiments.curation.filters.stage1.nudity import UNSAFE, Nudity
from experiments.curation.measures import body_detector, measure_groups
from experiments.curation.measures.body_detector import CLASSES, COLUMNS, describe_bodies, detections
from rewards.weight_packages import package_folder
from tests.experiments.curation.images_to_curate import as_jpeg, as_png, photograph
from tests.experiments.curation.test_curated_folder import decisions

SOURCE = body_detector.SOURCE
WEIGHTS = package_folder(SOURCE[0])
UNMEASURED = {"face_clarity": float("nan"), "face_blocks": float("nan")}
"""without a face"""


@functools.cache
def own_code() -> Any:
    """NudeNet's own detector, read from its file; the package is not imported."""
    assert WEIGHTS is not None
    spec = importlib.util.spec_from_file_location("nudenet_itself", WEIGHTS / "nudenet.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_ours(rows: list[dict[str, Any]]) -> list[tuple[str, float, tuple[int, ...]]]:
    return [(row["class"].lower(), pytest.approx(row["score"], abs=1e-5), tuple(row["box"])) for row in rows]


def whole(rows: list[body_detector.Detection]) -> list[tuple[str, float, tuple[int, ...]]]:
    return [(name, score, tuple(map(int, box))) for name, score, box in rows]


@pytest.mark.skipif(WEIGHTS is None, reason="the weights of nudenet are not installed; `make` does")
def test_photographs_are_read_as_nudenet_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_detector, "SOURCE", SOURCE)
    detector = own_code().NudeDetector()
    for name in ("astronaut", "camera", "colorwheel", "rocket"):
        image = np.asarray(photograph(name))
        # it exchanges red and blue of what a file holds, so it is handed them as they are
        assert whole(detections(image)) == as_ours(detector.detect(np.ascontiguousarray(image))), name
    assert describe_bodies(np.asarray(photograph("astronaut")))["nude_face_female"] > 0.75
    assert describe_bodies(np.asarray(photograph("colorwheel")))["nude_buttocks_exposed"] > 0.8


@pytest.mark.skipif(WEIGHTS is None, reason="the weights of nudenet are not installed; `make` does")
@pytest.mark.parametrize(("height", "width"), [(300, 500), (512, 384)])
def test_overlapping_boxes_are_left_out_as_nudenet_does(
    height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(height)
    output = np.concatenate([
        rng.uniform(-20, 340, (1, 2, 2100)), rng.uniform(20, 200, (1, 2, 2100)), rng.uniform(0, 0.6, (1, 18, 2100)) ** 4
    ], axis=1).astype(np.float32)  # fmt: skip
    session = SimpleNamespace(run=lambda *_: [output], get_inputs=lambda: [SimpleNamespace(name="images")])
    monkeypatch.setattr(body_detector, "network", lambda: session)
    monkeypatch.setattr(body_detector, "LEAST", 0.05)
    side = max(height, width)
    code = own_code()
    source = Path(code.__file__).read_text().replace("score >= 0.2", "score >= 0.05").replace("0.25, 0", "0.05, 0")
    names = {"__name__": "changed", "__file__": code.__file__}
    exec(compile(source, code.__file__, "exec"), names)
    expected = names["_postprocess"](  # type: ignore[operator]
        [output], side - width, side - height, side / width, side / height, width, height, 320, 320
    )
    mine = detections(np.zeros((height, width, 3), np.uint8))
    assert 20 < len(mine) < 2000 and whole(mine) == as_ours(expected)


def test_no_detection_is_zero_and_a_face_has_its_area(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    rows: list[body_detector.Detection] = [
        ("face_male", 0.9, (0, 0, 20, 50)), ("face_female", 0.4, (9, 9, 40, 50)), ("face_male", 0.3, (0, 0, 9, 9))
    ]  # fmt: skip
    monkeypatch.setattr(body_detector, "detections", lambda rgb: rows)
    numbers = describe_bodies(image)
    assert numbers.keys() == COLUMNS.keys() and numbers["face_area"] == 0.1
    assert {name: value for name, value in numbers.items() if value and not name.startswith("face_")} == {
        "nude_face_male": 0.9, "nude_face_female": 0.4
    }  # fmt: skip
    assert {name for name, value in numbers.items() if np.isnan(value)} == set(UNMEASURED), "of 20 pixels"
    rows.insert(0, ("face_male", 0.2, (50, 0, 80, 96)))
    assert describe_bodies(image)["face_blocks"] == 1.0 and describe_bodies(image)["face_clarity"] == 0.0
    rows[:] = [("face_male", 0.9, (0, 0, 96, 100))]
    image[:] = (200 - np.arange(200, dtype=np.uint8))[None, :, None]
    assert describe_bodies(image)["face_blocks"] == 1.0, "a step down by one level is as small as one up"
    rows.clear()
    assert {value for name, value in describe_bodies(image).items() if name not in UNMEASURED} == {0.0}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, float]]:
    """What a stand-in for the detector sees, by the name of a photograph."""
    by_name: dict[str, dict[str, float]] = {}

    def describe(rgb_HW3: np.ndarray) -> dict[str, float]:
        same = [each for name, each in by_name.items() if np.array_equal(np.asarray(photograph(name)), rgb_HW3)]
        return {**dict.fromkeys(COLUMNS, 0.0), **UNMEASURED, **(same[0] if same else {})}

    monkeypatch.setattr(body_detector, "describe_bodies", describe)
    monkeypatch.setattr(body_detector, "SOURCE", ("numpy", "__init__.py", ""))
    return by_name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("coffee", "chelsea", "astronaut"):
        (images / f"{name}.png").write_bytes(as_png(photograph(name)))
        (images / f"{name}.txt").write_text("a photograph")
    return images


def test_what_it_sees_is_dropped_with_what_looks_like_it_and_classes_can_be_chosen(
    folder: Path, tmp_path: Path, seen: dict[str, dict[str, float]]
) -> None:
    seen["coffee"] = {"nude_buttocks_exposed": 0.7, "nude_belly_exposed": 0.9}
    seen["chelsea"] = {"nude_belly_exposed": 0.8}
    seen["astronaut"] = {"nude_face_female": 0.8, "face_area": 0.04}
    (folder / "smaller.jpg").write_bytes(as_jpeg(photograph("coffee").resize((400, 267))))
    (folder / "smaller.txt").write_text("the same, smaller")
    out = tmp_path / "set"
    said = list(curate([str(folder)], out, ["reading=no"]))
    assert not any("drops nothing" in line for line in said)
    by = {name: row["dropped_by"] for name, row in decisions(out).items()}
    assert by == {
        "coffee.png": "nudity", "smaller.jpg": "near_duplicates", "chelsea.png": "", "astronaut.png": ""
    }  # fmt: skip
    assert "nudity 0.7 is above 0.5" in decisions(out)["coffee.png"]["why"]
    seen.clear()  # stored scores are cut, nothing is looked at again
    list(curate((), out, ["nudity.classes=belly_exposed|feet_exposed", "nudity.most=0.85"]))
    assert {name for name, row in decisions(out).items() if row["dropped_by"] == "nudity"} == {"coffee.png"}
    list(curate((), out, ["nudity.most=0.75"]))
    assert {name for name, row in decisions(out).items() if row["dropped_by"] == "nudity"} == {
        "coffee.png", "chelsea.png"
    }  # fmt: skip
    page = write_report(out).read_text(encoding="utf-8")
    assert "nudity.classes=belly_exposed|feet_exposed" in page and 'class="strip veiled"' in page
    list(curate((), out, ["category.without=portrait", "nudity.most=0.85"]))
    assert {name for name, row in decisions(out).items() if row["dropped_by"] == "category"} == {"astronaut.png"}


@pytest.mark.skipif(WEIGHTS is None, reason="the weights of nudenet are not installed; `make` does")
def test_a_face_that_is_blurred_or_covered_by_squares_is_dropped_and_a_sharp_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the detector itself: 2 % of blur, and squares of 4 %."""
    monkeypatch.setattr(body_detector, "SOURCE", SOURCE)
    folder, photo = tmp_path / "images", data.astronaut()
    folder.mkdir()
    (left, top, width, height) = (int(n) for n in next(box for name, _, box in detections(photo) if "face" in name))
    around = np.s_[top - 20 : top + height + 20, left - 20 : left + width + 20]
    blurred, squares = photo.copy(), photo.copy()
    blurred[around] = cv2.GaussianBlur(photo[around], (0, 0), 0.02 * width)
    few = cv2.resize(photo[around], None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    squares[around] = cv2.resize(few, photo[around].shape[1::-1], interpolation=cv2.INTER_NEAREST)
    for name, image in (("sharp", photo), ("blurred", blurred), ("squares", squares)):
        (folder / f"{name}.png").write_bytes(as_png(Image.fromarray(image)))
        (folder / f"{name}.txt").write_text(f"a woman, {name}")
    out = tmp_path / "set"
    list(curate([str(folder)], out, ["reading=no", "near_duplicates.least=0"]))
    by = {name: row["dropped_by"] for name, row in decisions(out).items()}
    assert by == {"sharp.png": "", "blurred.png": "blurred_face", "squares.png": "mosaic_face"}


def test_what_looks_like_an_image_that_a_reward_drops_goes_with_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smaller one is not measured, because it is dropped first; it must not take the place of the larger one."""
    large = np.asarray(photograph("coffee"))
    monkeypatch.setattr(measure_groups, "score", lambda reward, rgb, captions: float(not np.array_equal(rgb, large)))
    (folder / "smaller.jpg").write_bytes(as_jpeg(photograph("coffee").resize((400, 267))))
    (folder / "smaller.txt").write_text("the same, smaller")
    list(curate([str(folder)], tmp_path / "set", ["reading=no", "safety.reward=brisque"]))
    by = {name: row["dropped_by"] for name, row in decisions(tmp_path / "set").items() if row["dropped_by"]}
    assert by == {"coffee.png": "safety", "smaller.jpg": "near_duplicates"}


def test_without_its_weights_it_drops_nothing_and_says_so(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    (line, *_) = curate([str(folder)], out, ["reading=no"])
    assert line.startswith("nudity drops nothing: the weights are in the package") and "pip install --no-deps" in line
    assert len((out / CAPTIONS).read_text().splitlines()) == 3
    assert "it drops nothing: the weights are in" in write_report(out).read_text(encoding="utf-8")
    lines = list(curate((), out, ["nudity.most=inf"]))
    assert not any("drops nothing" in each for each in lines)
    assert json.loads((out / "curation.json").read_text())["filters"]["nudity.most"] == "inf"


def test_a_class_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match="there is no 'nipples'; there are anus_covered, "):
        Nudity(classes=("nipples",))
    assert set(UNSAFE) < set(CLASSES) and len(CLASSES) == 18
