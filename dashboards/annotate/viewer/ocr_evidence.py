"""What a machine read in the images against what was asked, letter by letter; shown when the campaign allows it."""

from __future__ import annotations

import streamlit as st

from dashboards.annotate.viewer import viewer
from dashboards.annotate.viewer.text_diff import of_spans
from dashboards.annotate.words import WORDS, say
from preference_data.campaign.assignment_view import View
from preference_data.store.facts import Reading

Readings = tuple[tuple[Reading, ...], ...]


def show(view: View, readings: Readings, language: str, title: str = "evidence") -> None:
    """One column an image, in the order of the images."""
    if not any(readings):
        return
    st.caption(f"**{say(language, title)}** · {say(language, 'diff_key')}")
    columns = st.columns(len(view.images))
    for i, (column, name, engines) in enumerate(zip(columns, viewer.names(view, language), readings, strict=True)):
        with column, st.container(key=f"spelled_{title}_{i}"):
            for engine in engines:
                which = f"{name} ({engine_name(engine.engine, language)})" if len(engines) > 1 else name
                for line in lines(view.spans, engine, language):
                    st.text(f"{which}: {line}")


def engine_name(engine: str, language: str) -> str:
    """A recogniser in words; one that is not ours has its own name."""
    return say(language, f"engine_{engine}") if f"engine_{engine}" in WORDS else engine


def lines(spans: tuple[str, ...], engine: Reading, language: str) -> list[str]:
    """What an engine read, in plain text: each text that was asked for, with what is missing and what is too much."""
    if engine.text is None:
        return [say(language, "not_read")]
    read = [line.text for line in engine.lines] or ([engine.text] if engine.text else [])
    if not spans:
        return [" / ".join(read) or say(language, "nothing_read")]
    if not read:
        missing = " ".join(f"[−{s}−]" for s in spans)
        return [f"{say(language, 'nothing_read')}: {missing}  ✗ {say(language, 'read_wrong')}"]
    return [
        f"{spelled}  {'✓' if right else '✗'} {say(language, 'read_right' if right else 'read_wrong')}"
        for _, spelled, right in of_spans(spans, read)
    ]


def last(view: View, readings: Readings | None, language: str) -> None:
    """The answer before, with what was read, so that a slip is seen while it can be undone."""
    if view.previous is None:
        return
    outcome = say(language, view.previous.answer.outcome)
    with st.container(key="as_text_last"):
        prompt = view.prompt if len(view.prompt) <= 160 else view.prompt[:160] + " …"
        st.text(f"{say(language, 'last')}: {outcome}  ·  {prompt}")
    if readings:
        show(view, readings, language, "read")
