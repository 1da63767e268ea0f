"""The training of each task's record: its stages, every one an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from base_model.data.rendered_text import ANYWHERE, HEIGHT, WIDE
from base_model.data.stream import Stage, TextStream
from base_model.engine.engine import OptimConfig
from base_model.engine.mixed_precision import Memory
from base_model.pretrain import Pretrain
from base_model.train_vae import TrainVAE
from experiments.experiment import Experiment

english = Experiment(
    name="english",
    preset="nano_data",
    algorithm=Pretrain(steps=210, batch=64, micro=64, sigma_mean=1.5, sigma_power=2.0, dropout=0.0, glyph_weight=0.15),
    optim=OptimConfig(
        muon_lr=0.04, adamw_lr=6e-3, warmup=15, decay_from=0.4, final_lr=0.0, muon_bf16=True, ema_decay=0.98
    ),
    memory=Memory(bf16=True),
    # every image about five times: encoding it anew costs a quarter of an update
    data=TextStream(seed=7, stages=(Stage(0, (0, 0, 0, 0, 1)),), limit=2560),
    minutes=1.0,
)
decoder = Experiment(
    name="decoder",
    # the encoder that ships keeps enough of Chinese, its decoder does not
    algorithm=TrainVAE(steps=460, batch=8, frozen_encoder=True),
    optim=OptimConfig(muon_lr=0.04, adamw_lr=2e-3, warmup=10, decay_from=0.3),
    data=TextStream(seed=3, stages=(Stage(0, (0, 0, 0, 0, 0, 0, 1)),)),
    minutes=1.0,
)
chinese = replace(
    english,
    name="chinese",
    algorithm=replace(english.algorithm, steps=430),
    data=TextStream(seed=7, stages=(Stage(0, (0, 0, 0, 0, 0, 0, 1)),), limit=6000),
    minutes=2.5,
)
every_cell = TextStream(seed=3, stages=(Stage(0, (0,) * ANYWHERE + (1,)),), size=(HEIGHT, WIDE))
autoencoder = Experiment(
    name="autoencoder",
    # what ships blurs black on green and the middle of an M, and its latents forgive no error of a network
    size=(HEIGHT, WIDE),
    algorithm=TrainVAE(steps=700, batch=16, fine_tune=True, square=8.0, contrast=1.25, kl=4e-3),
    optim=OptimConfig(muon_lr=0.01, adamw_lr=5e-4, warmup=10, decay_from=0.15, final_lr=0.0),
    data=every_cell,
    minutes=5.0,
)
anywhere = replace(
    english,
    name="anywhere",
    size=(HEIGHT, WIDE),
    algorithm=replace(english.algorithm, steps=900),
    data=replace(every_cell, seed=7, limit=8000),
    minutes=6.0,
)

ENTRIES: Mapping[str, tuple[Experiment, ...]] = {
    "EN": (english,),
    "ZH-300": (decoder, chinese),
    "ANY": (autoencoder, anywhere),
}
"""By task."""
