"""Drawing groups until they teach: what is drawn again, how often, what is kept, and what stays the same.

Shapes: P prompts, G samples of each; M micro-batches.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from alignment import best_of_n, online_dpo
from alignment.best_of_n import BestOfN
from alignment.groups import Groups, Rollouts, sample_groups
from alignment.online_dpo import OnlineDpo
from alignment.trajectory import Exploration
from base_model.sample import Sampler
from tests.fixtures.tiny.tiny_model import tiny_model
from tests.fixtures.toy_alignment import PROMPTS, SPREAD, G, Judged, Watching, listed

FLAT = [0.5] * G
TINY = Groups(
    steps=1, prompts=2, group=G, micro=G, sampler=Sampler(steps=3), exploration=Exploration(window=1, within=2)
)


def drawn(cfg: Groups, judge: Judged, step: int = 0, rank: int = 0, others: torch.Tensor | None = None) -> Rollouts:
    model = tiny_model()
    return sample_groups(model, Watching(model, rank, others), PROMPTS, judge, cfg, step)


def test_a_full_update_is_drawn_once():
    judge = listed(*SPREAD)
    found = drawn(replace(TINY, tries=5), judge)
    assert len(judge.requests) == 2 and found.metrics["tries"] == 1.0 and found.metrics["groups_without_spread"] == 0.0


def test_groups_without_spread_are_replaced_by_new_prompts():
    """The first rollout teaches nothing, the second half: its good group and the third rollout's first are kept."""
    judge = listed(FLAT, FLAT, FLAT, SPREAD[0], SPREAD[1], FLAT)
    found = drawn(replace(TINY, tries=5), judge)
    assert found.metrics["tries"] == 3.0 and len(judge.requests) == 6
    asked = [prompts[0] for prompts, _ in judge.requests]
    assert asked == [p for place in range(3) for p in PROMPTS.batch(place, 2)]
    kept = [part.trajectory.cond.text_BLD for part in found.parts]
    model = tiny_model()
    for text, prompt in zip(kept, (asked[3], asked[4]), strict=True):
        assert torch.equal(text[0], model.encode_text([prompt.text]).text_BLD[0, : text.shape[1]])
    assert all(part.weight_B.tolist() == [1.0] * G for part in found.parts)
    assert found.metrics["groups_without_spread"] == pytest.approx(4 / 6)
    rewards = [FLAT, FLAT, FLAT, SPREAD[0], SPREAD[1], FLAT]
    assert found.metrics["reward"] == pytest.approx(np.mean(rewards)), "kept groups alone would flatter"


def test_tries_are_bounded():
    judge = listed(FLAT)
    found = drawn(replace(TINY, tries=3), judge)
    assert len(judge.requests) == 6 and not found.teaches and len(found.parts) == 2
    judge = listed(FLAT)
    assert not drawn(TINY, judge).teaches and len(judge.requests) == 2, "without tries nothing is drawn again"


def test_what_remains_empty_weighs_nothing_and_the_rest_more():
    found = drawn(replace(TINY, tries=2), listed(FLAT, SPREAD[0], FLAT, FLAT))
    assert [part.weight_B.tolist() for part in found.parts] == [[0.0] * G, [2.0] * G]


def test_further_rollouts_have_their_own_noise_and_updates_their_own_prompts():
    judge = Judged(lambda *_: np.array(FLAT))
    for step in (0, 1):
        drawn(replace(TINY, tries=2), judge, step)
    pictures = [images for _, images in judge.requests]
    assert len({images.tobytes() for images in pictures}) == 8
    assert [p[0] for p, _ in judge.requests] == [p for place in range(4) for p in PROMPTS.batch(place, 2)]


def test_every_rank_draws_as_often_as_the_emptiest():
    """Rank 1 of 2 is full, rank 0 is not: both go on, and both keep as many."""
    judge = listed(*SPREAD)
    found = drawn(replace(TINY, tries=3), judge, rank=1, others=torch.tensor([FLAT, FLAT]).view(-1, 1))
    assert found.metrics["tries"] == 3.0 and len(found.parts) == 2
    asked = [prompts[0] for prompts, _ in judge.requests]
    assert asked == [p for place in (3, 4, 5) for p in PROMPTS.batch(place, 2)], "rank 0 read batches 0 to 2"
    # Half of all kept samples teach, all of them here.
    assert all(part.weight_B.tolist() == [2.0] * G for part in found.parts)


def test_several_rewards_reach_the_advantages():
    def judge(*_: object) -> np.ndarray:
        return np.array([9.0, 9.0, 9.0, 9.0])

    class Parts(Judged):
        def submit(self, prompts, images_B3HW):
            future = super().submit(prompts, images_B3HW)
            future.result().parts.update(a=np.array([0.0, 0, 0, 1]), b=np.array([0.0, 100, math.nan, 100]))
            return future

    found = drawn(replace(TINY, parts=(("a", 1.0), ("b", 1.0))), Parts(judge))
    for part in found.parts:
        a, b, unjudged, c = part.advantage_B.tolist()
        assert a < b < c and unjudged == 0.0 and part.weight_B.tolist() == pytest.approx([4 / 3, 4 / 3, 0.0, 4 / 3])
    assert found.metrics["unjudged"] == 0.25 and found.metrics["reward"] == pytest.approx((0 + 100 + 101) / 3)


def test_the_weights_of_groups_are_means_over_groups_and_those_of_samples_over_samples():
    """One group flat, one half judged: three of four teach, with 10 of 16 samples."""
    nan = math.nan
    found = drawn(replace(TINY, prompts=4), listed(SPREAD[0], FLAT, [nan, 0.2, nan, 0.9], SPREAD[2]))
    assert torch.cat([part.weight_P for part in found.parts]).tolist() == pytest.approx([4 / 3, 0.0, 4 / 3, 4 / 3])
    weights = torch.cat([part.weight_B for part in found.parts])
    assert float(weights.mean()) == pytest.approx(1.0) and float(weights.max()) == pytest.approx(1.6)


@pytest.mark.parametrize("unjudged", [0, 1, 2])
@pytest.mark.parametrize("loop", [best_of_n, online_dpo])
def test_losses_over_groups_do_not_follow_the_number_of_unjudged_pictures(loop, unjudged):
    """What is NaN is neither best nor worst here, so the update must be the same to the last digit."""
    good = [0.0, 1.0, 0.5, 0.25]
    for i in range(unjudged):
        good[2 + i] = math.nan
    kind = BestOfN if loop is best_of_n else OnlineDpo
    cfg = kind(steps=1, prompts=4, group=G, micro=2 * G, sampler=TINY.sampler, exploration=TINY.exploration, levels=1)
    model = tiny_model()
    engine = Watching(model)
    list(loop.train(model, engine, PROMPTS, listed(good, FLAT, SPREAD[1], good), cfg))
    weights = torch.cat([micro.weight_B for micro in engine.micros])
    assert weights.tolist() == pytest.approx([4 / 3, 0.0, 4 / 3, 4 / 3])


def test_spreads_that_exclude_each_other_are_refused():
    for other in ({"group_spread": True}, {"parts": (("a", 1.0),)}):
        with pytest.raises(ValueError, match="raw_spread divides by one spread"):
            replace(TINY, raw_spread=True, **other)


def test_the_raw_spread_reaches_the_advantages():
    far = [[0.0, 0.1, 0.0, 0.1], [5.0, 5.1, 5.0, 5.1]]
    usual, raw = (drawn(replace(TINY, raw_spread=raw), listed(*far)).parts[0].advantage_B for raw in (False, True))
    assert float(usual.abs().max()) == pytest.approx(1.0, rel=0.01)
    assert float(raw.abs().max()) == pytest.approx(0.02, rel=0.01)


# --- several ranks ------------------------------------------------------------------------------------------------


def test_every_rank_keeps_its_own_fullest():
    """Rank 0's second and third group teach, rank 1's first and third: each keeps its own."""
    theirs = torch.tensor([FLAT, SPREAD[0], SPREAD[1], FLAT]).view(4, G, 1)
    engine_judge = listed(SPREAD[0], FLAT, SPREAD[1], FLAT)

    class TwoRanks(Watching):
        def gather(self, x_B: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return torch.cat([theirs[2 * self.calls - 2 : 2 * self.calls].flatten(0, 1), x_B])

    model = tiny_model()
    engine = TwoRanks(model, 1, theirs)
    found = sample_groups(model, engine, PROMPTS, engine_judge, replace(TINY, tries=2), 0)
    asked = [prompts[0].text for prompts, _ in engine_judge.requests]
    kept = [part.trajectory.cond.text_BLD for part in found.parts]
    for text, prompt in zip(kept, (asked[0], asked[2]), strict=True):
        assert torch.equal(text[0], model.encode_text([prompt]).text_BLD[0, : text.shape[1]])
    assert all((part.advantage_B != 0).all() for part in found.parts)
    assert [part.weight_P.tolist() for part in found.parts] == [[1.0], [1.0]]


@pytest.mark.parametrize(("own", "others"), [(FLAT, SPREAD[0]), (SPREAD[0], FLAT), (FLAT, FLAT)])
def test_an_update_is_made_by_all_ranks_or_by_none(own, others):
    """A rank whose own groups teach nothing takes part when another's do: alone it would be waited for forever."""
    found = drawn(TINY, listed(own), rank=1, others=torch.tensor([others] * 2).view(-1, 1))
    assert found.teaches == (own != FLAT or others != FLAT)
    if own == FLAT:
        assert not any(part.weight_B.any() for part in found.parts)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="tries=0 must be above 0"):
        replace(TINY, tries=0)
