"""The script behind every page: who are you, which pages are yours, and then the page that was asked for."""

from __future__ import annotations

import streamlit as st

from dashboards.annotate import pages, signing, style, who
from dashboards.annotate.words import say


def main() -> None:
    """One run of the script, as Streamlit does after every action."""
    st.set_page_config(page_title=say(who.language(), "title"), layout="wide")
    style.apply()
    person = who.account()
    if "who" in st.session_state and "language" not in st.session_state and person is not None:
        st.session_state["language"] = person.language
    if person is None or signing.unfinished():
        st.navigation(
            [st.Page(signing.page, title=say(who.language(), "sign_in"), default=True)], position="hidden"
        ).run()
    elif person.one_time:
        title = say(who.language(), "new_password")
        st.navigation([st.Page(signing.first_password, title=title, default=True)], position="hidden").run()
        signing.corner(person)
    else:
        chosen = pages.navigation(person)
        st.html(pages.icons())
        try:
            chosen.run()
        finally:  # below what the page puts into the sidebar, and there however the page ends
            signing.corner(person)


if __name__ == "__main__":
    main()
