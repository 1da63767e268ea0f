"""Two languages from nothing, and a taste that nobody put into words: the chain of `glyphlab quickstart`.

Run:     glyphlab quickstart        (or one stage: glyphlab train taste_nft --parent runs/quickstart/pretrain)
Takes:   799 s on two idle cores, without a GPU: pretraining 348 s, NFT 309 s, beside them the decoder and the
         controls
Expect:  on 256 held-out prompts that leave the look open: preferred to the pretrained model's images in 0.948 of cases,
         English exact from 0.661 to 0.953, Chinese from 0.806 to 0.953
         (experiments/reports/2026-11-30-quickstart-languages.md)

Pretraining's captions are short in a quarter of the cases and leave ink, ground, face, size or place open, so that a
prompt that says nothing of them gets one of many images. 600 answers "left or right?" about such images are all that
alignment learns the taste from (experiments/preferences.simulated_people.py says which it is and who answers).

    taste_decoder     the decoder of the autoencoder, refined on both languages; latents stay as they are
    taste_pretrain    pretraining from nothing on English words and Chinese strings, with captions as of the web
    taste_nft         DiffusionNFT on OCR and the trained reward, pulled towards the guided start; needs --parent
    taste_ocr         DiffusionNFT on OCR alone, pulled towards the guided start; needs --parent
    taste_pull        what the pull does alone: taste_ocr on a reward that says nothing; needs --parent
    taste_best_of_n   fine-tuning on the best of each group by OCR and the trained reward; needs --parent
    taste_grpo        GRPO on OCR and the trained reward; needs --parent
    taste_alone       DiffusionNFT on the trained reward alone, without a pull, watched; needs --parent
    taste_dpo         DPO on the answers; needs --parent and --pairs
    taste_chosen      fine-tuning on the images that were preferred; needs --parent and --data.folder
    nano_grpo_mixed   nano_grpo against OCR plus a reward of one's own from answers, in runs/reward; needs --parent. The
                      learned part is in log-odds with a spread of a few units within a group where OCR's is a few
                      tenths, so that a weight of 0.05 lets it decide between words that are equally right
"""

from __future__ import annotations

from dataclasses import replace

from alignment.best_of_n import BestOfN
from alignment.nft import Nft
from alignment.trajectory import Exploration
from base_model.data.rendered_text import COMMON_CHINESE, ENGLISH
from base_model.data.stream import CaptionNoise, Stage, TextStream
from base_model.engine.engine import OptimConfig
from base_model.pretrain import Pretrain
from base_model.sample import Sampler
from base_model.sft import Sft
from base_model.train_vae import TrainVAE
from experiments.configs import nano
from experiments.experiment import AnswerPlan, EvaluationPlan, Experiment, MonitorPlan, PromptPlan
from experiments.images.image_sources import ImageSources

LANGUAGES = (ENGLISH, COMMON_CHINESE)
OPENED = CaptionNoise(misspelt=0.05, textless=0.05, bare=0.25, misspelt_chinese=0.3)
"""Chinese captions are wrong more often: with a share of 0.05 the start writes 0.96 of the strings, and alignment has
little to repair (2026-11-30-caption-noise.md of experiments/reports)."""
SAMPLER = Sampler(steps=6)
"""More steps draw small letters worse here: 2026-11-30-quickstart.md of experiments/reports."""
ANSWERS, PEOPLE, VOTERS = 600, 4, 8
DECODER_STEPS, PRETRAIN_STEPS, NFT_STEPS, ALONE_STEPS, TUNING_STEPS = 1100, 1000, 155, 30, 105
BEST_STEPS = 50
"""Nothing holds best of n to its start: after 130 rollouts it writes fewer words than it."""
IMAGES = 12288
"""Of pretraining, each shown five times: encoding a new one for every place would take a third of its time."""
REWARD = "runs/quickstart/reward"
"""Where the quickstart's reward is; its category leaves prompts alone that say how the image is to look."""
TASTE = f"learned:{REWARD},category=open"


decoder = Experiment(
    name="taste_decoder",
    algorithm=TrainVAE(steps=DECODER_STEPS, batch=16, frozen_encoder=True),
    optim=OptimConfig(muon_lr=0.04, adamw_lr=2e-3, warmup=20, decay_from=0.3),
    data=TextStream(seed=3, stages=(Stage(0, (0.05, 0, 0, 0, 0.55, 0.05, 0, 0.35)),)),
    save_every=100,
    minutes=3.0,
)

pretrain = Experiment(
    name="taste_pretrain",
    preset="nano_data",
    algorithm=Pretrain(steps=PRETRAIN_STEPS, batch=64, micro=64, sigma_power=1.0, glyph_weight=0.15),
    optim=OptimConfig(ema_decay=0.99),
    data=TextStream(seed=7, noise=OPENED, stages=(Stage(0, (0.2, 0.1, 0.2, 0.4, 8, 0, 0, 10)),), limit=IMAGES),
    save_every=100,
    minutes=5.8,
)

answers = AnswerPlan(PromptPlan(count=ANSWERS, seed=61, levels=LANGUAGES, bare=1.0), SAMPLER, people=PEOPLE, seed=62)

nft = Experiment(
    name="taste_nft",
    reward=f"2.0*ocr_likelihood+1.0*{TASTE}",
    algorithm=Nft(
        steps=NFT_STEPS,
        prompts=4,
        group=12,
        micro=48,
        sampler=SAMPLER,
        exploration=Exploration(window=0, shared_noise=False),
        levels=2,
        sigma_mean=1.0,
        mix=0.1,
        beta=0.08,
        reference_guidance=2.0,
        parts=(("ocr_likelihood", 2.0), (TASTE, 1.0)),
    ),
    optim=nano.grpo.optim,
    prompts=PromptPlan(count=2000, seed=31, levels=(ENGLISH, *LANGUAGES), bare=0.5),
    save_every=25,
    minutes=5.3,
)

ocr = replace(nft, name="taste_ocr", reward="ocr_likelihood", algorithm=replace(nft.algorithm, parts=()))

pull = replace(ocr, name="taste_pull", reward="chance")

best_of_n = replace(
    nft,
    name="taste_best_of_n",
    algorithm=BestOfN(
        steps=BEST_STEPS,
        prompts=4,
        group=12,
        micro=48,
        sampler=SAMPLER,
        exploration=nft.algorithm.exploration,
        levels=16,
        sigma_mean=1.0,
        parts=nft.algorithm.parts,
    ),
    minutes=3.0,
)

grpo = replace(
    nft,
    name="taste_grpo",
    algorithm=replace(
        nano.grpo.algorithm,
        steps=NFT_STEPS,
        sampler=SAMPLER,
        exploration=replace(nano.grpo.algorithm.exploration, shared_noise=False),
        parts=nft.algorithm.parts,
    ),
)

alone = replace(
    nft,
    name="taste_alone",
    reward=TASTE,
    algorithm=replace(nft.algorithm, parts=(), steps=ALONE_STEPS, beta=0.0, reference_guidance=1.0),
    prompts=PromptPlan(count=2000, seed=31, levels=LANGUAGES, bare=1.0),
    monitors=MonitorPlan(
        every=ALONE_STEPS // 2,
        prompts=PromptPlan(count=24, seed=91, heldout=True, levels=LANGUAGES, bare=1.0),
        sampler=SAMPLER,
    ),
    minutes=1.0,
)

dpo = replace(
    nano.dpo,
    name="taste_dpo",
    algorithm=replace(nano.dpo.algorithm, steps=TUNING_STEPS),
    pairs=None,
    minutes=0.6,
)

chosen = Experiment(
    name="taste_chosen",
    algorithm=Sft(steps=TUNING_STEPS, batch=64, micro=64, sigma_mean=1.0),
    optim=replace(nano.dpo.optim, adamw_lr=1e-4),
    data=ImageSources(folder=("runs/quickstart/answers/preferred",), aspect=False),
    save_every=40,
    minutes=0.6,
)

captions = EvaluationPlan(
    prompts=PromptPlan(count=256, seed=41, heldout=True, levels=LANGUAGES),
    samplers=(("unguided", SAMPLER), ("guided", replace(SAMPLER, guidance=2.0))),
    seed=51,
)
"""Full captions: what is named is to be obeyed."""

left_open = replace(captions, prompts=replace(captions.prompts, seed=43, bare=1.0), seed=53, samplers=captions.samplers)
"""Prompts that leave the look open: where a taste can show."""

mixed = replace(nano.grpo, name="nano_grpo_mixed", reward="1.0*ocr+0.05*learned:runs/reward")

configs = (decoder, pretrain, nft, ocr, pull, best_of_n, grpo, alone, dpo, chosen, mixed)
