"""How good the answers are: agreement with intervals, a test of position bias, and each annotator's conduct."""

from __future__ import annotations

import math

import streamlit as st

from dashboards.annotate import current_user, served_store
from dashboards.annotate.lead.lead_words import lead
from dashboards.annotate.lead.progress_page import choose
from dashboards.annotate.translation import translated
from preference_data.campaign.quality import overview
from preference_data.campaign.quality.overview import Quality
from preference_data.campaign.quality.reliability import Share
from preference_data.store.roles import LEAD

BIAS = 0.01
"""p-value below which the sides are not chance."""


def page() -> None:
    """Shows the quality of one campaign."""
    person, language = current_user.require(LEAD), current_user.language()
    st.subheader(lead(language, "quality"))
    chosen = choose(person.id)
    if chosen is None:
        return
    result = overview.quality(served_store.store(), person.id, chosen.id)
    st.markdown(f"#### {lead(language, 'agreement')}")
    agreement = [
        {lead(language, "coefficient"): translated(language, a.name), lead(language, "value"): number(a.value),
         lead(language, "interval"): interval(a.low, a.high), lead(language, "observed"): percent(a.observed),
         lead(language, "units"): a.units, lead(language, "answers"): a.answers,
         lead(language, "why"): translated(language, a.why)}
        for a in result.agreement
    ]  # fmt: skip
    st.dataframe(agreement, hide_index=True, width="stretch")
    st.markdown(f"#### {lead(language, 'sides')}")
    _sides(result, language)
    st.markdown(f"#### {lead(language, 'annotators')}")
    if not result.conduct:
        st.info(lead(language, "not_yet"))
        return
    st.dataframe(people(result, language), hide_index=True, width="stretch")
    for c in result.conduct:
        if c.why:
            answer = lead(language, "and").join(translated(language, why) for why in c.why)
            st.warning(f"**{c.person.pseudonym}** {answer}", icon=":material/person_alert:")


def _sides(quality: Quality, language: str) -> None:
    left = quality.left
    if not left.count:
        st.info(lead(language, "sides_none"))
        return
    biased = quality.left_p < BIAS
    words = lead(language, "sides_bad" if biased else "sides_ok")
    sentence = words.format(n=left.count, left=left.value, low=left.low, high=left.high, p=quality.left_p)
    (st.warning if biased else st.success)(sentence, icon=":material/balance:")


def people(quality: Quality, language: str, names: bool = True) -> list[dict[str, object]]:
    """One row an annotator: pseudonyms, and beside them names, which belong on the page and in no file."""
    return [
        {
            lead(language, "annotator"): c.person.pseudonym,
            **({lead(language, "name"): c.person.name or "–"} if names else {}),
            lead(language, "look_at"): ", ".join(
                lead(language, name) for name, on in (("spammer", c.spammer), ("biased", c.position_biased)) if on
            ) or lead(language, "fine"),
            lead(language, "answers"): c.person.answers,
            lead(language, "gold"): share(c.gold), lead(language, "attention"): share(c.attention),
            lead(language, "repeats"): share(c.repeats), lead(language, "kappa"): share(c.kappa, as_percent=False),
            lead(language, "left_share"): share(c.left), lead(language, "seconds"): number(c.person.median_seconds, 1),
        }
        for c in quality.conduct
    ]  # fmt: skip


def number(value: float | None, digits: int = 3) -> str:
    """ "–" where there is none: never 0."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def percent(value: float) -> str:
    """In per cent; "–" where there is none."""
    return "–" if math.isnan(value) else f"{value:.1%}"


def interval(low: float, high: float) -> str:
    """Both ends; "–" where there are none."""
    return "–" if math.isnan(low) or math.isnan(high) else f"{low:.3f} … {high:.3f}"


def share(value: Share, as_percent: bool = True) -> str:
    """With its interval and what it is of."""
    if not value.count or math.isnan(value.value):
        return "–"
    if as_percent:
        return f"{value.value:.0%} [{value.low:.0%}, {value.high:.0%}] (n={value.count})"
    limits = "" if math.isnan(value.low) else f" [{value.low:.2f}, {value.high:.2f}]"
    return f"{value.value:.2f}{limits} (n={value.count})"
