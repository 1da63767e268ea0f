"""How far a campaign is, for its annotators and for its lead. Sums are made by the database.

An annotator sees their own pace and what is left for them; only a lead sees other people's numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from sqlalchemy import ColumnElement, Connection, func, select

from preference_data.campaign import campaigns
from preference_data.campaign.assignment import RECENT, lease_seconds
from preference_data.campaign.campaigns import Campaign
from preference_data.campaign.next_item import open_work
from preference_data.store import schema
from preference_data.store.roles import ANNOTATE, LEAD, reading
from preference_data.store.schema import assignment, item
from preference_data.store.store import Store

BREAK = 600.0
"""Seconds between two answers after which the annotator was away."""


@dataclass(frozen=True)
class Offer:
    """An open campaign as an annotator sees it in a list."""

    id: int
    name: str
    kind: str
    guidelines: Mapping[str, str]
    answered: int
    """by this annotator, skips left out"""


@dataclass(frozen=True)
class Own:
    """An annotator's progress: items answered and left for them, pace in seconds an item, seconds to the end.

    `pace` and `eta` are None before the first answer.
    """

    answered: int
    excluded: int
    left: int
    pace: float | None
    eta: float | None


@dataclass(frozen=True)
class Overview:
    """A campaign in numbers. `outcomes` counts the answers to work as "first" and "second" in canonical order.

    `items` counts (kind, state); `sides` counts decided answers to pairs by the side that won; `median_seconds` is of
    the newest answers, None without any; `lease_seconds` is how long work is held now.
    """

    campaign: Campaign
    items: Mapping[tuple[str, str], int]
    wanted: int
    """answers that open items still want"""
    outcomes: Mapping[str, int]
    sides: Mapping[str, int]
    answers: int
    """to work, counted ones"""
    uncounted: int
    """to work, that came when the item was full"""
    skipped: int
    flagged: int
    held: int
    """live leases"""
    annotators: int
    median_seconds: float | None
    lease_seconds: float
    last_hour: int
    """answers of all kinds in the last hour"""


@dataclass(frozen=True)
class Wins:
    """How often one maker's image of a prompt was preferred to another's; labels in alphabetical order."""

    a: str
    b: str
    a_wins: int
    b_wins: int
    tie: int
    both_good: int
    both_bad: int
    prompt: str


def offers(store: Store, actor: int) -> list[Offer]:
    """The open campaigns, oldest first, for any annotator."""
    with reading(store, actor, ANNOTATE) as db:
        mine = (
            select(func.count()).where(assignment.c.campaign_id == schema.campaign.c.id,
                                       assignment.c.account_id == actor, assignment.c.state == "answered")
            .correlate(schema.campaign).scalar_subquery()
        )  # fmt: skip
        rows = db.execute(
            select(schema.campaign, mine.label("answered")).where(schema.campaign.c.state == "open")
            .order_by(schema.campaign.c.id)
        )  # fmt: skip
        return [Offer(r.id, r.name, r.kind, r.settings.get("guidelines", {}), r.answered) for r in rows]


def own(store: Store, actor: int, campaign: int) -> Own:
    """The annotator's own progress in a campaign."""
    with reading(store, actor, ANNOTATE) as db:
        mine = (assignment.c.campaign_id == campaign, assignment.c.account_id == actor)
        states = select(assignment.c.state, func.count()).where(*mine).group_by(assignment.c.state)
        counts: dict[str, int] = {row[0]: row[1] for row in db.execute(states)}
        left = db.execute(
            select(func.count()).select_from(item).where(open_work(campaign, actor), item.c.taken < item.c.wanted)
        ).scalar_one()
        left += counts.get("leased", 0)
        times = db.execute(
            select(assignment.c.answered_at).where(*mine, assignment.c.state.in_(("answered", "skipped")))
            .order_by(assignment.c.answered_at.desc()).limit(50)
        ).scalars().all()  # fmt: skip
        gaps = [a - b for a, b in itertools.pairwise(times) if a - b < BREAK]
        pace = median(gaps) if gaps else None
        return Own(
            counts.get("answered", 0), counts.get("skipped", 0), left, pace, None if pace is None else left * pace
        )


def overview(store: Store, actor: int, campaign: int | str) -> Overview:
    """The campaign in numbers, for a lead."""
    with reading(store, actor, LEAD) as db:
        hits = campaigns.find(db, campaign)
        here = assignment.c.campaign_id == hits.id
        items = db.execute(
            select(item.c.kind, item.c.state, func.count(), func.sum(item.c.flags))
            .where(item.c.campaign_id == hits.id).group_by(item.c.kind, item.c.state)
        ).all()  # fmt: skip
        wanted = db.execute(select(func.sum(item.c.wanted - item.c.answered)).where(
            item.c.campaign_id == hits.id, item.c.kind == "work", item.c.state == "open")).scalar()  # fmt: skip
        rows = db.execute(
            select(assignment.c.state, assignment.c.outcome, assignment.c.counted, assignment.c.swapped, func.count())
            .where(here, assignment.c.kind == "work")
            .group_by(assignment.c.state, assignment.c.outcome, assignment.c.counted, assignment.c.swapped)
        ).all()  # fmt: skip
        timed = assignment.c.duration_ms.is_not(None)
        recent = db.execute(select(assignment.c.duration_ms).where(here, assignment.c.state == "answered", timed)
                            .order_by(assignment.c.answered_at.desc()).limit(RECENT)).scalars().all()  # fmt: skip
        since = assignment.c.answered_at > store.clock() - 3600.0
        hour = db.execute(select(func.count()).where(here, assignment.c.state == "answered", since)).scalar_one()
        people = db.execute(select(func.count()).where(schema.worker.c.campaign_id == hits.id)).scalar_one()
        answered = [row for row in rows if row.state == "answered"]
        return Overview(
            hits, {(kind, state): count for kind, state, count, _ in items}, int(wanted or 0),
            _summed((row.outcome, row[-1]) for row in answered if row.counted),
            _summed((_side(row.outcome, row.swapped), row[-1]) for row in answered
                    if row.outcome in ("first", "second")),
            sum(row[-1] for row in answered if row.counted), sum(row[-1] for row in answered if not row.counted),
            sum(row[-1] for row in rows if row.state == "skipped"), int(sum(flags for *_, flags in items)),
            sum(row[-1] for row in rows if row.state == "leased"), people,
            median(recent) / 1000.0 if recent else None, lease_seconds(db, hits.id, hits.settings), hour,
        )  # fmt: skip


def wins(store: Store, actor: int, campaign: int | str, policy: str | None = None) -> list[Wins]:
    """Preferences between images by different makers, by maker and prompt; only what `policy` drew when given.

    An answer best-and-worst of N is its 2 N - 3 implied preferences: the best over every other, every other over the
    worst.
    """
    with reading(store, actor, LEAD) as db:
        hits = campaigns.find(db, campaign)
        chosen = [assignment.c.campaign_id == hits.id, assignment.c.kind == "work", assignment.c.state == "answered"]
        if policy:
            chosen.append(assignment.c.policy == policy)
        counts = _pair_wins(db, chosen) if hits.settings.kind == "pair" else _ranked_wins(db, chosen)
        return [
            Wins(a, b, c["a_wins"], c["b_wins"], c["tie"], c["both_good"], c["both_bad"], prompt)
            for (a, b, prompt), c in sorted(counts.items())
        ]


Counts = dict[tuple[str, str, str], dict[str, int]]
CELLS = ("a_wins", "b_wins", "tie", "both_good", "both_bad")


def _pair_wins(db: Connection, chosen: list[ColumnElement[bool]]) -> Counts:
    hits: Counts = {}
    groups = (assignment.c.item_id, assignment.c.outcome)  # numbers first: grouping by names takes twice as long
    answered_groups = select(*groups, func.count().label("count")).where(*chosen).group_by(*groups).subquery()
    for first, second, outcome, prompt, count in db.execute(
        select(item.c.first_label, item.c.second_label, answered_groups.c.outcome, item.c.prompt_id, answered_groups.c.count)  # noqa: E501
        .join(item, item.c.id == answered_groups.c.item_id).where(item.c.first_label != item.c.second_label)
    ).all():  # fmt: skip
        winner = {"first": first, "second": second}.get(outcome)
        _add(hits, first, second, prompt, winner, outcome, count)
    return hits


def _ranked_wins(db: Connection, chosen: list[ColumnElement[bool]]) -> Counts:
    hits: Counts = {}
    answered = db.execute(
        select(assignment.c.item_id, assignment.c.best, assignment.c.worst, item.c.prompt_id)
        .join(item, item.c.id == assignment.c.item_id).where(*chosen, assignment.c.outcome == "ranked")
    ).all()  # fmt: skip
    makers: dict[int, list[str]] = {}
    table = schema.item_image
    for row in db.execute(
        select(table.c.item_id, table.c.label)
        .where(table.c.item_id.in_(select(assignment.c.item_id).where(*chosen)))
        .order_by(table.c.item_id, table.c.place)
    ):  # fmt: skip
        makers.setdefault(row.item_id, []).append(row.label)
    for item_id, best, worst, prompt in answered:
        labels = makers[item_id]
        implied = {(best, other) for other in range(len(labels)) if other != best}
        implied |= {(other, worst) for other in range(len(labels)) if other != worst}
        for winner, loser in implied:
            if labels[winner] != labels[loser]:
                _add(hits, labels[winner], labels[loser], prompt, labels[winner], "", 1)
    return hits


def _add(hits: Counts, one: str, other: str, prompt: str, winner: str | None, outcome: str, count: int) -> None:
    a, b = sorted((one, other))
    cells = hits.setdefault((a, b, prompt), dict.fromkeys(CELLS, 0))
    cells[outcome if winner is None else "a_wins" if winner == a else "b_wins"] += count


def _summed(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    hits: dict[str, int] = {}
    for name, count in pairs:
        hits[name] = hits.get(name, 0) + count
    return hits


def _side(outcome: str, swapped: bool) -> str:
    return "left" if (outcome == "first") != bool(swapped) else "right"
