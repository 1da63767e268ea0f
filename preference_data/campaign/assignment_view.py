"""All that a browser is told about an assignment: a token, the prompt, and handles for images.

No model, seed, step, path, file name, hash, item number, kind of item or order is in here, and a handle is good for one
assignment only. What was drawn twice, what is gold and what is an attention check looks like everything else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select, update

from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.outcomes import NO_ANSWER, Answer
from preference_data.store import schema
from preference_data.store.facts import Reading, readings
from preference_data.store.roles import ANNOTATE, Forbidden, reading
from preference_data.store.store import Store

REFERENCE = -1
"""Slot of the reference image."""
FIRST_SOURCE = -2
"""Slot of the first image that the prompt asks to edit; the others have those below."""


@dataclass(frozen=True)
class Shown:
    """An image as a page may name it; its size in pixels."""

    handle: str
    width: int
    height: int


@dataclass(frozen=True)
class Previous:
    """The annotator's own newest answer to this assignment, to be revised: `revises` names it."""

    revises: int
    answer: Answer
    at: float


@dataclass(frozen=True)
class View:
    """One assignment as its annotator sees it; `pictures` from left to right."""

    token: str
    kind: str
    prompt: str
    language: str
    spans: tuple[str, ...]
    images: tuple[Shown, ...]
    reference: Shown | None
    sources: tuple[Shown, ...]
    """what the prompt asks to edit, in its order"""
    strength: bool
    axes: tuple[str, ...]
    tags: tuple[str, ...]
    evidence: str
    draft: dict[str, Any] | None
    seconds_left: float
    previous: Previous | None = None


def view(db: Connection, assignment: int, settings: CampaignSettings, now: float) -> View:
    """The view of the assignment of that id."""
    return views(db, [assignment], settings, now)[0]


def views(db: Connection, assignments: Sequence[int], settings: CampaignSettings, now: float) -> list[View]:
    """The views of assignments of one campaign, in the order in which they were leased. Three queries in all."""
    table = schema.assignment
    rows = db.execute(
        select(table.c.id, table.c.token, table.c.draft, table.c.expires_at, schema.prompt.c.text,
               schema.prompt.c.language, schema.prompt.c.spans)
        .join(schema.item, schema.item.c.id == table.c.item_id)
        .join(schema.prompt, schema.prompt.c.id == schema.item.c.prompt_id)
        .where(table.c.id.in_(assignments)).order_by(table.c.leased_at, table.c.id)
    ).all()  # fmt: skip
    handle, image = schema.handle, schema.image
    images: dict[int, dict[int, Shown]] = defaultdict(dict)
    for h in db.execute(
        select(handle.c.assignment_id, handle.c.slot, handle.c.token, image.c.width, image.c.height)
        .join(image, image.c.sha256 == handle.c.sha256).where(handle.c.assignment_id.in_(assignments))
        .order_by(handle.c.slot)
    ):  # fmt: skip
        images[h.assignment_id][h.slot] = Shown(h.token, h.width, h.height)
    newest = newest_answers(db, assignments)
    results = []
    for row in rows:
        own, last = images[row.id], newest.get(row.id)
        reference = own.pop(REFERENCE, None)
        sources = tuple(own.pop(slot) for slot in sorted((slot for slot in own if slot <= FIRST_SOURCE), reverse=True))
        results.append(View(
            row.token, settings.kind, row.text, row.language, tuple(row.spans), tuple(own.values()),
            reference, sources, settings.strength, settings.axes, settings.tags, settings.evidence, row.draft,
            max(row.expires_at - now, 0.0),
            None if last is None else Previous(last.id, answer_of(last), last.created_at),
        ))  # fmt: skip
    return results


def newest_answers(db: Connection, assignments: Sequence[int]) -> dict[int, Row]:
    """The newest answer of every assignment that has one."""
    table = schema.answer
    query = select(table).where(table.c.assignment_id.in_(assignments)).order_by(table.c.revision)
    return {row.assignment_id: row for row in db.execute(query)}


def newest_answer(db: Connection, assignment: int) -> Row | None:
    """Returns the newest answer to an assignment; None before the first."""
    return newest_answers(db, [assignment]).get(assignment)


def answer_of(row: Row) -> Answer:
    """An answer's row as it was given."""
    return Answer(row.outcome, row.strength, dict(row.axes), tuple(row.tags), row.rationale, row.best, row.worst,
                 row.duration_ms)  # fmt: skip


def own(db: Connection, actor: int, token: str, lock: bool = False) -> Row:
    """The assignment of that token, with `campaign_state` and `campaign_settings` beside it.

    Raises Forbidden when there is none or it is somebody else's, in the same words.
    """
    table, campaign = schema.assignment, schema.campaign
    query = (
        select(table, campaign.c.state.label("campaign_state"), campaign.c.settings.label("campaign_settings"))
        .join(campaign, campaign.c.id == table.c.campaign_id)
        .where(table.c.token == token, table.c.account_id == actor)
    )
    row = db.execute(query.with_for_update(of=table) if lock else query).first()
    if row is None:
        raise Forbidden("this assignment does not exist, or is not yours")
    return row


def settings_of(row: Row) -> CampaignSettings:
    """The settings of the campaign of an assignment that `own` found."""
    return CampaignSettings.from_json(row.campaign_settings)


def image_path(store: Store, actor: int, handle: str) -> Path:
    """The PNG behind a handle. Raises Forbidden when the handle is unknown or another account's."""
    with reading(store, actor, ANNOTATE) as db:
        sha = db.execute(
            select(schema.handle.c.sha256)
            .join(schema.assignment, schema.assignment.c.id == schema.handle.c.assignment_id)
            .where(schema.handle.c.token == handle, schema.assignment.c.account_id == actor)
        ).scalar()  # fmt: skip
    if sha is None:
        raise Forbidden("this image does not exist, or is not yours to see")
    return store.images.path(str(sha))


def evidence(store: Store, actor: int, token: str) -> tuple[tuple[Reading, ...], ...]:
    """What OCR engines read in each image, from left to right; () where none was asked.

    Raises Forbidden before the first answer, unless the campaign shows readings before it, and always when it never
    does: what a machine read would anchor the answer. The first time is remembered, so that later answers say of
    themselves that they were given after it.
    """
    with reading(store, actor, ANNOTATE) as db:
        row = own(db, actor, token)
        when = settings_of(row).evidence
        answered = newest_answer(db, row.id)
        early = answered is None or answered.outcome in NO_ANSWER
        if when == "never" or (when == "after" and early):
            raise Forbidden("what was read in the images is not shown before the first answer")
        table = schema.handle
        hashes = db.execute(
            select(table.c.sha256).where(table.c.assignment_id == row.id, table.c.slot >= 0).order_by(table.c.slot)
        ).scalars().all()  # fmt: skip
        result = readings(db, hashes)
    # without the hash, which would name an image across assignments
    read = tuple(tuple(replace(r, sha256="") for r in result[sha]) for sha in hashes)
    if row.read_at is None and any(read):
        table, now = schema.assignment, store.clock()
        mark = update(table).where(table.c.token == token, table.c.read_at.is_(None)).values(read_at=now)
        store.write(lambda db: db.execute(mark))
    return read
