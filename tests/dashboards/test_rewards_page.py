"""The Rewards page: filter, sort, open a disagreement, send it to annotators."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest

from dashboards.annotate import server
from dashboards.rewards import __main__ as command
from dashboards.rewards import comparison_rows, served_comparison
from dashboards.rewards.send_campaign import send
from experiments.record.whole_files import write_json
from preference_data.campaign import campaigns
from preference_data.comparisons import load
from preference_data.store import accounts
from preference_data.store.store import Store
from rewards.comparison.compare import Measured, compare
from rewards.comparison.score_table import build, images_of
from tests.fixtures.desk_of_pictures import staffed
from tests.fixtures.simulated_taste import simulate, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of the truth and of its opposite."""
    place = tmp_path_factory.mktemp("comparison")
    world = simulate(80, seed=2)
    pairs = write(world, place)
    comparisons = load(pairs)
    u = np.array([world.utility[p.image.sha256] for p in images_of(comparisons)])
    report = compare(comparisons, build(comparisons, {"truth": u, "opposite": -u}), Measured(), resamples=200)
    report["about"] = {"pictures": str(place), "made": "today"}
    write_json(place / "comparison.json", report)
    return place


def page(folder: str, store: str) -> None:
    from dashboards.rewards.app import show
    from preference_data.store.store import Store

    place = Store.open(store) if store else None
    show(folder, place, place.operator if place is not None else None)


def opened(folder: Path, store: str = "") -> AppTest:
    app = AppTest.from_function(page, args=(str(folder), store), default_timeout=60).run()
    assert not app.exception
    return app


def listed(app: AppTest) -> list[str]:
    return [t.value for t in app.text]


def test_rows_are_filtered_and_sorted(folder: Path) -> None:
    rows = comparison_rows.disagreements(comparison_rows.read(folder))
    against = comparison_rows.chosen(rows, "opposite")
    assert 0 < len(against) < len(rows) and all(r.against("opposite") > 0 for r in against)
    assert [r.against("opposite") for r in against] == sorted((r.against("opposite") for r in against), reverse=True)
    warm = comparison_rows.chosen(rows, category="warm", words="SCENE 2-1", sort="prompt")
    assert warm and all("warm" in r.prompt.category and "scene 2-1" in r.prompt.text for r in warm)
    assert [r.prompt.text for r in warm] == sorted(r.prompt.text for r in warm)


def test_the_page_shows_the_answer_and_filters(folder: Path) -> None:
    app = opened(folder)
    report = json.loads((folder / "comparison.json").read_text())
    assert app.subheader[0].value == report["advice"]["answer"] and "truth" in app.subheader[0].value
    before = app.caption[0].value
    app.selectbox(key="reward").select("truth").run()
    assert app.caption[0].value != before and not app.exception
    app.text_input(key="words").input("no such words").run()
    assert app.caption[0].value.startswith("0 of") and not listed(app)


def test_a_pair_has_its_pictures_side_by_side_and_what_each_reward_said(folder: Path) -> None:
    app = opened(folder)
    first = comparison_rows.chosen(comparison_rows.disagreements(comparison_rows.read(folder)))[0]
    assert not app.warning and set(app.dataframe[-1].value["reward"]) == {"truth", "opposite"}
    captions = [caption for image in app.get("image")[:2] for caption in image.captions]
    assert len(captions) == 2 and sum("preferred by people" in c for c in captions) == (first.people != 0)


SCRIPT = str(Path(__file__).parents[2] / "dashboards" / "rewards" / "app.py")


@pytest.mark.parametrize(
    ("name", "sees"), [("", False), ("ann", False), ("judy", False), ("lea", True), ("root", True)]
)
def test_the_page_asks_for_a_leads_account(
    folder: Path, tmp_path: Path, name: str, sees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.annotate.current_user.cookie", lambda: "")
    store = staffed(tmp_path)
    served_comparison.use(folder)
    app = AppTest.from_file(SCRIPT, default_timeout=60)
    if name:
        who = store.read(lambda db: accounts.by_name(db, name))
        app.session_state["who"] = (who.id, who.session)
    app.run()
    assert not app.exception and bool(app.subheader) == bool(app.dataframe) == bool(app.get("image")) == sees
    assert [b for b in app.button if b.key == "send"] != [] if sees else True


def test_without_its_own_server_the_script_shows_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_comparison, "_folder", [])
    app = AppTest.from_file(SCRIPT, default_timeout=60).run()
    assert "python -m dashboards.rewards" in app.error[0].value and not app.dataframe and not app.markdown


def test_it_listens_on_this_machine_and_needs_the_store_whose_people_sign_in(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(command, "serve", lambda address, *rest: served.append((address, [r.path for r in rest[2]])))
    with pytest.raises(SystemExit):
        command.main([str(folder), "--store", str(tmp_path / "none")])
    assert "so nobody could sign in" in capsys.readouterr().err and not served and not (tmp_path / "none").exists()
    Store.open(tmp_path / "store").close()
    monkeypatch.setattr("sys.argv", ["x"])
    assert command.main([str(folder), "--store", str(tmp_path / "store")]) == 0
    ((address, routes),) = served
    assert address == "127.0.0.1" and set(routes) == {"/session", "/health"}, "and no image of another campaign"


def test_nothing_of_a_script_or_of_streamlit_itself_stands_on_the_page() -> None:
    """Streamlit shows a bare value of a script, such as a comment in quotes below a constant, and a Deploy button."""
    assert server.CONFIG["runner.magicEnabled"] is False and server.CONFIG["client.toolbarMode"] == "minimal"


def test_numbers_are_written_for_people() -> None:
    from dashboards.rewards.app import written

    assert written("right", 0.7542) == "75.4 %" and written("p, Holm", 0.00000000005) == "5e-11"
    assert written("pairs", 80) == 80 and written("gap", float("nan")) == "–" and written("few", True) is True


def test_chosen_pairs_become_a_blind_campaign_once(folder: Path, tmp_path: Path) -> None:
    app = opened(folder, str(tmp_path / "store"))
    assert app.button(key="send").disabled
    rows = comparison_rows.chosen(comparison_rows.disagreements(comparison_rows.read(folder)))[:2]
    for row in rows:
        app.checkbox(key=f"pick-{row.name}").check()
    app.run()
    app.button(key="send").click().run()
    assert "2 pairs are in the new campaign 'reward disagreements'" in app.success[0].value
    app.button(key="send").click().run()
    assert "0 pairs are in the campaign" in app.success[0].value
    store = Store.open(tmp_path / "store")
    made = campaigns.get(store, store.operator, "reward disagreements")
    assert made.state == "open" and made.settings.policy["reward_disagreement"] > 0
    assert all(store.images.path(i.sha256).exists() for r in rows for i in (r.left, r.right))


def test_a_changed_or_missing_picture_is_refused(folder: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    rows = comparison_rows.disagreements(comparison_rows.read(folder))
    with pytest.raises(ValueError, match="not below"):
        send(store, store.operator, "c", rows[:1], tmp_path)
    (tmp_path / "pictures").mkdir()
    for image in (rows[0].left, rows[0].right):
        other = rows[0].right if image is rows[0].left else rows[0].left
        data = (folder / other.path).read_bytes()
        (tmp_path / image.path).write_bytes(data)
    with pytest.raises(ValueError, match="has changed"):
        send(store, store.operator, "c", rows[:1], tmp_path)
    with pytest.raises(ValueError, match="choose at least one"):
        send(store, store.operator, "c", [], tmp_path)
    assert not campaigns.listed(store, store.operator)


def test_saved_pairs_read_back(folder: Path, tmp_path: Path) -> None:
    rows = comparison_rows.disagreements(comparison_rows.read(folder))[:3]
    (tmp_path / "pairs.jsonl").write_text(comparison_rows.as_jsonl(rows), encoding="utf-8")
    back = load(tmp_path / "pairs.jsonl")
    assert [(c.left, c.right) for c in back] == [(r.left, r.right) for r in rows]


def test_a_folder_without_a_report_is_an_error_on_the_page(tmp_path: Path) -> None:
    app = opened(tmp_path)
    assert "glyphlab compare-rewards" in app.error[0].value
    (tmp_path / "comparison.json").write_text("{")
    assert "damaged" in opened(tmp_path).error[0].value
