"""What a reader of a quickstart report should know before believing it."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.configs import nano
from experiments.record.whole_files import write_bytes


def verdict(row: dict) -> str:
    """A paired difference in words."""
    (low, high), delta = row["ci"], row["delta"]
    where = "above" if low > 0 else "below" if high < 0 else "not separable from"
    return f"{delta:+.3f} ({low:+.3f} to {high:+.3f}), {where} 0"


def write_notes(folder: Path) -> None:
    """Write `folder`/notes.md from the configuration and the summary."""
    result = json.loads((folder / "summary.json").read_text())
    stages, paired = result["stages"], result["paired"]
    noise = nano.WEB
    guidance = stages["sft"]["guided"]["ned_score"] - stages["sft"]["ned_score"]
    text = f"""
- **Reinforcement learning needs prompts and no images; that is the comparison.** Pretraining's captions are noisy on
  purpose ({noise.misspelt:.0%} misspelt, {noise.textless:.0%} without their text, {noise.incomplete:.0%} incomplete)
  and the clean fine-tuning set has {nano.CLEAN.limit} images. The control goes on with that set
  for a fixed number of updates, which took {stages["control"]["seconds"]:.0f} s in this run; GRPO took
  {stages["grpo"]["seconds"]:.0f} s.
- **GRPO against the control, 1 - NED:** {verdict(paired["grpo_vs_control"])}.
- **DPO against the control, 1 - NED:** {verdict(paired["dpo_vs_control"])}.
- **Guidance alone** moves the fine-tuned model by {guidance:+.3f} at no training cost (and twice the sampling cost).
- **The judge engine** is another generation and architecture of recogniser of the same family. Its gain is
  {paired["grpo_vs_sft"]["judge"]["delta"]:+.3f} for GRPO and {paired["dpo_vs_sft"]["judge"]["delta"]:+.3f} for DPO.
- **Diversity** (mean pixel distance between images of one prompt): {stages["sft"]["diversity"]:.3f} after
  fine-tuning, {stages["dpo"]["diversity"]:.3f} after DPO, {stages["grpo"]["diversity"]:.3f} after GRPO. Captions name
  everything, so a perfect model has almost none.
- One training seed. Intervals are over prompts, not over training runs.
"""
    write_bytes(folder / "notes.md", text.strip().encode())
