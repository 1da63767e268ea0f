"""Editing on the nano preset: T2I, I2I and TI2I mixed in one run, from a nano model that already writes.

Run:     glyphlab train nano_edit --parent runs/quickstart/pretrain      (then: glyphlab evaluate-edits runs/nano_edit)
Ablate:  glyphlab ablate editing --parent runs/quickstart/pretrain -o runs/ablate_editing
Takes:   about 12 minutes beside other work on two cores (experiments/reports/2026-11-26-editing.md)
Expect:  1 - NED of the new word 0.970, PSNR outside of the edit 23.4 dB; moving a word is not learned (the same report)

A few samples are captions without an image, so that the model goes on sampling from captions, and a few ask for the
source again. Rates are pretraining's: with a quarter of them new words were right less often after as many updates, and
with a third of the samples spent on captions and copies, too (the report has the settings that were tried).

    nano_edit    text to image, image to image, and edits of a word, its ink or its place; needs --parent
"""

from __future__ import annotations

from dataclasses import replace

from base_model.data.mixture import Mix, TaskStream
from base_model.data.stream import Stage, TextStream
from base_model.engine.engine import OptimConfig
from base_model.qwen.coarse_encoder import SemanticEncoder, blind
from base_model.sample import Sampler
from base_model.sft import Sft
from experiments.experiment import EditPlan, Experiment

STEPS = 720

config = Experiment(
    name="nano_edit",
    algorithm=Sft(steps=STEPS, batch=32, micro=32, sigma_mean=1.0),
    optim=OptimConfig(muon_lr=0.02, adamw_lr=2e-3, warmup=20, decay_from=0.4, ema_decay=0.99),
    data=TaskStream(
        TextStream(seed=17, stages=(Stage(0, (0.05, 0.0, 0.0, 0.0, 0.95)),)),
        mixes=(Mix(0, t2i=0.08, i2i=0.1, word=0.4, ink=0.12, place=0.3),),
    ),
    save_every=50,
    minutes=8.0,
)

ARMS = {
    "dual": config,
    "semantic_only": replace(config, name="nano_edit_semantic_only", sight=SemanticEncoder),
    "vae_only": replace(config, name="nano_edit_vae_only", sight=blind),
}
"""dual encoding and its halves; everything else is equal"""

evaluation = EditPlan(count=144, seed=43, noise_seed=53, sampler=Sampler(steps=10, guidance=2.0))
