"""The mathematics against closed forms: Gaussian data, where the exact velocity is known."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from base_model import flow
from base_model.sample import Sampler, sample

STEP_NOISES = [(flow.flow_sde, 0.7), (flow.dance, 0.3), (flow.cps, 0.8), (flow.ddim, 1.0)]


def exact_velocity(x: torch.Tensor, sigma: float, tau: float) -> torch.Tensor:
    """E[eps - x0 | x] for data N(0, tau^2)."""
    return x * (sigma - (1 - sigma) * tau**2) / ((1 - sigma) ** 2 * tau**2 + sigma**2)


def final_spread(kernel, noise: float, tau: float, steps: int, window: tuple[int, int] | None = None) -> float:
    """Exact spread of the end of a walk over data of spread tau, divided by tau."""
    levels = flow.schedule(steps, mu=math.log(3.0))
    variance, one = 1.0, torch.ones(1, 1, 1, dtype=torch.float64)
    for i, (sigma, sigma_next) in enumerate(itertools.pairwise(levels)):
        stochastic = window is None or window[0] <= i < window[1]
        step = (kernel if stochastic else flow.euler)(one, exact_velocity(one, sigma, tau), sigma, sigma_next, noise)
        variance = float(step.mean_BSC) ** 2 * variance + step.std**2
    return math.sqrt(variance) / tau


GOLDEN = [  # kernel, noise, {steps: {tau: final spread / tau}} with shift 3, from exact propagation of the variance
    (flow.euler, 0.0, {10: {1.0: 0.833, 0.3: 0.617, 0.05: 0.148}, 40: {1.0: 0.956, 0.05: 0.521}}),
    (flow.flow_sde, 0.7, {10: {1.0: 0.895, 0.3: 0.848, 0.05: 4.46}, 40: {1.0: 0.977, 0.05: 1.07}}),
    (flow.flow_sde, 1.2, {10: {1.0: 0.932, 0.3: 1.159, 0.05: 10.6}, 40: {1.0: 0.981, 0.05: 1.87}}),
    (flow.dance, 0.3, {10: {1.0: 0.839, 0.3: 0.732, 0.05: 3.10}, 40: {1.0: 0.957, 0.05: 1.62}}),
    (flow.cps, 0.8, {10: {1.0: 0.683, 0.3: 0.557, 0.05: 0.147}, 40: {1.0: 0.764, 0.05: 0.486}}),
    (flow.cps, 1.0, {10: {1.0: 0.602, 0.3: 0.521, 0.05: 0.147}, 40: {1.0: 0.666, 0.05: 0.465}}),
    (flow.ddim, 1.0, {10: {1.0: 0.740, 0.3: 0.572, 0.05: 0.147}, 40: {1.0: 0.908, 0.05: 0.497}}),
]


@pytest.mark.parametrize(("kernel", "noise", "table"), GOLDEN)
def test_residual_spread_on_gaussian_data(kernel, noise, table):
    for steps, row in table.items():
        for tau, expected in row.items():
            assert final_spread(kernel, noise, tau, steps) == pytest.approx(expected, rel=6e-3), (steps, tau)


@pytest.mark.parametrize(
    ("kernel", "noise", "coarse", "fine"),
    [(flow.flow_sde, 1.2, 1.029, 0.183), (flow.cps, 0.8, 0.830, 0.148), (flow.ddim, 1.0, 0.832, 0.148)],
)
def test_an_early_window_leaves_fine_detail_alone(kernel, noise, coarse, fine):
    assert final_spread(kernel, noise, 1.0, 10, (1, 3)) == pytest.approx(coarse, rel=2e-3)
    assert final_spread(kernel, noise, 0.05, 10, (1, 3)) == pytest.approx(fine, rel=6e-3)


@pytest.mark.parametrize(("kernel", "noise"), STEP_NOISES[:2] + STEP_NOISES[3:])
def test_steps_keep_the_exact_marginal_in_the_limit(kernel, noise):
    """All but CPS, whose noise does not shrink with the step, converge to the data."""
    assert final_spread(kernel, noise, 0.5, 4000) == pytest.approx(1.0, abs=0.01)
    assert final_spread(flow.cps, 0.8, 0.5, 4000) < 0.9


@pytest.mark.parametrize(("kernel", "noise"), STEP_NOISES)
def test_one_small_step_keeps_the_marginal(kernel, noise):
    """From the exact marginal at sigma a step lands on the exact marginal at sigma', to first order."""
    tau, sigma, sigma_next = 0.6, 0.5, 0.499
    one = torch.ones(1, 1, 1, dtype=torch.float64)

    def spread(s: float) -> float:
        return math.sqrt((1 - s) ** 2 * tau**2 + s**2)

    step = kernel(one, exact_velocity(one, sigma, tau), sigma, sigma_next, noise if kernel is not flow.cps else 0.01)
    after = math.sqrt(float(step.mean_BSC) ** 2 * spread(sigma) ** 2 + step.std**2)
    assert after == pytest.approx(spread(sigma_next), rel=1e-4)
    assert step.std > 0


@pytest.mark.parametrize(("kernel", "_"), STEP_NOISES)
def test_no_noise_is_the_ode(kernel, _):
    x, v = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    for sigma, sigma_next in [(1.0, 0.9), (0.6, 0.5), (0.1, 0.0)]:
        step = kernel(x, v, sigma, sigma_next, 0.0)
        assert step.std == 0.0
        torch.testing.assert_close(step.mean_BSC, flow.euler(x, v, sigma, sigma_next).mean_BSC, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kernel", [flow.flow_sde, flow.dance])
def test_diffusion_scales_with_the_root_of_the_step(kernel):
    x, v = torch.randn(1, 2, 3), torch.randn(1, 2, 3)
    whole, quarter = kernel(x, v, 0.6, 0.4, 0.7).std, kernel(x, v, 0.6, 0.55, 0.7).std
    assert whole == pytest.approx(2.0 * quarter)


def test_log_prob_and_kl_against_torch_distributions():
    torch.manual_seed(0)
    mean, other, x = (torch.randn(3, 4, 5) for _ in range(3))
    a, b = flow.Gaussian(mean, 0.37), flow.Gaussian(other, 0.37)
    reference = torch.distributions.Normal(mean, 0.37)
    torch.testing.assert_close(a.log_prob(x), reference.log_prob(x).mean((1, 2)))
    expected = torch.distributions.kl_divergence(reference, torch.distributions.Normal(other, 0.37)).mean((1, 2))
    torch.testing.assert_close(a.kl(b), expected)
    monte_carlo = torch.stack(
        [a.log_prob(s) - b.log_prob(s) for s in (a.sample(torch.randn(3, 4, 5)) for _ in range(4000))]
    )
    torch.testing.assert_close(monte_carlo.mean(0), a.kl(b), rtol=0.03, atol=0.0)


def test_kl_carries_its_step_size():
    """The velocity form of the KL between two Flow-SDE steps: dt/2 (s (1 - sigma) / (2 sigma) + 1/s)^2 |dv|^2."""
    torch.manual_seed(0)
    x, v, w = (torch.randn(2, 3, 4, dtype=torch.float64) for _ in range(3))
    sigma, sigma_next, a = 0.7, 0.6, 0.9
    s, dt = a * math.sqrt(sigma / (1 - sigma)), sigma - sigma_next
    expected = 0.5 * dt * (s * (1 - sigma) / (2 * sigma) + 1 / s) ** 2 * (v - w).square().mean((1, 2))
    got = flow.flow_sde(x, v, sigma, sigma_next, a).kl(flow.flow_sde(x, w, sigma, sigma_next, a))
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kernel", "noise"), STEP_NOISES)
def test_three_forms_of_a_divergence_agree(kernel, noise):
    """Closed form of two steps, the same from their velocities alone, and the mean of log-ratios of drawn actions."""
    random, sigma, sigma_next = torch.Generator().manual_seed(0), 0.6, 0.45
    x, v, w = (torch.randn(1, 3, 2, generator=random, dtype=torch.float64) for _ in range(3))
    one, other = kernel(x, v, sigma, sigma_next, noise), kernel(x, v + 0.3 * w, sigma, sigma_next, noise)
    closed = float(one.kl(other))
    zero = torch.zeros_like(x)
    slope = float(kernel(zero, zero + 1.0, sigma, sigma_next, noise).mean_BSC.mean())  # d mean / d v
    assert closed == pytest.approx(slope**2 * float((0.3 * w).square().mean()) / (2 * one.std**2), rel=1e-5)
    if kernel in (flow.flow_sde, flow.dance):
        dt = sigma - sigma_next
        s = one.std / math.sqrt(dt)
        rate = 0.5 * dt * (s * (1 - sigma) / (2 * sigma) + 1 / s) ** 2
        assert closed == pytest.approx(rate * float((0.3 * w).square().mean()), rel=1e-5)
    drawn = one.sample(torch.randn(200_000, 3, 2, generator=random, dtype=torch.float64))
    ratio = one.log_prob(drawn) - other.log_prob(drawn)
    assert closed == pytest.approx(float(ratio.mean()), abs=5 * float(ratio.std()) / math.sqrt(len(drawn)))


def test_log_prob_is_float32_under_half_precision():
    step = flow.Gaussian(torch.randn(2, 3, 4).bfloat16(), 0.1)
    assert step.log_prob(torch.randn(2, 3, 4).bfloat16()).dtype == torch.float32


def test_no_noise_has_no_log_prob():
    with pytest.raises(ValueError, match="no noise"):
        flow.euler(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), 0.5, 0.4).log_prob(torch.zeros(1, 1, 1))


def test_path_and_its_ends():
    torch.manual_seed(0)
    x0, eps = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    x = flow.add_noise(x0, eps, torch.tensor([0.3, 0.3]))
    torch.testing.assert_close(x, 0.7 * x0 + 0.3 * eps)
    back_x0, back_eps = flow.ends(x, eps - x0, 0.3)
    torch.testing.assert_close(back_x0, x0)
    torch.testing.assert_close(back_eps, eps)
    assert torch.equal(flow.add_noise(x0, eps, torch.zeros(2)), x0)


def test_schedule_is_the_released_one():
    """FlowMatchEulerDiscreteScheduler with the released configuration is the oracle."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    oracle = FlowMatchEulerDiscreteScheduler(
        shift=1.0, use_dynamic_shifting=True, time_shift_type="exponential", base_shift=0.5, max_shift=0.9,
        base_image_seq_len=256, max_image_seq_len=8192, shift_terminal=0.02,
    )  # fmt: skip
    for steps, tokens in [(50, 4096), (10, 256), (7, 6889)]:
        mu = flow.dynamic_mu(tokens)
        oracle.set_timesteps(sigmas=torch.linspace(1.0, 1.0 / steps, steps).tolist(), mu=mu)
        ours = flow.schedule(steps, mu, terminal=0.02)
        assert ours == pytest.approx(oracle.sigmas.tolist(), abs=1e-6)
    assert flow.dynamic_mu(256) == 0.5 and flow.dynamic_mu(4096) == pytest.approx(0.694, abs=1e-3)


def test_schedule_without_terminal_ends_above_zero_then_zero():
    levels = flow.schedule(8, 0.5)
    assert levels[0] == 1.0 and levels[-1] == 0.0 and levels[-2] > 0.1
    assert levels == sorted(levels, reverse=True)
    with pytest.raises(ValueError, match="at least one step"):
        flow.schedule(0, 0.5)


def test_guidance_keeps_the_norm_of_every_token():
    torch.manual_seed(0)
    c, u = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    torch.testing.assert_close(flow.guided(c, u, 4.0, rescale=False), u + 4.0 * (c - u))
    rescaled = flow.guided(c, u, 4.0)
    torch.testing.assert_close(rescaled.norm(dim=-1), c.norm(dim=-1))
    torch.testing.assert_close(flow.guided(c, u, 1.0), c)


def test_logit_normal_leans_to_noise():
    draws = flow.logit_normal(20000, 1.0, 1.0, torch.Generator().manual_seed(0))
    assert float(torch.logit(draws).mean()) == pytest.approx(1.0, abs=0.03)
    assert float(torch.logit(draws).std()) == pytest.approx(1.0, abs=0.03)


# --- the first noise level ----------------------------------------------------------------------------------------


def test_every_schedule_begins_at_exactly_one():
    """Of every image between 256 and 1792 pixels a side that divides into tokens of 16, and of any shift."""
    sides = range(256, 1793, 16)
    tokens = {(height // 16) * (width // 16) for height in sides for width in sides}
    assert len(tokens) > 1900
    shifts = [flow.dynamic_mu(n) for n in tokens] + [i / 100 for i in range(-400, 801)]
    off = [mu for mu in shifts for terminal in (0.0, 0.02) if flow.schedule(10, mu, terminal)[0] != 1.0]
    assert not off, f"{len(off)} shifts begin elsewhere, e.g. {off[:4]}"


def test_the_shift_of_large_pictures_is_not_clamped():
    assert flow.dynamic_mu(8192) == pytest.approx(0.9)
    assert flow.dynamic_mu(8192 + 7936) == pytest.approx(1.3), "two-thousand-pixel images lie on the same line"
    assert flow.dynamic_mu(112 * 112) == pytest.approx(0.5 + 0.4 * (12544 - 256) / 7936)


@pytest.mark.parametrize("off", [0.0, 2.0**-53, -(2.0**-52), 1e-12, 1e-7])
def test_flow_sde_takes_a_level_that_rounding_moved_for_one(off):
    x, v = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    exact, near = flow.flow_sde(x, v, 1.0, 0.9, 1.2), flow.flow_sde(x, v, 1.0 - off, 0.9, 1.2)
    assert exact.std == pytest.approx(1.2)
    assert near.std == pytest.approx(exact.std, rel=1e-5)
    torch.testing.assert_close(near.mean_BSC, exact.mean_BSC, rtol=1e-5, atol=1e-5)


def test_levels_below_one_keep_their_own_spread():
    x = torch.zeros(1, 1, 1)
    for sigma in (0.999, 0.99, 0.7):
        expected = 0.7 * math.sqrt(sigma / (1 - sigma)) * math.sqrt(0.1)
        assert flow.flow_sde(x, x, sigma, sigma - 0.1, 0.7).std == pytest.approx(expected)


@pytest.mark.parametrize("mu", [17.0, -40.0, 1000.0, math.nan, math.inf])
def test_shifts_that_leave_no_steps_are_refused(mu):
    with pytest.raises(ValueError, match="must be from -16"):
        flow.schedule(10, mu)


@pytest.mark.parametrize("mu", [-16.0, 0.0, 16.0])
def test_levels_of_every_shift_fall(mu):
    levels = flow.schedule(50, mu)
    assert all(a > b for a, b in itertools.pairwise(levels)) and levels[0] == 1.0


# --- second order -------------------------------------------------------------------------------------------------


def followed(velocity, x: torch.Tensor, levels: list[float], second_order: bool = True) -> torch.Tensor:
    """`sample` through a velocity (x, sigma) -> v."""
    model = SimpleNamespace(guided=lambda x, sigma_B, *_: velocity(x, float(sigma_B[0])))
    return sample(model, x, None, None, Sampler(), levels, second_order)


def dpm_solver(velocity, x: torch.Tensor, levels: list[float]) -> torch.Tensor:
    """What diffusers' multistep solver of second order makes of it."""
    from diffusers import DPMSolverMultistepScheduler

    solver = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=2, algorithm_type="dpmsolver++"
    )
    solver.set_timesteps(len(levels) - 1)
    solver.sigmas = torch.tensor(levels)
    for t, sigma in zip(solver.timesteps, levels[:-1], strict=True):
        x = solver.step(velocity(x, sigma), t, x).prev_sample
    return x


@pytest.mark.parametrize(
    "levels",
    [
        flow.schedule(9, 0.5), flow.schedule(20, 1.2, terminal=0.02), flow.schedule(10, 0.5)[3:],
        [flow.schedule(10, 0.5)[i] for i in (3, 5, 6, 8, 10)], [0.4, 0.0], [0.9, 0.2, 0.0],
    ],
)  # fmt: skip
def test_the_second_order_is_that_of_dpm_solver(levels):
    """From pure noise and from the middle, evenly and unevenly, to the image."""
    mix = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))

    def velocity(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.tanh(x @ mix + 2.0 * sigma) - sigma * x

    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    ours = followed(velocity, x, levels)
    torch.testing.assert_close(ours, dpm_solver(velocity, x, levels), atol=1e-5, rtol=1e-5)
    if len(levels) > 3:
        assert not torch.allclose(ours, followed(velocity, x, levels, second_order=False), atol=1e-3)


def between(first: float, last: float, steps: int) -> list[float]:
    """Levels that are even in the logarithm of (1 - sigma) / sigma."""
    a, b = (math.log((1.0 - s) / s) for s in (first, last))
    return [1.0 / (1.0 + math.exp(a + (b - a) * i / steps)) for i in range(steps + 1)]


@pytest.mark.parametrize(("second_order", "least", "most"), [(False, 1.9, 2.1), (True, 3.2, 4.1)])
@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_half_the_step_leaves_a_quarter_of_the_error_in_second_order(second_order, least, most, tau):
    """On Gaussian data, whose ODE keeps x / sqrt((1 - sigma)^2 tau^2 + sigma^2).

    From noise to image the errors of its ends bring a logarithm, so the quarter is not quite reached.
    """

    def error(levels: list[float]) -> float:
        spread = [math.sqrt((1 - s) ** 2 * tau**2 + s**2) for s in (levels[0], levels[-1])]
        one = torch.ones(1, 1, 1, dtype=torch.float64)
        end = followed(lambda x, sigma: exact_velocity(x, sigma, tau), one, levels, second_order)
        return float(end) - spread[1] / spread[0]

    for path in (lambda n: between(0.9, 0.1, n), lambda n: [i / n for i in range(n, -1, -1)]):
        coarse, fine, finest = (error(path(n)) for n in (80, 160, 320))
        assert least < coarse / fine < most and least < fine / finest < most
    if second_order:
        assert error(between(0.9, 0.1, 160)) / error(between(0.9, 0.1, 320)) == pytest.approx(4.0, rel=0.02)


@pytest.mark.parametrize(
    ("sigma_next", "before"), [(0.4, None), (0.0, 0.8), (0.4, 1.0), (0.4, 1.0 - 2.0**-53), (0.4, 1.0 - 1e-7)]
)
def test_a_step_without_history_or_to_the_image_is_of_first_order(sigma_next, before):
    v, x0, earlier = torch.randn(3, 2, 3, 4).unbind()
    assert flow.second_order(v, x0, 0.6, sigma_next, None if before is None else (earlier, before)) is v
