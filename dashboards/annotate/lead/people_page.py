"""The administrator's page: who has an account, with which role."""

from __future__ import annotations

import secrets

import streamlit as st

from dashboards.annotate import current_user, served_store
from dashboards.annotate.lead.lead_words import lead
from dashboards.annotate.translation import translated
from dashboards.annotate.words import say
from preference_data.store import accounts, schema
from preference_data.store.roles import ADMINISTER


def page() -> None:
    """Make accounts, change roles, give new passwords, close accounts."""
    person, language = current_user.require(ADMINISTER), current_user.language()
    st.subheader(lead(language, "people"))
    one_time = st.session_state.pop("one_time", None)
    if one_time is not None:
        st.warning(lead(language, "one_time").format(name=one_time[0], password=one_time[1]), icon=":material/key:")
    problem = st.session_state.pop("people_problem", None)
    if problem is not None:
        st.error(translated(language, problem), icon=":material/error:")
    with st.form("new_account", clear_on_submit=True):
        st.markdown(f"**{lead(language, 'new_account')}**")
        name = st.text_input(lead(language, "name"), max_chars=120)
        role = st.selectbox(lead(language, "role"), schema.ROLES, format_func=lambda r: say(language, f"role_{r}"))
        sent = st.form_submit_button(lead(language, "add"), type="primary")
    if sent:
        password = secrets.token_urlsafe(12)
        try:
            accounts.create(served_store.store(), person.id, name.strip(), role, password, language, one_time=True)
            st.session_state["one_time"] = (name.strip(), password)
        except ValueError as error:
            st.session_state["people_problem"] = error.args[0]
        st.rerun()
    for account in accounts.listed(served_store.store(), person.id):
        with st.container(horizontal=True, border=True, vertical_alignment="center", key=f"as_text_{account.id}"):
            closed = "" if account.active else f"  ({lead(language, 'inactive')})"
            st.text(f"{account.name}{closed}", width="stretch")
            st.text(account.pseudonym, width=140)
            st.selectbox(lead(language, "role"), schema.ROLES, schema.ROLES.index(account.role), key=f"role_{account.id}",  # noqa: E501
                         format_func=lambda r: say(language, f"role_{r}"), label_visibility="collapsed", width=160,
                         disabled=account.id == person.id, on_change=_role,
                         args=(person.id, account.id, account.name))  # fmt: skip
            st.button(
                lead(language, "reset"), key=f"reset_{account.id}", on_click=_reset, args=(person.id, account.name)
            )
            st.button(lead(language, "deactivate" if account.active else "activate"), key=f"close_{account.id}",
                      disabled=account.id == person.id, on_click=accounts.change,
                      args=(served_store.store(), person.id, account.name),
                      kwargs={"active": not account.active})  # fmt: skip


def _role(actor: int, account: int, name: str) -> None:
    accounts.change(served_store.store(), actor, name, role=st.session_state[f"role_{account}"])


def _reset(actor: int, name: str) -> None:
    password = secrets.token_urlsafe(12)
    try:
        accounts.change(served_store.store(), actor, name, password=password, one_time=True)
        st.session_state["one_time"] = (name, password)
    except ValueError as error:
        st.session_state["people_problem"] = error.args[0]
