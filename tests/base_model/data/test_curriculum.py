"""Five progressions: what is in force at an update, the other orders, and what a stream shows by them."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from base_model.data.curriculum import Curriculum, Plan
from base_model.data.mixture import TaskStream
from base_model.data.stream import CaptionNoise, TextStream
from experiments.configs import nano
from experiments.record.recorded_settings import rebuild
from experiments.record.whole_files import plain
from experiments.studies.orders import arms

RIGHT, WORDS = CaptionNoise(), ((0, (0, 0, 0, 0, 1)),)
WHOLE = Curriculum(
    resolution=((0, (0.5,)), (2, (0.5, 1.0)), (4, (1.0,))),
    text=((0, (1, 0, 1)), (3, (0, 0, 0, 0, 1))),
    refinement=((0, 0.0), (6, 1.0)),
    balance=((0, 0.0), (5, 1.0)),
    synthetic=((0, 0.0), (4, 0.5), (7, 0.25)),
)


def stream(noise: CaptionNoise = RIGHT, text=WORDS, **progressions) -> TextStream:
    return TextStream(seed=3, noise=noise, curriculum=Curriculum(text=text, **progressions))


def test_what_is_in_force():
    assert Curriculum().at(9) == Plan() and Curriculum().lines() == []
    assert WHOLE.at(3) == Plan((0.5, 1.0), (0, 0, 0, 0, 1), 0.0, 0.0, 0.0)
    assert WHOLE.at(100) == Plan((1.0,), (0, 0, 0, 0, 1), 1.0, 1.0, 0.25)
    assert WHOLE.changes == (0, 2, 3, 4, 5, 6, 7) and len(WHOLE.lines()) == 7
    assert WHOLE.lines()[2] == ("from update 3: resolution 0.5:1, text 0:0:0:0:1, refinement 0, balance 0, synthetic 0")


def test_no_curriculum_is_its_end_and_backwards_twice_is_forwards():
    assert {WHOLE.last().at(step) for step in range(8)} == {WHOLE.at(99)}
    assert [WHOLE.reverse(8).at(step) for step in range(8)] == [WHOLE.at(7 - step) for step in range(8)]
    assert WHOLE.reverse(8).reverse(8) == WHOLE


def test_everything_at_once_is_the_mean_of_all_updates():
    plans, mixed = [WHOLE.at(step) for step in range(8)], WHOLE.mixed(8)
    plan = mixed.at(0)
    assert mixed.changes == (0,)
    for name in ("refinement", "balance", "synthetic"):
        assert getattr(plan, name) == pytest.approx(np.mean([getattr(each, name) for each in plans]))
    shares = [np.pad(each.text, (0, 5 - len(each.text))) / sum(each.text) for each in plans]
    assert plan.text == pytest.approx(np.mean(shares, 0))
    assert plan.resolution.count(0.5) / len(plan.resolution) == pytest.approx((2 + 2 * 0.5) / 8)
    assert "resolution 0.5 (38%) 1 (62%)" in mixed.lines()[0]
    for order in (WHOLE.mixed, WHOLE.reverse):
        with pytest.raises(ValueError, match="changes at update 7, and there are only 7"):
            order(7)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"refinement": ((1, 0.5),)}, r"refinement must start at 0 and rise, got starts \[1\]"),
        ({"balance": ((0, 0.5), (0, 1.0))}, "balance must start at 0"),
        ({"synthetic": ((0, 1.5),)}, "synthetic from update 0: 1.5 must be a share"),
        ({"text": ((0, ()),)}, "text from update 0"),
        ({"text": ((0, (0.0, 0.0)),)}, "one above 0"),
    ],
)
def test_what_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Curriculum(**wrong)


def test_stages_are_the_text_of_a_curriculum():
    text = tuple((stage.start, stage.weights) for stage in nano.pretrain.data.stages)
    named = replace(nano.pretrain.data, stages=(), curriculum=Curriculum(text=text))
    assert named.progress == nano.pretrain.data.progress
    assert all(named.scenes(step, 8) == nano.pretrain.data.scenes(step, 8) for step in (0, 200, 600))
    with pytest.raises(ValueError, match=r"once, as stages or as curriculum\.text"):
        replace(nano.pretrain.data, curriculum=Curriculum(text=text))
    with pytest.raises(ValueError, match="must be 1 to 9 shares"):
        stream(text=((0, (1,) * 10),))


def test_captions_are_refined():
    noisy = CaptionNoise(misspelt=1.0)
    scenes, captions = stream(noisy, refinement=((0, 0.0), (1, 0.5), (2, 1.0))).scenes(0, 200)
    assert all(scene.caption != caption for scene, caption in zip(scenes, captions, strict=True))
    for step, low, high in ((1, 0.4, 0.6), (2, 1.0, 1.0)):
        scenes, captions = stream(noisy, refinement=((0, 0.0), (1, 0.5), (2, 1.0))).scenes(step, 200)
        right = np.mean([scene.caption == caption for scene, caption in zip(scenes, captions, strict=True)])
        assert low <= right <= high


def test_faces_and_inks_are_balanced():
    tail = np.array([1, 1 / 4, 1 / 9, 1 / 16]) / (1 + 1 / 4 + 1 / 9 + 1 / 16)
    for balance in (0.0, 0.5, 1.0):
        scenes, _ = stream(balance=((0, balance),)).scenes(0, 1500)
        for values, names in (
            ([scene.face for scene in scenes], ("sans", "serif", "mono", "roman")),
            ([scene.ink for scene in scenes], ("black", "red", "green", "blue")),
        ):
            shares = [values.count(name) / 1500 for name in names]
            assert shares == pytest.approx(balance / 4 + (1 - balance) * tail, abs=0.05)


def test_synthetic_samples_are_words_whose_captions_are_right():
    shapes, noisy = ((0, (1, 0, 0, 0, 1)),), CaptionNoise(misspelt=1.0)
    scenes, captions = stream(noisy, shapes, synthetic=((0, 0.4),)).scenes(0, 1000)
    with_word = [scene.caption == caption for scene, caption in zip(scenes, captions, strict=True) if scene.word]
    assert len(with_word) / 1000 == pytest.approx(0.4 + 0.6 * 0.5, abs=0.05)
    assert np.mean(with_word) == pytest.approx(0.4 / 0.7, abs=0.05)
    scenes, _ = stream(text=((0, (1,)),), synthetic=((0, 1.0),)).scenes(0, 20)
    assert all(scene.word for scene in scenes), "words also where the other samples have none"


def test_images_are_small_first():
    sizes = [
        {tuple(image.shape) for image in stream(resolution=WHOLE.resolution).batch(step, 16)[0]} for step in (0, 2, 4)
    ]
    assert sizes == [{(3, 16, 48)}, {(3, 16, 48), (3, 32, 96)}, {(3, 32, 96)}]
    small, whole = (stream(resolution=((0, (scale,)),)).batch(0, 4)[0] for scale in (0.5, 1.0))
    for one, other in zip(small, whole, strict=True):
        halved = other.float().unfold(1, 2, 2).unfold(2, 2, 2).mean((3, 4))
        assert float((one.float() - halved).abs().max()) <= 1.0, "the whole image, made smaller"
    for scale in (0.4, 2.0, 0.0):
        with pytest.raises(ValueError, match=r"resolution|one above 0"):
            stream(resolution=((0, (scale,)),))
    with pytest.raises(ValueError, match="an autoencoder learns from images of one size"):
        stream(resolution=WHOLE.resolution).images(0, 2)
    with pytest.raises(ValueError, match="sizes of its own"):
        TaskStream(stream(resolution=WHOLE.resolution))


def test_a_batch_follows_from_its_address():
    data = arms(80)["curriculum"].data
    for step in (5, 15, 30, 70):
        images, captions = replace(data).batch(step, 4, 1, 2)
        again, others = data.batch(step, 8)
        assert captions == others[4:]
        assert all(np.array_equal(a, b) for a, b in zip(images, again[4:], strict=True))
    assert not data.is_constant and replace(data, curriculum=Curriculum(text=WORDS)).is_constant
    assert not replace(data, curriculum=Curriculum(text=WORDS, resolution=((0, (0.5,)),))).is_constant


def test_the_study_compares_one_order_with_three_others_and_all_come_back_from_their_records():
    found = arms(80)
    assert list(found) == ["curriculum", "none", "mixed", "reversed"]
    changing = {name: len(each.data.progress.changes) for name, each in found.items()}
    assert changing == {"curriculum": 5, "none": 1, "mixed": 1, "reversed": 5}
    assert all(getattr(found["curriculum"].data.curriculum, field.name) for field in fields(Curriculum))
    assert all(rebuild(json.loads(json.dumps(plain(each)))) == each for each in found.values())
    assert {replace(each, data=None) for each in found.values()} == {replace(found["none"], data=None)}
    with pytest.raises(ValueError, match="7 updates cannot hold"):
        arms(7)
