"""How long the lead's pages take with a hundred thousand answers.

Run:     python -m experiments.benchmarks.annotate_lead --answers 100000

A campaign of answers / 2 pairs by four makers is put into a temporary store, answered twice by twenty simulated people
who agree three times in four. What the pages compute is then timed, each three times: the overview (renewed every five
seconds), the quality page, and the page of win rates. Prints one JSON line; seconds, the median of three.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from preference_data.campaign import campaigns
from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.quality import campaign_progress, overview
from preference_data.records import ImageRef, Prompt, Provenance
from preference_data.store import accounts, facts, schema
from preference_data.store.store import Store

MAKERS = ("a", "b", "c", "d")
PROMPTS = 1000
PEOPLE = 20
CHUNK = 5000


def fill(store: Store, answers: int) -> int:
    """The campaign, written past the service: only its rows matter here; its id."""
    made = campaigns.create(store, store.operator, "many", CampaignSettings())
    people = [accounts.create(store, store.operator, f"p{i}", "annotator", identity=("x", str(i))).id
              for i in range(PEOPLE)]  # fmt: skip
    chance = random.Random(0)
    refs = [ImageRef(f"{i:064x}", f"{i}.png", 8, 8, Provenance(MAKERS[i % 4], "", i, 1, 1.0, "x", 0)) for i in range(8)]
    prompts = [Prompt.from_text(f"prompt {i}") for i in range(PROMPTS)]

    def work(db: Connection) -> None:
        facts.add_prompts(db, prompts, "benchmark")
        facts.add_images(db, refs, 0.0)
        items, values = [], []
        for i in range(1, answers // 2 + 1):
            first, second = sorted(chance.sample(MAKERS, 2))
            truth = chance.choice(("first", "first", "second", "tie"))
            items.append(item(made.id, i, prompts[i % PROMPTS].id, first, second, truth, chance))
            for n, person in enumerate(chance.sample(people, 2)):
                answer = truth if chance.random() < 0.75 else chance.choice(("first", "second", "tie", "both_bad"))
                values.append(assignment(made.id, 2 * i + n, i, person, answer, chance))
            if len(items) == CHUNK:
                db.execute(schema.item.insert(), items)
                db.execute(schema.assignment.insert(), values)
                items, values = [], []
        if items:
            db.execute(schema.item.insert(), items)
            db.execute(schema.assignment.insert(), values)

    store.write(work)
    return made.id


def item(
    campaign: int, number: int, prompt: str, first: str, second: str, truth: str, chance: random.Random
) -> dict[str, Any]:  # fmt: skip
    """The row of a settled pair."""
    return {
        "id": number, "campaign_id": campaign, "key": f"k{number}", "kind": "work", "state": "settled",
        "prompt_id": prompt, "first_label": first, "second_label": second, "shuffle": chance.random(),
        "uncertainty": 1.0, "closeness": 1.0,
        "disagreement": 1.0, "overlap": 2, "cap": 3, "wanted": 2, "taken": 2, "answered": 2, "skips": 0, "flags": 0,
        "outcome": truth,
    }  # fmt: skip


def assignment(
    campaign: int, number: int, item_id: int, person: int, answer: str, chance: random.Random
) -> dict[str, Any]:  # fmt: skip
    """The row of an answered assignment."""
    swapped = chance.random() < 0.5
    return {
        "token": f"t{number}", "campaign_id": campaign, "item_id": item_id, "account_id": person, "kind": "work",
        "state": "answered", "slots": [1, 0] if swapped else [0, 1], "swapped": swapped, "policy": "uniform",
        "propensity": 0.5, "leased_at": 0.0, "expires_at": 1.0, "counted": True, "answered_at": float(number),
        "outcome": answer, "duration_ms": chance.randrange(2000, 9000),
    }  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    """Returns the median of three times in seconds."""
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return round(statistics.median(times), 3)


def main() -> int:
    """Fill, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        campaign, actor = fill(store, args.answers), store.operator
        table = {
            "answers": args.answers,
            "overview": seconds(lambda: campaign_progress.overview(store, actor, campaign)),
            "quality": seconds(lambda: overview.quality(store, actor, campaign)),
            "win_rates": seconds(lambda: overview.standings(store, actor, campaign)),
        }  # fmt: skip
        print(json.dumps(table))
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
