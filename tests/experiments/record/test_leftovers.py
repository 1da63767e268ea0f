"""A command that fails leaves nothing in the way of its next try, and never removes work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.cli import main
from experiments.configs import nano
from experiments.record.leftovers import INSTALLED, nothing_recorded, removed_on_error
from experiments.record.record import RunRecord
from preference_data.campaign import campaigns
from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.campaigns import Item
from preference_data.records import ImageRef, Prompt, Provenance
from preference_data.store.store import Store, exists


def failing(folder: Path, make: object, error: BaseException | None = None) -> None:
    """Fail in `folder` after `make` put something there."""
    with pytest.raises(type(error or ValueError())), removed_on_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)  # type: ignore[operator]
        raise error or ValueError("no")


def scaffold(folder: Path) -> None:
    """What a run makes before its first update."""
    with pytest.raises(ValueError), RunRecord.open(folder, {"a": 1}).running():
        raise ValueError("no")
    for name in ("metrics.jsonl", "encoder.safetensors", "report.html", "memory.json"):
        (folder / name).touch()
    (folder / "metrics.jsonl").write_text('{"step": 0, "los')  # of a process that was killed while it wrote
    (folder / "samples").mkdir()


def logged(folder: Path) -> None:
    scaffold(folder)
    (folder / "metrics.jsonl").write_text('{"step": 0, "seconds": 1.0}\n')


WORK = {
    "an update": logged,
    "a model": lambda folder: (folder / "model").mkdir() or (folder / "model" / "x").touch(),
    "drawn pairs": lambda folder: (folder / "pairs_parts" / "000000").mkdir(parents=True),
    "encoded texts": lambda folder: (folder / "embeddings").mkdir() or (folder / "embeddings" / "x").touch(),
    "somebody's file": lambda folder: (folder / "notes.txt").touch(),
    "an update inside": lambda folder: (scaffold(folder), logged(folder / "stage")),
    "a file inside": lambda folder: (scaffold(folder), scaffold(folder / "stage"), (folder / "stage" / "x").touch()),
}


@pytest.mark.parametrize("stage", ["", "stage", "a/b"])
def test_what_was_made_without_work_is_removed(tmp_path, stage):
    folder = tmp_path / "run"
    failing(folder, lambda made: [scaffold(made), scaffold(made / stage) if stage == "stage" else None])
    assert not folder.exists()
    failing(folder / stage, scaffold)
    assert not (folder / stage).exists() or not stage


@pytest.mark.parametrize("name", WORK)
def test_work_is_kept(tmp_path, name):
    failing(tmp_path / "run", WORK[name])
    assert any((tmp_path / "run").iterdir())


def test_a_folder_that_was_there_stays(tmp_path):
    (tmp_path / "empty").mkdir()
    failing(tmp_path / "empty", scaffold)
    assert (tmp_path / "empty").is_dir() and not list((tmp_path / "empty").iterdir())
    scaffold(tmp_path / "older")
    failing(tmp_path / "older", lambda folder: None)
    assert (tmp_path / "older" / "run.json").exists()


def test_ctrl_c_and_success_remove_nothing(tmp_path):
    failing(tmp_path / "stopped", scaffold, KeyboardInterrupt())
    with removed_on_error(tmp_path / "fine"):
        scaffold(tmp_path / "fine")
    assert (tmp_path / "stopped" / "run.json").exists() and (tmp_path / "fine" / "run.json").exists()


@pytest.mark.parametrize("stage", [".", "stage"])
def test_where_another_process_works_nothing_is_removed(tmp_path, stage):
    folder = tmp_path / "run"
    with pytest.raises(ValueError), removed_on_error(folder):
        scaffold(folder)
        with RunRecord.open(folder / stage, {"a": 1}).running():
            assert not nothing_recorded(folder)
            with removed_on_error(folder, lambda made: nothing_recorded(made)):  # it was there, so it stays anyway
                pass
        raise ValueError("no")
    assert not folder.exists(), "once nobody works there it goes"


def test_a_link_is_removed_and_not_what_it_names(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").touch()
    (tmp_path / "run").mkdir()
    failing(tmp_path / "run", lambda folder: (folder / ".linked").symlink_to(tmp_path / "data"))
    assert not list((tmp_path / "run").iterdir()) and (tmp_path / "data" / "x").exists()


def refused(capsys: pytest.CaptureFixture[str], *line: object) -> str:
    assert main([str(part) for part in line]) == 2
    return capsys.readouterr().err


def images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for i in range(count):
        Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("the word A")
    return folder


@pytest.mark.parametrize(
    "line",
    [
        ["train", "nano_sft", "--parent", "nowhere"], ["train", "nano_grpo"],
        ["train", "nano_dpo", "--pairs", "none.jsonl"],
        ["train", "nano_kto", "--pairs", "store:words"], ["train", "nano_sft", "--pairs", "none.jsonl"],
        ["sweep", "nano_sft", "--over", "optim.adamw_lr=1e-4,1e-5"], ["sweep", "nano_grpo", "--seeds", "0,1"],
        ["ablate", "editing", "--parent", "nowhere"], ["import-lora", "none.safetensors", "--base", "nowhere"],
        ["pairs", "from-scores", "nowhere"], ["compare-rewards", "--pairs", "none.jsonl", "--rewards", "ocr"],
        ["train-reward", "--pairs", "none.jsonl"], ["export-vae", "nowhere", "--base", "nowhere"],
    ],
    ids=lambda line: " ".join(line[:3]),
)  # fmt: skip
def test_a_command_that_fails_leaves_no_folder(line, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = refused(capsys, *line, "-o", "made/run")
    assert not list(tmp_path.iterdir()) and "0%|" not in text, "a folder, or a bar of what never began"


def test_the_next_try_may_have_other_settings(tmp_path, capsys):
    out = tmp_path / "sweep"
    for more in ([], ["--parent", str(tmp_path / "nowhere")], ["--seeds", "3"]):
        assert "other settings" not in refused(capsys, "sweep", "nano_sft", "-o", out, *more)
    out = tmp_path / "run"
    for more in ([], ["--parent", str(tmp_path / "nowhere")], ["--algorithm.steps", "3"]):
        assert "other settings" not in refused(capsys, "train", "nano_dpo", "--pairs", "none", "-o", out, *more)


def test_a_killed_run_that_had_not_begun_is_begun_anew(tmp_path):
    """Also one of several stages, and one that was made and never started."""
    for i, make in enumerate((scaffold, lambda f: (scaffold(f), scaffold(f / "stage")), lambda f: None)):
        folder = tmp_path / str(i)
        RunRecord.open(folder, {"a": 1})
        make(folder)
        assert RunRecord.open(folder, {"a": 2}).config == {"a": 2}
    logged(folder / "stage")
    with pytest.raises(ValueError, match="other settings"):
        RunRecord.open(folder, {"a": 3})


def test_installed_pairs_are_no_work_but_drawn_ones_are(tmp_path):
    (tmp_path / "pairs.jsonl").touch()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    assert nothing_recorded(tmp_path, INSTALLED) and not nothing_recorded(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        ["campaign", "create", "words", "nowhere"], ["campaign", "create", "words", "one"],
        ["campaign", "create", "words"],
        ["pairs", "import", "bad.jsonl", "words"], ["account", "add", "ada", "--role", "king"],
        ["annotate", "--run-folder", "made_up", "--port", "8993"],
    ],
    ids=lambda line: " ".join(line[:4]),
)  # fmt: skip
def test_a_store_made_for_work_that_failed_is_removed(line, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images(tmp_path / "one", 1)
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n')
    with RunRecord.open(tmp_path / "made_up", {"chain": {}}).running():
        pass
    try:
        refused(capsys, *line, "--store", "store")
    except SystemExit as ended:  # of a role that is none
        assert ended.code == 2
    assert not (tmp_path / "store").exists()


def test_a_store_that_was_there_stays_and_the_name_is_free(tmp_path, capsys):
    Store.open(tmp_path / "store").close()
    where = ("--store", tmp_path / "store")
    refused(capsys, "campaign", "create", "words", images(tmp_path / "one", 1), *where)
    assert exists(tmp_path / "store")
    assert main([str(x) for x in ("campaign", "create", "words", images(tmp_path / "two", 2), *where)]) == 0
    taken = refused(capsys, "campaign", "create", "words", tmp_path / "nowhere", *where)
    assert "already" in taken, "the name is looked at before anything is gathered"


@pytest.mark.parametrize("start", [True, False])
def test_a_campaign_is_made_with_its_items_or_not_at_all(tmp_path, start):
    store = Store.open(tmp_path / "store")
    made = Provenance("m", "", 0, 1, 1.0, "run", 0)
    shown = tuple(ImageRef(f"{i:064x}", f"{i}.png", 8, 8, made) for i in range(3))
    good, bad = (Item(Prompt.from_text("the word A"), shown[:count]) for count in (2, 3))

    def fill(*items: Item) -> int:
        return campaigns.create_filled(store, store.operator, "words", CampaignSettings(), items, "x", start)[1]

    with pytest.raises(ValueError, match="compares two"):
        fill(good, bad)
    if start:
        with pytest.raises(ValueError, match="no items"):
            fill()
    assert not campaigns.listed(store, store.operator)
    assert fill(good) == 1
    assert [c.state for c in campaigns.listed(store, store.operator)] == ["open" if start else "draft"]
    with pytest.raises(ValueError, match="already"):
        fill(good)
    store.close()


@pytest.mark.parametrize("out", ["folder", "file/x.png"])
def test_an_image_that_cannot_be_written_is_refused_at_once(out, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for line in (["sample", "run", "the word A"], ["sample", "--base", "none", "a"], ["edit", "none", "b"]):
        text = refused(capsys, *line, "-o", tmp_path / out)
        assert str((tmp_path / out).parent) in text and "; name " in text and "Errno" not in text


def test_scores_that_cannot_be_written_are_refused_at_once(tmp_path, capsys):
    (tmp_path / "file").touch()
    text = refused(capsys, "score", images(tmp_path / "one", 1), "-o", tmp_path / "file" / "x")
    assert f"because {tmp_path / 'file'} is a file" in text


def test_a_comparison_keeps_what_was_judged(tmp_path, capsys, monkeypatch):
    from experiments.reward_models import compare_rewards as command
    from tests.fixtures.simulated_taste import simulate, write

    pairs = write(simulate(6, seed=2), tmp_path / "answers")
    line = ("compare-rewards", "--pairs", pairs, "-o", tmp_path / "out", "--probe-images", 0)
    assert "no reward to compare" in refused(capsys, *line)
    assert not (tmp_path / "out").exists()
    others = write(simulate(6, seed=3), tmp_path / "others")
    assert "judges none of the" in refused(capsys, *line, "--judged", others)
    assert not (tmp_path / "out").exists(), "facts about pixels are quickly made again"

    def fail(*given: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr(command, "build", fail)
    refused(capsys, *line, "--rewards", "brisque")
    assert (tmp_path / "out" / "scores.sqlite").exists()


def test_the_settings_of_the_last_try_are_those_that_stand(tmp_path, capsys):
    """Of a run that was killed before it began."""
    RunRecord.open(tmp_path / "run", {"experiment": {"name": "x"}, "parent": ""})
    refused(capsys, "train", "nano_sft", "-o", tmp_path / "run", "--parent", tmp_path / "nowhere")
    state = json.loads((tmp_path / "run" / "run.json").read_text())
    assert state["config"]["experiment"]["name"] == nano.sft.name and state["status"] == "failed"
