"""Learning from rewards with checkpoints of other families: published recipes, and where ours differ. None has run on a
GPU here.

Run:     glyphlab plan sd35m_grpo_lora --gpus 1 --card rtx4090-24gb     what fits, before anything is allocated
         glyphlab train sd35m_grpo_lora --prompts.file prompts.txt --engine local            one card
         torchrun --nproc_per_node 8 --no-python glyphlab train sd35m_grpo_lora --prompts.file prompts.txt
         ... --base FOLDER                                               a checkpoint on disk instead of the hub's
Takes:   not measured; `glyphlab plan` estimates an update
Expect:  not measured. Published: OCR accuracy 0.59 -> 0.92 for SD3.5-M with Flow-GRPO (arXiv:2505.05470, Table 1)

Every recipe samples at 512 px. Settings count a rank; those of several cards are for 8 ranks, and docs/how-to the
commands for one card, 8 cards and 8 nodes of 8 (families.md). The reward of most is PickScore; sd35m_geneval_lora asks
a vision-language model whether the image shows what the prompt says, in place of GenEval's detectors. Any other:
--reward.

Kept as published

               images an update  steps  guidance  noise  window          clip   LoRA, rate      KL
      sd35m    3 x 24 x 8 = 576  10     4.5       0.7    all but last    1e-4   32/64, 3e-4     0.04; PickScore 0.01
      flux1    3 x 24 x 8 = 576  6      3.5       0.9    all but last    1e-4   32/64, 3e-4     none
      klein    3 x 16 x 8 = 384  8      4         0.7    1 of steps 2-4  1e-4   64/128, 3e-4    none
      z_image  3 x 16 x 8 = 384  10     4         0.7    1 of steps 2-4  1e-4   64/128, 3e-4    none
      qwen21   16 x 16 = 256     10     1         1.2    2 of steps 4-5  1e-4   64/128, 1e-4    none

sd35m and flux1 are flow_grpo's (general_ocr_sd3, pickscore_sd3, geneval_sd3, pickscore_flux), klein and z_image are
Flow-Factory's (examples/grpo), qwen21 is miles_diffusion's for one card. Advantages are divided by the update's spread
of raw rewards (`raw_spread`), by the group's for klein and z_image, and clipped at 5. Z-Image's guidance of 4 is 5
here, as its pipeline counts from 0. FLUX.1 reads its guidance as a number. All weights learn at 3e-5 (sd35m) and 1e-5.

Ours differ in

- the window: 2 of the first 5 steps (4 where published is 1 of steps 2-4; 3 of the 6 of FLUX.1), and a group starts
  from one noise. The steps before the window are then computed once a group, and two steps are learned from instead of
  nine (experiments/benchmarks/rollout.py).
- klein's clip range, 1e-5: Flow-Factory's users report that klein is unstable at 1e-4 where Z-Image is not.
- one update a rollout, where the published ones make two of half of its images each; qwen21 makes two of all of them.
- klein samples at 512 px instead of 384.
- AdamW's eps, 1e-15 instead of 1e-8: gradients of mean log-probabilities are so small that 1e-8 decides the step.
- no float16: weights and activations are bfloat16, latents and likelihoods float32, and masters float32.
- the weight average is updated after every step (0.99) instead of every fourth or eighth (0.9).
- the reward of text reads whole pages, with precision, order and duplicates counted; a word among garbage is not a full
  mark. `--reward ocr_flow_grpo` is the published one.
- prompts are encoded once, before training, and the text encoders are let go.
- a layer that nothing reads, as SD3.5-M's last block's queries of the text, gets no adapter.

*_guard_lora (`guarded`): GRPO-Guard (arXiv:2510.22319) with two updates a rollout, so that there is something to clip,
in the unit of alignment/guard.py, which no published setting has.

*_nft_lora (`learned_forward`): DiffusionNFT (arXiv:2509.16117) without guidance and with deterministic rollouts, as
published, at 3e-4, KL 1e-4, mix 1 (0.1 for OCR). Ours differ in Euler's steps instead of DPM-Solver's second-order
ones, noise levels drawn at random (four an image) instead of every level of the rollout, and an old policy that is the
weight average at 0.99 from the first update on, instead of one that begins at 0.

    sd35m_grpo_lora       Flow-GRPO of a LoRA of Stable Diffusion 3.5 medium, against the page reward; one card or more
    sd35m_grpo_full       Flow-GRPO of all weights of Stable Diffusion 3.5 medium, against the page reward; many GPUs
    sd35m_guard_lora      GRPO-Guard of a LoRA of Stable Diffusion 3.5 medium, against the page reward
    sd35m_nft_lora        DiffusionNFT of a LoRA of Stable Diffusion 3.5 medium, against the page reward
    sd35m_pickscore_lora  Flow-GRPO of a LoRA of Stable Diffusion 3.5 medium, against PickScore
    sd35m_geneval_lora    Flow-GRPO of a LoRA of Stable Diffusion 3.5 medium for objects, counts, colours and places,
                          judged by a VLM
    flux1_grpo_lora       Flow-GRPO of a LoRA of FLUX.1-dev, against PickScore; many GPUs
    flux1_grpo_full       Flow-GRPO of all weights of FLUX.1-dev, against PickScore; many GPUs
    flux1_guard_lora      GRPO-Guard of a LoRA of FLUX.1-dev, against PickScore
    flux1_nft_lora        DiffusionNFT of a LoRA of FLUX.1-dev, against PickScore
    klein_grpo_lora       Flow-GRPO of a LoRA of FLUX.2-klein-base-4B, against PickScore; one card or more
    klein_grpo_full       Flow-GRPO of all weights of FLUX.2-klein-base-4B, against PickScore; many GPUs
    klein_guard_lora      GRPO-Guard of a LoRA of FLUX.2-klein-base-4B, against PickScore
    klein_nft_lora        DiffusionNFT of a LoRA of FLUX.2-klein-base-4B, against PickScore
    z_image_grpo_lora     Flow-GRPO of a LoRA of Z-Image, against PickScore; one card or more
    z_image_grpo_full     Flow-GRPO of all weights of Z-Image, against PickScore; many GPUs
    z_image_guard_lora    GRPO-Guard of a LoRA of Z-Image, against PickScore
    z_image_nft_lora      DiffusionNFT of a LoRA of Z-Image, against PickScore
    qwen21_grpo_lora      Flow-GRPO of a LoRA of Qwen-Image 2.1, against PickScore; one card
    qwen21_guard_lora     GRPO-Guard of a LoRA of Qwen-Image 2.1, against PickScore
    qwen21_nft_lora       DiffusionNFT of a LoRA of Qwen-Image 2.1, against PickScore
    qwen_guard_lora       GRPO-Guard of a LoRA of the released Qwen-Image, against the page reward
    qwen_nft_lora         DiffusionNFT of a LoRA of the released Qwen-Image, against the page reward
"""

from __future__ import annotations

from dataclasses import replace

from alignment.groups import Groups
from alignment.guard import Guard
from alignment.nft import Nft
from alignment.trajectory import Exploration
from base_model.engine.mixed_precision import Memory
from base_model.lora import Lora
from base_model.sample import Sampler
from experiments.configs.large_grpo import STEPS, medium_lora, optim, qwen_lora
from experiments.experiment import Experiment

PICKSCORE = "pickscore:weights=yuvalkirstain/PickScore_v1,tokenizer=laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
FOLLOWS_PROMPT = "vlm:weights=Qwen/Qwen2.5-VL-7B-Instruct,rubric=alignment"


def guarded(experiment: Experiment, name: str) -> Experiment:
    """The recipe under GRPO-Guard, whose clip range has a unit of its own."""
    cfg = {**vars(experiment.algorithm), "updates": 2}
    del cfg["clip"]
    return replace(experiment, name=name, algorithm=Guard(**cfg))


def learned_forward(experiment: Experiment, name: str, mix: float = 1.0, guidance: float = 1.0) -> Experiment:
    """The recipe under DiffusionNFT: images are finished without noise on their way, from a noise of their own each."""
    cfg: Groups = experiment.algorithm  # type: ignore[assignment]
    nft = Nft(
        STEPS, cfg.prompts, cfg.group, Sampler(cfg.sampler.steps, guidance),
        Exploration(window=0, within=2, shared_noise=False), micro=cfg.micro, raw_spread=True, levels=4, mix=mix,
        beta=1e-4,
    )  # fmt: skip
    return replace(experiment, name=name, algorithm=nft, optim=optim(3e-4))


def versions(experiment: Experiment, mix: float = 1.0, guidance: float = 1.0) -> tuple[Experiment, Experiment]:
    """A recipe of Flow-GRPO under GRPO-Guard and under DiffusionNFT."""
    guard, nft = (experiment.name.replace("grpo", name) for name in ("guard", "nft"))
    return guarded(experiment, guard), learned_forward(experiment, nft, mix, guidance)


def with_all_weights(experiment: Experiment) -> Experiment:
    """The recipe without an adapter: weights, gradients and optimizer in slices, the optimizer in host memory."""
    return replace(
        experiment, name=experiment.name.replace("lora", "full"), lora=Lora(), optim=optim(1e-5), zero_stage=3,
        memory=Memory(bf16=True, recompute=True, offload=True),
    )  # fmt: skip


sd35m = replace(medium_lora, name="sd35m_grpo_lora", base="stabilityai/stable-diffusion-3.5-medium", size=(512, 512))
sd35m_full = replace(sd35m, name="sd35m_grpo_full", lora=Lora(), optim=optim(3e-5))
sd35m_pickscore = replace(
    sd35m, name="sd35m_pickscore_lora", reward=PICKSCORE, algorithm=replace(sd35m.algorithm, beta=0.01)
)
sd35m_geneval = replace(sd35m, name="sd35m_geneval_lora", reward=FOLLOWS_PROMPT)

flux1 = replace(
    sd35m,
    name="flux1_grpo_lora",
    base="black-forest-labs/FLUX.1-dev",
    reward=PICKSCORE,
    algorithm=replace(
        sd35m.algorithm, sampler=Sampler(steps=6, guidance=3.5), beta=0.0, paper_compat=False,
        exploration=replace(sd35m.algorithm.exploration, noise=0.9, within=3),
    ),
)  # fmt: skip
klein = replace(
    flux1,
    name="klein_grpo_lora",
    base="black-forest-labs/FLUX.2-klein-base-4B",
    algorithm=replace(
        flux1.algorithm, group=16, micro=16, sampler=Sampler(steps=8, guidance=4.0), clip=1e-5,
        raw_spread=False, group_spread=True,
        exploration=replace(flux1.algorithm.exploration, noise=0.7, within=4),
    ),
    lora=Lora(rank=64, alpha=128.0),
)  # fmt: skip
z_image = replace(
    klein,
    name="z_image_grpo_lora",
    base="Tongyi-MAI/Z-Image",
    algorithm=replace(klein.algorithm, sampler=Sampler(steps=10, guidance=5.0), clip=1e-4),
)
qwen21 = replace(
    klein,
    name="qwen21_grpo_lora",
    base="Qwen/Qwen-Image-2.1",
    algorithm=replace(
        flux1.algorithm, prompts=16, group=16, micro=16, updates=2, sampler=Sampler(steps=10),
        exploration=replace(flux1.algorithm.exploration, noise=1.2, within=5),
    ),
    optim=optim(1e-4),
    engine="local",
)  # fmt: skip

configs = (
    sd35m,
    sd35m_full,
    *versions(sd35m, mix=0.1),
    sd35m_pickscore,
    sd35m_geneval,
    flux1,
    with_all_weights(flux1),
    *versions(flux1, guidance=flux1.algorithm.sampler.guidance),  # which it reads as a number
    klein,
    with_all_weights(klein),
    *versions(klein),
    z_image,
    with_all_weights(z_image),
    *versions(z_image),
    qwen21,
    *versions(qwen21),
    *versions(qwen_lora, mix=0.1),
)
