"""The settings of an experiment as options of `glyphlab train NAME`, with its values as defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import AvoidSubcommands, SuppressFixed, arg

from experiments.experiment import Experiment, taking_own_images
from experiments.overrides import with_groups
from experiments.tracking.trackers import TrackerName


@dataclass(frozen=True)
class Training:
    """Train in a folder. Every setting of the experiment is an option; the defaults are the experiment's own.

    Experiments that learn from images take yours instead of theirs with --data.folder IMAGES, and --monitors.every N
    watches a run that has no monitors; give these beside --help to see their settings.
    """

    experiment: Annotated[Experiment, arg(name="")]
    out: Annotated[Path, arg(aliases=["-o"])]
    """the run's folder"""
    parent: Annotated[Path | None, arg(metavar="PATH")] = None
    """folder of the finished run whose model this one starts from"""
    pairs: Annotated[tuple[str, ...], arg(metavar="FILE|PREFERRED REJECTED|store:CAMPAIGN")] = ()
    """for DPO and KTO: two folders of images of the same names, the better ones first; a table of pairs of images; a
    file of pairs or comparisons; or store: and a campaign whose settled answers to learn from"""
    store: str = "annotations"
    """the store of that campaign: its folder, or a postgresql:// URL with its images in ./pictures"""
    track: Annotated[tuple[TrackerName, ...], arg(metavar="TRACKER [TRACKER ...]")] = ()
    """trackers to show the run in, from processes of their own: tensorboard, wandb, trackio, mlflow"""
    evaluate: bool = True
    """evaluate the finished model: on prompts of the run's own where it has such, beside what it began from, else on
    held-out words, beside its parent's"""


def parse(experiment: Experiment, out: Path, arguments: Sequence[str]) -> Training:
    """The experiment with the options applied. A wrong option exits with the nearest names.

    Raises ValueError for own images where the experiment learns from no images.
    """
    experiment = with_own_images(experiment, arguments)
    named = [argument.split("=")[0].lstrip("-").replace("-", "_") for argument in arguments if argument[:2] == "--"]
    experiment = with_groups(experiment, [name.removeprefix("experiment.") for name in named])
    return tyro.cli(
        AvoidSubcommands[SuppressFixed[Training]], args=arguments, default=Training(experiment, out),
        prog=f"glyphlab train {experiment.name}",
    )  # fmt: skip


def with_own_images(experiment: Experiment, arguments: Sequence[str]) -> Experiment:
    """The experiment with images of one's own as its data where the arguments name a folder of them."""
    named = [argument.split("=")[0] for argument in arguments]
    taken = {"--data.folder", "--experiment.data.folder"} & set(named)
    return taking_own_images(experiment) if taken else experiment
