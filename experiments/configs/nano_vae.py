"""Autoencoders: the one that ships with the project, and a decoder for small text in both languages.

Run:     glyphlab train nano_vae
         glyphlab train text_decoder
         glyphlab evaluate-vae base_model/files/nano_vae.safetensors runs/text_decoder
Takes:   nano_vae 54 minutes of one thread, text_decoder 13, each beside other work on two shared cores
Expect:  nano_vae: PSNR 30.9, and 0.979 of 192 held-out words read exactly from reconstructions
         (experiments/reports/2026-11-23-nano-vae.md); text_decoder: 2.5 dB more at 8 and 12 px
         (experiments/reports/2026-11-26-text-decoder.md)

Both learn 32x96 images of words or pages of text; nano_vae has 8x8 pixels a latent position and 16 channels.

    nano_vae        encoder and decoder, from nothing
    text_decoder    the decoder alone, on pages of small English and Chinese text: latents stay what every trained model
                    knows
"""

from __future__ import annotations

from base_model.data.rendered_pages import PageStream
from base_model.data.stream import Stage, TextStream
from base_model.engine.engine import OptimConfig
from base_model.train_vae import TrainVAE
from experiments.experiment import Experiment

STEPS, DECODER_STEPS = 8_000, 300

config = Experiment(
    name="nano_vae",
    algorithm=TrainVAE(steps=STEPS, batch=16),
    optim=OptimConfig(muon_lr=0.03, adamw_lr=2e-3, decay_from=0.3, final_lr=0.01),
    data=TextStream(seed=0, stages=(Stage(0, (0.1, 0.05, 0.05, 0.05, 0, 0.75)),)),
    save_every=500,
    minutes=60.0,
)

decoder = Experiment(
    name="text_decoder",
    algorithm=TrainVAE(steps=DECODER_STEPS, batch=8, frozen_encoder=True, edge=0.5, edge_end=2.0),
    optim=OptimConfig(muon_lr=0.003, adamw_lr=2e-4, warmup=10, decay_from=0.3),
    data=PageStream(seed=5),
    save_every=100,
    minutes=3.0,
)
