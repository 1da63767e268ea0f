"""A quickstart of seconds: the real chain, engines and files, a few updates a stage. `tests.tiny_run` runs it."""

from __future__ import annotations

from dataclasses import replace

from experiments.configs import nano
from experiments.experiment import EvaluationPlan, Experiment
from experiments.quickstart import Chain


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
