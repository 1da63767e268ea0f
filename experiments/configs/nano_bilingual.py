"""English words and Chinese strings from nothing on the nano preset.

Run:     glyphlab train bilingual_vae -o runs/bilingual/vae, then
         glyphlab train bilingual_pretrain --parent runs/bilingual/vae -o runs/bilingual/pretrain
Takes:   242 s and 1,711 s beside other work on two shared cores; bilingual_nft then 892 s
         (experiments/reports/2026-11-29-two-languages.md)
Expect:  0.542 of 192 held-out English words and 0.453 of 192 Chinese strings exact without guidance; after
         bilingual_nft 0.745 and 0.708 (the same report)

Chinese strings are of 1 to 3 out of 300 characters in three faces; pairs of neighbours are held out
(base_model/data/rendered_chinese.py).

    bilingual_vae         the shipped autoencoder, shown Chinese as well
    bilingual_pretrain    pretraining from nothing on both languages, with noisy captions; needs --parent
    bilingual_nft         DiffusionNFT on prompts of both languages, which repairs what the captions did; needs --parent
    chinese_pretrain      pretraining from nothing on Chinese strings alone, with true captions; needs --parent
"""

from __future__ import annotations

from dataclasses import replace

from base_model.data.rendered_text import CHINESE, ENGLISH
from base_model.data.stream import Stage, TextStream
from base_model.engine.engine import OptimConfig
from base_model.pretrain import Pretrain
from base_model.train_vae import TrainVAE
from experiments.configs import nano_algorithms
from experiments.configs.nano import WEB
from experiments.experiment import Experiment, PromptPlan

VAE_STEPS, PRETRAIN_STEPS, CHINESE_STEPS, NFT_STEPS = 600, 1200, 1000, 142
LANGUAGES = (ENGLISH, CHINESE)

vae = Experiment(
    name="bilingual_vae",
    algorithm=TrainVAE(steps=VAE_STEPS, batch=16, fine_tune=True),
    optim=OptimConfig(muon_lr=0.02, adamw_lr=1e-3, warmup=20, decay_from=0.3),
    data=TextStream(seed=3, stages=(Stage(0, (0.05, 0, 0, 0, 0, 0.35, 0.6)),)),
    save_every=100,
    minutes=1.6,
)

pretrain = Experiment(
    name="bilingual_pretrain",
    algorithm=Pretrain(steps=PRETRAIN_STEPS, batch=64, micro=64),
    optim=OptimConfig(ema_decay=0.99),
    data=TextStream(
        seed=7,
        noise=WEB,
        stages=(
            Stage(0, (1, 2, 6, 1, 0, 0, 10)),
            Stage(PRETRAIN_STEPS // 16, (1, 1, 2, 4, 2, 0, 10)),
            Stage(PRETRAIN_STEPS // 8, (0.5, 0.3, 0.5, 1, 6, 0, 10)),
            Stage(PRETRAIN_STEPS // 4, (0.3, 0.1, 0.2, 0.4, 6, 0, 12)),
        ),
    ),
    save_every=100,
    minutes=7.0,
)

chinese = replace(
    pretrain,
    name="chinese_pretrain",
    algorithm=Pretrain(steps=CHINESE_STEPS, batch=64, micro=64),
    data=TextStream(seed=7, stages=(Stage(0, (0, 0, 0, 0, 0, 0, 1)),)),
    minutes=6.0,
)

nft = replace(
    nano_algorithms.nft,
    name="bilingual_nft",
    algorithm=replace(nano_algorithms.nft.algorithm, steps=NFT_STEPS),
    prompts=PromptPlan(count=2000, seed=31, levels=LANGUAGES),
    minutes=4.0,
)

configs = (vae, pretrain, chinese, nft)
