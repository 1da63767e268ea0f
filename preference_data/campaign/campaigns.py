"""Campaigns: making one, filling it with items, opening and closing it.

An item is a prompt with the images to compare, in canonical order, so that the same images are one item whichever
way round they come; adding it twice adds it once.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, select, update

from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.records import ImageRef, Prompt
from preference_data.sentences import Sentence
from preference_data.store import facts, schema
from preference_data.store.roles import LEAD, authorise, reading
from preference_data.store.store import Store, insert_if_new, insert_new, record

CHECK_CAP = 1_000_000
"""How many people can see a gold item or an attention check: everybody."""


@dataclass(frozen=True)
class Item:
    """Images to compare. `expected` is the image that must win, for kinds gold and attention.

    `expected` is the sha256 of an image, or "tie", "both_good", "both_bad", "none_acceptable". `disagreement` >= 0
    weighs the item for the policy reward_disagreement. `labels` name the makers of the images, for rating them; the
    provenance's model and revision when not given.
    """

    prompt: Prompt
    images: tuple[ImageRef, ...]
    kind: str = "work"
    expected: str | None = None
    reference: ImageRef | None = None
    disagreement: float = 1.0
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"item of prompt {self.prompt.id}"
        hashes = [p.sha256 for p in self.images]
        if len(hashes) < 2 or len(set(hashes)) != len(hashes):
            raise ValueError(f"{where}: it needs at least two different images, and has {[h[:12] for h in hashes]}")
        if self.kind not in schema.ITEM_KINDS:
            raise ValueError(f"{where}: kind is {self.kind!r}; choose one of {', '.join(schema.ITEM_KINDS)}")
        words = ("tie", "both_good", "both_bad", "none_acceptable")
        if (self.kind == "work") != (self.expected is None):
            raise ValueError(
                f"{where}: a {self.kind} item {'has no' if self.kind == 'work' else 'needs an'} expected answer"
            )
        if self.expected is not None and self.expected not in (*words, *hashes):
            raise ValueError(f"{where}: expected is {self.expected!r}; name one of its images or {', '.join(words)}")
        if not self.disagreement >= 0:
            raise ValueError(f"{where}: disagreement is {self.disagreement}; it cannot be negative or NaN")
        if self.labels and len(self.labels) != len(self.images):
            raise ValueError(f"{where}: {len(self.labels)} labels for {len(self.images)} images")


@dataclass(frozen=True)
class Campaign:
    """A campaign as it is stored. State: draft, open or closed."""

    id: int
    name: str
    state: str
    settings: CampaignSettings
    created_at: float
    closed_at: float | None


def create(store: Store, actor: int, name: str, settings: CampaignSettings) -> Campaign:
    """A new, empty campaign in state draft. Raises ValueError when the name is taken or empty."""
    return store.write(lambda db: _create(db, store, actor, name, settings))


def create_filled(
    store: Store, actor: int, name: str, settings: CampaignSettings, items: Sequence[Item], source: str,
    start: bool = True,
) -> tuple[Campaign, int]:  # fmt: skip
    """A new campaign with its items, open when `start`, and how many items it has: all of it or nothing.

    Raises ValueError as `create`, `add_items` and `set_state`; the name is free afterwards.
    """

    def work(db: Connection) -> tuple[Campaign, int]:
        made = _create(db, store, actor, name, settings)
        added = _add_items(db, store, actor, made.id, items, source, "")
        return (_set_state(db, store, actor, made.id, "open") if start else made), added

    return store.write(work)


def _create(db: Connection, store: Store, actor: int, name: str, settings: CampaignSettings) -> Campaign:
    authorise(db, actor, LEAD)
    check_name(name)
    now = store.clock()
    row = {"name": name, "kind": settings.kind, "state": "draft", "settings": settings.to_json(),
           "created_at": now, "created_by": actor}  # fmt: skip
    if not insert_if_new(db, schema.campaign, row):
        raise ValueError(Sentence("there is a campaign {name!r} already; choose another name", {"name": name}))
    existing = find(db, name)
    record(db, now, actor, "campaign.create", f"campaign:{existing.id}", new=row)
    return existing


def check_name(name: str) -> None:
    """Raises ValueError when a campaign cannot be called so."""
    if not name.strip() or len(name) > 120 or not name.isprintable():
        raise ValueError(Sentence("the name {name!r} must have 1 to 120 characters", {"name": name}))


def check_new(store: Store, actor: int, name: str) -> None:
    """Raises ValueError when a lead cannot make a campaign of that name, so that nobody waits for work in vain."""
    with reading(store, actor, LEAD) as db:
        check_name(name)
        if db.execute(select(schema.campaign.c.id).where(schema.campaign.c.name == name)).first():
            raise ValueError(Sentence("there is a campaign {name!r} already; choose another name", {"name": name}))


def get(store: Store, actor: int, name: str | int) -> Campaign:
    """The campaign of that name or id, for a lead. Raises ValueError naming those there are."""
    with reading(store, actor, LEAD) as db:
        return find(db, name)


def find(db: Connection, name: str | int) -> Campaign:
    """The campaign of that name or id. Raises ValueError naming those there are."""
    table = schema.campaign
    row = db.execute(select(table).where(table.c.id == name if isinstance(name, int) else table.c.name == name)).first()
    if row is None:
        there = ", ".join(db.execute(select(table.c.name).order_by(table.c.id)).scalars()) or "none yet"
        raise ValueError(f"there is no campaign {name!r}; there are: {there}")
    return _campaign(row)


def listed(store: Store, actor: int) -> list[Campaign]:
    """All campaigns, newest first, for a lead."""
    with reading(store, actor, LEAD) as db:
        return [_campaign(row) for row in db.execute(select(schema.campaign).order_by(schema.campaign.c.id.desc()))]


def set_state(store: Store, actor: int, name: str | int, state: str) -> Campaign:
    """Open a campaign for annotators, close it, or open it again. Raises ValueError for an empty campaign."""
    if state not in ("open", "closed"):
        raise ValueError(f"state is {state!r}; choose open or closed")
    return store.write(lambda db: _set_state(db, store, actor, name, state))


def _set_state(db: Connection, store: Store, actor: int, name: str | int, state: str) -> Campaign:
    authorise(db, actor, LEAD)
    before, now = find(db, name), store.clock()
    filled = db.execute(select(schema.item.c.id).where(schema.item.c.campaign_id == before.id).limit(1)).first()
    if state == "open" and filled is None:
        raise ValueError(f"the campaign {before.name!r} has no items; add some first")
    closed = now if state == "closed" else None
    db.execute(update(schema.campaign).where(schema.campaign.c.id == before.id)
               .values(state=state, closed_at=closed))  # fmt: skip
    record(db, now, actor, f"campaign.{state}", f"campaign:{before.id}", {"state": before.state}, {"state": state})
    return find(db, before.id)


def add_items(store: Store, actor: int, name: str | int, items: Sequence[Item], source: str, licence: str = "") -> int:
    """Put items into a campaign in one transaction; how many were new. `source` says where the prompts come from.

    Raises ValueError when an item does not fit the campaign: a pair campaign compares two images.
    """
    return store.write(lambda db: _add_items(db, store, actor, name, items, source, licence))


def _add_items(
    db: Connection, store: Store, actor: int, name: str | int, items: Sequence[Item], source: str, licence: str
) -> int:
    authorise(db, actor, LEAD)
    campaign, now = find(db, name), store.clock()
    db.execute(select(schema.campaign.c.id).where(schema.campaign.c.id == campaign.id).with_for_update())
    if campaign.state == "closed":
        raise ValueError(f"the campaign {campaign.name!r} is closed; open it again or make a new one")
    for item in items:
        _check_fit(campaign, item)
    stored = facts.add_prompts(db, (i.prompt for i in items), source, licence)
    with_stored_prompts = [replace(i, prompt=stored[i.prompt]) for i in items]
    refs = facts.source_refs(i.prompt for i in items)
    refs |= {p.sha256: p for i in items for p in (*i.images, *([i.reference] if i.reference else []))}
    if lost := [
        ref.path for ref in refs.values() if ref.provenance == facts.BROUGHT and not store.images.has(ref.sha256)
    ]:
        raise ValueError(f"the source image {lost[0]} is not in the store's folder; put it there with keep_sources")
    facts.add_images(db, refs.values(), now)
    added = _insert(db, campaign, with_stored_prompts, store.chance)
    record(db, now, actor, "campaign.add_items", f"campaign:{campaign.id}", new={"items": added, "source": source})
    return added


def item_key(prompt: str, hashes: Iterable[str]) -> str:
    """One name for a prompt with these images, in whatever order they come."""
    return hashlib.sha256("\n".join([prompt, *sorted(hashes)]).encode()).hexdigest()


def label(image: ImageRef) -> str:
    """Who made an image: model and revision."""
    made = image.provenance
    return f"{made.model}@{made.revision}" if made.revision else made.model


def _check_fit(campaign: Campaign, item: Item) -> None:
    if campaign.settings.kind == "pair" and len(item.images) != 2:
        raise ValueError(f"item of prompt {item.prompt.id} has {len(item.images)} images, and the campaign "
                         f"{campaign.name!r} compares two; make one of kind best_worst for more")  # fmt: skip
    wrong = ("none_acceptable",) if campaign.settings.kind == "pair" else ("tie", "both_good", "both_bad")
    if item.expected in wrong:
        raise ValueError(f"item of prompt {item.prompt.id}: a {campaign.settings.kind} campaign never gets "
                         f"{item.expected!r} as an answer")  # fmt: skip


def _insert(db: Connection, campaign: Campaign, items: Sequence[Item], chance: random.Random) -> int:
    """Insert the items that are new, and their images."""
    rows, images, makers = [], {}, {}
    for item in items:
        order = sorted(range(len(item.images)), key=lambda i: item.images[i].sha256)
        refs = [item.images[i] for i in order]
        labels = [item.labels[i] for i in order] if item.labels else [label(p) for p in refs]
        key = item_key(item.prompt.id, [p.sha256 for p in refs])
        images[key], makers[key] = [p.sha256 for p in refs], labels
        rows.append(_row(campaign, item, key, images[key], labels, chance))
    table = schema.item
    last = db.execute(select(table.c.id).order_by(table.c.id.desc()).limit(1)).scalar() or 0
    insert_new(db, table, rows)
    new = db.execute(select(table.c.id, table.c.key).where(table.c.campaign_id == campaign.id, table.c.id > last)).all()
    made = facts.differing_provenance(db, (p for i in items for p in i.images))
    indices = [
        {"item_id": n.id, "place": i, "sha256": sha, "label": makers[n.key][i], "made": made.get(sha)}
        for n in new
        for i, sha in enumerate(images[n.key])
    ]
    insert_new(db, schema.item_image, indices)
    return len(new)


def _row(
    campaign: Campaign, item: Item, key: str, hashes: list[str], labels: list[str], chance: random.Random
) -> dict[str, Any]:
    settings, pair = campaign.settings, len(hashes) == 2
    check = item.kind != "work"
    expected, best = item.expected, None
    if expected in hashes:
        best = hashes.index(expected)
        expected = ("first", "second")[best] if settings.kind == "pair" else "ranked"
    return {
        "campaign_id": campaign.id, "key": key, "kind": item.kind, "state": "open", "prompt_id": item.prompt.id,
        "reference": item.reference.sha256 if item.reference else None,
        "first_label": labels[0] if pair else None, "second_label": labels[1] if pair else None,
        "expected": expected, "expected_best": best, "shuffle": chance.random(), "uncertainty": 1.0, "closeness": 1.0,
        "disagreement": float(item.disagreement), "overlap": CHECK_CAP if check else settings.overlap,
        "cap": CHECK_CAP if check else settings.cap, "wanted": CHECK_CAP if check else settings.overlap,
        "taken": 0, "answered": 0, "skips": 0, "flags": 0,
    }  # fmt: skip


def _campaign(row: Any) -> Campaign:
    return Campaign(row.id, row.name, row.state, CampaignSettings.from_json(row.settings), row.created_at,
                    row.closed_at)  # fmt: skip
