"""The adjudicator's page: answer blind, then see what the others said, then decide, with a reason."""

from __future__ import annotations

import time

import streamlit as st

from dashboards.annotate import annotation_page, current_user, served_store
from dashboards.annotate.lead.lead_words import REASONS, lead
from dashboards.annotate.session import IDLE
from dashboards.annotate.viewer import ocr_evidence, paint_times, viewer
from dashboards.annotate.words import say
from preference_data.campaign import adjudication, assignment_view
from preference_data.campaign.adjudication import Case
from preference_data.campaign.answering import Conflict
from preference_data.campaign.assignment_view import View
from preference_data.campaign.outcomes import Answer
from preference_data.store.roles import ADJUDICATE, Forbidden

REASON_KEYS = ("1", "2", "3", "4", "5", "6", "7", "8")


def page() -> None:
    """The next case of the chosen campaign."""
    person, language = current_user.require(ADJUDICATE), current_user.language()
    st.subheader(lead(language, "adjudicate"))
    campaign = annotation_page.pick(person.id)
    if campaign is None:
        st.info(say(language, "no_campaigns"))
        return
    st.session_state["case_acted_at"] = time.monotonic()
    _case(person.id, campaign)
    _alive(person.id, campaign)


@st.fragment(run_every=30)
def _alive(actor: int, campaign: int) -> None:
    """The heartbeat: a case stays its adjudicator's while the page is open and somebody works."""
    if time.monotonic() - st.session_state.get("case_acted_at", 0.0) < IDLE:
        adjudication.heartbeat(served_store.store(), actor, campaign)


@st.fragment
def _case(actor: int, campaign: int) -> None:
    language = current_user.language()
    current_user.require(ADJUDICATE)
    case = adjudication.next_case(served_store.store(), actor, campaign)
    if case is not None and st.session_state.get("case_sent", ("",))[0] != viewer.showing(case.view):
        st.session_state["case_sent"] = (viewer.showing(case.view), time.monotonic())
    waits = adjudication.waiting(served_store.store(), actor, campaign)
    st.caption(f"{lead(language, 'waiting')}: {waits}")
    if case is None:
        st.success(lead(language, "nothing_waits"), icon=":material/done_all:")
        return
    annotation_page.prompt(case.view, language)
    viewer.show(case.view, (), None, language)
    viewer.buttons(language)
    if notice := st.session_state.pop("adjudicated", None):
        st.info(say(language, notice))
    if case.blind is None:
        st.info(lead(language, "blind_first"), icon=":material/visibility_off:")
        _buttons(actor, case.view, language, None)
        return
    st.info(
        lead(language, "your_blind").format(outcome=decision_text(case.blind, language)), icon=":material/visibility:"
    )
    _revealed(actor, case, language)
    with st.container(horizontal=True, key="details_reasons", vertical_alignment="center"):
        st.caption(lead(language, "reason"), width="content")
        chosen = st.session_state.get(f"reason_{case.view.token}", "other")
        for name, key in zip(adjudication.REASONS, REASON_KEYS, strict=True):
            words = REASONS[name][1 if language == "zh" else 0]
            st.button(f"✓ {words}" if name == chosen else words, key=f"why_{name}", shortcut=key,
                      type="primary" if name == chosen else "secondary", on_click=_choose,
                      args=(f"reason_{case.view.token}", name))  # fmt: skip
    st.markdown(f"**{lead(language, 'decide')}**")
    _buttons(actor, case.view, language, chosen)


def _revealed(actor: int, case: Case, language: str) -> None:
    st.caption(lead(language, "opinions"))
    st.dataframe([
        {lead(language, "annotator"): o.pseudonym, say(language, "answer"): decision_text(o.answer, language),
         say(language, "reasons"): ", ".join(annotation_page.reason(tag, language) for tag in o.answer.tags),
         say(language, "note_said"): o.answer.rationale}
        for o in case.opinions
    ], hide_index=True, width="stretch")  # fmt: skip
    try:
        readings = assignment_view.evidence(served_store.store(), actor, case.view.token)
    except Forbidden:
        return
    ocr_evidence.show(case.view, readings, language)


def decision_text(values: Answer, language: str) -> str:
    """Says an answer in words."""
    words = say(language, values.outcome)
    if values.best is not None and values.worst is not None:
        best = say(language, "best_n").format(n=values.best + 1)
        words += f" ({best}, {say(language, 'worst_n').format(n=values.worst + 1)})"
    return words if values.strength is None else f"{words} · {values.strength}"


def _buttons(actor: int, view: View, language: str, reason: str | None) -> None:
    """What can be said; `reason` is None for the blind answer."""
    stage = "blind" if reason is None else "final"
    if view.kind != "pair":
        _ranks(view, language, stage)
    outcomes = (
        annotation_page.OUTCOMES if view.kind == "pair" else (("ranked", "Enter", None), ("none_acceptable", "B", None))
    )
    with st.container(horizontal=True, key=f"outcomes_{stage}_{view.token}"):
        for outcome, key, icon in (*outcomes, *annotation_page.SKIP_BUTTONS):
            st.button(say(language, outcome), key=f"{stage}_{outcome}_{view.token}", shortcut=key, icon=icon,
                      width="stretch", on_click=_answer, args=(actor, view, outcome, reason))  # fmt: skip


def _ranks(view: View, language: str, stage: str) -> None:
    for which, keys in (("best", None), ("worst", annotation_page.WORST_KEYS)):
        with st.container(horizontal=True, key=f"outcomes_{which}_{stage}_{view.token}"):
            for slot in range(len(view.images)):
                name = f"{which}_{view.token}"
                label = say(language, f"{which}_n").format(n=slot + 1)
                on = st.session_state.get(name) == slot
                st.button(f"✓ {label}" if on else label, key=f"{stage}_{which}_{slot}", width="stretch",
                          shortcut=keys[slot] if keys else None, type="primary" if on else "secondary",
                          on_click=_choose, args=(name, slot))  # fmt: skip


def _choose(name: str, value: object) -> None:
    st.session_state["case_acted_at"] = time.monotonic()
    st.session_state[name] = value


def _seconds_on_screen(actor: int, view: View) -> float:
    """Seconds for which the case has been on the screen, blind or with the others' answers."""
    showing, sent_at = st.session_state.get("case_sent", ("", 0.0))
    if showing != viewer.showing(view):
        return 0.0  # a button of the case, or of the stage, before
    reports = st.session_state.get("case_reports", False)
    seconds, painted = paint_times.seconds_on_screen(actor, showing, sent_at, served_store.store().clock(), reports)
    st.session_state["case_reports"] = reports or painted
    return seconds


def _answer(actor: int, view: View, outcome: str, reason: str | None) -> None:
    st.session_state["case_acted_at"] = time.monotonic()
    if _seconds_on_screen(actor, view) < viewer.MIN_SECONDS:
        st.session_state["adjudicated"] = "too_quick"
        return
    ranked = outcome == "ranked"
    best, worst = (st.session_state.get(f"{which}_{view.token}") if ranked else None for which in ("best", "worst"))
    answer = Answer(outcome, best=best, worst=worst)
    try:
        if reason is None:
            adjudication.answer_blind(served_store.store(), actor, view.token, answer, f"{view.token}:blind")
        else:
            adjudication.decide(served_store.store(), actor, view.token, answer, reason, f"{view.token}:final")
    except (Conflict, ValueError):
        st.session_state["adjudicated"] = "repeated"
