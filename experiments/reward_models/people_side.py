"""People's side of a reward comparison: how well they agree, and how the models rank by their answers and by rewards.

Agreement coefficients are those of `preference_data.statistics.agreement`, ratings those of
`preference_data.statistics.ranking`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from preference_data.comparisons import TIES, Comparison, by_machine
from preference_data.statistics import agreement, ranking
from rewards.comparison.score_table import Table

MODELS = 12
"""Most models that are rated."""


def people(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Krippendorff's alpha (nominal and ordinal) and Gwet's AC1 of the answers, with intervals or why undefined.

    A machine's answers are nobody's and stay out.
    Answers are put in one order of the two images; a second answer of one person to a pair is left out.
    """
    values: dict[tuple[str, str], tuple[str, str, str]] = {}
    for c in comparisons:
        if by_machine(c.annotator):
            continue
        first = min(c.left.sha256, c.right.sha256)
        winner = {"left": c.left.sha256, "right": c.right.sha256}.get(c.outcome)
        category = c.outcome if c.outcome in TIES else "first" if winner == first else "second"
        unit = "-".join([c.prompt.id, *sorted((c.left.sha256, c.right.sha256))])
        values.setdefault((unit, c.annotator), (unit, c.annotator, category))
    answers = list(values.values())
    result = (
        agreement.krippendorff_nominal(answers),
        agreement.krippendorff_ordinal(answers),
        agreement.gwet_ac1(answers),
    )
    return [asdict(coefficient) for coefficient in result]


def leaderboard(table: Table) -> dict[str, Any]:
    """Ratings of the models with intervals of ratings and ranks, by people and by every reward.

    People's ratings rest on every answer, so 3 to 2 is not 5 to 0, and two who disagree are no tie; without
    people there are none. By Davidson's model where there are ties, else by Bradley & Terry's; clustered by
    prompt. A judge whose answers admit no finite rating says why. {} with fewer than two models or more than `MODELS`.
    """
    model_P = [p.image.provenance.model for p in table.images]
    if not 1 < len(set(model_P)) <= MODELS:
        return {}
    verdicts = {}
    if any(not by_machine(name) for name in table.annotators):
        verdicts["people"] = [
            (n, outcome, float(share))
            for n, label in zip(table.answer_pair_A.tolist(), table.answer_A3, strict=True)
            for outcome, share in zip((1, 0, -1), label, strict=True)
            if share > 0
        ]
    for r, name in enumerate(table.rewards):
        verdicts[name] = [(n, int(s), 1.0) for n, s in enumerate(np.sign(table.gap_RN[r]).tolist()) if s == s]
    entries: dict[str, Any] = {}
    for name, answer in verdicts.items():
        rows = [
            ranking.Comparison(model_P[a], model_P[b], outcome, weight, str(table.prompt_N[n]))
            for n, outcome, weight in answer
            if model_P[a := table.left_N[n]] != model_P[b := table.right_N[n]]
        ]
        try:
            fit = ranking.davidson if 0 < sum(r.outcome == 0 for r in rows) < len(rows) else ranking.bradley_terry
            fitted = fit(rows)
        except ValueError as error:
            entries[name] = {"why": str(error)}
            continue
        entries[name] = {"model": fitted.model, "ratings": [asdict(r) for r in fitted.ratings]}
    return entries
