"""The experiments that have a name: `glyphlab train NAME`."""

from __future__ import annotations

from experiments.configs import nano, nano_edit, nano_vae
from experiments.experiment import Experiment

CONFIGS: dict[str, Experiment] = {
    config.name: config
    for config in (
        nano_vae.config,
        nano.decoder,
        nano.pretrain,
        nano.sft,
        nano.dpo,
        nano.grpo,
        nano.control,
        nano_edit.config,
    )
}
