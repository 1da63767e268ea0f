"""A stage goes on with the adapter that its parent learned; its reference is what the stage began from."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alignment import dpo
from base_model.files.delta import ADAPTER, save_derived
from base_model.files.released import load_base, read_base
from base_model.interface import Conditioning
from base_model.lora import ATTENTION, Lora, add_adapter
from base_model.qwen.model import QwenImage
from experiments.configs import nano
from experiments.training.start_from import open_model

STAGE = replace(nano.dpo, lora=Lora(rank=2, alpha=4.0))


@pytest.fixture(scope="module")
def parent(t2i: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished stage whose adapter has learned."""
    folder = tmp_path_factory.mktemp("chain") / "sft"
    model = load_base(read_base(t2i), (64, 64))
    add_adapter(model.network, STAGE.lora)
    move(model, 0.2)
    save_derived(model, folder / "model")
    return folder


def move(model: QwenImage, by: float) -> None:
    """Change what learns."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.network.parameters():
            if p.requires_grad:
                p += by * torch.randn(p.shape, generator=random).to(p.dtype)


def micro(model: QwenImage) -> dpo.Micro:
    cond = model.encode_text(["a word"] * 2)
    x0, eps = (model.noise(2, torch.Generator().manual_seed(i)) for i in (1, 2))
    return dpo.Micro(x0, eps, torch.full((2,), 0.6), Conditioning.stack([cond]))


def velocity(model: QwenImage) -> torch.Tensor:
    m = micro(model)
    with torch.no_grad():
        return model.velocity(m.x0_2BSC, m.sigma_2B, m.cond_2B)


def test_the_adapter_goes_on_and_the_reference_is_the_stages_start(parent, tmp_path):
    model = open_model(STAGE, parent)
    start = velocity(model)
    model.freeze_reference()
    learning = [name for name, p in model.network.named_parameters() if p.requires_grad]
    assert learning and all(".default." in name for name in learning)
    assert torch.equal(velocity(model), start)
    cfg = replace(STAGE.algorithm, batch=1, micro=1)
    assert float(dpo.loss(model, micro(model), cfg)[0].detach()) == pytest.approx(math.log(2.0), abs=1e-6)
    move(model, 0.3)
    assert not torch.allclose(velocity(model), start, atol=1e-3)
    with model.reference(), model.reference():
        assert torch.equal(velocity(model), start)
    loss = dpo.loss(model, micro(model), cfg)[0]
    loss.backward()
    grads = [p.grad for p in model.network.parameters() if p.grad is not None]
    assert grads and any(bool(g.any()) for g in grads) and len(grads) <= len(learning)
    save_derived(model, tmp_path / "model")
    before, after = load_file(parent / "model" / ADAPTER), load_file(tmp_path / "model" / ADAPTER)
    assert before.keys() == after.keys(), "one adapter, of the base; the copy is not saved"
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_new_adapter_needs_no_copy(t2i):
    model = load_base(read_base(t2i), (64, 64))
    start = velocity(model)
    add_adapter(model.network, STAGE.lora)
    model.freeze_reference()
    assert not any(".start." in name for name, _ in model.network.named_parameters())
    move(model, 0.3)
    with model.reference():
        assert torch.equal(velocity(model), start)


@pytest.mark.parametrize("lora", [Lora(), Lora(rank=4, alpha=4.0), Lora(rank=2, alpha=8.0),
                                  Lora(rank=2, alpha=4.0, targets=ATTENTION[:2])])  # fmt: skip
def test_another_adapter_or_none_is_refused_with_the_settings_to_take(parent, lora):
    with pytest.raises(ValueError, match=r"rank 2, alpha 4, targets .*glyphlab export"):
        open_model(replace(STAGE, lora=lora), parent)
