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
    noise, base = nano.WEB, stages["pretrain"]
    guidance = base["guided"]["ned_score"] - base["ned_score"]
    text = f"""
- **DPO and GRPO begin from the pretrained model and need prompts and no images; that is the comparison.** Pretraining's
  captions are noisy on purpose ({noise.misspelt:.0%} misspelt, {noise.textless:.0%} without their text,
  {noise.incomplete:.0%} incomplete). Fine-tuning sees {nano.CLEAN.limit} clean images instead, for
  {nano.SFT_STEPS} updates ({stages["sft"]["seconds"]:.0f} s in this run). The control goes on with them for
  {nano.CONTROL_STEPS} more ({stages["control"]["seconds"]:.0f} s; GRPO took {stages["grpo"]["seconds"]:.0f} s).
- **GRPO against fine-tuning, 1 - NED:** {verdict(paired["grpo_vs_sft"])}; against the control:
  {verdict(paired["grpo_vs_control"])}.
- **DPO against fine-tuning, 1 - NED:** {verdict(paired["dpo_vs_sft"])}; against the control:
  {verdict(paired["dpo_vs_control"])}.
- **Images repair what is wrong, where clean ones can be had:** the control over pretraining, 1 - NED:
  {verdict(paired["control_vs_pretrain"])}. Alignment is for what no image shows.
- **Guidance alone** moves the pretrained model by {guidance:+.3f} at no training cost (and twice the sampling cost).
- **The gold engine** is another generation and architecture of recogniser of the same family. Its gain is
  {paired["grpo_vs_pretrain"]["judge"]["delta"]:+.3f} for GRPO and {paired["dpo_vs_pretrain"]["judge"]["delta"]:+.3f}
  for DPO.
- **Diversity** (mean pixel distance between images of one prompt): {base["diversity"]:.3f} after pretraining,
  {stages["dpo"]["diversity"]:.3f} after DPO, {stages["grpo"]["diversity"]:.3f} after GRPO. Captions name everything, so
  a perfect model has almost none.
- One training seed. Intervals are over prompts, not over training runs.
"""
    write_bytes(folder / "notes.md", text.strip().encode())
