"""What repairs the quickstart's pretrained model: prompts alone, or clean images with true captions, and how many.

Run:     glyphlab sweep repair_nft,repair_grpo,repair_more_brief,repair_6_brief,repair_24_brief,repair_96_brief,\\
         repair_384_brief,repair_6,repair_24,repair_96,repair_384 --parent
         runs/quickstart/pretrain --start --prompts 512 --steps 6
         With a quickstart for each of three seeds (glyphlab quickstart --seed 1 -o runs/1): --seeds 0,1,2
         --parent 'runs/{seed}/pretrain'
Takes:   229 CPU seconds a run, the brief ones 15
Expect:  of 256 held-out full captions, three seeds: 0.898 exact at the start and 0.969 with guidance, 0.935 after 40
         updates on 24, 96 or 384 clean images, 0.892 after 40 on noisy captions; taste_ocr reaches 0.967.
         At equal time: 0.845 and 0.957 by 24 and 384 images, 0.943 by NFT; two seeds: 0.436 and 0.936 by 6 and
         96 images (experiments/reports/2026-11-30-repair.md)

Fine-tuning sees N rendered images, half of them English and half Chinese, with true full captions, by pretraining's own
loss; of two sets the smaller is in the larger. It is judged after 40 updates, on a schedule of their own, and after as
many as take NFT's time.

    repair_nft         DiffusionNFT on OCR alone, no pull, full captions of both languages as prompts; needs --parent
    repair_grpo        GRPO on OCR alone, full captions of both languages as prompts; needs --parent
    repair_more_brief  no repair: 40 updates on images with captions as noisy as pretraining's; needs --parent
    repair_6_brief     fine-tuning on 6 clean images, 40 updates; needs --parent
    repair_24_brief    fine-tuning on 24 clean images, 40 updates; needs --parent
    repair_96_brief    fine-tuning on 96 clean images, 40 updates; needs --parent
    repair_384_brief   fine-tuning on 384 clean images, 40 updates; needs --parent
    repair_6           fine-tuning on 6 clean images, for as long as repair_nft; needs --parent
    repair_24          fine-tuning on 24 clean images, for as long as repair_nft; needs --parent
    repair_96          fine-tuning on 96 clean images, for as long as repair_nft; needs --parent
    repair_384         fine-tuning on 384 clean images, for as long as repair_nft; needs --parent
    repair_all         fine-tuning on clean images that never come twice, for as long; needs --parent
"""

from __future__ import annotations

from dataclasses import replace

from base_model.data.stream import Stage, TextStream
from base_model.sft import Sft
from experiments.configs import nano, nano_taste
from experiments.experiment import Experiment, PromptPlan

COUNTS = (6, 24, 96, 384)
ROLLOUTS = 130
"""Of `nft` and `grpo`."""
BRIEF_STEPS, EQUAL_STEPS = 40, 880
"""Of fine-tuning: a look, and as many as take the time of `nft`."""
PROMPTS = PromptPlan(count=2000, seed=31, levels=nano_taste.LANGUAGES)

nft = replace(
    nano_taste.ocr,
    name="repair_nft",
    algorithm=replace(nano_taste.ocr.algorithm, steps=ROLLOUTS, beta=0.0, reference_guidance=1.0),
    prompts=PROMPTS,
    minutes=4.0,
)

grpo = replace(
    nano.grpo,
    name="repair_grpo",
    algorithm=replace(nano.grpo.algorithm, steps=ROLLOUTS, sampler=nano_taste.SAMPLER),
    prompts=PROMPTS,
    minutes=4.0,
)


def clean(count: int, name: str = "", steps: int = EQUAL_STEPS) -> Experiment:
    """Fine-tuning on so many clean images, 0 = endless."""
    return replace(
        nano.sft,
        name=f"repair_{name or count}",
        algorithm=Sft(steps=steps, batch=64, micro=64, sigma_mean=1.0, sigma_power=1.0),
        data=TextStream(seed=32, stages=(Stage(0, (0, 0, 0, 0, 1, 0, 0, 1)),), limit=count),
        save_every=100,
        minutes=steps * 0.0045,
    )


more = clean(0, "more_brief", BRIEF_STEPS)
more = replace(more, data=replace(more.data, noise=nano_taste.OPENED))
"""What the same updates do where captions stay as pretraining's are: not to be put down to clean images."""

configs = (
    nft,
    grpo,
    more,
    *(clean(count, f"{count}_brief", BRIEF_STEPS) for count in COUNTS),
    *(clean(count) for count in COUNTS),
    clean(0, "all"),
)
