"""Weighted mixtures, rewards named by a text, and what judging costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from preference_data.pixels import to_float
from preference_data.records import Prompt
from rewards.parse import named_reward, named_rewards, single_rewards
from rewards.reward_table import REWARDS
from rewards.scores import Scores, View, checked, concatenate, obstacles, tabulate
from rewards.serving.cache import identity
from rewards.serving.metering import Meter, means, measured
from rewards.serving.workers import ScorerPool
from rewards.text.ocr import Ocr, OcrGold
from rewards.weighted import Part, Product, Weighted

PROMPTS = [Prompt.from_text(text) for text in ('"A"', '"B"', "a cat", '"D"')]


class ChannelScorer:
    def __init__(self, channel: int, scale: float) -> None:
        self.channel, self.scale, self.name = channel, scale, f"channel:{channel}"

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        rows: list[dict[str, float] | str] = []
        for picture, cause in zip(images_B3HW, obstacles(prompts, images_B3HW, ("spans",)), strict=True):
            mean = float(picture[self.channel].mean())
            rows.append(cause or ("dark" if mean == 0 else {"value": self.scale * mean, "double": 2 * mean}))
        scores = tabulate(rows, ("value", "double"))
        return Scores(scores.value_B, scores.parts, scores.unjudged, {"requests": float(len(prompts))})


@dataclass(frozen=True)
class Channel:
    """The mean of a colour channel, times ``scale``; range [0, scale]."""

    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("spans",)
    channel: int = 0
    scale: float = 1.0
    bounded: bool = True
    file: Path | None = None
    lights: tuple[int, ...] = ()

    @property
    def range(self) -> tuple[float, float]:
        return (0.0, self.scale if self.bounded else math.inf)

    def sees(self, height: int, width: int) -> View:
        return View(0.5 if self.channel else 1.0, height, width, f"channel {self.channel}")

    def load(self, device: str = "cpu") -> ChannelScorer:
        return ChannelScorer(self.channel, self.scale)


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REWARDS, "channel", Channel)


def pictures() -> np.ndarray:
    grey = np.full((4, 3, 4, 4), 0.5, dtype=np.float32)
    grey[0, 1] = 0.25
    return grey


def test_the_value_is_the_weighted_sum_and_every_part_is_kept() -> None:
    reward = Weighted((Part("red", Channel(0), 2.0), Part("green", Channel(1, 10.0), -0.5)))
    assert reward.range == (-5.0, 2.0) and reward.needs == ("spans",)
    scores = reward.load()(PROMPTS, pictures())
    np.testing.assert_allclose(scores.value_B, [1.0 - 1.25, 1.0 - 2.5, np.nan, 1.0 - 2.5])
    np.testing.assert_allclose(scores.parts["red"], [0.5, 0.5, np.nan, 0.5])
    np.testing.assert_allclose(scores.parts["green"], [2.5, 5.0, np.nan, 5.0])
    np.testing.assert_allclose(scores.parts["green/double"], [0.5, 1.0, np.nan, 1.0])
    assert scores.unjudged == {"red/no_spans": 1} and scores.spent == {
        "requests": 4.0 + 3.0
    }  # what red failed on is not asked of green
    assert reward.sees(10, 20) == View(0.5, 10, 20, "channel 1")


def test_a_product_multiplies_its_factors_and_is_not_judged_where_one_of_them_is_not() -> None:
    reward = Product((("red", Channel(0)), ("green", Channel(1))))
    assert reward.range == (0.0, 1.0) and reward.needs == ("spans",)
    half = pictures()
    half[3, 0], half[3, 1] = 0.25, 0.0  # green cannot judge a dark image, whatever red says of it
    scores = reward.load()(PROMPTS, half)
    np.testing.assert_allclose(scores.value_B, [0.5 * 0.25, 0.5 * 0.5, np.nan, np.nan])
    np.testing.assert_allclose(scores.parts["green"], [0.25, 0.5, np.nan, np.nan])
    assert scores.unjudged == {"red/no_spans": 1, "green/dark": 1} and scores.spent == {"requests": 4.0 + 3.0}
    assert reward.sees(10, 20) == View(0.5, 10, 20, "channel 1")
    swapped = Product(reward.factors[::-1])
    np.testing.assert_array_equal(swapped.load()(PROMPTS, half).value_B, scores.value_B)


def test_a_product_is_of_different_rewards_from_0_to_1() -> None:
    with pytest.raises(ValueError, match=r"wide ranges from 0 to 10, and a product is of .* as in 1.0\*ocr\+0.2\*wide"):
        Product((("red", Channel(0)), ("wide", Channel(1, 10.0))))
    with pytest.raises(ValueError, match="open ranges from 0 to inf"):
        Product((("red", Channel(0)), ("open", Channel(1, bounded=False))))
    with pytest.raises(ValueError, match="at least two, and every name once"):
        Product((("red", Channel(0)),))
    with pytest.raises(ValueError, match="every name once"):
        named_reward("ocr*ocr")


def test_a_product_is_a_reward_or_a_term_of_a_mixture_in_words() -> None:
    product = Product((("ocr", Ocr()), ("channel:channel=2,file=a*b/c", Channel(2, file=Path("a*b/c")))))
    assert named_reward("ocr*channel:channel=2,file=a*b/c") == product
    assert named_reward("0.5*ocr*channel:channel=2,file=a*b/c+2*ocr_judge") == Weighted(
        (Part("ocr*channel:channel=2,file=a*b/c", product, 0.5), Part("ocr_judge", OcrGold(), 2.0))
    )
    assert list(named_rewards("ocr*channel:channel=1,scale=0.5,ocr")) == ["ocr*channel:channel=1,scale=0.5", "ocr"]
    assert single_rewards("0.5*ocr*channel:2+2*ocr_judge") == ["ocr", "channel:2", "ocr_judge"]
    assert single_rewards("ocr*channel:2") == ["ocr", "channel:2"] and single_rewards("0.5*ocr") == ["ocr"]
    with pytest.raises(ValueError, match="there is no reward 'orc'; did you mean ocr"):
        named_reward("ocr_judge*orc")
    assert identity("product", named_reward("ocr*ocr_judge")) != identity("product", named_reward("ocr_judge*ocr"))


def test_parts_after_one_that_judges_nothing_are_there_and_not_judged() -> None:
    images = np.full((len(PROMPTS), 3, 4, 4), np.nan, np.float32)
    scores = Weighted((Part("red", Channel(0), 1.0), Part("green", Channel(1), 1.0))).load()(PROMPTS, images)
    assert np.isnan(scores.value_B).all() and {"red", "green"} <= scores.parts.keys()
    assert np.isnan(scores.parts["green"]).all()


def test_parts_that_a_reward_leaves_out_of_some_images_are_not_judged_there() -> None:
    one, other = Scores(np.zeros(1), {"letters": np.ones(1)}), Scores(np.ones(2), {"faces": np.zeros(2)})
    parts = concatenate([one, other, one]).parts
    np.testing.assert_array_equal(parts["letters"], [1, np.nan, np.nan, 1])
    np.testing.assert_array_equal(parts["faces"], [np.nan, 0, 0, np.nan])


@pytest.mark.parametrize(("value", "part"), [(np.inf, 0.0), (0.0, -np.inf)])
def test_nothing_of_a_score_is_infinite(value: float, part: float) -> None:
    with pytest.raises(ValueError, match="the reward own gave an infinite"):
        checked(Scores(np.full(1, value), {"letters": np.full(1, part)}), 1, "own")


def test_a_reward_is_not_asked_about_no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    whole = ChannelScorer.__call__
    monkeypatch.setattr(ChannelScorer, "__call__", lambda *own: asked.append(len(own[1])) or whole(*own))
    mixture = Weighted((Part("red", Channel()), Part("green", Channel(1)))).load()
    assert np.isnan(mixture([PROMPTS[2]], np.ones((1, 3, 2, 2), np.float32)).value_B).all() and asked == [1]


def test_normalisation_by_range_and_by_given_numbers() -> None:
    parts = (Part("red", Channel(0), 0.5), Part("green", Channel(1, 10.0), 0.5))
    by_range = Weighted(parts, normalise="range")
    assert by_range.range == (0.0, 1.0)
    np.testing.assert_allclose(by_range.load()(PROMPTS[:1], pictures()[:1]).value_B, [0.5 * 0.5 + 0.5 * 0.25])
    given = Weighted((Part("green", Channel(1, 10.0), 3.0, centre=2.0, scale=0.25),))
    np.testing.assert_allclose(given.load()(PROMPTS[:1], pictures()[:1]).value_B, [3.0 * (2.5 - 2.0) / 0.25])
    with pytest.raises(ValueError, match=r"open has no finite range \(\(0.0, inf\)\)"):
        Weighted((Part("open", Channel(bounded=False)),), normalise="range")


def test_a_picture_that_one_part_cannot_judge_is_not_judged() -> None:
    dark = pictures()
    dark[1, 1], dark[3, 0], dark[0, 0, 0, 0] = 0.0, 0.0, np.nan
    scores = Weighted((Part("red", Channel(0)), Part("green", Channel(1)))).load()(PROMPTS, dark)
    assert np.isnan(scores.value_B).all() and all(np.isnan(part).all() for part in scores.parts.values())
    assert scores.unjudged == {"not_finite": 1, "red/no_spans": 1, "red/dark": 1, "green/dark": 1}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "needs at least one"),
        ((Part("a", Ocr()), Part("a", OcrGold())), "every name once"),
    ],
)
def test_a_mixture_that_makes_no_sense_is_refused(parts: tuple[Part, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Weighted(parts)
    with pytest.raises(ValueError, match="weight nan"):
        Part("a", Ocr(), math.nan)
    with pytest.raises(ValueError, match="choose one of none, range"):
        Weighted((Part("a", Ocr()),), normalise="rank")


def test_mixtures_of_different_rewards_share_no_remembered_scores() -> None:
    def mixture(reward: Ocr | OcrGold) -> Weighted:
        return Weighted((Part("a", reward),))

    ocr, judge = mixture(Ocr()), mixture(OcrGold())
    assert identity("weighted", ocr) != identity("weighted", judge)
    assert identity("weighted", ocr) == identity("weighted", mixture(Ocr()))


def test_a_reward_is_named_by_a_text() -> None:
    assert named_reward("ocr") == Ocr()
    assert named_reward("ocr:engine=paddleocr,ignore_case=no") == Ocr("paddleocr", ignore_case=False)
    assert named_reward("channel:channel=2,scale=1.5,file=a,b,lights=3|4") == Channel(2, 1.5, True, Path("a,b"), (3, 4))
    assert named_reward("channel:file=none") == Channel()
    expected = Weighted((Part("ocr", Ocr(), 0.7), Part("channel:channel=1", Channel(1), 0.3)))
    assert named_reward("0.7*ocr+0.3*channel:channel=1") == expected
    assert named_reward("2*ocr") == Weighted((Part("ocr", Ocr(), 2.0),))
    found = named_rewards("ocr,channel:channel=1,scale=2,0.5*ocr+0.5*ocr_judge, ocr_judge")
    assert list(found) == ["ocr", "channel:channel=1,scale=2", "0.5*ocr+0.5*ocr_judge", "ocr_judge"]
    assert found["channel:channel=1,scale=2"] == Channel(1, 2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("orc", "there is no reward 'orc'; did you mean ocr\\?"),
        ("ocr:engin=x", "has no setting 'engin'; did you mean engine\\? It has engine, ignore_case"),
        ("ocr:crop=perhaps", "ocr:crop is 'perhaps'; it must be yes or no"),
        ("channel:channel=x", "channel:channel: a whole number is wanted, such as 48; 'x' is not one"),
        ("ocr+ocr", "there is no reward 'ocr\\+ocr'"),
        ("0.5*ocr+", "nothing stands after the \\+ in '0.5\\*ocr\\+'"),
        ("ocr*", "nothing stands after the \\* in"),
        ("0.5*ocr+0.5*orc", "there is no reward 'orc'"),
        ("", "there is no reward ''"),
    ],
)
def test_a_misspelt_reward_says_what_is_near(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named_reward(text)
    with pytest.raises(ValueError, match="'ocr' is named twice"):
        named_rewards("ocr,ocr_judge,ocr")


def test_costs_and_failures_are_added_up_and_handed_out_once() -> None:
    meter = Meter()
    assert meter.drain() == {}
    for _ in range(2):
        meter.add(measured(ChannelScorer(0, 1.0), PROMPTS, pictures()))
    found = meter.drain()
    seconds = found.pop("cost/seconds")
    assert 0 < seconds < 1
    assert found == {"part/value": 0.5, "part/double": 1.0, "cost/requests": 1.0, "unjudged/no_spans": 2.0}
    assert meter.drain() == {}
    ranks = [{"part/a": (3.0, 3.0), "unjudged/x": (2.0, 0.0)}, {"part/a": [5.0, 1.0], "unjudged/x": [1.0, 0.0]}]
    assert means(ranks) == {"part/a": 2.0, "unjudged/x": 3.0}, "an image weighs the same on every rank"
    ranks = [{"cost/seconds": (5.0, 5.0), "cost/tokens": (10.0, 5.0)}, {"cost/seconds": (5.0, 5.0)}]
    assert means(ranks) == {"cost/seconds": 1.0, "cost/tokens": 1.0}, "a rank without tokens has images all the same"


def test_a_pool_knows_what_its_workers_spent() -> None:
    with ScorerPool(Channel(), workers=1, chunk=2) as pool:
        assert pool.meter.drain() == {}
        scores = pool(PROMPTS, to_float(np.full((4, 3, 4, 4), 51, dtype=np.uint8)))
        assert scores.spent["pictures"] == 4 and scores.spent["seconds"] > 0 and scores.spent["requests"] == 4
        found = pool.meter.drain()
        assert found["part/value"] == pytest.approx(0.2) and found["unjudged/no_spans"] == 1
