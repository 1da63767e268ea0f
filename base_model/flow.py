"""The mathematics of a rectified flow: path, schedule, steps, likelihoods, guidance. Pure functions of tensors.

sigma in [0, 1] is the noise level, 1 = noise:

    (F1)  x_sigma = (1 - sigma) x0 + sigma eps                            path (Lipman et al., arXiv:2210.02747)
    (F2)  v = eps - x0                                                    what the network predicts
    (F3)  x0^ = x - sigma v,   eps^ = x + (1 - sigma) v                   both ends of the path seen from (x, v)
    (F4)  sigma <- e^mu / (e^mu + 1/sigma - 1)                            shift (Esser et al., arXiv:2403.03206)

A step from sigma to sigma' < sigma is a Gaussian over the next latent; with dt = sigma - sigma' and score -eps^/sigma
the steps below all keep the marginals of the ordinary differential equation (F5), up to discretisation:

    (F5)  Euler     mean = x - v dt                                       std = 0
    (F6)  Flow-SDE  s = a sqrt(sigma / (1 - sigma))                       std = s sqrt(dt)
                    mean = x - v dt - s^2 / (2 sigma) (x + (1 - sigma) v) dt       (Liu et al., arXiv:2505.05470)
    (F7)  Dance     s = eta, the same drift correction                    std = eta sqrt(dt)     (arXiv:2505.07818)
    (F8)  CPS       std = sigma' sin(a pi / 2)
                    mean = (1 - sigma') x0^ + sqrt(sigma'^2 - std^2) eps^          (arXiv:2509.05952)
    (F9)  DDIM      std = eta sigma' sqrt(1 - ((1 - sigma) sigma' / ((1 - sigma') sigma))^2), mean as in CPS
                    (Song et al., arXiv:2010.02502, eq. 16, on the linear path)
    (F10) 2M        (F5) along v - (x0^ - x0^_before) (l' - l) / (2 sigma (l - l_before)),  l = log((1 - sigma) / sigma)
                    (DPM-Solver++, Lu et al., arXiv:2211.01095): second order, by the x0^ of the step before

Log-probabilities and divergences are float32 **means** over latent dimensions; clip ranges refer to that.
Shapes: B samples, S latent tokens, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """A step's distribution over the next latent: `mean_BSC` and one `std`, already times the root of the step size."""

    mean_BSC: Tensor
    std: float

    def sample(self, noise_BSC: Tensor) -> Tensor:
        return self.mean_BSC + self.std * noise_BSC

    def log_prob(self, x_BSC: Tensor) -> Tensor:
        """[B] log-density of x, mean over S and C, in float32. Raises ValueError for a step without noise."""
        if self.std <= 0.0:
            raise ValueError(
                "the step has no noise (std 0), so no action has a log-probability; "
                "use a step with noise > 0 inside the stochastic window"
            )
        z = (x_BSC.float() - self.mean_BSC.float()) / self.std
        return (-0.5 * z.square() - math.log(self.std) - 0.5 * math.log(2.0 * math.pi)).mean((1, 2))

    def kl(self, other: Gaussian) -> Tensor:
        """[B] KL(self || other) for steps of one std, mean over S and C. `std` holds the step size, so it is exact."""
        difference = self.mean_BSC.float() - other.mean_BSC.float()
        return difference.square().mean((1, 2)) / (2.0 * self.std**2)


LARGEST_SHIFT = 16.0
"""of mu, either way; e^-16 is what float32 can still tell from 0 beside 1"""
ROUNDED = 1e-6
"""A noise level that is closer to 1 than this is 1."""

StepKernel = Callable[[Tensor, Tensor, float, float, float], Gaussian]
"""(x_BSC, v_BSC, sigma, sigma_next, noise) -> Gaussian; `noise` is the kernel's own knob (a or eta), 0 = the ODE."""


def add_noise(x0_BSC: Tensor, eps_BSC: Tensor, sigma_B: Tensor) -> Tensor:
    """(F1)"""
    sigma = sigma_B.view(-1, 1, 1)
    return (1.0 - sigma) * x0_BSC + sigma * eps_BSC


def ends(x_BSC: Tensor, v_BSC: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """(F3): the data and the noise that (x, v) point at."""
    return x_BSC - sigma * v_BSC, x_BSC + (1.0 - sigma) * v_BSC


def schedule(steps: int, mu: float, terminal: float = 0.0) -> list[float]:
    """`steps` + 1 noise levels from 1 down to 0: uniform, shifted by (F4), stretched to end at `terminal` before 0.

    The released model has terminal 0.02 and mu from `dynamic_mu`.
    """
    if steps < 1:
        raise ValueError(f"a schedule needs at least one step, got {steps}")
    if not abs(mu) <= LARGEST_SHIFT:
        raise ValueError(
            f"mu={mu} must be from -{LARGEST_SHIFT} to {LARGEST_SHIFT}: beyond, noise levels fall together. "
            "The released model uses 0.5 to about 2"
        )
    shift = math.exp(mu)
    # summed in this order it is exactly 1 at s = 1: (shift + 1 / s) - 1 is not, for one mu in four
    sigmas = [shift / (shift + (1.0 / s - 1.0)) for s in (1.0 - i / steps for i in range(steps))]
    if terminal > 0.0 and steps > 1:
        stretch = (1.0 - sigmas[-1]) / (1.0 - terminal)
        sigmas = [1.0 - (1.0 - s) / stretch for s in sigmas]
    return [*sigmas, 0.0]


def dynamic_mu(tokens: int) -> float:
    """Shift of the released scheduler: linear in the latent tokens, 0.5 at 256 and 0.9 at 8192, not clamped."""
    return 0.5 + (0.9 - 0.5) * (tokens - 256) / (8192 - 256)


def logit_normal(size: int, mean: float | Tensor, std: float, generator: torch.Generator) -> Tensor:
    """[size] noise levels, sigmoid of a normal (Esser et al., arXiv:2403.03206); mean > 0 leans to noise."""
    return torch.sigmoid(mean + std * torch.randn(size, generator=generator))


def euler(x: Tensor, v: Tensor, sigma: float, sigma_next: float, noise: float = 0.0) -> Gaussian:
    """(F5)"""
    return Gaussian(x - (sigma - sigma_next) * v, 0.0)


def second_order(v: Tensor, x0: Tensor, sigma: float, sigma_next: float, before: tuple[Tensor, float] | None) -> Tensor:
    """The velocity of (F10). `before` is (x0^, sigma) of the step before on the same solution of the ODE, or None: then
    it is `v` itself, and where l or l_before is infinite (to the image, and after a step from pure noise)."""
    if before is None or sigma_next <= 0.0 or before[1] > 1.0 - ROUNDED:
        return v
    after, now, earlier = (math.log((1.0 - s) / s) for s in (sigma_next, sigma, before[1]))
    return v - (x0 - before[0]) * ((after - now) / (2.0 * sigma * (now - earlier)))


def _sde(x: Tensor, v: Tensor, sigma: float, sigma_next: float, s: float) -> Gaussian:
    """Euler-Maruyama with diffusion s: the drift is corrected by s^2/2 times the score, -eps^/sigma."""
    dt = sigma - sigma_next
    _, eps = ends(x, v, sigma)
    return Gaussian(x - dt * v - (0.5 * s * s * dt / sigma) * eps, s * math.sqrt(dt))


def flow_sde(x: Tensor, v: Tensor, sigma: float, sigma_next: float, noise: float) -> Gaussian:
    """(F6). At sigma = 1, where s is infinite, the denominator uses the next level, as the reference code does.

    So it does for a level that rounding alone keeps from 1 (`ROUNDED`).
    """
    below = sigma if sigma < 1.0 - ROUNDED else sigma_next
    return _sde(x, v, sigma, sigma_next, noise * math.sqrt(sigma / (1.0 - below)))


def dance(x: Tensor, v: Tensor, sigma: float, sigma_next: float, noise: float) -> Gaussian:
    """(F7)"""
    return _sde(x, v, sigma, sigma_next, noise)


def _coefficients_preserving(x: Tensor, v: Tensor, sigma: float, sigma_next: float, std: float) -> Gaussian:
    x0, eps = ends(x, v, sigma)
    return Gaussian((1.0 - sigma_next) * x0 + math.sqrt(sigma_next**2 - std**2) * eps, std)


def cps(x: Tensor, v: Tensor, sigma: float, sigma_next: float, noise: float) -> Gaussian:
    """(F8). Its noise does not shrink with the step, so more steps do not bring it to the data's marginal."""
    return _coefficients_preserving(x, v, sigma, sigma_next, sigma_next * math.sin(0.5 * math.pi * noise))


def ddim(x: Tensor, v: Tensor, sigma: float, sigma_next: float, noise: float) -> Gaussian:
    """(F9). Noise 1 is the ancestral step. Keeps the coefficients and scales with the step."""
    scale = (1.0 - sigma) * sigma_next / ((1.0 - sigma_next) * sigma)
    return _coefficients_preserving(x, v, sigma, sigma_next, noise * sigma_next * math.sqrt(max(0.0, 1.0 - scale**2)))


LARGEST_NOISE: dict[StepKernel, float] = {cps: 1.0, ddim: 1.0}
"""The most noise that a kernel can take, which replaces all of the old one; the others have no bound."""


def guided(v_cond: Tensor, v_uncond: Tensor, scale: float, rescale: bool = True) -> Tensor:
    """Classifier-free guidance (Ho & Salimans, arXiv:2207.12598); with `rescale` every token keeps the norm of its
    conditional velocity, as the released pipeline does."""
    v = v_uncond + scale * (v_cond - v_uncond)
    if not rescale:
        return v
    return v * (v_cond.norm(dim=-1, keepdim=True) / v.norm(dim=-1, keepdim=True).clamp_min(1e-12))
