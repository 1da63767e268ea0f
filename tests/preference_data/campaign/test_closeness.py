"""Close ratings are drawn by ratings that are kept up to date, and not by what was true at the beginning."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from sqlalchemy import select

from preference_data.campaign import closeness
from preference_data.campaign.answering import answer
from preference_data.campaign.assignment import claim
from preference_data.campaign.closeness import PRIOR, refresh_if_due
from preference_data.campaign.outcomes import Answer
from preference_data.campaign.quality import campaign_progress
from preference_data.campaign.quality.overview import comparisons
from preference_data.statistics.ranking import bradley_terry
from preference_data.store import schema
from preference_data.store.store import Store
from tests.fixtures.desk import PLAIN, campaign, pair_item, person

CLOSE = dataclasses.replace(PLAIN, overlap=1, cap=1, policy={"uniform": 0.1, "close_ratings": 0.9})
GOOD = {"weak": 0, "fair": 1, "even": 1}
"""`weak` always loses; between `fair` and `even` every second answer is for either."""


def label(store: Store, c: int, who: int, count: int) -> None:
    turn = itertools.count()
    for i in range(count):
        view = claim(store, who, c).views[0]
        makers = store.read(lambda db, v=view: [db.execute(
            select(schema.image.c.model).join(schema.handle, schema.handle.c.sha256 == schema.image.c.sha256)
            .where(schema.handle.c.token == p.handle)).scalar_one() for p in v.images])  # fmt: skip
        left = GOOD[makers[0]] - GOOD[makers[1]]
        if left == 0:
            left = 1 if (makers[0] == "fair") == (next(turn) % 2 == 0) else -1
        answer(store, who, view.token, Answer("left" if left > 0 else "right", duration_ms=900), f"{who}-{c}-{i:08d}")


def open_items(store: Store, c: int) -> list:
    asked = select(schema.item).where(schema.item.c.campaign_id == c, schema.item.c.state == "open")
    return store.read(lambda db: db.execute(asked).all())


def rated(store: Store, c: int) -> int | None:
    return store.read(lambda db: db.execute(
        select(schema.campaign.c.rated_claims).where(schema.campaign.c.id == c)).scalar_one())  # fmt: skip


def trio(store: Store, count: int, settings: object = CLOSE, name: str = "c", start: int = 0) -> int:
    couples = list(itertools.combinations(GOOD, 2))
    items = [pair_item(start + i, models=couples[i % 3]) for i in range(count)]
    return campaign(store, items, settings, name)  # type: ignore[arg-type]


def test_pairs_of_close_makers_come_to_weigh_more(store: Store) -> None:
    c, ada = trio(store, 120), person(store, "ada")
    assert {row.closeness for row in open_items(store, c)} == {1.0}
    label(store, c, ada, 60)
    store.write(lambda db: closeness.refresh(db, c))
    found = bradley_terry(comparisons(campaign_progress.wins(store, store.operator, c)), prior=PRIOR)
    theta = dict(zip(found.names, found.theta, strict=True))
    for row in open_items(store, c):
        p = 1 / (1 + math.exp(theta[row.second_label] - theta[row.first_label]))
        assert row.closeness == pytest.approx(4 * p * (1 - p), abs=closeness.SLACK)
        assert (row.closeness > 0.9) == ("weak@r1" not in (row.first_label, row.second_label))
    drawn = [r.item_id for r in store.read(lambda db: db.execute(
        select(schema.assignment).order_by(schema.assignment.c.id.desc()).limit(20)).all())]  # fmt: skip
    labels = store.read(
        lambda db: db.execute(
            select(schema.item.c.first_label, schema.item.c.second_label).where(schema.item.c.id.in_(drawn))
        ).all()
    )
    assert sum("weak@r1" not in pair for pair in labels) > 8  # of 20, where a third of the pairs are close


def test_the_ratings_are_worked_out_anew_while_people_work(store: Store) -> None:
    c, ada = trio(store, 90), person(store, "ada")
    seen = []
    for _ in range(50):
        answer(store, ada, claim(store, ada, c).views[0].token, Answer("tie"), f"once-{len(seen):08d}")
        seen.append(rated(store, c))
    assert seen[19] is None and seen[20] == 20 and seen[40] == 40  # by the claim that finds it due
    assert sorted({s for s in seen if s}) == [20, 40]
    assert not store.write(lambda db: refresh_if_due(db, c, CLOSE))


def test_nothing_is_worked_out_for_who_does_not_draw_by_it(store: Store) -> None:
    c, ada = trio(store, 60, dataclasses.replace(PLAIN, overlap=1, cap=1)), person(store, "ada")
    label(store, c, ada, 30)
    assert rated(store, c) is None and {row.closeness for row in open_items(store, c)} == {1.0}


def test_the_answers_of_another_campaign_and_of_checks_say_nothing_here(store: Store) -> None:
    ada = person(store, "ada")
    other, c = trio(store, 60), trio(store, 30, name="d", start=100)
    label(store, other, ada, 30)
    store.write(lambda db: closeness.refresh(db, c))
    assert {row.closeness for row in open_items(store, c)} == {1.0}
