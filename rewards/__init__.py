"""Images and prompts in, numbers out. ``REWARDS`` is the whole list: adding a reward is one file and one line here."""

from __future__ import annotations

from rewards.learned import Learned
from rewards.ocr import Ocr, OcrJudge

REWARDS: dict[str, type] = {"ocr": Ocr, "ocr_judge": OcrJudge, "learned": Learned}
