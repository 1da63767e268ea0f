"""Updates that are left out because something in them is not finite, and when there are too many of them.

One infinite value in a run of thousands of updates is bad luck; several in a row are a fault that the next update will
meet too. Noise and data are functions of the step, so going on is the only way past a bad one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

MOST = 5
"""non-finite updates in a row after which training stops"""


class Skips:
    """Counts non-finite updates in a row. Checkpoints keep the count: a resumed run is the same run."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def skip(self, update: int, metrics: Mapping[str, float]) -> bool:
        """Whether this update must be left out. Raises FloatingPointError at the last of `MOST` in a row."""
        bad = {name: x for name, x in metrics.items() if not math.isfinite(x)}
        self.in_a_row = self.in_a_row + 1 if bad else 0
        if self.in_a_row >= MOST:
            raise FloatingPointError(
                f"update {update}: {', '.join(f'{name} = {x}' for name, x in bad.items())}. The update was not "
                f"applied, nor were those before it, {self.in_a_row} in a row; weights and optimizer are finite. Go on "
                "from the last checkpoint with a lower learning rate (optim.adamw_lr, optim.muon_lr), or look at the "
                "data and rewards of these updates"
            )
        return bool(bad)
