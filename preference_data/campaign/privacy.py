"""What is forgotten, and when: deleted accounts, old drafts, old audit events, old words.

Answers belong to the research and stay, under a pseudonym that leads to nobody once the account is deleted; with
`answers=True` they go as well. Nothing here runs by itself: a command does it, and is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from preference_data.campaign import campaigns
from preference_data.campaign.assignment import end_leases
from preference_data.campaign.settling import locked, settle
from preference_data.store import schema
from preference_data.store.accounts import by_name
from preference_data.store.roles import ADMINISTER, authorise
from preference_data.store.schema import assignment
from preference_data.store.store import OPERATOR, Store, record

DAY = 86_400.0


@dataclass(frozen=True)
class Forgotten:
    """What a retention run removed."""

    drafts: int
    attempts: int
    events: int
    rationales: int


def delete_account(store: Store, actor: int, name: str, answers: bool = False) -> int:
    """Remove who somebody is: name, password, identity, language, times. How many of their answers were removed.

    Answers stay under the pseudonym, without the words that were typed with them; with `answers` they are removed too,
    and their items are open again. Raises ValueError for the operator's account.
    """

    def work(db: Connection) -> int:
        authorise(db, actor, ADMINISTER)
        row = by_name(db, name)
        if row.name == OPERATOR:
            raise ValueError("the operator's account belongs to this machine and cannot be deleted")
        mine = select(assignment.c.id).where(assignment.c.account_id == row.id)
        _give_back(db, row.id)
        db.execute(update(schema.answer).where(schema.answer.c.assignment_id.in_(mine)).values(rationale=""))
        removed = _remove_answers(db, row.id) if answers else 0
        db.execute(update(schema.account).where(schema.account.c.id == row.id).values(
            name=None, password=None, issuer=None, subject=None, language="en", active=False, seen_at=None,
            session=row.session + 1))  # fmt: skip
        record(db, store.clock(), actor, "account.delete", f"account:{row.id}", new={"answers_removed": removed})
        return removed

    return store.write(work)


def retain(store: Store, actor: int, days: float) -> Forgotten:
    """Remove what is older than `days` and was only needed for the work: drafts, failed log-ins, events, typed words.

    Answers, scores and images stay. Raises ValueError for less than a day.
    """
    if days < 1:
        raise ValueError(f"days={days}: keep at least one day")

    def work(db: Connection) -> Forgotten:
        authorise(db, actor, ADMINISTER)
        before = store.clock() - days * DAY
        drafts = db.execute(
            update(assignment)
            .where(assignment.c.draft.is_not(None), assignment.c.leased_at < before)
            .values(draft=None)
        ).rowcount
        attempts = db.execute(delete(schema.attempt).where(schema.attempt.c.at < before)).rowcount
        events = db.execute(delete(schema.audit).where(schema.audit.c.at < before)).rowcount
        words = db.execute(
            update(schema.answer).where(schema.answer.c.created_at < before, schema.answer.c.rationale != "")
            .values(rationale="")
        ).rowcount  # fmt: skip
        forgotten = Forgotten(drafts, attempts, events, words)
        record(db, store.clock(), actor, "retention", "store", new={"days": days, **vars(forgotten)})
        return forgotten

    return store.write(work)


def _give_back(db: Connection, account: int) -> None:
    """End the account's leases, so that others get the work."""
    rows = db.execute(
        select(assignment.c.id, assignment.c.item_id, assignment.c.kind)
        .where(assignment.c.account_id == account, assignment.c.state == "leased").with_for_update()
    ).all()  # fmt: skip
    end_leases(db, rows)


def _remove_answers(db: Connection, account: int) -> int:
    """Every answer of an account, with its assignments and handles; the items are worked out anew."""
    mine = db.execute(select(assignment).where(assignment.c.account_id == account).with_for_update()).all()
    ids = select(assignment.c.id).where(assignment.c.account_id == account)
    count = db.execute(select(func.count()).where(schema.answer.c.assignment_id.in_(ids))).scalar_one()
    db.execute(update(schema.answer).where(schema.answer.c.assignment_id.in_(ids)).values(revises=None))
    db.execute(delete(schema.answer).where(schema.answer.c.assignment_id.in_(ids)))
    db.execute(delete(schema.handle).where(schema.handle.c.assignment_id.in_(ids)))
    db.execute(update(assignment).where(assignment.c.account_id == account).values(repeats=None))
    db.execute(delete(assignment).where(assignment.c.account_id == account))
    for row in sorted(mine, key=lambda r: r.item_id):
        if row.kind != "work":
            continue
        settle(db, locked(db, row.item_id), campaigns.find(db, row.campaign_id).settings, -1 if row.counted else 0,
               -1 if row.outcome == "skip" else 0, -1 if row.outcome == "flag" else 0)  # fmt: skip
    return int(count)
