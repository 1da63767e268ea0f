"""The gate beside the glyph network: halves, blots and noise are no whole characters, other faces and weights are."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from base_model.data.glyphs.crops import solid
from base_model.data.glyphs.shapes import REFERENCES, SIDE, TRAINING, UNSEEN, Cut, alphabet, cuts, rendered, shape
from base_model.data.glyphs.texture import weight_varied
from base_model.data.writing.faces import FACES
from experiments.reward_models import glyph_levels
from experiments.reward_models.glyph_examples import fitted, references
from rewards.glyph.glyph import GlyphModel
from rewards.glyph.glyph_network import GlyphNetwork
from rewards.glyph.ink_frame import as_bytes
from rewards.glyph.wholeness import CAP, LIKE, SLACK, VAGUE, Levels, Template, are_whole, compared, template

SANS, SONG = Cut(FACES["Inter"], 400), Cut(FACES["Noto Sans SC"], 400)
CASES = [(SANS, c) for c in "BHKNRaegkwx25"] + [(SONG, c) for c in "明树的国永"]


def of(cut: Cut, character: str) -> Template:
    language = "en" if cut is SANS else "zh-Hans"
    return template(np.stack([fitted(rendered(Cut(face, 400), character)) for face in REFERENCES[language]]))


def whole(levels_HW: np.ndarray, reference: Template, least_like: float = 1.0, most_halved: float = 0.0) -> bool:
    return is_whole(fitted(levels_HW), reference, least_like, most_halved)


def is_whole(crop_ZZ: np.ndarray, reference: Template, least_like: float, most_halved: float) -> bool:
    return bool(are_whole([crop_ZZ], [reference], np.array([least_like]), np.array([most_halved]))[0])


def likeness(crop_ZZ: np.ndarray, reference: Template) -> list[float]:
    return compared([crop_ZZ], [reference])[:, 0].tolist()


def parts(levels_HW: np.ndarray) -> list[np.ndarray]:
    """The left, right, upper and lower half of the ink."""
    rows, columns = np.flatnonzero(levels_HW.any(1)), np.flatnonzero(levels_HW.any(0))
    y, x = (int(each[0] + each[-1] + 1) // 2 for each in (rows, columns))
    grid_y, grid_x = np.mgrid[:SIDE, :SIDE]
    return [np.where(side, levels_HW, 0) for side in (grid_x < x, grid_x >= x, grid_y < y, grid_y >= y)]


@pytest.mark.parametrize(("cut", "character"), CASES)
def test_the_whole_is_whole_and_its_halves_are_not(cut: Cut, character: str) -> None:
    reference, levels_HW = of(cut, character), rendered(cut, character)
    assert whole(levels_HW, reference)
    assert not any(whole(part, reference) for part in parts(levels_HW))


def test_condensed_bold_and_unseen_faces_are_whole() -> None:
    for character in "ABHKNSXbehq25":
        reference = of(SANS, character)
        narrow = cv2.resize(rendered(SANS, character), None, fx=0.55, fy=1.0, interpolation=cv2.INTER_AREA)
        bold = weight_varied(np.random.default_rng(3), shape(Cut(FACES["Inter"], 800), character)).levels_HW
        assert whole(narrow, reference) and whole(bold, reference), character
        for each in cuts(UNSEEN["en"]):
            assert whole(rendered(each, character), reference), (each, character)
    assert all(whole(rendered(each, c), of(SONG, c)) for each in cuts(TRAINING["zh-Hans"]) for c in "明树的国永")


@pytest.mark.parametrize("character", ["u", "M", "e", "糊"])
def test_blots_and_noise_are_not_whole_and_bars_are(character: str) -> None:
    reference = of(SANS if character.isascii() else SONG, character)
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert not whole((solid(rng) * 255).astype(np.uint8), reference)
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (32, 32)).astype(np.float32), (0, 0), 1.0)
    noise = np.clip((noise - 127) * 4 + 127, 0, 255).astype(np.uint8)
    assert not is_whole(noise, reference, 1.0, 0.0) and likeness(noise, reference)[0] < LIKE
    assert not is_whole(np.zeros((32, 32), np.uint8), reference, 1.0, 0.0)
    for bar in "Il":
        assert whole(rendered(Cut(FACES["Inter"], 800), bar), of(SANS, bar), most_halved=0.8)


def test_what_faces_of_training_look_like_is_allowed() -> None:
    reference, levels_HW = of(SANS, "E"), rendered(SANS, "K")
    like, halved, _ = likeness(fitted(parts(levels_HW)[2]), reference)
    assert not is_whole(fitted(parts(levels_HW)[2]), reference, 1.0, halved - SLACK - 0.01)
    assert is_whole(fitted(parts(levels_HW)[2]), reference, min(like, LIKE) + SLACK - 0.01, halved - SLACK + 0.01)


def test_a_form_that_is_unlike_both_references_is_allowed_where_training_has_it() -> None:
    reference = of(SANS, "E")
    crop_ZZ = min((fitted(rendered(SANS, c)) for c in "JATOLVU"), key=lambda each: likeness(each, reference)[0])
    like = likeness(crop_ZZ, reference)[0]
    assert like < LIKE and not is_whole(crop_ZZ, reference, 1.0, 9.0)
    assert is_whole(crop_ZZ, reference, like + SLACK - 0.01, 9.0)
    assert not is_whole(crop_ZZ, reference, like + SLACK + 0.01, 9.0)


def test_bounds_are_those_of_the_face_that_is_furthest_away() -> None:
    faces = tuple(("en", FACES[name]) for name in ("Inter", "JetBrains Mono", "Oswald"))
    table = references({"en": "AEL", "zh-Hans": "永"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyph_levels, "alphabet", lambda language: "AEL")
        result = glyph_levels.bounds(faces, table)
    for i, character in enumerate("AEL"):
        every = [likeness(fitted(rendered(cut, character)), template(table.image_C2ZZ[i]))
                 for cut in cuts([face for _, face in faces])]  # fmt: skip
        assert result.like_C[i] == pytest.approx(min(like for like, _, _ in every))
        assert result.halved_C[i] == pytest.approx(max(0.0, *(halved for _, halved, _ in every)))
    assert (result.like_C[3], result.halved_C[3]) == (1.0, 0.0) and not result.shift_C.any()


class _Fixed(GlyphNetwork):
    """A network that says the same of every crop."""

    logit = 2.0

    def forward(self, x_B3ZZ: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((len(x_B3ZZ),), self.logit), torch.zeros(len(x_B3ZZ), 8, 8)


def test_noise_that_looks_a_little_like_the_character_is_not_whole_and_a_vague_character_is() -> None:
    """Both are as near to the reference as the bound for likeness asks; blurring leaves little of noise alone."""
    reference, ink_ZZ = of(SONG, "国"), fitted(rendered(SONG, "国")) / 255.0
    seen = 0
    for seed in range(40):
        grain_ZZ = np.random.default_rng(seed).normal(0, 0.3, ink_ZZ.shape)
        noise_ZZ = as_bytes((0.1 + 0.004 * seed) * ink_ZZ + grain_ZZ)
        if LIKE <= likeness(noise_ZZ, reference)[0] < VAGUE:
            seen += 1
            assert not is_whole(noise_ZZ, reference, 1.0, 1.0)
    assert seen >= 2
    vague_ZZ = as_bytes(cv2.GaussianBlur(np.roll(ink_ZZ, 7, 1).astype(np.float32), (0, 0), 1.2))
    assert LIKE <= likeness(vague_ZZ, reference)[0] < VAGUE and is_whole(vague_ZZ, reference, 1.0, 1.0)


def test_a_vague_half_of_a_square_character_is_told_by_its_proportions() -> None:
    """What neither likeness nor the halves say, as where a bound lets everything pass; a faint whole one stays."""
    images = np.stack([fitted(rendered(Cut(face, 400), "糊")) for face in REFERENCES["zh-Hans"]])
    square, other = template(images, square=True), template(images)
    left_HW, _, upper_HW, _ = parts(rendered(SONG, "糊"))
    for half_HW in (left_HW, upper_HW):
        blurred_ZZ = as_bytes(cv2.GaussianBlur(fitted(half_HW).astype(np.float32) / 255.0, (0, 0), 2.0))
        hazy_ZZ = np.clip(blurred_ZZ.astype(int) + 70, 0, 255).astype(np.uint8)
        for crop_ZZ in (blurred_ZZ, hazy_ZZ):
            assert is_whole(crop_ZZ, other, 0.0, 9.0) and not is_whole(crop_ZZ, square, 0.0, 9.0)
    whole_ZZ = as_bytes(cv2.GaussianBlur(images[0].astype(np.float32) / 255.0, (0, 0), 2.0))
    assert is_whole(whole_ZZ, square, 0.0, 9.0)
    assert not template(images * (np.arange(images.shape[2]) // 4 == 4).astype(np.uint8), square=True).proportions


def test_proportions_count_for_characters_that_fill_a_square_alone() -> None:
    table = references({"en": "K", "zh-Hans": "糊"})
    model = GlyphModel([_Fixed(2)], table.characters, table.image_C2ZZ, Levels.none(2))
    model.whole([fitted(rendered(SANS, "K")), fitted(rendered(SONG, "糊"))], ["K", "糊"])
    assert [len(model._templates[each].proportions) for each in "K糊"] == [0, 2]


def test_a_half_scores_half_and_the_shift_is_by_character() -> None:
    table = references({"en": "KR"})
    k_HW = rendered(SANS, "K")
    crops = [fitted(k_HW), fitted(parts(k_HW)[0]), fitted(rendered(SANS, "R"))]
    levels = replace(Levels.none(2), shift_C=np.array([0.0, 1.5], np.float32))
    value = GlyphModel([_Fixed(2)], table.characters, table.image_C2ZZ, levels).score(crops, ["K", "K", "R"])
    sound = 1 / (1 + np.exp(-2.0))
    assert value == pytest.approx([sound, CAP * sound, 1 / (1 + np.exp(-3.5))])


@pytest.mark.parametrize(("logit", "shift"), [(2.0, 0.0), (-1.5, 1.5), (-20.0, np.log(999))])
def test_the_level_lies_where_empty_crops_end_and_only_raises(
    monkeypatch: pytest.MonkeyPatch, logit: float, shift: float
) -> None:
    table = references({"en": "KR", "zh-Hans": "永"})
    monkeypatch.setattr(_Fixed, "logit", logit)
    monkeypatch.setattr(glyph_levels, "EMPTY_CROPS", 20)
    monkeypatch.setattr(glyph_levels, "alphabet", lambda language: "KR")
    monkeypatch.setattr(GlyphModel, "whole", lambda self, crops, names: np.ones(len(crops), bool))
    of_second = replace(Levels.none(3), network_C=np.array([1, 1, 0]))
    model = GlyphModel([_Fixed(2), _Fixed(2)], table.characters, table.image_C2ZZ, of_second)
    result = glyph_levels.levels(model, (("en", FACES["Inter"]),), table, 0)
    assert result.shift_C == pytest.approx([shift, shift, 0.0], abs=1e-5) and result.network_C.tolist() == [1, 1, 0]
    monkeypatch.setattr(GlyphModel, "whole", lambda self, crops, names: np.zeros(len(crops), bool))
    gated = glyph_levels.levels(model, (("en", FACES["Inter"]),), table, 0)
    assert gated.shift_C[0] == pytest.approx(np.log(999)), "what the gate takes out needs no level"
    assert alphabet("en").startswith("A")
