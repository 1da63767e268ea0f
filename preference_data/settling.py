"""What an item's answers amount to: still open, settled, undecided, or a case for an adjudicator.

    fewer answers than wanted                      open
    one answer has more than settled_share         settled, with that outcome
    none has, below the cap                        open, and one answer more is wanted
    none has, at the cap                           adjudicate (undecided when the campaign has no adjudication)
    set aside by `skips` people, or ever flagged   adjudicate

Always worked out anew from the counted answers, so a revision can also unsettle an item.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import Connection, Row, case, func, select, update

from preference_data.schema import assignment, item
from preference_data.settings import CampaignSettings

Votes = Sequence[tuple[str, int | None, int]]
"""(canonical outcome, best place, answers)"""


def votes(db: Connection, item_id: int) -> Votes:
    """The counted answers of an item, the most common first."""
    count = func.count()
    rows = db.execute(
        select(assignment.c.outcome, assignment.c.best, count)
        .where(assignment.c.item_id == item_id, assignment.c.kind == "work", assignment.c.state == "answered",
               assignment.c.counted)
        .group_by(assignment.c.outcome, assignment.c.best)
        .order_by(count.desc(), assignment.c.outcome, assignment.c.best)
    )  # fmt: skip
    return [(row[0], row[1], row[2]) for row in rows]


def entropy(found: Votes) -> float:
    """In nats, of the answers with one pseudo-answer spread over three outcomes: 1.1 without any answer."""
    counts = [n for *_, n in found] + [0] * max(3 - len(found), 0)
    total = sum(counts) + 1.0
    return -sum(p * math.log(p) for p in ((n + 1.0 / len(counts)) / total for n in counts))


def verdict(
    found: Votes, current: Row, settings: CampaignSettings, skips: int, flags: int
) -> tuple[str, int, str | None, int | None]:  # fmt: skip
    """(state, wanted, outcome, best) of a work item with these votes, skips and flags."""
    answered = sum(n for *_, n in found)
    doubt = "adjudicate" if settings.adjudicate else "undecided"
    if flags or skips >= settings.skips:
        return doubt, current.wanted, None, None
    if answered < current.overlap:
        return "open", current.overlap, None, None
    outcome, best, most = found[0]
    if most > settings.settled_share * answered and not (len(found) > 1 and found[1][2] == most):
        return "settled", min(max(answered, current.overlap), current.cap), outcome, best
    if answered < current.cap:
        return "open", answered + 1, None, None
    return doubt, current.cap, None, None


def locked(db: Connection, item_id: int) -> Row:
    """An item's row, locked to the end of the transaction."""
    return db.execute(select(item).where(item.c.id == item_id).with_for_update()).one()


def settle(
    db: Connection, current: Row, settings: CampaignSettings, taken: int = 0, skips: int = 0, flags: int = 0
) -> None:  # fmt: skip
    """Bring a work item in line with its answers, after its counters changed by these numbers, in one statement.

    `current` is its row, as `locked` gave it, so what is written here counts what everybody else wrote.
    """
    if current.state == "adjudicated":
        move(db, current.id, taken, skips, flags)
        return
    found = votes(db, current.id)
    skips, flags = current.skips + skips, current.flags + flags
    state, wanted, outcome, best = verdict(found, current, settings, skips, flags)
    db.execute(update(item).where(item.c.id == current.id).values(
        state=state, wanted=wanted, outcome=outcome, best=best, uncertainty=entropy(found),
        taken=current.taken + taken, skips=skips, flags=flags, answered=sum(n for *_, n in found)))  # fmt: skip


def move(db: Connection, item_id: int, taken: int = 0, skips: int = 0, flags: int = 0) -> None:
    """Change an item's counters by these numbers, in one statement; `taken` down also takes a lease's place back."""
    db.execute(update(item).where(item.c.id == item_id).values(
        taken=item.c.taken + taken, skips=item.c.skips + skips, flags=item.c.flags + flags,
        answered=case((item.c.answered > item.c.taken + taken, item.c.taken + taken), else_=item.c.answered),
    ))  # fmt: skip
