"""`glyphlab annotate` finds something to work on, and makes it once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from sqlalchemy import select

from experiments.evaluation.outcome import own_evaluation
from experiments.evaluation.prompt_files import RequestedPrompt
from experiments.evaluation.scored_images import BEFORE, ScoredImages
from experiments.preferences.first_campaign import FIRST, ITEMS, prepare
from experiments.record.record import RunRecord
from experiments.record.whole_files import write_png
from preference_data.campaign import assignment, assignment_view
from preference_data.records import Prompt
from preference_data.store import accounts, schema
from preference_data.store.store import Store
from tests.fixtures.made_up_run import make_chain


def test_without_a_run_there_is_a_handful_and_one_account(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    made = prepare(store, tmp_path / "no_such_run")
    assert made.items >= 20 and len(made.password) >= 10
    account = accounts.log_in(store, FIRST, made.password)
    assert account.role == "admin"
    view = assignment.claim(store, account.id, made.campaign).views[0]
    assert view.spans and assignment_view.image_path(store, account.id, view.images[0].handle).exists()
    again = prepare(store, tmp_path / "no_such_run")
    assert (again.items, again.password, again.campaign) == (0, "", made.campaign)


def test_a_runs_stages_are_compared_with_what_was_read_in_them(tmp_path: Path) -> None:
    run = make_chain(tmp_path / "quickstart", count=6)
    store = Store.open(tmp_path / "s")
    made = prepare(store, run)
    assert made.campaign == "stages of quickstart" and 6 <= made.items <= ITEMS
    labels = store.read(lambda db: db.execute(select(schema.item.c.first_label, schema.item.c.second_label)).all())
    assert all(first != second for first, second in labels)
    engines = store.read(lambda db: set(db.execute(select(schema.reading.c.engine)).scalars()))
    assert engines == {"reward", "judge"}


def test_a_run_on_prompts_of_its_own_is_compared_with_what_it_began_from(tmp_path: Path) -> None:
    run = tmp_path / "sd35"
    record = RunRecord.open(run, {"experiment": {"name": "sd35m_grpo_lora", "seed": 7}})
    with record.running():
        record.log(0, {"loss": 1.0})
        record.log(1, {"loss": 1.0})
    prompts = [RequestedPrompt(Prompt.from_text(text)) for text in ("a red fox", "a shop sign", "a wall")]
    own = own_evaluation(run)
    for folder, shade in ((own, 0), (own / BEFORE, 100)):
        there = ScoredImages(folder, prompts, (0, 1), {})
        there.begin({})
        for point in there.points:
            same = 0 if point.index == 2 else shade + point.seed
            write_png(there.path(point), np.full((3, 8, 8), 10 * point.index + same, np.uint8))
        there.write_captions()
    store = Store.open(tmp_path / "s")
    made = prepare(store, run)
    assert made.campaign == "own prompts of sd35"
    assert made.items == 4, "two seeds of two prompts: there is nothing to compare in equal images"
    labels = store.read(lambda db: db.execute(select(schema.item.c.first_label, schema.item.c.second_label)).all())
    assert set(map(tuple, labels)) == {("sd35 (finished, update 1)", "before")}


def test_what_the_report_does_not_judge_is_no_reading_of_the_campaign(tmp_path: Path) -> None:
    run = make_chain(tmp_path / "quickstart", count=6)
    for file in run.glob("*/evaluation/*.json"):
        data = json.loads(file.read_text())
        for row in data["rows"]:
            row["judge_exact"] = row["judge_ned"] = None
        file.write_text(json.dumps(data))
    store = Store.open(tmp_path / "s")
    prepare(store, run)
    asked = select(schema.reading.c.engine, schema.reading.c.text)
    found = store.read(lambda db: db.execute(asked).all())
    assert all(text is None for engine, text in found if engine == "judge")
    assert any(text is not None for engine, text in found if engine == "reward")
