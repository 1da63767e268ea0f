"""How an experiment opens: prompts of seeded scenes or of a file, the size that they are drawn in, compiled blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from base_model.files.weights import load_model, save_model
from experiments.configs import nano
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import PromptPlan
from experiments.training.runner import run
from experiments.training.start_from import open_either, open_model
from tests.experiments.training.test_runner import tiny_pretrain


def test_prompts_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text('a shop sign "OPEN"\n\na mug with "早安"\na wall\n', encoding="utf-8")
    found = make_prompts(PromptPlan(count=2, seed=0, file=str(file)))
    assert [prompt.spans for prompt in found] == [("OPEN",), ("早安",)]
    with pytest.raises(ValueError, match=r"prompts\.txt has 3 prompts and 4 are asked for"):
        make_prompts(PromptPlan(count=4, seed=0, file=str(file)))
    with pytest.raises(ValueError, match=r"nowhere\.txt cannot be read"):
        make_prompts(PromptPlan(count=4, seed=0, file=str(tmp_path / "nowhere.txt")))


def test_a_run_in_another_size_leaves_a_model_of_its_parents_size(tmp_path: Path) -> None:
    """Latents of training are of the size asked for; what is saved and judged is of the model's own."""
    run(tiny_pretrain(steps=1), tmp_path / "first")
    model = open_model(replace(nano.grpo, size=(32, 48)), tmp_path / "first")
    assert model.picture == (32, 48) and model.grid == (2, 3) and model.native == (32, 96)
    save_model(model, tmp_path / "saved")
    assert load_model(tmp_path / "saved").picture == (32, 96)


@pytest.mark.slow
def test_compiled_blocks_answer_as_plain_ones_and_keep_their_names(tmp_path: Path) -> None:
    """The same velocity and gradients within rounding, with and without a gradient; weight files stay the same."""
    run(tiny_pretrain(steps=1), tmp_path / "first")
    plain, compiled = (
        open_either(replace(nano.grpo, compile=on), tmp_path / "first", tmp_path) for on in (False, True)
    )
    assert set(plain.network.state_dict()) == set(compiled.network.state_dict())
    assert any(hasattr(block, "_compiled_call_impl") for block in compiled.network.transformer_blocks)
    random = torch.Generator().manual_seed(0)
    x, sigma = plain.noise(3, random), torch.tensor([0.2, 0.5, 0.9])
    answers, gradients = [], []
    for model in (plain, compiled):
        cond = model.encode_text(["a", "two words", "three of them"])
        with torch.no_grad():
            answers.append(model.velocity(x, sigma, cond))
        model.velocity(x, sigma, cond).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.network.parameters() if p.grad is not None]))
    torch.testing.assert_close(answers[1], answers[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-3)
