"""Flow-GRPO of checkpoints of other families: published recipes, and where ours differ. None has run here: no GPU.

Run:     glyphlab plan sd35m_grpo_lora --gpus 1 --card rtx4090-24gb     what fits, before anything is allocated
         glyphlab train sd35m_grpo_lora --prompts.file prompts.txt --engine local            one card
         torchrun --nproc_per_node 8 --no-python glyphlab train sd35m_grpo_lora --prompts.file prompts.txt
         ... --base FOLDER                                               a checkpoint on disk instead of the hub's
Takes:   not measured; `glyphlab plan` estimates an update
Expect:  not measured. Published: OCR accuracy 0.59 -> 0.92 for SD3.5-M with Flow-GRPO (arXiv:2505.05470, Table 1)

Prompts are lines with the text to be rendered in double quotes; flow_grpo's own files read as they are. Settings count
a rank; 8 ranks make 3 x 24 x 8 = 576 images an update, where flow_grpo makes 1,152 a rollout and two updates of half of
them each.

Kept as published (flow_grpo's general_ocr_sd3): 512 px, 10 steps of Flow-SDE with a = 0.7, guidance 4.5 in rollout and
update, the levels of SD3's own scheduler, groups of 24, LoRA 32/64 on all maps of the joint attention at 3e-4 (all
weights: 3e-5), clip range 1e-4, advantages by the spread of the update's raw rewards (`raw_spread`), clipped at 5, KL
0.04 in the published unit (`paper_compat`).

Ours differ in

- the window: 2 of the first 5 steps, and a group starts from one noise. The steps before the window are then computed
  once a group, and two steps are learned from instead of nine (experiments/benchmarks/rollout.py).
- AdamW's eps, 1e-15 instead of 1e-8: gradients of mean log-probabilities are so small that 1e-8 decides the step.
- no float16: weights and activations are bfloat16, latents and likelihoods float32, and masters float32.
- the weight average is updated after every step (0.99) instead of every eighth (0.9).
- the reward reads whole pages, with precision, order and duplicates counted; a word among garbage is not a full mark.
- prompts are encoded once, before training, and the three text encoders (11 GB) are let go.
- a layer that nothing reads, the last block's queries of the text, gets no adapter.

    sd35m_grpo_lora    Flow-GRPO of a LoRA of Stable Diffusion 3.5 medium, against the page reward; one card or more
    sd35m_grpo_full    the same with all weights; many GPUs
"""

from __future__ import annotations

from dataclasses import replace

from base_model.lora import Lora
from experiments.configs.large_grpo import medium_lora, optim

sd35m_lora = replace(
    medium_lora, name="sd35m_grpo_lora", base="stabilityai/stable-diffusion-3.5-medium", size=(512, 512)
)
sd35m_full = replace(sd35m_lora, name="sd35m_grpo_full", lora=Lora(), optim=optim(3e-5))

configs = (sd35m_lora, sd35m_full)
