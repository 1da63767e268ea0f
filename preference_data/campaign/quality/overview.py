"""The lead's numbers about one campaign: how far people agree, whom to look at, and who makes the better images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from preference_data.campaign import campaigns
from preference_data.campaign.outcomes import PAIR
from preference_data.campaign.quality import annotators, campaign_progress
from preference_data.campaign.quality.annotators import of_answers, ratings
from preference_data.campaign.quality.campaign_progress import Wins
from preference_data.campaign.quality.reliability import Conduct, Share, conduct, counted
from preference_data.statistics.agreement import (
    Agreement,
    coded,
    cohen_kappa,
    gwet_ac1,
    krippendorff_nominal,
    krippendorff_ordinal,
)
from preference_data.statistics.ranking import Comparison, Ranking, arrays, bradley_terry, davidson, rao_kupper
from preference_data.statistics.shares import binomial_p
from preference_data.store.roles import LEAD, reading
from preference_data.store.store import Store

MODELS = {"Bradley-Terry": bradley_terry, "Davidson": davidson, "Rao-Kupper": rao_kupper}
NO_PREFERENCE = ("tie", "both_good", "both_bad")
"""Outcomes that rating models can treat as a tie."""


@dataclass(frozen=True)
class Quality:
    """Agreement coefficients, each annotator's conduct, and the side test over all answers (`left`, `left_p`)."""

    agreement: tuple[Agreement, ...]
    conduct: tuple[Conduct, ...]
    left: Share
    left_p: float


@dataclass(frozen=True)
class Standing:
    """One rating model's result, or the sentence that says why there is none."""

    model: str
    ranking: Ranking | None
    why: str = ""


def quality(store: Store, actor: int, campaign: int | str) -> Quality:
    """How good a campaign's answers are, for a lead. Best-and-worst campaigns have no ordinal scale."""
    with reading(store, actor, LEAD) as db:
        campaign_row = campaigns.find(db, campaign)
        values = annotators.answers(db, campaign_row.id)
        persons = of_answers(db, campaign_row.id, values)
    pair, answers = campaign_row.settings.kind == "pair", coded(ratings(values))
    agreement = [krippendorff_nominal(answers)]
    if pair:
        agreement.append(krippendorff_ordinal(answers))
    agreement += [cohen_kappa(answers), gwet_ac1(answers, len(PAIR) if pair else None)]
    left, decided = sum(p.left for p in persons), sum(p.left + p.right for p in persons)
    return Quality(
        tuple(agreement), tuple(conduct(persons, answers)), counted(left, decided), binomial_p(left, decided)
    )


def comparisons(wins: Sequence[Wins], as_tie: Sequence[str] = ("tie", "both_good")) -> list[Comparison]:
    """Preferences for a rating model, clustered by prompt. `as_tie` says which outcomes are ties; others are left out.

    Both bad is left out unless it is named: that both images fail says nothing about which is better.
    """
    if unknown := sorted(set(as_tie) - set(NO_PREFERENCE)):
        raise ValueError(f"{unknown} cannot count as ties; choose from {', '.join(NO_PREFERENCE)}")
    rows = []
    for w in wins:
        counts = ((1, w.a_wins), (-1, w.b_wins), (0, sum(getattr(w, name) for name in as_tie)))
        rows += [Comparison(w.a, w.b, outcome, float(count), w.prompt) for outcome, count in counts if count]
    return rows


def standings(store: Store, actor: int, campaign: int | str) -> list[Standing]:
    """Who makes the better images by each rating model, for a lead."""
    return rated(campaign_progress.wins(store, actor, campaign))


def rated(wins: Sequence[Wins], as_tie: Sequence[str] = ("tie", "both_good")) -> list[Standing]:
    """Standings of wins that were counted already."""
    try:
        rows = arrays(comparisons(wins, as_tie))
    except ValueError as error:
        return [Standing(name, None, error.args[0]) for name in MODELS]
    results = []
    for name, model in MODELS.items():
        try:
            results.append(Standing(name, model(rows)))
        except ValueError as error:
            results.append(Standing(name, None, error.args[0]))
    return results
