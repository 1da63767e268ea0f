"""One annotator's sitting at one campaign: what is on the screen, what is loaded ahead, what is filled in.

Nothing here is the only copy of anything: claims, drafts and answers are in the store, so a page that is reloaded, or a
server that was killed, comes back to the same images on the same sides.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from dashboards.annotate.viewer import paint_times
from dashboards.annotate.viewer.viewer import MIN_SECONDS, showing
from preference_data.campaign import answering, assignment, assignment_view
from preference_data.campaign.answering import Conflict
from preference_data.campaign.assignment_view import Previous, View
from preference_data.campaign.outcomes import MAX_HOURS, Answer
from preference_data.campaign.quality import campaign_progress
from preference_data.campaign.quality.campaign_progress import Own
from preference_data.store.facts import Reading
from preference_data.store.roles import Forbidden
from preference_data.store.store import Store

AHEAD = 2
"""Assignments whose images are loaded before they are shown."""
HOLD = 2 + AHEAD
"""Assignments held: the one on the screen, those ahead, and one more, because the place of the one that was answered is
filled only when the page has been told what to show and to load (`replenish`).
"""
RECOUNT = 20.0
"""Seconds after which remaining work is counted anew; in between it is reckoned."""
IDLE = 900.0
"""Seconds without an action after which the page no longer says that somebody is there."""
EMPTY: dict[str, Any] = {"strength": None, "axes": {}, "tags": [], "rationale": "", "best": None, "worst": None}
CYCLE = (None, "left", "right", "tie", "na")


@dataclass
class Shift:
    """A sitting. `revising` is an earlier assignment that was reopened; `notice` is a key of words to show once."""

    store: Store
    actor: int
    campaign: int
    held: tuple[View, ...] = ()
    status: str = "work"
    revising: View | None = None
    back: int = 0
    """how many answers back `revising` is, from 1"""
    draft: dict[str, Any] = field(default_factory=lambda: dict(EMPTY))
    notice: str = ""
    last: View | None = None
    """the assignment answered last, with its answer"""
    seen_at: float = 0.0
    last_action: float = field(default_factory=time.monotonic)
    counted_at: float = -1e9
    own: Own | None = None
    short: bool = False
    """fewer are held than could be"""
    reports: bool = False
    """the browser says when it has painted a pair"""

    @property
    def current(self) -> View | None:
        """What is on the screen."""
        return self.revising or (self.held[0] if self.held else None)

    @property
    def ahead(self) -> tuple[View, ...]:
        """What comes next, for loading its images now."""
        return self.held[:AHEAD] if self.revising else self.held[1 : 1 + AHEAD]

    def claim(self) -> None:
        """Hold work again: what is held already comes first, drafts and sides as they were."""
        before, self.short = self.current, False
        claimed = assignment.claim(self.store, self.actor, self.campaign, HOLD)
        self.held, self.status = claimed.views, claimed.status
        if self.current is not None and (before is None or before.token != self.current.token):
            self._turn_to(self.current)

    def replenish(self) -> bool:
        """Hold as much work again as before the last answer, once the page knows what to show next.

        Whether the page shows what is still held; if not, it must be run again.
        """
        before = self.current
        if self.short:
            self.claim()
        return self.current is not None and before is not None and before.token == self.current.token

    def _turn_to(self, view: View) -> None:
        reply = view.previous.answer if view.previous else None
        filled = {} if reply is None else {
            "strength": reply.strength, "axes": dict(reply.axes), "tags": list(reply.tags), "rationale": reply.rationale,  # noqa: E501
            "best": reply.best, "worst": reply.worst,
        }  # fmt: skip
        self.draft = {**EMPTY, "axes": {}, "tags": [], **filled, **(view.draft or {})}
        self.seen_at = time.monotonic()

    def fill(self, name: str, value: Any) -> None:
        """Fill in something beside the outcome, and keep it as a draft."""
        self.last_action = time.monotonic()
        self.draft = {**self.draft, name: value}
        other = {"best": "worst", "worst": "best"}.get(name)
        if other is not None and self.draft[other] == value:
            self.draft[other] = None  # one image is not both
        if self.current is not None and self.revising is None:
            assignment.save_draft(self.store, self.actor, self.current.token, self.draft)

    def turn_axis(self, axis: str) -> None:
        """The next answer for an axis: left, right, tie, n/a, none."""
        axes = dict(self.draft["axes"])
        value = CYCLE[(CYCLE.index(axes.get(axis)) + 1) % len(CYCLE)]
        self.fill("axes", {k: v for k, v in {**axes, axis: value}.items() if v is not None})

    def toggle_tag(self, tag: str) -> None:
        """Tick a reason, or take the tick away."""
        tags = self.draft["tags"]
        self.fill("tags", [t for t in tags if t != tag] if tag in tags else [*tags, tag])

    def answer(self, token: str, outcome: str) -> None:
        """Send the answer about the assignment that the button was made for, and go on to the next.

        The key names the assignment and the revision, so a press that arrives twice is stored once.
        """
        view, self.notice = self.current, ""
        if view is None or view.token != token:
            return
        revises = view.previous.revises if view.previous else None
        if self.seconds_on_screen(view) < MIN_SECONDS:
            self.notice = "too_quick"
            return
        ranked = outcome == "ranked"
        reply = Answer(outcome, self.draft["strength"], self.draft["axes"], self.draft["tags"], self.draft["rationale"],
                     self.draft["best"] if ranked else None, self.draft["worst"] if ranked else None,
                     self._revised_in(view))  # fmt: skip
        if ranked and (reply.best is None or reply.worst is None or reply.best == reply.worst):
            self.notice = "best_first"
            return
        rest = () if self.revising else self.held[1:]
        then = rest[0].token if rest else ""
        try:
            done = answering.answer(self.store, self.actor, token, reply, f"{token}:{revises or 0}", revises, then)
            self.notice = "repeated" if done.repeated else "thanks_flag" if outcome == "flag" else ""
        except Conflict:
            done, self.notice = None, "changed_elsewhere"
        except ValueError:  # the campaign was closed meanwhile
            self.notice, self.revising, self.held = "closed", None, ()
            self.claim()
            return
        if done is None or done.repeated:
            self.last = answering.reopen(self.store, self.actor, token)
        else:
            self.last = replace(view, draft=None, previous=Previous(done.answer, reply, self.store.clock()))
        self._go_on(rest if done is not None and done.ready else ())

    def seconds_on_screen(self, view: View) -> float:
        """Seconds for which the images have been on the screen."""
        seconds, painted = paint_times.seconds_on_screen(
            self.actor, showing(view), self.seen_at, self.store.clock(), self.reports
        )
        self.reports = self.reports or painted
        return seconds

    def _revised_in(self, view: View) -> int:
        """Milliseconds that a revision took, from its own paint; 0 for a first answer, whose time the store keeps."""
        if view.previous is None:
            return 0
        paint = paint_times.find(self.actor, showing(view))
        took = 0.0 if paint is None else self.store.clock() - paint
        return max(round(1000 * took), 0) if took < MAX_HOURS * 3600 else 0

    def _go_on(self, rest: tuple[View, ...]) -> None:
        """Show the first of `rest`, which is held for sure, and claim more later; without any, claim now."""
        self.last_action = time.monotonic()
        if self.own is not None and self.revising is None:
            fewer = max(self.own.left - 1, 0)
            eta = None if self.own.pace is None else fewer * self.own.pace
            self.own = Own(self.own.answered + 1, self.own.excluded, fewer, self.own.pace, eta)
        self.revising, self.back, self.held = None, 0, rest
        if not rest:
            self.claim()
            return
        self.short = True
        self._turn_to(rest[0])

    def undo(self) -> None:
        """Reopen the answer before: once more goes one further back. Nothing changes until it is answered again."""
        self.notice, self.last_action = "", time.monotonic()
        past = answering.history(self.store, self.actor, self.campaign, self.back + 1)
        if len(past) <= self.back:
            self.notice = "nothing_to_undo"
            return
        self.back += 1
        self.revising = answering.reopen(self.store, self.actor, past[-1].token)
        self._turn_to(self.revising)

    def reopen(self, token: str) -> None:
        """Reopen one's own earlier answer."""
        self.revising, self.back, self.notice = answering.reopen(self.store, self.actor, token), 1, ""
        self._turn_to(self.revising)

    def cancel(self) -> None:
        """Back to work, the earlier answer as it was."""
        self.revising, self.back = None, 0
        if self.current is not None:
            self._turn_to(self.current)

    def alive(self) -> None:
        """Say that somebody is here, unless nobody did anything for a quarter of an hour."""
        if time.monotonic() - self.last_action < IDLE:
            assignment.heartbeat(self.store, self.actor, self.campaign)

    def progress(self) -> Own:
        """Done, left, pace, time to the end."""
        if self.own is None or time.monotonic() - self.counted_at > RECOUNT:
            self.own = campaign_progress.own(self.store, self.actor, self.campaign)
            self.counted_at = time.monotonic()
        return self.own

    def evidence(self, view: View) -> tuple[tuple[Reading, ...], ...] | None:
        """What was read in the images, from left to right; None while that may not be seen.

        An answer that is being changed is changed without it, as it was given.
        """
        if view.evidence != "before" and self.revising is not None and view.token == self.revising.token:
            return None
        if view.evidence == "never" or (view.evidence == "after" and view.previous is None):
            return None  # what the store would say, without asking it at every answer
        try:
            return assignment_view.evidence(self.store, self.actor, view.token)
        except Forbidden:
            return None
