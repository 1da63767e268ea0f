"""Images and prompts in, numbers out. ``REWARDS`` is the whole list: adding a reward is one file and one line here."""

from __future__ import annotations

from rewards.aesthetic import AestheticV25, LaionAesthetic
from rewards.clip import ClipScore, HpsV21, PickScore
from rewards.hpsv3 import HpsV3
from rewards.imagereward import ImageReward
from rewards.learned import Learned
from rewards.ocr import Ocr, OcrJudge
from rewards.ocr_contains import OcrContains
from rewards.ocr_likelihood import OcrLikelihood
from rewards.ocr_page import OcrFlowGrpo, OcrPage
from rewards.quality import Brisque
from rewards.remote import Remote
from rewards.server_judge import ServerJudge
from rewards.vlm import Vlm

REWARDS: dict[str, type] = {
    "ocr": Ocr,
    "ocr_judge": OcrJudge,
    "ocr_likelihood": OcrLikelihood,
    "ocr_contains": OcrContains,
    "ocr_page": OcrPage,
    "ocr_flow_grpo": OcrFlowGrpo,
    "learned": Learned,
    "brisque": Brisque,
    "clipscore": ClipScore,
    "pickscore": PickScore,
    "hpsv2": HpsV21,
    "hpsv3": HpsV3,
    "imagereward": ImageReward,
    "laion_aesthetic": LaionAesthetic,
    "aesthetic_v25": AestheticV25,
    "vlm": Vlm,
    "server": ServerJudge,
    "remote": Remote,
}
