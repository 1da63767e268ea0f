"""An attempt at EN in 250 updates instead of 380, each of them cheaper; three seeds are still to be run.

Run:     python -m experiments.speedrun EN --train experiments.speedrun.faster_english --seeds 0 1 2
Expect:  not run whole; with 160 updates of these settings one seed wrote 0.938 of 192 words, 0.880 by the other engine
         (experiments/reports/2026-11-30-speedrun.md)
"""

from __future__ import annotations

from base_model.data.stream import Stage, TextStream
from base_model.engine.engine import OptimConfig
from base_model.engine.mixed_precision import Memory
from base_model.pretrain import Pretrain
from experiments.experiment import Experiment

english = Experiment(
    name="english",
    preset="nano_data",
    algorithm=Pretrain(steps=250, batch=64, micro=64, sigma_mean=1.5, sigma_power=2.0, dropout=0.0, glyph_weight=0.15),
    optim=OptimConfig(
        muon_lr=0.04, adamw_lr=6e-3, warmup=15, decay_from=0.4, final_lr=0.0, muon_bf16=True, ema_decay=0.98
    ),
    memory=Memory(bf16=True),
    # every image about four times: encoding it anew costs a quarter of an update
    data=TextStream(seed=7, stages=(Stage(0, (0, 0, 0, 0, 1)),), limit=4096),
    minutes=1.2,
)

STAGES = (english,)
