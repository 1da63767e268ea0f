"""The noise levels of a released checkpoint, as its scheduler_config.json asks for them.

    (N1)  mu(S) = base_shift + (max_shift - base_shift) (S - base_tokens) / (max_tokens - base_tokens)
    (N2)  levels: uniform, shifted by e^mu (flow.py, F4), stretched so that the last before 0 is `terminal`

S counts the tokens of the image to be made alone, and is not clamped. A key that is missing must be asked for:
diffusers' pipelines silently take another model's (max_shift 1.15 at 4096 tokens instead of 0.9 at 8192).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from base_model import flow

SCHEDULER = "FlowMatchEulerDiscreteScheduler"
NEEDED = ("use_dynamic_shifting", "shift_terminal")
DYNAMIC = ("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len", "time_shift_type")
OFF = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "stochastic_sampling", "invert_sigmas")
"""settings of that scheduler that none of the family uses"""


@dataclass(frozen=True)
class Schedule:
    """Settings of (N1) and (N2); the defaults are those of Qwen-Image."""

    base_shift: float = 0.5
    max_shift: float = 0.9
    base_tokens: int = 256
    max_tokens: int = 8192
    terminal: float = 0.02
    """last noise level before 0; 0 = where the shift puts it"""

    def mu(self, tokens: int) -> float:
        """(N1)"""
        slope = (self.max_shift - self.base_shift) / (self.max_tokens - self.base_tokens)
        return self.base_shift + slope * (tokens - self.base_tokens)

    def levels(self, steps: int, tokens: int) -> list[float]:
        """(N2): `steps` + 1 noise levels from 1 to 0 for an image of so many tokens."""
        return flow.schedule(steps, self.mu(tokens), self.terminal)


def read_schedule(folder: Path) -> Schedule:
    """The schedule of a scheduler/ folder. Raises ValueError naming the setting that is missing or not understood."""
    path = folder / "scheduler_config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}; fetch it again") from error
    if config.get("_class_name") != SCHEDULER:
        raise ValueError(f"{path} is of {config.get('_class_name')!r}; this family is sampled by {SCHEDULER}")
    if used := [name for name in OFF if config.get(name)]:
        raise ValueError(f"{path} switches {', '.join(used)} on, which no checkpoint of this family was made with")
    dynamic = bool(config.get("use_dynamic_shifting"))
    if lost := [name for name in (*NEEDED, *(DYNAMIC if dynamic else ("shift",))) if name not in config]:
        raise ValueError(
            f"{path} lacks {', '.join(lost)}: a guess would shift the noise levels of every image. Take the "
            "scheduler_config.json that was released with the weights"
        )
    terminal = float(config["shift_terminal"] or 0.0)
    if not 0.0 <= terminal < 1.0:
        raise ValueError(f"{path}: shift_terminal={terminal} must be null or in [0, 1)")
    if not dynamic:  # a fixed shift is e^mu at every size
        if not float(config["shift"]) > 0.0:
            raise ValueError(f"{path}: shift={config['shift']} must be > 0")
        mu = math.log(float(config["shift"]))
        return Schedule(mu, mu, terminal=terminal)
    if config["time_shift_type"] != "exponential":
        raise ValueError(f"{path}: time_shift_type={config['time_shift_type']!r}; this family's is 'exponential'")
    base, most = int(config["base_image_seq_len"]), int(config["max_image_seq_len"])
    if base >= most:
        raise ValueError(f"{path}: base_image_seq_len={base} must be below max_image_seq_len={most}")
    return Schedule(float(config["base_shift"]), float(config["max_shift"]), base, most, terminal)
