"""Which pages there are, and whose. A page asks for the role again: the list is a courtesy, not the lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboards.annotate import annotation_page, current_user, history_pages
from dashboards.annotate.lead import (
    adjudicate_page,
    create_page,
    export_page,
    people_page,
    progress_page,
    quality_page,
    wins_page,
)
from dashboards.annotate.lead.lead_words import lead
from dashboards.annotate.words import say
from preference_data.store.roles import ADJUDICATE, ADMINISTER, ANNOTATE, LEAD, Account

# Streamlit would fetch a page's own icon from a third party, to show it in the browser's tab
Row = tuple[str, Callable[[], None], str, tuple[str, ...], Callable[[str, str], str]]
PAGES: tuple[Row, ...] = (
    ("annotate", annotation_page.page, "compare", ANNOTATE, say), ("history", history_pages.history, "history",
    ANNOTATE, say),
    ("guidelines", history_pages.rules, "menu_book", ANNOTATE, say),
    ("adjudicate", adjudicate_page.page, "gavel", ADJUDICATE, lead),
    ("overview", progress_page.page, "monitoring", LEAD, lead), ("quality", quality_page.page, "verified", LEAD, lead),
    ("standings", wins_page.page, "leaderboard", LEAD, lead), ("create", create_page.page, "add_circle", LEAD, lead),
    ("export", export_page.page, "download", LEAD, lead), ("people", people_page.page, "group", ADMINISTER, lead),
    ("account", history_pages.account, "person", ANNOTATE, say),
)  # fmt: skip


def navigation(person: Account) -> Any:
    """The pages of this account; the one that was asked for, or the first."""
    language = current_user.language()
    table, sections = {}, {say(language, "work"): [], say(language, "lead"): []}
    # Streamlit serves the first page at "/" alone, and would say of its own address that there is no such page
    sections[say(language, "work")].append(st.Page(annotation_page.page, title=say(language, "annotate"),
    url_path="annotate",
                                                   visibility="hidden"))  # fmt: skip
    for name, page, _, roles, words in PAGES:
        first = name == "annotate"
        # another role's page is in no menu; who asks for its address is told that it is not theirs, and can sign out
        own = person.role in roles
        table[name] = st.Page(page if own else current_user.refuse, title=words(language, name),
                              url_path="start" if first else name, default=first,
                              visibility="visible" if own else "hidden")  # fmt: skip
        section = "work" if words is say or name == "adjudicate" or not own else "lead"
        sections[say(language, section)].append(table[name])
    st.session_state["pages"] = table
    return st.navigation({title: pages for title, pages in sections.items() if pages})


def icons() -> str:
    """The style that puts an icon before each page of the menu, from the font that Streamlit brings along."""
    link = '[data-testid="stSidebarNavLink"]'
    rules = [  # the first page's address is the base path alone
        f'{link}[href$="/{"" if name == "annotate" else name}"]::before {{ content: "{icon}"; }}'
        for name, _, icon, _, _ in PAGES
    ]
    check = """[data-testid="stSidebarNavLink"]::before { font-family: "Material Symbols Rounded"; font-weight: 400;
  font-size: 1.1rem; line-height: 1; flex: none; width: 1.3rem; font-feature-settings: "liga"; }"""
    return "<style>" + check + "".join(rules) + "</style>"
