"""What an item's answers amount to: still open, settled, undecided, or a case for an adjudicator.

    fewer answers than wanted                      open
    one answer has more than settled_share         settled, with that outcome
    none has, below the cap                        open, and one answer more is wanted
    none has, at the cap                           adjudicate (undecided when the campaign has no adjudication)
    set aside by `skips` people, or ever flagged   adjudicate

Always worked out anew from the counted answers, so a revision can also unsettle an item.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection, Row, bindparam, case, func, select, update

from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.store.schema import assignment, item

ADJUDICATED = "import:adjudication"
"""The policy of an imported answer that an adjudicator gave elsewhere."""
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


def entropy(ballots: Votes) -> float:
    """In nats, of the answers with one pseudo-answer spread over three outcomes: 1.1 without any answer."""
    counts = [n for *_, n in ballots] + [0] * max(3 - len(ballots), 0)
    total = sum(counts) + 1.0
    return -sum(p * math.log(p) for p in ((n + 1.0 / len(counts)) / total for n in counts))


def verdict(
    ballots: Votes, current: Row, settings: CampaignSettings, skips: int, flags: int
) -> tuple[str, int, str | None, int | None]:  # fmt: skip
    """(state, wanted, outcome, best) of a work item with these votes, skips and flags."""
    answered = sum(n for *_, n in ballots)
    doubt = "adjudicate" if settings.adjudicate else "undecided"
    if flags or skips >= settings.skips:
        return doubt, current.wanted, None, None
    if answered < current.overlap:
        return "open", current.overlap, None, None
    outcome, best, most = ballots[0]
    if most > settings.settled_share * answered and not (len(ballots) > 1 and ballots[1][2] == most):
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
    ballots = votes(db, current.id)
    skips, flags = current.skips + skips, current.flags + flags
    state, wanted, outcome, best = verdict(ballots, current, settings, skips, flags)
    db.execute(update(item).where(item.c.id == current.id).values(
        state=state, wanted=wanted, outcome=outcome, best=best, uncertainty=entropy(ballots),
        taken=current.taken + taken, skips=skips, flags=flags, answered=sum(n for *_, n in ballots)))  # fmt: skip


def settle_all(db: Connection, campaign: int, settings: CampaignSettings) -> None:
    """Bring all work items of a campaign that nobody works on in line with their answers, in two statements.

    Votes that were counted elsewhere weigh what they counted. An outcome that stands alone, or that an adjudicator
    decided elsewhere, is the item's.
    """
    rows = db.execute(
        select(assignment.c.item_id, assignment.c.outcome, assignment.c.votes, assignment.c.policy, item.c.overlap,
               item.c.cap, item.c.wanted)
        .join(item, item.c.id == assignment.c.item_id)
        .where(item.c.campaign_id == campaign, assignment.c.kind == "work", assignment.c.state == "answered",
               assignment.c.counted)
        .order_by(assignment.c.item_id)
    )  # fmt: skip
    values = []
    for item_id, group in itertools.groupby(rows, key=lambda row: row.item_id):
        cast: Counter[str] = Counter()
        answers = list(group)
        for row in answers:
            cast.update({row.outcome: 1} if row.votes is None else _named(row.outcome, row.votes))
        results = [(o, None, n) for o, n in sorted(cast.items(), key=lambda pair: (-pair[1], pair[0]))]
        state, wanted, outcome, best = verdict(results, answers[0], settings, 0, 0)
        final = next((row.outcome for row in answers if row.policy == ADJUDICATED), None)
        if final is not None:
            state, outcome = "adjudicated", final
        elif len(answers) == 1:
            state, outcome = "settled", answers[0].outcome
        wanted = min(wanted, answers[0].cap) if state == "open" else len(answers)
        values.append({"one": item_id, "state": state, "wanted": wanted, "outcome": outcome, "best": best,
                       "uncertainty": entropy(results), "taken": len(answers), "answered": len(answers)})  # fmt: skip
    names = ("state", "wanted", "outcome", "best", "uncertainty", "taken", "answered")
    change = update(item).where(item.c.id == bindparam("one")).values({name: bindparam(name) for name in names})
    for start in range(0, len(values), 1000):
        db.execute(change, values[start : start + 1000])


def _named(outcome: str, votes: Sequence[int]) -> dict[str, int]:
    """Counted votes by outcome; those for neither image are ties, of the answer's own kind where it is one."""
    neither = outcome if outcome not in ("first", "second") else "tie"
    return {name: n for name, n in zip(("first", "second", neither), votes, strict=True) if n}


def move(db: Connection, item_id: int, taken: int = 0, skips: int = 0, flags: int = 0) -> None:
    """Change an item's counters by these numbers, in one statement; `taken` down also takes a lease's place back."""
    db.execute(update(item).where(item.c.id == item_id).values(
        taken=item.c.taken + taken, skips=item.c.skips + skips, flags=item.c.flags + flags,
        answered=case((item.c.answered > item.c.taken + taken, item.c.taken + taken), else_=item.c.answered),
    ))  # fmt: skip
