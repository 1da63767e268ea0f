"""What every reward must keep, run over ``REWARDS``. A new reward adds one row to ``ROWS``."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields, is_dataclass, replace

import numpy as np
import pytest

from preference_data.records import Prompt
from rewards import REWARDS
from rewards.cache import identity
from rewards.scores import Reward, Scorer, Scores, to_float, to_uint8
from tests.writing import written

WORDS = ("ZEBRA", "KIWI", "LEMON", "TULIP", "ROBIN")


@dataclass(frozen=True)
class Row:
    """A reward's row: what to judge, best first (the first two must differ in value), and a prompt it cannot judge."""

    prompts: list[Prompt]
    pictures: Callable[[], np.ndarray]
    unjudgeable: Prompt


def words_from_right_to_wrong() -> np.ndarray:
    return np.stack([written(word) for word in ("ZEBRA", "KIWX", "LEM", "QOX", "ROBIN")])


READING = Row([Prompt.from_text(f'"{word}"') for word in WORDS], words_from_right_to_wrong, Prompt.from_text("a cat"))
ROWS = {"ocr": READING, "ocr_judge": READING}


@pytest.fixture(scope="module", params=sorted(REWARDS))
def loaded(request: pytest.FixtureRequest) -> tuple[str, Reward, Scorer, Row]:
    reward = REWARDS[request.param]()
    return request.param, reward, reward.load("cpu"), ROWS[request.param]


def test_every_reward_has_a_row() -> None:
    assert set(ROWS) == set(REWARDS)


def test_settings_are_a_frozen_picklable_dataclass(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    name, reward, scorer, _ = loaded
    assert is_dataclass(reward) and isinstance(reward, Reward) and isinstance(scorer, Scorer)
    with pytest.raises((FrozenInstanceError, AttributeError)):
        setattr(reward, fields(reward)[0].name, None)
    assert pickle.loads(pickle.dumps(reward)) == reward and hash(reward) == hash(type(reward)())
    assert identity(name, reward) == identity(name, replace(reward)) and str(reward.version) in identity(name, reward)


def test_the_documentation_says_the_range_and_the_needs_exist(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    name, reward, scorer, row = loaded
    low, high = reward.range
    assert low < high and f"[{low:g}, {high:g}]" in (type(reward).__doc__ or "")
    assert set(reward.needs) <= {field.name for field in fields(Prompt)}
    assert all(getattr(prompt, need) for prompt in row.prompts for need in reward.needs)
    assert scorer.name.startswith(name)


def test_scores_have_their_shape_range_and_order(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    _, reward, scorer, row = loaded
    pictures = row.pictures()
    scores = scorer(row.prompts, pictures)
    count = len(row.prompts)
    assert scores.value_B.shape == (count,) and scores.value_B.dtype == np.float64
    assert all(part.shape == (count,) and part.dtype == np.float64 for part in scores.parts.values())
    assert (scores.value_B >= reward.range[0]).all() and (scores.value_B <= reward.range[1]).all()
    assert scores.value_B[0] > scores.value_B[1] and not scores.unjudged
    backwards = scorer(row.prompts[::-1], pictures[::-1])
    assert backwards.value_B[::-1].tobytes() == scores.value_B.tobytes()


def test_a_score_does_not_depend_on_the_batch_nor_on_the_call(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    _, _, scorer, row = loaded
    pictures = row.pictures()
    before = pictures.copy()
    whole = scorer(row.prompts, pictures)
    again = scorer(row.prompts, pictures)
    single = [scorer([prompt], picture[None]) for prompt, picture in zip(row.prompts, pictures, strict=True)]
    assert whole.value_B.tobytes() == again.value_B.tobytes()
    assert whole.value_B.tolist() == [float(scores.value_B[0]) for scores in single]
    for name, part in whole.parts.items():
        assert part.tolist() == [float(scores.parts[name][0]) for scores in single]
    np.testing.assert_array_equal(pictures, before)  # a scorer reads, it does not write


def test_a_score_survives_the_trip_through_8_bits(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    _, _, scorer, row = loaded
    pictures = row.pictures()
    travelled = to_float(to_uint8(pictures))
    assert scorer(row.prompts, travelled).value_B.tobytes() == scorer(row.prompts, pictures).value_B.tobytes()


def test_what_cannot_be_judged_is_nan_and_counted(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    _, _, scorer, row = loaded
    pictures = row.pictures()[:3]
    judged = scorer(row.prompts[:3], pictures)
    pictures[1, 0, 0, 0] = np.nan
    scores = scorer([row.prompts[0], row.prompts[1], row.unjudgeable], pictures)
    np.testing.assert_array_equal(np.isnan(scores.value_B), [False, True, True])
    assert scores.value_B[0] == judged.value_B[0]
    assert sum(scores.unjudged.values()) == 2
    assert all(np.isnan(part[1:]).all() and not np.isnan(part[0]) for part in scores.parts.values())


def test_empty_and_unequal_batches(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    _, _, scorer, row = loaded
    empty = scorer([], row.pictures()[:0])
    assert empty.value_B.shape == (0,) and not empty.unjudged
    with pytest.raises(ValueError, match="2 prompts but 5 pictures"):
        scorer(row.prompts[:2], row.pictures())


def test_scores_refuse_other_shapes_and_types() -> None:
    two = np.zeros(2)
    for value, part in [(np.zeros((2, 1)), np.zeros((2, 1))), (two, np.zeros(3)), (two, np.zeros(2, dtype=int))]:
        with pytest.raises(ValueError, match="float64"):
            Scores(value, {"part": part})


def test_every_8_bit_level_survives_the_trip() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    np.testing.assert_array_equal(to_uint8(to_float(levels)), levels)
    np.testing.assert_array_equal(to_uint8(np.array([-1.0, 2.0, 0.4999 / 255, 0.5001 / 255])), [0, 255, 0, 1])


def test_listing_the_rewards_imports_nothing_heavy() -> None:
    heavy = ("torch", "onnxruntime", "paddleocr", "cv2")
    code = f"import sys, rewards; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert all(importlib.import_module(kind.__module__).__doc__ for kind in REWARDS.values())
