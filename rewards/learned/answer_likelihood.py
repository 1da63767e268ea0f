"""How likely is each answer to "which is better?", given how much better the left image is.

With the gap d = r(left) - r(right):

    (1) Rao & Kupper 1967   P(left) = s(d - h), P(right) = s(-d - h), P(tie) = (e^2h - 1) P(left) P(right)
                            s = logistic function, h >= 0 the threshold below which people see no difference
    (2) Davidson 1970       P(left) : P(tie) : P(right) = e^(d/2) : n : e^(-d/2)
    (3) an annotator        P_a(o) = (1 - l_a) [ c_a P(o) + (1 - c_a) P(o mirrored) ] + l_a / 3
                            c_a: how often the sides are not confused (Crowd-BT, Chen et al. 2013); l_a: share of
                            answers given without looking
    (4) reliability         (1 - l_a)(2 c_a - 1): 1 = answers as the model says, 0 = says nothing, -1 = the opposite

(1) and (2) are Bradley & Terry's 1952 model when nobody answers "tie" (h = 0, n = 0).

Shapes: N answers, A annotators; the last axis of 3 is left, tie, right.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from rewards.learned.reward_settings import TIES

TieModel = Callable[[Tensor, Tensor], Tensor]


def rao_kupper(gap_N: Tensor, tie: Tensor) -> Tensor:
    """Log-probabilities [N, 3] by (1); h = softplus(tie)."""
    h = softplus(tie)
    left, right = logsigmoid(gap_N - h), logsigmoid(-gap_N - h)
    return torch.stack([left, torch.log(torch.expm1(2 * h)) + left + right, right], -1)


def davidson(gap_N: Tensor, tie: Tensor) -> Tensor:
    """Log-probabilities [N, 3] by (2); n = e^tie."""
    return torch.log_softmax(torch.stack([gap_N / 2, tie.expand_as(gap_N), -gap_N / 2], -1), -1)


TIE_MODELS: dict[str, TieModel] = dict(zip(TIES, (rao_kupper, davidson), strict=True))


def answered(log_p_N3: Tensor, sides_N: Tensor, lapse_N: Tensor) -> Tensor:
    """Log-probabilities [N, 3] of what annotators say, by (3). sides and lapse are logits of c_a and l_a."""
    check = logsigmoid(-lapse_N)
    log_right_N3 = (check + logsigmoid(sides_N))[:, None] + log_p_N3
    mirrored = (check + logsigmoid(-sides_N))[:, None] + log_p_N3.flip(-1)
    blind = (logsigmoid(lapse_N) - math.log(3.0))[:, None].expand_as(log_p_N3)
    return torch.logsumexp(torch.stack([log_right_N3, mirrored, blind]), 0)


def reliability(sides_A: Tensor, lapse_A: Tensor) -> Tensor:
    """(4), in [-1, 1]."""
    return (1 - torch.sigmoid(lapse_A)) * (2 * torch.sigmoid(sides_A) - 1)


def annotator_prior(sides_A: Tensor, lapse_A: Tensor) -> Tensor:
    """Minus the log-density of what annotators are taken for before they answer: c ~ Beta(6, 1.5), l ~ Beta(1.2, 8).

    Worth about seven answers each: it decides who is the honest side, and little once there are fifty answers.
    """
    c = 5.0 * logsigmoid(sides_A) + 0.5 * logsigmoid(-sides_A)
    lapse = 0.2 * logsigmoid(lapse_A) + 7.0 * logsigmoid(-lapse_A)
    return -(c + lapse).sum()
