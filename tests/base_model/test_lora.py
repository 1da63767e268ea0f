"""Adapters: what learns, what the reference is, what merging gives; diffusers reads and writes the same file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from base_model.files.weights import load_model, save_model
from base_model.lora import (
    HEADER,
    Lora,
    adapted_layers,
    adapter_off,
    adapter_settings,
    adapter_weights,
    add_adapter,
    has_adapter,
    load_adapter,
    load_adapter_weights,
    merged_weights,
    read_adapter,
    save_adapter,
)
from base_model.qwen.mmdit import MMDiT
from base_model.qwen.model import QwenImage
from tests.fixtures.tiny.tiny_model import NETWORK, tiny_model

LORA = Lora(rank=3, alpha=12.0)


def adapted(seed: int = 0, lora: Lora = LORA, learned: bool = True) -> QwenImage:
    """The tiny model with an adapter; `learned` fills the half that begins at zero."""
    model = tiny_model(seed)
    add_adapter(model.network, lora, seed)
    if learned:
        random = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for name, p in adapter_weights(model.network).items():
                if ".lora_B." in name:
                    p.normal_(std=0.3, generator=random)
    return model


def answer(model: QwenImage) -> Tensor:
    random = torch.Generator().manual_seed(7)
    x, sigma = model.noise(2, random), torch.tensor([0.3, 0.8])
    with torch.no_grad():
        return model.velocity(x, sigma, model.encode_text(["one", "two words"]))


def test_a_new_adapter_changes_nothing_and_a_learned_one_does():
    before = answer(tiny_model())
    assert torch.equal(answer(adapted(learned=False)), before)
    assert (answer(adapted()) - before).abs().max() > 1e-2


def test_only_the_adapter_learns_and_its_size_is_known():
    model = adapted()
    learning = {name for name, p in model.network.named_parameters() if p.requires_grad}
    assert learning and all(".lora_" in name for name in learning)
    D, layers = NETWORK.width, 8 * NETWORK.num_layers - 2  # the last block's text output and text queries are dead
    assert sum(p.numel() for p in model.network.parameters() if p.requires_grad) == layers * 2 * D * LORA.rank
    x, sigma = model.noise(1, torch.Generator().manual_seed(0)), torch.tensor([0.5])
    model.velocity(x, sigma, model.encode_text(["one"])).square().sum().backward()
    assert {name for name, p in model.network.named_parameters() if p.grad is not None} == learning
    assert all(p.grad.any() for _, p in model.network.named_parameters() if p.requires_grad), "something is dead"


def test_layers_are_those_of_diffusers_training_script_except_dead_ones():
    layers = adapted_layers(MMDiT(NETWORK))
    assert len(layers) == 14
    assert "transformer_blocks.0.attn.to_add_out" in layers and "transformer_blocks.1.attn.to_add_out" not in layers
    assert "transformer_blocks.1.attn.add_k_proj" in layers and "transformer_blocks.1.attn.add_q_proj" not in layers
    assert adapted_layers(MMDiT(NETWORK), ["txt_mlp.net.2"]) == ["transformer_blocks.0.txt_mlp.net.2"]


def test_the_reference_is_the_base_without_a_copy():
    base, model = answer(tiny_model()), adapted(learned=False)
    model._frozen = None  # tiny_model froze one before there was an adapter
    model.freeze_reference()
    assert model._frozen is None
    with torch.no_grad():
        for p in model.network.parameters():
            if p.requires_grad:
                p.normal_()
    with model.reference() as reference:
        assert torch.equal(answer(reference), base)
        with model.reference():
            pass
        assert torch.equal(answer(model), base), "an inner reference switched the adapter on again"
    assert not torch.equal(answer(model), base)


def test_the_adapter_comes_back_as_it_was_after_an_error():
    model = adapted()
    on, learning = answer(model), {n for n, p in model.network.named_parameters() if p.requires_grad}
    with pytest.raises(RuntimeError), adapter_off(model.network):
        raise RuntimeError("sampling failed")
    assert torch.equal(answer(model), on)
    assert {n for n, p in model.network.named_parameters() if p.requires_grad} == learning


def test_a_trained_adapter_is_its_own_reference():
    model = adapted()
    before = answer(model)
    model.freeze_reference()
    with torch.no_grad():
        for p in model.network.parameters():
            p += 0.1 * p.requires_grad
    assert not torch.equal(answer(model), before)
    with model.reference():
        assert torch.equal(answer(model), before)


def test_merging_answers_the_same_and_is_the_formula(tmp_path: Path):
    model = adapted()
    merged = tiny_model()
    base = {name: value.clone() for name, value in merged.network.state_dict().items()}
    merged.network.load_state_dict(merged_weights(model.network), strict=True)
    assert (answer(merged) - answer(model)).abs().max() < 1e-5
    name = "transformer_blocks.0.attn.to_v"
    weights = adapter_weights(model.network)
    delta = (LORA.alpha / LORA.rank) * weights[f"{name}.lora_B.weight"] @ weights[f"{name}.lora_A.weight"]
    state = merged.network.state_dict()
    torch.testing.assert_close(state[f"{name}.weight"], base[f"{name}.weight"] + delta)
    assert torch.equal(state["img_in.weight"], base["img_in.weight"])
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert not has_adapter(loaded.network)
    assert torch.equal(answer(loaded), answer(merged))
    again = tiny_model()
    load_adapter(again.network, tmp_path / "adapter.safetensors")
    assert torch.equal(answer(again), answer(model))


def test_files_go_round_bit_for_bit(tmp_path: Path):
    model = adapted()
    save_adapter(model.network, tmp_path / "a.safetensors")
    lora, tensors = read_adapter(tmp_path / "a.safetensors")
    assert lora == adapter_settings(model.network)
    assert (lora.rank, lora.alpha, set(lora.targets)) == (LORA.rank, LORA.alpha, set(LORA.targets))
    assert tensors.keys() == adapter_weights(model.network).keys()
    assert all(torch.equal(tensors[name], value) for name, value in adapter_weights(model.network).items())
    second = tiny_model(seed=3)
    load_adapter(second.network, tmp_path / "a.safetensors")
    save_adapter(second.network, tmp_path / "b.safetensors")
    other, again = read_adapter(tmp_path / "b.safetensors")
    assert other == lora and all(torch.equal(again[name], tensors[name]) for name in tensors)


def peer(network: MMDiT):  # type: ignore[no-untyped-def]
    from diffusers import QwenImageTransformer2DModel

    theirs = QwenImageTransformer2DModel(**{k: v for k, v in asdict(network.cfg).items() if k != "predicts_data"})
    state = {n.replace(".base_layer.", "."): v for n, v in network.state_dict().items() if ".lora_" not in n}
    theirs.load_state_dict(state, strict=True)
    return theirs.eval()


def both(model: QwenImage, theirs) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    """Our answer and diffusers'."""
    x, sigma, cond = model.noise(2, torch.Generator().manual_seed(5)), torch.tensor([0.4, 0.9]), ["one", "a word"]
    encoded = model.encode_text(cond)
    with torch.no_grad():
        ours = model.velocity(x, sigma, encoded)
        answered = theirs(
            hidden_states=x, encoder_hidden_states=encoded.text_BLD, encoder_hidden_states_mask=encoded.mask_BL,
            timestep=sigma, img_shapes=[[(1, *model.grid)]] * 2,
        )  # fmt: skip
    return ours, answered.sample


def test_diffusers_answers_the_same_with_our_file(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    model = adapted()
    theirs = peer(model.network)
    assert (both(model, theirs)[0] - both(model, theirs)[1]).abs().max() > 1e-2, "the adapter must show"
    save_adapter(model.network, tmp_path / "pytorch_lora_weights.safetensors")
    # what QwenImagePipeline.load_lora_weights does with a file: settings from its header, names without the prefix
    tensors = load_file(tmp_path / "pytorch_lora_weights.safetensors")
    with safe_open(tmp_path / "pytorch_lora_weights.safetensors", "pt") as file:
        metadata = json.loads(file.metadata()[HEADER])
    theirs.load_lora_adapter(tensors, prefix="transformer", metadata=metadata)
    ours, answered = both(model, theirs)
    assert (ours - answered).abs().max() < 1e-5
    assert not [r for r in caplog.records if r.levelname == "WARNING"], caplog.text


def test_a_file_of_diffusers_is_read(tmp_path: Path):
    """Written by its pipeline class, with adapters on the dead layers, too."""
    from diffusers import QwenImagePipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    model = tiny_model(seed=2)
    theirs = peer(model.network)
    config = LoraConfig(r=2, lora_alpha=5, init_lora_weights=False, target_modules=["to_k", "to_q", "to_v", "to_out.0",
                        "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"])  # fmt: skip
    theirs.add_adapter(config)
    layers = get_peft_model_state_dict(theirs)
    QwenImagePipeline.save_lora_weights(tmp_path, layers, transformer_lora_adapter_metadata=config.to_dict())
    file = tmp_path / "pytorch_lora_weights.safetensors"
    load_adapter(model.network, file)
    lora = adapter_settings(model.network)
    assert (lora.rank, lora.alpha) == (2, 5.0)
    ours, answered = both(model, theirs)
    assert (ours - answered).abs().max() < 1e-5
    save_adapter(model.network, tmp_path / "again.safetensors")
    a, b = load_file(file), load_file(tmp_path / "again.safetensors")
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert "transformer.transformer_blocks.1.attn.to_add_out.lora_A.weight" in a
    dead = [n for n, p in model.network.named_parameters() if "1.attn.to_add_out.lora" in n and p.requires_grad]
    assert not dead, "nothing reads it, so nothing can teach it"


def test_without_settings_in_the_header_alpha_is_the_rank(tmp_path: Path):
    model = adapted()
    save_adapter(model.network, tmp_path / "a.safetensors")
    save_file(load_file(tmp_path / "a.safetensors"), tmp_path / "bare.safetensors")
    assert read_adapter(tmp_path / "bare.safetensors")[0].alpha == LORA.rank


def test_what_cannot_be_done_is_said(tmp_path: Path):
    model = adapted()
    with pytest.raises(ValueError, match="has an adapter already"):
        add_adapter(model.network, LORA)
    with pytest.raises(ValueError, match=r"no layer of the network ends in \['attn.to_p'\]; LoRA can go to attn.add_k"):
        add_adapter(tiny_model().network, Lora(2, targets=("attn.to_p",)))
    with pytest.raises(ValueError, match="rank 0 would learn nothing"):
        add_adapter(tiny_model().network, Lora())
    for wrong in ({"rank": -1}, {"alpha": 0.0}, {"alpha": float("nan")}, {"targets": ()}):
        with pytest.raises(ValueError, match="rank must be at least 0"):
            Lora(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no adapter"):
        adapter_settings(tiny_model().network)
    weights = adapter_weights(model.network)
    before = {name: value.clone() for name, value in weights.items()}
    name = next(iter(weights))
    with pytest.raises(ValueError, match="1 names are only on one side"):
        load_adapter_weights(model.network, {n: v + 1 for n, v in before.items() if n != name})
    with pytest.raises(ValueError, match=r"has shape \(2, 32\), this adapter \(3, 32\)"):
        load_adapter_weights(model.network, {n: (v[:2] if n == name else v + 1) for n, v in before.items()})
    assert all(torch.equal(weights[n], before[n]) for n in before)
    (tmp_path / "torn.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(ValueError, match=r"cannot read .*torn"):
        read_adapter(tmp_path / "torn.safetensors")
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, tmp_path / "kohya.safetensors")
    with pytest.raises(ValueError, match="is not a LoRA of the transformer"):
        read_adapter(tmp_path / "kohya.safetensors")
    deep = "transformer.transformer_blocks.9.attn.to_q"
    tensors = {f"{deep}.lora_A.weight": torch.zeros(2, 32), f"{deep}.lora_B.weight": torch.zeros(32, 2)}
    save_file(tensors, tmp_path / "big.safetensors")
    with pytest.raises(
        ValueError,
        match=r"1 of the adapter's .* layers are not in the network, first .*: it was made for another checkpoint",
    ):
        load_adapter(tiny_model().network, tmp_path / "big.safetensors")
