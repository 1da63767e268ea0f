"""Fine-tuning and DPO of the released Qwen-Image at full width. None of them has run here: no GPU.

Run:     glyphlab plan qwen_sft_lora --gpus 1 --card h100-80gb        what fits, before anything is allocated
         glyphlab train qwen_sft_lora                                 one card
         torchrun --nproc_per_node 8 --no-python glyphlab train qwen_dpo_lora --pairs.prompts.file prompts.txt
Takes:   not measured; `glyphlab plan` estimates an update
Expect:  not measured

qwen_sft_*: the flow-matching loss on 384 rendered words (`nano.CLEAN`) in the size that they are rendered in, 32 x 96.
That is enough to teach a checkpoint a face or a language of letters, and little enough for one card.

qwen_dpo_*: preferences are made first: 8 images of each of 1,000 prompts at 512 px, scored by the page reward, and the
best and the worst of a prompt become a pair. An update and rank learns from 32 pairs (LoRA) or 8 (all weights; there
the reference is a frozen copy of the network, 41 GB on every card). beta is nano_dpo's; nobody has published one for
this model and this form of the loss.

    qwen_sft_lora    fine-tuning of a LoRA of the released Qwen-Image on rendered words; one GPU
    qwen_sft_full    fine-tuning of all weights of the released Qwen-Image on rendered words; many GPUs
    qwen_dpo_lora    DPO of a LoRA of the released Qwen-Image on pairs that the page reward makes; many GPUs
    qwen_dpo_full    DPO of all weights of the released Qwen-Image on pairs that the page reward makes; many GPUs
"""

from __future__ import annotations

from dataclasses import replace

from alignment.dpo import Dpo
from alignment.trajectory import Exploration
from base_model import flow
from base_model.engine.mixed_precision import Memory
from base_model.lora import Lora
from base_model.sample import Sampler
from base_model.sft import Sft
from experiments.configs.large_grpo import optim
from experiments.configs.nano import CLEAN
from experiments.experiment import Experiment, PairPlan, PromptPlan

SFT_STEPS, DPO_STEPS = 60, 100
ALL_WEIGHTS = Memory(bf16=True, recompute=True, offload=True)

sft_lora = Experiment(
    name="qwen_sft_lora",
    preset="qwen_image",
    base="Qwen/Qwen-Image",
    size=(32, 96),
    algorithm=Sft(SFT_STEPS, batch=64, micro=32),
    optim=replace(optim(1e-4), eps=1e-8),
    lora=Lora(rank=64, alpha=128.0),
    memory=Memory(bf16=True, recompute=True),
    data=CLEAN,
    save_every=20,
    minutes=0.0,
)

sft_full = replace(
    sft_lora, name="qwen_sft_full", optim=replace(optim(1e-5), eps=1e-8), lora=Lora(), memory=ALL_WEIGHTS,
    engine="deepspeed", zero_stage=3,
)  # fmt: skip

dpo_lora = replace(
    sft_lora,
    name="qwen_dpo_lora",
    size=(512, 512),
    reward="ocr_page",
    algorithm=Dpo(DPO_STEPS, batch=32, micro=8, beta=100.0),
    data=None,
    pairs=PairPlan(
        PromptPlan(count=1000, seed=1), group=8, sampler=Sampler(steps=10, guidance=4.0),
        exploration=Exploration(flow.flow_sde, noise=1.2, window=2, within=5),
    ),
    engine="deepspeed",
    zero_stage=2,
)  # fmt: skip

dpo_full = replace(
    dpo_lora, name="qwen_dpo_full", algorithm=replace(dpo_lora.algorithm, batch=8, micro=4),
    optim=replace(optim(1e-5), eps=1e-10), lora=Lora(), memory=ALL_WEIGHTS, zero_stage=3,
)  # fmt: skip

configs = (sft_lora, sft_full, dpo_lora, dpo_full)
