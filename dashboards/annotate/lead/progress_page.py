"""The lead's first page: how far a campaign is, live, and whether it is open."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboards.annotate import current_user, served_store
from dashboards.annotate.lead.lead_words import lead
from dashboards.annotate.words import say
from preference_data.campaign import adjudication, campaigns
from preference_data.campaign.campaigns import Campaign
from preference_data.campaign.quality import campaign_progress
from preference_data.store.roles import LEAD


def choose(actor: int) -> Campaign | None:
    """The campaign that a page is about, chosen at its top; None when there is none yet, and the page says so."""
    there = {c.id: c for c in campaigns.listed(served_store.store(), actor)}
    language = current_user.language()
    if not there:
        st.info(lead(language, "none_yet"), icon=":material/add_circle:")
        return None
    ids = list(there)
    requested = st.query_params.get("campaign", "")  # in the address, so that a reload stays where it was
    now = int(requested) if requested.isdecimal() else st.session_state.get("lead_campaign")
    index = ids.index(now) if now in ids else 0
    st.session_state["lead_campaign"] = st.selectbox(
        lead(language, "campaign"),
        ids,
        index,
        format_func=lambda i: f"{there[i].name}  ({lead(language, f'state_{there[i].state}')})",
    )
    st.query_params["campaign"] = str(st.session_state["lead_campaign"])
    return there[st.session_state["lead_campaign"]]


def page() -> None:
    """Shows the progress of one campaign."""
    person, language = current_user.require(LEAD), current_user.language()
    st.subheader(lead(language, "overview"))
    chosen = choose(person.id)
    if chosen is None:
        return
    target = "closed" if chosen.state == "open" else "open"
    st.button(lead(language, "close" if chosen.state == "open" else "open"), key="set_state",
              icon=":material/lock:" if chosen.state == "open" else ":material/lock_open:",
              on_click=campaigns.set_state, args=(served_store.store(), person.id, chosen.id, target))  # fmt: skip
    _numbers(person.id, chosen.id)


@st.fragment(run_every=5)
def _numbers(actor: int, campaign: int) -> None:
    language = current_user.language()
    current_user.require(LEAD)
    result = campaign_progress.overview(served_store.store(), actor, campaign)
    work = {state: n for (kind, state), n in result.items.items() if kind == "work"}
    total = sum(work.values())
    done = total - work.get("open", 0)
    waits = adjudication.waiting(served_store.store(), actor, campaign)
    st.progress(done / total if total else 0.0, f"{lead(language, 'items')}: {done} / {total}")
    shown = (
        ("answers", f"{result.answers:,}"), ("wanted", f"{result.wanted:,}"), ("held", str(result.held)),
        ("annotators", str(result.annotators)), ("last_hour", f"{result.last_hour:,}"),
        ("median", "–" if result.median_seconds is None else f"{result.median_seconds:.1f} s"),
        ("aside", f"{result.skipped} · {result.flagged}"), ("waiting", str(waits)),
    )  # fmt: skip
    for row in (shown[:4], shown[4:]):
        for column, (name, value) in zip(st.columns(4), row, strict=True):
            column.metric(lead(language, name), value, border=True)
    if result.outcomes:
        st.caption(lead(language, "outcomes"))
        st.bar_chart(outcomes(result, language), horizontal=True, height=240)
    st.caption(lead(language, "live"))


def outcomes(overview: campaign_progress.Overview, language: str) -> dict[str, Any]:
    """Counts by answer as the annotators saw it: left and right by side, the others as they are."""
    counts = {say(language, side): n for side, n in overview.sides.items()}
    counts |= {say(language, name): n for name, n in overview.outcomes.items() if name not in ("first", "second")}
    return counts
