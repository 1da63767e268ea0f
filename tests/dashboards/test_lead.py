"""The lead's and the adjudicator's pages: right numbers, sentences where there are none, exports, blind first."""

from __future__ import annotations

import io
import itertools
import json
import time
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from dashboards.annotate.lead import create_page, export_page, wins_page
from dashboards.annotate.viewer import paint_times
from preference_data.campaign import adjudication, answering, assignment, campaigns
from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.outcomes import Answer
from preference_data.campaign.quality import campaign_progress
from preference_data.campaign.quality.campaign_progress import Wins
from preference_data.store import accounts, schema
from preference_data.store.roles import Forbidden
from preference_data.store.store import Store
from tests.fixtures.desk_of_pictures import PLAIN, fill, picture, staffed

TWO = CampaignSettings(overlap=2, cap=2, gold_share=0.0, repeat_share=0.0, attention_share=0.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return staffed(tmp_path)


def number(store: Store, name: str) -> int:
    return int(store.read(lambda db: accounts.by_name(db, name)).id)


def page(store: Store, module: str, name: str, language: str = "en") -> AppTest:
    at = AppTest.from_string(f"from dashboards.annotate.lead import {module} as m\nm.page()\n", default_timeout=600)
    row = store.read(lambda db: accounts.by_name(db, name))
    at.session_state["who"], at.session_state["language"] = (row.id, row.session), language
    at.run()
    assert not at.exception, [e.value for e in at.exception]
    return at


def disagree(store: Store, campaign: int) -> None:
    """Ann and Bob prefer different images of every pair; of every second pair Ann prefers the first."""
    for name, turn in (("ann", 1), ("bob", 0)):
        actor = number(store, name)
        while views := assignment.claim(store, actor, campaign).views:
            view = views[0]
            row = store.read(lambda db, v=view: db.execute(
                select(schema.assignment).where(schema.assignment.c.token == v.token)).one())  # fmt: skip
            first = row.item_id % 2 == turn
            outcome = "left" if (row.slots[0] == 0) == first else "right"
            answering.answer(
                store, actor, view.token, Answer(outcome, rationale=f"{name} thinks so"), f"{view.token}:0"
            )


def press(at: AppTest, start: str) -> None:
    next(b for b in at.button if b.key.startswith(start)).click().run()


def look(at: AppTest, seconds: float = 1.0) -> None:
    """Let the case have been on the screen for so long."""
    showing, sent_at = at.session_state["case_sent"]
    at.session_state["case_sent"] = (showing, sent_at - seconds)


def test_a_case_is_decided_only_after_a_look_at_it_and_at_the_others_answers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paint_times, "UNPAINTED", 60.0)  # however slow this machine is
    now = time.time()
    store.clock = lambda: now
    disagree(store, fill(store, ["a wall"], TWO))
    judy, at = number(store, "judy"), page(store, "adjudicate_page", "judy")

    def stages() -> list[str]:
        asked = select(schema.answer.c.stage).order_by(schema.answer.c.id)
        return store.read(lambda db: list(db.execute(asked).scalars()))[2:]

    def painted(seconds: float) -> None:
        paint_times.note(judy, at.session_state["case_sent"][0], store.clock() - seconds)

    def pressed(start: str) -> bool:
        press(at, start)
        return not [i for i in at.info if "quicker than anybody" in i.value]

    look(at, 5.0)
    painted(0.0)
    assert not pressed("blind_left") and stages() == [], "sent long ago and painted just now"
    painted(1.0)
    assert pressed("blind_left") and stages() == ["blind"]
    for start in ("final_left", "final_flag"):
        assert not pressed(start) and stages() == ["blind"], "a second press was meant for the blind answer"
    look(at)
    assert not pressed("final_left"), "this browser reports its paints, and what the others said is not painted yet"
    look(at, 100.0)
    painted(1.0)
    assert pressed("final_left") and stages() == ["blind", "revealed"]


def test_an_adjudicator_answers_blind_then_sees_then_decides(store: Store) -> None:
    campaign = fill(store, ["a wall"], TWO)
    disagree(store, campaign)
    at = page(store, "adjudicate_page", "judy")
    assert not at.dataframe and not any("thinks so" in str(e) for e in at.main), "the others' answers are not there yet"
    look(at)
    press(at, "blind_left")
    assert not at.exception and len(at.dataframe[0].value) == 2
    look(at)
    press(at, "why_matter_of_taste")
    press(at, "final_right")
    assert not at.exception and [s.value for s in at.success] == ["Nothing waits for you."]
    stages = store.read(lambda db: db.execute(select(schema.answer.c.stage, schema.answer.c.outcome)).all())
    assert [tuple(s) for s in stages][2:] == [("blind", "left"), ("revealed", "right")]


def test_a_case_is_held_while_its_page_is_used(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[tuple] = []
    monkeypatch.setattr(adjudication, "heartbeat", lambda *told: beats.append(told))
    disagree(store, fill(store, ["a wall"], TWO))
    page(store, "adjudicate_page", "judy")
    assert [told[1] for told in beats] == [number(store, "judy")]


def test_a_closed_account_can_be_opened_again(store: Store) -> None:
    at = page(store, "people_page", "root")
    close = f"close_{number(store, 'ann')}"
    next(b for b in at.button if b.key == close).click().run()
    with pytest.raises(Forbidden):
        campaign_progress.offers(store, number(store, "ann"))
    assert any(t.value == "ann  (closed)" for t in at.text)
    button = next(b for b in at.button if b.key == close)
    assert button.label == "Activate"
    button.click().run()
    assert campaign_progress.offers(store, number(store, "ann")) == [] and any(t.value == "ann" for t in at.text)


def test_quality_says_why_there_is_no_number(store: Store) -> None:
    fill(store, ["a wall"])
    shown = page(store, "quality_page", "lea")
    table = shown.dataframe[0].value
    assert set(table["Value"]) == {"–"} and all(table["Why undefined"].str.len() > 10)
    assert shown.info[0].value.startswith("No decided answer yet")
    chinese = page(store, "quality_page", "lea", "zh").dataframe[0].value
    assert [name.split()[0] for name in chinese["系数"]] == ["Krippendorff", "Krippendorff", "Cohen", "Gwet"]
    assert all(why.startswith("未定义") for why in chinese["未定义的原因"])


def test_opposite_answers_agree_less_than_chance(store: Store) -> None:
    campaign = fill(store, [f"wall {i}" for i in range(6)], TWO)
    disagree(store, campaign)
    table = page(store, "quality_page", "lea").dataframe[0].value
    assert len(table) == 4 and all(float(value) < -0.1 for value in table["Value"]), table
    assert set(table["Observed agreement"]) == {"0.0%"}
    assert next(iter(page(store, "progress_page", "lea").metric)).value == "12"


def test_win_rates_count_decided_answers_only() -> None:
    rows = wins_page.matrix([Wins("a", "b", 3, 1, 5, 0, 2, "p"), Wins("a", "b", 1, 1, 0, 0, 0, "q")], "en")
    assert rows == [{"Maker": "a", "a": "–", "b": "67% (6)"}, {"Maker": "b", "a": "33% (6)", "b": "–"}]


def test_exports_hold_what_was_said_and_no_names(store: Store) -> None:
    campaign = fill(store, ["=1+1"], TWO)
    disagree(store, campaign)
    content, *_ = export_page.archive(number(store, "lea"), campaign, "jsonl", "aside", "answers")
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        told = file.read("jsonl.jsonl").decode()
        assert told.count('"outcome"') >= 2 and '"ann"' not in told and len(file.namelist()) == 3
    for make in export_page.tables(number(store, "lea"), campaign, "en").values():
        table = export_page.csv_text(make())
        assert not {"ann", "bob"} & set(table.replace("\r\n", ",").split(",")), "files hold pseudonyms"
    assert "ann" in str(page(store, "quality_page", "lea").dataframe[-1].value), "a lead sees who it is"
    assert "'=1+1" in export_page.csv_text([{"prompt": "=1+1"}]), "a spreadsheet must not run what a prompt says"
    page(store, "export_page", "lea")
    page(store, "wins_page", "lea")


@pytest.mark.parametrize("kind", ["pair", "best_worst"])
def test_a_campaign_from_folders(store: Store, tmp_path: Path, kind: str) -> None:
    for i, maker in enumerate(("one", "two", "three")):
        folder = tmp_path / "runs" / maker
        folder.mkdir(parents=True)
        ref = picture(store, 100 + i, maker)
        (folder / "a.png").write_bytes(store.images.path(ref.sha256).read_bytes())
        (folder / "a.txt").write_text("a wall")
    settings = PLAIN if kind == "pair" else CampaignSettings("best_worst", 1, 1, gold_share=0, attention_share=0)
    given = {"place": "one\ntwo\nthree", "uploads": [], "prompts": (b"a wall\na door\n", "p.txt"), "limit": 0}
    made = create_page.make(number(store, "lea"), "c", "from_folders", given, settings)
    assert made == (3 if kind == "pair" else 1)
    views = assignment.claim(store, number(store, "ann"), "c").views
    assert len(views[0].images) == (2 if kind == "pair" else 3) and views[0].prompt == "a wall"
    if kind == "best_worst":
        with pytest.raises(ValueError, match="compare two images"):
            create_page.make(number(store, "lea"), "e", "from_folders", {**given, "gold": "gold.jsonl"}, settings)
    with pytest.raises(ValueError, match="nothing is left"):
        create_page.make(number(store, "lea"), "d", "from_folders", {**given, "prompts": (b"else", "p.txt")}, settings)
    assert [c.name for c in campaigns.listed(store, store.operator)] == ["c"]


def test_all_at_once_shows_an_image_of_every_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create_page, "PER_PROMPT", 1)
    for i, (maker, prompt) in enumerate(itertools.product(("one", "two", "three"), ("a", "b"))):
        folder = tmp_path / "runs" / maker
        folder.mkdir(parents=True, exist_ok=True)
        ref = picture(store, 300 + i, maker)
        (folder / f"{prompt}.png").write_bytes(store.images.path(ref.sha256).read_bytes())
        (folder / f"{prompt}.txt").write_text(prompt)
    given = {"place": "one\ntwo\nthree"}
    items = create_page.all_at_once(create_page.gather("from_folders", given, tmp_path, "best_worst"))
    assert [sorted(item.labels) for item in items] == [["one", "three", "two"]] * 2
    assert len(create_page.gather("from_folders", given, tmp_path)) == 2
    sent = [
        (maker.name, [SimpleNamespace(name=f.name, getvalue=f.read_bytes) for f in sorted(maker.iterdir())])
        for maker in sorted((tmp_path / "runs").iterdir())
    ]
    (tmp_path / "scratch").mkdir()
    assert len(create_page.gather("from_uploads", {"uploads": sent}, tmp_path / "scratch", "best_worst")) == 6


def test_a_form_can_add_what_is_known(store: Store, tmp_path: Path) -> None:
    for i, maker in enumerate(("one", "two")):
        folder = tmp_path / "runs" / maker
        folder.mkdir(parents=True)
        for n in range(3):
            ref = picture(store, 200 + 10 * i + n, maker)
            (folder / f"{n}.png").write_bytes(store.images.path(ref.sha256).read_bytes())
            (folder / f"{n}.txt").write_text(f"a wall {n}")
    line = {"prompt": "a wall 0", "left": "one/0.png", "right": "two/0.png", "expected": "left"}
    (tmp_path / "runs" / "gold.jsonl").write_text(json.dumps(line))
    given = {"place": "one\ntwo", "uploads": [], "prompts": None, "limit": 0, "gold": "gold.jsonl"}
    settings = CampaignSettings(overlap=1, cap=1, gold_share=0.1, attention_share=0.1)
    assert create_page.make(number(store, "lea"), "c", "from_folders", given, settings) == 3
    kinds = store.read(lambda db: list(db.execute(select(schema.item.c.kind)).scalars()))
    assert Counter(kinds) == {"work": 2, "gold": 1, "attention": 3}, "what is gold is no work"
    with pytest.raises(ValueError, match="lies outside"):
        create_page.make(number(store, "lea"), "d", "from_folders", {**given, "gold": "../x.jsonl"}, settings)
    assert [c.name for c in campaigns.listed(store, store.operator)] == ["c"]
