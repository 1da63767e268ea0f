"""What a comparison of rewards is made of: the options of `glyphlab compare-rewards`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg


@dataclass(frozen=True)
class ComparisonPlan:
    """What is compared, and how."""

    pairs: Annotated[Path, arg(metavar="FILE")]
    """answers or training pairs, one JSON object a line, with their images beside it"""
    rewards: str = ""
    """the rewards, as in: ocr,brisque,learned:runs/reward,vlm:model=...,0.7*ocr+0.3*brisque"""
    out: Annotated[Path, arg(aliases=["-o"])] = Path("runs/comparison")
    """folder of the report and of the scores, so that nothing is scored twice"""
    scores: Annotated[Path | None, arg(metavar="CSV")] = None
    """scores made elsewhere: sha256, perhaps prompt_id, and a column a reward"""
    judged: Annotated[Path | None, arg(metavar="FILE")] = None
    """answers of judges of pairs, in the form of --pairs; a pair with its sides exchanged is the other order"""
    gold: str = "people"
    """the gold that best-of-N is held against: people, or one of the rewards"""
    probe_images: int = 12
    """own images that every probe changes; 0 = no probes"""
    seed: int = 0
    """of the resamples, the splits and the probes"""
    held_out: Annotated[Path | None, arg(metavar="FILE")] = None
    """compare only on these answers, such as runs/reward/held_out.jsonl; found by itself where a reward was trained on
    --pairs"""
