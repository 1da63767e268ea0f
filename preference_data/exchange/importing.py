"""Judgements from elsewhere into the store: one closed campaign, in one transaction, or nothing.

Their annotators become accounts that nobody can log in to, named CAMPAIGN/ANNOTATOR; the campaign can be looked at,
exported and trained on like any other. Images are decoded and written before the transaction, into a folder of their
own, and move into the store's folder as its last step; so a refused import leaves none, and the transaction itself only
takes a fraction of a millisecond a judgement.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DataError, IntegrityError, StatementError

from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.campaigns import Campaign, check_name, find, item_key, label
from preference_data.campaign.settling import ADJUDICATED, settle_all
from preference_data.exchange.judgements import Judgement
from preference_data.store import facts, schema
from preference_data.store.roles import LEAD, authorise
from preference_data.store.schema import assignment, item
from preference_data.store.staging import Staged
from preference_data.store.store import Store, insert_if_new, insert_new, record
from preference_data.store.store import insert as insert_one

FLIPPED = {"first": "second", "second": "first"}
SIDES = {"first": "left", "second": "right"}
CHUNK = 500
"""Judgements that are inserted together."""
NAME = 120
"""Characters of an account's name."""


class Summary:
    """What a campaign must know about judgements before the first of them is stored.

    `answers` counts the judgements of each pair of images under one text.
    """

    def __init__(self) -> None:
        self.axes: set[str] = set()
        self.tags: set[str] = set()
        self.answers: Counter[bytes] = Counter()


def store_judgements(
    store: Store, actor: int, name: str, judgements: Collection[Judgement], source: str, staged: Staged | None = None
) -> Campaign:
    """Make a closed campaign of pairs with these answers.

    Images are in the store's folder already, or wait in `staged` and move there when everything else is done. Raises
    ValueError when the name is taken, nothing is to be imported, somebody judged a pair twice, or a value does not fit.
    """
    if not judgements:
        raise ValueError(f"{source} holds no judgement")
    summary = summarised(judgements)

    def work(db: Connection) -> Campaign:
        authorise(db, actor, LEAD)
        now = store.clock()
        settings = CampaignSettings(overlap=1, cap=max(summary.answers.values()), adjudicate=False, gold_share=0.0,
                                    repeat_share=0.0, attention_share=0.0, axes=tuple(sorted(summary.axes)),
                                    tags=tuple(sorted(summary.tags)))  # fmt: skip
        check_name(name)
        row = {"name": name, "kind": "pair", "state": "closed", "settings": settings.to_json(), "created_at": now,
               "created_by": actor, "closed_at": now}  # fmt: skip
        if not insert_if_new(db, schema.campaign, row):
            raise ValueError(f"there is a campaign {name!r} already; choose another name")
        campaign = find(db, name)
        filling = _Filling(db, store, campaign, source, now)
        for batch in _batches(judgements):
            filling.add(batch)
        settle_all(db, campaign.id, settings)
        record(db, now, actor, "campaign.import", f"campaign:{campaign.id}",
               new={"judgements": len(judgements), "source": source})  # fmt: skip
        if staged is not None:
            staged.publish()
        return campaign

    try:
        return store.write(work)
    except BaseException as error:
        if staged is not None:
            staged.withdraw(lambda hashes: store.read(lambda db: set(facts.images(db, hashes))))
        if isinstance(error, DataError | IntegrityError | StatementError) and not isinstance(error, ValueError):
            text = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise ValueError(f"{source} holds a value that the store cannot keep, and nothing was stored: "
                             f"{text}") from error  # fmt: skip
        raise


def summarised(judgements: Iterable[Judgement]) -> Summary:
    """Look through the judgements once. Raises ValueError when a named annotator judged a pair twice."""
    hits = Summary()
    seen: set[tuple[str, bytes]] = set()
    for number, j in enumerate(judgements, 1):
        hits.axes.update(j.axes)
        hits.tags.update(j.tags)
        hits.answers[pair := pair_key(j)] += 1
        if j.annotator:
            if (j.annotator, pair) in seen:
                raise ValueError(f"judgement {number}: {j.annotator} judged these two images before; keep one of the "
                                 "answers")  # fmt: skip
            seen.add((j.annotator, pair))
    return hits


def pair_key(j: Judgement) -> bytes:
    """The same for two judgements of the same images under the same text, whatever the ids and the order."""
    sources = [source.sha256 for source in j.prompt.sources]
    text = "\n".join([j.prompt.text, *sources, *sorted((j.first.sha256, j.second.sha256))])
    return hashlib.sha256(text.encode()).digest()[:16]


def account_name(campaign: str, annotator: str) -> str:
    """CAMPAIGN/ANNOTATOR; one that is too long is cut and ends in a hash, so that two never become one."""
    whole = f"{campaign}/{annotator}"
    if len(whole) <= NAME:
        return whole
    return f"{whole[: NAME - 9]}~{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def _batches(judgements: Iterable[Judgement]) -> Iterator[list[Judgement]]:
    rest = iter(judgements)
    while batch := list(islice(rest, CHUNK)):
        yield batch


class _Filling:
    """A campaign that is being filled, batch by batch, inside one transaction."""

    def __init__(self, db: Connection, store: Store, campaign: Campaign, source: str, now: float) -> None:
        self.db, self.store, self.campaign, self.source, self.now = db, store, campaign, source, now
        self.people: dict[tuple[bool, str], int] = {}
        self.unnamed: Counter[bytes] = Counter()

    def add(self, judgements: Sequence[Judgement]) -> None:
        """Insert the prompts, images, pairs, people and answers of a batch."""
        stored = facts.add_prompts(self.db, (j.prompt for j in judgements), self.source)
        with_stored_prompts = [replace(j, prompt=stored[j.prompt]) for j in judgements]
        refs = facts.source_refs(j.prompt for j in with_stored_prompts)
        refs |= {p.sha256: p for j in with_stored_prompts for p in (j.first, j.second)}
        facts.add_images(self.db, refs.values(), self.now)
        items = self._items(with_stored_prompts)
        answer_rows = [self._answer_row(j, items[_key(j)], self._account(j)) for j in with_stored_prompts]
        self.db.execute(insert(assignment), [assigned for assigned, _ in answer_rows])
        # asked for by token: SQLite gives ids back for one row at a time only
        query = select(assignment.c.token, assignment.c.id).where(
            assignment.c.token.in_([a["token"] for a, _ in answer_rows])
        )
        ids = {row.token: row.id for row in self.db.execute(query)}
        self.db.execute(
            insert(schema.answer),
            [{**answer, "assignment_id": ids[assigned["token"]]} for assigned, answer in answer_rows],
        )

    def _items(self, judgements: Sequence[Judgement]) -> dict[str, int]:
        """Ids of the pairs by key; new pairs are inserted, their images in canonical order."""
        rows: dict[str, dict[str, Any]] = {}
        images = {}
        for j in judgements:
            pair = sorted((j.first, j.second), key=lambda p: p.sha256)
            key = _key(j)
            if key in rows:
                continue
            images[key] = pair
            rows[key] = {
                "campaign_id": self.campaign.id, "key": key, "kind": "work", "state": "open",
                "prompt_id": j.prompt.id, "first_label": label(pair[0]), "second_label": label(pair[1]),
                "shuffle": self.store.chance.random(), "uncertainty": 1.0, "closeness": 1.0, "disagreement": 1.0,
                "overlap": 1, "cap": self.campaign.settings.cap, "wanted": 1, "taken": 0, "answered": 0, "skips": 0,
                "flags": 0,
            }  # fmt: skip
        insert_new(self.db, item, list(rows.values()))
        query = select(item.c.id, item.c.key).where(item.c.campaign_id == self.campaign.id, item.c.key.in_(list(rows)))
        hits = {row.key: row.id for row in self.db.execute(query)}
        provenances = facts.differing_provenance(self.db, (p for pair in images.values() for p in pair))
        insert_new(self.db, schema.item_image, [
            {"item_id": hits[key], "place": i, "sha256": p.sha256, "label": label(p), "made": provenances.get(p.sha256)}
            for key, pair in images.items() for i, p in enumerate(pair)
        ])  # fmt: skip
        return hits

    def _account(self, j: Judgement) -> int:
        """Who said it. Answers of nobody named to one pair are of different people: the second of "majority 2"."""
        name = j.annotator
        if not name:
            self.unnamed[pair := pair_key(j)] += 1
            name = "majority" if (count := self.unnamed[pair]) == 1 else f"majority {count}"
        if (mark := (bool(j.annotator), name)) not in self.people:
            # taken: an annotator called "majority", or an account of the same name
            whole = account_name(self.campaign.name, name)
            taken = self.db.execute(select(schema.account.c.id).where(schema.account.c.name == whole)).first()
            if taken:
                whole = account_name(self.campaign.name, f"{name} {secrets.token_hex(4)}")
            self.people[mark] = insert_one(self.db, schema.account, {
                "name": whole, "pseudonym": f"p{secrets.token_hex(5)}", "role": "annotator", "language": "en",
                "active": False, "session": 0, "created_at": self.now,
            })  # fmt: skip
        return self.people[mark]

    def _answer_row(self, j: Judgement, item_id: int, account: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The rows of an answered assignment and of its answer, as if the first image in canonical order was left."""
        turned = j.first.sha256 > j.second.sha256
        outcome = FLIPPED.get(j.outcome, j.outcome) if turned else j.outcome
        first, second, neither = j.votes
        counted = [second, first, neither] if turned else [first, second, neither]
        at = self.now if j.at is None else j.at
        took = round((j.seconds or 0.0) * 1000)
        fields = {
            "token": secrets.token_urlsafe(16), "campaign_id": self.campaign.id, "item_id": item_id,
            "account_id": account, "kind": "work", "state": "answered", "slots": [0, 1], "swapped": False,
            "policy": ADJUDICATED if j.decided_by == "adjudication" else "import", "propensity": j.propensity,
            "leased_at": at, "expires_at": at, "counted": True, "answered_at": at, "outcome": outcome,
            "strength": j.strength, "duration_ms": took or None,
            "votes": counted if not j.annotator and sum(j.votes) > 0 else None,
        }  # fmt: skip
        axes = {name: FLIPPED.get(value, value) if turned else value for name, value in j.axes.items()}
        answer = {
            "revision": 0, "key": secrets.token_urlsafe(16), "stage": "answer", "outcome": SIDES.get(outcome, outcome),
            "strength": j.strength, "axes": {name: SIDES.get(value, value) for name, value in axes.items()},
            "tags": list(j.tags), "rationale": j.rationale, "duration_ms": took,
            "reading_shown": j.reading_shown, "created_at": at,
        }  # fmt: skip
        return fields, answer


def _key(j: Judgement) -> str:
    return item_key(j.prompt.id, [j.first.sha256, j.second.sha256])
