"""When images appeared on an annotator's screen, as their browser reports it. Kept by the process that serves it.

A showing is an assignment together with the answer that it would revise, `TOKEN/ANSWER`, with 0 for a first answer: a
pair that undo brings back is another showing of the same assignment. The time is taken when the report arrives, before
anything waits for the database.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

MAX_SHOWINGS = 4096
"""Showings that are remembered; the oldest are forgotten first."""
UNPAINTED = 0.5
"""Seconds for which a pair that was sent is taken to be unseen, in a browser that reports what it paints."""

_paints: OrderedDict[tuple[int, str], float] = OrderedDict()
_lock = threading.Lock()


def split(showing: str) -> tuple[str, int] | None:
    """(token, answer to be revised or 0) of what a browser reports; None when it is neither that nor a bare token."""
    token, slash, revises = showing.partition("/")
    if not token or (slash and not (revises.isascii() and revises.isdecimal() and len(revises) < 19)):
        return None
    return token, int(revises or 0)


def name(token: str, revises: int | None) -> str:
    """A showing as the browser reports it."""
    return f"{token}/{revises or 0}"


def note(account: int, showing: str, at: float) -> None:
    """Remember that a showing was painted at a time of the store's clock; the newest report counts."""
    with _lock:
        _paints.pop((account, showing), None)
        _paints[account, showing] = at
        while len(_paints) > MAX_SHOWINGS:
            _paints.popitem(last=False)


def find(account: int, showing: str) -> float | None:
    """When a showing was last painted; None when nothing was reported."""
    with _lock:
        return _paints.get((account, showing))


def seconds_on_screen(account: int, showing: str, sent_at: float, now: float, reports: bool) -> tuple[float, bool]:
    """Seconds for which a showing has been on the screen, since its newest paint; and whether that paint was reported.

    `sent_at` by `time.monotonic`, `now` by the store's clock. A browser that never reported a paint is counted from
    the sending. One that did before (`reports`), and has not reported this one, still loads the images, and nobody
    can have looked.
    """
    sent = time.monotonic() - sent_at
    paint = find(account, showing)
    age = sent + 1.0 if paint is None else now - paint
    if age <= sent + 0.05:  # painted since it was sent here, not by an earlier page
        return age, True
    return (0.0 if reports and sent < UNPAINTED else sent), False
