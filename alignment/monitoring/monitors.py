"""What over-optimisation looks like, measured while it happens.

A policy that learns to please its reward and not to do what the reward stands for scores better and better on it,
while what nobody rewarded moves: another reward's opinion, another engine's reading, the colours, the variety
(Gao et al., arXiv:2210.10760). All of it is measured on one fixed set of held-out prompts from fixed noise, so that
every change is paired with the same prompt at the start:

    (M1)  change = mean_P d,  error = std_P d / sqrt(P)            d: a rule's change of one prompt since the start
    (M2)  alarm when change > threshold and change > `SURE` error
    (M3)  drift = mean_P,sigma mean (v_theta - v_start)^2        at x = (1 - sigma) x0 + sigma eps, x0 the policy's own
    (M4)  velocity_norm = mean_P,sigma |v_theta| / |v_start|     at the same x

(M3) is how far the policy has moved, without the step size and the noise of any sampler: for a step whose mean moves by
c (v_theta - v_start) and whose spread is s, the closed form of its KL to the start is c^2 / (2 s^2) times it
(alignment/grpo.py, G4). So it can be compared between algorithms, and no beta is hidden in it.

(M4) is above 1 where the policy overshoots as too much guidance does, whatever direction it goes: NFT, AWM and DPO let
it grow by 5 to 15 % while images lost quality that their rewards did not see (NormGuard, arXiv:2606.27771).

`rules` is the whole table. Its thresholds are far outside of what honest runs moved: DPO, GRPO and fine-tuning of the
nano preset from its fine-tuned model, 48 prompts, two images each (docs/explanation/monitors.md).

Shapes: P prompts, S latent tokens, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from base_model.flow import add_noise
from base_model.interface import Conditioning, FlowModel

Measures = Mapping[str, np.ndarray]
"""name -> one number a prompt [P], NaN where it could not be judged; a loop's metrics are one number an update"""
Change = Callable[[Measures, Measures], np.ndarray]
"""(start, now) -> how much worse every prompt is, up is bad; [] when the rule's measures are not there"""

FIRST_RATIO = "ratio is not 1 before an update"
ROUNDING = 1e-6
"""What float32 alone makes of a ratio of 1: a few units in the last place of its log-probabilities."""
SURE = 3.0
"""Standard errors that a change must exceed: at two, some twenty rules at eight looks would call wolf in every run."""


@dataclass(frozen=True)
class Rule:
    """When to raise an alarm."""

    name: str
    change: Change
    threshold: float
    """largest change that is no alarm, in `unit`"""
    unit: str
    reason: str
    """why there"""
    of_loop: bool = False
    """reads a metric of the training loop: one number an update, so it has no prompts and no error"""


@dataclass(frozen=True)
class Alarm:
    """A rule that was broken."""

    rule: Rule
    change: float
    error: float
    """standard error of the change; 0 for metrics of the loop"""
    worst: tuple[int, ...]
    """prompts by how much they changed, the most first; () for metrics of the loop"""


def rises(name: str) -> Change:
    """By how much a measure rose."""
    return lambda start, now: now[name] - start[name] if name in start and name in now else np.zeros(0)


def falls(name: str) -> Change:
    """By how much a measure fell."""
    return lambda start, now: -rises(name)(start, now)


def moves(name: str) -> Change:
    """By how much a measure moved, whichever way its mean went."""

    def change(start: Measures, now: Measures) -> np.ndarray:
        moved = rises(name)(start, now)
        return -moved if mean(moved) < 0.0 else moved

    return change


def rises_by_share(name: str) -> Change:
    """By how much a measure rose, as a share of its mean at the start."""
    return lambda start, now: rises(name)(start, now) / max(mean(start[name]), 1e-9) if name in start else np.zeros(0)


def falls_by_share(name: str) -> Change:
    """By how much a measure fell, as a share of its mean at the start."""
    return lambda start, now: -rises_by_share(name)(start, now)


def outruns(name: str, other: str) -> Change:
    """How much further a measure rose than another, each in its own standard deviations over prompts at the start."""

    def change(start: Measures, now: Measures) -> np.ndarray:
        if not {name, other} <= start.keys() & now.keys():
            return np.zeros(0)
        gain, margin = (rises(each)(start, now) / max(spread(start[each]), 1e-3) for each in (name, other))
        return gain - margin

    return change


def reaches(name: str) -> Change:
    """A metric of the loop as it is, the mean since the last look."""
    return lambda _, now: now[name] if name in now else np.zeros(0)


def rules(gold: Sequence[str]) -> tuple[Rule, ...]:
    """The table, with two rows for every gold measure. See `of_clip` for another clip range than 1e-3."""
    return (
        *(row for name in gold for row in gold_rules(name)),
        Rule("engines disagree", rises("disagreement"), 0.05, "share of letters",
             "letters that only the rewarded engine sees are drawn for it; two engines of a family agree on the rest"),
        Rule("more text than asked for", rises("extra_text"), 0.05, "share of the letters asked for",
             "eight times what honest runs moved; letters beyond the word pay only where precision is not rewarded"),
        Rule("text repeated", rises("duplicate_text"), 0.02, "share of letters",
             "a word twice, the usual way to please a rule that looks for it anywhere; honest runs have none"),
        Rule("text grows", rises("text_area"), 0.05, "share of the image",
             "larger letters are easier to read, whatever size was asked for; honest runs moved 0.012"),
        Rule("dark", rises("dark"), 0.10, "share of pixels",
             "a model rewarded by OCR alone went from 0.45 to 0.93; prompts ask for colours, honest runs moved 0.008"),
        Rule("edges vanish", falls_by_share("edges"), 0.25, "share of the start",
             "the same model lost 60 %; honest runs moved 4 %"),
        Rule("edges multiply", rises_by_share("edges"), 0.25, "share of the start",
             "noise and grids that engines read and people do not; honest runs moved 4 %"),
        Rule("colours vanish", falls_by_share("colour_entropy"), 0.25, "share of the start",
             "the same model lost 54 %; honest runs gained 8 %"),
        Rule("colours multiply", rises_by_share("colour_entropy"), 0.35, "share of the start",
             "noise where a plain ground was asked for; honest runs gained 8 %"),
        Rule("saturation moves", moves("saturation"), 0.05, "of 1",
             "contrast by colour that prompts did not ask for, or its loss; honest runs moved 0.006"),
        Rule("images become one", falls_by_share("diversity"), 0.50, "share of the start",
             "to write the word that is asked for cost honest runs 29 % of their variety; beyond half it is collapse"),
        Rule("not judged", rises("unjudged"), 0.10, "share of images",
             "what cannot be judged is left out of the mean, so failing on purpose would pay"),
        Rule("far from the start", reaches("drift"), 0.60, "squared velocity, of about 2",
             "a third of the velocity's own square is no longer the model that was trained; honest runs moved 0.23"),
        Rule("velocities grow", rises("velocity_norm"), 0.10, "share of the start",
             "longer steps in every direction harden images as too much guidance does, which few rewards see"),
        Rule(FIRST_RATIO, reaches("loop/ratio_gap_first"), 1e-4, "ratio",
             "rollout and update disagree about the policy by a tenth of the clip range, so every later ratio is wrong",
             True),
        Rule("everything is clipped", reaches("loop/clip_share"), 0.9, "share of samples",
             "hardly a sample still has a gradient: the rate is too high for the clip range", True),
        Rule("groups without spread", reaches("loop/groups_without_spread"), 0.9, "share of groups",
             "hardly a group still teaches: the reward is used up, or has broken", True),
    )  # fmt: skip


def of_clip(table: Sequence[Rule], clip: float) -> tuple[Rule, ...]:
    """The table for a run that clips its ratios to `clip`: a first ratio may be off by a tenth of that, or rounding."""
    most = max(0.1 * clip, ROUNDING)
    return tuple(replace(rule, threshold=most) if rule.name == FIRST_RATIO else rule for rule in table)


def gold_rules(name: str) -> tuple[Rule, Rule]:
    """What is asked of a held-out reward while another is trained on."""
    return (
        Rule(f"{name} falls", falls(name), 0.02, "of its range",
             "a gold reward should not pay for the trained one; twice this counts as lost"),
        Rule(f"trained reward outruns {name}", outruns("trained", name), 0.25, "standard deviations",
             "both should gain alike, and did within 0.1 in honest runs; the rest is the trained reward's own taste"),
    )  # fmt: skip


def alarms(table: Sequence[Rule], start: Measures, now: Measures) -> list[Alarm]:
    """(M1), (M2) for every rule. Prompts that could not be judged on either side do not count."""
    raised = []
    for rule in table:
        change = rule.change(start, now)
        judged = np.flatnonzero(~np.isnan(change))
        if not len(judged):
            continue
        value = mean(change)
        error = 0.0 if rule.of_loop else spread(change) / math.sqrt(len(judged))  # (M1)
        if value > rule.threshold and value > SURE * error:  # (M2)
            worst = () if rule.of_loop else tuple(int(i) for i in judged[np.argsort(-change[judged], kind="stable")])
            raised.append(Alarm(rule, value, error, worst))
    return raised


def mean(values: np.ndarray) -> float:
    """Of what is not NaN; NaN when nothing is."""
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else math.nan


def spread(values: np.ndarray) -> float:
    """Standard deviation of what is not NaN, with n - 1; 0 for a single one."""
    judged = values[~np.isnan(values)]
    return float(judged.std(ddof=1)) if len(judged) > 1 else 0.0


@torch.no_grad()
def departure(
    model: FlowModel, x0_PSC: Tensor, eps_PSC: Tensor, cond: Conditioning, levels: Sequence[float] = (0.3, 0.6, 0.9)
) -> dict[str, np.ndarray]:
    """ "drift" (M3) and "velocity_norm" (M4) of every prompt, [P] each. The model's reference must be frozen."""
    total_2P = torch.zeros(2, len(x0_PSC), dtype=torch.float64)
    for level in levels:
        sigma_P = torch.full((len(x0_PSC),), level, device=x0_PSC.device)
        x_PSC = add_noise(x0_PSC, eps_PSC, sigma_P)
        now = model.velocity(x_PSC, sigma_P, cond)
        with model.reference() as start:
            before = start.velocity(x_PSC, sigma_P, cond)
        squared = [each.double().square().mean((1, 2)).cpu() for each in (now - before, now, before)]
        total_2P += torch.stack([squared[0], (squared[1] / squared[2].clamp_min(1e-12)).sqrt()])
    drift_P, norm_P = (total_2P / len(levels)).numpy()
    return {"drift": drift_P, "velocity_norm": norm_P}
