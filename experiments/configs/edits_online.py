"""Learning from rewards with checkpoints that edit: published recipes, and where ours differ. None has run on a GPU.

Run:     glyphlab plan kontext_grpo_lora --gpus 8 --card h100-80gb      what fits, before anything is allocated
         torchrun --nproc_per_node 8 --no-python glyphlab train qwen_edit_grpo_lora --prompts.file edits.jsonl
         torchrun ... glyphlab train kontext_grpo_lora --prompts.file edits.jsonl     (docs/how-to/edits.md)
Takes:   not measured; `glyphlab plan` estimates an update
Expect:  not measured; nobody has published numbers for these settings

Prompts are instructions with the images that they are about; plans count with one image each. Kept as published
(flow_grpo's counting_flux_kontext and counting_qwenimage_edit): 512 px, 6 and 10 steps of Flow-SDE with a = 0.9 and
1.0, guidance 2.5, which Kontext reads as a number, and 4, groups of 21 and 16, advantages by the spread of the update's
raw rewards, clipped at 5, no KL; LoRA 64/128. Settings count a rank: 8 of them make 3 x 21 x 8 = 504 and 4 x 16 x 8 =
512 images an update.

Ours differ in

- the reward: a vision-language model is asked whether the edit was made, and only the edit, in place of likeness to the
  source and GenEval's detectors, whose files of prompts are needed for them. Any other: --reward.
- source images keep their proportions, with the area of 512 x 512, and are not squeezed into a square.
- Qwen-Image-Edit-2509, which takes up to three images, in place of the first edition, which takes one.
- all that experiments/configs/families_online.py lists: the window (2 of Kontext's first 3 steps, 2 of the first 5),
  one noise a group, one update a rollout, AdamW's eps, no float16, the weight average.

    kontext_grpo_lora      Flow-GRPO of a LoRA of FLUX.1 Kontext on edits, judged by a VLM; many GPUs
    qwen_edit_grpo_lora    Flow-GRPO of a LoRA of Qwen-Image-Edit-2509 on edits, judged by a VLM; many GPUs
"""

from __future__ import annotations

from dataclasses import replace

from base_model.lora import Lora
from base_model.sample import Sampler
from experiments.configs.families_online import flux1
from experiments.configs.large_grpo import qwen_lora
from experiments.experiment import PromptPlan

FAITHFUL = "vlm:weights=Qwen/Qwen2.5-VL-7B-Instruct,rubric=edit_faithfulness"
PROMPTS = PromptPlan(count=1000, seed=1, sources=1)

kontext = replace(
    flux1,
    name="kontext_grpo_lora",
    base="black-forest-labs/FLUX.1-Kontext-dev",
    reward=FAITHFUL,
    prompts=PROMPTS,
    algorithm=replace(flux1.algorithm, group=21, micro=21, sampler=Sampler(steps=6, guidance=2.5)),
    lora=Lora(rank=64, alpha=128.0),
)
qwen_edit = replace(
    qwen_lora,
    name="qwen_edit_grpo_lora",
    base="Qwen/Qwen-Image-Edit-2509",
    reward=FAITHFUL,
    prompts=PROMPTS,
    algorithm=replace(qwen_lora.algorithm, exploration=replace(qwen_lora.algorithm.exploration, noise=1.0)),
)

configs = (kontext, qwen_edit)
