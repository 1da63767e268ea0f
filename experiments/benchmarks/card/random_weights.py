"""A model as large as a published checkpoint, with random weights, for benchmarks: they ask for time, not for images.

It has no text encoders, as a run has none once its prompts are encoded: a prompt is a row of random numbers, as long as
that of a long prompt.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import torch

from base_model.families.diffusers_model import DiffusersModel
from base_model.families.encoded_prompts import EncodedPrompts, Request
from base_model.families.family import Family, Row, class_of_diffusers
from base_model.files.hub import read_json
from base_model.lora import Lora, add_adapter
from base_model.seeding import generator
from experiments.planning.dry_run import storing
from experiments.planning.family_plan import PUBLISHED, family_behind


class RandomPrompts(EncodedPrompts):
    """Answers with random rows, the same for the same prompt."""

    def __init__(self, family: Family) -> None:
        super().__init__(family, lambda: None)

    def _encode(self, requests: Sequence[Request]) -> list[Row]:
        return [random_row(self.family, repr(text)) for text, _ in requests]


def random_row(family: Family, text: str) -> Row:
    """A long prompt's row with values that the text decides."""
    random = generator(0, zlib.crc32(text.encode()), 0, "row")
    return {name: torch.randn(value.shape, generator=random) for name, value in family.hollow_row().items()}


def family_of_base(base: str) -> Family:
    """The family of a published checkpoint. Raises ValueError that lists those whose sizes are known."""
    family = family_behind(base)
    if family is None:
        known = ", ".join(sorted(path.name for path in PUBLISHED.iterdir()))
        raise ValueError(f"base={base!r} is neither a folder nor one of {known}")
    return family


def random_model(
    base: str, image: tuple[int, int], lora: Lora, device: str = "cpu", dtype: torch.dtype = torch.bfloat16
) -> DiffusersModel:
    """The model of a folder or of a published checkpoint's name, its network in `dtype` and its autoencoder in float32.

    An adapter is added where `lora` has a rank; its targets are the family's. Weights have torch's own spread.
    """
    family = family_of_base(base)
    schedule = read_json(family.folder / "scheduler" / "scheduler_config.json")
    scheduler = class_of_diffusers(family.index["scheduler"][1]).from_config(schedule)
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        with storing(dtype):
            network = class_of_diffusers(family.network_config["_class_name"]).from_config(family.network_config)
        vae = class_of_diffusers(family.index["vae"][1]).from_config(family.vae_config)
    model = DiffusersModel(
        family, network.to(dtype=dtype), vae, scheduler, RandomPrompts(family), image, device, str(family.folder)
    )
    if lora.rank:
        add_adapter(model.network, replace(lora, targets=model.lora_targets))
    return model
