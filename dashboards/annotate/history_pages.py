"""The annotator's other pages: own answers, guidelines, account."""

from __future__ import annotations

import datetime

import streamlit as st

from dashboards.annotate import annotation_page, current_user, served_store
from dashboards.annotate.words import guidelines, say
from preference_data.campaign import answering
from preference_data.campaign.quality import campaign_progress
from preference_data.store import accounts
from preference_data.store.roles import ANNOTATE, Account

SHOWN = 50


def history() -> None:
    """One's own newest answers, each of which can be changed."""
    person, language = current_user.require(ANNOTATE), current_user.language()
    st.subheader(say(language, "history"))
    campaign = annotation_page.pick(person.id)
    past = answering.history(served_store.store(), person.id, campaign, SHOWN) if campaign is not None else []
    if campaign is None or not past:
        st.info(say(language, "no_history"))
        return
    sitting = annotation_page.shift(person.id, campaign)
    for entry in past:
        with st.container(border=True), st.container(key=f"as_text_{entry.token}", horizontal=True,
                                                     vertical_alignment="center"):  # fmt: skip
            at = datetime.datetime.fromtimestamp(entry.at).strftime("%m-%d %H:%M")
            st.text(f"{at}   {say(language, entry.answer.outcome)}", width=170)
            st.text(entry.prompt[:300], width="stretch")
            if st.button(say(language, "change"), key=f"change_{entry.token}"):
                sitting.reopen(entry.token)
                st.switch_page(st.session_state["pages"]["annotate"])


def rules() -> None:
    """What to go by, and the keys."""
    person, language = current_user.require(ANNOTATE), current_user.language()
    st.subheader(say(language, "guidelines"))
    campaign = annotation_page.pick(person.id)
    offers = {o.id: o for o in campaign_progress.offers(served_store.store(), person.id)}
    own = offers[campaign].guidelines if campaign is not None else {}
    # a lead's own text: Markdown without HTML, and no image or link that a prompt could bring in
    st.markdown(own.get(language) or own.get("en") or guidelines(language), unsafe_allow_html=False)
    st.subheader(say(language, "shortcuts"))
    kind = offers[campaign].kind if campaign is not None else "pair"
    rows = "".join(f"| {words} | {keys} |\n" for words, keys in shortcuts(kind, language))
    st.markdown(f"| {say(language, 'answer')} | {say(language, 'shortcuts')} |\n|---|---|\n{rows}")


def shortcuts(kind: str, language: str) -> list[tuple[str, str]]:
    """(what it does, its keys) of everything that the page of this kind of task can do."""
    if kind == "pair":
        answers = [
            (say(language, name), f"`{key}`")
            for name, key, _ in (*annotation_page.OUTCOMES, *annotation_page.SKIP_BUTTONS)
        ]
        answers.append((say(language, "strength"), "`1` … `5`"))
        answers += [(say(language, f"axis_{name}"), f"`{key}`") for name, key in annotation_page.AXIS_KEYS.items()]
    else:
        answers = [(say(language, "best"), "`1` … `9`"), (say(language, "worst"),
        f"`{'` `'.join(annotation_page.WORST_KEYS)}`"),
                   (say(language, "submit"), "`Enter`"), (say(language, "none_acceptable"), "`B`")]  # fmt: skip
        answers += [(say(language, name), f"`{key}`") for name, key, _ in annotation_page.SKIP_BUTTONS]
    answers.append((say(language, "tags"), f"`Shift` + `{'` `'.join(annotation_page.TAG_KEYS)}`"))
    answers += [(say(language, "undo"), "`U`"), (say(language, "cancel"), "`Esc`")]
    answers += [(say(language, name), f"`{key}`") for name, key in annotation_page.viewer.MOVES]
    return [*answers, (say(language, "pan"), "`←` `↑` `↓` `→`")]


def account() -> None:
    """Shows the page on which users change their own password."""
    person, language = current_user.require(ANNOTATE), current_user.language()
    st.subheader(say(language, "account"))
    password_form(person, language)


def password_form(person: Account, language: str) -> None:
    """Whose account it is, and a new password for it."""
    st.text(f"{person.name} · {say(language, f'role_{person.role}')} · {person.pseudonym}")
    with st.form("password", clear_on_submit=True):
        fresh = st.text_input(say(language, "new_password"), type="password", help=say(language, "password_rule"),
                              autocomplete="new-password")  # fmt: skip
        sent = st.form_submit_button(say(language, "save"))
    if sent:
        try:
            accounts.change(served_store.store(), person.id, person.name, password=fresh)
        except ValueError:
            st.error(say(language, "password_new" if person.one_time else "password_rule"))
            return
        # other sessions end with the old password; this one goes on
        current_user.remember(accounts.log_in(served_store.store(), person.name, fresh))
        st.toast(say(language, "saved"))
        st.rerun()
