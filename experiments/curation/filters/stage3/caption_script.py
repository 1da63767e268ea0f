"""Drops captions by the scripts of their letters."""

from __future__ import annotations

import numpy as np

from experiments.curation.filters.rules import REPORT, AtLeast, Columns
from experiments.curation.measures.caption_facts import SCRIPTS


class CaptionScript(AtLeast):
    """Captions in another script than those that are wanted; all are where none is named."""

    stage = 3
    column = "wanted_script"
    unit = "share of letters in the wanted scripts"
    reason = "a text encoder that knows one script reads the others as noise"
    source = f"{REPORT}: the splits by language of stage 4"
    rendered = True
    of_captions = True
    scripts: tuple[str, ...] = ()
    """such as latin or han|kana; () = all"""
    least: float = 0.5

    def __post_init__(self) -> None:
        known = sorted({*SCRIPTS.values()})
        if wrong := [name for name in self.scripts if name not in known]:
            raise ValueError(f"there is no script {wrong[0]!r}; there are {', '.join(known)}")

    def bounds(self) -> dict[str, float]:
        """No threshold where all scripts are wanted."""
        return super().bounds() if self.scripts else {}

    def shown(self, columns: Columns) -> np.ndarray:
        """The share of letters in the wanted scripts; NaN for captions without letters."""
        shares = [columns[f"letters_{script}"] for script in dict.fromkeys(self.scripts)]
        return np.sum(shares, axis=0) if shares else np.full(len(columns["words"]), np.nan)
