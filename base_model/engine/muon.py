"""Muon: momentum whose update is made orthogonal (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).

For a weight W of N rows and M columns with gradient G:

    (M1)  B <- mu B + (1 - mu) G
    (M2)  U  = (1 - mu) G + mu B                                         Nesterov
    (M3)  X0 = U / ||U||_F;  A = X X^T;  X <- a X + (b A + c A A) X      five times, on the shorter side
    (M4)  W <- W - lr wd W - lr sqrt(max(1, N / M)) X

(M3) moves every singular value of U into about [0.7, 1.2]. Matrices of one shape are stacked, so a transformer's update
is a handful of batched products, in float32, or with `bf16` in bfloat16 as by Jordan: X need not be exact, because the
momenta stay as they are. Processors with bfloat16 products need half the time or less; others emulate them slowly.

What gets Muon: weights of linear maps inside transformer blocks, and kernels inside the autoencoder's blocks as one row
an output channel, where all directions of the map should be used. What keeps AdamW: vectors, the maps into and out of
the stream, embeddings; the modulation maps `img_mod` and `txt_mod`, which read one vector a sample, start at zero and
produce six stacked quantities of different meaning, so that one orthogonal update would mix their scales; and LoRA
factors, whose product is the weight, not they.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

BLOCKS = re.compile(r"\w*(blocks|layers|refiner)\.\d+\.")
"""how names of weights inside blocks begin, in any family's network"""
MODULATIONS = ("img_mod.", "txt_mod.", "norm", "modulation", "lora")
"""parts of names of matrices inside blocks that AdamW trains: what scales and shifts, and low-rank factors"""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of (M3): the steepest quintic at zero that keeps singular values near one"""
ITERATIONS = 5


def is_muon_weight(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon should train this parameter; `name` as in `named_parameters()` of the network."""
    if parameter.ndim == 4:  # a kernel of the autoencoder: one row an output channel, its receptive field flattened
        return any(part in name for part in ("down_blocks.", "mid_block.", "up_blocks."))
    inside = BLOCKS.match(name) and name.endswith(".weight") and parameter.ndim == 2
    return bool(inside) and not any(part in name for part in MODULATIONS)


def newton_schulz(U_KNM: Tensor) -> Tensor:
    """(M3) for K matrices of one shape at once: the same singular vectors, singular values near one."""
    a, b, c = COEFFICIENTS
    tall = U_KNM.shape[1] > U_KNM.shape[2]
    X = U_KNM.mT if tall else U_KNM
    X = X / X.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    short, long = X.shape[1:]
    if long >= 2 * short and X.dtype != torch.bfloat16:
        X = torch.bmm(polynomial(torch.bmm(X, X.mT)), X)
        return X.mT if tall else X
    for _ in range(ITERATIONS):
        A = torch.bmm(X, X.mT)
        X = torch.baddbmm(X, torch.baddbmm(A, A, A, beta=b, alpha=c), X, beta=a)
    return X.mT if tall else X


def polynomial(A_KNN: Tensor) -> Tensor:
    """(M3) as one factor Q of X, from A = X X^T alone: every step multiplies X by P = a + b A + c A A, and A by P P.

    All of these commute, so long matrices are met twice instead of ten times. A has the squares of X's singular values,
    so the result agrees with the plain iteration's to three digits and not to six
    (tests/base_model/engine/test_muon.py). In bfloat16 the roundings of A have eigenvalues below 0, which grow without
    bound, so there the plain iteration is used.
    """
    a, b, c = COEFFICIENTS
    Q = None
    for left in reversed(range(ITERATIONS)):
        P = torch.baddbmm(A_KNN, A_KNN, A_KNN, beta=b, alpha=c)
        P.diagonal(dim1=1, dim2=2).add_(a)
        Q = P if Q is None else torch.bmm(P, Q)
        if left:
            A_KNN = torch.bmm(torch.bmm(P, A_KNN), P)
    assert Q is not None
    return Q


class MuonAdamW(torch.optim.AdamW):
    """AdamW for ordinary parameter groups and Muon for those marked `muon=True`, behind one `step`.

    One optimizer instead of two, because engines that wrap an optimizer wrap exactly one.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], betas: tuple[float, float], eps: float, momentum: float,
        bf16: bool = False,
    ) -> None:  # fmt: skip
        """Each group: `params`, `lr`, `weight_decay`, `muon`. Raises ValueError for a Muon vector."""
        groups = list(groups)
        for group in groups:
            bad = [tuple(p.shape) for p in group["params"] if group["muon"] and p.ndim not in (2, 4)]
            if bad:
                raise ValueError(f"Muon orthogonalises matrices and kernels; it was given shapes {bad[:4]}")
        self.momentum = momentum
        self.products = torch.bfloat16 if bf16 else torch.float32
        """type of (M3)"""
        super().__init__(groups, betas=betas, eps=eps, fused=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update; parameters without a gradient are left alone."""
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["muon"]]
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group["muon"]:
                self._muon(group)

    def _muon(self, group: dict[str, Any]) -> None:
        stacks: dict[tuple[torch.Size, torch.device], list[Tensor]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                stacks.setdefault((parameter.shape, parameter.device), []).append(parameter)
        for (shape, _), parameters in stacks.items():
            grads = [p.grad for p in parameters if p.grad is not None]
            momenta = [self._momentum(p) for p in parameters]
            torch._foreach_lerp_(momenta, grads, 1 - self.momentum)  # (M1)
            U = torch.stack(torch._foreach_lerp(grads, momenta, self.momentum)).to(self.products)  # (M2)
            rows = U.flatten(2)
            X = newton_schulz(rows).to(parameters[0].dtype).view_as(U)  # (M3)
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])  # (M4)
            torch._foreach_add_(parameters, X.unbind(), alpha=-group["lr"] * max(1.0, shape[0] / rows.shape[2]) ** 0.5)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            # AdamW refuses to load a state without a step count, although Muon has no use for one
            state["step"] = torch.zeros((), device=parameter.device)
            state["momentum_buffer"] = torch.zeros_like(parameter)
        state["step"] += 1
        return state["momentum_buffer"]
