"""Who is looking at a page: from the session's own memory or from the cookie, and looked up anew on every run."""

from __future__ import annotations

import time

import streamlit as st

from dashboards.annotate import served_store, signed_tokens
from dashboards.annotate.words import LANGUAGES, say
from preference_data.store import accounts
from preference_data.store.roles import Account, Forbidden


def account() -> Account | None:
    """Whoever is logged in; None when nobody is, or the session was ended."""
    where = served_store.here()
    account_id = st.session_state.get("who") or signed_tokens.read(where.key, "session", cookie(), time.time())
    if account_id is None:
        return None
    try:
        person = accounts.current(where.store, *account_id)
    except Forbidden:
        st.session_state.pop("who", None)
        st.session_state["ended"] = True  # the sign-in page then says why it is there
        return None
    st.session_state["who"] = account_id
    return person


def cookie() -> str:
    """The session cookie that came with the connection."""
    return "" if st.session_state.get("left") else st.context.cookies.get(signed_tokens.COOKIE, "")


def require(roles: tuple[str, ...]) -> Account:
    """The account, when it has one of the roles; else the page says that there is nothing here, and ends."""
    result = account()
    if result is None or result.role not in roles or result.one_time:
        refuse()
        st.stop()
    return result


def refuse() -> None:
    """Shows a user whose role may not see a page why it is not shown."""
    st.error(say(language(), "not_here"))


def language() -> str:
    """The interface's language: chosen here, else the account's, else the browser's."""
    chosen = st.session_state.get("language")
    if chosen in LANGUAGES:
        return str(chosen)
    return "zh" if (st.context.locale or "").lower().startswith("zh") else "en"


def remember(result: Account) -> None:
    """This session is that account's from here on; a ticket waits to become the browser's cookie."""
    where = served_store.here()
    for name in list(st.session_state):
        del st.session_state[name]
    st.session_state["who"] = (result.id, result.session)
    st.session_state["language"] = result.language
    st.session_state["ticket"] = signed_tokens.sign(
        where.key, "enter", result.id, result.session, time.time() + signed_tokens.ENTER_SECONDS
    )


def forget() -> None:
    """Nothing of the account stays in this session."""
    for name in list(st.session_state):
        del st.session_state[name]
    st.session_state["left"] = True
