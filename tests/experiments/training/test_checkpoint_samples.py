"""What is sampled at checkpoints: the run's own prompts where it has a file of them, held-out words elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from base_model.sample import Sampler, generate
from experiments.configs import nano
from experiments.evaluation.evaluate import fixed_noise
from experiments.experiment import PromptPlan
from experiments.training.runner import FIXED_PROMPTS, looked_at_in, sample_checkpoint
from tests.fixtures.tiny.tiny_model import tiny_model


@pytest.mark.parametrize(("there", "shown"), [(9, 6), (3, 3)])
def test_a_run_with_a_file_of_prompts_is_looked_at_by_these(there, shown, tmp_path):
    texts = [f"the word {'ABCDEFGHI'[i] * 3} in red" for i in range(there)]
    (tmp_path / "p.txt").write_text("\n".join(texts), encoding="utf-8")
    own = PromptPlan(count=there, seed=5, file=str(tmp_path / "p.txt"))
    model = tiny_model(0)
    assert nano.dpo.pairs is not None
    for experiment in (replace(nano.grpo, prompts=own), replace(nano.dpo, pairs=replace(nano.dpo.pairs, prompts=own))):
        images, said = sample_checkpoint(model, looked_at_in(experiment))
        assert said == texts[:shown]
        assert np.array_equal(images, generate(model, said, fixed_noise(model, shown, FIXED_PROMPTS.seed), Sampler()))


@pytest.mark.parametrize("experiment", [nano.grpo, nano.dpo, nano.sft], ids=lambda each: each.name)
def test_a_run_without_one_is_looked_at_by_held_out_words(experiment):
    assert looked_at_in(experiment) == FIXED_PROMPTS
