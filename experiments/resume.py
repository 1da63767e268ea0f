"""Goes on with whatever run is in a folder: an experiment, a quickstart or a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.experiment import Experiment, laid_out
from experiments.overrides import override
from experiments.quickstart.quickstart import quickstart
from experiments.quickstart.repair import repair
from experiments.record.record import RunRecord
from experiments.record.recorded_settings import rebuild
from experiments.studies.sweep import resume_sweep
from experiments.training.launch import train


def resume(folder: Path, changes: Sequence[str] = ()) -> Path:
    """Go on with whatever run is in `folder`, with the settings it was started with; the path of its report.

    `changes` are settings that hold from here on, as SETTING=VALUE. Raises ValueError for one that cannot change.
    """
    config = RunRecord.read(folder).config
    if changes and "experiment" not in config:
        raise ValueError(
            f"{folder} is a run of several stages, whose settings stay; change those of one stage's folder"
        )
    if "quickstart" in config:
        return quickstart(folder, None, config["quickstart"].get("seed", 0))
    if "chain" in config:
        return repair(folder)
    if "variants" in config:
        return resume_sweep(folder)
    parent = config["parent"]
    experiment = changed(rebuild(config["experiment"]), changes)
    return train(experiment, folder, folder / parent if parent else None)


def changed(experiment: Experiment, changes: Sequence[str]) -> Experiment:
    """The experiment with settings given as SETTING=VALUE; a schedule as long as the run stays so."""
    if odd := [text for text in changes if "=" not in text]:
        raise ValueError(f"--set {odd[0]!r} has no value; write SETTING=VALUE, such as optim.adamw_lr=1e-5")
    optim = experiment.optim
    if laid_out(replace(experiment, optim=replace(optim, steps=0))).optim == optim:
        experiment = replace(experiment, optim=replace(optim, steps=0))
    return override(experiment, dict(text.split("=", 1) for text in changes))
