"""Does the order of a pretraining matter? One curriculum against three others with as many updates, on the nano preset.

    curriculum   five progressions in the order of Qwen-Image's report (arXiv:2508.02324, section 4.1.3)
    none         what the curriculum ends with, from the first update on
    mixed        at every update what the curriculum shows on average
    reversed     the stages of the curriculum from the last to the first

Everything but the order is equal: weights at the start, updates, images an update, noise, held-out prompts. The arms do
not cost the same, since small images are quick. The folder is a sweep's (sweep.py): running the study again goes on
where it was, and so does `glyphlab resume`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from base_model.data.curriculum import Curriculum
from base_model.data.stream import TextStream
from base_model.pretrain import Pretrain
from experiments.configs import nano
from experiments.experiment import Experiment
from experiments.studies.sweep import UNGUIDED, parse_seeds, run_variants

STEPS = 280


def curriculum(steps: int) -> Curriculum:
    """The five progressions over that many updates."""
    return Curriculum(
        resolution=((0, (0.5,)), (steps // 8, (0.5, 1.0)), (steps // 4, (1.0,))),
        text=tuple((stage.start, stage.weights) for stage in nano.curriculum(steps)),
        refinement=((0, 0.0), (steps // 2, 0.5), (3 * steps // 4, 1.0)),
        balance=((0, 0.0), (steps // 4, 0.5), (steps // 2, 1.0)),
        synthetic=((0, 0.0), (steps // 4, 0.05), (steps // 2, 0.2)),
    )


def experiment(progress: Curriculum, steps: int) -> Experiment:
    """Nano's pretraining with a curriculum, in that many updates."""
    return replace(
        nano.pretrain,
        name="nano_curriculum",
        algorithm=Pretrain(steps=steps, batch=64, micro=64),
        data=TextStream(seed=7, noise=nano.WEB, curriculum=progress),
        minutes=2.5,
    )


def arms(steps: int = STEPS) -> dict[str, Experiment]:
    """The experiments that are compared, by name. Raises ValueError for too few updates to hold every stage."""
    if steps < 8:
        raise ValueError(f"{steps} updates cannot hold the stages of the curriculum: give at least 8")
    own = curriculum(steps)
    orders = {"curriculum": own, "none": own.last(), "mixed": own.mixed(steps), "reversed": own.reverse(steps)}
    return {name: experiment(progress, steps) for name, progress in orders.items()}


def compare_orders(out: Path, updates: int, seeds: str) -> Path:
    """Train and evaluate every order with every seed; the page of the table, whose differences are to the curriculum.

    Raises ValueError for too few updates or seeds that cannot be read.
    """
    return run_variants(arms(updates), parse_seeds(seeds), out, None, UNGUIDED)
