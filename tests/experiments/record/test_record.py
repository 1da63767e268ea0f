"""A run folder survives being killed at any moment, says how it was made, and refuses to be mixed with another."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from experiments.record.environment import revision
from experiments.record.record import TICK, RunRecord, plain, read_metrics, read_png, read_run, write_json, write_png

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Inner:
    share: float = 0.5
    names: tuple[str, ...] = ("a", "b")


@dataclass(frozen=True)
class Settings:
    """What a run is made of."""

    steps: int = 3
    inner: Inner = Inner()
    place: Path = Path("x")


def logged(folder: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_metrics(folder)]


def finished_run(folder: Path, steps: int = 3) -> RunRecord:
    record = RunRecord.open(folder, Settings())
    with record.running():
        for step in range(steps):
            record.log(step, {"loss": 1.0 / (step + 1)})
    return record


def test_a_finished_run_reads_back(tmp_path: Path) -> None:
    before = time.monotonic()
    record = finished_run(tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert record.finished and run.status == "finished"
    assert [line["loss"] for line in run.metrics] == [1.0, 0.5, 1.0 / 3.0]
    assert run.config["class"].endswith("test_record.Settings")
    assert run.config["inner"]["class"].endswith("test_record.Inner")
    assert run.config["inner"]["names"] == ["a", "b"] and run.config["place"] == "x"
    assert run.environment["packages"]["numpy"] == np.__version__
    assert run.environment["python"] == sys.version.split()[0] and run.environment["cpus"] == os.cpu_count()
    # a worker of a parallel run is started as `python -c`
    started = ("-c",) if "PYTEST_XDIST_WORKER" in os.environ else ("python -m pytest", "pytest")
    assert run.command.startswith(started)
    assert 0.0 < run.seconds <= time.monotonic() - before
    assert run.started <= (run.finished or "")


def test_metrics_are_a_table(tmp_path: Path) -> None:
    record = RunRecord.open(tmp_path / "run", Settings())
    assert RunRecord.read(tmp_path / "run").metrics().empty
    with record.running():
        record.log(0, {"loss": 0.5})
        record.log(1, {"loss": math.nan, "kl": 1})
    table = RunRecord.read(tmp_path / "run").metrics()
    assert table.index.name == "step" and table.index.tolist() == [0, 1] and table.index.dtype == int
    assert list(table) == ["seconds", "loss", "kl"] and set(table.dtypes) == {np.dtype(float)}
    np.testing.assert_array_equal(table[["loss", "kl"]], [[0.5, math.nan], [math.nan, 1.0]])
    assert table["seconds"].tolist() == [line["seconds"] for line in read_metrics(tmp_path / "run")]


def test_git_revision_of_this_checkout_and_of_no_other(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert revision(tmp_path) is None
    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-qm", "first")
    assert revision(tmp_path) == {"revision": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "file").write_text("2")
    assert revision(tmp_path) == {"revision": git("rev-parse", "HEAD"), "dirty": True}
    (tmp_path / "installed").mkdir()
    assert revision(tmp_path / "installed") is None, "a folder inside another project's checkout has no revision"


def test_time_adds_up_over_sessions(tmp_path: Path) -> None:
    before, record = time.monotonic(), RunRecord.open(tmp_path / "run", Settings())
    for _ in range(2):
        with record.running():
            time.sleep(0.05)
    again = RunRecord.read(tmp_path / "run")
    assert 0.1 <= again.seconds <= time.monotonic() - before
    assert [s["status"] for s in read_run(tmp_path / "run").sessions] == ["finished", "finished"]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [(KeyboardInterrupt(), "interrupted", None), (FloatingPointError("loss = nan"), "failed", "loss = nan")],
)
def test_how_a_session_ended(tmp_path: Path, error: BaseException, status: str, text: str | None) -> None:
    record = RunRecord.open(tmp_path / "run", Settings())
    with pytest.raises(type(error)), record.running():
        record.log(0, {"loss": 1.0})
        raise error
    run = read_run(tmp_path / "run")
    assert run.status == run.sessions[-1]["status"] == status and not RunRecord.read(tmp_path / "run").finished
    assert text in run.error if text else run.error is None
    with record.running():
        pass
    assert read_run(tmp_path / "run").status == "finished" and read_run(tmp_path / "run").error is None


def test_rewind_drops_what_will_be_done_again(tmp_path: Path) -> None:
    record = RunRecord.open(tmp_path / "run", Settings())
    pictures = np.random.default_rng(0).random((2, 3, 4, 6))
    with record.running():
        for step in range(5):
            record.log(step, {"loss": float(step)})
            record.samples(step, pictures, ["one", "two"])
        record.rewind(3)
        assert logged(record.folder) == [(0, 0.0), (1, 1.0), (2, 2.0)]
        record.log(3, {"loss": 30.0})
    assert logged(record.folder) == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0)]
    run = read_run(record.folder)
    assert [sample.step for sample in run.samples] == [0, 0, 1, 1, 2, 2]
    assert sorted(p.name for p in (record.folder / "samples").glob("*.png")) == [s.picture.name for s in run.samples]
    record.rewind(0)
    assert logged(record.folder) == []


def test_half_a_line_is_passed_over_and_then_removed(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run").folder
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 0.')
    assert len(read_metrics(folder)) == 3
    record = RunRecord.open(folder, Settings())
    with record.running():
        record.log(3, {"loss": 9.0})
    assert logged(folder)[-2:] == [(2, 1.0 / 3.0), (3, 9.0)]


def test_damage_in_the_middle_is_an_error_with_its_line(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run").folder
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([lines[0], lines[1][:10], lines[2]]) + "\n")
    with pytest.raises(ValueError, match="line 2"):
        read_run(folder)


KILLED = """
    import os, signal, sys, time
    from pathlib import Path
    from experiments.record.record import CLOCK
    from tests.experiments.record.test_record import TICK, RunRecord, Settings
    record, noted = RunRecord.open(Path(sys.argv[1]), Settings()), Path(sys.argv[1]) / CLOCK
    with record.running():
        for step in range(1000):
            record.log(step, {"loss": float(step)})
            print(step, flush=True)
            if step == 7 and sys.argv[2] == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if step == 7 and sys.argv[2] == "idle":
                while not noted.exists() or float(noted.read_text()) < 1.5 * TICK:
                    time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGKILL)
            if step == 7:
                sys.stdin.readline()
"""


def start(folder: Path, what: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(folder), what]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_killed_process_loses_no_line_and_its_run_counts_as_interrupted(tmp_path: Path) -> None:
    process = start(tmp_path / "run", "die")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    run = read_run(tmp_path / "run")
    assert [line["step"] for line in run.metrics] == list(range(8))
    assert run.status == "interrupted" and json.loads((run.folder / "run.json").read_text())["status"] == "running"
    assert run.seconds == run.metrics[-1]["seconds"] > 0.0, "time spent before the kill is not forgotten"
    again = RunRecord.open(run.folder, Settings())
    assert again.seconds == run.seconds
    with again.running():
        again.rewind(4)
        again.log(4, {"loss": 0.0})
    assert read_run(run.folder).metrics[-1]["seconds"] >= run.seconds


def test_killed_process_loses_hardly_any_of_its_time(tmp_path: Path) -> None:
    """A run whose work lies in other runs logs nothing itself, as the quickstart's."""
    start(tmp_path / "run", "idle").communicate()
    run = read_run(tmp_path / "run")
    assert run.seconds > max(1.5 * TICK, (run.metrics[-1]["seconds"] or 0.0) + 0.5 * TICK)
    assert RunRecord.open(run.folder, Settings()).seconds == run.seconds


def test_two_processes_cannot_work_in_one_folder(tmp_path: Path) -> None:
    process = start(tmp_path / "run", "wait")
    assert process.stdout is not None
    while process.stdout.readline().strip() != "7":
        pass
    assert read_run(tmp_path / "run").status == "running"
    with pytest.raises(ValueError, match="another process"), RunRecord.open(tmp_path / "run", Settings()).running():
        pass
    process.kill()
    process.communicate()
    with RunRecord.open(tmp_path / "run", Settings()).running():
        pass


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    finished_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"inner\.share: 0\.5 -> 0\.25.*delete") as caught:
        RunRecord.open(tmp_path / "run", Settings(inner=Inner(share=0.25)))
    assert "steps" not in str(caught.value), "only what differs is named"
    RunRecord.open(tmp_path / "run", Settings())


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not a run"):
        RunRecord.open(tmp_path, Settings())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt"], "nothing is written into someone's folder"
    for reader in (read_run, RunRecord.read):
        with pytest.raises(FileNotFoundError, match=r"no run\.json"):
            reader(tmp_path)
    (tmp_path / "run.json").write_text('{"status": "run')
    with pytest.raises(ValueError, match="damaged"):
        read_run(tmp_path)


def test_metrics_cannot_shadow_the_step(tmp_path: Path) -> None:
    record = RunRecord.open(tmp_path / "run", Settings())
    with record.running(), pytest.raises(ValueError, match="seconds"):
        record.log(0, {"seconds": 1.0})


def test_samples_keep_pixels_and_words(tmp_path: Path) -> None:
    record = RunRecord.open(tmp_path / "run", Settings())
    pictures = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 6), dtype=np.uint8)
    record.samples(10, pictures, ["a", "b", "c"], ["A", "", "<C>"])
    record.samples(2, pictures[:1].astype(np.float64) / 255.0, ["early"])
    record.samples(10, pictures[:2], ["a", "b"], ["A", ""])
    found = read_run(tmp_path / "run").samples
    assert [(s.step, s.caption, s.reading) for s in found] == [(2, "early", None), (10, "a", "A"), (10, "b", "")]
    for sample, picture in zip(found, pictures[[0, 0, 1]], strict=True):
        np.testing.assert_array_equal(read_png(sample.picture), picture)
    with pytest.raises(ValueError, match="2 captions"):
        record.samples(3, pictures, ["a", "b"])


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"old": 1})

    def fail(source: object, target: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"], "no leftovers"


def test_plain_keeps_meaning() -> None:
    values = {"nan": np.float64("nan"), "inf": float("inf"), "count": np.int64(3), "yes": np.bool_(True)}
    assert plain(values) == {"nan": None, "inf": "inf", "count": 3, "yes": True}
    assert plain([np.array([1.0, 2.0]), (1, 2), {3, 1, 2}]) == [[1.0, 2.0], [1, 2], [1, 2, 3]]
    assert plain({"loss": write_json, "kind": Inner}) == {
        "loss": "experiments.record.whole_files.write_json", "kind": f"{__name__}.Inner",
    }  # fmt: skip
    with pytest.raises(ValueError, match="object"):
        plain(object())


def test_pictures_of_the_wrong_shape(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 x height x width"):
        write_png(tmp_path / "a.png", np.zeros((4, 6, 3)))
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(ValueError, match=r"b\.png is not a readable image"):
        read_png(tmp_path / "b.png")


def test_no_torch() -> None:
    code = "import sys, experiments.record.record, experiments.record.intervals; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
