"""Answers: appended, never changed. The same idempotency key twice is one answer; undo is another revision.

An answer belongs to one assignment. Its revisions are numbered, the newest counts, and all of them stay. A page sends a
key that it made when it showed the assignment, so that a click that is sent twice, or again after the connection was
lost, is stored once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, or_, select, update

from preference_data.campaign.assignment_view import View, answer_of, newest_answers, own, settings_of, view
from preference_data.campaign.outcomes import NO_ANSWER, Answer, canonical, check
from preference_data.campaign.settling import locked, settle
from preference_data.store import schema
from preference_data.store.roles import ANNOTATE, authorise, reading
from preference_data.store.schema import assignment, item
from preference_data.store.store import Store, insert, record


class Conflict(ValueError):
    """The assignment has an answer already, and this one does not say that it revises it."""


@dataclass(frozen=True)
class Receipt:
    """What was stored. `repeated`: this key was there already, and nothing changed.

    `ready`: the assignment that was named to come next is still this annotator's.
    """

    answer: int
    revision: int
    repeated: bool
    counted: bool
    ready: bool = False


@dataclass(frozen=True)
class Past:
    """An own answer of the past, as it was shown; `revises` names it for a revision."""

    token: str
    prompt: str
    answer: Answer
    at: float
    revision: int
    revises: int


def answer(
    store: Store, actor: int, token: str, reply: Answer, key: str, revises: int | None = None, then: str = ""
) -> Receipt:  # fmt: skip
    """Store an answer, in one transaction with everything that follows from it.

    `revises` is the id of the own answer that this one replaces. `then` is the token of the assignment that would come
    next: whether it can be shown at once is in the receipt. Raises Forbidden when the assignment is not this account's,
    Conflict when it is answered and `revises` does not name its newest answer, ValueError when the answer does not fit
    the campaign, the campaign is not open, or the key was used for something else.
    """
    if not 8 <= len(key) <= 80:
        raise ValueError(f"the idempotency key has {len(key)} characters; it needs 8 to 80")

    def work(db: Connection) -> Receipt:
        authorise(db, actor, ANNOTATE)
        row = own(db, actor, token, lock=True)
        done, past = revisions(db, row, key)
        if done is not None:
            return done
        settings = settings_of(row)
        check(reply, settings.kind, len(row.slots), settings.axes, settings.tags)
        if row.campaign_state != "open":
            raise ValueError(f"the campaign is {row.campaign_state}; answers are taken while it is open")
        if row.kind == "adjudication":
            raise ValueError("this is a case for adjudication; answer it there")
        newest = past[-1] if past else None
        if (newest.id if newest is not None else None) != revises:
            raise Conflict("this was answered already; go back to it to change the answer")
        now = store.clock()
        made = append(db, row, reply, key, "answer", newest, now)
        counts = row.kind == "work"
        current = locked(db, row.item_id) if counts else db.execute(select(item).where(item.c.id == row.item_id)).one()
        counted = counts and reply.outcome not in NO_ANSWER and (row.counted or current.taken < current.cap)
        _project(db, row, reply, current, counted, first_duration(past, duration(row, reply, now)), now)
        if counts:
            before = newest.outcome if newest is not None else None
            settle(db, current, settings, counted - row.counted, (reply.outcome == "skip") - (before == "skip"),
                   (reply.outcome == "flag") - (before == "flag"))  # fmt: skip
        if newest is not None:
            record(db, now, actor, "answer.revise", f"assignment:{row.id}", {"outcome": newest.outcome},
                   {"outcome": reply.outcome})  # fmt: skip
        if reply.outcome == "flag":
            record(db, now, actor, "answer.flag", f"item:{row.item_id}", new={"tags": list(reply.tags)})
        return Receipt(made, 0 if newest is None else newest.revision + 1, False, counted, _ready(db, actor, then, now))

    return store.write(work)


def history(store: Store, actor: int, campaign: int, limit: int = 20) -> list[Past]:
    """The account's own newest answers in a campaign, the latest first; what was set aside included."""
    with reading(store, actor, ANNOTATE) as db:
        rows = db.execute(
            select(assignment, schema.prompt.c.text.label("prompt"))
            .join(item, item.c.id == assignment.c.item_id).join(schema.prompt, schema.prompt.c.id == item.c.prompt_id)
            .where(assignment.c.account_id == actor, assignment.c.campaign_id == campaign,
                   assignment.c.state.in_(("answered", "skipped")), assignment.c.kind != "adjudication")
            .order_by(assignment.c.answered_at.desc(), assignment.c.id.desc()).limit(limit)
        ).all()  # fmt: skip
        newest = newest_answers(db, [row.id for row in rows])
        results = []
        for row in rows:
            last = newest[row.id]  # an answered assignment has an answer
            results.append(Past(row.token, row.prompt, answer_of(last), last.created_at, last.revision, last.id))
        return results


def reopen(store: Store, actor: int, token: str) -> View:
    """An own answered assignment as it was shown, with the answer that it has: where undo begins.

    Nothing changes until a revision is sent, so an undo that is abandoned loses nothing.
    """
    with reading(store, actor, ANNOTATE) as db:
        row = own(db, actor, token)
        return view(db, row.id, settings_of(row), store.clock())


def revisions(db: Connection, row: Row, key: str) -> tuple[Receipt | None, list[Row]]:
    """(the receipt of the answer that has this key, None when the key is new; the assignment's answers, oldest first).

    Raises ValueError when the key belongs to another assignment's answer.
    """
    table = schema.answer
    query = select(table).where(or_(table.c.assignment_id == row.id, table.c.key == key)).order_by(table.c.revision)
    results = db.execute(query).all()
    if any(one.assignment_id != row.id for one in results):
        raise ValueError("this idempotency key was used for another assignment; make a new one for each")
    done = next((one for one in results if one.key == key), None)
    return None if done is None else Receipt(done.id, done.revision, True, row.counted), list(results)


def append(db: Connection, row: Row, reply: Answer, key: str, stage: str, newest: Row | None, now: float) -> int:
    """Add an answer's row after `newest`; its id."""
    return insert(db, schema.answer, {
        "assignment_id": row.id, "revision": 0 if newest is None else newest.revision + 1,
        "revises": None if newest is None else newest.id, "key": key, "stage": stage, "outcome": reply.outcome,
        "best": reply.best, "worst": reply.worst, "strength": reply.strength, "axes": dict(reply.axes),
        "tags": list(reply.tags), "rationale": reply.rationale, "duration_ms": duration(row, reply, now),
        "reading_shown": row.read_at is not None, "created_at": now,
    })  # fmt: skip


def duration(row: Row, reply: Answer, now: float) -> int:
    """Milliseconds that an answer took: what the page says, else the time since the images were painted."""
    return reply.duration_ms or (0 if row.shown_at is None else max(round((now - row.shown_at) * 1000), 0))


def first_duration(past: Sequence[Row], latest: int) -> int | None:
    """Of the first answer: a revision's time says nothing about the work. None when it was not taken."""
    return (past[0].duration_ms if past else latest) or None


def _project(
    db: Connection, row: Row, reply: Answer, current: Row, counted: bool, took: int | None, now: float
) -> None:  # fmt: skip
    """Put what the newest answer says into the assignment; `current` is its item, `took` the first answer's time."""
    without_answer = reply.outcome in NO_ANSWER
    slots: list[int] = list(row.slots)
    outcome = canonical(reply.outcome, slots)
    values: dict[str, Any] = {
        "state": "skipped" if without_answer else "answered", "counted": counted, "outcome": outcome,
        "best": None if reply.best is None else slots[reply.best],
        "worst": None if reply.worst is None else slots[reply.worst],
        "strength": reply.strength, "draft": None, "correct": None,
        "answered_at": now if row.answered_at is None else row.answered_at,
        "duration_ms": took,
    }  # fmt: skip
    if current.expected is not None and not without_answer:
        values["correct"] = (outcome, values["best"]) == (current.expected, current.expected_best) or (
            outcome == current.expected and outcome != "ranked"
        )
    db.execute(update(assignment).where(assignment.c.id == row.id).values(**values))


def _ready(db: Connection, actor: int, token: str, now: float) -> bool:
    """Whether the assignment of that token is leased to this account, and its lease has not run out."""
    if not token:
        return False
    query = select(assignment.c.id).where(
        assignment.c.token == token, assignment.c.account_id == actor, assignment.c.state == "leased",
        assignment.c.expires_at >= now,
    )  # fmt: skip
    return db.execute(query).first() is not None
