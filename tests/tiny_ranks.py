"""A run of seconds on several processes: `torchrun --nproc_per_node 2 -m tests.tiny_ranks NAME FOLDER ZERO_STAGE`.

With `--die-after N` rank 1 is killed after that many updates, with `--ask-after N` it gets SIGTERM. Every process that
judges pictures imports this module again, so nothing heavy is imported at its top.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.experiment import Experiment, MonitorPlan


def ranked(name: str, zero_stage: int) -> Experiment:
    """A few updates of a stage through ZeRO. Muon needs whole matrices, so AdamW does everything."""
    from experiments.configs import nano
    from tests.tiny_chain import short, tiny_chain

    by_name = {stage: experiment for stage, experiment, _ in tiny_chain()}
    experiment = by_name["grpo" if name == "watched" else name]
    if name == "sft":
        experiment = short(replace(nano.sft, algorithm=replace(nano.sft.algorithm, batch=4, micro=4)), 5)
    if name == "watched":
        experiment = replace(experiment, monitors=watched())
    optim = replace(experiment.optim, muon_lr=0.0, ema_decay=0.5)
    return replace(experiment, optim=optim, engine="deepspeed", zero_stage=zero_stage)


def watched() -> MonitorPlan:
    """A plan with a rule that any movement breaks, instead of the table."""
    from alignment import monitors
    from base_model.sample import Sampler
    from experiments import watch
    from experiments.experiment import MonitorPlan, PromptPlan

    monitors.SURE = 0.0
    rule = monitors.Rule("moved", monitors.rises("drift"), -1.0, "squared velocity", "to see an alarm")
    watch.rules = lambda gold: (rule,)
    few = PromptPlan(4, seed=5, heldout=True)
    return MonitorPlan(every=2, prompts=few, sampler=Sampler(steps=3), evidence=1, on_alarm="raise_beta")


def tell(number: int, after: int) -> None:
    """Send this process a signal after that many updates, if it is rank 1."""
    from experiments.ranks import Termination

    asked, left = Termination.asked, [after]

    def counted(self: Termination, engine: object) -> bool:
        left[0] -= 1
        if left[0] == 0 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), number)
        return asked(self, engine)

    Termination.asked = counted


if __name__ == "__main__":
    from experiments.launch import train

    name, folder, stage = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if len(sys.argv) > 4:
        tell(signal.SIGKILL if sys.argv[4] == "--die-after" else signal.SIGTERM, int(sys.argv[5]))
    train(ranked(name, stage), folder, folder.parent / "parent")
