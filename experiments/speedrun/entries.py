"""The training of each task's record: its stages, every one an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from base_model.data.stream import Stage, TextStream
from base_model.engine.engine import OptimConfig
from base_model.pretrain import Pretrain
from experiments.configs import nano, nano_bilingual
from experiments.experiment import Experiment

EN_STEPS = 380

english = Experiment(
    name="english",
    algorithm=Pretrain(steps=EN_STEPS, batch=64, micro=64),
    optim=OptimConfig(ema_decay=0.99),
    data=TextStream(
        seed=7,
        stages=nano.curriculum(EN_STEPS),
    ),
    minutes=2.8,
)
autoencoder = replace(
    nano_bilingual.vae, name="autoencoder", data=TextStream(seed=3, stages=(Stage(0, (0, 0, 0, 0, 0, 0, 1)),))
)
chinese = replace(nano_bilingual.chinese, name="chinese")

ENTRIES: Mapping[str, tuple[Experiment, ...]] = {"EN": (english,), "ZH-300": (autoencoder, chinese)}
"""By task."""
