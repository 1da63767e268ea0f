"""Trackio and MLflow keep a run in a database of their own: read with their own readers, without a network."""

from __future__ import annotations

import math
import os
import socket
import sqlite3
import threading
from pathlib import Path
from typing import Any, get_args

import pytest

from experiments import cli
from experiments.record.record import RunRecord, read_run
from experiments.tracking import mirror as mirror_module
from experiments.tracking import trackers
from experiments.tracking.mirror import mirror
from experiments.tracking.to_mlflow import flat, plain_name
from tests.experiments.tracking.test_mirror import made_run


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection to anywhere, whatever the environment asks for."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a tracker that is offline opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/space")
    monkeypatch.setenv("TRACKIO_WEBHOOK_URL", "https://example.com/hook")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://example.com")


def more(folder: Path) -> None:
    """One more update of the run."""
    record = RunRecord.read(folder)
    with record.running():
        record.log(4, {"loss": 0.05})


def test_trackio_keeps_the_run_on_disk(tmp_path, alone, capsys):
    pytest.importorskip("trackio")
    folder = made_run(tmp_path / "run")
    assert mirror(folder, "trackio") == 10 and mirror(folder, "trackio") == 0
    more(folder)
    other = made_run(tmp_path / "other", 2)
    assert mirror(other, "trackio") == 8, "another folder in the same process"
    assert mirror(folder, "trackio") == 1
    assert "Trackio" not in capsys.readouterr().out
    from trackio.sqlite_storage import SQLiteStorage

    assert SQLiteStorage.get_runs("glyphlab") == ["run"]
    rows = SQLiteStorage.get_logs("glyphlab", "run")
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert losses == pytest.approx({line["step"]: line["loss"] for line in read_run(folder).metrics})
    assert math.isnan(next(row for row in rows if row["step"] == 1)["reward"])
    images = [(row["step"], row["samples/00"]["caption"]) for row in rows if "samples/00" in row]
    assert images == [(1, "the word A"), (3, "the word A")]
    media = folder / "tracking" / "trackio" / "media"
    stored = {row["samples/00"]["file_path"] for row in rows if "samples/00" in row}
    assert all((media / path).stat().st_size > 0 for path in stored) and len(stored) == 2
    assert SQLiteStorage.get_run_config("glyphlab", "run")["experiment"]["seed"] == 7
    (alarm,) = SQLiteStorage.get_alerts("glyphlab")
    assert alarm["title"] == "diversity" and "update 2" in alarm["text"] and "images became alike" in alarm["text"]
    assert os.environ["TRACKIO_DIR"] == str(folder.resolve() / "tracking" / "trackio")


def test_mlflow_keeps_the_run_on_disk(tmp_path, alone):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    folder = made_run(tmp_path / "run")
    assert cli.main(["track", str(folder), "--to", "mlflow"]) == 0
    more(folder)
    assert cli.main(["track", str(folder), "--to", "mlflow"]) == 0
    client = MlflowClient(f"sqlite:///{folder / 'tracking' / 'mlflow' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("glyphlab").experiment_id])
    assert run.info.run_name == "run" and run.info.status == "FINISHED"
    assert run.data.params["experiment.seed"] == "7" and run.data.params["experiment.name"] == "nano_grpo"
    history = {metric.step: metric for metric in client.get_metric_history(run.info.run_id, "loss")}
    lines = read_run(folder).metrics
    assert {step: metric.value for step, metric in history.items()} == {line["step"]: line["loss"] for line in lines}
    assert abs(history[0].timestamp / 1000 - mirror_module.moment(read_run(folder), lines[0]["seconds"])) < 0.01
    rewards = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "reward")}
    assert math.isnan(rewards[1]) and rewards[3] == pytest.approx(0.3)
    files = [file.name for file in (folder / "tracking" / "mlflow" / "artifacts").rglob("*.png")]
    assert len(files) == 5 and sum(name.startswith(("samples~00", "samples#00")) for name in files) == 2
    assert run.data.tags["caption.samples/01"] == "the word B"
    assert "images became alike" in run.data.tags["alarm.2.diversity"]
    (text,) = (folder / "tracking" / "mlflow" / "artifacts").rglob("alarms/*.txt")
    assert text.name == "step_000002_diversity.txt"
    with sqlite3.connect(folder / "tracking" / "mlflow" / "mlflow.db") as database:
        assert database.execute("select count(*) from metrics where key='loss'").fetchone() == (5,), "nothing twice"


def test_names_and_settings_as_mlflow_takes_them():
    assert plain_name("part/0.7*ocr+learned:runs/r") == "part/0.7_ocr_learned:runs/r"
    assert list(flat({"a": {"b": [1, 2], "c": None}, "d": 1e-5}, "")) == [("a.b", "[1, 2]"), ("a.c", "None"),
                                                                         ("d", "1e-05")]  # fmt: skip


@pytest.mark.parametrize(("name", "variable"), [("mlflow", "MLFLOW_TRACKING_URI"), ("trackio", "TRACKIO_SPACE_ID")])
def test_online_needs_an_address(name, variable, tmp_path, monkeypatch, capsys):
    for each in ("MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(each, raising=False)
    assert cli.main(["track", str(made_run(tmp_path / "run")), "--to", name, "--online"]) == 2
    assert variable in capsys.readouterr().err


def test_the_options_are_the_trackers_there_are_and_each_says_how_it_is_installed(monkeypatch):
    assert set(get_args(trackers.TrackerName)) == set(trackers.TRACKERS)
    monkeypatch.setattr(mirror_module.importlib.util, "find_spec", lambda name: None)
    for name, extra in (("wandb", "track"), ("trackio", "trackio"), ("mlflow", "mlflow")):
        with pytest.raises(ValueError, match=rf"glyphlab\[{extra}\]"):
            mirror_module.require_installed([name])


@pytest.mark.parametrize("name", trackers.TRACKERS)
@pytest.mark.parametrize("fault", ["raises", "hangs"])
def test_whichever_tracker_fails_costs_a_run_nothing(name, fault, tmp_path, monkeypatch):
    release = threading.Event()

    def broken(*_: object) -> Any:
        if fault == "hangs":
            release.wait(30.0)
        raise OSError("the disk is gone")

    monkeypatch.setitem(trackers.TRACKERS, name, broken)
    monkeypatch.setattr(mirror_module, "end_when_it_hangs", lambda _: None)
    monkeypatch.setattr(mirror_module.os, "nice", lambda _: None)
    folder = tmp_path / "run"
    record = RunRecord.open(folder, {"experiment": {"name": "a", "seed": 1}})
    with record.running():
        thread = threading.Thread(target=mirror_module.main, args=([str(folder), name, "0"],), daemon=True)
        thread.start()
        for step in range(50):
            record.log(step, {"loss": 1.0})
    assert read_run(folder).status == "finished" and len(read_run(folder).metrics) == 50
    release.set()
    thread.join(20.0)
    assert "the disk is gone" in (folder / "tracking" / f"{name}.log").read_text()


def test_resume_starts_trackers_beside_and_not_for_a_finished_run(tmp_path, monkeypatch, capsys):
    started: list[tuple[object, ...]] = []
    monkeypatch.setattr(mirror_module, "start_side", lambda *given: started.append(given))
    monkeypatch.setattr(mirror_module.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr("experiments.resume.resume", lambda *_: Path("report.html"))
    monkeypatch.setattr("experiments.training.launch.conclude", lambda *_: [])
    RunRecord.open(tmp_path / "begun", {"experiment": {"name": "a", "seed": 1}})
    RunRecord.open(tmp_path / "chain", {"chain": {}})
    assert cli.main(["resume", str(tmp_path / "begun"), "--track", "mlflow", "trackio"]) == 0
    assert started == [(tmp_path / "begun", ("mlflow", "trackio"))]
    (tmp_path / "begun" / "tracking").mkdir()
    (tmp_path / "begun" / "tracking" / "mlflow.log").write_text("Traceback\nOSError: the disk is full\n")
    assert cli.main(["resume", str(tmp_path / "begun"), "--track", "mlflow"]) == 0 and len(started) == 2
    assert "the tracker mlflow failed" in capsys.readouterr().out
    del started[1:]
    assert cli.main(["resume", str(made_run(tmp_path / "done")), "--track", "mlflow"]) == 0 and len(started) == 1
    assert cli.main(["resume", str(tmp_path / "chain"), "--track", "mlflow"]) == 2
    assert "glyphlab track" in capsys.readouterr().err and len(started) == 1
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["resume", str(tmp_path / "begun"), "--track", "mlflow"]) == 0 and len(started) == 1
