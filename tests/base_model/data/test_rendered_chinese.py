"""Chinese scenes: characters, the split by pairs, masks, captions and their tokens."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from base_model.data import rendered_chinese as chinese
from base_model.data.rendered_text import CHINESE, COMMON_CHINESE, Scene, complete, render, scene
from base_model.data.stream import CaptionNoise, Stage, TextStream
from base_model.data.writing import faces
from base_model.qwen.byte_encoder import MAX_LETTERS, token_vectors
from preference_data.records import Prompt

STREAM = TextStream(seed=4, stages=(Stage(0, (0,) * CHINESE + (1,)),))


def pairs(word: str) -> list[str]:
    return [a + b for a, b in itertools.pairwise(word)]


def test_there_are_300_characters_and_every_face_writes_each_in_its_own_way():
    assert len(chinese.CHARACTERS) == len(set(chinese.CHARACTERS)) == 300
    for face, (name, _) in chinese.FACES.items():
        assert not [c for c in chinese.CHARACTERS if faces.undrawable(faces.FACES[name], c)]
        masks = {np.asarray(chinese.glyph(c, face, 30)).tobytes() for c in chinese.CHARACTERS}
        assert len(masks) == 300


@pytest.mark.parametrize("size", chinese.SIZES.values())
@pytest.mark.parametrize("face", chinese.FACES)
def test_no_character_is_cut_off_by_its_cell(face, size):
    for character in chinese.CHARACTERS:
        wide = Image.new("L", (96, 96))
        place = (48, 32 + chinese.line_of(size))
        ImageDraw.Draw(wide).text(place, character, fill=255, font=chinese.font(face, size), anchor="ms")
        assert np.asarray(wide).sum() == np.asarray(chinese.glyph(character, face, size)).sum() > 0, character


def test_training_shows_no_pair_that_is_held_out_and_evaluation_no_other():
    shown = [s.word for s in STREAM.scenes(0, 3000)[0]]
    assert {len(word) for word in shown} == {1, 2, 3} and {c for word in shown for c in word} == set(chinese.CHARACTERS)
    assert not [word for word in shown if any(map(chinese.is_heldout_pair, pairs(word)))]
    asked = [scene(np.random.default_rng(i), CHINESE, heldout=True).word for i in range(200)]
    assert {len(word) for word in asked} == {2, 3} and all(chinese.is_heldout_pair(p) for w in asked for p in pairs(w))
    every = [a + b for a, b in itertools.product(chinese.CHARACTERS, repeat=2)]
    assert abs(np.mean([chinese.is_heldout_pair(pair) for pair in every]) - 26 / 256) < 0.005
    with pytest.raises(ValueError, match="at least 2 characters, not 1"):
        chinese.choose_string(np.random.default_rng(0), 1, 3, heldout=True)


def test_captions_name_all_that_is_free():
    scenes = STREAM.scenes(0, 2000)[0]
    for name, values in (("face", chinese.FACES), ("size", chinese.SIZES), ("column", ("left", "centre", "right"))):
        count = Counter(getattr(s, name) for s in scenes)
        assert set(count) == set(values) and min(count.values()) > 500
    assert all(s.caption.startswith(f'the word "{s.word}" in {s.ink} {s.face}, {s.size}, middle') for s in scenes)
    assert Prompt.from_text(scenes[0].caption).spans == (scenes[0].word,)
    different = {s.caption: render(s).tobytes() for s in scenes if len(s.word) < 3}  # three fill the image
    assert len(set(different.values())) == len(different)


def test_a_short_prompt_for_a_string_is_completed_as_one_for_a_word_is():
    assert complete("the word 中大 in red") == 'the word "中大" in red sans, large, middle centre, on white'
    assert complete('"中" in heavy, left, on pink').startswith('the word "中" in black heavy, large, middle left, on')
    for index in range(40):
        caption = scene(np.random.default_rng(index), CHINESE).caption
        assert complete(caption) == caption


def test_characters_stand_in_cells_in_the_asked_column():
    for column, first in (("left", 0), ("centre", 32), ("right", 64)):
        image = render(Scene("中", "", "sans", "large", "black", "white", "middle", column))
        dark = np.flatnonzero((image < 128).any((0, 1)))
        assert first <= dark.min() and dark.max() < first + 32
    with pytest.raises(ValueError, match="needs 4 cells, an image has 3"):
        render(Scene("中大上下", "", "sans", "large", "black", "white", "middle", "left"))


def test_a_character_is_one_token_that_says_which_it_is_and_where_it_stands():
    rows = token_vectors("中大中")
    assert rows.shape[0] == 4 and not torch.equal(rows[0], rows[2])
    code, letters, places = rows[:3].split([96, 26, 2 * MAX_LETTERS + 1], dim=1)
    assert torch.equal(code[0], code[2]) and not torch.equal(code[0], code[1]) and not letters.any()
    assert places.nonzero().tolist() == [[0, 0], [0, 14], [1, 1], [1, 13], [2, 2], [2, 12]]
    codes = torch.stack([token_vectors(c)[0, :96] for c in chinese.CHARACTERS])
    alike = torch.corrcoef(codes) - torch.eye(300)
    assert alike.abs().max() < 0.5, "two characters have codes that are nearly the same"
    with pytest.raises(ValueError, match="has 13 letters; this preset writes at most 12"):
        token_vectors("中" * 13)


def test_kana_are_characters_of_a_word_as_chinese_ones_are():
    rows = token_vectors("お茶のパーティ")
    assert rows.shape[0] == 8 and len({tuple(row.tolist()) for row in rows[:, :96]}) == 8
    with pytest.raises(ValueError, match="the characters '・'"):
        token_vectors("パー・ティ")


def test_a_wrong_caption_spells_another_string_of_chinese_characters():
    stream = TextStream(seed=4, stages=STREAM.stages, noise=CaptionNoise(misspelt=1.0))
    scenes, captions = stream.scenes(0, 200)
    spelled = [Prompt.from_text(caption).spans[0] for caption in captions]
    assert all(chinese.is_chinese(text) and text != s.word for text, s in zip(spelled, scenes, strict=True))
    assert {c for text in spelled for c in text} <= set(chinese.CHARACTERS)


def test_chinese_captions_may_be_wrong_more_often_than_english_ones():
    stages = (Stage(0, (0, 0, 0, 0, 1, 0, 1)),)
    noise = CaptionNoise(misspelt=0.0, misspelt_chinese=0.4)
    scenes, captions = TextStream(seed=4, stages=stages, noise=noise).scenes(0, 600)
    wrong = {True: [], False: []}
    for each, caption in zip(scenes, captions, strict=True):
        wrong[chinese.is_chinese(each.word)].append(caption != each.caption)
    assert not any(wrong[False]) and len(wrong[False]) > 200
    assert abs(np.mean(wrong[True]) - 0.4) < 0.12
    alike = replace(noise, misspelt=0.4, misspelt_chinese=None)
    assert (
        TextStream(seed=4, stages=stages, noise=alike).scenes(0, 200)[1]
        == (TextStream(seed=4, stages=stages, noise=replace(alike, misspelt_chinese=0.4)).scenes(0, 200)[1])
    )


def test_both_engines_read_what_is_rendered():
    from rewards.text.ocr import Ocr, OcrGold

    scenes = [scene(np.random.default_rng(i), CHINESE, heldout=True) for i in range(24)]
    prompts = [Prompt.from_text(s.caption) for s in scenes]
    images = np.stack([render(s) for s in scenes])
    for engine in (Ocr(), OcrGold()):
        assert engine.load()(prompts, images).parts["exact"].mean() == 1.0


def test_the_common_level_keeps_to_the_first_200_characters_and_shows_them_all():
    words = [scene(np.random.default_rng(i), COMMON_CHINESE).word for i in range(2500)]
    assert set("".join(words)) == set(chinese.CHARACTERS[: chinese.COMMON]) and chinese.COMMON == 200
    asked = [scene(np.random.default_rng(i), COMMON_CHINESE, heldout=True).word for i in range(300)]
    assert all(chinese.is_heldout_pair(pair) for word in asked for pair in pairs(word))
