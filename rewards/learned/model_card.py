"""What comes with a reward model: a card of the answers it was made of, and a card of the model itself.

Both are Markdown, written from counts; they say what is not known, such as a licence, instead of leaving it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from preference_data.comparisons import Comparison, by_machine
from preference_data.statistics.shares import exact
from rewards.comparison.accuracy import right
from rewards.comparison.resample import Clusters
from rewards.learned.reward_settings import TrainReward
from rewards.learned.train import Answers, Trained


def data_card(comparisons: Sequence[Comparison], answers: Answers, trained: Trained, source: Mapping[str, str]) -> str:
    """The answers: how many, about what, by whom, how they agree, and how they were split. `source`: name -> value."""
    outcomes = Counter(c.outcome for c in comparisons)
    images = {i.sha256: i for c in comparisons for i in (c.left, c.right)}
    prompts = {c.prompt.id: c.prompt for c in comparisons}
    machine = sum(by_machine(c.annotator) for c in comparisons)
    sizes = Counter(f"{i.width} x {i.height}" for i in images.values()).most_common(5)
    lines = [
        "# Data card", "", *(f"- {name}: {value}" for name, value in source.items()),
        f"- answers: {len(comparisons)} ({machine} by a machine), prompts: {len(prompts)}, images: {len(images)}",
        f"- outcomes: {', '.join(f'{count} {name}' for name, count in outcomes.most_common())}; "
        "both good and both bad teach the order as a tie does",
        f"- with a strength: {sum(c.strength is not None for c in comparisons)}, "
        f"as shares of several answers: {sum(c.shares is not None for c in comparisons)}",
        f"- languages: {_counts(p.language for p in prompts.values())}; "
        f"categories: {_counts(c for p in prompts.values() for c in p.category)}",
        f"- asking for text: {sum(bool(p.spans) for p in prompts.values())} of {len(prompts)} prompts",
        f"- images by model: {_counts(i.provenance.model for i in images.values())}; "
        f"commonest sizes: {', '.join(f'{name} ({count})' for name, count in sizes)}",
        f"- split: {len(trained.rows_held_out)} answers held out, by prompt and by image: none is on both sides; "
        f"{int(answers.island_N.max()) + 1} groups of answers share a prompt or an image",
        "- licence and consent: not recorded in the file; whoever passes the model on has to know them", "",
        "## Annotators", "",
        "Reliability is learned with the model: 1 answers as the model says, 0 at random, -1 the opposite.", "",
        "| annotator | answers | left / tie / right | chose left, 95 % | agrees with the others | reliability |",
        "|---|---:|---:|---:|---:|---:|",
        *_annotators(comparisons, answers, trained), "",
    ]  # fmt: skip
    return "\n".join(lines)


def _counts(names: Any) -> str:
    most_common = Counter(names).most_common(8)
    return ", ".join(f"{name} ({count})" for name, count in most_common) or "none"


def _annotators(comparisons: Sequence[Comparison], answers: Answers, trained: Trained) -> list[str]:
    """The rows of the table; names are as the file has them. Everything is counted once, for there can be thousands."""
    count_A = np.bincount(answers.annotator_N, minlength=len(answers.annotators))
    answer_A3 = np.zeros((len(answers.annotators), 3))
    np.add.at(answer_A3, answers.annotator_N, answers.label_N3)
    agreement = agreement_with_others(comparisons)
    rows = []
    for k, name in enumerate(answers.annotators):
        left, tie, other = answer_A3[k]
        low, high = exact(float(left), float(left + other))
        agree, of = agreement.get(name, (0, 0))
        shown = f"{agree / of:.2f} of {of}" if of else "nobody else answered"
        rows.append(
            f"| {name} | {count_A[k]} | {left:.0f} / {tie:.0f} / {other:.0f} | {low:.2f} to {high:.2f} "
            f"| {shown} | {trained.reliability_A[k]:.2f} |"
        )
    return rows


def agreement_with_others(comparisons: Sequence[Comparison]) -> dict[str, tuple[int, int]]:
    """annotator -> (agreeing, compared): their decided answers against those of other people about the same pair.

    A machine is nobody that one agrees with, unless no person answered at all.
    """
    no_people = all(by_machine(c.annotator) for c in comparisons)
    by_pair: dict[tuple[str, str, str], list[Comparison]] = {}
    for c in comparisons:
        if c.outcome in ("left", "right"):
            low, high = sorted((c.left.sha256, c.right.sha256))
            by_pair.setdefault((c.prompt.id, low, high), []).append(c)
    table: dict[str, tuple[int, int]] = {}
    for answered in by_pair.values():
        winners = [(c.annotator, c.left.sha256 if c.outcome == "left" else c.right.sha256) for c in answered]
        others = [(person, winner) for person, winner in winners if no_people or not by_machine(person)]
        same, own, alike = (
            Counter(others),
            Counter(person for person, _ in others),
            Counter(sha for _, sha in others),
        )
        for (person, winner), count in Counter(winners).items():
            agree, of = table.get(person, (0, 0))
            agree += count * (alike[winner] - same[person, winner])
            table[person] = agree, of + count * (len(others) - own[person])
    return table


def model_card(
    backbone: str, view: str, cfg: TrainReward, answers: Answers, trained: Trained, source: Mapping[str, str]
) -> str:
    """The model: what it is, how good, how sure, what it cannot see, and how to use it."""
    held, cross = trained.held_out, trained.cross_fitted
    low, high = held_out_interval(answers, trained)
    unsure = "" if held["answers"] >= 100 else " These are few answers: treat every number below as a rough guess."
    worst = [a for a, r in zip(answers.annotators, trained.reliability_A, strict=True) if r < 0.3]
    lines = [
        "# Model card", "", *(f"- {name}: {value}" for name, value in source.items()),
        f"- what: {'a linear head' if not cfg.hidden else f'a head with {cfg.hidden} hidden units'} on the frozen "
        f"features of `{backbone}` ({len(trained.mean_F)} features); it sees the {view}",
        f"- likelihood: {cfg.ties} with learned ties"
        + (", annotators weighed by learned reliability" if cfg.annotators and len(answers.annotators) > 1 else "")
        + (f", margin {cfg.margin:g} a unit of strength" if cfg.margin else ""),
        f"- weight decay {trained.decay:g} of {', '.join(f'{d:g}' for d in cfg.decays)} by {cfg.folds}-fold "
        f"likelihood; "
        f"temperature {trained.temperature:.3f}; seed {cfg.seed}",
        "- value: log-odds against an average training image; the logistic function of a difference is the share of "
        "people expected to prefer the first image", "",
        "## How good", "",
        f"On {held['answers']:.0f} held-out answers of reliable annotators.{unsure}", "",
        "| | held out | out of fold |", "|---|---:|---:|",
        f"| accuracy on decided answers | {held['accuracy']:.3f} ({low:.3f} to {high:.3f}) | {cross['accuracy']:.3f} |",
        *(f"| {title} | {held[name]:.3f} | {cross[name]:.3f} |"
          for name, title in (("ece", "calibration error (ECE)"),
                              ("ece_by_chance", "calibration error that chance alone gives"),
                              ("brier", "Brier score"), ("log_loss", "log loss"))),
        "", "An accuracy below the agreement between people is expected: compare with the human ceiling of "
        "`glyphlab compare-rewards`, not with 1.", "",
        "## What to know before use", "",
        "- It has learned these annotators' taste on these prompts and models; on others it is a guess, and `spread` "
        "says how much its heads disagree.",
        "- Optimising a model against it finds its gaps: keep a second judge out of training, and watch `spread`.",
        "- Its training prompts and images are in trained_on.txt; an evaluation on them is void. "
        "The answers held out are in held_out.jsonl, which `glyphlab compare-rewards` finds there.",
        *([f"- Answers of {', '.join(worst)} said little or the opposite and weigh accordingly."] if worst else []),
        "", "Use: `glyphlab score FOLDER --reward learned:PATH`, or `1.0*ocr+0.3*learned:PATH` as a mixture.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def held_out_interval(answers: Answers, trained: Trained) -> tuple[float, float]:
    """95 % interval of the held-out accuracy; answers that share a prompt or an image are not independent."""
    rows = trained.rows_held_out
    label_N = np.sign(answers.label_N3[rows, 0] - answers.label_N3[rows, 2])
    right_N = right(trained.gap_held_out, label_N)
    weight_N = np.where(np.isnan(right_N), 0.0, np.clip(trained.reliability_A[answers.annotator_N[rows]], 0, 1))
    interval = Clusters(answers.island_N[rows], seed=0).estimate(right_N, weight_N)
    return interval.low, interval.high
