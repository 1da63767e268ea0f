"""What the filters by a reward share: the number needs weights, so each is off until somebody names a reward."""

from __future__ import annotations

import numpy as np

from experiments.curation.filters.rules import AtLeast, Columns


class Scored(AtLeast):
    """Drops what a reward scores below a number; off without a reward."""

    reward: str = ""
    """as for `glyphlab score`; "" = off"""

    def bounds(self) -> dict[str, float]:
        """No threshold without a reward."""
        return super().bounds() if self.reward else {}

    def shown(self, columns: Columns) -> np.ndarray:
        """The scores; NaN where the filter is off."""
        return columns[self.column] if self.column in columns else np.full(len(columns["name"]), np.nan)
