"""The adjudicator's queue: items whose annotators could not agree, or that somebody flagged.

First blind: the adjudicator answers like anybody else, without seeing what others said, and that answer is kept. Then
the others' answers are revealed, by pseudonym, and the adjudicator decides, with a reason. Both answers stay, and the
difference says how much the revelation weighed. Whoever answered an item does not adjudicate it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection, Row, and_, exists, func, select, update

from preference_data.campaign import campaigns
from preference_data.campaign.answering import Conflict, Receipt, append, first_duration, revisions
from preference_data.campaign.assignment import hand_out, image_hashes, lease_seconds, reclaim
from preference_data.campaign.assignment_view import View, answer_of, newest_answer, own, settings_of, view
from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.outcomes import NO_ANSWER, Answer, as_shown, canonical, check
from preference_data.store.roles import ADJUDICATE, LEAD, Forbidden, authorise, reading
from preference_data.store.schema import account, assignment, item
from preference_data.store.store import Store, record

REASONS = ("prompt_ambiguous", "difference_too_small", "annotator_mistake", "matter_of_taste", "text_misread",
           "picture_broken", "unsafe", "other")  # fmt: skip


@dataclass(frozen=True)
class Opinion:
    """What one annotator said about the item, as the adjudicator sees its sides. `at` in seconds since 1970."""

    pseudonym: str
    answer: Answer
    at: float


@dataclass(frozen=True)
class Case:
    """An item to decide: `blind` is None until the adjudicator has answered without seeing the others' `opinions`."""

    view: View
    blind: Answer | None
    opinions: tuple[Opinion, ...]


def waiting(store: Store, actor: int, campaign: int | str) -> int:
    """Items that wait for an adjudicator."""
    with reading(store, actor, (*ADJUDICATE, *LEAD)) as db:
        campaign_row = campaigns.find(db, campaign)
        query = select(func.count()).where(item.c.campaign_id == campaign_row.id, item.c.state == "adjudicate")
        return int(db.execute(query).scalar_one())


def next_case(store: Store, actor: int, campaign: int | str) -> Case | None:
    """The case this adjudicator holds, or the next one, leased; None when nothing waits for them."""

    def work(db: Connection) -> Case | None:
        authorise(db, actor, ADJUDICATE)
        campaign_row, now = campaigns.find(db, campaign), store.clock()
        reclaim(db, campaign_row.id, now)
        until = now + lease_seconds(db, campaign_row.id, campaign_row.settings)
        row = _held(db, campaign_row.id, actor)
        if row is None:
            chosen = _choose_item(db, campaign_row.id, actor)
            if chosen is None:
                return None
            row = _lease(db, chosen, actor, now, until, store.chance.random() < 0.5)
        db.execute(update(assignment).where(assignment.c.id == row.id).values(expires_at=until))
        return _case(db, row, campaign_row.settings, now)

    return store.write(work)


def heartbeat(store: Store, actor: int, campaign: int | str) -> float:
    """A sign of life: the case that this adjudicator holds is theirs for the returned number of seconds."""

    def work(db: Connection) -> float:
        authorise(db, actor, ADJUDICATE)
        campaign_row = campaigns.find(db, campaign)
        seconds = lease_seconds(db, campaign_row.id, campaign_row.settings)
        row = _held(db, campaign_row.id, actor)
        if row is not None:
            until = store.clock() + seconds
            db.execute(update(assignment).where(assignment.c.id == row.id).values(expires_at=until))
        return seconds

    return store.write(work)


def answer_blind(store: Store, actor: int, token: str, reply: Answer, key: str) -> Receipt:
    """Keep what the adjudicator thinks before seeing the others. Raises as `answering.answer`."""

    def work(db: Connection) -> Receipt:
        row = _own_case(db, actor, token)
        done, past = revisions(db, row, key)
        if done is not None:
            return done
        if past:
            raise Conflict("the blind answer was given already; now decide")
        _check_undecided(db, row)
        settings = settings_of(row)
        check(reply, settings.kind, len(row.slots), settings.axes, settings.tags)
        return Receipt(append(db, row, reply, key, "blind", None, store.clock()), 0, False, False)

    return store.write(work)


def decide(store: Store, actor: int, token: str, reply: Answer, reason: str, key: str) -> Receipt:
    """The final word on an item, after the blind answer. `reason` is one of REASONS. Raises as `answering.answer`.

    "skip" leaves the item undecided for good; "flag" does too, and says that something is wrong with it.
    """
    if reason not in REASONS:
        raise ValueError(f"reason is {reason!r}; choose one of {', '.join(REASONS)}")

    def work(db: Connection) -> Receipt:
        row = _own_case(db, actor, token)
        done, past = revisions(db, row, key)
        if done is not None:
            return done
        if not past:
            raise Forbidden("answer blind first; then decide")
        newest = past[-1]
        _check_undecided(db, row)
        settings, now = settings_of(row), store.clock()
        check(reply, settings.kind, len(row.slots), settings.axes, settings.tags)
        made = append(db, row, reply, key, "revealed", newest, now)
        slots = list(row.slots)
        without_answer, outcome = reply.outcome in NO_ANSWER, canonical(reply.outcome, slots)
        best = None if reply.best is None else slots[reply.best]
        worst = None if reply.worst is None else slots[reply.worst]
        db.execute(update(assignment).where(assignment.c.id == row.id).values(
            state="answered", outcome=outcome, best=best, worst=worst, strength=reply.strength, answered_at=now,
            duration_ms=first_duration(past, 0)))  # fmt: skip
        before = db.execute(select(item.c.state, item.c.outcome).where(item.c.id == row.item_id)).one()
        db.execute(update(item).where(item.c.id == row.item_id).values(
            state="undecided" if without_answer else "adjudicated", outcome=None if without_answer else outcome, best=best))  # fmt: skip  # noqa: E501
        record(db, now, actor, "adjudicate", f"item:{row.item_id}", {"state": before.state, "outcome": before.outcome},
               {"outcome": outcome, "reason": reason, "blind": newest.outcome})  # fmt: skip
        return Receipt(made, newest.revision + 1, False, False)

    return store.write(work)


def _check_undecided(db: Connection, row: Row) -> None:
    """Raises Conflict when somebody decided the case after this adjudicator's lease had run out."""
    state = db.execute(select(item.c.state).where(item.c.id == row.item_id).with_for_update()).scalar_one()
    if state != "adjudicate":
        raise Conflict("this case was decided meanwhile; here is the next one")


def _own_case(db: Connection, actor: int, token: str) -> Row:
    authorise(db, actor, ADJUDICATE)
    row = own(db, actor, token, lock=True)
    if row.kind != "adjudication":
        raise ValueError("this assignment is not a case for adjudication; open it from the page that gave it to you")
    return row


def _held(db: Connection, campaign: int, actor: int) -> Row | None:
    return db.execute(select(assignment).where(
        assignment.c.campaign_id == campaign, assignment.c.account_id == actor, assignment.c.kind == "adjudication",
        assignment.c.state == "leased",
    )).first()  # fmt: skip


def _choose_item(db: Connection, campaign: int, actor: int) -> int | None:
    """An item that waits, that nobody adjudicates at this moment and that this account has not answered."""
    mine = exists().where(assignment.c.item_id == item.c.id, assignment.c.account_id == actor,
                          assignment.c.state != "expired")  # fmt: skip
    held = exists().where(assignment.c.item_id == item.c.id, assignment.c.kind == "adjudication",
                          assignment.c.state == "leased")  # fmt: skip
    return db.execute(
        select(item.c.id).where(and_(item.c.campaign_id == campaign, item.c.state == "adjudicate", ~mine, ~held))
        .order_by(item.c.shuffle).limit(1).with_for_update(skip_locked=True)
    ).scalar()  # fmt: skip


def _lease(db: Connection, chosen: int, actor: int, now: float, until: float, swap: bool) -> Row:
    lease = {"state": "leased", "leased_at": now, "expires_at": until}
    mine = select(assignment).where(assignment.c.item_id == chosen, assignment.c.account_id == actor,
                                    assignment.c.kind == "adjudication")  # fmt: skip
    before = db.execute(mine).first()
    if before is not None:
        db.execute(update(assignment).where(assignment.c.id == before.id).values(**lease))
        return db.execute(mine).one()
    current = db.execute(select(item).where(item.c.id == chosen)).one()
    hashes, sources = image_hashes(db, chosen)
    slots = list(range(len(hashes)))[:: -1 if swap else 1]
    log = {"kind": "adjudication", "policy": "adjudication", "counted": False}
    hand_out(db, current, actor, hashes, sources, slots, {**log, **lease})
    return db.execute(mine).one()


def _case(db: Connection, row: Row, settings: CampaignSettings, now: float) -> Case:
    """With the opinions only when the blind answer is there."""
    seen = view(db, row.id, settings, now)
    blind = newest_answer(db, row.id)
    if blind is None:
        return Case(seen, None, ())
    others = db.execute(
        select(assignment.c.id, assignment.c.slots, account.c.pseudonym)
        .join(account, account.c.id == assignment.c.account_id)
        .where(assignment.c.item_id == row.item_id, assignment.c.kind == "work",
               assignment.c.state.in_(("answered", "skipped"))).order_by(assignment.c.answered_at)
    ).all()  # fmt: skip
    opinions = []
    for other in others:
        reply = newest_answer(db, other.id)
        assert reply is not None
        opinions.append(
            Opinion(other.pseudonym, _turned(answer_of(reply), list(other.slots), list(row.slots)), reply.created_at)
        )
    return Case(seen, answer_of(blind), tuple(opinions))


def _turned(reply: Answer, theirs: list[int], mine: list[int]) -> Answer:
    """Somebody's answer as if they had seen the sides that I see."""

    def slot(of: int | None) -> int | None:
        return None if of is None else mine.index(theirs[of])

    axes = {name: as_shown(canonical(value, theirs), mine) if len(mine) == 2 else value
            for name, value in reply.axes.items()}  # fmt: skip
    return replace(reply, outcome=as_shown(canonical(reply.outcome, theirs), mine) if len(mine) == 2 else reply.outcome,
                   axes=axes, best=slot(reply.best), worst=slot(reply.worst))  # fmt: skip
