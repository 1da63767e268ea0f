"""Measures of images and captions on images that are made for one number each."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from experiments.curation.balancing.retrieval import Retrieval
from experiments.curation.captioner import Captioner
from experiments.curation.filters.stage1.safety_score import Safety
from experiments.curation.measures import body_detector, measure_groups, reward_scores, text_reading
from experiments.curation.measures.caption_facts import describe_caption
from experiments.curation.measures.image_defects import bands, codes, details
from experiments.curation.measures.image_hashes import hashes
from experiments.curation.measures.image_statistics import quality
from rewards.scores import Scores

BARS = (
    "101" "0001101" "0111101" "0101111" "0001101" "0001101" "0001101"
    "01010" "1101100" "1110100" "1100110" "1011100" "1001110" "1101100" "101"
)  # fmt: skip
"""the digits 036000 291452 as a shop has them"""


def grey(levels: Any) -> np.ndarray:
    return np.asarray(levels, np.uint8)


def coloured(grey_HW: np.ndarray) -> np.ndarray:
    return np.repeat(grey_HW[..., None], 3, axis=2)


def test_the_numbers_of_a_plain_colour_and_of_a_board() -> None:
    plain = np.full((16, 16, 3), (100, 50, 50), np.uint8)
    assert quality(plain, grey(np.full((16, 16), 65)))["saturation"] == pytest.approx(0.5, abs=0.01)
    board = grey(np.indices((32, 32)).sum(0) % 2 * 60 + 90)  # a standard deviation of 30 in every block
    numbers = quality(coloured(board), board)
    assert numbers["entropy"] == pytest.approx(1.0) and numbers["texture"] == 1.0
    assert numbers["clarity"] == pytest.approx(float(cv2.Laplacian(board, cv2.CV_64F).var()))
    faint = grey(np.indices((32, 32)).sum(0) % 2 * 20 + 90)
    assert quality(coloured(faint), faint)["texture"] == 0.0


def test_the_signs_of_hashes() -> None:
    ramp = grey(np.tile(np.arange(0, 90), (80, 1)))
    assert hashes(coloured(ramp), ramp)["dhash"] == 2**64 - 1 and hashes(coloured(ramp), ramp)["hashed"]
    flat = np.full((40, 40), 90, np.uint8)
    assert not hashes(coloured(flat), flat)["hashed"]
    corner = np.zeros((32, 32), np.uint8)
    corner[0, 1] = 255  # the mean is below every other frequency
    assert int(hashes(coloured(corner), corner)["phash"]).bit_count() == 31, "the mean is in no median"


def test_clipped_levels_and_thin_bands() -> None:
    levels = grey([[2, 3, 252, 253]] * 32)
    assert details(levels, levels)["clipped"] == 0.5
    noise = np.random.default_rng(0).integers(30, 220, (240, 240)).astype(np.uint8)
    assert bands(np.pad(noise, ((1, 1), (0, 0)))) == 0.0, "the edge of a scan"


def test_a_barcode_is_a_code() -> None:
    row = np.repeat([0 if bar == "1" else 255 for bar in BARS], 2)
    assert codes(np.pad(grey(np.tile(row, (60, 1))), 40, constant_values=255)) == 1


def test_a_caption_without_letters_has_no_share_of_a_script() -> None:
    assert np.isnan(describe_caption("123")["letters_latin"]) and describe_caption("a")["letters_han"] == 0.0


def read(monkeypatch: pytest.MonkeyPatch, lines: list[tuple[str, Any]], captions: list[str]) -> dict[str, Any]:
    """What is measured of an image of 40 by 100 pixels with these lines and the sides of their boxes."""
    pairs = [(SimpleNamespace(text=text), np.array([[0, 0], [w, 0], [w, h], [0, h]], float)) for text, (w, h) in lines]
    engine = SimpleNamespace(read_boxes=lambda image: pairs, characters=tuple("OPENopen"))
    monkeypatch.setattr(text_reading, "reader", lambda: engine)
    monkeypatch.setattr(text_reading, "quoted_read", lambda quoted, lines: 0.0)
    return text_reading.read_text(np.zeros((40, 100, 3), np.uint8), captions)


def test_lines_are_measured_by_their_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = read(monkeypatch, [("OPEN", (50, 20)), ("8", (100, 40))], [])
    assert numbers["text_area"] == 0.25 and numbers["line_height"] == 20.0 and numbers["read_text"] == "OPEN"
    assert read(monkeypatch, [("OPEN", (100, 40))] * 2, [])["text_area"] == 1.0, "of boxes over one another"


def test_a_mark_that_a_caption_quotes_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [("www.shop.com", (50, 20))]
    assert read(monkeypatch, lines, ["a rocket"])["marks"] == 1.0
    assert read(monkeypatch, lines, ['a sign that says "www.shop.com"'])["marks"] == 0.0


def test_what_the_engine_cannot_write_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_reading, "reader", lambda: SimpleNamespace(characters=tuple("OPENopen")))
    assert np.isnan(text_reading.quoted_read(["OPEN", "한국어문장"], []))


def test_a_reward_sees_levels_from_0_to_1_and_says_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def scorer(prompts: Any, images: np.ndarray) -> Scores:
        seen.append(float(images.max()))
        return Scores(np.array([np.nan]), {}, {"engine": 1} if len(seen) > 1 else {})

    monkeypatch.setattr(reward_scores, "scorer", lambda reward: scorer)
    image = np.full((8, 8, 3), 255, np.uint8)
    assert np.isnan(reward_scores.score("brisque", image, [])) and seen == [1.0]
    with pytest.raises(RuntimeError, match="brisque failed: engine"):
        reward_scores.score("brisque", image, [])


def test_groups_of_costly_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_groups, "version_of_reward", lambda reward: [reward, 7])
    assert measure_groups.scores(Safety(reward="brisque")).stage == 2, "after what is free"
    upright = SimpleNamespace(rgb=np.zeros((40, 20, 3)), identity="a", content=b"")
    assert measure_groups.sizes(upright)["aspect"] == 2.0  # type: ignore[arg-type]
    likeness = measure_groups.likenesses(Retrieval(queries=("a", "b"), reward="brisque"))
    assert likeness.settings == ("brisque", 7, "a", "b")
    monkeypatch.setattr(measure_groups, "score", lambda reward, image, queries: {"a": 0.2, "b": 0.7}[queries[0]])
    assert likeness.measure(upright) == {"likeness": 0.7}  # type: ignore[arg-type]


def test_only_a_model_of_ones_own_answers_ahead() -> None:
    asked = measure_groups.descriptions(Captioner(url="http://localhost:1/v1", model="m"), Path())
    assert asked.ahead is None and len(asked.settings) == 1


def test_faces_are_measured_where_they_are_large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 255, (400, 400, 3)).astype(np.uint8)
    image[:, :200] = 90  # beside the middle of the face below

    def numbers(*found: Any) -> dict[str, float]:
        monkeypatch.setattr(body_detector, "detections", lambda rgb: list(found))
        return body_detector.describe_bodies(image)

    feet = ("feet_covered", 0.9, (0.0, 0.0, 300.0, 300.0))
    assert numbers(feet)["face_area"] == 0.0
    assert np.isnan(numbers(("face_male", 0.9, (0.0, 0.0, 200.0, 30.0)))["face_clarity"])
    assert numbers(feet, ("face_male", 0.9, (100.0, 100.0, 100.0, 100.0)))["face_clarity"] == 0.0
    face = body_detector.describe_face(image, (220.0, 0.0, 160.0, 160.0))
    middle = cv2.cvtColor(image[40:120, 260:340], cv2.COLOR_RGB2GRAY)
    small = cv2.resize(middle, (48, 48), interpolation=cv2.INTER_AREA)
    assert face["face_clarity"] == float(cv2.Laplacian(small, cv2.CV_64F).var())
