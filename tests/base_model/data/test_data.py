"""The stream of captioned images: addresses, the held-out split, what captions say, and producers."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from base_model.data import latents, rendered_text
from base_model.data.curriculum import Curriculum
from base_model.data.latents import EncodedStream, LatentStream, Producers, encode_images
from base_model.data.mixture import Mix, TaskStream
from base_model.data.rendered_pages import PageStream
from base_model.data.rendered_text import Scene, choose_word, is_heldout, render, scene
from base_model.data.stream import CaptionNoise, Stage, TextStream, misspell
from base_model.files.weights import NANO_VAE, save_vae
from base_model.qwen.model import QwenImage
from base_model.qwen.tokens import unpatchify
from tests.fixtures.tiny.tiny_model import tiny_model, tiny_vae

EVERYTHING = (Stage(0, (1.0, 1.0, 1.0, 1.0, 2.0, 2.0)),)
ANYWHERE = (Stage(0, (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)),)
CLEAN = TextStream(seed=3, stages=EVERYTHING)


@cache
def many() -> tuple[tuple[Scene, str], ...]:
    """4000 scenes of all levels with their captions."""
    return tuple(zip(*CLEAN.scenes(0, 4000), strict=True))


# --- addresses ----------------------------------------------------------------------------------------------------


def test_a_batch_is_a_function_of_its_address():
    first, captions = CLEAN.batch(5, 8)
    CLEAN.batch(6, 8)
    again, same = replace(CLEAN).batch(5, 8)
    assert torch.equal(first, again) and captions == same
    assert first.shape == (8, 3, 32, 96) and first.dtype == torch.uint8
    assert torch.equal(CLEAN.images(5, 8), first)
    for other in (CLEAN.batch(6, 8), replace(CLEAN, seed=4).batch(5, 8)):
        assert not torch.equal(other[0], first) and other[1] != captions


@pytest.mark.parametrize("limit", [0, 5])
def test_batches_of_any_size_cut_one_sequence(limit):
    stream = replace(CLEAN, limit=limit, noise=CaptionNoise(0.3, 0.3, 0.3))
    whole = list(zip(*stream.scenes(0, 12), strict=True))
    for size in (1, 3, 4, 6):
        cut = [list(zip(*stream.scenes(step, size), strict=True)) for step in range(12 // size)]
        assert list(chain.from_iterable(cut)) == whole
    pictures = torch.cat([stream.images(step, 4) for step in range(3)])
    assert torch.equal(pictures, stream.images(0, 12))


def test_a_finite_set_is_encoded_once_and_comes_in_the_order_of_its_stream():
    stream = replace(CLEAN, limit=20, noise=CaptionNoise(0.3, 0.3, 0.3), size=(32, 112))
    data = LatentStream(stream, NANO_VAE)
    kept = EncodedStream(data)
    for step in range(4):  # the second batch crosses into the second pass
        batch, expected = kept.batch(step, 12), data.batch(step, 12)
        assert list(batch.texts) == list(expected.texts) and batch.grids == expected.grids
        torch.testing.assert_close(batch.x0_BSC, expected.x0_BSC, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="only a finite TextStream"):
        EncodedStream(LatentStream(CLEAN, NANO_VAE))


def test_a_finite_stream_repeats_its_pictures_in_a_new_order():
    stream, endless = replace(CLEAN, limit=20), CLEAN.scenes(0, 20)[1]
    sequence = list(chain.from_iterable(stream.scenes(step, 8)[1] for step in range(20)))
    passes = [sequence[i : i + 20] for i in range(0, len(sequence), 20)]
    assert len(passes) == 8 and len(set(endless)) == 20
    assert all(sorted(p) == sorted(endless) for p in passes)
    assert len({tuple(p) for p in passes}) == 8


def test_a_finite_stream_keeps_its_captions_mistakes_and_all():
    """A wrong caption stays the same wrong caption, as in a data set on disk."""
    stream = replace(CLEAN, limit=30, noise=CaptionNoise(0.3, 0.3, 0.3))
    first, second = (sorted(zip(map(repr, s), c, strict=True)) for s, c in (stream.scenes(0, 30), stream.scenes(1, 30)))
    assert first == second
    assert sum(scene.caption != caption for scene, caption in zip(*stream.scenes(0, 30), strict=True)) > 10


def test_curriculum_switches_at_its_step():
    stages = (Stage(0, (1, 0, 0, 0, 0)), Stage(3, (0, 1, 0, 0, 0)), Stage(7, (0, 0, 0.5, 0.5, 0)))
    stream = TextStream(seed=0, stages=stages)
    lengths = [{len(s.word) for s in stream.scenes(step, 60)[0]} for step in range(9)]
    assert lengths[:3] == [{0}] * 3 and lengths[3:7] == [{1}] * 4
    assert all(found == {3, 4, 5} for found in lengths[7:])


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("limit", [0, 5])
def test_a_curriculum_follows_the_updates_of_every_rank(ranks, limit):
    """And together the ranks of an update read one stretch of the stream, none of it twice."""
    stream = TextStream(7, (Stage(0, (1.0,)), Stage(40, (0.0, 0.0, 0.0, 0.0, 1.0))), limit=limit)
    for step, level in ((39, 0), (40, 4), (41, 4)):
        whole = [stream.one(step, index) for _, index in stream.indices(step, 6 * ranks)]
        split = [pair for rank in range(ranks) for pair in zip(*stream.scenes(step, 6, rank, ranks), strict=True)]
        assert split == whole
        assert all(bool(scene.word) == (level > 0) for scene, _ in split), f"update {step} of {ranks} ranks"
    with pytest.raises(ValueError, match="rank=2 must be from 0"):
        stream.batch(0, 4, 2, 2)


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_tasks_follow_the_updates_of_every_rank(ranks):
    stream = TaskStream(CLEAN, (Mix(), Mix(start=40, t2i=0.0, word=1.0)))
    for rank in (0, ranks - 1):
        assert not any(example.source for example in stream.examples(39, 4, rank, ranks))
        assert all(example.source for example in stream.examples(40, 4, rank, ranks))
    texts = [tuple(e.text for e in stream.examples(40, 4, rank, ranks)) for rank in range(ranks)]
    assert len(set(texts)) == ranks


@pytest.mark.parametrize("stream", [CLEAN, PageStream(3, size=(16, 32), heights=(8,))])
def test_ranks_see_different_pictures(stream):
    own = [stream.images(2, 2, rank, 3) for rank in range(3)]
    assert torch.equal(torch.cat(own), stream.images(2, 6))


def test_weights_are_shares():
    stages = (Stage(0, (0.0, 6.0, 0.0, 0.0, 2.0)),)
    single = sum(len(s.word) == 1 for s in TextStream(seed=0, stages=stages).scenes(0, 800)[0])
    assert abs(single - 600) < 4 * math.sqrt(800 * 0.75 * 0.25)


@pytest.mark.parametrize("starts", [(), (1,), (0, 5, 5), (0, 7, 3)])
def test_stages_that_do_not_rise_from_0_are_refused(starts):
    with pytest.raises(ValueError, match="must start at 0 and rise"):
        TextStream(seed=0, stages=tuple(Stage(start, (1, 1, 1, 1, 1)) for start in starts))


# --- the held-out split -------------------------------------------------------------------------------------------


def test_heldout_words_are_never_drawn_for_training():
    words = {s.word for s, _ in many()} | {choose_word(np.random.default_rng(i), 3, 5, False) for i in range(2000)}
    assert len(words) > 3000
    assert not [word for word in words if len(word) > 2 and is_heldout(word)]
    for level in range(rendered_text.CHINESE):  # which has a split of its own (test_rendered_chinese)
        drawn = [scene(np.random.default_rng(i), level).word for i in range(1000)]
        assert not [word for word in drawn if len(word) > 2 and is_heldout(word)]


def test_heldout_words_are_drawn_for_evaluation():
    rng = np.random.default_rng(0)
    words = [scene(rng, 4, heldout=True).word for _ in range(300)]
    assert all(is_heldout(word) and 3 <= len(word) <= 5 for word in words) and len(set(words)) > 200


def test_the_split_is_a_tenth_and_does_not_depend_on_anything_but_the_word():
    words = ["".join(map(chr, 65 + np.random.default_rng(i).integers(26, size=4))) for i in range(5000)]
    share = np.mean([is_heldout(word) for word in words])
    assert abs(share - 26 / 256) < 4 * math.sqrt(0.1 * 0.9 / 5000)
    # sha256 of "ABC" begins with b5 = 181, of "HAT" with aa = 170.
    assert not is_heldout("ABC") and is_heldout("HAT")


def test_wrong_captions_do_not_change_the_pictures():
    """A misspelling may spell a held-out word; the image never shows one."""
    noisy = replace(CLEAN, noise=CaptionNoise(0.5, 0.25, 0.25))
    assert noisy.scenes(0, 300)[0] == CLEAN.scenes(0, 300)[0]
    assert noisy.scenes(0, 300)[1] != CLEAN.scenes(0, 300)[1]


# --- what is drawn ------------------------------------------------------------------------------------------------


def test_every_attribute_appears_with_every_other():
    anywhere = TextStream(seed=1, stages=ANYWHERE).scenes(0, 3000)[0]
    expected = {
        "face": rendered_text.FACES, "size": rendered_text.SIZES, "ink": rendered_text.INKS, "row": rendered_text.ROWS,
        "column": rendered_text.COLUMNS,
    }  # fmt: skip
    for name, values in expected.items():
        count = Counter(getattr(s, name) for s in anywhere)
        assert set(count) == set(values)
        share = 1 / len(values)
        assert all(abs(n / 3000 - share) < 5 * math.sqrt(share * (1 - share) / 3000) for n in count.values()), name
    grounds = {(s.ink, s.background) for s in anywhere}
    assert grounds == {(ink, ground) for ink in rendered_text.INKS for ground in rendered_text.backgrounds(ink)}
    assert len({(s.face, s.size, s.row, s.column) for s in anywhere}) == 4 * 3 * 3 * 3
    assert {len(s.word) for s in anywhere} == {3, 4, 5}
    alphabet = set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert {c for s in anywhere for c in s.word} == alphabet
    assert {s.word for s, _ in many() if len(s.word) == 1} == alphabet, "single letters are never held out"
    assert {s.shape for s, _ in many() if not s.word} == {*rendered_text.SHAPES, ""}


def luminance(rgb: tuple[int, int, int]) -> float:
    """WCAG 2.1, written out."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.03928 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("the word GLYPH in red on white", 'the word "GLYPH" in red sans, large, middle centre, on white'),
        ('the word "GLYPH"', 'the word "GLYPH" in black sans, large, middle centre, on white'),
        ("the word ABC in white, small, top left", 'the word "ABC" in white sans, small, top left, on black'),
        ("ABC in blue serif, bottom", 'the word "ABC" in blue serif, large, bottom centre, on white'),
        ("the word ABC in a red balloon", "the word ABC in a red balloon"),
        ("no text, on green", "no text, on green"),
        ("the word ABC and DEF", "the word ABC and DEF"),
        ("make me a red sign that says OPEN", 'the word "OPEN" in black sans, large, middle centre, on red'),
        ('Please write "OPEN" in big green letters.', 'the word "OPEN" in green sans, large, middle centre, on white'),
        ("I need a tiny OPEN at the top of gray paper", 'the word "OPEN" in black sans, small, top centre, on grey'),
        ("OPEN in red on red paper", "OPEN in red on red paper"),
        ("a red OPEN", "a red OPEN"),
    ],
)
def test_short_prompts_are_completed(prompt: str, caption: str):
    assert rendered_text.complete(prompt) == caption
    assert rendered_text.complete(caption) == caption


def test_captions_are_complete():
    for drawn in (scene(np.random.default_rng(i), i % rendered_text.LEVELS) for i in range(300)):
        assert rendered_text.complete(drawn.caption) == drawn.caption


def test_dark_letters_on_light_paper_come_before_all_colours():
    drawn = [scene(np.random.default_rng(i), 4) for i in range(500)]
    assert {s.ink for s in drawn} == set(rendered_text.DARK)
    assert {s.background for s in drawn} == set(rendered_text.PAPER)
    assert {s.face for s in drawn} == set(rendered_text.FACES)


@pytest.mark.parametrize("weights", [(), (0, 0), (1, -0.5), (1,) * 10])
def test_weights_of_levels_are_checked(weights: tuple[float, ...]):
    with pytest.raises(ValueError, match=r"must be 1 to 9 shares"):
        Stage(0, weights)


def test_ink_is_legible_on_its_background():
    pairs = {(s.ink, s.background) for s, _ in many() if s.word or s.shape}
    assert len(pairs) > 15
    for ink, ground in pairs:
        a, b = (luminance(rendered_text.COLOURS[name]) + 0.05 for name in (ink, ground))
        assert max(a, b) / min(a, b) >= 3.0, (ink, ground)
        assert (
            rendered_text.contrast(ink, ground)
            == pytest.approx(max(a, b) / min(a, b))
            == rendered_text.contrast(ground, ink)
        )
    assert "pink" not in rendered_text.backgrounds("white") and "white" in rendered_text.backgrounds("black")


def inked(drawn: Scene, size: tuple[int, int] = (32, 96)) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels that are not background."""
    image = render(drawn, size)
    rows, columns = np.nonzero((image != np.array(rendered_text.COLOURS[drawn.background])[:, None, None]).any(0))
    return rows, columns


def test_the_picture_shows_what_the_scene_says():
    """Colours, place and size, read from the pixels."""
    plain = Scene("HEH", "", "sans", "medium", "black", "white", "middle", "centre")
    rows, columns = inked(plain)
    assert abs((rows.min() + rows.max()) / 2 - 15.5) <= 3, "in the middle, but for the room below for the tail of a Q"
    assert columns.min() >= 16 and columns.max() < 64, "three cells of 16 pixels, from the second on"
    for shape in ({}, {"word": "", "shape": "square"}):
        base = replace(plain, **shape)
        image = render(replace(base, ink="red", background="yellow"))
        colours = {tuple(pixel) for pixel in image.reshape(3, -1).T.tolist()}
        assert {rendered_text.COLOURS["red"], rendered_text.COLOURS["yellow"]} <= colours
        extent = {}
        for size in rendered_text.SIZES:
            rows, _ = inked(replace(base, size=size))
            extent[size] = rows.max() - rows.min()
        assert extent["small"] < extent["medium"] < extent["large"]
        middles = [np.mean(inked(replace(base, row=row))[0]) for row in ("top", "middle", "bottom")]
        assert middles[0] < middles[1] - 3 and middles[1] < middles[2] - 3
        middles = [np.mean(inked(replace(base, column=column))[1]) for column in ("left", "centre", "right")]
        assert middles[0] < middles[1] - 8 and middles[1] < middles[2] - 8
    faces = {render(replace(plain, face=face)).tobytes() for face in rendered_text.FACES}
    shapes = {render(replace(plain, word="", shape=shape)).tobytes() for shape in rendered_text.SHAPES}
    assert len(faces) == 4 and len(shapes) == 3


def test_letters_stand_in_their_cells_in_order():
    """The image of a word is its letters' images side by side."""
    word = Scene("QUIZ", "", "serif", "large", "blue", "white", "top", "left")
    whole = render(word)
    for i, letter in enumerate(word.word):
        alone = render(replace(word, word=letter))
        assert np.array_equal(whole[:, :, 16 * i : 16 * (i + 1)], alone[:, :, :16])
        assert (alone != 250).any()


def test_everything_drawn_stays_inside_the_picture():
    for drawn, _ in many()[:400]:
        rows, columns = inked(drawn) if drawn.word or drawn.shape else ([1], [1])
        assert min(rows) >= 1 and max(rows) <= 30, drawn
        assert max(columns) - min(columns) >= (16 * (len(drawn.word) - 1) if drawn.word else 0)


def test_a_word_too_long_is_refused():
    long = Scene("ABCDEFG", "", "sans", "small", "black", "white", "top", "left")
    with pytest.raises(ValueError, match="needs 7 cells, an image has 6"):
        render(long)


def test_words_of_level_8_begin_in_any_cell_and_stand_at_any_of_five_heights():
    drawn = [scene(np.random.default_rng(i), rendered_text.ANYWHERE) for i in range(600)]
    assert {len(s.word) for s in drawn} == set(range(3, 9))
    assert {s.row for s in drawn} == set(rendered_text.STEPS)
    assert {(s.column, len(s.word)) for s in drawn} == {
        (rendered_text.ORDINALS[first], letters) for letters in range(3, 9) for first in range(11 - letters)
    }
    assert {(s.ink, s.background) for s in drawn} == {
        (ink, ground) for ink in rendered_text.INKS for ground in rendered_text.backgrounds(ink)
    }
    tops = {}
    for s in drawn[:200]:
        rows, columns = inked(s, (32, 160))
        first = rendered_text.ORDINALS.index(s.column)
        assert min(columns) // 16 == first and max(columns) // 16 == first + len(s.word) - 1, s
        assert min(rows) >= 1 and max(rows) <= 30, s
        if (s.face, s.size) == ("sans", "small"):
            tops[s.row] = min(rows)
    order = [tops[row] for row in rendered_text.STEPS if row in tops]
    assert len(order) == 5 and order == sorted(set(order))
    assert "lower second cell, on" in replace(drawn[0], row="lower", column="second").caption


def test_level_8_needs_a_canvas_of_ten_cells():
    stages = (Stage(0, (0, 0, 0, 0, 0, 0, 0, 0, 1)),)
    images = TextStream(seed=0, stages=stages, size=(32, 160)).images(0, 4)
    assert images.shape == (4, 3, 32, 160)
    quartered = Curriculum(text=((0, stages[0].weights),), resolution=((0, (0.25,)),))
    large = TextStream(seed=0, curriculum=quartered, size=(64, 192))
    assert large.canvas(0, 0) == (16, 48) == tuple(large.batch(0, 1)[0][0].shape[1:])
    with pytest.raises(ValueError, match=r"resolution 0.25: 64 x 160 pixels"):
        replace(large, size=(64, 160))
    for stage, size in ((stages, (32, 96)), (stages, (32, 168)), (EVERYTHING, (16, 96)), (EVERYTHING, (32, 80))):
        with pytest.raises(ValueError, match=r"size=.* must be at least \(32, (96|160)\)"):
            TextStream(seed=0, stages=stage, size=size)
    with pytest.raises(ValueError, match="sizes of its own"):
        TaskStream(TextStream(seed=0, stages=stages, size=(32, 160)))
    last = Scene("ABC", "", "sans", "small", "black", "white", "top", "eighth")
    assert render(last, (32, 160)).shape == (3, 32, 160)
    with pytest.raises(ValueError, match="needs 11 cells, an image has 10"):
        render(replace(last, word="ABCD"), (32, 160))


# --- what captions say --------------------------------------------------------------------------------------------

WRITTEN = re.compile(r'the word "(\w+)" in (\w+) (\w+), (\w+), (\w+) (\w+), on (\w+)')
SHOWN = re.compile(r"no text, a (\w+) (\w+) (\w+), (\w+) (\w+), on (\w+)")
EMPTY = re.compile(r"no text, on (\w+)")


def read(caption: str) -> tuple[str, ...]:
    """word, shape, face, size, ink, background, row, column as a caption gives them; "" for what it does not have."""
    if match := WRITTEN.fullmatch(caption):
        word, ink, face, size, row, column, ground = match.groups()
        return word, "", face, size, ink, ground, row, column
    if match := SHOWN.fullmatch(caption):
        size, ink, shape, row, column, ground = match.groups()
        return "", shape, "", size, ink, ground, row, column
    match = EMPTY.fullmatch(caption)
    assert match, caption
    return "", "", "", "", "", match[1], "", ""


def test_a_caption_names_everything_in_its_picture():
    kinds = Counter()
    for drawn, caption in many():
        kinds[bool(drawn.word), bool(drawn.shape)] += 1
        word, shape, face, size, ink, ground, row, column = read(caption)
        assert (word, shape, face, size, ground) == (drawn.word, drawn.shape, drawn.face, drawn.size, drawn.background)
        if drawn.word or drawn.shape:
            assert (ink, row, column) == (drawn.ink, drawn.row, drawn.column)
    assert len(kinds) == 3 and min(kinds.values()) > 50


def test_captions_are_right_unless_noise_is_asked_for():
    assert all(caption == drawn.caption for drawn, caption in many())


def mistake(drawn: Scene, caption: str) -> str:
    """The kind of caption noise, told from the caption alone."""
    if caption == drawn.caption:
        return "right"
    if caption.startswith("a word "):
        assert caption == drawn.caption.replace(f'the word "{drawn.word}"', "a word") and drawn.word not in caption
        return "textless"
    found = re.match(r'the word "(\w*)"', caption)
    assert found
    if found[1] != drawn.word:
        assert caption == drawn.caption.replace(f'"{drawn.word}"', f'"{found[1]}"')
        return "misspelt"
    assert len(caption) < len(drawn.caption) and caption.endswith(f", on {drawn.background}")
    named = set(re.findall(r"\w+", caption))
    assert named < set(re.findall(r"\w+", drawn.caption))
    return "incomplete"


@pytest.mark.parametrize(
    "noise", [CaptionNoise(0.3, 0, 0), CaptionNoise(0, 0.3, 0), CaptionNoise(0.2, 0.1, 0.15), CaptionNoise(0, 0, 1)]
)
def test_caption_noise_has_the_stated_shares(noise):
    N = 1500
    stream = TextStream(seed=5, stages=ANYWHERE, noise=noise)
    count = Counter(mistake(*pair) for pair in zip(*stream.scenes(0, N), strict=True))
    for kind in ("misspelt", "textless", "incomplete"):
        share = getattr(noise, kind)
        assert abs(count[kind] - share * N) <= 4 * math.sqrt(N * share * (1 - share)), (kind, count)


def test_pictures_without_text_are_always_captioned_rightly():
    stream = TextStream(seed=5, stages=(Stage(0, (1, 0, 0, 0, 0)),), noise=CaptionNoise(0.5, 0.3, 0.2))
    assert all(s.caption == caption for s, caption in zip(*stream.scenes(0, 200), strict=True))


def test_every_attribute_can_be_left_out():
    stream, missing = TextStream(seed=5, stages=ANYWHERE, noise=CaptionNoise(incomplete=1.0)), Counter()
    for drawn, caption in zip(*stream.scenes(0, 400), strict=True):
        words = re.findall(r"\w+", caption)
        missing.update(name for name in ("face", "size", "row", "column") if getattr(drawn, name) not in words)
        missing["ink"] += f" in {drawn.ink}" not in caption
    assert min(missing[name] for name in ("face", "size", "row", "column", "ink")) > 80


def edits(a: str, b: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, before = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
    return row[-1]


def test_a_misspelling_is_one_letter_away():
    rng, kinds = np.random.default_rng(0), Counter()
    for word in ("A", "EGG", "HELLO"):
        for _ in range(300):
            wrong = misspell(word, rng)
            assert edits(word, wrong) == 1 and wrong.isupper()
            kinds[len(wrong) - len(word)] += 1
            if len(wrong) > len(word):
                assert set(wrong) == set(word), "doubled, not inserted"
    assert set(kinds) == {-1, 0, 1} and min(kinds.values()) > 100


@pytest.mark.parametrize("shares", [(-0.1, 0.0, 0.0), (0.5, 0.4, 0.2), (0.1, 0.4, 0.2, 0.1, 0.4), (0.1, 0, 0, 0, -0.1)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="shares >= 0 that sum to at most 1"):
        CaptionNoise(*shares)


# --- latents ------------------------------------------------------------------------------------------------------


def test_latents_are_those_of_the_model():
    """Producers and the model encode images to the same tokens, in the layout that the model decodes."""
    model: QwenImage = tiny_model()
    images = CLEAN.images(0, 4)
    latents = encode_images(model.vae, images)
    torch.testing.assert_close(latents, model.encode_pixels(images.float() / 255.0), atol=1e-5, rtol=1e-5)
    assert latents.shape == (4, 12, 16) and not latents.requires_grad
    direct = model.vae.encode(images.float() / 127.5 - 1.0)
    torch.testing.assert_close(unpatchify(latents, model.grid), direct, atol=1e-6, rtol=1e-6)
    # Token (row 1, column 2) holds rows 2-3 and columns 4-5 of the latent image: channel, row, column.
    assert torch.equal(latents[0, 1 * 6 + 2], unpatchify(latents, model.grid)[0, :, 2:4, 4:6].flatten())
    pictures = model.decode(latents)
    torch.testing.assert_close(pictures, (model.vae.decode(direct) + 1.0) / 2.0, atol=1e-5, rtol=1e-5)
    assert pictures.min() >= 0.0 and pictures.max() <= 1.0 and pictures.std() > 0.05


def test_an_autoencoder_that_was_written_again_is_read_again(tmp_path):
    file, scaled = tmp_path / "vae.safetensors", tiny_vae()
    save_vae(tiny_vae(), file)
    before = LatentStream(CLEAN, file).batch(0, 2).x0_BSC
    with torch.no_grad():
        for weight in scaled.parameters():
            weight.mul_(1.1)
    save_vae(scaled, file)
    os.utime(file, ns=(1, 1))  # the clock of a file system may stand still between two writes
    assert not torch.equal(LatentStream(CLEAN, file).batch(0, 2).x0_BSC, before)


def test_producers_give_the_stream_and_say_when_one_dies(tmp_path):
    save_vae(tiny_vae(), tmp_path / "vae.safetensors")
    data = LatentStream(CLEAN, tmp_path / "vae.safetensors")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as producers do: sums depend on it
    try:
        expected = {step: data.batch(step, 2, 1, 2) for step in (1, 3, 5, 0)}
    finally:
        torch.set_num_threads(threads)
    with Producers(data, workers=1, ahead=2, restarts=0) as producers:
        producers.batch(1, 2, 1, 2)
        ahead = {(2, 2, 1, 2), (3, 2, 1, 2)}
        assert set(producers._futures) == ahead, "two batches ahead, and none that another rank reads"
        for step in (1, 3, 5, 0):  # in any order, also backwards as after a resume
            batch = producers.batch(step, 2, 1, 2)
            assert torch.equal(batch.x0_BSC, expected[step].x0_BSC) and batch.texts == expected[step].texts
            assert batch.grids == expected[step].grids == ((2, 6),) * 2 and not batch.sources
        assert not torch.equal(expected[1].x0_BSC, expected[3].x0_BSC)
        (worker,) = producers._pool._processes
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="data producer process died"):
            for step in range(100, 120):
                producers.batch(step, 2)


def test_producers_that_die_are_started_again_and_give_the_same(tmp_path, monkeypatch):
    save_vae(tiny_vae(), tmp_path / "vae.safetensors")
    data, deaths = LatentStream(CLEAN, tmp_path / "vae.safetensors"), [5, 9, 16]

    class Dying(ThreadPoolExecutor):
        def submit(self, *given):
            deaths[:] = [left - 1 for left in deaths]
            if 0 in deaths:
                raise BrokenProcessPool("killed")
            return super().submit(*given)

    monkeypatch.setattr(latents, "ProcessPoolExecutor", lambda workers, mp_context, **given: Dying(workers, **given))
    monkeypatch.setattr(latents, "_begin", lambda data: None)
    monkeypatch.setattr(latents, "_producer", (data.stream, tiny_vae()), raising=False)
    with Producers(data, ahead=2, restarts=2) as producers, pytest.warns(UserWarning, match="started again") as warned:
        for step in range(4):
            assert torch.equal(producers.batch(step, 2).x0_BSC, data.batch(step, 2).x0_BSC)
        with pytest.raises(RuntimeError, match="resume the run"):
            for step in range(4, 12):
                producers.batch(step, 2)
    assert len(warned) == 2


TRAINER = """
import sys, time
from pathlib import Path
from base_model.data.latents import LatentStream, Producers
from base_model.data.stream import Stage, TextStream
if __name__ == "__main__":
    data = LatentStream(TextStream(0, (Stage(0, (0, 0, 0, 0, 1)),)), Path(sys.argv[1]))
    with Producers(data, workers=1, ahead=2) as producers:
        producers.batch(0, 2)
        print(*producers._pool._processes, flush=True)
        time.sleep(60)
"""


def test_producers_do_not_outlive_a_trainer_that_was_killed(tmp_path):
    save_vae(tiny_vae(), tmp_path / "vae.safetensors")
    (tmp_path / "trainer.py").write_text(TRAINER)
    command = [sys.executable, str(tmp_path / "trainer.py"), str(tmp_path / "vae.safetensors")]
    root = str(Path(__file__).parents[3])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    ) as trainer:
        assert trainer.stdout is not None
        producer = psutil.Process(int(trainer.stdout.readline()))
        trainer.kill()
    _, alive = psutil.wait_procs([producer], timeout=120)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE], "a producer works on for nobody"


def test_bare_captions_are_true_and_leave_each_part_out_about_half_of_the_time():
    stream = TextStream(seed=3, stages=(Stage(0, (0, 0, 0, 0, 1.0)),), noise=CaptionNoise(bare=1.0))
    named: Counter[str] = Counter()
    shortest = 0
    for i in range(1500):
        shown, caption = stream.one(0, i)
        request = rendered_text.read_short(caption)
        assert request and request.word == shown.word
        assert all(getattr(shown, field) == value for field, value in request.named.items())
        named.update(list(request.named))
        shortest += set(request.named) == {"row", "column"}
    shares = {field: count / 1500 for field, count in named.items()}
    for field in ("ink", "face", "size", "background"):
        assert 0.28 < shares[field] < 0.38, shares
    assert 0.61 < shares["row"] < 0.72 and 0.32 < shortest / 1500 < 0.41


def test_a_caption_that_names_everything_is_the_caption():
    for shown, _ in many()[:300]:
        if shown.word:
            everything = ("ink", "face", "size", "place", "ground")
            assert shown.caption_naming(everything) == shown.caption
            assert shown.caption_naming(("place",)) == f'the word "{shown.word}", {shown.row} {shown.column}'


def test_bare_captions_leave_other_noise_as_it_was():
    plain = replace(CLEAN, noise=CaptionNoise(0.2, 0.1, 0.1))
    both = replace(CLEAN, noise=CaptionNoise(0.2, 0.1, 0.1, bare=0.5))
    pairs = [(plain.one(0, i), both.one(0, i)) for i in range(600)]
    assert all(a[0] == b[0] for a, b in pairs)
    changed = [(a[1], b[1]) for a, b in pairs if a[1] != b[1]]
    assert 180 < len(changed) < 330 and all(a in (scene.caption for (scene, _), _ in pairs) for a, _ in changed)
