"""The script behind every page: who are you, which pages are yours, and then the page that was asked for."""

from __future__ import annotations

import streamlit as st

from dashboards.annotate import current_user, pages, sign_in, style
from dashboards.annotate.words import say


def main() -> None:
    """One run of the script, as Streamlit does after every action."""
    st.set_page_config(page_title=say(current_user.language(), "title"), layout="wide")
    style.apply()
    person = current_user.account()
    if "who" in st.session_state and "language" not in st.session_state and person is not None:
        st.session_state["language"] = person.language
    if person is None or sign_in.unfinished():
        st.navigation(
            [st.Page(sign_in.page, title=say(current_user.language(), "sign_in"), default=True)], position="hidden"
        ).run()
    elif person.one_time:
        title = say(current_user.language(), "new_password")
        st.navigation([st.Page(sign_in.first_password, title=title, default=True)], position="hidden").run()
        sign_in.corner(person)
    else:
        chosen = pages.navigation(person)
        st.html(pages.icons())
        try:
            chosen.run()
        finally:  # below what the page puts into the sidebar, and there however the page ends
            sign_in.corner(person)


if __name__ == "__main__":
    main()
