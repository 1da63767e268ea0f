"""Plain names for whatever you bring: a model by --base or --parent, images by --data.folder, pairs by --pairs.

Run:     glyphlab train sft --base FOLDER --data.folder IMAGES --lora.rank 32
         glyphlab train dpo --base FOLDER --pairs PREFERRED REJECTED --lora.rank 32
         glyphlab train pretrain --data.folder IMAGES          (the nano preset, from nothing)
         glyphlab train train_vae --data.folder IMAGES         (the decoder of the autoencoder that ships)
         glyphlab train train_vae --base FOLDER --data.folder IMAGES     (the decoder of the checkpoint's own)
Takes:   not measured: it depends on what you bring
Expect:  not measured

Images have the checkpoint's own size unless --size says otherwise: 1024 x 1024 for Qwen-Image. Rates are what LoRAs of
this kind are usually trained with, 1e-4, without Muon; for all weights of a large model take a tenth of them.

    sft          fine-tuning of any checkpoint (--base) or run (--parent) on your images or edits; needs --data.folder
    pretrain     pretraining on your images, from nothing or going on from --base or --parent; needs --data.folder
    train_vae    the decoder of an autoencoder, of any checkpoint (--base), on your images; needs --data.folder
    dpo          DPO of any checkpoint (--base) or run (--parent) on your pairs of images; needs --pairs
"""

from __future__ import annotations

from alignment.dpo import Dpo
from base_model.engine.engine import OptimConfig
from base_model.pretrain import Pretrain
from base_model.sft import Sft
from base_model.train_vae import TrainVAE
from experiments.experiment import Experiment

GENTLE = OptimConfig(muon_lr=0.0, adamw_lr=1e-4, betas=(0.9, 0.99), warmup=20, decay_from=0.5, final_lr=0.1)

sft = Experiment(
    name="sft", preset="qwen_image", algorithm=Sft(steps=1000, batch=4, micro=1), optim=GENTLE, save_every=100,
    minutes=0.0,
)  # fmt: skip

pretrain = Experiment(
    name="pretrain", algorithm=Pretrain(steps=1000, batch=16, micro=16), optim=OptimConfig(ema_decay=0.995),
    save_every=100, minutes=0.0,
)  # fmt: skip

vae = Experiment(
    name="train_vae", preset="qwen_image", size=(256, 256), minutes=0.0, save_every=100,
    algorithm=TrainVAE(steps=1000, batch=8, frozen_encoder=True),
    optim=OptimConfig(muon_lr=0.003, adamw_lr=2e-4, warmup=10, decay_from=0.2),
)  # fmt: skip

dpo = Experiment(
    name="dpo", preset="qwen_image", algorithm=Dpo(steps=500, batch=4, micro=1, beta=100.0), optim=GENTLE,
    save_every=100, minutes=0.0,
)  # fmt: skip

configs = (sft, pretrain, vae, dpo)
