"""Every online algorithm on the nano preset, from the same start and with the same images an update as nano_grpo.

Run:     glyphlab study repair, then: glyphlab train nano_nft --parent runs/repair/sft
Takes:   about as long as nano_grpo: 1 min 40 s to 3 min for 45 rollouts (experiments/reports/2026-11-26-race.md)
Expect:  142 rollouts were not run. Over 45, in three seeds, 1 - NED of watched prompts went from 0.819 to between
         0.823 and 0.864; nano_dppo, nano_rwr, nano_tied_dpo and nano_kto are not in that report

nano_grpo moves a window of 2 steps through the first 4. Against it:

    nano_grpo_full       every step but the last is stochastic and learned from: Flow-GRPO's full trajectory;
                         needs --parent
    nano_grpo_alone      the same window as nano_grpo, but a first noise for every image: no prefix is shared;
                         needs --parent
    nano_guard           GRPO-Guard's centred ratio, two updates a rollout so that there is something to clip;
                         needs --parent
    nano_dppo            Flow-DPPO: steps are masked by their divergence, two updates a rollout; needs --parent
    nano_nft             DiffusionNFT; the weight average is its old policy; needs --parent
    nano_awm             advantage-weighted matching; needs --parent
    nano_online_dpo      online DPO on the best and worst of each group; needs --parent
    nano_rwr             reward-weighted regression; needs --parent
    nano_best_of_n       fine-tuning on the best of each group; needs --parent
    nano_tied_dpo        DPO that knows ties, on --pairs of people or on machine-made pairs; needs --parent
    nano_kto             KTO on images called good or bad, by --pairs of people; needs --parent

At nano_guard's second update ratios are up to 7e-4 away from 1 with a spread of about half of that; at nano_dppo's the
divergence is 1e-6 to 3e-5.
"""

from __future__ import annotations

from dataclasses import replace

from alignment.awm import Awm
from alignment.best_of_n import BestOfN
from alignment.dppo import Dppo
from alignment.groups import Groups
from alignment.grpo import Grpo
from alignment.guard import Guard
from alignment.kto import Kto
from alignment.nft import Nft
from alignment.online_dpo import OnlineDpo
from alignment.rwr import Rwr
from alignment.tied_dpo import TiedDpo
from alignment.trajectory import Exploration
from base_model.sample import Sampler
from experiments.configs import nano
from experiments.experiment import Experiment

STEPS, PROMPTS, GROUP = nano.GRPO_STEPS, 4, 12
SAMPLER, EXPLORATION = Sampler(steps=8), Exploration(window=2, within=4)


def like_grpo(name: str, algorithm: Groups) -> Experiment:
    """nano_grpo with another algorithm: same prompts, reward, optimizer and number of rollouts."""
    return replace(nano.grpo, name=name, algorithm=algorithm)


grpo_full = like_grpo(
    "nano_grpo_full",
    Grpo(STEPS, PROMPTS, GROUP, SAMPLER, Exploration(window=7, within=7), micro=PROMPTS * GROUP),
)
grpo_alone = like_grpo(
    "nano_grpo_alone",
    Grpo(STEPS, PROMPTS, GROUP, SAMPLER, replace(EXPLORATION, shared_noise=False), micro=PROMPTS * GROUP),
)
guard = like_grpo(
    "nano_guard",
    Guard(STEPS, PROMPTS, GROUP, SAMPLER, EXPLORATION, micro=PROMPTS * GROUP, updates=2, clip=4e-4),
)
dppo = like_grpo(
    "nano_dppo",
    Dppo(STEPS, PROMPTS, GROUP, SAMPLER, EXPLORATION, micro=PROMPTS * GROUP, updates=2, clip=5e-5),
)
nft = like_grpo(
    "nano_nft",
    Nft(STEPS, PROMPTS, GROUP, SAMPLER, EXPLORATION, micro=PROMPTS * GROUP, levels=2, sigma_mean=1.0, mix=0.1),
)
awm = like_grpo(
    "nano_awm",
    Awm(STEPS, PROMPTS, GROUP, SAMPLER, EXPLORATION, micro=PROMPTS * GROUP, levels=2, sigma_mean=1.0, beta=1.0),
)
online_dpo = like_grpo(
    "nano_online_dpo",
    OnlineDpo(STEPS, PROMPTS, GROUP, SAMPLER, EXPLORATION, micro=PROMPTS * GROUP, levels=8, sigma_mean=1.0),
)
rwr = like_grpo(
    "nano_rwr",
    Rwr(STEPS, PROMPTS, GROUP, SAMPLER, EXPLORATION, micro=PROMPTS * GROUP, levels=2, sigma_mean=1.0, temperature=0.5),
)
best_of_n = like_grpo(
    "nano_best_of_n",
    BestOfN(STEPS, PROMPTS, GROUP, SAMPLER, EXPLORATION, micro=PROMPTS * GROUP, levels=16, sigma_mean=1.0),
)
tied_dpo = replace(
    nano.dpo,
    name="nano_tied_dpo",
    algorithm=TiedDpo(steps=nano.DPO_STEPS, batch=32, micro=32, beta=100.0, sigma_mean=1.0),
)
kto = replace(
    nano.dpo,
    name="nano_kto",
    algorithm=Kto(steps=nano.DPO_STEPS, batch=64, micro=64, beta=100.0, sigma_mean=1.0),
)

configs = (
    grpo_full,
    grpo_alone,
    guard,
    dppo,
    nft,
    awm,
    online_dpo,
    rwr,
    best_of_n,
    tied_dpo,
    kto,
)
