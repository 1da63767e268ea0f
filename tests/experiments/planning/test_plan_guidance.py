"""A plan of GRPO counts what the update asks for, with and without guidance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from alignment.grpo import Grpo
from alignment.trajectory import Exploration
from base_model.sample import Sampler
from experiments.configs import CONFIGS, nano
from experiments.planning.from_experiment import as_answered, grpo_work, work_of
from experiments.training.start_from import open_model
from tests.experiments.planning.test_plan import asked
from tests.fixtures.tiny.tiny_families import save_pipeline

SD35M = "stabilityai/stable-diffusion-3.5-medium"


def test_a_number_that_is_read_is_counted_once(tmp_path: Path) -> None:
    """FLUX.1 dev answers once for every sample, whatever its guidance; Stable Diffusion 3.5 twice."""
    pytest.importorskip("diffusers")
    recipe, line = CONFIGS["flux1_grpo_lora"], asked("flux1_grpo_lora")
    assert recipe.algorithm.sampler.guidance == 3.5
    once, twice = (work_of(one, line) for one in (as_answered(recipe), as_answered(recipe, SD35M)))
    assert (once.trained, once.micro) == (75, 24) and (twice.trained, twice.micro) == (150, 48)
    assert twice.sampled == pytest.approx(2 * once.sampled, abs=1) and "twice the work" not in once.arithmetic[0]
    with pytest.raises(ValueError, match="reads its guidance as a number"):
        as_answered(replace(recipe, algorithm=replace(recipe.algorithm, guide_update=False)))
    pairs = as_answered(replace(CONFIGS["qwen_dpo_lora"], base=recipe.base)).pairs
    assert pairs is not None and pairs.sampler.guidance == 1.0


def test_every_update_of_a_rollout_is_counted() -> None:
    cfg = Grpo(1, 2, 4, Sampler(8, 3.0), Exploration(), 8, beta=0.1)
    one, three = grpo_work("one", cfg), grpo_work("one", replace(cfg, updates=3))
    assert (three.trained, three.passes) == (3 * one.trained, 3 * one.passes) and three.micro == one.micro
    assert three.sampled - one.sampled == 2 * one.trained, "the reference is asked again for every update"


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("shared", [True, False])
def test_hybrid_guidance_halves_what_is_learned_from(beta: float, shared: bool) -> None:
    exploration = Exploration(shared_noise=shared)
    cfg = Grpo(1, 2, 4, Sampler(8, 3.0), exploration, 8, beta=beta)
    both, hybrid = grpo_work("one", cfg), grpo_work("one", replace(cfg, guide_update=False))
    rows = (2 if shared else 8) + 8
    assert (both.trained, both.micro) == (2 * rows, 16)
    assert (hybrid.trained, hybrid.micro) == (rows, 8)
    sampled = both.sampled - (2 * rows if beta else 0)
    assert hybrid.sampled == sampled + rows + (rows if beta else 0), "of the unguided policy once, and of the reference"
    assert "as many without a prompt" in both.arithmetic[1] and "each asked once before" in hybrid.arithmetic[1]
    plain = replace(cfg, sampler=Sampler(8))
    assert grpo_work("one", plain) == grpo_work("one", replace(plain, guide_update=False))


def test_a_model_that_reads_its_guidance_keeps_one(tmp_path: Path) -> None:
    """FLUX.1 dev is another network for every number: updates without guidance would teach one that nobody samples."""
    pytest.importorskip("diffusers")
    base = save_pipeline("flux1_dev", tmp_path / "flux")
    hybrid = replace(nano.grpo, base=str(base), algorithm=replace(nano.grpo.algorithm, guide_update=False))
    with pytest.raises(ValueError, match="guide_update=False, and its model reads its guidance as a number"):
        open_model(hybrid, None)
