from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from preference_data.pixels import pixel_hash, to_float, to_uint8
from preference_data.records import Prompt
from rewards.published.brisque import Brisque
from rewards.scores import Scores
from rewards.serving.cache import CachedScorer, ScoreFile, identity, score_key, scores_as_rows
from rewards.text.ocr import Ocr

PROMPTS = [Prompt.from_text(f'write "{word}"') for word in ("ONE", "TWO", "SIX", "TEN")]


class Counting:
    """Scores an image by its mean and remembers what it was asked; prompts without spans are NaN."""

    name = "mean"

    def __init__(self, factor: float = 1 / 3) -> None:
        self.requests: list[int] = []
        self.factor = factor

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        self.requests.append(len(prompts))
        value_B = images_B3HW.reshape(len(prompts), -1).mean(axis=1, dtype=np.float64) * self.factor
        value_B[[not prompt.spans for prompt in prompts]] = np.nan
        missing = int(np.isnan(value_B).sum())
        return Scores(value_B, {"double": value_B * 2}, {"failed": missing} if missing else {})


@dataclass(frozen=True)
class Mean:
    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ()
    strength: float = 1.0

    def load(self, device: str = "cpu") -> Counting:
        return Counting()


def pictures(seed: int, count: int = 4) -> np.ndarray:
    return to_float(np.random.default_rng(seed).integers(0, 256, (count, 3, 8, 12), dtype=np.uint8))


def test_the_same_picture_of_the_same_prompt_is_judged_once() -> None:
    inner = Counting()
    cached = CachedScorer(inner, "mean v1")
    images, others = pictures(0), pictures(1)
    first = cached(PROMPTS, images)
    again = cached(PROMPTS, images)
    assert inner.requests == [4] and (cached.hits, cached.misses) == (4, 4)
    np.testing.assert_array_equal(first.value_B, Counting()(PROMPTS, images).value_B)
    np.testing.assert_array_equal(again.value_B, first.value_B)
    np.testing.assert_array_equal(again.parts["double"], first.parts["double"])
    mixed = np.stack([others[0], images[1], others[2], images[3]])
    found = cached(PROMPTS, mixed)
    np.testing.assert_array_equal(found.value_B, Counting()(PROMPTS, mixed).value_B)  # order kept
    np.testing.assert_array_equal(found.parts["double"], 2 * found.value_B)
    assert inner.requests == [4, 2]


def test_another_prompt_or_other_pixels_are_another_question() -> None:
    inner = Counting()
    cached = CachedScorer(inner, "mean v1")
    images = pictures(0)
    cached(PROMPTS, images)
    cached([*PROMPTS[1:], PROMPTS[0]], images)
    assert inner.requests == [4, 4]
    reworded = [replace(prompt, spans=("OTHER",)) for prompt in PROMPTS]  # the same ids ask for something else
    cached(reworded, images)
    assert inner.requests == [4, 4, 4]
    near = images.copy()
    near[:, 0, 0, 0] += np.where(near[:, 0, 0, 0] > 0.5, -1, 1) / np.float32(255)
    cached(PROMPTS, near)
    assert inner.requests == [4, 4, 4, 4]
    cached(PROMPTS, images + np.float32(1e-5))  # the same 8-bit pixels
    assert len(inner.requests) == 4


def test_the_hash_depends_on_pixels_and_shape() -> None:
    image = pictures(0)[0]
    assert pixel_hash(image) == pixel_hash(to_uint8(image))
    assert pixel_hash(image) != pixel_hash(image.transpose(0, 2, 1))
    assert pixel_hash(np.zeros((3, 2, 6))) != pixel_hash(np.zeros((3, 6, 2)))


def test_nan_is_not_remembered_and_damaged_pictures_do_not_pass_for_others() -> None:
    inner = Counting()
    cached = CachedScorer(inner, "mean v1")
    silent = Prompt.from_text("a cat")
    images = pictures(0, 2)
    images[0, 0, 0, 0] = 0.0  # what a NaN would round to
    for _ in range(2):
        scores = cached([PROMPTS[0], silent], images)
        assert not np.isnan(scores.value_B[0]) and np.isnan(scores.value_B[1])
        assert scores.unjudged == {"failed": 1}
    assert inner.requests == [2, 1]
    damaged = images.copy()
    damaged[0, 0, 0, 0] = np.nan
    assert np.isnan(cached([PROMPTS[0], silent], damaged).value_B[0])
    assert inner.requests == [2, 1, 2]


def test_name_version_and_settings_keep_scores_apart(tmp_path: Path) -> None:
    class Newer(Mean):
        version: ClassVar[int] = 2

    names = [identity("mean", reward) for reward in (Mean(), Newer(), Mean(0.5))] + [identity("other", Mean())]
    assert len(set(names)) == 4 and identity("mean", Mean()) == names[0]
    assert identity("ocr", Ocr()) != identity("ocr", Ocr(ignore_case=False))
    images = pictures(0)
    for factor, name in enumerate(names, 1):
        scores = CachedScorer(Counting(float(factor)), name, tmp_path / "scores.sqlite")(PROMPTS, images)
        np.testing.assert_array_equal(scores.value_B, Counting(float(factor))(PROMPTS, images).value_B)


def test_the_file_gives_the_same_bits_to_another_run(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scores.sqlite"
    images = pictures(0)
    first = CachedScorer(Counting(), "mean v1", path)
    before = first(PROMPTS, images)
    second_inner = Counting()
    second = CachedScorer(second_inner, "mean v1", path)  # while the first is still open
    after = second(PROMPTS, images)
    assert second_inner.requests == [] and second.hits == 4
    assert after.value_B.tobytes() == before.value_B.tobytes()
    assert after.parts["double"].tobytes() == before.parts["double"].tobytes()
    first.close()
    second.close()


def test_memory_is_bounded() -> None:
    inner = Counting()
    cached = CachedScorer(inner, "mean v1", capacity=4)
    cached(PROMPTS, pictures(0))
    cached(PROMPTS, pictures(1))
    cached(PROMPTS, pictures(1))
    assert inner.requests == [4, 4]
    cached(PROMPTS, pictures(0))
    assert inner.requests == [4, 4, 4]


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    path.write_text("this is a note, not a database, and it is long enough to be looked at")
    with pytest.raises(ValueError, match=r"scores\.sqlite is no readable score cache"):
        CachedScorer(Counting(), "mean v1", path)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as file:
        file.execute("CREATE TABLE judged (something TEXT)")
    with pytest.raises(ValueError, match=r"other\.sqlite"):
        CachedScorer(Counting(), "mean v1", other)


def test_empty_and_unequal_batches() -> None:
    cached = CachedScorer(Counting(), "mean v1")
    assert cached([], pictures(0, 0)).value_B.shape == (0,)
    with pytest.raises(ValueError, match="3 prompts but 4 images"):
        cached(PROMPTS[:3], pictures(0))


def test_a_part_may_be_called_value() -> None:
    class Both:
        name = "both"

        def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
            value_B = images_B3HW.reshape(len(prompts), -1).mean(axis=1, dtype=np.float64)
            return Scores(value_B, {"value": value_B + 1.0})

    cached, images = CachedScorer(Both(), "both v1"), pictures(3)
    expected = Both()(PROMPTS, images)
    for scores in (cached(PROMPTS, images), cached(PROMPTS, images)):
        np.testing.assert_array_equal(scores.value_B, expected.value_B)
        assert list(scores.parts) == ["value"]
        np.testing.assert_array_equal(scores.parts["value"], expected.parts["value"])


def test_brisque_keeps_its_parts_through_the_cache(tmp_path: Path) -> None:
    images = to_float(np.random.default_rng(4).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8))
    scorer = Brisque().load()
    for _ in range(2):
        cached = CachedScorer(scorer, identity("brisque", Brisque()), tmp_path / "scores.sqlite")
        scores = cached(PROMPTS[:2], images)
        cached.close()
        assert set(scores.parts) == set(scorer(PROMPTS[:2], images).parts)


def test_a_comparison_and_a_cached_scorer_share_one_file(tmp_path: Path) -> None:
    path, images = tmp_path / "scores.sqlite", pictures(0)
    expected = Counting()(PROMPTS, images)
    with ScoreFile(path) as file:
        keys = [score_key(pixel_hash(image), prompt) for image, prompt in zip(images, PROMPTS, strict=True)]
        rows = scores_as_rows(expected)
        file.keep("mean v1 mean", ((key, row, 4.0, 1) for key, row in zip(keys, rows, strict=True)))
        inner = Counting()
        found = CachedScorer(inner, "mean v1", path)(PROMPTS, images)
        assert inner.requests == [] and found.parts["double"].tobytes() == expected.parts["double"].tobytes()
        CachedScorer(inner, "mean v1", path)(PROMPTS, pictures(1))
        assert inner.requests == [4] and len(file.known("mean v1 mean")) == 8
        assert file.times("mean v1 mean") == ([4.0] * 4, [])  # a cached scorer measures no time


def test_a_comparisons_file_of_before_is_read_and_that_of_a_cached_scorer_is_made_anew(tmp_path: Path) -> None:
    images = pictures(0)
    keys = [score_key(pixel_hash(image), prompt) for image, prompt in zip(images, PROMPTS, strict=True)]
    path = tmp_path / "book.sqlite"
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("CREATE TABLE score (identity TEXT, key TEXT, value REAL NOT NULL, ms REAL, batch INTEGER, "
                    "PRIMARY KEY (identity, key)) WITHOUT ROWID")  # fmt: skip
        old.executemany("INSERT INTO score VALUES (?, ?, ?, ?, ?)",
                        [("mean v1 mean", key, 1 / 3 + i, 2.0, 1) for i, key in enumerate(keys)])  # fmt: skip
    for _ in range(2):  # a second opening takes nothing over again
        with ScoreFile(path) as file:
            assert file.known("mean v1 mean") == {key: 1 / 3 + i for i, key in enumerate(keys)}
            assert file.times("mean v1 mean") == ([2.0] * 4, [])
    inner = Counting()  # which has parts, and nobody knows those of the old values
    assert "double" in CachedScorer(inner, "mean v1", path)(PROMPTS, images).parts and inner.requests == [4]
    path = tmp_path / "cache.sqlite"
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("CREATE TABLE score (key TEXT PRIMARY KEY, scores TEXT NOT NULL) WITHOUT ROWID")
        old.execute("INSERT INTO score VALUES ('a', '{}')")
    inner = Counting()
    for _ in range(2):
        CachedScorer(inner, "mean v1", path)(PROMPTS, images)
    assert inner.requests == [4]
