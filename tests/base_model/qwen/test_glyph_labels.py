"""What captions say about latent tokens, and the error of a layer that is asked for it.

Shapes: B samples, S latent tokens, D width.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from base_model.data.rendered_text import ANYWHERE, CHINESE, ENGLISH, render, scene
from base_model.pretrain import Batch, Pretrain, train
from base_model.qwen.glyph_labels import NONE, UNKNOWN, answers_of, columns_of, glyph_error, label, readout
from base_model.seeding import generator, numpy_generator
from tests.base_model.test_pretrain import OPTIM, engine_of
from tests.fixtures.tiny.tiny_model import tiny_model

CAPTION = 'the word "{}" in red sans, small, top {}, on white'


@pytest.mark.parametrize(
    ("caption", "shown"),
    [
        (CAPTION.format("KIWI", "left"), ["K", "I", "W", "I", "", ""]),
        (CAPTION.format("ABC", "right"), ["", "", "", "A", "B", "C"]),
        (CAPTION.format("ABC", "centre"), ["", "A", "B", "C", "", ""]),
        (CAPTION.format("的一", "right"), ["", "", "的", "的", "一", "一"]),
        ('the word "KIWI", middle left', ["K", "I", "W", "I", "", ""]),
        ("no text, a large red bar, top left, on white", [""] * 6),
        ('the word "KIWI" in red', None),  # it does not say where
        ("a word in red sans, small, top left, on white", None),
        ('the word "ABC" in red sans, small, upper third cell, on white', ["", "", "A", "B", "C", ""]),
        ('the word "KIWI" in red sans, small, upper fourth cell, on white', None),
        (CAPTION.format("SEVENTH", "left"), None),  # misspelt captions may name more than there is room for
    ],
)
def test_captions_say_which_column_shows_what(caption, shown):
    assert columns_of(caption, 6) == shown


@pytest.mark.parametrize(("level", "columns"), [(ENGLISH, 6), (CHINESE, 6), (ANYWHERE, 10)])
def test_columns_with_a_character_are_those_with_ink(level, columns):
    for seed in range(12):
        each = scene(numpy_generator(seed, 0, 0, "glyphs"), level)
        pixels = render(each, (32, 16 * columns))
        marked = (pixels != pixels[:, :1, :1]).any((0, 1)).reshape(columns, 16).any(1)
        shown = columns_of(each.caption, columns)
        assert all(not ink or character for ink, character in zip(marked, shown, strict=True))
        assert marked.sum() == sum(map(bool, shown)) or level == CHINESE


def test_labels_are_rows_of_the_readout_and_alike_in_every_row_of_tokens():
    labels, vectors = label([CAPTION.format("BAB", "left"), "something else"], (2, 6), 16)
    assert labels.tolist() == [[2, 1, 2, NONE, NONE, NONE] * 2, [UNKNOWN] * 12]
    assert vectors.shape == (3, 16) and torch.equal(vectors[1], readout("A", 16))
    others, again = label([CAPTION.format("AZ", "left")], (1, 6), 16)
    assert torch.equal(again[int(others[0, 0])], vectors[1]), "a character has one vector, whatever the batch"


def test_the_error_by_hand():
    """Two classes; norm(h) = (1, -1) or (-1, 1); the logits are 3 / sqrt(2) times its products with the readout."""
    h = torch.tensor([[[5.0, 1.0], [0.0, 2.0], [7.0, 3.0]]])
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    gap = 2 * 3 / 2**0.5
    right, wrong = math.log1p(math.exp(-gap)), math.log1p(math.exp(gap))
    error = glyph_error(h, torch.tensor([[0, 0, UNKNOWN]]), vectors)
    assert float(error) == pytest.approx((right + wrong) / 2, rel=1e-3)
    assert float(glyph_error(h, torch.full((1, 3), UNKNOWN), vectors)) == 0.0


class Captioned:
    """Random latents of the tiny model's 3 x 4 tokens, with captions that say what stands where."""

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        x0 = torch.randn(size, 12, 16, generator=generator(0, step, rank, "latents"))
        return Batch(x0, [CAPTION.format(("AB", "CDE", "F")[(step + i) % 3], "left") for i in range(size)])


def losses(cfg: Pretrain) -> list[dict[str, float]]:
    model = tiny_model()
    return [
        dict(step.metrics) for step in train(model, engine_of(model, replace(OPTIM, adamw_lr=3e-3)), Captioned(), cfg)
    ]


def test_asking_teaches_the_layer_and_micro_batches_change_nothing():
    cfg = Pretrain(steps=30, batch=6, micro=6, dropout=0.0, glyph_weight=1.0, glyph_block=0)
    asked = losses(cfg)
    assert asked[-1]["glyph_error"] < 0.5 * asked[0]["glyph_error"]
    assert asked[0]["loss"] == pytest.approx(asked[0]["flow_error"] + asked[0]["glyph_error"], rel=1e-5)
    split = losses(replace(cfg, steps=1, micro=2))[0]
    assert split["loss"] == pytest.approx(asked[0]["loss"], rel=1e-4)


def test_dropped_texts_are_not_asked():
    cfg = Pretrain(steps=1, batch=6, micro=6, dropout=0.99, glyph_weight=1.0, glyph_block=0)
    assert losses(cfg)[0]["glyph_error"] == 0.0


def test_a_block_is_watched_for_one_call_alone():
    block = torch.nn.Identity()
    with answers_of(block) as seen:
        block((torch.ones(1), torch.zeros(1)))
    block((torch.ones(1), torch.zeros(1)))
    assert len(seen) == 1 and torch.equal(seen[0], torch.ones(1)) and not block._forward_hooks


def test_refusals():
    with pytest.raises(ValueError, match="glyph_weight=-1"):
        Pretrain(steps=1, glyph_weight=-1)
    cfg = Pretrain(steps=1, batch=2, micro=2, glyph_weight=1.0, glyph_block=9)
    with pytest.raises(ValueError, match="block 9 of our own network"):
        losses(cfg)
