"""Where should text stand? MSRoPE against two other schemes, on the nano preset, trained from nothing.

Run:     glyphlab ablate positions -o runs/ablate_positions
Takes:   5 to 8 minutes an arm beside other work on two cores (experiments/reports/2026-11-26-positions.md)
Expect:  1 - NED at 32 x 96: 0.991 msrope, 0.992 row_text, 0.989 flat; at 48 x 128: 0.638, 0.693, 0.326
         (the same report)

Trained at 32 x 96 alone, on clean captions; evaluated there and at 48 x 128, a size that no arm has seen. Updates,
stages and rates are those of nano's pretraining. Everything but the places of tokens is equal: weights at the start,
data, noise, held-out prompts.
"""

from __future__ import annotations

from dataclasses import replace

from base_model.data.stream import TextStream
from base_model.engine.engine import OptimConfig
from base_model.pretrain import Pretrain
from base_model.qwen.positions import flat, msrope, row_text
from base_model.sample import Sampler
from experiments.configs import nano
from experiments.experiment import Experiment, PromptPlan, SizePlan

STEPS = 285

config = Experiment(
    name="nano_positions",
    algorithm=Pretrain(steps=STEPS, batch=64, micro=64),
    optim=OptimConfig(ema_decay=0.995),
    data=TextStream(
        seed=19,
        stages=nano.curriculum(STEPS),
    ),
    save_every=80,
    minutes=2.8,
)

ARMS = {
    "msrope": replace(config, positions=msrope),
    "row_text": replace(config, name="nano_positions_row_text", positions=row_text),
    "flat": replace(config, name="nano_positions_flat", positions=flat),
}

evaluation = SizePlan(
    prompts=PromptPlan(count=128, seed=47, heldout=True),
    sizes=((32, 96), (48, 128)),
    levels=(0.3, 0.6, 0.9),
    noise_seed=57,
    sampler=Sampler(steps=10, guidance=2.0),
)
