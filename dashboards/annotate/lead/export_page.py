"""Everything that a campaign knows, as files: the tables of the lead's pages, and training data in others' formats."""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from dashboards.annotate import current_user, served_store
from dashboards.annotate.lead import quality_page, wins_page
from dashboards.annotate.lead.lead_words import lead
from dashboards.annotate.lead.progress_page import choose, outcomes
from dashboards.annotate.translation import translated
from preference_data.campaign.quality import campaign_progress, overview
from preference_data.exchange import export, judgements
from preference_data.store.roles import LEAD


def page() -> None:
    """Downloads of one campaign. People are pseudonyms in training data."""
    person, language = current_user.require(LEAD), current_user.language()
    st.subheader(lead(language, "export"))
    chosen = choose(person.id)
    if chosen is None:
        return
    st.markdown(f"#### {lead(language, 'exports_tables')}")
    with st.container(horizontal=True):
        for name, table in tables(person.id, chosen.id, language).items():
            st.download_button(
                lead(language, "download").format(name=f"{name}.csv"), lambda table=table: csv_text(table()),
                f"{chosen.name}-{name}.csv", "text/csv", key=f"table_{name}", on_click="ignore",
            )  # fmt: skip
    st.markdown(f"#### {lead(language, 'exports_pairs')}")
    a, b, c = st.columns(3)
    kind = a.selectbox(lead(language, "format"), list(export.FORMATS))
    ties = b.selectbox(lead(language, "ties"), export.TIES, 2, format_func=lambda t: lead(language, f"ties_{t}"))
    rows = c.selectbox(lead(language, "rows"), ("answers", "items"), format_func=lambda r: lead(language, f"rows_{r}"))
    if st.button(lead(language, "prepare"), icon=":material/inventory_2:"):
        try:
            content, written, dropped = archive(person.id, chosen.id, kind, ties, rows)
        except ValueError as error:
            st.error(translated(language, error), icon=":material/error:")
            return
        st.text(lead(language, "written").format(rows=written, dropped=dropped))
        st.download_button(lead(language, "download").format(name=f"{kind}.zip"), content,
                           f"{chosen.name}-{kind}.zip", "application/zip", on_click="ignore")  # fmt: skip


def archive(actor: int, campaign: int, kind: str, ties: str, rows: str) -> tuple[bytes, int, int]:
    """A ZIP of the campaign in a format, images included where the format names them; rows written and left out.

    Raises ValueError when the format holds no ties and they are to be refused, or there is nothing to write.
    """
    store = served_store.store()
    result = (judgements.of_answers if rows == "answers" else judgements.of_items)(store, actor, campaign)
    suffix = {"parquet": ".parquet", "jsonl": ".jsonl"}.get(export.find(kind).container, ".json")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        done = export.write(result, folder / f"{kind}{suffix}", kind, store.images, ties)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as file:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                file.write(path, path.relative_to(folder))
    return packed.getvalue(), done.rows, done.dropped


def tables(actor: int, campaign: int, language: str) -> dict[str, Callable[[], list[dict[str, Any]]]]:
    """What makes each table, for when it is asked for."""
    store = served_store.store()
    return {
        "outcomes": lambda: [
            {"outcome": name, "answers": n}
            for name, n in outcomes(campaign_progress.overview(store, actor, campaign), language).items()
        ],
        "agreement": lambda: [vars(a) for a in overview.quality(store, actor, campaign).agreement],
        "annotators": lambda: [
            dict(row) for row in quality_page.people(overview.quality(store, actor, campaign), language, names=False)
        ],
        "wins": lambda: [vars(w) for w in campaign_progress.wins(store, actor, campaign)],
        "matrix": lambda: [
            dict(row) for row in wins_page.matrix(campaign_progress.wins(store, actor, campaign), language)
        ],
        "ratings": lambda: [
            {"model": s.model, **vars(r)}
            for s in overview.standings(store, actor, campaign) if s.ranking is not None
            for r in s.ranking.ratings
        ],
    }  # fmt: skip


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """RFC 4180, with a first line of names. A cell that a spreadsheet would run as a formula is made text."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(rows[0] if rows else ())
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
