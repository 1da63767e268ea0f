"""Images and prompts in, numbers out. ``REWARDS`` is the whole list: adding a reward is one file and one line here."""

from __future__ import annotations

from rewards.learned import Learned
from rewards.ocr import Ocr, OcrJudge
from rewards.ocr_likelihood import OcrLikelihood
from rewards.ocr_page import OcrFlowGrpo, OcrPage
from rewards.remote import Remote

REWARDS: dict[str, type] = {
    "ocr": Ocr,
    "ocr_judge": OcrJudge,
    "ocr_likelihood": OcrLikelihood,
    "ocr_page": OcrPage,
    "ocr_flow_grpo": OcrFlowGrpo,
    "learned": Learned,
    "remote": Remote,
}
