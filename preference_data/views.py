"""All that a browser is told about an assignment: a token, the prompt, and handles for pictures.

No model, seed, step, path, file name, hash, item number, kind of item or order is in here, and a handle is good for one
assignment only. What was drawn twice, what is gold and what is an attention check looks like everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from preference_data import schema
from preference_data.answers import SET_ASIDE, Given
from preference_data.facts import Reading, readings
from preference_data.roles import ANNOTATE, Forbidden, authorise
from preference_data.settings import CampaignSettings
from preference_data.store import Store

REFERENCE = -1
"""Slot of the reference picture."""


@dataclass(frozen=True)
class Shown:
    """A picture as a page may name it; its size in pixels."""

    handle: str
    width: int
    height: int


@dataclass(frozen=True)
class Previous:
    """The annotator's own newest answer to this assignment, to be revised: `revises` names it."""

    revises: int
    given: Given
    at: float


@dataclass(frozen=True)
class View:
    """One assignment as its annotator sees it; `pictures` from left to right."""

    token: str
    kind: str
    prompt: str
    language: str
    spans: tuple[str, ...]
    pictures: tuple[Shown, ...]
    reference: Shown | None
    strength: bool
    axes: tuple[str, ...]
    tags: tuple[str, ...]
    evidence: str
    draft: dict[str, Any] | None
    seconds_left: float
    previous: Previous | None = None


def view(db: Connection, row: Row, settings: CampaignSettings, now: float) -> View:
    """The view of an assignment (a row of that table)."""
    prompt = db.execute(
        select(schema.prompt).join(schema.item, schema.item.c.prompt_id == schema.prompt.c.id)
        .where(schema.item.c.id == row.item_id)
    ).one()  # fmt: skip
    table = schema.handle
    found = {
        h.slot: Shown(h.token, h.width, h.height)
        for h in db.execute(
            select(table.c.slot, table.c.token, schema.picture.c.width, schema.picture.c.height)
            .join(schema.picture, schema.picture.c.sha256 == table.c.sha256).where(table.c.assignment_id == row.id)
        )
    }  # fmt: skip
    reference = found.pop(REFERENCE, None)
    return View(
        row.token, settings.kind, prompt.text, prompt.language, tuple(prompt.spans),
        tuple(found[slot] for slot in sorted(found)), reference, settings.strength, settings.axes, settings.tags,
        settings.evidence, row.draft, max(row.expires_at - now, 0.0), previous(db, row.id),
    )  # fmt: skip


def previous(db: Connection, assignment: int) -> Previous | None:
    """The newest answer of an assignment; None before the first."""
    newest = newest_answer(db, assignment)
    return None if newest is None else Previous(newest.id, given(newest), newest.created_at)


def newest_answer(db: Connection, assignment: int) -> Row | None:
    """Its row."""
    table = schema.answer
    return db.execute(
        select(table).where(table.c.assignment_id == assignment).order_by(table.c.revision.desc()).limit(1)
    ).first()


def given(row: Row) -> Given:
    """An answer's row as it was given."""
    return Given(row.outcome, row.strength, dict(row.axes), tuple(row.tags), row.rationale, row.best, row.worst,
                 row.duration_ms)  # fmt: skip


def own(db: Connection, actor: int, token: str, lock: bool = False) -> Row:
    """The assignment of that token. Raises Forbidden when there is none or it is somebody else's, in the same words."""
    table = schema.assignment
    asked = select(table).where(table.c.token == token, table.c.account_id == actor)
    row = db.execute(asked.with_for_update() if lock else asked).first()
    if row is None:
        raise Forbidden("this assignment does not exist, or is not yours")
    return row


def settings_of(db: Connection, campaign: int) -> CampaignSettings:
    """The settings of a campaign."""
    table = schema.campaign
    return CampaignSettings.from_json(db.execute(select(table.c.settings).where(table.c.id == campaign)).scalar_one())


def picture_file(store: Store, actor: int, handle: str) -> Path:
    """The PNG behind a handle. Raises Forbidden when the handle is unknown or another account's."""

    def work(db: Connection) -> str:
        authorise(db, actor, ANNOTATE)
        sha = db.execute(
            select(schema.handle.c.sha256)
            .join(schema.assignment, schema.assignment.c.id == schema.handle.c.assignment_id)
            .where(schema.handle.c.token == handle, schema.assignment.c.account_id == actor)
        ).scalar()  # fmt: skip
        if sha is None:
            raise Forbidden("this picture does not exist, or is not yours to see")
        return str(sha)

    return store.pictures.path(store.read(work))


def evidence(store: Store, actor: int, token: str) -> tuple[tuple[Reading, ...], ...]:
    """What OCR engines read in each picture, from left to right; () where none was asked.

    Raises Forbidden before the first answer, unless the campaign shows readings before it, and always when it never
    does: what a machine read would anchor the answer.
    """

    def work(db: Connection) -> tuple[tuple[Reading, ...], ...]:
        authorise(db, actor, ANNOTATE)
        row = own(db, actor, token)
        when = settings_of(db, row.campaign_id).evidence
        answered = newest_answer(db, row.id)
        early = answered is None or answered.outcome in SET_ASIDE
        if when == "never" or (when == "after" and early):
            raise Forbidden("what was read in the pictures is not shown before the first answer")
        table = schema.handle
        hashes = db.execute(
            select(table.c.sha256).where(table.c.assignment_id == row.id, table.c.slot >= 0).order_by(table.c.slot)
        ).scalars().all()  # fmt: skip
        found = readings(db, hashes)
        return tuple(tuple(_nameless(r) for r in found[sha]) for sha in hashes)

    return store.read(work)


def _nameless(found: Reading) -> Reading:
    """Without the picture's hash, which would name it across assignments."""
    return Reading("", found.engine, found.text, found.lines)
