"""Every reward by its name. Adding one is one file, and two lines here: its import and its name."""

from __future__ import annotations

from rewards.chance import Chance
from rewards.glyph.glyph import Glyph
from rewards.language.chat_judge import ServerJudge
from rewards.language.hpsv3 import HpsV3
from rewards.language.local_judge import Vlm
from rewards.learned.reward import Learned
from rewards.published.aesthetic import AestheticV25, LaionAesthetic
from rewards.published.brisque import Brisque
from rewards.published.clip import ClipScore, HpsV21, PickScore
from rewards.published.imagereward import ImageReward
from rewards.serving.remote import Remote
from rewards.text.ocr import Ocr, OcrGold
from rewards.text.ocr_contains import OcrContains
from rewards.text.ocr_likelihood import OcrLikelihood
from rewards.text.ocr_page import OcrFlowGrpo, OcrPage

REWARDS: dict[str, type] = {
    "ocr": Ocr,
    "ocr_judge": OcrGold,
    "ocr_likelihood": OcrLikelihood,
    "ocr_contains": OcrContains,
    "ocr_page": OcrPage,
    "ocr_flow_grpo": OcrFlowGrpo,
    "glyph": Glyph,
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
    "chance": Chance,
}
