"""Which pages there are, and whose. A page asks for the role again: the list is a courtesy, not the lock."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboards.annotate import desk, own_pages, who
from dashboards.annotate.words import say
from preference_data.roles import Account



def navigation(person: Account) -> Any:
    """The pages of this account; the one that was asked for, or the first."""
    language = who.language()
    found = {
        "annotate": st.Page(desk.page, title=say(language, "annotate"), icon=":material/compare:", url_path="annotate",
                            default=True),
        "history": st.Page(own_pages.history, title=say(language, "history"), icon=":material/history:",
                           url_path="history"),
        "guidelines": st.Page(own_pages.rules, title=say(language, "guidelines"), icon=":material/menu_book:",
                              url_path="guidelines"),
        "account": st.Page(own_pages.account, title=say(language, "account"), icon=":material/person:",
                           url_path="account"),
    }  # fmt: skip
    st.session_state["pages"] = found
    return st.navigation({say(language, "work"): list(found.values())})


def known() -> dict[str, Any]:
    """The pages of this session by name."""
    return st.session_state["pages"]
