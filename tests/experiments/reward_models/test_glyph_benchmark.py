"""The benchmarks of `glyph`: what the two truths call broken, and which halves are whole characters of another face."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from base_model.data.glyphs.crops import HALF, Source
from base_model.data.glyphs.crops import SOUND as WHOLE
from base_model.data.glyphs.shapes import Cut, rendered
from base_model.data.glyphs.texture import CLEAN
from base_model.data.rendered_text import COLOURS, Scene, render
from base_model.data.writing.faces import FACES
from experiments.benchmarks import glyph as benchmark
from experiments.benchmarks.glyph_samples import (
    BROKEN,
    FITTED_BROKEN,
    FITTED_SOUND,
    SOUND,
    Letter,
    Sampled,
    fitted_error,
    letters,
    summary,
)
from experiments.reward_models.glyph_examples import fitted, made, references

SCENE = Scene("KRO", "", "sans", "large", "red", "grey", "middle", "centre")


def measured(change: np.ndarray | None = None, erased: tuple[slice, slice] | None = None) -> list[Letter]:
    """The letters of the scene's rendering after an affine change of the image, with a part of it erased."""
    image_HW3 = render(SCENE).transpose(1, 2, 0).copy()
    if erased:
        image_HW3[erased] = COLOURS[SCENE.background]
    if change is not None:
        image_HW3 = cv2.warpAffine(image_HW3, change, image_HW3.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return letters(SCENE, image_HW3)


def about_the_middle(x: float, y: float) -> np.ndarray:
    """A scaling of the image about its middle."""
    return np.array([[x, 0, 48 * (1 - x)], [0, y, 16 * (1 - y)]])


def test_a_rendering_is_sound_by_both_truths() -> None:
    assert all(each.error == 0 and each.fitted < 1e-3 for each in measured())


@pytest.mark.parametrize(
    "change", [about_the_middle(1, 0.8), about_the_middle(1, 1.15), np.array([[1.0, 0, 0], [0, 1, 3]])]
)
def test_a_sound_letter_of_another_size_or_place_is_broken_by_the_plain_truth_alone(change: np.ndarray) -> None:
    for each in measured(change):
        assert each.error > BROKEN and each.fitted < FITTED_SOUND


def test_a_letter_that_lost_a_part_is_broken_by_both() -> None:
    whole = measured()
    broken = measured(erased=(slice(0, 16), slice(0, 96)))  # the upper half
    for each in broken:
        assert each.error > BROKEN and each.fitted > FITTED_BROKEN
    assert all(each.fitted <= each.error for each in whole + broken)


@pytest.mark.parametrize("scale", [0.65, 1.45])
def test_a_letter_far_smaller_or_larger_is_fitted_by_no_bound(scale: float) -> None:
    ground, true_HW3 = COLOURS["white"], np.full((60, 60, 3), 250, np.uint8)
    true_HW3[20:40, 20:40] = 0
    true_HW3[24:30, 24:36] = 250
    other_HW3 = cv2.warpAffine(
        true_HW3, np.array([[scale, 0, 30 * (1 - scale)], [0, scale, 30 * (1 - scale)]]), (60, 60),
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    nearer = 1 + 0.4 * (scale - 1)
    near_HW3 = cv2.warpAffine(
        true_HW3, np.array([[nearer, 0, 30 * (1 - nearer)], [0, nearer, 30 * (1 - nearer)]]), (60, 60),
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    assert fitted_error(other_HW3, true_HW3, ground) == 1.0 and fitted_error(near_HW3, true_HW3, ground) < FITTED_SOUND


def test_nothing_there_is_broken_by_both() -> None:
    assert [(each.error, each.fitted) for each in measured(erased=(slice(None), slice(None)))] == [(1.0, 1.0)] * 3


def test_the_lowest_are_counted_by_either_truth_among_spelt_words_alone() -> None:
    """Ten letters broken by the plain truth alone, in words that are misread; ten broken by both; ten sound."""
    error_N = np.repeat([0.2, 0.3, 0.01], 10)
    fitted_N = np.repeat([0.01, 0.08, 0.0], 10)
    word_N, value_N = np.arange(30), np.linspace(0, 1, 30)
    letter_N6 = np.stack([word_N, error_N, value_N, value_N, word_N % 5, fitted_N], 1)
    read = (word_N >= 10).astype(float)
    row = summary(Sampled({"ocr": read, "gold": read, "glyph": value_N, "error": error_N}, letter_N6, []))
    assert (row["broken"], row["fitted_broken"], row["broken_spelt"], row["letters_spelt"]) == (20, 10, 10, 20)
    assert row["lowest_24"] == pytest.approx(20 / 24) and row["fitted_lowest_24"] == pytest.approx(10 / 24)
    assert row["lowest_24_spelt"] == pytest.approx(10 / 20)
    assert row["auc"] == 1.0 and row["fitted_auc"] == pytest.approx(0.5) and row["fitted_auc_spelt"] == 1.0
    assert SOUND > FITTED_SOUND


def test_a_half_is_whole_where_a_face_has_it_and_not_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an E or K is neither in a face; the lower half of a thin V is a bold V."""
    monkeypatch.setattr(benchmark, "SOUND_CROPS", 60)
    table = references({"en": "EKV"})
    source = Source((("en", FACES["Inter"]),), (("en", "EK"),), sound=0.5, empty=0.5, conditions=CLEAN, seed=4)
    labelled = made(source, 120, table)
    kinds = np.array(labelled.kinds)
    whole = benchmark.whole_somewhere(source, labelled, table)
    assert whole[kinds == WHOLE].mean() > 0.85 and not whole[kinds == HALF].any()
    like = benchmark.likeness_to_faces(labelled, [FACES["Inter"]])
    assert like[kinds == WHOLE].min() > 0.9 > like[kinds == HALF].max()
    faint_ZZ = labelled.examples.crop_NZZ[0] // 2
    same = [benchmark.out_of_focus(each) for each in (faint_ZZ, faint_ZZ + 60)]  # a haze is no likeness
    np.testing.assert_allclose(*same, atol=1e-5)
    v_HW = rendered(Cut(FACES["Inter"], 400), "V").copy()
    rows = np.flatnonzero(v_HW.any(1))
    v_HW[: (rows[0] + rows[-1]) // 2] = 0
    examples = replace(labelled.examples, crop_NZZ=np.repeat(fitted(v_HW)[None], 120, 0))
    lower = replace(labelled, examples=examples, characters=["V"] * 120)
    assert benchmark.whole_somewhere(source, lower, table).all()
