"""Many hands and sudden death: nothing is lost, nothing is double, nothing passes its cap, on both databases."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select

from preference_data.campaign.answering import answer
from preference_data.campaign.assignment import claim, reclaim
from preference_data.campaign.outcomes import Answer
from preference_data.store import schema
from preference_data.store.store import Store
from tests.fixtures.annotator import label_together
from tests.fixtures.desk import PLAIN, Clock, campaign, open_store, pair_item, person

ROOT = Path(__file__).parents[3]
ITEMS, OVERLAP = 250, 4
"""1,000 claims and answers"""
# leases of an hour: nobody goes away here, and a machine that stands still for minutes must not look like it
WIDE = dataclasses.replace(PLAIN, overlap=OVERLAP, cap=OVERLAP, lease_min=3600.0)


def process(place: str, pictures: Path, c: int, *names: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fixtures.annotator", place, str(pictures), str(c), *names]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_everything_is_there(store: Store, receipts: list[int]) -> None:
    """Every receipt has its answer, every item exactly its overlap, by different people; counters and rows agree."""
    with store.engine.connect() as db:
        answers = db.execute(select(schema.answer.c.id, schema.answer.c.assignment_id)).all()
        rows = db.execute(select(schema.assignment)).all()
        items = db.execute(select(schema.item)).all()
    assert sorted(receipts) == sorted(row.id for row in answers) and len(answers) == ITEMS * OVERLAP
    assert len({row.assignment_id for row in answers}) == len(answers)
    answered = [row for row in rows if row.state == "answered"]
    assert len(answered) == len(answers) and all(row.counted for row in answered)
    assert not [row for row in rows if row.state == "leased"]
    people = Counter((row.item_id, row.account_id) for row in answered)
    assert set(people.values()) == {1}
    each = Counter(row.item_id for row in answered)
    assert {(row.answered, row.taken, each[row.id]) for row in items} == {(OVERLAP, OVERLAP, OVERLAP)}


@pytest.mark.slow
def test_a_thousand_answers_by_32_threads(place: str, tmp_path: Path) -> None:
    store = open_store(place, tmp_path / "pictures", seed=None)
    store.clock = time.time
    c = campaign(store, [pair_item(i) for i in range(ITEMS)], WIDE)
    check_everything_is_there(store, label_together(store, [person(store, f"t{i}") for i in range(32)], c))
    store.close()


@pytest.mark.slow
def test_a_thousand_answers_by_four_processes_of_eight_threads(place: str, tmp_path: Path) -> None:
    store = open_store(place, tmp_path / "pictures", seed=None)
    store.clock = time.time
    c = campaign(store, [pair_item(i) for i in range(ITEMS)], WIDE)
    names = [[f"p{p}t{t}" for t in range(8)] for p in range(4)]
    for name in (n for few in names for n in few):
        person(store, name)
    running = [process(place, tmp_path / "pictures", c, *few) for few in names]
    receipts = []
    for one in running:
        out, err = one.communicate(timeout=3600)
        assert one.returncode == 0, err
        receipts += [int(line) for line in out.split()]
    check_everything_is_there(store, receipts)
    store.close()


@pytest.mark.slow
def test_one_key_from_many_threads_at_once_is_one_row(place: str, tmp_path: Path) -> None:
    store = open_store(place, tmp_path / "pictures")
    c, ada = campaign(store, [pair_item(1)]), person(store, "ada")
    token = claim(store, ada, c).views[0].token
    got: list[int] = []

    def click() -> None:
        for _ in range(10):
            got.append(answer(store, ada, token, Answer("left"), "one-key-only").answer)

    threads = [threading.Thread(target=click) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.engine.connect() as db:
        assert db.execute(select(func.count()).select_from(schema.answer)).scalar_one() == 1
        assert db.execute(select(schema.item.c.answered)).scalar_one() == 1
    assert len(got) == 100 and len(set(got)) == 1
    store.close()


@pytest.mark.slow
def test_an_expired_lease_returns_once_however_many_ask_at_once(place: str, tmp_path: Path) -> None:
    clock = Clock()
    store = open_store(place, tmp_path / "pictures", clock)
    c = campaign(store, [pair_item(i) for i in range(8)], dataclasses.replace(PLAIN, overlap=1, cap=1))
    for i in range(8):
        claim(store, person(store, f"a{i}"), c)
    clock.now += 1000
    back: list[int] = []
    threads = [
        threading.Thread(target=lambda: back.append(store.write(lambda db: reclaim(db, c, clock())))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.engine.connect() as db:
        assert db.execute(select(func.sum(schema.item.c.taken))).scalar_one() == 0
    assert sum(back) == 8
    store.close()


def test_killed_after_an_answer_loses_nothing_and_inside_one_leaves_the_draft(place: str, tmp_path: Path) -> None:
    store = open_store(place, tmp_path / "pictures")
    store.clock = time.time
    c = campaign(store, [pair_item(i) for i in range(2)], dataclasses.replace(PLAIN, overlap=1, cap=1))
    ada = person(store, "ada")
    dead = process(place, tmp_path / "pictures", c, "ada", "--die-inside")
    dead.wait(timeout=300)
    assert dead.returncode == -9
    with store.engine.connect() as db:
        assert db.execute(select(func.count()).select_from(schema.answer)).scalar_one() == 0
    view = claim(store, ada, c).views[0]
    assert view.draft == {"outcome": "left"} and view.previous is None
    alive = process(place, tmp_path / "pictures", c, "ada")
    assert alive.stdout is not None
    receipts = [int(alive.stdout.readline())]
    alive.kill()  # at any moment after a receipt
    receipts += [int(line) for line in alive.stdout]
    with store.engine.connect() as db:
        there = set(db.execute(select(schema.answer.c.id)).scalars())
        counted = db.execute(select(func.sum(schema.item.c.answered))).scalar_one()
    assert set(receipts) <= there and counted == len(there)
    store.close()
