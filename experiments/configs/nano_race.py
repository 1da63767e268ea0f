"""Online algorithms side by side: same start, same prompts, images a rollout, reward and optimizer; three seeds.

Run:     glyphlab sweep race_full,race_window,race_shared,race_guard,race_nft,race_awm,race_online_dpo,race_best_of_n,\\
         race_sft --seeds 0,1,2 --parent runs/repair/sft
Takes:   1 min 40 s to 3 min 08 s a run, looks left out (experiments/reports/2026-11-26-race.md)
Expect:  1 - NED of the watched prompts from 0.819 to between 0.823 (best of n) and 0.864 (online DPO), 0.903 for
         fine-tuning; a second engine confirms next to nothing of what the reward taught (the same report)

Held-out prompts are looked at every third of a run, so that the arms can be compared at equal time (looks left out) and
at equal images scored; the first, Flow-GRPO's full trajectory, is what the others are measured against.

    race_full          GRPO; every step but the last is stochastic and learned from; needs --parent
    race_window        GRPO; a moving window of 2 of the first 4 steps, a first noise for every image; needs --parent
    race_shared        GRPO; a moving window of 2 of the first 4 steps, one first noise for a group, as nano_grpo;
                       needs --parent
    race_guard         nano_guard at the length of the race; needs --parent
    race_nft           nano_nft at the length of the race; needs --parent
    race_awm           nano_awm at the length of the race; needs --parent
    race_online_dpo    nano_online_dpo at the length of the race; needs --parent
    race_best_of_n     nano_best_of_n at the length of the race; needs --parent
    race_sft           no reward and no rollout: fine-tuning goes on, on its own images, for about as long;
                       needs --parent
"""

from __future__ import annotations

from dataclasses import replace

from base_model.sample import Sampler
from experiments.configs import nano, nano_algorithms
from experiments.experiment import Experiment, MonitorPlan, PromptPlan

ROLLOUTS, SFT_UPDATES = 45, 225
CHECKS = 3
MONITORS = MonitorPlan(prompts=PromptPlan(count=64, seed=91, heldout=True), sampler=Sampler())


def entered(experiment: Experiment, name: str, steps: int = ROLLOUTS) -> Experiment:
    """The experiment as long as the race is, watched."""
    return replace(
        experiment,
        name=f"race_{name}",
        algorithm=replace(experiment.algorithm, steps=steps),
        monitors=replace(MONITORS, every=steps // CHECKS),
        minutes=3.0,
    )


configs = (
    entered(nano_algorithms.grpo_full, "full"),
    entered(nano_algorithms.grpo_alone, "window"),
    entered(nano.grpo, "shared"),
    entered(nano_algorithms.guard, "guard"),
    entered(nano_algorithms.nft, "nft"),
    entered(nano_algorithms.awm, "awm"),
    entered(nano_algorithms.online_dpo, "online_dpo"),
    entered(nano_algorithms.best_of_n, "best_of_n"),
    entered(nano.control, "sft", SFT_UPDATES),
)
