"""The formats that there are."""

from __future__ import annotations

from preference_data.exchange.formats.diffusion_dpo import DIFFUSION_DPO
from preference_data.exchange.formats.hpdv3 import HPDV3
from preference_data.exchange.formats.imagereward import IMAGEREWARD
from preference_data.exchange.formats.label_studio import LABEL_STUDIO
from preference_data.exchange.formats.pickapic import PICKAPIC
from preference_data.exchange.formats.plain import JSONL, PARQUET
from preference_data.exchange.formats.preference_format import Format
from preference_data.exchange.formats.trl import KTO, TRL
from preference_data.spelling import unknown

FORMATS = {f.name: f for f in (JSONL, PARQUET, PICKAPIC, HPDV3, IMAGEREWARD, DIFFUSION_DPO, TRL, KTO, LABEL_STUDIO)}


def find(name: str) -> Format:
    """The format of that name. Raises ValueError listing those there are."""
    if name not in FORMATS:
        raise ValueError(unknown("format", name, FORMATS, "glyphlab list formats"))
    return FORMATS[name]
