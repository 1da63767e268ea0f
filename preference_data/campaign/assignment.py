"""Who works on what: the state machine of assignments, from being drawn to being answered, set aside or given back.

                  claim              answer
    (an item) -----------> leased -----------> answered      counts towards the item's overlap
                             |  |     skip, flag
                             |  +------------> skipped       the place is free again, for somebody else
                             |  no sign of life for max(120 s, 3 x median duration), at most an hour
                             +---------------> expired       the place is free again, for anybody

A claim is one transaction: it takes back what expired, gives the annotator what they still hold (the same images on
the same sides), and draws more. An item's `taken` counts live leases and counted answers and can never exceed its cap:
the database refuses it. An answer that comes after its lease ended still counts when there is room, and is kept
uncounted when there is none; nothing that a person did is thrown away.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import Connection, Row, exists, select, update

from preference_data.campaign import campaigns, closeness
from preference_data.campaign.assignment_view import FIRST_SOURCE, REFERENCE, View, own, views
from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.next_item import ChosenItem, open_work, take
from preference_data.campaign.settling import move
from preference_data.store import schema
from preference_data.store.roles import ANNOTATE, authorise
from preference_data.store.schema import assignment, item
from preference_data.store.store import Store, insert, insert_new

RECENT = 201
"""Newest answers whose median duration sets the length of a lease."""

MAX_HOLD = 4
"""Assignments that one annotator can hold: the one on the screen and those that are loaded ahead."""

MAX_DRAFT = 20_000
"""Characters of a draft's JSON."""


@dataclass(frozen=True)
class Claimed:
    """What an annotator holds, in the order to be worked on.

    `status` is "work"; with nothing to hold it says why: "waiting" (others hold what is left), "finished" (nothing is
    left for this annotator) or "closed" (the campaign is not open).
    """

    views: tuple[View, ...]
    status: str


def claim(store: Store, actor: int, campaign: int | str, hold: int = 1) -> Claimed:
    """Up to `hold` assignments for this annotator, those that they hold already first. Their leases begin anew.

    Raises Forbidden without a role that annotates, ValueError when there is no such campaign or `hold` is not 1 to 4.
    """
    if not 1 <= hold <= MAX_HOLD:
        raise ValueError(f"hold={hold}: an annotator holds 1 to {MAX_HOLD} assignments")

    def work(db: Connection) -> Claimed:
        authorise(db, actor, ANNOTATE)
        campaign_row, now = campaigns.find(db, campaign), store.clock()
        if campaign_row.state != "open":
            return Claimed((), "closed")
        reclaim(db, campaign_row.id, now)
        closeness.refresh_if_due(db, campaign_row.id, campaign_row.settings)
        worker = _lock_worker(db, campaign_row.id, actor)  # before looking at what is held
        until = now + lease_seconds(db, campaign_row.id, campaign_row.settings)
        held = _held(db, campaign_row.id, actor)
        while len(held) < hold:
            fresh = _next(db, worker, campaign_row.settings, now, until, store.chance)
            if fresh is None:
                break
            held.append(fresh)
            if len(held) < hold:
                worker = _lock_worker(db, campaign_row.id, actor)
        if not held:
            return Claimed((), _why_nothing(db, campaign_row.id, actor))
        db.execute(update(assignment).where(assignment.c.id.in_(held)).values(expires_at=until))
        return Claimed(tuple(views(db, held, campaign_row.settings, now)), "work")

    return store.write(work)


def heartbeat(store: Store, actor: int, campaign: int | str) -> float:
    """A sign of life: everything this annotator holds in the campaign is theirs for the returned number of seconds."""

    def work(db: Connection) -> float:
        authorise(db, actor, ANNOTATE)
        campaign_row = campaigns.find(db, campaign)
        seconds = lease_seconds(db, campaign_row.id, campaign_row.settings)
        db.execute(update(assignment).where(*_live(campaign_row.id, actor)).values(expires_at=store.clock() + seconds))
        return seconds

    return store.write(work)


def shown(store: Store, actor: int, token: str, at: float | None = None) -> None:
    """The images were painted, at a time of the store's clock (None: now): from here on the annotator's time counts.

    Only the first time of a lease is kept.
    """

    def work(db: Connection) -> None:
        authorise(db, actor, ANNOTATE)
        row = own(db, actor, token, lock=True)
        if row.shown_at is None:
            when = store.clock() if at is None else at
            db.execute(update(assignment).where(assignment.c.id == row.id).values(shown_at=when))

    store.write(work)


def save_draft(store: Store, actor: int, token: str, draft: Mapping[str, Any] | None) -> None:
    """Keep what is filled in but not answered yet, as a JSON object; it comes back with the view. None drops it."""
    import json

    if draft is not None and len(json.dumps(draft)) > MAX_DRAFT:
        raise ValueError(f"the draft is longer than {MAX_DRAFT} characters")

    def work(db: Connection) -> None:
        authorise(db, actor, ANNOTATE)
        row = own(db, actor, token, lock=True)
        if row.state == "leased":
            content = None if draft is None else dict(draft)
            db.execute(update(assignment).where(assignment.c.id == row.id).values(draft=content))

    store.write(work)


def release(store: Store, actor: int, campaign: int | str) -> int:
    """Give back everything this annotator holds in the campaign, as at log-out; how many that were."""

    def work(db: Connection) -> int:
        authorise(db, actor, ANNOTATE)
        campaign_row = campaigns.find(db, campaign)
        query = select(assignment.c.id, assignment.c.item_id, assignment.c.kind).where(*_live(campaign_row.id, actor))
        rows = db.execute(query.order_by(assignment.c.id).with_for_update()).all()
        end_leases(db, rows)
        return len(rows)

    return store.write(work)


def reclaim(db: Connection, campaign: int, now: float) -> int:
    """Take back leases that ran out; how many. Two claims at once never take the same one back."""
    rows = db.execute(
        select(assignment.c.id, assignment.c.item_id, assignment.c.kind)
        .where(assignment.c.campaign_id == campaign, assignment.c.state == "leased", assignment.c.expires_at < now)
        .order_by(assignment.c.id).with_for_update(skip_locked=True)
    ).all()  # fmt: skip
    end_leases(db, rows)
    return len(rows)


def lease_seconds(db: Connection, campaign: int, settings: CampaignSettings) -> float:
    """Three times the median duration of the campaign's newest answers, within the campaign's bounds."""
    results = db.execute(
        select(assignment.c.duration_ms)
        .where(assignment.c.campaign_id == campaign, assignment.c.state == "answered",
               assignment.c.duration_ms.is_not(None))
        .order_by(assignment.c.answered_at.desc()).limit(RECENT)
    ).scalars().all()  # fmt: skip
    typical = 3.0 * median(results) / 1000.0 if results else 0.0
    return min(max(typical, settings.lease_min), settings.lease_max)


def end_leases(db: Connection, rows: Sequence[Row]) -> None:
    """Expire these assignments (id, item_id, kind) and free their places."""
    if not rows:
        return
    ids = [row.id for row in rows]
    db.execute(update(assignment).where(assignment.c.id.in_(ids)).values(state="expired", counted=False))
    for row in sorted(rows, key=lambda row: row.item_id):  # always in one order, so that no two wait for each other
        if row.kind == "work":
            move(db, row.item_id, taken=-1)


def _live(campaign: int, actor: int) -> tuple[Any, ...]:
    return (assignment.c.campaign_id == campaign, assignment.c.account_id == actor, assignment.c.state == "leased",
            assignment.c.kind != "adjudication")  # fmt: skip


def _held(db: Connection, campaign: int, actor: int) -> list[int]:
    query = select(assignment.c.id).where(*_live(campaign, actor)).order_by(assignment.c.leased_at, assignment.c.id)
    return list(db.execute(query).scalars())


def _lock_worker(db: Connection, campaign: int, actor: int) -> Row:
    """The annotator's row in the campaign, locked, so that two of their windows claim one after the other."""
    table = schema.worker
    there = select(table).where(table.c.campaign_id == campaign, table.c.account_id == actor).with_for_update()
    row = db.execute(there).first()
    if row is None:
        fresh = {"campaign_id": campaign, "account_id": actor, "claims": 0, "sided": 0, "plain": 0}
        insert_new(db, table, [fresh])
        row = db.execute(there).one()
    return row


def _next(
    db: Connection, worker: Row, settings: CampaignSettings, now: float, until: float, chance: random.Random
) -> int | None:
    """Draw one more assignment; None when no work is left for this annotator at this moment."""
    campaign, account = worker.campaign_id, worker.account_id
    kind = _kind(settings, chance.random())
    if kind != "work" and not _is_left(db, campaign, account):
        return None  # who has no work left gets no checks either
    if kind == "repeat":
        if before := _to_repeat(db, campaign, account, settings.repeat_gap, chance):
            current = db.execute(select(item).where(item.c.id == before.item_id)).one()
            return _assign(db, worker, ChosenItem(current, kind, 1.0), kind, now, until, chance, before)
    elif kind != "work" and (check := _check_item(db, campaign, account, kind, chance)) is not None:
        return _assign(db, worker, ChosenItem(check, kind, 1.0), kind, now, until, chance)
    samples = take(db, campaign, account, settings.policy, chance)
    if samples is None:
        return None
    move(db, samples.item.id, taken=+1)
    return _assign(db, worker, samples, "work", now, until, chance)


def _kind(settings: CampaignSettings, x: float) -> str:
    """What comes next at a place `x` in [0, 1): a check, a repeat, or work."""
    shares = (("attention", settings.attention_share), ("gold", settings.gold_share), ("repeat", settings.repeat_share))
    for kind, share in shares:
        if x < share:
            return kind
        x -= share
    return "work"


def _is_left(db: Connection, campaign: int, account: int) -> bool:
    """Whether there is work that this annotator could be given at this moment."""
    query = select(item.c.id).where(open_work(campaign, account), item.c.taken < item.c.wanted).limit(1)
    return db.execute(query).first() is not None


def _check_item(db: Connection, campaign: int, account: int, kind: str, chance: random.Random) -> Row | None:
    """A gold item or attention check that this annotator has not had; None when they had all.

    One that was given back unanswered, as at log-out, was not had: with few of them, breaks would use them up.
    """
    had = exists().where(assignment.c.item_id == item.c.id, assignment.c.account_id == account,
                         assignment.c.state != "expired")  # fmt: skip
    query = select(item).where(item.c.campaign_id == campaign, item.c.kind == kind, ~had).order_by(item.c.shuffle)
    start = chance.random()
    return db.execute(query.where(item.c.shuffle >= start).limit(1)).first() or db.execute(query.limit(1)).first()


def _to_repeat(db: Connection, campaign: int, account: int, gap: int, chance: random.Random) -> Row | None:
    """An answered assignment of this annotator, at least `gap` answers ago, that was not repeated yet."""
    again = assignment.alias()
    query = (
        select(assignment)
        .where(assignment.c.account_id == account, assignment.c.campaign_id == campaign, assignment.c.kind == "work",
               assignment.c.state == "answered")
        .order_by(assignment.c.answered_at.desc()).offset(gap).limit(50)
    ).subquery()  # fmt: skip
    repeated = exists().where(again.c.repeats == query.c.id, again.c.state != "expired")
    rows = db.execute(select(query).where(~repeated)).all()
    return chance.choice(rows) if rows else None


def _assign(
    db: Connection, worker: Row, samples: ChosenItem, kind: str, now: float, until: float, chance: random.Random,
    before: Row | None = None,
) -> int:  # fmt: skip
    """Lease an item to an annotator; the assignment's id. One that expired comes back as it was, sides included."""
    log = {"policy": samples.policy, "propensity": samples.propensity if kind == "work" else None}
    lease = {"state": "leased", "leased_at": now, "expires_at": until, "counted": kind == "work"}
    current = samples.item
    expired = db.execute(select(assignment.c.id).where(
        assignment.c.item_id == current.id, assignment.c.account_id == worker.account_id, assignment.c.kind == kind,
    )).scalar()  # fmt: skip
    if expired is not None:
        # it was seen in another lease, perhaps yesterday: its time begins anew when it is painted
        db.execute(update(assignment).where(assignment.c.id == expired).values(**log, **lease, shown_at=None))
        return int(expired)
    hashes, sources = image_hashes(db, current.id)
    slots = _slots(worker, current, len(hashes), chance) if before is None else list(before.slots)[::-1]
    pair = len(hashes) == 2
    plain = pair and (slots[0] == 0) == _in_order(current)
    db.execute(update(schema.worker).where(schema.worker.c.campaign_id == worker.campaign_id,
                                           schema.worker.c.account_id == worker.account_id)
               .values(claims=worker.claims + 1, sided=worker.sided + pair, plain=worker.plain + plain))  # fmt: skip
    repeats = before.id if before is not None else None
    values = {"kind": kind, "repeats": repeats, **log, **lease}
    return hand_out(db, current, worker.account_id, hashes, sources, slots, values)


def image_hashes(db: Connection, item_id: int) -> tuple[list[str], list[str]]:
    """The hashes of an item's images, by their places, and of what its prompt asks to edit."""
    table, prompt = schema.item_image, schema.prompt
    rows = db.execute(
        select(table.c.sha256, prompt.c.sources).join(item, item.c.id == table.c.item_id)
        .join(prompt, prompt.c.id == item.c.prompt_id).where(table.c.item_id == item_id).order_by(table.c.place)
    ).all()  # fmt: skip
    return [row.sha256 for row in rows], list(rows[0].sources or ()) if rows else []


def hand_out(
    db: Connection, current: Row, account: int, hashes: Sequence[str], sources: Sequence[str], slots: Sequence[int],
    values: Mapping[str, Any],
) -> int:  # fmt: skip
    """A new assignment of an item (a row of that table) with these sides, and fresh names for it and its images.

    `hashes` are its images by their places, `sources` what its prompt asks to edit.
    """
    made = insert(db, assignment, {
        "token": secrets.token_urlsafe(16), "campaign_id": current.campaign_id, "item_id": current.id,
        "account_id": account, "slots": list(slots), "swapped": slots[0] == 1 if len(slots) == 2 else None, **values,
    })  # fmt: skip
    sides = [(slot, hashes[index]) for slot, index in enumerate(slots)]
    if current.reference:
        sides.append((REFERENCE, current.reference))
    sides += [(FIRST_SOURCE - i, sha) for i, sha in enumerate(sources)]
    db.execute(schema.handle.insert(), [
        {"token": secrets.token_urlsafe(16), "assignment_id": made, "slot": slot, "sha256": sha} for slot, sha in sides
    ])  # fmt: skip
    return made


def _in_order(current: Row) -> bool:
    """Whether the maker of the first image comes first in the alphabet."""
    return (current.first_label or "") <= (current.second_label or "")


def _slots(worker: Row, current: Row, count: int, chance: random.Random) -> list[int]:
    """Which image is shown where: slots[i] is the place of the one that is i-th from the left.

    Of a pair a biased coin (Efron 1971) decides: the alphabetically first maker is on the left with probability 2/3
    when this annotator had it there less than half of the time, 1/3 when more. More images are shuffled.
    """
    order = list(range(count))
    if count > 2:
        chance.shuffle(order)
        return order
    behind = worker.sided - 2 * worker.plain
    plain = chance.random() < (0.5 if behind == 0 else 2 / 3 if behind > 0 else 1 / 3)
    return order if plain == _in_order(current) else order[::-1]


def _why_nothing(db: Connection, campaign: int, actor: int) -> str:
    left = db.execute(select(item.c.id).where(open_work(campaign, actor)).limit(1)).first()
    return "waiting" if left else "finished"
