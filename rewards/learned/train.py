"""A reward model from our own answers: a head on frozen features, or a small network trained whole.

    (1)  L = mean_i [ - sum_o y_io log P_a(i)(o | d_i) ] + prior(annotators) / N + decay/2 |w|^2      outcomes.py
    (2)  d_i = r(left) - r(right) - margin * strength_i, signed towards the answer that was given
    (3)  value = r / T, T chosen so that s(value gap) is the share of decided answers for the left image

Decay and T come from out-of-fold predictions; folds, like the held-out part, share no prompt and no image. The final
head is fitted on all folds together. Further heads, fitted with random weights on prompts (Bayesian bootstrap, Rubin
1981), say how sure it is: their spread grows where the answers did not reach.

Shapes: N answers, P images, F features, A annotators; the last axis of 3 is left, tie, right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from preference_data.comparisons import Comparison, connected, split
from rewards.comparison.calibration import fit_temperature, sigmoid, summary
from rewards.learned.answer_likelihood import TIE_MODELS, TieModel, annotator_prior, answered, reliability
from rewards.learned.reward_settings import TrainReward


@dataclass(frozen=True)
class Answers:
    """Comparisons as arrays. Images are numbered in the order of `pictures`, (prompt id, sha256)."""

    left_N: np.ndarray
    right_N: np.ndarray
    label_N3: np.ndarray
    annotator_N: np.ndarray
    strength_N: np.ndarray
    """0 where none was given"""
    island_N: np.ndarray
    annotators: tuple[str, ...]

    def take(self, rows: np.ndarray) -> Answers:
        return Answers(
            self.left_N[rows], self.right_N[rows], self.label_N3[rows], self.annotator_N[rows],
            self.strength_N[rows], self.island_N[rows], self.annotators,
        )  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """A head in its own units, and what was learned beside it."""

    values: Callable[[np.ndarray], np.ndarray]
    """standardised features [P, F] -> r [P]"""
    weights: dict[str, np.ndarray]
    tie: float
    sides_A: np.ndarray
    lapse_A: np.ndarray
    loss: float


@dataclass(frozen=True)
class Trained:
    """A reward model and the numbers of its card."""

    fitted: Fitted
    heads: tuple[Fitted, ...]
    mean_F: np.ndarray
    std_F: np.ndarray
    centre: float
    """mean of r over the training images, taken off so that an average image has value 0"""
    temperature: float
    decay: float
    reliability_A: np.ndarray
    held_out: dict[str, float]
    cross_fitted: dict[str, float]
    rows_held_out: np.ndarray
    gap_held_out: np.ndarray


def as_arrays(comparisons: Sequence[Comparison]) -> tuple[Answers, list[tuple[Comparison, str]]]:
    """Answers as arrays, and the different images they are about: (a comparison that shows it, "left" or "right").

    An image under two prompts is two, for a head may read the prompt.
    """
    indices: dict[tuple[str, str], int] = {}
    shown: list[tuple[Comparison, str]] = []
    for c in comparisons:
        for side in ("left", "right"):
            key = (c.prompt.id, (c.left if side == "left" else c.right).sha256)
            if key not in indices:
                indices[key] = len(indices)
                shown.append((c, side))
    names = tuple(sorted({c.annotator for c in comparisons}))
    person = {name: k for k, name in enumerate(names)}
    islands = connected(comparisons)
    number = {name: i for i, name in enumerate(dict.fromkeys(islands))}
    return Answers(
        np.array([indices[c.prompt.id, c.left.sha256] for c in comparisons]),
        np.array([indices[c.prompt.id, c.right.sha256] for c in comparisons]),
        np.array([c.label for c in comparisons], dtype=np.float64),
        np.array([person[c.annotator] for c in comparisons]),
        np.array([c.strength or 0.0 for c in comparisons], dtype=np.float64),
        np.array([number[island] for island in islands]),
        names,
    ), shown


def head(features: int, hidden: int, seed: int) -> nn.Module:
    """A linear map, or one with a hidden layer; zero output at first, so that training starts undecided."""
    torch.manual_seed(seed)
    last = nn.Linear(hidden or features, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(last.weight)
    if not hidden:
        return last
    return nn.Sequential(nn.Linear(features, hidden, dtype=torch.float64), nn.Tanh(), last)


class Likelihood:
    """(1) without the decay, as a function of the images' values; holds what is learned beside the head."""

    def __init__(self, answers: Answers, cfg: TrainReward, weight_N: np.ndarray | None = None) -> None:
        self._answers, self._cfg = answers, cfg
        self._left, self._right = torch.from_numpy(answers.left_N), torch.from_numpy(answers.right_N)
        self._label = torch.from_numpy(answers.label_N3)
        self._annotators = torch.from_numpy(answers.annotator_N)
        sign = self._label[:, 0] - self._label[:, 2]
        self._margin = cfg.margin * torch.from_numpy(answers.strength_N) * sign
        weight = np.ones(len(answers.left_N)) if weight_N is None else weight_N
        self._weight = torch.from_numpy(weight / weight.mean())
        self._model: TieModel = TIE_MODELS[cfg.ties]
        count = len(answers.annotators)
        self.many = cfg.annotators and count > 1
        self.tie = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
        self.sides = torch.full((count,), 2.2, dtype=torch.float64, requires_grad=self.many)
        self.lapse = torch.full((count,), -3.0, dtype=torch.float64, requires_grad=self.many)

    @property
    def parameters(self) -> list[Tensor]:
        return [self.tie, self.sides, self.lapse] if self.many else [self.tie]

    def __call__(self, value_P: Tensor, rows: Tensor | None = None) -> Tensor:
        """The mean over all answers, or over some; `value_P` are the values of all images."""
        rows = torch.arange(len(self._left)) if rows is None else rows
        gap = value_P[self._left[rows]] - value_P[self._right[rows]] - self._margin[rows]
        log_p = self._model(gap, self.tie)
        if self.many:
            log_p = answered(log_p, self.sides[self._annotators[rows]], self.lapse[self._annotators[rows]])
        label = self._label[rows]
        # A tie model without ties gives P(tie) -> 0; 0 log 0 = 0.
        each = -torch.where(label > 0, label * log_p, torch.zeros_like(log_p)).sum(-1)
        loss = (self._weight[rows] * each).mean()
        return loss + annotator_prior(self.sides, self.lapse) / len(self._left) if self.many else loss


def fit(
    features_PF: np.ndarray, answers: Answers, cfg: TrainReward, decay: float, weight_N: np.ndarray | None = None
) -> Fitted:
    """Minimise (1) over head, tie parameter and annotators with L-BFGS. Features are standardised."""
    x = torch.from_numpy(features_PF)
    model = head(x.shape[1], cfg.hidden, cfg.seed)
    likelihood = Likelihood(answers, cfg, weight_N)
    parameters = [*model.parameters(), *likelihood.parameters]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=120, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = likelihood(model(x).squeeze(-1))
        loss = loss + 0.5 * decay * torch.stack([w.square().sum() for w in model.parameters()]).sum()
        loss.backward()
        return loss

    loss = float(optimizer.step(closure).detach())
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss became {loss} with decay {decay}; raise the least decay")
    weights = {name: p.detach().numpy().copy() for name, p in model.state_dict().items()}

    def values(rows_PF: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            fitted: np.ndarray = model(torch.from_numpy(rows_PF)).squeeze(-1).numpy()
        return fitted

    sides, lapse = (p.detach().numpy().copy() for p in (likelihood.sides, likelihood.lapse))
    return Fitted(values, weights, float(likelihood.tie.detach()), sides, lapse, loss)


def train(features_PF: np.ndarray, comparisons: Sequence[Comparison], answers: Answers, cfg: TrainReward) -> Trained:
    """Train on the features [P, F] of the images of `as_arrays`. Answers about a NaN image are left out.

    Raises ValueError when no answer decides, nothing is left, or the split cannot be made.
    """
    usable = np.isfinite(features_PF).all(1)
    known_N = usable[answers.left_N] & usable[answers.right_N]
    if not (answers.label_N3[known_N][:, [0, 2]] > 0).any():
        raise ValueError(f"{int(known_N.sum())} of {len(known_N)} answers have features and none names a better image")
    part_N = np.array(split(comparisons, (cfg.held_out, 1 - cfg.held_out), cfg.seed))
    mine = np.flatnonzero(known_N & (part_N == 1))
    seen = np.unique(np.concatenate([answers.left_N[mine], answers.right_N[mine]]))
    mean_F, std_F = features_PF[seen].mean(0), features_PF[seen].std(0)
    std_F = np.where(std_F > 1e-9, std_F, np.inf)  # a feature that never varies teaches nothing
    x_PF = np.where(usable[:, None], (features_PF - mean_F) / std_F, 0.0)
    chosen = answers.take(mine)
    decay, gap_N = _cross_fit(x_PF, [comparisons[i] for i in mine], chosen, cfg)
    fitted = fit(x_PF, chosen, cfg, decay)
    certain_A = _reliability(fitted, cfg)
    temperature = fit_temperature(gap_N, *_decided(chosen, certain_A))
    generator = np.random.default_rng(cfg.seed)
    heads = []
    for _ in range(cfg.heads):
        sample_N = generator.exponential(size=int(chosen.island_N.max()) + 1)[chosen.island_N]
        heads.append(fit(x_PF, chosen, cfg, decay, sample_N))
    rest = np.flatnonzero(known_N & (part_N == 0))
    value_P = fitted.values(x_PF)
    held = answers.take(rest)
    gap_held = (value_P[held.left_N] - value_P[held.right_N]) / temperature
    return Trained(
        fitted, tuple(heads), mean_F, std_F, float(value_P[seen].mean()), temperature, decay, certain_A,
        summary(gap_held, *_decided(held, certain_A)), summary(gap_N / temperature, *_decided(chosen, certain_A)),
        rest, gap_held,
    )  # fmt: skip


def _cross_fit(
    x_PF: np.ndarray, comparisons: Sequence[Comparison], answers: Answers, cfg: TrainReward
) -> tuple[float, np.ndarray]:
    """The decay with the best out-of-fold likelihood of decided answers, and its out-of-fold gaps [N]."""
    fold_N = np.array(split(comparisons, (1.0,) * cfg.folds, cfg.seed + 1))
    plain = replace(cfg, heads=0)
    best: tuple[float, float, np.ndarray] | None = None
    for decay in cfg.decays:
        gap_N, certain_N = np.zeros(len(fold_N)), np.zeros(len(fold_N))
        for fold in range(cfg.folds):
            there = np.flatnonzero(fold_N == fold)
            fitted = fit(x_PF, answers.take(np.flatnonzero(fold_N != fold)), plain, decay)
            value_P = fitted.values(x_PF)
            gap_N[there] = value_P[answers.left_N[there]] - value_P[answers.right_N[there]]
            certain_N[there] = _reliability(fitted, cfg)[answers.annotator_N[there]]
        share_N, weight_N = _decided(answers, np.zeros(0), certain_N)
        p = sigmoid(gap_N / fit_temperature(gap_N, share_N, weight_N))
        p = np.clip(p, 1e-9, 1 - 1e-9)
        loss = -float((weight_N * (share_N * np.log(p) + (1 - share_N) * np.log(1 - p))).sum() / weight_N.sum())
        if best is None or loss < best[0]:
            best = loss, decay, gap_N
    assert best is not None
    return best[1], best[2]


def _reliability(fitted: Fitted, cfg: TrainReward) -> np.ndarray:
    """[A] by (4); 1 where it was not learned."""
    if not cfg.annotators or len(fitted.sides_A) < 2:
        return np.ones(len(fitted.sides_A))
    result: np.ndarray = reliability(torch.from_numpy(fitted.sides_A), torch.from_numpy(fitted.lapse_A)).numpy()
    return result


def _decided(
    answers: Answers, certain_A: np.ndarray, certain_N: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(share of the decided answers for the left image, weight), [N] each; ties weigh nothing.

    The weight is the decided share times the annotator's reliability, no less than 0: an annotator who answers at
    random says nothing about calibration either.
    """
    decided_N = answers.label_N3[:, 0] + answers.label_N3[:, 2]
    share_N = np.where(decided_N > 0, answers.label_N3[:, 0] / np.maximum(decided_N, 1e-12), 0.5)
    certain = certain_A[answers.annotator_N] if certain_N is None else certain_N
    return share_N, decided_N * np.clip(certain, 0.0, 1.0)
