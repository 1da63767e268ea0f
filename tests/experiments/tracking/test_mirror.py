"""Trackers are told what a run's folder says, once and in order, and whatever they do costs the run nothing."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from experiments import cli
from experiments.record import record as record_module
from experiments.record.leftovers import is_locked
from experiments.record.record import RunRecord, read_run
from experiments.record.whole_files import write_png
from experiments.tracking import mirror as mirror_module
from experiments.tracking.mirror import follow, mirror, start_side
from experiments.tracking.trackers import TRACKERS

ALARM = {"rule": "diversity", "change": -0.4, "threshold": 0.3, "reason": "images became alike",
         "pictures": [{"picture": "step_000002_diversity_00.png", "start": "", "caption": "the word A"}]}  # fmt: skip


def made_run(folder: Path, steps: int = 4) -> Path:
    """A run with metrics, samples and an alarm."""
    record = RunRecord.open(folder, {"experiment": {"name": "nano_grpo", "seed": 7}})
    with record.running():
        for step in range(steps):
            record.log(step, {"loss": 1.0 / (step + 1), "reward": math.nan if step == 1 else 0.1 * step})
        image = np.full((2, 3, 8, 24), 90, np.uint8)
        record.samples(1, image, ["the word A", "the word B"])
        record.samples(3, image + 1, ["the word A", "the word B"])
        write_png(folder / "monitors" / "step_000002_diversity_00.png", image[0])
        record.check(2, {"alarms": [ALARM]})
    return folder


class Told:
    """A tracker that remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def settings(self, config):
        self.calls.append(("settings", config["experiment"]["seed"]))

    def metrics(self, step, time, values):
        self.calls.append(("metrics", step, values["loss"]))

    def image(self, step, time, name, file, caption):
        self.calls.append(("image", step, name, caption))

    def alarm(self, step, time, title, text):
        self.calls.append(("alarm", step, title))

    def close(self):
        self.calls.append(("close",))

    def of(self, kind: str) -> list[tuple[object, ...]]:
        return [call[1:] for call in self.calls if call[0] == kind]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What a tracker called `made_up` is told."""
    tracker = Told()
    monkeypatch.setitem(TRACKERS, "made_up", lambda *_: tracker)
    return tracker


def test_everything_is_told_once_and_what_is_new_later(tmp_path, told):
    folder = made_run(tmp_path / "run")
    assert mirror(folder, "made_up") == 1 + 4 + 4 + 1 and mirror(folder, "made_up") == 0
    assert told.of("settings") == [(7,)] and told.of("metrics") == [(step, 1.0 / (step + 1)) for step in range(4)]
    assert told.of("image")[:2] == [(1, "samples/00", "the word A"), (1, "samples/01", "the word B")]
    assert told.of("image")[-1] == (2, "alarms/diversity/00", "the word A") and told.of("alarm") == [(2, "diversity")]
    record = RunRecord.read(folder)
    with record.running():
        record.rewind(2)
        time.sleep(0.01)
        record.log(2, {"loss": 9.0})
    assert mirror(folder, "made_up") == 1 and told.of("metrics")[-1] == (2, 9.0), "updates that are done again"
    with record.running():
        record.log(3, {"loss": 8.0})
        record.log(4, {"loss": 7.0})
    assert mirror(folder, "made_up") == 2 and told.of("metrics")[-2:] == [(3, 8.0), (4, 7.0)]


def test_tensorboard_reads_what_the_run_says(tmp_path, capsys):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = made_run(tmp_path / "run")
    assert cli.main(["track", str(folder), "--to", "tensorboard"]) == 0
    assert "tensorboard: 10 new things" in capsys.readouterr().out
    record = RunRecord.read(folder)
    with record.running():
        record.log(4, {"loss": 0.05})
    assert cli.main(["track", str(folder)]) == 0
    events = EventAccumulator(str(folder / "tracking" / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    scalars = {name: [(each.step, each.value) for each in events.Scalars(name)] for name in ("loss", "reward")}
    lines = read_run(folder).metrics
    assert [step for step, _ in scalars["loss"]] == [0, 1, 2, 3, 4]
    assert np.allclose([value for _, value in scalars["loss"]], [line["loss"] for line in lines])
    assert math.isnan(scalars["reward"][1][1]) and scalars["reward"][3][1] == pytest.approx(0.3)
    images = events.Images("samples/00: the word A")
    sample = folder / "samples" / "step_000001_00.png"
    assert [each.step for each in images] == [1, 3] and images[0].encoded_image_string == sample.read_bytes()
    assert (images[0].height, images[0].width) == (8, 24)
    alarm = events.Tensors("alarms/diversity/text_summary")[0]
    assert alarm.step == 2 and b"images became alike" in alarm.tensor_proto.string_val[0]
    assert b'"seed": 7' in events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0]
    assert abs(events.Scalars("loss")[0].wall_time - time.time()) < 3600.0


def wandb_records(file: Path) -> Iterator[bytes]:
    """The records of an offline file, a LevelDB log: blocks of 32 KiB of (crc, length, kind, part of a record)."""
    content, place, record = file.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while place + 7 < len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def test_wandb_keeps_the_run_on_disk(tmp_path):
    pytest.importorskip("wandb")
    folder = made_run(tmp_path / "run")
    assert mirror(folder, "wandb") == 10
    last = time.monotonic() + 300.0
    while not (found := wandb_losses(folder)[0]).keys() >= set(range(4)) and time.monotonic() < last:
        time.sleep(0.2)  # a process of wandb's own writes the file
    assert found == pytest.approx({step: 1.0 / (step + 1) for step in range(4)})
    _, settings, names = wandb_losses(folder)
    assert "nano_grpo" in settings and any("samples/00" in name for name in names)


def wandb_losses(folder: Path) -> tuple[dict[int, float], str, set[str]]:
    """The losses by step, the settings and the names of what was logged in an offline file."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows, settings = [], ""
    for file in (folder / "tracking" / "wandb").rglob("*.wandb"):
        for content in wandb_records(file):
            one = Record()
            one.ParseFromString(content)
            rows.append({item.key or "/".join(item.nested_key): item.value_json for item in one.history.item})
            settings += "".join(item.value_json for item in one.config.update)
    losses = {int(json.loads(row["step"])): json.loads(row["loss"]) for row in rows if "loss" in row}
    return losses, settings, {key for row in rows for key in row}


def test_a_run_is_followed_to_its_end_and_nothing_is_written_before_its_first_update(tmp_path, told):
    folder, counts = tmp_path / "run", []
    thread = threading.Thread(target=lambda: counts.append(follow(folder, "made_up", every=0.02)), daemon=True)
    thread.start()
    record = RunRecord.open(folder, {"experiment": {"name": "a", "seed": 1}})
    with record.running():
        time.sleep(0.1)
        assert not (folder / "tracking").exists() and thread.is_alive()
        for step in range(3):
            record.log(step, {"loss": float(step)})
            time.sleep(0.05)
        assert thread.is_alive()
    thread.join(300.0)
    assert counts == [4] and told.of("metrics") == [(0, 0.0), (1, 1.0), (2, 2.0)] and told.calls[-1] == ("close",)
    with pytest.raises(ValueError, match="no run began"):
        follow(tmp_path / "none", "made_up", every=0.01, wait=0.05)


def test_sessions_before_are_not_the_one_that_is_followed(tmp_path, told):
    folder, counts = made_run(tmp_path / "run"), []
    thread = threading.Thread(target=lambda: counts.append(follow(folder, "made_up", after=1, every=0.02)), daemon=True)
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive()
    record = RunRecord.read(folder)
    with record.running():
        record.log(4, {"loss": 0.0})
    thread.join(300.0)
    assert counts == [11]


@pytest.mark.parametrize("fault", ["raises", "hangs"])
def test_a_tracker_that_raises_or_hangs_costs_a_run_nothing(fault, tmp_path, told, monkeypatch):
    over, waits = threading.Event(), []

    def metrics(*_: object) -> None:
        if fault == "hangs":
            waits.append(over.wait(300.0))
        raise OSError("the tracker is broken")

    told.metrics = metrics  # type: ignore[method-assign]
    monkeypatch.setattr(mirror_module, "end_when_it_hangs", lambda _: None)
    monkeypatch.setattr(mirror_module, "EVERY", 0.01)
    monkeypatch.setattr(mirror_module.os, "nice", lambda _: None)
    folder = tmp_path / "run"
    record = RunRecord.open(folder, {"experiment": {"name": "a", "seed": 1}})
    thread = threading.Thread(target=mirror_module.main, args=([str(folder), "made_up", "0"],), daemon=True)
    with record.running():
        record.log(0, {"loss": 1.0})
        thread.start()
        for step in range(1, 200):
            record.log(step, {"loss": 1.0})
    assert not waits, "nobody waited for it"
    assert len(read_run(folder).metrics) == 200 and read_run(folder).status == "finished"
    over.set()
    thread.join(300.0)
    assert "the tracker is broken" in (folder / "tracking" / "made_up.log").read_text()


def test_whoever_only_looks_at_the_lock_does_not_end_a_run(tmp_path, monkeypatch):
    import fcntl

    folder = made_run(tmp_path / "run")
    look = (folder / ".lock").open("r")
    fcntl.flock(look, fcntl.LOCK_SH)
    threading.Timer(0.1, look.close).start()
    monkeypatch.setattr(record_module, "PATIENCE", 60.0)
    with RunRecord.read(folder).running():
        assert is_locked(folder)
        monkeypatch.setattr(record_module, "PATIENCE", 0.05)
        with pytest.raises(ValueError, match="another process"), RunRecord.read(folder).running():
            pass


def test_train_starts_trackers_beside_and_tells_of_missing_ones_first(tmp_path, monkeypatch, capsys):
    started: list[tuple[object, ...]] = []
    monkeypatch.setattr(mirror_module, "start_side", lambda *given: started.append(given))
    monkeypatch.setattr("experiments.training.launch.train", lambda *_: Path("report.html"))
    monkeypatch.setattr("experiments.training.launch.conclude", lambda *_: [])
    found = {"tensorboard"}
    monkeypatch.setattr(mirror_module.importlib.util, "find_spec", lambda name: name if name in found else None)
    line = ["train", "nano_sft", "--out", str(tmp_path / "r"), "--track"]
    assert cli.main([*line, "tensorboard"]) == 0 and started == [(tmp_path / "r", ("tensorboard",))]
    assert "failed" not in capsys.readouterr().out
    (tmp_path / "r" / "tracking").mkdir(parents=True)
    (tmp_path / "r" / "tracking" / "tensorboard.log").write_text("Traceback\nOSError: the disk is full\n")
    assert cli.main([*line, "tensorboard"]) == 0 and len(started) == 2
    said = capsys.readouterr().out
    assert "the tracker tensorboard failed" in said and "OSError: the disk is full" in said and "--to tensor" in said
    started.clear()
    assert cli.main([*line, "wandb"]) == 2 and "glyphlab[track]" in capsys.readouterr().err and not started
    assert cli.main(line[:-1]) == 0 and not started


def test_what_a_tracker_failed_by_is_forgotten_when_it_works(tmp_path, told, monkeypatch):
    folder = made_run(tmp_path / "run")
    (folder / "tracking").mkdir()
    log = folder / "tracking" / "made_up.log"
    log.write_text("OSError\n")
    assert mirror(folder, "made_up") == 10 and not log.exists()
    log.write_text("OSError\n")
    monkeypatch.setattr(mirror_module.subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError("none left")))
    assert start_side(folder, ("made_up",)) == [] and not log.exists()


@pytest.mark.slow
def test_a_process_of_its_own_follows_a_run(tmp_path):
    pytest.importorskip("tensorboard")
    folder = tmp_path / "run"
    assert len(start_side(folder, ("tensorboard",))) == 1
    made_run(folder, 3)
    state, last = folder / "tracking" / "tensorboard.json", time.monotonic() + 600.0
    while not state.exists() or json.loads(state.read_text())["step"] < 2:
        assert time.monotonic() < last
        time.sleep(0.2)
