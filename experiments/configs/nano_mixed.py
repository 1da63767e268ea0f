"""GRPO against a mixture: the words must be right, and the image such as people (or a judge) preferred.

Run:     glyphlab train-reward --pairs runs/quickstart/dpo/pairs.jsonl -o runs/reward
         glyphlab train nano_grpo_mixed --parent runs/quickstart/sft
Takes:   as nano_grpo, and about 1 ms an image for the learned part
Expect:  not run at full length, so there is no number. metrics.jsonl and the report's curves have `reward`, the
         weighted sum, and its parts: part/ocr,
         part/learned:PATH

Any other reward folder: --reward 1.0*ocr+0.1*learned:PATH. The learned part is in log-odds with a spread of a few units
within a group where OCR's is a few tenths, so a weight of 0.05 lets it decide between words that are equally right.

    nano_grpo_mixed    nano_grpo against OCR plus a reward learned from answers; needs --parent
"""

from __future__ import annotations

from dataclasses import replace

from experiments.configs import nano

config = replace(nano.grpo, name="nano_grpo_mixed", reward="1.0*ocr+0.05*learned:runs/reward")
