"""Recipes of other families: published settings, and what a plan knows of their checkpoints without the network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alignment.guard import Guard
from alignment.nft import Nft
from experiments.configs import CONFIGS
from experiments.configs.families_online import configs
from experiments.planning.family_plan import PUBLISHED, family_behind
from experiments.planning.hollow_pipeline import depth_of, with_depth
from rewards.parse import named_reward

pytest.importorskip("diffusers")
WEIGHTS = {
    "stabilityai/stable-diffusion-3.5-medium": 2_243_171_520, "black-forest-labs/FLUX.1-dev": 11_901_408_320,
    "black-forest-labs/FLUX.1-Kontext-dev": 11_901_408_320,
    "black-forest-labs/FLUX.2-klein-base-4B": 3_875_544_576, "Tongyi-MAI/Z-Image": 6_154_908_736,
    "Qwen/Qwen-Image-2.1": 7_115_124_736,
}  # fmt: skip
"""of the released networks"""
SETTINGS = {  # images an update on 8 cards, steps, guidance, noise, clip range, rank, rate
    "sd35m_grpo_lora": (576, 10, 4.5, 0.7, 1e-4, 32, 3e-4),
    "flux1_grpo_lora": (576, 6, 3.5, 0.9, 1e-4, 32, 3e-4),
    "klein_grpo_lora": (384, 8, 4.0, 0.7, 1e-5, 64, 3e-4),
    "z_image_grpo_lora": (384, 10, 5.0, 0.7, 1e-4, 64, 3e-4),
    "qwen21_grpo_lora": (256, 10, 1.0, 1.2, 1e-4, 64, 1e-4),
    "kontext_grpo_lora": (504, 6, 2.5, 0.9, 1e-4, 64, 3e-4),
    "qwen_edit_grpo_lora": (512, 10, 4.0, 1.0, 1e-5, 64, 3e-4),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_those_of_the_header(name: str) -> None:
    recipe = CONFIGS[name]
    cfg: Any = recipe.algorithm
    cards = 1 if recipe.engine == "local" else 8
    told = (
        cfg.prompts * cfg.group * cards, cfg.sampler.steps, cfg.sampler.guidance, cfg.exploration.noise, cfg.clip,
        recipe.lora.rank, recipe.optim.adamw_lr,
    )  # fmt: skip
    assert told == SETTINGS[name] and recipe.lora.alpha == 2 * recipe.lora.rank
    assert cfg.exploration.window == 2 and cfg.raw_spread != cfg.group_spread


def test_versions_change_the_algorithm_alone() -> None:
    for name in ("sd35m", "flux1", "klein", "z_image", "qwen21", "qwen"):
        grpo, guard, nft = (CONFIGS[f"{name}_{algorithm}_lora"] for algorithm in ("grpo", "guard", "nft"))
        assert isinstance(guard.algorithm, Guard) and guard.algorithm.clip == Guard.clip
        assert isinstance(nft.algorithm, Nft) and nft.algorithm.needs_reference and not nft.algorithm.exploration.window
        # a network that reads its guidance knows no "none"
        assert nft.algorithm.sampler.guidance == (grpo.algorithm.sampler.guidance if name == "flux1" else 1.0)
        assert guard.algorithm.sampler == grpo.algorithm.sampler
        assert len({(r.base, r.size, r.reward, r.lora, r.memory, r.engine) for r in (grpo, guard, nft)}) == 1
        assert nft.algorithm.group == guard.algorithm.group == grpo.algorithm.group


def test_every_reward_of_a_recipe_can_be_read() -> None:
    assert {type(named_reward(recipe.reward)).__name__ for recipe in configs} == {"OcrPage", "PickScore", "Vlm"}


@pytest.mark.parametrize("base", WEIGHTS)
def test_a_published_checkpoint_has_the_network_that_was_released(base: str) -> None:
    family = family_behind(base)
    assert family is not None and family.folder.parent == PUBLISHED
    assert sum(p.numel() for p in family.hollow_network().parameters()) == WEIGHTS[base]


def test_a_network_is_cut_in_proportion() -> None:
    for base in WEIGHTS:
        family = family_behind(base)
        assert family is not None
        settings = family.network_config
        assert with_depth(settings, depth_of(settings)) == settings
        cut = with_depth(settings, 2)
        assert depth_of(cut) == 2 and cut.get("num_single_layers", 0) in (0, 4, 8)
        assert len(cut.get("dual_attention_layers", "  ")) == 2


def test_what_stands_beside_a_network_is_counted_on_its_own_classes() -> None:
    """`sizes.json` says in bytes of 16 bits what the published configurations make."""
    import diffusers
    import torch
    import transformers

    for base in WEIGHTS:
        family = family_behind(base)
        assert family is not None
        sizes = json.loads((family.folder / "sizes.json").read_text())
        vae = getattr(diffusers, family.vae_config["_class_name"])
        with torch.device("meta"):
            assert 2 * sum(p.numel() for p in vae.from_config(family.vae_config).parameters()) == sizes["vae"]
            text = 0
            for file in family.folder.glob("text_encoder*/config.json"):
                kind = getattr(transformers, family.index[file.parent.name][1])
                encoder = kind(kind.config_class(**json.loads(file.read_text())))
                text += 2 * sum(p.numel() for p in encoder.parameters())
        assert text == sizes["text_encoders"] > 8e9
