"""What repairs a pretrained model, on the nano preset: 32 x 96 images of one word, trained from nothing on a laptop.

Run:     glyphlab study repair        (or one stage: glyphlab train nano_pretrain)
Takes:   616 s in all on two cores, without a GPU: pretraining 243 s, fine-tuning 20 s, DPO 130 s, GRPO 190 s, beside it
         the control 172 s (experiments/reports/2026-11-29-quickstart.md)
Expect:  0.745 of 192 held-out words exact without guidance after pretraining, 0.943 after fine-tuning, 0.927 after DPO,
         0.943 after GRPO, 0.979 after the control (experiments/reports/2026-11-29-quickstart.md)

Pretraining's captions carry the noise of web data. DPO and GRPO begin there and need prompts and no images. Fine-tuning
begins there too and sees a small clean set; the control goes on with it. All prompts of alignment use training words.

    nano_decoder     the decoder of the autoencoder, refined on rendered words; latents stay as they are
    nano_pretrain    pretraining from nothing on rendered words with noisy captions
    nano_sft         fine-tuning on a small clean set; needs --parent
    nano_dpo         DPO on pairs made by OCR, or on --pairs of people; needs --parent
    nano_grpo        GRPO against the likelihood of the words under OCR; needs --parent
    nano_control     fine-tuning continued for 500 updates; needs --parent
"""

from __future__ import annotations

from alignment.dpo import Dpo
from alignment.grpo import Grpo
from alignment.trajectory import Exploration
from base_model.data.stream import CaptionNoise, Stage, TextStream
from base_model.engine.engine import OptimConfig
from base_model.pretrain import Pretrain
from base_model.sample import Sampler
from base_model.sft import Sft
from base_model.train_vae import TrainVAE
from experiments.experiment import EvaluationPlan, Experiment, PairPlan, PromptPlan

ALL = Stage(0, (0.05, 0, 0, 0, 0, 0.95))
WEB = CaptionNoise(misspelt=0.2, textless=0.1, incomplete=0.1)
CLEAN = TextStream(seed=11, stages=(Stage(0, (0, 0, 0, 0, 1)),), limit=384)

VAE_STEPS, PRETRAIN_STEPS, SFT_STEPS, DPO_STEPS, GRPO_STEPS, CONTROL_STEPS = 80, 700, 40, 105, 142, 500


def curriculum(steps: int) -> tuple[Stage, ...]:
    """Kinds of scene over a pretraining of that many updates: no text, single characters, words, words anywhere, and
    more and more words in all faces and colours."""
    return (
        Stage(0, (1, 2, 6, 1, 0)),
        Stage(steps // 8, (1, 1, 2, 4, 2)),
        Stage(steps // 4, (0.5, 0.3, 0.5, 1, 6)),
        Stage(steps // 2, (0.3, 0.1, 0.2, 0.4, 9)),
    )


decoder = Experiment(
    name="nano_decoder",
    algorithm=TrainVAE(steps=VAE_STEPS, batch=16, frozen_encoder=True),
    optim=OptimConfig(muon_lr=0.003, adamw_lr=2e-4, warmup=10, decay_from=0.2),
    data=TextStream(seed=3, stages=(ALL,)),
    save_every=60,
    minutes=0.5,
)

pretrain = Experiment(
    name="nano_pretrain",
    algorithm=Pretrain(steps=PRETRAIN_STEPS, batch=64, micro=64),
    optim=OptimConfig(ema_decay=0.995),
    data=TextStream(
        seed=7,
        noise=WEB,
        stages=curriculum(PRETRAIN_STEPS),
    ),
    save_every=100,
    minutes=4.1,
)

sft = Experiment(
    name="nano_sft",
    algorithm=Sft(steps=SFT_STEPS, batch=64, micro=64),
    optim=OptimConfig(muon_lr=1e-3, adamw_lr=1e-4, warmup=5, decay_from=0.5),
    data=CLEAN,
    save_every=20,
    minutes=0.6,
)

dpo = Experiment(
    name="nano_dpo",
    algorithm=Dpo(steps=DPO_STEPS, batch=32, micro=32, beta=100.0, sigma_mean=1.0),
    optim=OptimConfig(
        muon_lr=0.0,
        adamw_lr=3e-5,
        betas=(0.9, 0.99),
        eps=1e-10,
        warmup=5,
        decay_from=0.3,
        final_lr=0.1,
    ),
    pairs=PairPlan(PromptPlan(count=660, seed=21), group=6, per_prompt=2),
    save_every=40,
    minutes=3.2,
)

grpo = Experiment(
    name="nano_grpo",
    # a reward without steps: with the edit distance alone, every third group scored alike and taught nothing
    reward="ocr_likelihood",
    algorithm=Grpo(
        steps=GRPO_STEPS,
        prompts=4,
        group=12,
        micro=48,
        sampler=Sampler(steps=8),
        exploration=Exploration(window=2, within=4),
    ),
    optim=OptimConfig(
        muon_lr=0.0,
        adamw_lr=5e-5,
        betas=(0.9, 0.99),
        eps=1e-10,
        warmup=5,
        decay_from=1.0,
        ema_decay=0.95,
    ),
    prompts=PromptPlan(count=2000, seed=31),
    save_every=25,
    minutes=5.2,
)

control = Experiment(
    name="nano_control",
    algorithm=Sft(steps=CONTROL_STEPS, batch=64, micro=64, seed=1),
    optim=OptimConfig(muon_lr=0.0, adamw_lr=1e-4, warmup=10, decay_from=1.0),
    data=CLEAN,
    save_every=50,
    minutes=5.0,
)

evaluation = EvaluationPlan(
    prompts=PromptPlan(count=192, seed=41, heldout=True),
    samplers=(("unguided", Sampler(steps=10)), ("guided", Sampler(steps=10, guidance=2.0))),
    seed=51,
)
