"""Edits and the mixture of tasks: what is changed and what is not, the held-out split, shares, addresses.

Shapes: 3HW pixels.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from base_model.data import edits, rendered_text
from base_model.data.edits import Example, Sheet
from base_model.data.mixture import EDITS, TASKS, Mix, TaskStream
from base_model.data.rendered_text import CELL, Scene, is_heldout, render, scene
from base_model.data.stream import CaptionNoise, Stage, TextStream
from base_model.seeding import numpy_generator
from preference_data.records import quoted_spans

SIZES = ((32, 96), (32, 80), (48, 112))
EVERYWHERE = (Stage(0, (0.0, 0.0, 0.0, 0.0, 1.0)),)
STREAM = TaskStream(TextStream(5, EVERYWHERE), (Mix(0, 0.2, 0.2, 0.2, 0.2, 0.2),), SIZES)


@cache
def some(task: edits.Task, heldout: bool = False, count: int = 150) -> tuple[Example, ...]:
    """Examples of one task on mixed canvases."""
    made = []
    for i in range(count):
        rng = numpy_generator(1, i, 0, "test")
        before = scene(rng, 4, heldout=heldout)
        made.append(task(before, before.caption, SIZES[i % 3], rng, heldout))
    return tuple(made)


# --- what an edit is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [edits.change_word, edits.change_ink, edits.change_position])
def test_an_edit_changes_pixels_inside_of_its_region_and_none_outside(task):
    for example in some(task):
        assert example.source
        source, target, region = example.source.render(), example.target.render(), example.region()
        assert source.shape == target.shape == (3, *region.shape) and source.dtype == np.uint8
        assert np.array_equal(source[:, ~region], target[:, ~region])
        assert not np.array_equal(source[:, region], target[:, region])
        assert region.any() and example.source.mark == example.target.mark


def test_every_edit_changes_the_thing_it_names_and_says_to_what():
    for example in some(edits.change_word):
        before, after = example.source.scene, example.target.scene
        assert before == replace(after, word=before.word) and len(before.word) == len(after.word)
        assert before.word != after.word and quoted_spans(example.text) == (after.word,)
    for example in some(edits.change_ink):
        before, after = example.source.scene, example.target.scene
        assert before == replace(after, ink=before.ink) and before.ink != after.ink
        assert example.text == f"make the word {after.ink}" and after.background in rendered_text.backgrounds(after.ink)
    for example in some(edits.change_position):
        before, after = example.source.scene, example.target.scene
        assert before == replace(after, row=before.row, column=before.column)
        assert example.text == f"move the word to the {after.row} {after.column}"


def test_every_legible_scene_has_another_legible_ink():
    for ink in rendered_text.INKS:
        for ground in rendered_text.backgrounds(ink):
            assert [
                other for other in rendered_text.INKS if other != ink and ground in rendered_text.backgrounds(other)
            ], (ink, ground)


def test_reconstruction_asks_for_the_source_and_has_no_region():
    for example in some(edits.reconstruct):
        assert example.target == example.source and example.text == edits.KEEP and not example.region().any()


def test_a_caption_alone_has_no_source():
    for example in some(edits.image_from_caption):
        assert example.source is None and example.target.mark is None
        assert np.array_equal(example.target.render(), render(example.target.scene, example.target.size))


def test_marks_stand_beside_words_and_are_seen():
    marked = [e for task in EDITS for e in some(task) if e.target.mark]
    assert len(marked) > 400
    for example in marked:
        for sheet in (example.source, example.target):
            plain = replace(sheet, mark=None).render()
            changed = (sheet.render() != plain).any(0)
            assert changed.sum() >= 20 and not changed[sheet.box()].any()
            assert not changed[example.region()].any()
    assert len({(e.target.mark.shape, e.target.mark.colour) for e in marked}) >= 20
    full = Sheet(Scene("ABCDE", "", "sans", "small", "black", "white", "top", "left"), (32, 80))
    assert edits.choose_mark(np.random.default_rng(0), full.size, full.scene) is None


def test_the_box_holds_all_ink_of_the_word():
    for example in some(edits.change_position):
        sheet = replace(example.target, mark=None)
        pixels, ground = sheet.render(), np.array(rendered_text.COLOURS[sheet.scene.background])[:, None, None]
        inked = (pixels != ground).any(0)
        assert inked.any() and inked[sheet.box()].sum() == inked.sum()


# --- the held-out split -------------------------------------------------------------------------------------------


def test_heldout_words_never_appear_in_training():
    for step in range(4):
        for example in STREAM.examples(step, 150):
            words = [example.target.scene.word, *quoted_spans(example.text)]
            words += [example.source.scene.word] if example.source else []
            assert not [word for word in words if len(word) > 2 and is_heldout(word)]


def test_evaluation_edits_heldout_words_only():
    for task in (edits.change_word, edits.change_ink, edits.change_position):
        for example in some(task, heldout=True):
            words = {example.source.scene.word, example.target.scene.word, *quoted_spans(example.text)}
            assert all(is_heldout(word) for word in words)


# --- canvases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 80), (32, 128), (48, 96), (64, 192)])
def test_a_scene_keeps_its_place_on_any_canvas(size):
    word = Scene("HEH", "", "sans", "medium", "black", "white", "middle", "centre")
    for row, column in [("top", "left"), ("middle", "centre"), ("bottom", "right")]:
        image = render(replace(word, row=row, column=column), size)
        assert image.shape == (3, *size)
        rows, columns = np.nonzero((image != 250).any(0))
        first = {"left": 0, "centre": (size[1] // CELL - 3) // 2, "right": size[1] // CELL - 3}[column]
        assert first * CELL <= columns.min() and columns.max() < (first + 3) * CELL
        middle = {"top": 10, "middle": size[0] / 2, "bottom": size[0] - 10}[row]
        assert abs((rows.min() + rows.max()) / 2 - middle) <= 4
    with pytest.raises(ValueError, match="needs 3 cells, an image has 2"):
        render(word, (32, 32))


# --- the mixture --------------------------------------------------------------------------------------------------


def test_captions_alone_are_the_text_streams_own():
    """Bit for bit, with a curriculum, wrong captions and a limit."""
    stages = (Stage(0, (1, 1, 1, 1, 1)), Stage(2, (0, 0, 0, 1, 1)))
    for limit in (0, 7):
        plain = TextStream(3, stages, CaptionNoise(0.3, 0.2, 0.2), limit)
        for step in range(4):
            images, captions = plain.batch(step, 6)
            drawn = TaskStream(plain).batch(step, 6)
            assert drawn.texts == captions and drawn.sources == ()
            assert torch.equal(torch.stack(list(drawn.images)), images)


def test_a_batch_is_a_function_of_its_address():
    first = STREAM.examples(3, 8)
    STREAM.examples(4, 8)
    assert replace(STREAM).examples(3, 8) == first != STREAM.examples(4, 8)
    assert STREAM.examples(1, 12) == [e for step in (3, 4, 5) for e in STREAM.examples(step, 4)]
    other = replace(STREAM, scenes=replace(STREAM.scenes, seed=6))
    assert other.examples(3, 8) != first


def test_tasks_and_canvases_have_their_shares_in_every_part_of_the_stream():
    """Interleaved: no stretch of a stream has one task or one canvas alone."""
    mix = Mix(0, t2i=4, i2i=1, word=2, ink=1, place=2)
    stream = replace(STREAM, mixes=(mix,), sizes=((32, 96), (32, 96), (32, 80), (48, 96)))
    for step in (0, 5):
        examples = stream.examples(step, 500)
        shares = Counter(kind_of(example) for example in examples)
        for kind, share in zip(("t2i", "i2i", "word", "ink", "place"), mix.shares(), strict=True):
            p = share / 10
            assert abs(shares[kind] - 500 * p) < 5 * math.sqrt(500 * p * (1 - p)), kind
        sizes = Counter(example.target.size for example in examples)
        assert abs(sizes[32, 96] - 250) < 60 and abs(sizes[32, 80] - 125) < 50 and abs(sizes[48, 96] - 125) < 50
        assert all(len({e.target.size for e in examples[i : i + 16]}) > 1 for i in range(0, 500, 16))


def kind_of(example: Example) -> str:
    if example.source is None:
        return "t2i"
    if example.text == edits.KEEP:
        return "i2i"
    return {"change": "word", "make": "ink", "move": "place"}[example.text.split()[0]]


def test_the_shares_of_tasks_change_at_their_step():
    mixes = (Mix(0, t2i=0, i2i=1), Mix(3, t2i=0, word=1), Mix(5, t2i=0, ink=1, place=1))
    stream = replace(STREAM, mixes=mixes)
    for rank, ranks in ((0, 1), (0, 2), (1, 2), (7, 8)):
        kinds = [{kind_of(example) for example in stream.examples(step, 30, rank, ranks)} for step in range(7)]
        assert kinds == [{"i2i"}] * 3 + [{"word"}] * 2 + [{"ink", "place"}] * 2, f"rank {rank} of {ranks}"


def test_edits_have_a_word_whatever_the_level():
    stream = TaskStream(TextStream(5, (Stage(0, (20, 0, 0, 0, 1)),)), (Mix(0, 1, 1, 1, 1, 1),))
    examples = stream.examples(0, 200)
    assert all(example.target.scene.word for example in examples if example.source)
    assert sum(not example.target.scene.word for example in examples) > 20


@pytest.mark.parametrize("shares", [(0, 0, 0, 0, 0), (1, -1, 0, 0, 0)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match=">= 0 and not all 0"):
        Mix(0, *shares)


@pytest.mark.parametrize("starts", [(), (1,), (0, 4, 4), (0, 5, 2)])
def test_mixes_that_do_not_rise_from_0_are_refused(starts):
    with pytest.raises(ValueError, match="must start at 0 and rise"):
        replace(STREAM, mixes=tuple(Mix(start) for start in starts))


def test_every_task_has_a_share():
    assert len(TASKS) == len(Mix().shares())
    with pytest.raises(ValueError, match="at least one canvas"):
        replace(STREAM, sizes=())
