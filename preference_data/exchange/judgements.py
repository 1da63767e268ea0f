"""One judgement: two images of a prompt and what was said about them. What leaves the store, and what comes in.

Outcomes are canonical: "first" and "second" name the images, whatever side they were on; tie, both_good and both_bad
stay apart. People are pseudonyms. A judgement of an item (not of one person) has no annotator.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, Row, select

from preference_data.campaign import campaigns
from preference_data.campaign.settling import ADJUDICATED
from preference_data.comparisons import Comparison
from preference_data.records import ImageRef, PreferencePair, Prompt, Provenance
from preference_data.store import facts, schema
from preference_data.store.roles import LEAD, authorise
from preference_data.store.schema import assignment, item
from preference_data.store.store import Store, record

OUTCOMES = ("first", "second", "tie", "both_good", "both_bad")
DECIDED = ("first", "second")


@dataclass(frozen=True)
class Judgement:
    """What was said about two images. `votes` counts how many people said first, second and neither about them.

    `strength` 1 to 5 or None; `axes` as {axis: first, second, tie or na}; `at` in seconds since 1970, None when not
    known; `propensity` of having been drawn, None when nothing was sampled. `decided_by` is "answer", "majority" or
    "adjudication". `reading_shown`: what a machine read in these images was shown before the answer (of an item:
    before one of its answers); None when that is not known. `seconds`: how long the answer took, None when not known.
    """

    prompt: Prompt
    first: ImageRef
    second: ImageRef
    outcome: str
    annotator: str = ""
    strength: int | None = None
    axes: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    rationale: str = ""
    at: float | None = None
    propensity: float | None = None
    votes: tuple[int, int, int] = (0, 0, 0)
    decided_by: str = "answer"
    reading_shown: bool | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"outcome is {self.outcome!r}; choose one of {', '.join(OUTCOMES)}")
        if self.first.sha256 == self.second.sha256:
            raise ValueError(f"both images are {self.first.sha256[:12]}; an image cannot be compared with itself")
        if self.strength is not None and self.strength not in (1, 2, 3, 4, 5):
            raise ValueError(f"strength is {self.strength}; it goes from 1 to 5, or null")


def of_answers(store: Store, actor: int, campaign: int | str) -> list[Judgement]:
    """Every answer to work, one judgement a person and pair, for a lead. Skips and flags judge nothing."""
    return _export(store, actor, campaign, "answers")


def of_items(store: Store, actor: int, campaign: int | str) -> list[Judgement]:
    """One judgement for every settled or adjudicated item, for a lead."""
    return _export(store, actor, campaign, "items")


def training_pairs(judgements: Iterable[Judgement], source: str) -> list[PreferencePair]:
    """The decided judgements as training pairs; a tie is none. `source` says where they come from, as in "human:c".

    The margin is how many more people chose the winner, as a share of those who answered; None without votes.
    """
    pairs = []
    for j in judgements:
        if j.outcome not in DECIDED:
            continue
        won = j.outcome == "first"
        best, worst = (j.first, j.second) if won else (j.second, j.first)
        pairs.append(PreferencePair(j.prompt, best, worst, source, _margin(j), "left" if won else "right"))
    return pairs


def compared(judgements: Iterable[Judgement], source: str) -> list[Comparison]:
    """All judgements as comparisons, ties as what they are. `source` and the margin, of decided ones, as above."""
    side = {"first": "left", "second": "right"}
    hits = []
    for j in judgements:
        margin = _margin(j) if j.outcome in DECIDED else None
        hits.append(Comparison(j.prompt, j.first, j.second, side.get(j.outcome, j.outcome), source, margin))
    return hits


def _margin(j: Judgement) -> float | None:
    """How many more people chose the winner, as a share; 0 where an adjudicator overruled them, None without votes."""
    ahead, cast = j.votes[0] - j.votes[1], sum(j.votes)
    return max(ahead if j.outcome == "first" else -ahead, 0) / cast if cast else None


def _export(store: Store, actor: int, campaign: int | str, rows: str) -> list[Judgement]:
    def work(db: Connection) -> list[Judgement]:
        authorise(db, actor, LEAD)
        hits = campaigns.find(db, campaign)
        answers = list(db.execute(
            select(assignment.c.item_id, assignment.c.id, assignment.c.outcome, assignment.c.best, assignment.c.worst,
                   assignment.c.slots, assignment.c.propensity, assignment.c.answered_at, assignment.c.votes,
                   assignment.c.policy, assignment.c.duration_ms, schema.account.c.pseudonym)
            .join(schema.account, schema.account.c.id == assignment.c.account_id)
            .where(assignment.c.campaign_id == hits.id, assignment.c.kind == "work", assignment.c.state == "answered")
            .order_by(assignment.c.id)
        ))  # fmt: skip
        items = {r.id: r for r in db.execute(select(item).where(item.c.campaign_id == hits.id, item.c.kind == "work"))}
        indices = _item_images(db, hits.id, str(store.images.root))
        prompts = facts.prompts(db, {r.prompt_id for r in items.values()}, str(store.images.root))
        votes = _votes(answers)
        details = _details(db, [r.id for r in answers])
        shown = _shown(answers, details)
        record(db, store.clock(), actor, "export", f"campaign:{hits.id}", new={"rows": rows})
        judged = []
        for row in answers if rows == "answers" else items.values():
            current = items[row.item_id] if rows == "answers" else row
            refs = indices[current.id]
            for i, j, outcome in _implied(row.outcome, row.best, row.worst if rows == "answers" else None, len(refs)):
                answer = Judgement(prompts[current.prompt_id], refs[i], refs[j], outcome, votes=votes[current.id, i, j])
                judged.append(
                    _detailed(answer, row, details[row.id])
                    if rows == "answers"
                    else _of_item(answer, current, shown.get(current.id))
                )
        return judged

    return store.write(work)


def _item_images(db: Connection, campaign: int, folder: str) -> dict[int, list[ImageRef]]:
    """The images of every item in canonical order, each with what the campaign was told about it."""
    table = schema.item_image
    rows = db.execute(
        select(table.c.item_id, table.c.sha256, table.c.made).join(item, item.c.id == table.c.item_id)
        .where(item.c.campaign_id == campaign).order_by(table.c.item_id, table.c.place)
    ).all()  # fmt: skip
    images = facts.images(db, {row.sha256 for row in rows}, folder)
    hits: dict[int, list[ImageRef]] = defaultdict(list)
    for row in rows:
        ref = images[row.sha256]
        hits[row.item_id].append(replace(ref, provenance=Provenance(**row.made)) if row.made else ref)
    return hits


def _implied(outcome: str | None, best: int | None, worst: int | None, count: int) -> list[tuple[int, int, str]]:
    """(place, place, outcome) of every pair that an answer judges: one for a pair, up to 2 N - 3 for a ranked one.

    Where none of N images is acceptable, both of any two are bad.
    """
    if outcome in OUTCOMES and count == 2:
        return [(0, 1, outcome)]
    if outcome == "none_acceptable":
        return [(a, b, "both_bad") for a, b in itertools.combinations(range(count), 2)]
    if outcome != "ranked" or best is None:
        return []
    won = {(best, other) for other in range(count) if other != best}
    won |= {(other, worst) for other in range(count) if worst is not None and other != worst}
    return [(min(a, b), max(a, b), "first" if a < b else "second") for a, b in sorted(won)]


def _votes(answers: Sequence[Row]) -> dict[tuple[int, int, int], tuple[int, int, int]]:
    """(item, place, place): how many said first, second, neither"""
    counts: dict[tuple[int, int, int], Counter[str]] = defaultdict(Counter)
    for row in answers:
        for i, j, outcome in _implied(
            row.outcome, row.best, row.worst, 2 if row.outcome in OUTCOMES else len(row.slots)
        ):
            if row.votes is None:
                counts[row.item_id, i, j][outcome] += 1
            else:
                counts[row.item_id, i, j].update(dict(zip(("first", "second", "neither"), row.votes, strict=True)))
    hits = defaultdict(lambda: (0, 0, 0), {
        key: (c["first"], c["second"], sum(c.values()) - c["first"] - c["second"]) for key, c in counts.items()
    })  # fmt: skip
    return hits


def _details(db: Connection, assignments: Sequence[int]) -> dict[int, Row]:
    """The newest answer of each assignment."""
    table = schema.answer
    hits = {}
    for batch in facts.chunks(assignments):
        rows = db.execute(select(table).where(table.c.assignment_id.in_(batch)).order_by(table.c.revision))
        hits.update({row.assignment_id: row for row in rows})
    return hits


def _detailed(judgement: Judgement, row: Row, answer: Row) -> Judgement:
    from preference_data.campaign.outcomes import canonical

    axes = {name: canonical(value, row.slots) for name, value in answer.axes.items()}
    detailed = replace(judgement, annotator=row.pseudonym, strength=answer.strength, axes=axes, tags=tuple(answer.tags),
                       rationale=answer.rationale, at=row.answered_at, propensity=row.propensity,
                       reading_shown=answer.reading_shown,
                       seconds=row.duration_ms / 1000 if row.duration_ms else None)  # fmt: skip
    if row.votes is None:
        return detailed
    decided_by = "adjudication" if row.policy == ADJUDICATED else "majority"
    return replace(detailed, annotator="", votes=tuple(row.votes), decided_by=decided_by)  # many people, none named


def _shown(answers: Sequence[Row], details: Mapping[int, Row]) -> dict[int, bool | None]:
    """item: whether what a machine read was shown before one of its answers; None when that is not known of all."""
    hits: dict[int, list[bool | None]] = defaultdict(list)
    for row in answers:
        hits[row.item_id].append(details[row.id].reading_shown)
    return {unit: True if True in message else None if None in message else False for unit, message in hits.items()}


def _of_item(judgement: Judgement, current: Row, shown: bool | None) -> Judgement:
    decided = "adjudication" if current.state == "adjudicated" else "majority"
    return replace(judgement, decided_by=decided, reading_shown=shown)
