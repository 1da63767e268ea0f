"""A quickstart of seconds: the real chain, engines and files, a few updates a stage.

`python -m tests.tiny_chain FOLDER` runs it.

With `--die-in STAGE N S` the run gets signal S after N logged updates of that stage, before they can be checkpointed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from experiments.configs import nano
from experiments.experiment import EvaluationPlan, Experiment
from experiments.quickstart import Chain, quickstart
from experiments.record import RunRecord


def short(experiment: Experiment, steps: int) -> Experiment:
    """The experiment with that many updates and a checkpoint after every second one."""
    algorithm = replace(experiment.algorithm, steps=steps)
    return replace(experiment, algorithm=algorithm, optim=replace(experiment.optim, steps=steps), save_every=2)


def tiny_chain() -> Chain:
    assert nano.dpo.pairs is not None and nano.grpo.prompts is not None
    dpo = replace(nano.dpo, pairs=replace(nano.dpo.pairs, prompts=replace(nano.dpo.pairs.prompts, count=8), group=4))
    grpo = replace(nano.grpo, prompts=replace(nano.grpo.prompts, count=20))
    grpo = replace(grpo, algorithm=replace(grpo.algorithm, prompts=2, group=4, micro=4))
    small = {"batch": 16, "micro": 16}
    return (
        ("decoder", short(replace(nano.decoder, algorithm=replace(nano.decoder.algorithm, batch=4)), 5), ""),
        ("pretrain", short(replace(nano.pretrain, algorithm=replace(nano.pretrain.algorithm, **small)), 7), "decoder"),
        ("sft", short(replace(nano.sft, algorithm=replace(nano.sft.algorithm, **small)), 5), "pretrain"),
        ("dpo", short(replace(dpo, algorithm=replace(nano.dpo.algorithm, batch=4, micro=4)), 5), "sft"),
        ("grpo", short(grpo, 5), "sft"),
        ("control", short(replace(nano.control, algorithm=replace(nano.control.algorithm, **small)), 5), "sft"),
    )


def tiny_plan() -> EvaluationPlan:
    plan = nano.evaluation
    return replace(plan, prompts=replace(plan.prompts, count=6), diversity_prompts=2, diversity_copies=2, wall=3)


def die_in(stage: str, updates: int, number: int) -> None:
    """Send the run a signal right after the stage logged that many updates, whichever process trains it."""
    whole, left = RunRecord.log, [updates]

    def log(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
        whole(self, step, metrics)
        left[0] -= self.folder.name == stage
        if left[0] == 0:
            left[0] = -1
            os.kill(os.getpid() if multiprocessing.parent_process() is None else os.getppid(), number)

    RunRecord.log = log  # type: ignore[method-assign]


if "--die-in" in sys.argv:  # also in the process beside, which imports this module again
    die_in(sys.argv[3], int(sys.argv[4]), getattr(signal, sys.argv[5]))

if __name__ == "__main__":
    quickstart(Path(sys.argv[1]), tiny_chain(), tiny_plan())
