"""The images of an assignment in the viewer, and the buttons that move the view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from dashboards.annotate import served_store
from dashboards.annotate.viewer import paint_times
from dashboards.annotate.words import say
from preference_data.campaign.assignment_view import Shown, View
from preference_data.store.facts import Reading

HERE = Path(__file__).parent
MOVES = (
    ("zoom_in", "Z"), ("zoom_out", "Shift+Z"), ("pixels", "O"), ("fit", "A"), ("flicker", "V"), ("jump", "N"),
)  # fmt: skip
PANS = (("pan_left", "Left"), ("pan_up", "Up"), ("pan_down", "Down"), ("pan_right", "Right"))
MIN_SECONDS = 0.15
"""Seconds after the paint below which nobody has looked: a press that was meant for the item before."""
KEYS = {"pair": ("f", "j", "t", "g", "b", "s", "x"), "best_worst": ("Enter", "b", "s", "x")}
"""Keys that answer, by kind of task: the browser lets them through once the images can have been looked at."""


@st.cache_resource
def _mount() -> Callable[..., Any]:
    texts = ((HERE / name).read_text(encoding="utf-8") for name in ("viewer.css", "viewer.js"))
    css, js = texts
    return st.components.v2.component("glyphlab_viewer", css=css, js=js)


def address(shown: Shown) -> str:
    """Where an image is fetched: a handle that is good for one assignment of one account."""
    return f"{served_store.here().base}/picture/{shown.handle}"


def showing(view: View) -> str:
    """What the browser calls this showing of an assignment when it reports the paint."""
    return paint_times.name(view.token, view.previous.revises if view.previous else None)


def names(view: View, language: str) -> list[str]:
    """What the images are called, from left to right."""
    if view.kind == "pair":
        return [say(language, "left_picture"), say(language, "right_picture")]
    return [say(language, "picture_n").format(n=i + 1) for i in range(len(view.images))]


def sources(view: View, language: str) -> list[tuple[str, Shown]]:
    """The images that the prompt asks to edit, each with what it is called."""
    if len(view.sources) == 1:
        return [(say(language, "source"), view.sources[0])]
    return [(say(language, "source_n").format(n=i), shown) for i, shown in enumerate(view.sources, 1)]


def show(
    view: View, ahead: tuple[View, ...], readings: tuple[tuple[Reading, ...], ...] | None, language: str,
    chosen: Mapping[str, int | None] | None = None,
) -> None:  # fmt: skip
    """Paint the images; those of `ahead` are loaded without being shown. `readings` only when they may be seen.

    `chosen`: the slots chosen so far as "best" and "worst", to be marked on the images.
    """
    titled = list(zip(names(view, language), view.images, strict=True))
    if view.reference is not None:
        titled.insert(0, (say(language, "reference"), view.reference))
    titled = [*sources(view, language), *titled]
    alts = [say(language, "alt").format(which=n, width=p.width, height=p.height) for n, p in titled]
    serial, action = st.session_state.get("viewer_command", (0, ""))
    base, first = served_store.here().base, len(titled) - len(view.images)
    _mount()(key="viewer", data={
        "token": showing(view),
        "pictures": [
            {"url": address(p), "width": p.width, "height": p.height, "name": n, "alt": alt,
             "marks": marks(view, i - first, chosen, language)}
            for i, ((n, p), alt) in enumerate(zip(titled, alts, strict=True))
        ],
        "ahead": [address(p) for v in ahead for p in (*v.images, *v.sources, v.reference) if p is not None],
        "boxes": boxes(view, readings or ()), "failed": say(language, "not_here"), "command": serial, "action": action,
        "report": f"{base}/painted", "health": f"{base}/health", "look": 1000 * MIN_SECONDS, "keys": KEYS[view.kind],
        "away": say(language, "away"), "lost": say(language, "lost"),
    })  # fmt: skip


def marks(view: View, slot: int, chosen: Mapping[str, int | None] | None, language: str) -> list[dict[str, Any]]:
    """What can be chosen on an image of several, each with the key of the page's button that does it."""
    if chosen is None or slot < 0:
        return []
    return [
        {"which": which, "key": f"{which}_{slot}_{view.token}", "text": say(language, which),
         "on": chosen.get(which) == slot}
        for which in ("best", "worst")
    ]  # fmt: skip


def buttons(language: str) -> None:
    """What moves the view. The viewer acts on these at once; without it they go through the server."""
    with st.container(horizontal=True, key="viewer_bar", gap="small"):
        for name, key in MOVES:
            st.button(say(language, name), key=f"viewer_{name}", shortcut=key, on_click=_command, args=(name,),
                      help=say(language, "viewer_help") if name == "zoom_in" else None)  # fmt: skip
        for name, key in PANS:
            st.button(say(language, name), key=f"viewer_{name}", shortcut=key, on_click=_command, args=(name,))


def boxes(view: View, readings: tuple[tuple[Reading, ...], ...]) -> list[list[float]]:
    """Where text was read, [left, top, right, bottom] in parts of the image; the same places for all images."""
    results: list[list[float]] = []
    for shown, engines in zip(view.images, readings, strict=False):
        for line in engines[0].lines if engines else ():
            left, top, right, bottom = line.box
            box = [left / shown.width, top / shown.height, right / shown.width, bottom / shown.height]
            if all(sum(abs(a - b) for a, b in zip(box, other, strict=True)) > 0.1 for other in results):
                results.append(box)
    return sorted(results, key=lambda box: (round(box[1], 1), box[0]))


def _command(name: str) -> None:
    serial, _ = st.session_state.get("viewer_command", (0, ""))
    st.session_state["viewer_command"] = (serial + 1, name)
