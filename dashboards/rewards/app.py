"""The Rewards page: `streamlit run dashboards/rewards/app.py -- runs/comparison [--store annotations]`.

It shows what comparison.json says, lets one look through the disagreements, and sends chosen pairs to annotators.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dashboards.rewards import reading
from dashboards.rewards.reading import SORTS, Disagreement

PAGE = 10
"""Pairs in the list at a time."""
COLOURS = {"broken": "red", "warning": "orange", "note": "gray"}


def show(folder: str, store: str = "") -> None:
    """The whole page. `store`: folder or URL of the annotation store; "" = pairs can only be saved as a file."""
    import streamlit as st

    st.set_page_config("Rewards", layout="wide")
    st.title("Rewards")
    try:
        report = reading.read(Path(folder))
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
        _disagreements(report, store)


def _advice(report: dict[str, Any]) -> None:
    import streamlit as st

    st.dataframe(
        [{"to": u["use"], "use": u["reward"] or "none", "this is": u["certainty"], "because": u["text"]}
         for u in report["advice"]["uses"]],
        width="stretch", hide_index=True,
    )  # fmt: skip
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
    rows = [row for row in reading.accuracy_rows(report) if row["reward"] in shown]
    st.dataframe(rows, width="stretch", hide_index=True)
    few = st.toggle("Show slices of fewer than 30 pairs or 10 prompts", key="few")
    slices = [row for row in reading.slice_rows(report) if few or not row["few"]]
    if slices:
        kept = ("slice", "pairs", "few", *shown)
        st.dataframe([{k: row[k] for k in kept} for row in slices], width="stretch", hide_index=True)
    differences = [
        {"better": d["better"], "worse": d["worse"], "difference": d["difference"]["value"],
         "low": d["difference"]["low"], "high": d["difference"]["high"], "p, Holm": d["p_holm"]}
        for d in report["accuracy"]["differences"] if {d["better"], d["worse"]} <= set(shown)
    ]  # fmt: skip
    if differences:
        st.dataframe(differences, width="stretch", hide_index=True)
    probes = [{"reward": r["reward"], **row} for r in report["probes"] for row in r["rows"] if r["reward"] in shown]
    if probes:
        st.dataframe(probes, width="stretch", hide_index=True)


def _disagreements(report: dict[str, Any], store: str) -> None:
    import streamlit as st

    everything = reading.disagreements(report)
    categories = sorted({c for row in everything for c in row.prompt.category})
    left, middle, right, last = st.columns(4)
    reward = left.selectbox("Against people", ["", *report["rewards"]], format_func=lambda v: v or "any", key="reward")
    category = middle.selectbox("Category", ["", *categories], format_func=lambda v: v or "any", key="category")
    words = right.text_input("Prompt has", key="words")
    sort = last.selectbox("Order", SORTS, key="sort")
    rows = reading.chosen(everything, reward or "", category or "", words, sort or SORTS[0])
    st.caption(f"{len(rows)} of {len(everything)} pairs")
    pages = max(-(-len(rows) // PAGE), 1)
    page = int(st.number_input("Page", 1, pages, 1, key="page")) if pages > 1 else 1
    folder = Path(report["about"]["pictures"])
    for row in rows[(page - 1) * PAGE : page * PAGE]:
        _pair(row, folder)
    _send([row for row in rows if st.session_state.get(f"pick-{row.name}")], folder, store)


def _pair(row: Disagreement, folder: Path) -> None:
    """A pair, closed; its pictures are read when it is opened."""
    import streamlit as st

    pick, body = st.columns([1, 12], vertical_alignment="top")
    pick.checkbox(f"Send {row.name}", key=f"pick-{row.name}", label_visibility="collapsed")
    with body.container(border=True):
        st.text(
            f"{row.prompt.text}\n{row.why}; people: {row.votes[0]:g} left, {row.votes[1]:g} tie, {row.votes[2]:g} right"
        )
        if not st.toggle("Open", key=f"open-{row.name}"):
            return
        for column, image, side, won in zip(
            st.columns(2), (row.left, row.right), ("left", "right"), (row.people > 0, row.people < 0), strict=True
        ):
            place = reading.file_of(folder, image)
            label = f"{side}{', preferred by people' if won else ''}"
            if place is None:
                column.warning(f"the {side} picture is not below {folder}")
            else:
                column.image(str(place), caption=label, alt=label)
        st.dataframe(
            [{"reward": name, "prefers": "left" if g > 0 else "right" if g < 0 else "neither", "gap": g}
             for name, g in row.gap.items()],
            hide_index=True,
        )  # fmt: skip


def _send(rows: list[Disagreement], folder: Path, store: str) -> None:
    """Chosen pairs to a campaign, or to a file."""
    import streamlit as st

    st.divider()
    st.write(f"{len(rows)} chosen")
    st.download_button("Save as JSONL", reading.as_jsonl(rows), "pairs.jsonl", disabled=not rows, key="save")
    if not store:
        st.caption("Start the page with --store to send pairs to annotators directly.")
        return
    name = st.text_input("Campaign", "reward disagreements", key="campaign")
    if st.button("Send to annotators", disabled=not rows, key="send"):
        from dashboards.rewards.sending import send
        from preference_data.store import Store

        try:
            opened = Store.open(store)
            added, new = send(opened, opened.operator, name, rows, folder)
        except ValueError as error:
            st.error(str(error))
            return
        made = "new campaign" if new else "campaign"
        st.success(f"{added} pairs are in the {made} {name!r}; {len(rows) - added} were in it already")


def main() -> None:
    """Arguments after `--` on Streamlit's command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", help="what glyphlab compare-rewards wrote")
    parser.add_argument("--store", default="", help="folder or URL of the annotation store")
    given = parser.parse_args()
    show(given.folder, given.store)


if __name__ == "__main__":
    main()
