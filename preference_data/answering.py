"""Answers: appended, never changed. The same idempotency key twice is one answer; undo is another revision.

An answer belongs to one assignment. Its revisions are numbered, the newest counts, and all of them stay. A page sends a
key that it made when it showed the assignment, so that a click that is sent twice, or again after the connection was
lost, is stored once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from preference_data import schema
from preference_data.answers import SET_ASIDE, Given, canonical, check
from preference_data.roles import ANNOTATE, authorise
from preference_data.schema import assignment, item
from preference_data.settling import move, settle
from preference_data.store import Store, insert, record
from preference_data.views import View, given, newest_answer, own, settings_of, view


class Conflict(ValueError):
    """The assignment has an answer already, and this one does not say that it revises it."""


@dataclass(frozen=True)
class Receipt:
    """What was stored. `repeated`: this key was there already, and nothing changed."""

    answer: int
    revision: int
    repeated: bool
    counted: bool


@dataclass(frozen=True)
class Past:
    """An own answer of the past, as it was shown; `revises` names it for a revision."""

    token: str
    prompt: str
    given: Given
    at: float
    revision: int
    revises: int


def answer(store: Store, actor: int, token: str, said: Given, key: str, revises: int | None = None) -> Receipt:
    """Store an answer, in one transaction with everything that follows from it.

    `revises` is the id of the own answer that this one replaces. Raises Forbidden when the assignment is not this
    account's, Conflict when it is answered and `revises` does not name its newest answer, ValueError when the answer
    does not fit the campaign, the campaign is not open, or the key was used for something else.
    """
    if not 8 <= len(key) <= 80:
        raise ValueError(f"the idempotency key has {len(key)} characters; it needs 8 to 80")

    def work(db: Connection) -> Receipt:
        authorise(db, actor, ANNOTATE)
        row = own(db, actor, token, lock=True)
        if (done := known(db, row, key)) is not None:
            return done
        settings = settings_of(db, row.campaign_id)
        check(said, settings.kind, len(row.slots), settings.axes, settings.tags)
        _check_open(db, row.campaign_id)
        if row.kind == "adjudication":
            raise ValueError("this is a case for adjudication; answer it there")
        newest = newest_answer(db, row.id)
        if (newest.id if newest is not None else None) != revises:
            raise Conflict("this was answered already; go back to it to change the answer")
        now = store.clock()
        made = append(db, row, said, key, "answer", newest, now)
        counted = _count(db, row, said, newest)
        _project(db, row, said, counted, now)
        if row.kind == "work":
            settle(db, row.item_id, settings)
        if newest is not None:
            record(db, now, actor, "answer.revise", f"assignment:{row.id}", {"outcome": newest.outcome},
                   {"outcome": said.outcome})  # fmt: skip
        if said.outcome == "flag":
            record(db, now, actor, "answer.flag", f"item:{row.item_id}", new={"tags": list(said.tags)})
        return Receipt(made, 0 if newest is None else newest.revision + 1, False, counted)

    return store.write(work)


def history(store: Store, actor: int, campaign: int, limit: int = 20) -> list[Past]:
    """The account's own newest answers in a campaign, the latest first; what was set aside included."""

    def work(db: Connection) -> list[Past]:
        authorise(db, actor, ANNOTATE)
        rows = db.execute(
            select(assignment, schema.prompt.c.text.label("prompt"))
            .join(item, item.c.id == assignment.c.item_id).join(schema.prompt, schema.prompt.c.id == item.c.prompt_id)
            .where(assignment.c.account_id == actor, assignment.c.campaign_id == campaign,
                   assignment.c.state.in_(("answered", "skipped")), assignment.c.kind != "adjudication")
            .order_by(assignment.c.answered_at.desc(), assignment.c.id.desc()).limit(limit)
        ).all()  # fmt: skip
        found = []
        for row in rows:
            newest = newest_answer(db, row.id)
            assert newest is not None  # an answered assignment has an answer
            found.append(Past(row.token, row.prompt, given(newest), newest.created_at, newest.revision, newest.id))
        return found

    return store.read(work)


def reopen(store: Store, actor: int, token: str) -> View:
    """An own answered assignment as it was shown, with the answer that it has: where undo begins.

    Nothing changes until a revision is sent, so an undo that is abandoned loses nothing.
    """

    def work(db: Connection) -> View:
        authorise(db, actor, ANNOTATE)
        row = own(db, actor, token)
        return view(db, row, settings_of(db, row.campaign_id), store.clock())

    return store.read(work)


def known(db: Connection, row: Row, key: str) -> Receipt | None:
    """The receipt of the answer that has this key; None when the key is new."""
    table = schema.answer
    done = db.execute(select(table).where(table.c.key == key)).first()
    if done is None:
        return None
    if done.assignment_id != row.id:
        raise ValueError("this idempotency key was used for another assignment; make a new one for each")
    return Receipt(done.id, done.revision, True, row.counted)


def append(db: Connection, row: Row, said: Given, key: str, stage: str, newest: Row | None, now: float) -> int:
    """Add an answer's row after `newest`; its id."""
    elapsed = 0 if row.shown_at is None else round((now - row.shown_at) * 1000)
    return insert(db, schema.answer, {
        "assignment_id": row.id, "revision": 0 if newest is None else newest.revision + 1,
        "revises": None if newest is None else newest.id, "key": key, "stage": stage, "outcome": said.outcome,
        "best": said.best, "worst": said.worst, "strength": said.strength, "axes": dict(said.axes),
        "tags": list(said.tags), "rationale": said.rationale, "duration_ms": said.duration_ms or max(elapsed, 0),
        "created_at": now,
    })  # fmt: skip


def _count(db: Connection, row: Row, said: Given, newest: Row | None) -> bool:
    """Move the item's counters for an answer that follows `newest`; whether the answer takes one of its places."""
    if row.kind != "work":
        return False
    current = db.execute(select(item).where(item.c.id == row.item_id).with_for_update()).one()
    counts = said.outcome not in SET_ASIDE and (row.counted or current.taken < current.cap)
    before = newest.outcome if newest is not None else None
    move(db, row.item_id, counts - row.counted, (said.outcome == "skip") - (before == "skip"),
         (said.outcome == "flag") - (before == "flag"))  # fmt: skip
    return counts


def _project(db: Connection, row: Row, said: Given, counted: bool, now: float) -> None:
    """Put what the newest answer says into the assignment."""
    expected = db.execute(select(item.c.expected, item.c.expected_best).where(item.c.id == row.item_id)).one()
    aside = said.outcome in SET_ASIDE
    slots: list[int] = list(row.slots)
    outcome = canonical(said.outcome, slots)
    values: dict[str, Any] = {
        "state": "skipped" if aside else "answered", "counted": counted, "outcome": outcome,
        "best": None if said.best is None else slots[said.best],
        "worst": None if said.worst is None else slots[said.worst],
        "strength": said.strength, "draft": None, "correct": None,
        "answered_at": now if row.answered_at is None else row.answered_at,
        "duration_ms": first_duration(db, row.id),
    }  # fmt: skip
    if expected.expected is not None and not aside:
        values["correct"] = (outcome, values["best"]) == (expected.expected, expected.expected_best) or (
            outcome == expected.expected and outcome != "ranked"
        )
    db.execute(update(assignment).where(assignment.c.id == row.id).values(**values))


def first_duration(db: Connection, assignment_id: int) -> int | None:
    """Of the first answer: a revision's time says nothing about the work. None when it was not taken."""
    table = schema.answer
    asked = select(table.c.duration_ms).where(table.c.assignment_id == assignment_id, table.c.revision == 0)
    return int(db.execute(asked).scalar_one()) or None


def _check_open(db: Connection, campaign: int) -> None:
    table = schema.campaign
    state = db.execute(select(table.c.state).where(table.c.id == campaign)).scalar_one()
    if state != "open":
        raise ValueError(f"the campaign is {state}; answers are taken while it is open")
