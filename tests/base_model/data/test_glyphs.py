"""Characters that are broken by rule: each kind breaks, what is sound stays so, and what is held out is held out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from base_model.data.glyphs.crops import BLANK, HALF, SOLID, SOUND, Source, crop, half
from base_model.data.glyphs.damage import KINDS, LEAST_CHANGE, broken, change, share_changed
from base_model.data.glyphs.shapes import (
    HELD_OUT,
    LATIN,
    SIDE,
    TRAINING,
    UNSEEN,
    Cut,
    alphabet,
    chinese,
    cuts,
    rendered,
    shape,
)
from base_model.data.glyphs.texture import CLEAN

SANS, SONG = Cut(TRAINING["en"][0], 400), Cut(TRAINING["zh-Hans"][0], 400)
PAIRS = ((SANS, "R", "H"), (SANS, "e", "g"), (SONG, "明", "树"))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_breaks_letters_and_characters_of_many_strokes(kind: str) -> None:
    for cut, character, other in PAIRS:
        sound = shape(cut, character)
        before = sound.levels_HW.copy()
        rng = np.random.default_rng(0)
        shares = []
        for _ in range(6):
            mask_HW = KINDS[kind](rng, sound, shape(cut, other))
            assert mask_HW.shape == (SIDE, SIDE) and mask_HW.min() >= 0 and mask_HW.max() <= 1 + 1e-6
            shares.append(share_changed(sound.mask_HW, change(sound.mask_HW, mask_HW.astype(np.float32))))
        assert max(shares) > LEAST_CHANGE, (kind, character)
        assert len(set(shares)) > 1, "no two breaks are alike"
        np.testing.assert_array_equal(sound.levels_HW, before)  # the shape is shared by all crops of it


@pytest.mark.parametrize(("kind", "sign"), [("cut", -1), ("gap", -1), ("thin", -1), ("add", 1), ("merge", 1)])
def test_a_kind_takes_ink_away_or_adds_it(kind: str, sign: int) -> None:
    for cut, character, other in PAIRS:
        sound = shape(cut, character)
        rng = np.random.default_rng(1)
        for _ in range(5):
            mask_HW = KINDS[kind](rng, sound, shape(cut, other))
            assert (sign * (mask_HW - sound.mask_HW)).min() > -1e-3 and (mask_HW != sound.mask_HW).any()


def test_what_is_called_broken_changed_enough_to_be_seen_and_says_where() -> None:
    rng = np.random.default_rng(2)
    sound, other = shape(SANS, "E"), shape(SANS, "O")
    for kind in KINDS:
        named, mask_HW, changed_HW = broken(rng, sound, other, (kind,))
        assert share_changed(sound.mask_HW, changed_HW) >= LEAST_CHANGE and named in (kind, "ghost")
        assert np.abs(mask_HW - sound.mask_HW)[changed_HW < 1e-3].sum() < 4.0


def test_the_middle_line_of_a_stroke_is_in_its_middle() -> None:
    stem = shape(SANS, "l")
    columns = np.flatnonzero(stem.levels_HW.max(0) > 127)
    assert abs(float(stem.skeleton_N2[:, 1].mean()) - columns.mean()) < 1.0
    assert stem.half == pytest.approx(len(columns) / 2, abs=1.5)


def test_faces_and_characters_that_are_held_out_are_in_no_training() -> None:
    assert not {face.name for face in UNSEEN["en"]} & {face.name for face in TRAINING["en"]}
    learned, other = set(chinese()), set(chinese(held_out=True))
    assert not learned & other and len(other) == len(learned) // HELD_OUT
    source = Source(seed=3)
    seen = [crop(source, i) for i in range(60)]
    assert {c.face for c in seen} <= {face.name for faces in TRAINING.values() for face in faces}
    assert {c.character for c in seen} <= learned | set(LATIN)
    assert {c.language for c in seen} == {"en", "zh-Hans"}


def test_a_crop_is_a_function_of_seed_and_index() -> None:
    one, again, other = crop(Source(seed=1), 7), crop(Source(seed=1), 7), crop(Source(seed=2), 7)
    assert one.image_HW3.tobytes() == again.image_HW3.tobytes() and one.kind == again.kind
    assert one.image_HW3.shape != other.image_HW3.shape or (one.image_HW3 != other.image_HW3).any()


def test_sound_crops_are_whole_everywhere_and_shares_are_kept() -> None:
    kinds = [crop(Source(seed=4), i).kind for i in range(120)]
    assert abs(kinds.count(SOUND) / 120 - Source().sound) < 0.1
    empty = sum(kinds.count(each) for each in (BLANK, HALF, SOLID)) / 120
    assert 0.03 < empty < 0.2 and {HALF} < set(kinds) and len(set(kinds) & set(KINDS)) > 8
    for i in range(5):
        sound = crop(dataclasses.replace(Source(), sound=1.0, empty=0.0), i)
        assert not sound.broken_HW.any()


def test_texture_is_on_sound_and_broken_characters_alike() -> None:
    """Nothing but the shape may tell them apart: the noise beside the ink is the same for both."""

    def grain(source: Source) -> float:
        corners = [crop(source, i).image_HW3[:3, :3].astype(float).std(axis=(0, 1)).mean() for i in range(80)]
        return float(np.mean(corners))

    sound = grain(Source(sound=1.0, empty=0.0, seed=5))
    bad = grain(Source(sound=0.0, empty=0.0, kinds=("cut", "gap", "shift"), seed=5))
    assert sound == pytest.approx(bad, rel=0.4) and sound > 1.0


def test_half_a_character_is_half_of_it() -> None:
    sound = shape(SANS, "O")
    for seed in range(4):
        part = half(np.random.default_rng(seed), sound)
        assert 0.4 < part.sum() / sound.mask_HW.sum() < 0.6


def test_clean_conditions_leave_two_colours_and_what_is_between_them() -> None:
    image = crop(Source(sound=1.0, empty=0.0, conditions=CLEAN), 3).image_HW3.reshape(-1, 3).astype(float)
    axis = image[np.argmax(np.abs(image - image[0]).sum(1))] - image[0]
    off = (image - image[0]) - np.outer((image - image[0]) @ axis / (axis @ axis), axis)
    assert np.abs(off).max() < 1.5


def test_a_face_without_a_character_says_so() -> None:
    with pytest.raises(ValueError, match=r"Inter: '中' .* not in the face"):
        rendered(SANS, "中")
    with pytest.raises(ValueError, match="none of the characters"):
        crop(Source(faces=(("en", SANS.face),), characters=(("en", "中文"),)), 0)
    with pytest.raises(ValueError, match="kinds of damage are cut, gap"):
        Source(kinds=("cut", "scratch"))
    assert len(cuts(TRAINING["en"])) > 15 and alphabet("en") == LATIN
