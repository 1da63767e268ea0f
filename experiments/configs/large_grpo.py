"""Flow-GRPO at full size: published recipes, and where ours differ and why. None of them has run here: no GPU.

Run:     glyphlab plan qwen_grpo_lora --gpus 8 --card h100-80gb       what fits, before anything is allocated
         torchrun --nproc_per_node 8 --no-python glyphlab train qwen_grpo_lora --prompts.file prompts.txt
         torchrun ... glyphlab train medium_grpo_lora --base DIR --prompts.file prompts.txt
Takes:   not measured; `glyphlab plan` estimates an update
Expect:  not measured. Published: OCR accuracy 0.59 -> 0.92 for SD3.5-M with Flow-GRPO (arXiv:2505.05470, Table 1)

Prompts are lines with the text to write in double quotes. Settings count a rank; with 8 ranks they are

                     images an update   published
    medium_grpo_*     3 x 24 x 8 = 576     1,152 a rollout, two updates of half of them each
    qwen_grpo_*      4 x 16 x 8 = 512     512

Kept as published: 10 steps at 512 px, scored at full size; Flow-SDE with a = 0.7 (SD3.5-M) and 1.2 (Qwen-Image), group
and rate of LoRA (3e-4) and of all weights (3e-5), clip range 1e-4 and 1e-5, advantages by the spread of the update's
raw rewards (`raw_spread`), clipped at 5; LoRA 32/64 and 64/128; guidance 4.5 and 4, none with all weights; KL 0.04 for
SD3.5-M, in the published unit (`paper_compat`), and none for Qwen-Image.

Ours differ in

- the window: 2 of the first 5 steps, and a group starts from one noise, also for SD3.5-M. The steps before the window
  are then computed once a group, and two steps are learned from instead of nine (experiments/benchmarks/rollout.py).
- AdamW's eps, 1e-15 instead of 1e-8: gradients of mean log-probabilities are so small that 1e-8 decides the step.
- no float16: weights and activations are bfloat16, latents and likelihoods float32, and masters float32.
- the weight average is updated after every step (0.99) instead of every eighth (0.9).
- the reward reads whole pages, with precision, order and duplicates counted; a word among garbage is not a full mark.

medium_* are of the size of Stable Diffusion 3.5 medium (SD3.5-M) in Qwen-Image's architecture: --base names a folder
in the released layout with a transformer of the preset sd35_medium (`glyphlab export`), as nobody has published one.
Their settings are those of SD3.5-M itself, which experiments/configs/families_online.py trains.

    medium_grpo_lora    Flow-GRPO of a LoRA at the size of SD 3.5 medium, against the page reward; many GPUs;
                        needs --base
    medium_grpo_full    Flow-GRPO of all weights at the size of SD 3.5 medium, against the page reward; many GPUs;
                        needs --base
    qwen_grpo_lora     Flow-GRPO of a LoRA of the released Qwen-Image, against the page reward; many GPUs
    qwen_grpo_full     Flow-GRPO of all weights of the released Qwen-Image, against the page reward; many GPUs
"""

from __future__ import annotations

from dataclasses import replace

from alignment.grpo import Grpo
from alignment.trajectory import Exploration
from base_model import flow
from base_model.engine.engine import OptimConfig
from base_model.engine.mixed_precision import Memory
from base_model.lora import Lora
from base_model.sample import Sampler
from experiments.experiment import Experiment, PromptPlan

STEPS = 300


def optim(lr: float) -> OptimConfig:
    """AdamW at a constant rate, with a weight average."""
    return OptimConfig(
        muon_lr=0.0, adamw_lr=lr, betas=(0.9, 0.999), eps=1e-15, weight_decay=1e-4, warmup=0,
        decay_from=1.0, ema_decay=0.99,
    )  # fmt: skip


medium_lora = Experiment(
    name="medium_grpo_lora",
    preset="sd35_medium",
    reward="ocr_page",
    algorithm=Grpo(
        STEPS, prompts=3, group=24, micro=24, sampler=Sampler(steps=10, guidance=4.5),
        exploration=Exploration(flow.flow_sde, noise=0.7, window=2, within=5), clip=1e-4, beta=0.04, paper_compat=True,
        raw_spread=True,
    ),
    optim=optim(3e-4),
    lora=Lora(rank=32, alpha=64.0),
    memory=Memory(bf16=True, recompute=True),
    prompts=PromptPlan(count=1000, seed=1),
    engine="deepspeed",
    zero_stage=2,
    save_every=20,
    minutes=0.0,
)  # fmt: skip

medium_full = replace(medium_lora, name="medium_grpo_full", lora=Lora(), optim=optim(3e-5))

qwen_lora = replace(
    medium_lora,
    name="qwen_grpo_lora",
    preset="qwen_image",
    base="Qwen/Qwen-Image",
    size=(512, 512),
    algorithm=Grpo(
        STEPS, prompts=4, group=16, micro=16, sampler=Sampler(steps=10, guidance=4.0),
        exploration=Exploration(flow.flow_sde, noise=1.2, window=2, within=5), clip=1e-5,
        raw_spread=True,
    ),
    lora=Lora(rank=64, alpha=128.0),
)  # fmt: skip

qwen_full = replace(
    qwen_lora,
    name="qwen_grpo_full",
    algorithm=replace(qwen_lora.algorithm, sampler=Sampler(steps=10)),
    lora=Lora(),
    optim=optim(3e-5),
    memory=Memory(bf16=True, recompute=True, offload=True),
    zero_stage=3,
)

configs = (medium_lora, medium_full, qwen_lora, qwen_full)
