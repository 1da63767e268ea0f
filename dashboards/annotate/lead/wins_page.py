"""Who makes the better images: a matrix of win rates, and three rating models with intervals of ratings and ranks."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboards.annotate import current_user, served_store
from dashboards.annotate.lead.lead_words import lead
from dashboards.annotate.lead.progress_page import choose
from dashboards.annotate.lead.quality_page import interval
from dashboards.annotate.translation import translated
from dashboards.annotate.words import say
from preference_data.campaign.quality import campaign_progress, overview
from preference_data.campaign.quality.campaign_progress import Wins
from preference_data.statistics.ranking import Ranking
from preference_data.store.roles import LEAD


def page() -> None:
    """Win rates of one campaign."""
    person, language = current_user.require(LEAD), current_user.language()
    st.subheader(lead(language, "standings"))
    chosen = choose(person.id)
    if chosen is None:
        return
    ties = st.pills(lead(language, "as_tie"), overview.NO_PREFERENCE, selection_mode="multi",
                    default=["tie", "both_good"], format_func=lambda name: say(language, name))  # fmt: skip
    policy = "uniform" if st.toggle(lead(language, "only_uniform"), key="only_uniform") else None
    wins = campaign_progress.wins(served_store.store(), person.id, chosen.id, policy)
    if not wins:
        st.info(lead(language, "not_yet"))
        return
    st.caption(lead(language, "matrix"))
    st.dataframe(matrix(wins, language), hide_index=True, width="stretch")
    for standing in overview.rated(wins, ties):
        st.markdown(f"#### {standing.model}")
        if standing.ranking is None:
            st.info(translated(language, standing.why))
        else:
            _ranking(standing.ranking, language)


def _ranking(ranking: Ranking, language: str) -> None:
    st.dataframe([
        {lead(language, "rank"): r.rank, lead(language, "maker"): r.name, lead(language, "rating"): f"{r.rating:+.3f}",
         lead(language, "interval"): interval(r.low, r.high),
         lead(language, "rank_interval"): f"{r.rank_low} – {r.rank_high}",
         lead(language, "comparisons"): round(r.comparisons)}
        for r in ranking.ratings
    ], hide_index=True, width="stretch")  # fmt: skip
    if ranking.tie is not None:
        value, low, high = ranking.tie
        st.caption(f"{lead(language, 'tie_parameter')}: {value:.3f} [{low:.3f}, {high:.3f}]")


def matrix(wins: Sequence[Wins], language: str) -> list[dict[str, str]]:
    """Rows beat columns: the share among decided answers, with their number."""
    won: dict[tuple[str, str], int] = {}
    for w in wins:
        won[w.a, w.b] = won.get((w.a, w.b), 0) + w.a_wins
        won[w.b, w.a] = won.get((w.b, w.a), 0) + w.b_wins
    makers = sorted({name for pair in won for name in pair})

    def cell(a: str, b: str) -> str:
        n = won.get((a, b), 0) + won.get((b, a), 0)
        return "–" if n == 0 else f"{won[a, b] / n:.0%} ({n})"

    return [{lead(language, "maker"): a} | {b: cell(a, b) for b in makers} for a in makers]
