"""Which item is shown next, and how probable that was.

Work is drawn by a mixture of policies, each of which weighs an item by one number that is kept with it:

    uniform               1
    uncertainty           entropy of its answers so far
    close_ratings         4 p (1 - p), p = probability that the first maker beats the second (closeness.py)
    reward_disagreement   how far apart rewards are about it

A pool of up to POOL items that this annotator can still get is taken as a window of the items in a random order that
begins at a random place; from the pool one item is drawn with probability sum_k share_k w_k(i) / sum_j w_k(j). The
logged propensity is the product of both probabilities, so a mean over answers weighted by its inverse is unbiased
(Horvitz & Thompson 1952) whatever the policies preferred.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, select

from preference_data.store.schema import assignment, item

POOL = 64
"""Items that a draw weighs against each other."""

COLUMNS = {
    "uncertainty": item.c.uncertainty,
    "close_ratings": item.c.closeness,
    "reward_disagreement": item.c.disagreement,
}


@dataclass(frozen=True)
class ChosenItem:
    """An item (its row), the policy that drew it and the probability that it was drawn."""

    item: Row
    policy: str
    propensity: float


def open_work(campaign: int, account: int) -> ColumnElement[bool]:
    """Items that wait for an answer of this account: wanted, and neither held nor answered nor set aside by it."""
    mine = exists().where(
        assignment.c.item_id == item.c.id, assignment.c.account_id == account, assignment.c.kind == "work",
        assignment.c.state != "expired",
    )  # fmt: skip
    return and_(item.c.campaign_id == campaign, item.c.kind == "work", item.c.state == "open", ~mine)


def take(
    db: Connection, campaign: int, account: int, shares: Mapping[str, float], chance: random.Random
) -> ChosenItem | None:
    """Choose an item at random and lock its row; None when every item is leased to somebody else."""
    free = and_(open_work(campaign, account), item.c.taken < item.c.wanted)
    pool = list(window(db, free, chance.random()))
    whole = len(pool) < POOL
    while pool:
        index, policy, probability = choose(pool, shares, chance)
        chosen = pool.pop(index)
        # somebody may hold the row or have just taken its last place: then it is left out and drawn again
        locked = db.execute(
            select(item).where(item.c.id == chosen.id, item.c.state == "open", item.c.taken < item.c.wanted)
            .with_for_update(skip_locked=True)
        ).first()  # fmt: skip
        if locked is not None:
            reach = 1.0 if whole else inclusion(db, free, chosen.shuffle)
            return ChosenItem(locked, policy, min(reach * probability, 1.0))
    return None


def window(db: Connection, free: ColumnElement[bool], start: float) -> Sequence[Row]:
    """Up to POOL free items from `start` on in the random order, which is a ring."""
    columns = (item.c.id, item.c.shuffle, *COLUMNS.values())
    after = db.execute(select(*columns).where(free, item.c.shuffle >= start).order_by(item.c.shuffle).limit(POOL)).all()
    if len(after) == POOL:
        return after
    rest = select(*columns).where(free, item.c.shuffle < start).order_by(item.c.shuffle).limit(POOL - len(after))
    return [*after, *db.execute(rest).all()]


def inclusion(db: Connection, free: ColumnElement[bool], position: float) -> float:
    """Probability that a window that begins anywhere holds the item at `place`: the arc from POOL items before."""
    column = item.c.shuffle
    before = (
        db.execute(select(column).where(free, column < position).order_by(column.desc()).limit(POOL)).scalars().all()
    )
    if len(before) == POOL:
        return float(position - before[-1])
    rest = select(column).where(free, column > position).order_by(column.desc()).limit(POOL - len(before))
    around = db.execute(rest).scalars().all()
    return float(position - around[-1] + 1.0) if len(before) + len(around) == POOL else 1.0


def choose(pool: Sequence[Row], shares: Mapping[str, float], chance: random.Random) -> tuple[int, str, float]:
    """(place in the pool, policy, probability of that place under the whole mixture)."""
    names = [name for name, share in shares.items() if share > 0]
    policy = chance.choices(names, [shares[name] for name in names])[0]
    chosen = chance.choices(range(len(pool)), weights(pool, policy))[0]
    return chosen, policy, probability(pool, shares, chosen)


def probability(pool: Sequence[Row], shares: Mapping[str, float], index: int) -> float:
    """Of drawing that place of the pool: the mixture over policies."""
    total = 0.0
    for name, share in shares.items():
        w = weights(pool, name)
        total += share * w[index] / sum(w)
    return total


def weights(pool: Sequence[Row], policy: str) -> list[float]:
    """What a policy gives each item of the pool; all 1 when it has no preference."""
    if policy == "uniform":
        return [1.0] * len(pool)
    results = [max(float(getattr(row, COLUMNS[policy].name)), 0.0) for row in pool]
    return results if sum(results) > 0 else [1.0] * len(pool)
