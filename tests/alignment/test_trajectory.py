"""Rollouts: where their noise is, what they share, and that a loss sees what the rollout saw.

Shapes: B = P prompts x G samples each, S latent tokens, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from alignment.trajectory import Exploration, Trajectory, Transition, policy, rollout
from base_model import flow
from base_model.qwen.model import QwenImage
from base_model.sample import Sampler, sample
from tests.fixtures.tiny.tiny_model import Spy, tiny_model

TEXTS = ('the word "ABC" in red sans', 'the word "HELLO" in blue mono, top left')
P, G, STEPS = len(TEXTS), 3, 6
KERNELS = [(flow.ddim, 1.0), (flow.flow_sde, 0.7), (flow.cps, 0.8), (flow.dance, 0.3)]


def roll(
    model: QwenImage,
    walk: Exploration,
    guidance: float = 1.0,
    seed: int = 0,
    step: int = 0,
    rank: int = 0,
    part: int = 0,
) -> Trajectory:
    sampler = Sampler(steps=STEPS, guidance=guidance)
    return rollout(model, TEXTS, G, sampler, walk, seed, step, rank, part)


def replay(model: QwenImage, seen: Trajectory, t: Transition, guidance: float, walk: Exploration) -> flow.Gaussian:
    """The policy of one step, asked again."""
    cond, uncond = (c.take(slice(None, None, t.copies)) for c in (seen.cond, seen.uncond))
    return policy(model, t, cond, uncond, Sampler(steps=STEPS, guidance=guidance), walk)


def implied_noise(model: QwenImage, seen: Trajectory, walk: Exploration) -> Tensor:
    """[T, B, S, C]: the noise that every stochastic step must have drawn."""
    drawn = []
    with torch.no_grad():
        for t in seen.transitions:
            where = replay(model, seen, t, 1.0, walk)
            drawn.append((t.next_BSC - where.mean_BSC) / where.std)
    return torch.stack(drawn)


def noises(model: QwenImage, monkeypatch: pytest.MonkeyPatch, given: list[Tensor]) -> None:
    """Let the model's noise be these tensors, in order."""
    left: Iterator[Tensor] = iter(given)

    def noise(size: int, generator: torch.Generator) -> Tensor:
        drawn = next(left)
        assert len(drawn) == size
        return drawn

    monkeypatch.setattr(model, "noise", noise)


def recorded(model: QwenImage) -> list[Tensor]:
    """What the model's noise will have been, in order."""
    asked, drawn = model.noise, []

    def noise(size: int, generator: torch.Generator) -> Tensor:
        drawn.append(asked(size, generator))
        return drawn[-1]

    model.noise = noise  # type: ignore[method-assign]
    return drawn


# --- the ratio ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "noise"), KERNELS)
@pytest.mark.parametrize("shared", [True, False])
def test_ratio_is_exactly_one_before_the_first_update(kernel, noise, shared):
    model = tiny_model()
    walk = Exploration(kernel, noise, shared_noise=shared)
    for guidance in (1.0, 2.0):
        for step in range(3):  # every start of the window
            seen = roll(model, walk, guidance, step=step)
            for t in seen.transitions:
                now = replay(model, seen, t, guidance, walk)
                assert now.mean_BSC.requires_grad and now.mean_BSC.dtype == torch.float32
                ratio = torch.exp(now.log_prob(t.next_BSC) - t.log_prob_B)
                assert ratio.tolist() == [1.0] * (P * G)


@pytest.mark.parametrize(("kernel", "noise"), [*KERNELS, (flow.ddim, 0.5), (flow.dance, 0.6)])
def test_a_step_draws_from_its_kernel_and_says_how_likely_that_was(kernel, noise):
    """next = mean + std eps;  log p = mean over dimensions of -eps^2 / 2 - log std - log(2 pi) / 2."""
    model, walk = tiny_model(), Exploration(kernel, noise, shared_noise=False)
    drawn = recorded(model)
    seen = roll(model, walk)
    for t, eps in zip(seen.transitions, drawn[1:], strict=True):
        with torch.no_grad():
            v = model.velocity(t.x_BSC, torch.full((P * G,), t.sigma), seen.cond)
        where = kernel(t.x_BSC, v, t.sigma, t.sigma_next, noise)
        torch.testing.assert_close(t.next_BSC, where.mean_BSC + where.std * eps, atol=1e-5, rtol=1e-5)
        expected = -0.5 * eps.square().mean((1, 2)) - math.log(where.std) - 0.5 * math.log(2 * math.pi)
        torch.testing.assert_close(t.log_prob_B, expected, atol=1e-4, rtol=1e-4)


# --- the window ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "within"), [(2, 4), (1, 5), (3, 4), (1, 2)])
def test_window_moves_every_update_and_visits_every_place(window, within):
    walk, choices = Exploration(window=window, within=within), within - window + 1
    for seed in range(5):
        starts = [walk.start(seed, step) for step in range(40 * choices)]
        assert all(a != b for a, b in pairwise(starts))
        for i in range(0, len(starts), choices):
            assert set(starts[i : i + choices]) == set(range(choices))


@pytest.mark.parametrize("step", range(4))
def test_the_window_is_the_same_on_every_rank_and_in_every_part(step):
    walk = Exploration(window=1, within=3)
    places = {(rank, part): roll(tiny_model(), walk, step=step, rank=rank, part=part).transitions[0].sigma
              for rank in range(3) for part in (0, 4)}  # fmt: skip
    assert set(places.values()) == {Sampler(steps=STEPS).levels()[walk.start(0, step)]}, places


def test_window_follows_from_the_seed():
    walk = Exploration(window=1, within=6)
    orders = {seed: tuple(walk.start(seed, step) for step in range(12)) for seed in range(20)}
    assert orders[3] == tuple(Exploration(window=1, within=6).start(3, step) for step in range(12))
    assert len(set(orders.values())) > 10
    assert {Exploration(window=4, within=4).start(0, step) for step in range(5)} == {0}


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("step", range(3))
def test_noise_lies_in_the_window_and_nowhere_else(step, guidance):
    """Walk every sample by hand, one at a time: the ODE outside the window, the recorded noise inside."""
    model, walk = tiny_model(), Exploration(shared_noise=False)
    drawn = recorded(model)
    seen, first = roll(model, walk, guidance, step=step), walk.start(0, step)
    assert [len(eps) for eps in drawn] == [P * G] * 3
    levels = flow.schedule(STEPS, 0.5)
    assert [(t.sigma, t.sigma_next) for t in seen.transitions] == [
        (levels[first], levels[first + 1]), (levels[first + 1], levels[first + 2])
    ]  # fmt: skip

    def guided(x: Tensor, sigma: float, text: str) -> Tensor:
        v, nothing = (model.velocity(x, torch.tensor([sigma]), model.encode_text([t])) for t in (text, ""))
        further = nothing + guidance * (v - nothing)
        return further / further.norm(dim=-1, keepdim=True) * v.norm(dim=-1, keepdim=True)

    with torch.no_grad():
        for b in range(P * G):
            x = drawn[0][b : b + 1]
            for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
                v = guided(x, sigma, TEXTS[b // G])
                if first <= i < first + 2:
                    torch.testing.assert_close(seen.transitions[i - first].x_BSC[b : b + 1], x, atol=1e-4, rtol=1e-4)
                    step_ = flow.ddim(x, v, sigma, sigma_next, 1.0)
                    x = step_.mean_BSC + step_.std * drawn[1 + i - first][b : b + 1]
                else:
                    x = x - (sigma - sigma_next) * v
            torch.testing.assert_close(seen.x0_BSC[b : b + 1], x, atol=1e-4, rtol=1e-4)


def test_noise_is_new_for_every_step_member_and_prompt():
    model, walk = tiny_model(), Exploration()
    eps = implied_noise(model, roll(model, walk), walk).flatten(0, 1).flatten(1)
    assert len(eps) == 2 * P * G
    distance = torch.cdist(eps, eps) / math.sqrt(2 * eps.shape[1])
    apart = distance[~torch.eye(len(eps), dtype=torch.bool)]
    assert float(apart.min()) > 0.8, "two of them are the same or overlap; independent ones are 1 apart"
    assert abs(float(eps.mean())) < 0.1 and abs(float(eps.std()) - 1.0) < 0.05


def test_every_address_has_its_own_noise():
    """Updates, ranks, seeds and parts draw different noise; the same address draws the same."""
    model, walk = tiny_model(), Exploration(window=2, within=2)
    addresses = [(0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 0, 0, 0), (0, 0, 0, 1)]
    drawn = [roll(model, walk, 1.0, *address) for address in addresses]
    assert torch.equal(roll(model, walk).x0_BSC, drawn[0].x0_BSC)
    firsts = [t.transitions[0].x_BSC for t in drawn]
    later = [implied_noise(model, t, walk) for t in drawn]
    for values in (firsts, later):
        for i in range(len(values)):
            for j in range(i):
                assert float((values[i] - values[j]).std()) > 1.0


# --- sharing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("step", range(3))
def test_sharing_the_prefix_changes_nothing_but_the_work(monkeypatch, guidance, step):
    model = tiny_model()
    random = torch.Generator().manual_seed(7)
    start, *eps = (torch.randn(n, 12, 16, generator=random) for n in (P, P * G, P * G))
    shared, alone = Exploration(shared_noise=True), Exploration(shared_noise=False)
    first = shared.start(0, step)

    with Spy(model) as spy:
        noises(model, monkeypatch, [start, *eps])
        a = roll(model, shared, guidance, step=step)
        together = spy.rows
    with Spy(model) as spy:
        noises(model, monkeypatch, [start.repeat_interleave(G, 0), *eps])
        b = roll(model, alone, guidance, step=step)
        separate = spy.rows

    halves = 2 if guidance != 1.0 else 1
    assert together == halves * (P * (first + 1) + P * G * (STEPS - first - 1))
    assert separate == halves * P * G * STEPS
    for t, u in zip(a.transitions, b.transitions, strict=True):
        torch.testing.assert_close(t.next_BSC, u.next_BSC, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(t.log_prob_B, u.log_prob_B, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(t.x_BSC.repeat_interleave(t.copies, 0), u.x_BSC, atol=1e-5, rtol=1e-5)
    assert [t.copies for t in a.transitions] == [G, 1] and [t.copies for t in b.transitions] == [1, 1]
    torch.testing.assert_close(a.x0_BSC, b.x0_BSC, atol=1e-5, rtol=1e-5)


def test_members_share_their_first_noise_or_not():
    model = tiny_model()
    window = {"window": 2, "within": 2}
    shared, alone = roll(model, Exploration(**window)), roll(model, Exploration(**window, shared_noise=False))
    assert shared.transitions[0].x_BSC.shape[0] == P and alone.transitions[0].x_BSC.shape[0] == P * G
    for start in (shared.transitions[0].x_BSC, alone.transitions[0].x_BSC):
        assert torch.pdist(start.flatten(1)).min() > 10.0  # sqrt(2 x 192) = 20 for independent ones
    members = shared.x0_BSC.view(P, G, -1)
    assert all(torch.pdist(group).min() > 1.0 for group in members), "members of a group must part in the window"


def test_rows_belong_to_their_prompts():
    """Groups lie side by side: rows 0..G-1 are the first prompt's, in conditioning and latents."""
    model = tiny_model()
    seen = roll(model, Exploration(), guidance=2.0)
    expected = model.encode_text([text for text in TEXTS for _ in range(G)])
    assert torch.equal(seen.cond.text_BLD, expected.text_BLD) and torch.equal(seen.cond.mask_BL, expected.mask_BL)
    nothing = model.encode_text([""])
    assert len(seen.uncond) == P * G
    assert all(torch.equal(row, nothing.text_BLD[0]) for row in seen.uncond.text_BLD)
    with torch.no_grad():  # the second prompt's members follow from the second row before the window
        alone = replay(model, seen, seen.transitions[0], 2.0, Exploration()).mean_BSC[G:]
    assert float((seen.transitions[0].next_BSC[G:] - alone).std()) < float(
        (seen.transitions[0].next_BSC[:G] - alone).std()
    )


def test_guidance_and_prompt_reach_the_walk():
    model = tiny_model()
    plain, guided = (roll(model, Exploration(), guidance).x0_BSC for guidance in (1.0, 2.0))
    assert float((plain - guided).abs().max()) > 1e-3
    with Spy(model) as spy:
        roll(model, Exploration(), guidance=2.0)
    for x, cond in zip(spy.x, spy.cond, strict=True):
        half = len(x) // 2
        assert torch.equal(x[:half], x[half:])
        assert cond.mask_BL[:half].sum(1).min() > 1 and cond.mask_BL[half:].sum(1).max() == 1


def test_a_rollout_leaves_no_graph():
    seen = roll(tiny_model(), Exploration())
    tensors = [seen.x0_BSC] + [x for t in seen.transitions for x in (t.x_BSC, t.next_BSC, t.log_prob_B)]
    assert not any(tensor.requires_grad for tensor in tensors)


def test_walks_that_cannot_learn_are_refused():
    with pytest.raises(ValueError, match="deterministic walk has no log-probability"):
        Exploration(noise=0.0)
    for window in (-1, 5):
        with pytest.raises(ValueError, match=f"window of {window} steps does not fit the first 4"):
            Exploration(window=window, within=4)
    with pytest.raises(ValueError, match="every image of a group the same"):
        Exploration(window=0)
    with pytest.raises(ValueError, match="stay=0 is below 1"):
        Exploration(stay=0)
    for noise in (math.nan, math.inf, -1.0):
        with pytest.raises(ValueError, match=f"noise is {noise}"):
            Exploration(noise=noise)


@pytest.mark.parametrize("kernel", [flow.ddim, flow.cps])
def test_noise_that_a_kernel_cannot_take_is_refused_when_the_walk_is_made(kernel):
    with pytest.raises(ValueError, match=f"noise=1.2 is more than flow.{kernel.__name__} can add, which is 1"):
        Exploration(kernel, noise=1.2)
    for sigma, below in pairwise(flow.schedule(10, 0.5)):
        if below:
            assert (
                kernel(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), sigma, below, Exploration(kernel, 1.0).noise).std > 0
            )
    for other in (flow.flow_sde, flow.dance):
        assert Exploration(other, noise=1.2).noise == 1.2


# --- kinds of walks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "noise"), KERNELS)
def test_a_full_trajectory_is_the_window_over_every_step_with_noise(kernel, noise):
    """All steps but the last, one after the other, each from where the last one led; the last is the ODE."""
    model, levels = tiny_model(), flow.schedule(STEPS, 0.5)
    walk = Exploration(kernel, noise, window=STEPS - 1, within=STEPS - 1)
    seen = roll(model, walk)
    assert [(t.sigma, t.sigma_next) for t in seen.transitions] == list(pairwise(levels))[:-1]
    for a, b in pairwise(seen.transitions):
        assert torch.equal(a.next_BSC, b.x_BSC)
    with torch.no_grad():
        x = seen.transitions[-1].next_BSC
        v = model.velocity(x, torch.full((P * G,), levels[-2]), seen.cond)
    torch.testing.assert_close(seen.x0_BSC, x - levels[-2] * v, atol=1e-5, rtol=1e-5)
    # What the last step would have been: without noise, so without a likelihood, or with noise left in the image.
    last = kernel(x, v, levels[-2], 0.0, noise)
    if kernel in (flow.ddim, flow.cps):
        assert last.std == 0.0
        with pytest.raises(ValueError, match="no action has a log-probability"):
            last.log_prob(x)
    else:
        assert last.std > 0.0


@pytest.mark.parametrize(("kernel", "noise"), KERNELS)
@pytest.mark.parametrize("storage", ["float32", "bfloat16", "float16"])
def test_storage_does_not_move_the_ratio(kernel, noise, storage):
    """Latents are rounded before their likelihood is taken: 1 exactly, where rounding afterwards is off."""
    model, walk = tiny_model(), Exploration(kernel, noise, window=3, within=3, storage=storage)
    seen = roll(model, walk)
    after = []
    with torch.no_grad():
        for t in seen.transitions:
            assert t.x_BSC.dtype == t.next_BSC.dtype == getattr(torch, storage)
            where = replay(model, seen, t, 1.0, walk)
            assert torch.equal(torch.exp(where.log_prob(t.next_BSC) - t.log_prob_B), torch.ones(P * G))
            assert torch.equal(where.mean_BSC, t.mean_BSC)
            exact = where.mean_BSC + where.std * torch.randn(where.mean_BSC.shape)
            after.append((where.log_prob(exact.to(t.x_BSC.dtype)) - where.log_prob(exact)).abs().max())
    assert seen.x0_BSC.dtype == torch.float32
    assert (float(torch.stack(after).max()) > 0.0) == (storage != "float32")


def test_a_window_may_stay_and_may_slide():
    order = [Exploration(window=2, within=5).start(0, step) for step in range(4)]
    assert [Exploration(window=2, within=5, stay=3).start(0, step) for step in range(12)] == [
        p for p in order for _ in "abc"
    ]
    sliding = Exploration(window=2, within=5, stay=2, in_order=True)
    assert [sliding.start(7, step) for step in range(10)] == [0, 0, 1, 1, 2, 2, 3, 3, 0, 0]


def test_without_a_window_the_walk_is_the_ode():
    model, walk = tiny_model(), Exploration(window=0, within=3, shared_noise=False)
    drawn = recorded(model)
    seen = roll(model, walk, 2.0, step=1)
    assert not seen.transitions and len(drawn) == 1
    whole = sample(model, drawn[0], seen.cond, seen.uncond, Sampler(STEPS, 2.0), flow.schedule(STEPS, 0.5))
    torch.testing.assert_close(seen.x0_BSC, whole, atol=1e-6, rtol=1e-6)
