"""The autoencoder that ships with the project: 32 x 96 images of words, 8x8 pixels a latent position, 16 channels.

Run:     glyphlab train nano_vae
Takes:   54 minutes of one thread, beside other work on two shared cores (experiments/reports/2026-11-23-nano-vae.md)
Expect:  PSNR 30.9 and 0.979 of 192 held-out words read exactly from reconstructions (the same report)

    nano_vae    the autoencoder, encoder and decoder, from nothing
"""

from __future__ import annotations

from base_model.data.stream import Stage, TextStream
from base_model.engine.engine import OptimConfig
from base_model.train_vae import TrainVAE
from experiments.experiment import Experiment

STEPS = 8_000

config = Experiment(
    name="nano_vae",
    algorithm=TrainVAE(steps=STEPS, batch=16),
    optim=OptimConfig(muon_lr=0.03, adamw_lr=2e-3, decay_from=0.3, final_lr=0.01),
    data=TextStream(seed=0, stages=(Stage(0, (0.1, 0.05, 0.05, 0.05, 0, 0.75)),)),
    save_every=500,
    minutes=60.0,
)
