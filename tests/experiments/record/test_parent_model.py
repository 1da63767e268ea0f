"""A run goes on from the model that it began from, and from no other in the same place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from base_model.files.checkpoint import save_atomically
from experiments.configs import nano
from experiments.experiment import laid_out
from experiments.record.record import RunRecord
from experiments.training.runner import open_record


def with_model(folder: Path, weights: str) -> Path:
    """A folder of a run with a model of one small file."""
    save_atomically(folder / "model", lambda new: (new / "weights").write_text(weights) and None)
    return folder


def begun(folder: Path, parent: Path, finished: bool = False) -> None:
    """Make a run that began from the parent and made an update."""
    record = open_record(nano.grpo, folder, parent)
    try:
        with record.running():
            record.log(0, {"loss": 1.0})
            if not finished:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass


def test_another_model_in_the_parents_place_is_refused(tmp_path: Path) -> None:
    parent, run = with_model(tmp_path / "parent", "as it was"), tmp_path / "run"
    begun(run, parent)
    assert open_record(nano.grpo, run, parent).config["parent_model"]
    with_model(parent, "trained anew")
    with pytest.raises(ValueError, match=r"holds a run with other settings \(parent_model: "):
        open_record(nano.grpo, run, parent)


def test_a_finished_run_and_one_whose_parent_is_gone_are_left_as_they_are(tmp_path: Path) -> None:
    parent = with_model(tmp_path / "parent", "as it was")
    begun(tmp_path / "done", parent, finished=True)
    begun(tmp_path / "run", parent)
    with_model(parent, "trained anew")
    assert open_record(nano.grpo, tmp_path / "done", parent).finished
    shutil.rmtree(parent)
    assert open_record(nano.grpo, tmp_path / "run", parent).config["parent_model"]


def test_a_run_of_an_older_version_goes_on(tmp_path: Path) -> None:
    parent = with_model(tmp_path / "parent", "as it was")
    old = {"experiment": laid_out(nano.grpo), "parent": "../parent"}
    with RunRecord.open(tmp_path / "run", old).running():
        pass
    assert "parent_model" not in open_record(nano.grpo, tmp_path / "run", parent).config
