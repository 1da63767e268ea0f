"""Advantages by hand: within a group, over an update, of several rewards, and of images nobody could judge."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from alignment.advantages import advantages, fullest, mixed, reward_table
from rewards.scores import Scores


def test_advantages_by_hand():
    reward = torch.tensor([[1.0, 0.0, 0.0, 1.0], [3.0, 1.0, 1.0, 3.0]])
    own, teaches = advantages(reward, True, 5.0)
    size = torch.tensor([[0.5 / 0.5001], [1.0 / 1.0001]])
    torch.testing.assert_close(own, torch.tensor([[1.0, -1.0, -1.0, 1.0]] * 2) * size)
    assert teaches.all()
    everyone, _ = advantages(reward, False, 5.0)
    spread = math.sqrt((4 * 0.25 + 4 * 1.0) / 8)
    expected = torch.tensor([[0.5, -0.5, -0.5, 0.5], [1.0, -1.0, -1.0, 1.0]]) / (spread + 1e-4)
    torch.testing.assert_close(everyone, expected)


def test_unjudged_pictures_are_left_out_of_mean_and_spread():
    nan = math.nan
    reward = torch.tensor([[1.0, nan, 3.0, nan], [nan, nan, nan, 5.0], [nan] * 4])
    for own in (True, False):
        advantage, teaches = advantages(reward, own, 5.0)
        # Only the first group compares; with the update's spread the lonely image of the second counts as spread 0.
        spread = 1.0 if own else math.sqrt((1.0 + 1.0 + 0.0) / 3)
        torch.testing.assert_close(advantage[0], torch.tensor([-1.0, 0.0, 1.0, 0.0]) / (spread + 1e-4))
        assert not advantage[1:].any()
        assert teaches.tolist() == [[True, False, True, False], [False] * 4, [False] * 4]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("size", [3, 7, 12, 16])
def test_equal_rewards_teach_nothing(own, size):
    """Also where the mean of equal numbers is not that number in float32."""
    for value in torch.rand(100, generator=torch.Generator().manual_seed(0)).tolist():
        reward = torch.stack([torch.full((size,), value), torch.linspace(0, 1, size)])
        advantage, teaches = advantages(reward, own, 5.0)
        assert not advantage[0].any() and not teaches[0].any()
        assert teaches[1].all() and advantage[1].abs().max() > 1.0


@pytest.mark.parametrize("own", [True, False])
def test_advantages_ignore_level_and_scale(own):
    reward = torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    before, _ = advantages(reward, own, 5.0)
    level, _ = advantages(reward + torch.tensor([[5.0], [-3.0], [0.5]]), own, 5.0)
    scale, _ = advantages(40.0 * reward, own, 5.0)
    torch.testing.assert_close(level, before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scale, before, atol=2e-3, rtol=1e-3)
    assert before.mean(1).abs().max() < 1e-6, "every group is centred on itself"


def test_advantages_are_clipped():
    reward = torch.zeros(1, 100)
    reward[0, 0], reward[0, 1] = 1.0, -1.0
    advantage, _ = advantages(reward, True, 2.5)
    assert advantage.max() == 2.5 and advantage.min() == -2.5


def test_the_published_spread_is_that_of_raw_rewards():
    """`stat_tracking.py` of Flow-GRPO divides by numpy's std of all rewards of an update."""
    random = np.random.default_rng(0)
    raw = random.random((12, 1)) + 0.1 * random.normal(size=(12, 24))
    published = (raw - raw.mean(1, keepdims=True)) / (raw.std() + 1e-4)
    ours, teaches = advantages(torch.from_numpy(raw).float(), False, 5.0, raw_spread=True)
    torch.testing.assert_close(ours, torch.from_numpy(published).float(), rtol=1e-4, atol=1e-5)
    default, _ = advantages(torch.from_numpy(raw).float(), False, 5.0)
    assert teaches.all() and 2.5 < float(default.std() / ours.std()) < 3.5


def test_the_published_spread_leaves_out_what_was_not_judged():
    nan = math.nan
    reward = torch.tensor([[0.0, 1.0, nan, nan], [5.0, 6.0, 5.0, 6.0], [nan] * 4])
    advantage, teaches = advantages(reward, False, 5.0, raw_spread=True)
    std = np.std([0.0, 1.0, 5.0, 6.0, 5.0, 6.0]) + 1e-4
    assert advantage[0].tolist() == pytest.approx([-0.5 / std, 0.5 / std, 0.0, 0.0])
    assert advantage[1].tolist() == pytest.approx([-0.5 / std, 0.5 / std] * 2)
    assert not teaches[2].any() and not advantage[2].any()


# --- several rewards ----------------------------------------------------------------------------------------------


def test_several_rewards_by_hand():
    """(V2): each in units of its own spread; one that does not tell the members apart is silent there."""
    one, other = [[1.0, 0.0, 0.0, 1.0], [0.0, 2.0, 2.0, 0.0]], [[100.0, 300.0, 100.0, 300.0], [7.0, 7.0, 7.0, 7.0]]
    reward_BK = torch.stack([torch.tensor(one).flatten(), torch.tensor(other).flatten()], 1)
    a, b = torch.tensor([1.0, -1.0, -1.0, 1.0]) * 0.5 / 0.5001, torch.tensor([-1.0, 1.0, -1.0, 1.0]) * 100 / 100.0001
    c = torch.tensor([-1.0, 1.0, 1.0, -1.0]) / 1.0001
    torch.testing.assert_close(mixed(reward_BK, [0.7, 0.3], 4), torch.stack([0.7 * a + 0.3 * b, 0.7 * c]))


def test_units_of_rewards_do_not_matter():
    """Under a raw sum the wide one would decide; here a change of unit and of zero changes nothing."""
    reward_BK = torch.rand(24, 2, generator=torch.Generator().manual_seed(0))
    before, _ = advantages(mixed(reward_BK, [1.0, 0.5], 6), False, 5.0)
    after, _ = advantages(mixed(reward_BK * torch.tensor([1.0, 500.0]) - 3.0, [1.0, 0.5], 6), False, 5.0)
    torch.testing.assert_close(after, before, atol=2e-3, rtol=2e-3)
    raw, _ = advantages((reward_BK * torch.tensor([1.0, 500.0])).sum(1).view(-1, 6), False, 5.0)
    assert float((raw - before).abs().max()) > 0.5


def test_a_picture_that_one_reward_could_not_judge_is_not_judged():
    reward_BK = torch.tensor([[0.0, 1.0], [1.0, math.nan], [2.0, 3.0], [3.0, 5.0]])
    advantage, teaches = advantages(mixed(reward_BK, [1.0, 1.0], 4), True, 5.0)
    assert teaches.tolist() == [[True, False, True, True]] and advantage[0, 1] == 0.0
    assert float(advantage.mean()) == pytest.approx(0.0, abs=1e-6)


def test_rewards_are_found_by_their_names():
    scores = Scores(np.array([1.0, 2.0]), {"ocr": np.array([0.1, 0.2]), "style": np.array([5.0, np.nan])})
    torch.testing.assert_close(reward_table(scores, ()), torch.tensor([[1.0], [2.0]]))
    table = reward_table(scores, (("style", 1.0), ("ocr", 2.0)))
    torch.testing.assert_close(table, torch.tensor([[5.0, 0.1], [math.nan, 0.2]]), equal_nan=True)
    with pytest.raises(ValueError, match="no part beauty; its parts are ocr, style"):
        reward_table(scores, (("beauty", 1.0),))


# --- which micro-batches are kept ---------------------------------------------------------------------------------


def test_the_fullest_are_kept_in_their_order():
    teaching = torch.tensor([[1, 0, 2, 2, 1], [0, 0, 0, 0, 0], [2, 2, 2, 2, 2], [0, 0, 1, 0, 2]])
    assert fullest(teaching, 2).tolist() == [[2, 3], [0, 1], [0, 1], [2, 4]]
    assert fullest(teaching, 3).tolist() == [[0, 2, 3], [0, 1, 2], [0, 1, 2], [0, 2, 4]]
