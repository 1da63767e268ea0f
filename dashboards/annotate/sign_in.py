"""Signing in and out: a provider's page where one is configured, a name and a password otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboards.annotate import current_user, served_store
from dashboards.annotate.words import LANGUAGES, say
from preference_data.campaign import assignment
from preference_data.store import accounts
from preference_data.store.accounts import TooManyAttempts
from preference_data.store.roles import Account, Forbidden

_CARRY = """
export default function ({ data, setTriggerValue }) {
  if (window.__glyphlabCarried === data.serial) return;
  window.__glyphlabCarried = data.serial;
  const told = data.ticket ? { method: "POST", body: data.ticket } : { method: "DELETE" };
  fetch(data.address, told).then(() => setTriggerValue("done", data.serial));
}
"""


@st.cache_resource
def _carry() -> Callable[..., Any]:
    return st.components.v2.component("glyphlab_session", js=_CARRY)


def unfinished() -> bool:
    """Whether the browser still has to be given its cookie, or to lose it."""
    return "ticket" in st.session_state


def page() -> None:
    """The page that whoever is not signed in sees, whatever address was asked for."""
    language = current_user.language()
    _, middle, _ = st.columns([1, 1.2, 1])
    with middle:
        st.title(say(language, "title"))
        _choose_language("sign_in_language")
        if unfinished():
            _finish(language)
            return
        if st.session_state.get("left"):
            fields = {"serial": "leave", "address": f"{served_store.here().base}/session"}
            _carry()(key="leave", data=fields, on_done_change=lambda: None)
        _form(language)


def first_password() -> None:
    """The page of whoever signed in with a password that was given to them: they choose their own, before all else."""
    from dashboards.annotate import history_pages

    person, language = current_user.account(), current_user.language()
    if person is None:
        st.rerun()
        return
    st.title(say(language, "new_password"))
    st.info(say(language, "password_first"), icon=":material/key:")
    history_pages.password_form(person, language)


def corner(person: Account) -> None:
    """Who is signed in, the language and the way out, at the foot of the sidebar."""
    with st.sidebar:
        st.text(f"{person.name} · {say(current_user.language(), f'role_{person.role}')}")
        _choose_language("corner_language")
        st.button(say(current_user.language(), "sign_out"), key="sign_out", icon=":material/logout:", on_click=_leave)


def _form(language: str) -> None:
    if _provider():
        if st.user.is_logged_in:
            _enter_by_provider(language)
        st.button(say(language, "sign_in_oidc"), type="primary", on_click=st.login)
        return
    if st.session_state.get("ended"):
        st.info(say(language, "session_ended"), icon=":material/lock_clock:")
    with st.form("sign_in"):
        name = st.text_input(say(language, "name"), autocomplete="username")
        password = st.text_input(say(language, "password"), type="password", autocomplete="current-password")
        sent = st.form_submit_button(say(language, "sign_in"), type="primary")
    if sent:
        try:
            current_user.remember(accounts.log_in(served_store.store(), name.strip(), password))
        except TooManyAttempts:
            st.error(say(language, "too_many"), icon=":material/block:")
        except Forbidden:
            st.error(say(language, "wrong"), icon=":material/error:")
        else:
            st.rerun()


def _enter_by_provider(language: str) -> None:
    """The provider vouched for somebody: their account, when they have one."""
    claims = st.user.to_dict()
    where = served_store.here()
    try:
        issuer, subject = str(claims.get("iss", "")), str(claims.get("sub", ""))
        name = str(claims.get("name") or claims.get("email") or "")
        result = accounts.log_in_oidc(where.store, issuer, subject, name, language, where.new_role)
    except (Forbidden, ValueError):
        st.error(say(language, "no_account"), icon=":material/error:")
        st.button(say(language, "sign_out"), on_click=st.logout)
        st.stop()
    current_user.remember(result)
    st.rerun()


def _finish(language: str) -> None:
    """Hand the ticket to the browser, which changes it into a cookie; then the pages open."""
    st.text(say(language, "opening"))
    ticket = st.session_state["ticket"]
    fields = {"ticket": ticket, "serial": ticket[-16:], "address": f"{served_store.here().base}/session"}
    _carry()(key="enter", data=fields, on_done_change=_entered)
    st.button(say(language, "continue"), key="continue", on_click=_entered)


def _entered() -> None:
    st.session_state.pop("ticket", None)


def _leave() -> None:
    result, campaign = current_user.account(), st.session_state.get("campaign")
    if result is not None and campaign is not None:
        assignment.release(served_store.store(), result.id, campaign)
    by_provider = _provider() and st.user.is_logged_in
    current_user.forget()
    if by_provider:
        st.logout()


def _choose_language(key: str) -> None:
    """Two buttons rather than a list: one press, and each names itself in its own language."""
    now = current_user.language()
    with st.container(horizontal=True, key=f"bar_{key}"):
        for code, own in LANGUAGES.items():
            st.button(own, key=f"{key}_{code}", type="primary" if code == now else "tertiary", on_click=_set_language,
                      args=(code,))  # fmt: skip


def _set_language(code: str) -> None:
    st.session_state["language"] = code
    result = current_user.account()
    if result is not None:
        accounts.change(served_store.store(), result.id, result.name, language=code)


def _provider() -> bool:
    """Whether secrets.toml names an OpenID Connect provider."""
    try:
        return "auth" in st.secrets
    except FileNotFoundError:
        return False
