"""Does the order of a pretraining matter? One curriculum against three others with as many updates, on the nano preset.

Run:     glyphlab study curriculum -o runs/curriculum
Takes:   about 2.5 minutes a run on a core of its own, 12 runs
         (experiments/reports/2026-11-29-curriculum.md)
Expect:  the table of that report

    curriculum   five progressions in the order of Qwen-Image's report (arXiv:2508.02324, section 4.1.3)
    none         what the curriculum ends with, from the first update on
    mixed        at every update what the curriculum shows on average
    reversed     the stages of the curriculum from the last to the first

Everything but the order is equal: weights at the start, updates, images an update, noise, held-out prompts. The arms do
not cost the same, since small images are quick.
"""

from __future__ import annotations

from dataclasses import replace

from base_model.data.curriculum import Curriculum
from base_model.data.stream import TextStream
from base_model.pretrain import Pretrain
from experiments.configs import nano
from experiments.experiment import Experiment

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


configs = (experiment(curriculum(STEPS), STEPS),)
