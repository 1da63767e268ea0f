"""The experiments that have a name: `glyphlab train NAME`."""

from __future__ import annotations

from experiments.configs import (
    any_base,
    edits_online,
    families_online,
    large_grpo,
    large_tuning,
    nano,
    nano_algorithms,
    nano_bilingual,
    nano_edit,
    nano_hacking,
    nano_race,
    nano_repair,
    nano_taste,
    nano_vae,
)
from experiments.experiment import Experiment

CONFIGS: dict[str, Experiment] = {
    config.name: config
    for config in (
        *any_base.configs,
        nano_vae.config,
        nano_vae.decoder,
        nano.decoder,
        nano.pretrain,
        nano.sft,
        nano.dpo,
        nano.grpo,
        nano.control,
        *nano_bilingual.configs,
        *nano_taste.configs,
        nano_edit.config,
        *nano_algorithms.configs,
        nano_hacking.config,
        nano_hacking.grpo,
        nano_hacking.dpo,
        nano_hacking.sft,
        *nano_repair.configs,
        *nano_race.configs,
        *large_grpo.configs,
        *families_online.configs,
        *edits_online.configs,
        *large_tuning.configs,
    )
}
