"""Recipes of other families run whole on the card that is none, and take the bytes that a plan says."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.benchmarks.card.recipe import Counted, count_recipe, make_family
from experiments.benchmarks.plan import PHASES, Book, own_way, with_one_pass
from experiments.benchmarks.plan import compare as ratios_of
from experiments.configs import edits_online, families_online
from experiments.configs.edits_online import qwen_edit
from experiments.experiment import Experiment
from experiments.planning.family_plan import family_behind
from experiments.planning.from_experiment import CommandLine, accounts

pytest.importorskip("diffusers")
RECIPES = {
    recipe.name: recipe for recipe in (*families_online.configs, *edits_online.configs) if family_behind(recipe.base)
}
QUICK = ("sd35m_grpo_lora", "flux1_nft_lora", "klein_grpo_full", "z_image_grpo_lora", "qwen21_grpo_lora",
         "kontext_grpo_lora")  # fmt: skip  # fmt: skip
"""one of every family, every algorithm, an adapter and all weights, and one that edits: at two blocks"""


RUN = ("open", "encode", "equip", "rollout", "decode", "update", "look", "checkpoint", "finish")


def opened_bytes(counted: Counted, phase: str) -> int:
    """What stands at the peak of a phase beside the network."""
    return sum(size for line, size in counted.at_peak[phase].items() if "open_checkpoint.py" in line)


def check_plan(recipe: Experiment, folder: Path, depth: int) -> None:
    """Run the recipe with so many blocks (0: all), and compare with the plan of the same network."""
    way = own_way(recipe)
    counted = count_recipe(recipe, folder / "run", depth, way.gpus)
    assert set(RUN) <= counted.peaks.keys() and not counted.mixings
    assert (folder / "run" / "run" / "model").is_dir()
    encoders, autoencoder = (opened_bytes(counted, phase) for phase in ("encode", "update"))
    assert encoders > 8e9 and autoencoder < 1.4e9, "encoders are let go before training, the autoencoder stays"
    base = make_family(folder / "base", recipe.base, depth)
    requested = CommandLine(recipe.name, way, None, None, None, 0, 0, (0, 0), counted.text_tokens, 0, str(base))
    (account,) = (one for one in accounts(with_one_pass(recipe), requested) if one.setup == way)
    ratios = {phase: account.phases[phase] * 1e9 / counted.peaks[name] for phase, name in PHASES.items()}
    assert account.total * 1e9 == pytest.approx(counted.peak, rel=0.1), ratios
    assert ratios["update"] == pytest.approx(1.0, abs=0.1) and min(ratios.values()) > 0.85, ratios


@pytest.mark.parametrize("name", QUICK)
def test_a_recipe_takes_what_its_plan_says(name: str, tmp_path: Path) -> None:
    check_plan(RECIPES[name], tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RECIPES if name not in QUICK])
def test_the_others_do_so_too(name: str, tmp_path: Path) -> None:
    check_plan(RECIPES[name], tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_at_whole_depth(name: str, tmp_path: Path) -> None:
    check_plan(RECIPES[name], tmp_path, 0)


@pytest.mark.slow
def test_the_plan_of_qwen_image_edit_holds_too() -> None:
    """Its source images go through the network beside what is made, and through the language model."""
    rows = {row["of"]: row["ratio"] for row in ratios_of(Book(None), qwen_edit, own_way(qwen_edit), True, False)}
    assert rows["peak"] == pytest.approx(1.0, abs=0.1) and min(rows.values()) > 0.85, rows
