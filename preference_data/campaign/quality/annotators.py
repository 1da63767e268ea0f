"""What each annotator did in a campaign: the counts that their reliability is worked out from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, case, func, select

from preference_data.campaign import campaigns
from preference_data.store.roles import LEAD, reading
from preference_data.store.schema import account, assignment, item
from preference_data.store.store import Store


@dataclass(frozen=True)
class Person:
    """Counts of one annotator. Left and right count decided answers to pairs of any kind, by the side that won.

    `repeats` are items answered twice with sides swapped, `repeats_same` those with the same canonical answer.
    `agreed` of `compared`: answers equal to the outcome of items that were settled or adjudicated. `name` is None once
    the account is deleted.
    """

    account: int
    pseudonym: str
    name: str | None
    answers: int
    excluded: int
    left: int
    right: int
    gold: int
    gold_right: int
    attention: int
    attention_right: int
    repeats: int
    repeats_same: int
    compared: int
    agreed: int
    median_seconds: float | None


class Answers(NamedTuple):
    """Answers as columns, in one order, read once for everything that is worked out from them."""

    items: Sequence[int]
    accounts: Sequence[int]
    outcomes: Sequence[str]
    """canonical"""
    best: Sequence[int | None]
    """place of the best image, of a ranked answer"""
    kinds: Sequence[str]
    milliseconds: Sequence[int | None]


def people(store: Store, actor: int, campaign: int | str) -> list[Person]:
    """Everybody who was given work in the campaign, for a lead."""
    with reading(store, actor, LEAD) as db:
        campaign_id = campaigns.find(db, campaign).id
        return of_answers(db, campaign_id, answers(db, campaign_id))


def of_answers(db: Connection, campaign: int, submitted: Answers) -> list[Person]:
    """Everybody who was given work; `given` is what `answers` found."""
    again, compared, speed = _repeats(db, campaign), _compared(db, campaign, submitted), _median_seconds(submitted)
    nothing = (0, 0)
    return [
        Person(*(*row, *again.get(row[0], nothing), *compared.get(row[0], nothing), speed.get(row[0])))
        for row in _counts(db, campaign)
    ]


def answers(db: Connection, campaign: int) -> Answers:
    """Every answer but an adjudicator's."""
    rows = db.execute(
        select(assignment.c.item_id, assignment.c.account_id, assignment.c.outcome, assignment.c.best,
               assignment.c.kind, assignment.c.duration_ms)
        .where(assignment.c.campaign_id == campaign, assignment.c.state == "answered",
               assignment.c.kind != "adjudication")
    ).all()  # fmt: skip
    return Answers(*zip(*rows, strict=True)) if rows else Answers((), (), (), (), (), ())


def ratings(submitted: Answers) -> list[tuple[int, int, str]]:
    """(item, account, answer) of the work: the canonical outcome, "best 2" for a ranked one."""
    return [
        (unit, person, outcome if best is None else f"best {best}")
        for unit, person, outcome, best, kind in zip(*submitted[:5], strict=True)
        if kind == "work"
    ]


def _counts(db: Connection, campaign: int) -> list[Row]:
    kind, answered = assignment.c.kind, assignment.c.state == "answered"
    decided = and_(answered, assignment.c.outcome.in_(("first", "second")))
    left = (assignment.c.outcome == "first") != assignment.c.swapped
    return list(db.execute(
        select(
            account.c.id, account.c.pseudonym, account.c.name, _count(answered),
            _count(assignment.c.state == "skipped"), _count(decided, left), _count(decided, ~left),
            _count(kind == "gold", answered), _count(kind == "gold", assignment.c.correct),
            _count(kind == "attention", answered), _count(kind == "attention", assignment.c.correct),
        )
        .join(account, account.c.id == assignment.c.account_id)
        .where(assignment.c.campaign_id == campaign, kind != "adjudication")
        .group_by(account.c.id, account.c.pseudonym, account.c.name).order_by(account.c.id)
    ))  # fmt: skip


def _repeats(db: Connection, campaign: int) -> dict[int, tuple[int, int]]:
    """account: (repeats, of them with the same answer)"""
    first = assignment.alias()
    rows = db.execute(
        select(assignment.c.account_id, func.count(), _count(_same(first, assignment)))
        .join(first, first.c.id == assignment.c.repeats)
        .where(assignment.c.campaign_id == campaign, assignment.c.kind == "repeat", assignment.c.state == "answered",
               first.c.state == "answered")
        .group_by(assignment.c.account_id)
    )  # fmt: skip
    return {row[0]: (row[1], row[2]) for row in rows}


def _compared(db: Connection, campaign: int, submitted: Answers) -> dict[int, tuple[int, int]]:
    """account: (answers to items with an outcome, of them equal to it)"""
    query = select(item.c.id, item.c.outcome, item.c.best).where(item.c.campaign_id == campaign,
                                                                 item.c.outcome.is_not(None))  # fmt: skip
    settled = {unit: (outcome, best) for unit, outcome, best in db.execute(query).all()}
    answer = zip(submitted.outcomes, submitted.best, strict=True)
    counts = Counter(
        (person, settled[unit] == what)
        for unit, person, what, kind in zip(submitted.items, submitted.accounts, answer, submitted.kinds, strict=True)
        if kind == "work" and unit in settled
    )
    return {person: (counts[person, True] + counts[person, False], counts[person, True]) for person, _ in counts}


def _median_seconds(submitted: Answers) -> dict[int, float]:
    """Median duration by account, over all answers whose time was taken."""
    by_key: dict[int, list[int]] = defaultdict(list)
    for person, duration in zip(submitted.accounts, submitted.milliseconds, strict=True):
        if duration is not None:
            by_key[person].append(duration)
    return {person: median(durations) / 1000.0 for person, durations in by_key.items()}


def _same(one: Any, other: Any) -> ColumnElement[bool]:
    """Two rows say the same about the images."""
    best = func.coalesce(one.c.best, -1) == func.coalesce(other.c.best, -1)
    return and_(one.c.outcome == other.c.outcome, best)


def _count(*when: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((and_(*when), 1), else_=0)), 0)
