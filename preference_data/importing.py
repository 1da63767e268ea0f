"""Judgements from elsewhere into the store: one closed campaign, in one transaction, or nothing.

Their annotators become accounts that nobody can log in to, named CAMPAIGN/ANNOTATOR; the campaign can be looked at,
exported and trained on like any other.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from preference_data import facts, schema
from preference_data.campaigns import Campaign, find, item_key, label
from preference_data.judgements import Judgement
from preference_data.roles import LEAD, authorise
from preference_data.schema import assignment, item
from preference_data.settings import CampaignSettings
from preference_data.settling import locked, settle
from preference_data.store import Store, insert, insert_if_new, insert_new, record

FLIPPED = {"first": "second", "second": "first"}


def store_judgements(store: Store, actor: int, name: str, judgements: Sequence[Judgement], source: str) -> Campaign:
    """A new campaign of pairs with these answers. The pictures must be in the store's folder already.

    Raises ValueError when the name is taken, nothing is to be imported, or somebody judged a pair twice.
    """
    if not judgements:
        raise ValueError(f"{source} holds no judgement")
    _check_once(judgements)

    def work(db: Connection) -> Campaign:
        authorise(db, actor, LEAD)
        now = store.clock()
        most = _most(judgements)
        settings = CampaignSettings(overlap=1, cap=most, adjudicate=False, gold_share=0.0, repeat_share=0.0,
                                    attention_share=0.0, axes=_axes(judgements), tags=_tags(judgements))  # fmt: skip
        row = {"name": name, "kind": "pair", "state": "closed", "settings": settings.to_json(), "created_at": now,
               "created_by": actor, "closed_at": now}  # fmt: skip
        if not insert_if_new(db, schema.campaign, row):
            raise ValueError(f"there is a campaign {name!r} already; choose another name")
        campaign = find(db, name)
        facts.add_prompts(db, {j.prompt.id: j.prompt for j in judgements}.values(), source)
        facts.add_pictures(db, {p.sha256: p for j in judgements for p in (j.first, j.second)}.values(), now)
        people, items = _people(db, campaign, judgements, now), _items(db, campaign, judgements, store)
        for j in judgements:
            _answer(db, campaign.id, items[_key(j)], people[j.annotator], j, now)
        for one in items.values():
            settle(db, locked(db, one), settings)
        record(db, now, actor, "campaign.import", f"campaign:{campaign.id}",
               new={"judgements": len(judgements), "source": source})  # fmt: skip
        return campaign

    return store.write(work)


def _key(j: Judgement) -> str:
    return item_key(j.prompt.id, [j.first.sha256, j.second.sha256])


def _check_once(judgements: Sequence[Judgement]) -> None:
    seen: set[tuple[str, str]] = set()
    for number, j in enumerate(judgements, 1):
        if (mark := (j.annotator, _key(j))) in seen:
            who = j.annotator or "nobody named"
            raise ValueError(f"judgement {number}: {who} judged these two pictures before; keep one of the answers")
        seen.add(mark)


def _most(judgements: Sequence[Judgement]) -> int:
    """The most answers that one pair has."""
    counts: dict[str, int] = {}
    for j in judgements:
        counts[_key(j)] = counts.get(_key(j), 0) + 1
    return max(counts.values())


def _axes(judgements: Sequence[Judgement]) -> tuple[str, ...]:
    return tuple(sorted({name for j in judgements for name in j.axes}))


def _tags(judgements: Sequence[Judgement]) -> tuple[str, ...]:
    return tuple(sorted({name for j in judgements for name in j.tags}))


def _people(db: Connection, campaign: Campaign, judgements: Sequence[Judgement], now: float) -> dict[str, int]:
    """Account ids by annotator."""
    found = {}
    for annotator in sorted({j.annotator for j in judgements}):
        found[annotator] = insert(db, schema.account, {
            "name": f"{campaign.name}/{annotator or 'majority'}"[:120], "pseudonym": f"p{secrets.token_hex(5)}",
            "role": "annotator", "language": "en", "active": False, "session": 0, "created_at": now,
        })  # fmt: skip
    return found


def _items(db: Connection, campaign: Campaign, judgements: Sequence[Judgement], store: Store) -> dict[str, int]:
    """Item ids by key, with their pictures in canonical order."""
    rows: dict[str, dict[str, Any]] = {}
    pictures: dict[str, list[tuple[str, str]]] = {}
    for j in judgements:
        one, other = sorted((j.first, j.second), key=lambda p: p.sha256)
        key = _key(j)
        pictures[key] = [(one.sha256, label(one)), (other.sha256, label(other))]
        rows[key] = {
            "campaign_id": campaign.id, "key": key, "kind": "work", "state": "open", "prompt_id": j.prompt.id,
            "first_label": label(one), "second_label": label(other), "shuffle": store.chance.random(),
            "uncertainty": 1.0, "closeness": 1.0, "disagreement": 1.0, "overlap": 1, "cap": campaign.settings.cap,
            "wanted": 1, "taken": 0, "answered": 0, "skips": 0, "flags": 0,
        }  # fmt: skip
    for j in judgements:
        rows[_key(j)]["taken"] += 1
    insert_new(db, item, list(rows.values()))
    found = {
        row.key: row.id for row in db.execute(select(item.c.id, item.c.key).where(item.c.campaign_id == campaign.id))
    }
    places = [
        {"item_id": found[key], "place": place, "sha256": sha, "label": made}
        for key, pair in pictures.items()
        for place, (sha, made) in enumerate(pair)
    ]
    insert_new(db, schema.item_picture, places)
    return found


def _answer(db: Connection, campaign: int, item_id: int, account: int, j: Judgement, now: float) -> None:
    """An answered assignment and its answer; as if the first picture in canonical order had been on the left."""
    turned = j.first.sha256 > j.second.sha256
    outcome = FLIPPED.get(j.outcome, j.outcome) if turned else j.outcome
    at = now if j.at is None else j.at
    made = insert(db, assignment, {
        "token": secrets.token_urlsafe(16), "campaign_id": campaign, "item_id": item_id, "account_id": account,
        "kind": "work", "state": "answered", "slots": [0, 1], "swapped": False, "policy": "import",
        "propensity": j.propensity, "leased_at": at, "expires_at": at, "counted": True, "answered_at": at,
        "outcome": outcome, "strength": j.strength, "duration_ms": None,
    })  # fmt: skip
    sides = {"first": "left", "second": "right"}
    axes = {name: sides.get(FLIPPED.get(value, value) if turned else value, value) for name, value in j.axes.items()}
    insert(db, schema.answer, {
        "assignment_id": made, "revision": 0, "key": secrets.token_urlsafe(16), "stage": "answer",
        "outcome": sides.get(outcome, outcome), "strength": j.strength, "axes": axes, "tags": list(j.tags),
        "rationale": j.rationale, "duration_ms": 0, "created_at": at,
    })  # fmt: skip
