"""Reward hacking on demand: a reward that is easy to cheat, no KL, a high rate; and the same monitors on honest runs.

Run:     glyphlab train nano_hacking --parent runs/quickstart/sft
         glyphlab train nano_grpo_watched --parent runs/quickstart/sft        (also nano_dpo_watched, nano_sft_watched)
Takes:   as nano_grpo, nano_dpo and nano_control, and 10 s a look (48 prompts, two pictures each, two engines)
Expect:  in the report's section on over-optimisation, alarms of the first before its gold reward has fallen by 0.05,
         and none of the others. The finished models of nano_dpo, nano_grpo and nano_control broke no rule (the table
         is in docs/algorithms/monitors.md). Not yet run to its end: nano_hacking

`ocr_contains` gives full marks when the word occurs anywhere in what is read. The rate is ten times that of nano_grpo:
a guess at what makes a run cheat within its length.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.configs import nano
from experiments.experiment import Experiment, MonitorPlan

WATCHED = MonitorPlan(every=20)


def watched(experiment: Experiment) -> Experiment:
    """The experiment under the same eyes."""
    return replace(experiment, name=f"{experiment.name}_watched", monitors=WATCHED)


config = replace(
    nano.grpo,
    name="nano_hacking",
    reward="ocr_contains",
    algorithm=replace(nano.grpo.algorithm, beta=0.0),
    optim=replace(nano.grpo.optim, adamw_lr=5e-4),
    monitors=MonitorPlan(every=10),
)

grpo, dpo = watched(nano.grpo), watched(nano.dpo)
sft = replace(watched(nano.control), name="nano_sft_watched", monitors=replace(WATCHED, every=140))
