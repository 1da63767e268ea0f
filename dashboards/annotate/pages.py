"""Which pages there are, and whose. A page asks for the role again: the list is a courtesy, not the lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboards.annotate import (
    adjudicate,
    desk,
    lead_create,
    lead_export,
    lead_progress,
    lead_quality,
    lead_wins,
    own_pages,
    people,
    who,
)
from dashboards.annotate.words import say
from dashboards.annotate.words_lead import lead
from preference_data.roles import ADJUDICATE, ADMINISTER, ANNOTATE, LEAD, Account

# Streamlit would fetch a page's own icon from a third party, to show it in the browser's tab
Row = tuple[str, Callable[[], None], str, tuple[str, ...], Callable[[str, str], str]]
PAGES: tuple[Row, ...] = (
    ("annotate", desk.page, "compare", ANNOTATE, say), ("history", own_pages.history, "history", ANNOTATE, say),
    ("guidelines", own_pages.rules, "menu_book", ANNOTATE, say),
    ("adjudicate", adjudicate.page, "gavel", ADJUDICATE, lead),
    ("overview", lead_progress.page, "monitoring", LEAD, lead), ("quality", lead_quality.page, "verified", LEAD, lead),
    ("standings", lead_wins.page, "leaderboard", LEAD, lead), ("create", lead_create.page, "add_circle", LEAD, lead),
    ("export", lead_export.page, "download", LEAD, lead), ("people", people.page, "group", ADMINISTER, lead),
    ("account", own_pages.account, "person", ANNOTATE, say),
)  # fmt: skip


def navigation(person: Account) -> Any:
    """The pages of this account; the one that was asked for, or the first."""
    language = who.language()
    found, sections = {}, {say(language, "work"): [], say(language, "lead"): []}
    # Streamlit serves the first page at "/" alone, and would say of its own address that there is no such page
    sections[say(language, "work")].append(st.Page(desk.page, title=say(language, "annotate"), url_path="annotate",
                                                   visibility="hidden"))  # fmt: skip
    for name, page, _, roles, words in PAGES:
        first = name == "annotate"
        # another role's page is in no menu; who asks for its address is told that it is not theirs, and can sign out
        own = person.role in roles
        found[name] = st.Page(page if own else who.refuse, title=words(language, name),
                              url_path="start" if first else name, default=first,
                              visibility="visible" if own else "hidden")  # fmt: skip
        section = "work" if words is say or name == "adjudicate" or not own else "lead"
        sections[say(language, section)].append(found[name])
    st.session_state["pages"] = found
    return st.navigation({title: pages for title, pages in sections.items() if pages})


def icons() -> str:
    """The style that puts an icon before each page of the menu, from the font that Streamlit brings along."""
    rules = [
        f'[data-testid="stSidebarNavLink"][href$="/{"start" if name == "annotate" else name}"]::before '
        f'{{ content: "{icon}"; }}'
        for name, _, icon, _, _ in PAGES
    ]
    look = """[data-testid="stSidebarNavLink"]::before { font-family: "Material Symbols Rounded"; font-weight: 400;
  font-size: 1.1rem; line-height: 1; flex: none; width: 1.3rem; font-feature-settings: "liga"; }"""
    return "<style>" + look + "".join(rules) + "</style>"
