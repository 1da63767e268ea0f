"""The Rewards page, served by `python -m dashboards.rewards` to the leads of an annotation store.

It shows what comparison.json says, lets one look through the disagreements, and sends chosen pairs to annotators.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from dashboards.rewards import comparison_rows
from dashboards.rewards.comparison_rows import SORTS, Disagreement
from preference_data.store.store import Store

SOURCE_WIDTH = 320  # pixels of an image that was edited, above both edits
PAGE = 10  # pairs in the list at a time
SHARES = ("right", "low", "high", "judged", "equal scores", "difference")
COLOURS = {"broken": "red", "warning": "orange", "note": "gray"}


STYLE = """<style>
[class*="st-key-pair_"] [data-testid="stHorizontalBlock"] { flex-wrap: nowrap; }
[class*="st-key-pair_"] [data-testid="stColumn"] { min-width: 0; flex: 1 1 0; width: 50%; }
[class*="st-key-pair_"] [data-testid="stImage"] img { max-height: 60vh; object-fit: contain; }
</style>"""


def show(folder: str, store: Store | None = None, actor: int | None = None) -> None:
    """Everything below the sign-in. `store` and `actor`: where chosen pairs are sent, and who sends them."""
    import streamlit as st

    st.html(STYLE)
    st.title("Rewards")
    try:
        report = comparison_rows.read(Path(folder))
    except (FileNotFoundError, ValueError) as error:
        st.error(str(error))
        return
    st.subheader(report["advice"]["answer"])
    advice, numbers, pairs = st.tabs(["What to use", "Numbers", "Disagreements"])
    with advice:
        _advice(report)
    with numbers:
        _numbers(report)
    with pairs:
        _disagreements(report, store, actor)


def percent(value: float) -> str:
    """A share in per cent; a dash where there is none."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else "–"


def written(name: str, value: Any) -> Any:
    """A number as it is read best: shares in per cent, p-values with two digits, others with three."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else value
    if name in SHARES:
        return percent(float(value))
    if isinstance(value, int):
        return value
    return f"{value:.2g}" if name.startswith("p,") else f"{value:.3g}" if math.isfinite(value) else "–"


def table(rows: list[dict[str, Any]]) -> None:
    """Rows of a report as a table."""
    import streamlit as st

    st.dataframe([{k: written(k, v) for k, v in row.items()} for row in rows], width="stretch", hide_index=True)


def _advice(report: dict[str, Any]) -> None:
    import streamlit as st

    for use in report["advice"]["uses"]:  # whole sentences: a table would cut them off
        with st.container(border=True):
            st.markdown(f"**{_plain(use['use'])}**: {_plain(use['reward'] or 'none')} ({_plain(use['certainty'])})")
            st.markdown(_plain(use["text"]))
    for reward in report["advice"]["rewards"]:
        with st.expander(f"{reward['reward']}: {len(reward['findings'])} findings", expanded=bool(reward["findings"])):
            for f in reward["findings"]:
                st.markdown(f":{COLOURS[f['severity']]}[**{f['severity']}**] {_plain(f['text'])} ({f['section']})")
            if not reward["findings"]:
                st.write("nothing found")


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+!|$~:" else c for c in text)


def _numbers(report: dict[str, Any]) -> None:
    import streamlit as st

    shown = st.multiselect("Rewards", report["rewards"], default=report["rewards"], key="shown")
    rows = [row for row in comparison_rows.accuracy_rows(report) if row["reward"] in shown]
    table(rows)
    batch = st.toggle("Show slices of fewer than 30 pairs or 10 prompts", key="few")
    slices = [row for row in comparison_rows.slice_rows(report) if batch or not row["few"]]
    if slices:
        columns = ("slice", "pairs", "few", *shown)
        table([{k: percent(row[k]) if k in shown else row[k] for k in columns} for row in slices])
    differences = [
        {"better": d["better"], "worse": d["worse"], "difference": d["difference"]["value"],
         "low": d["difference"]["low"], "high": d["difference"]["high"], "p, Holm": d["p_holm"]}
        for d in report["accuracy"]["differences"] if {d["better"], d["worse"]} <= set(shown)
    ]  # fmt: skip
    if differences:
        table(differences)
    probes = [{"reward": r["reward"], **row} for r in report["probes"] for row in r["rows"] if r["reward"] in shown]
    if probes:
        table(probes)


def _disagreements(report: dict[str, Any], store: Store | None, actor: int | None) -> None:
    import streamlit as st

    everything = comparison_rows.disagreements(report)
    categories = sorted({c for row in everything for c in row.prompt.category})
    left, middle, right, last = st.columns(4)
    reward = left.selectbox("Against people", ["", *report["rewards"]], format_func=lambda v: v or "any", key="reward")
    category = middle.selectbox("Category", ["", *categories], format_func=lambda v: v or "any", key="category")
    words = right.text_input("Prompt has", key="words")
    sort = last.selectbox("Order", SORTS, key="sort")
    rows = comparison_rows.chosen(everything, reward or "", category or "", words, sort or SORTS[0])
    st.caption(f"{len(rows)} of {len(everything)} pairs")
    pages = max(-(-len(rows) // PAGE), 1)
    page = int(st.number_input("Page", 1, pages, 1, key="page")) if pages > 1 else 1
    folder = Path(report["about"]["pictures"])
    for row in rows[(page - 1) * PAGE : page * PAGE]:
        _pair(row, folder)
    _send([row for row in rows if st.session_state.get(f"pick-{row.name}")], folder, store, actor)


def _pair(row: Disagreement, folder: Path) -> None:
    """A pair with both images side by side, and what each reward says."""
    import streamlit as st

    pick, body = st.columns([1, 12], vertical_alignment="top")
    pick.checkbox(f"Send {row.name}", key=f"pick-{row.name}", label_visibility="collapsed")
    with body.container(border=True, key=f"pair_{row.name}"):
        st.text(
            f"{row.prompt.text}\n{row.why}; people: {row.votes[0]:g} left, {row.votes[1]:g} tie, {row.votes[2]:g} right"
        )
        for source in row.prompt.sources:
            if (index := comparison_rows.file_of(folder, source)) is not None:
                st.image(str(index), caption="source image", alt="source image", width=SOURCE_WIDTH)
        for column, image, side, won in zip(
            st.columns(2), (row.left, row.right), ("left", "right"), (row.people > 0, row.people < 0), strict=True
        ):
            index = comparison_rows.file_of(folder, image)
            label = f"{side}{', preferred by people' if won else ''}"
            if index is None:
                column.warning(f"the {side} image is not below {folder}")
            else:
                column.image(str(index), caption=label, alt=label, width="stretch")
        table([{"reward": name, "prefers": "left" if g > 0 else "right" if g < 0 else "neither", "gap": g}
               for name, g in row.gap.items()])  # fmt: skip


def _send(rows: list[Disagreement], folder: Path, store: Store | None, actor: int | None) -> None:
    """Chosen pairs to a campaign, or to a file."""
    import streamlit as st

    st.divider()
    st.write(f"{len(rows)} chosen")
    st.download_button("Save as JSONL", comparison_rows.as_jsonl(rows), "pairs.jsonl", disabled=not rows, key="save")
    if store is None or actor is None:
        return
    name = st.text_input("Campaign", "reward disagreements", key="campaign")
    if st.button("Send to annotators", disabled=not rows, key="send"):
        from dashboards.rewards.send_campaign import send

        try:
            added, new = send(store, actor, name, rows, folder)
        except ValueError as error:
            st.error(str(error))
            return
        made = "new campaign" if new else "campaign"
        st.success(f"{added} pairs are in the {made} {name!r}; {len(rows) - added} were in it already")


def main() -> None:
    """One run of the script: who are you, may you see this, and then the page."""
    import streamlit as st

    from dashboards.annotate import current_user, sign_in, style
    from dashboards.annotate import served_store as place
    from dashboards.rewards import served_comparison
    from preference_data.store.roles import LEAD

    st.set_page_config("Rewards", layout="wide")
    folder = served_comparison.folder()
    if folder is None:
        st.error("Start this page with: python -m dashboards.rewards FOLDER --store STORE")
        st.stop()
    style.apply()
    person = current_user.account()
    if person is None or sign_in.unfinished():
        sign_in.page()
    elif person.one_time:
        sign_in.first_password()
    else:
        sign_in.corner(person)
        current_user.require(LEAD)
        show(str(folder), place.store(), person.id)


if __name__ == "__main__":
    main()
