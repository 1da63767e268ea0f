"""Online algorithms side by side from the quickstart's pretrained model: same prompts, images a rollout, reward and
optimizer.

Run:     glyphlab sweep race_shared,race_full,race_window,race_guard,race_nft,race_awm,race_online_dpo,\\
         race_best_of_n,race_sft --parent runs/quickstart/pretrain --start --steps 6
         With a quickstart for each of three seeds (glyphlab quickstart --seed 1 -o runs/1): --seeds 0,1,2
         --parent 'runs/{seed}/pretrain'
Takes:   45 rollouts of 48 images a run, about a minute and a half alone on a core
Expect:  exact texts of both languages from 0.930 to between 0.942 (AWM) and 0.951 (online DPO), 0.955 for
         fine-tuning; best of n ends at 0.916 (three seeds, experiments/reports/2026-11-30-race.md; race_full and
         race_window were not run from this start)

Prompts are full captions in both languages. Held-out ones are looked at every third of a run, so that the arms can be
compared at equal time (looks left out) and at equal images scored; the first is what the others are measured against.

    race_shared        GRPO; a moving window of 2 of the first 4 steps, one first noise for a group, as nano_grpo;
                       needs --parent
    race_full          GRPO; every step but the last is stochastic and learned from; needs --parent
    race_window        GRPO; a moving window of 2 of the first 4 steps, a first noise for every image; needs --parent
    race_guard         nano_guard at the length of the race; needs --parent
    race_nft           nano_nft at the length of the race; needs --parent
    race_awm           nano_awm at the length of the race; needs --parent
    race_online_dpo    nano_online_dpo at the length of the race; needs --parent
    race_best_of_n     nano_best_of_n at the length of the race; needs --parent
    race_sft           no reward and no rollout: fine-tuning on 384 clean images, for about as long; needs --parent
"""

from __future__ import annotations

from dataclasses import replace

from experiments.configs import nano, nano_algorithms, nano_repair, nano_taste
from experiments.experiment import Experiment, MonitorPlan, PromptPlan

ROLLOUTS, SFT_UPDATES = 45, 225
CHECKS = 3
MONITORS = MonitorPlan(prompts=PromptPlan(count=64, seed=91, heldout=True), sampler=nano_taste.SAMPLER)


def watched(experiment: Experiment, name: str, steps: int) -> Experiment:
    """The experiment under the race's name, watched."""
    return replace(experiment, name=f"race_{name}", monitors=replace(MONITORS, every=steps // CHECKS), minutes=3.0)


def entered(experiment: Experiment, name: str) -> Experiment:
    """The experiment as long as the race is, with the race's prompts, sampled as the start is."""
    cfg = experiment.algorithm
    inside = min(cfg.exploration.within, nano_taste.SAMPLER.steps - 1)
    exploration = replace(cfg.exploration, within=inside, window=min(cfg.exploration.window, inside))
    algorithm = replace(cfg, steps=ROLLOUTS, sampler=nano_taste.SAMPLER, exploration=exploration)
    return watched(replace(experiment, algorithm=algorithm, prompts=nano_repair.PROMPTS), name, ROLLOUTS)


configs = (
    entered(nano.grpo, "shared"),
    entered(nano_algorithms.grpo_full, "full"),
    entered(nano_algorithms.grpo_alone, "window"),
    entered(nano_algorithms.guard, "guard"),
    entered(nano_algorithms.nft, "nft"),
    entered(nano_algorithms.awm, "awm"),
    entered(nano_algorithms.online_dpo, "online_dpo"),
    entered(nano_algorithms.best_of_n, "best_of_n"),
    watched(nano_repair.clean(384, steps=SFT_UPDATES), "sft", SFT_UPDATES),
)
