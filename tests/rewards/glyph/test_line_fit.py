"""Characters beside their neighbours: whole words of any face stand in line, half of a letter of theirs does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from base_model.data.glyphs.shapes import REFERENCES, TRAINING, UNSEEN, Cut, cuts
from base_model.data.writing.faces import FACES, font
from experiments.reward_models.glyph_examples import references
from rewards.glyph.glyph import GlyphModel
from rewards.glyph.glyph_network import GlyphNetwork
from rewards.glyph.line_fit import stand_in_line
from rewards.glyph.locate import Cell
from rewards.glyph.wholeness import CAP, Levels

INTER = Cut(FACES["Inter"], 400)
UPPER, LOWER, LEFT = "upper", "lower", "left"


def boxes(cut: Cut, text: str, size: int = 40) -> np.ndarray:
    """Left, top, width and height [N, 4] of the ink of a line's characters."""
    type_face = font(cut.face, cut.weight, size)
    every = [type_face.getbbox(character, anchor="ls") for character in text]
    return np.array([(left, 60 + top, right - left, bottom - top) for left, top, right, bottom in every])


def halved(box_N4: np.ndarray, i: int, side: str) -> np.ndarray:
    result_N4 = box_N4.astype(float)
    result_N4[i, 2 if side == LEFT else 3] /= 2
    if side == LOWER:
        result_N4[i, 1] += result_N4[i, 3]
    return result_N4


def of(text: str) -> np.ndarray:
    table = references({"zh-Hans" if text[0] > "z" else "en": text})
    return table.box_C23[[table.index()[character] for character in text]]


def test_the_boxes_are_those_of_the_references() -> None:
    for language, text in (("en", "Hgx"), ("zh-Hans", "国")):
        for face, reference_N3 in zip(REFERENCES[language], of(text).transpose(1, 0, 2), strict=True):
            box_N4 = boxes(Cut(face, 400), text, 200) / 200
            up_N, down_N = 0.3 - box_N4[:, 1], 0.3 - box_N4[:, 1] - box_N4[:, 3]
            np.testing.assert_allclose(reference_N3, np.stack([up_N, down_N, box_N4[:, 2]], 1), atol=0.011)


@pytest.mark.parametrize("text", ["HOKE", "gate", "Exit24", "明国树"])
def test_words_of_any_face_stand_in_line(text: str) -> None:
    language = "zh-Hans" if text[0] > "z" else "en"
    for cut in cuts([*TRAINING[language], *UNSEEN[language]]):
        if cut.face.name != "Playfair Display" or text.isalpha():  # which has digits with descenders
            assert stand_in_line(boxes(cut, text, 18), of(text)).all(), cut


@pytest.mark.parametrize("text", ["HOKE", "bdhk", "明国树"])
@pytest.mark.parametrize("side", [UPPER, LOWER, LEFT])
def test_half_a_character_does_not(text: str, side: str) -> None:
    face = FACES["Inter" if text.isascii() else "Noto Sans SC"]
    for i in range(len(text)):
        one_N = np.arange(len(text)) != i
        assert stand_in_line(halved(boxes(Cut(face, 400), text), i, side), of(text)).tolist() == one_N.tolist(), i


def test_of_two_the_larger_is_whole_and_one_alone_always() -> None:
    assert stand_in_line(halved(boxes(INTER, "HO"), 0, UPPER), of("HO")).tolist() == [False, True]
    assert stand_in_line(halved(boxes(INTER, "H"), 0, UPPER), of("H")).all()
    quarter_N4 = halved(halved(boxes(INTER, "HO"), 0, LEFT), 0, LEFT)
    assert stand_in_line(quarter_N4, of("HO")).all(), "two are too few to compare widths"
    assert stand_in_line(halved(boxes(INTER, "HOKE"), 0, UPPER), np.full((4, 2, 3), np.nan)).all()


def test_a_stroke_is_as_wide_as_its_face_makes_it() -> None:
    narrow_N4 = boxes(INTER, "HIKE")
    narrow_N4[1, 2] = 1
    assert stand_in_line(narrow_N4, of("HIKE")).all()


def test_a_half_scores_half_beside_its_neighbours_alone_and_on_another_line_in_full() -> None:
    table = references({"en": "HOK"})
    model = GlyphModel([GlyphNetwork(2)], table.characters, table.image_C2ZZ)
    beside = replace(Levels.none(3), box_C23=table.box_C23)
    compared = GlyphModel(model.networks, table.characters, table.image_C2ZZ, beside)
    level_HW = np.zeros((60, 40), np.float32)
    level_HW[20:48, 4:12] = 1
    half_HW = level_HW.copy()
    half_HW[34:] = 0
    word = [Cell("H", level_HW), Cell("O", level_HW), Cell("K", half_HW)]
    alone = model.score_cells(word)
    np.testing.assert_allclose(compared.score_cells(word), alone * [1, 1, CAP])
    apart = [*word[:2], Cell("K", half_HW, 1), Cell("O", None)]
    np.testing.assert_allclose(compared.score_cells(apart), [*alone, 0])
