"""Traits of images and readings against what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from preference_data.pixels import to_uint8
from rewards.image_measures import (
    boxed_area,
    disagreement,
    diversity,
    duplicate_text,
    extra_text,
    measure_images,
    repetition,
)
from rewards.text.ocr_contains import contained
from rewards.text.reading.detector import Detector
from rewards.text.recognisers import V6_DETECTION, find_weights
from tests.fixtures.writing import written


def plain(red: int, green: int, blue: int) -> np.ndarray:
    """uint8 [3, 8, 8] of one colour."""
    return np.broadcast_to(np.array([red, green, blue], np.uint8)[:, None, None], (3, 8, 8)).copy()


def test_plain_pictures_by_hand() -> None:
    found = measure_images(np.stack([plain(0, 0, 0), plain(255, 255, 255), plain(255, 0, 0), plain(0, 0, 255)]))
    # luma of red is 0.21, of blue 0.07: both dark; white is not
    np.testing.assert_array_equal(found["dark"], [1, 0, 1, 1])
    np.testing.assert_array_equal(found["saturation"], [0, 0, 1, 1])
    for name in ("edges", "colour_entropy", "text_area"):
        np.testing.assert_array_equal(found[name], 0)


def test_half_and_half_by_hand() -> None:
    half = plain(255, 255, 255)
    half[:, :, :4] = 0
    found = measure_images(half[None])
    assert found["dark"][0] == 0.5 and found["colour_entropy"][0] == 1.0
    assert found["edges"][0] == 8 / 64  # one column of pixels differs from its right neighbour
    quarters = half.copy()
    quarters[0, :4] = 255 - quarters[0, :4]
    assert measure_images(quarters[None])["colour_entropy"][0] == 2.0


def test_a_faint_step_is_no_edge() -> None:
    faint = plain(100, 100, 100)
    faint[:, 4:] += 25  # 0.098 of luma
    assert measure_images(faint[None])["edges"][0] == 0
    faint[:, 4:] += 1
    assert measure_images(faint[None])["edges"][0] == 8 / 64


def test_text_covers_its_box() -> None:
    blank, word = plain(255, 255, 255), plain(255, 255, 255).repeat(4, 1).repeat(8, 2)
    word[:, 8:20, 10:40] = 0
    found = measure_images(word[None])["text_area"][0]
    assert found == (12 + 6) * (30 + 6) / (32 * 64)  # with the margin of a crop
    assert measure_images(blank[None])["text_area"][0] == 0


def test_the_detector_finds_the_share_of_a_word() -> None:
    detector = Detector(find_weights(V6_DETECTION))
    small, large = (to_uint8(written("GLYPH", size=size)) for size in (12, 24))
    assert 0.05 < boxed_area(detector, small) < boxed_area(detector, large) < 0.9
    assert boxed_area(detector, np.full((3, 64, 64), 255, np.uint8)) == 0


def test_only_8_bit_pictures() -> None:
    with pytest.raises(ValueError, match=r"float64 \(1, 3, 8, 8\)"):
        measure_images(np.zeros((1, 3, 8, 8)))


def test_diversity_by_hand() -> None:
    a, b = plain(0, 0, 0), plain(255, 255, 255)
    np.testing.assert_allclose(diversity(np.array([[a, a], [b, a], [b, a]])), [2 / 3, 0])
    with pytest.raises(ValueError, match="at least 2"):
        diversity(np.array([[a]]))


def test_repetition_of_letters() -> None:
    assert repetition("GLYPH") == 0 and repetition("AB") == 0 and repetition("") == 0
    assert repetition("GLYPHGLYPH") == 3 / 8  # 8 runs of three letters, GLY LYP YPH come again
    assert duplicate_text("GLYPH", "glyph GLYPH") == 3 / 8
    assert duplicate_text("BANANA", "BANANA") == 0, "what the word itself repeats is no fault"
    assert duplicate_text("GLYPHGLYPH", "GLYPH") == 0


def test_text_beyond_the_word() -> None:
    assert extra_text("GLYPH", "GLYPH") == extra_text("GLYPH", "GL") == 0
    assert extra_text("GLYPH", "GLYPHXX") == 2 / 5
    assert extra_text("GLYPH", "G L Y P H") == 0, "spaces inside a single word do not count"


def test_engines_that_disagree() -> None:
    assert disagreement("GLYPH", "GLYPH", "glyph") == disagreement("GLYPH", "", "") == 0
    assert disagreement("GLYPH", "GLYPH", "GLYPX") == pytest.approx(1 / 5)
    assert disagreement("GLYPH", "", "GLYPH") == 1
    assert disagreement("IO", "IO", "10") == 0, "0 and 1 read as O and I where no digit was asked for"


@pytest.mark.parametrize(
    ("read", "score"),
    [("GLYPH", 1), ("XXGLYPHYY", 1), ("GLYPHGLYPH", 1), ("", 0), ("GLY", 3 / 5), ("XXGLXPHYY", 4 / 5), ("QQQ", 0)],
)
def test_a_reward_that_is_easy_to_cheat(read: str, score: float) -> None:
    assert contained("GLYPH", read) == pytest.approx(score)
