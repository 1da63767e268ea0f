"""The decoder alone, on pages of small English and Chinese text: latents stay what every trained model knows.

Run:     glyphlab train text_decoder
         glyphlab evaluate-vae base_model/files/nano_vae.safetensors runs/text_decoder
Takes:   13 minutes beside other work on two cores
Expect:  experiments/reports/2026-11-26-text-decoder.md: 2.5 dB more at 8 and 12 px

    text_decoder    the decoder on pages of small English and Chinese text
"""

from __future__ import annotations

from base_model.data.rendered_pages import PageStream
from base_model.engine.engine import OptimConfig
from base_model.train_vae import TrainVAE
from experiments.experiment import Experiment

STEPS = 300

config = Experiment(
    name="text_decoder",
    algorithm=TrainVAE(steps=STEPS, batch=8, frozen_encoder=True, edge=0.5, edge_end=2.0),
    optim=OptimConfig(muon_lr=0.003, adamw_lr=2e-4, warmup=10, decay_from=0.3),
    data=PageStream(seed=5),
    save_every=100,
    minutes=3.0,
)
