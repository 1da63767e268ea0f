"""The MMDiT against the reference implementation, ragged batches against single samples, and what must not matter.

Shapes: B samples, S image tokens, L text tokens, C channels, D width.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from base_model.qwen import byte_encoder
from base_model.qwen.mmdit import DEAD, MMDiT, MMDiTConfig, sinusoid
from base_model.qwen.presets import IMAGE_SIZES, PRESETS, VAES

CFG = MMDiTConfig(
    num_layers=3, attention_head_dim=32, num_attention_heads=2, joint_attention_dim=48, in_channels=64, out_channels=16,
    patch_size=2, axes_dims_rope=(8, 12, 12),
)  # fmt: skip
LENGTH = 9
MASKS: dict[str, Tensor | None] = {
    "none": None,
    "all": torch.ones(3, LENGTH, dtype=torch.bool),
    "right padded": torch.arange(LENGTH) < torch.tensor([9, 5, 7])[:, None],
    "left padded": torch.arange(LENGTH) >= torch.tensor([2, 0, 6])[:, None],
    "holes": torch.tensor([[1, 0, 1, 1, 0, 1, 0, 0, 1], [0, 1, 1, 1, 1, 1, 1, 1, 0], [1] * 9], dtype=torch.bool),
    "same length": (torch.arange(LENGTH) < 4).expand(3, -1),
    "one empty": torch.arange(LENGTH) < torch.tensor([9, 0, 7])[:, None],
}
GRIDS = [(4, 6), (3, 5), (1, 7)]


def network(cfg: MMDiTConfig = CFG) -> MMDiT:
    """Weights that let every input reach the output."""
    torch.manual_seed(0)
    model = MMDiT(cfg)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.1).add_(0.5 if weight.ndim == 1 else 0.0)
    return model


def reference(model: MMDiT) -> nn.Module:
    """The same network in diffusers."""
    diffusers = pytest.importorskip("diffusers")
    settings = dataclasses.asdict(model.cfg)
    assert not settings.pop("predicts_data"), "diffusers knows velocities alone"
    peer = diffusers.QwenImageTransformer2DModel(**settings)
    peer.load_state_dict(model.state_dict(), strict=True)
    return peer


def inputs(S: int, B: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """x, sigma, text"""
    random = torch.Generator().manual_seed(S)
    x = torch.randn(B, S, CFG.in_channels, generator=random)
    return x, torch.rand(B, generator=random), torch.randn(B, LENGTH, CFG.joint_attention_dim, generator=random)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Of every parameter, zeros where there is none."""
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


def assert_near(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Gradients agree to 1e-5 of the largest of each tensor (at least 1e-5 of 1)."""
    assert a.keys() == b.keys()
    for name in a:
        scale = max(1.0, float(b[name].abs().max()))
        assert (a[name] - b[name]).abs().max() < 1e-5 * scale, name


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("mask", MASKS)
def test_velocity_and_gradients_are_the_references(grid: tuple[int, int], mask: str):
    model, (x, sigma, text) = network(), inputs(grid[0] * grid[1])
    peer, mask_BL = reference(model), MASKS[mask]
    leaves = [(x.clone().requires_grad_(), text.clone().requires_grad_()) for _ in range(2)]
    ours = model(leaves[0][0], sigma, leaves[0][1], mask_BL, [grid] * 3)
    theirs = peer(leaves[1][0], leaves[1][1], mask_BL, sigma, [[(1, *grid)]] * 3).sample
    assert ours.std() > 0.1
    assert (ours - theirs).abs().max() < 1e-5

    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)) / ours[0].numel()
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    assert_near(gradients(model), gradients(peer))
    x_grads, text_grads = ([pair[i].grad for pair in leaves] for i in (0, 1))
    assert_near({"x": x_grads[0], "text": text_grads[0]}, {"x": x_grads[1], "text": text_grads[1]})


def test_state_dicts_are_interchangeable_with_the_reference():
    model = network()
    peer = reference(model)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert shapes == {name: value.shape for name, value in peer.state_dict().items()}
    with torch.no_grad():
        for weight in peer.parameters():
            weight.normal_(std=0.1)
    model.load_state_dict(peer.state_dict(), strict=True)
    x, sigma, text = inputs(24)
    theirs = peer(x, text, None, sigma, [[(1, 4, 6)]] * 3).sample
    assert (model(x, sigma, text, None, [(4, 6)] * 3) - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("mask", MASKS)
def test_a_ragged_batch_is_its_samples_one_by_one(mask: str):
    model, (x, sigma, text), mask_BL = network(), inputs(24), MASKS[mask]
    x.requires_grad_(), text.requires_grad_()
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)) / x[0].numel()
    together = model(x, sigma, text, mask_BL, GRIDS)
    (together * weight).sum().backward()
    batch = gradients(model) | {"x": x.grad, "text": text.grad}

    model.zero_grad()
    x.grad = text.grad = None
    for i, (h, w) in enumerate(GRIDS):
        one = slice(i, i + 1)
        mask_1L = None if mask_BL is None else mask_BL[one]
        alone = model(x[one, : h * w], sigma[one], text[one], mask_1L, [(h, w)])
        assert (together[i, : h * w] - alone[0]).abs().max() < 1e-5
        assert not together[i, h * w :].any()
        (alone[0] * weight[i, : h * w]).sum().backward()
    assert_near(batch, gradients(model) | {"x": x.grad, "text": text.grad})


def test_samples_of_a_batch_have_positions_of_their_own():
    """Twelve tokens as 2 x 6 and as 6 x 2 are different images, whatever stands first in the batch."""
    model, (x, sigma, text) = network(), inputs(12)
    wide, tall = (model(x, sigma, text, None, [grid] * 3) for grid in [(2, 6), (6, 2)])
    mixed = model(x, sigma, text, None, [(2, 6), (6, 2), (2, 6)])
    assert (wide - tall).abs().amax((1, 2)).min() > 1e-3
    torch.testing.assert_close(mixed, torch.stack([wide[0], tall[1], wide[2]]), atol=1e-5, rtol=0)


def test_padding_is_never_read():
    model, (x, sigma, text) = network(), inputs(24)
    mask = MASKS["holes"]
    clean = model(x, sigma, text, mask, GRIDS)
    text, x = text.masked_fill(~mask[..., None], float("nan")), x.clone()
    for i, (h, w) in enumerate(GRIDS):
        x[i, h * w :] = float("nan")
    assert torch.equal(model(x, sigma, text, mask, GRIDS), clean)
    longer, farther = nn.functional.pad(text, (0, 0, 0, 5), value=float("nan")), nn.functional.pad(mask, (0, 5))
    assert torch.equal(model(x, sigma, longer, farther, GRIDS), clean)


def test_every_real_token_is_read():
    model, (x, sigma, text) = network(), inputs(24)
    mask = MASKS["holes"]
    x.requires_grad_(), text.requires_grad_()
    model(x, sigma, text, mask, GRIDS).square().sum().backward()
    assert torch.equal(text.grad.abs().sum(-1) > 0, mask)
    sizes = torch.tensor([h * w for h, w in GRIDS])
    assert torch.equal(x.grad.abs().sum(-1) > 0, torch.arange(24) < sizes[:, None])


def test_only_the_last_blocks_text_output_and_queries_are_dead():
    """And only they are frozen. Thawed, they get no gradient or exact zeros."""
    model, (x, sigma, text) = network(), inputs(24)
    last = tuple(f"transformer_blocks.{CFG.num_layers - 1}.{part}" for part in DEAD)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(last)}
    assert len(frozen) == 9
    model.requires_grad_(True)
    model(x, sigma, text, None, [(4, 6)] * 3).square().sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()} == frozen


def test_a_network_that_predicts_data_answers_the_velocity_towards_it():
    """v = (x - x0^) / sigma, also in a batch with padding, and with the divisor's floor at small noise."""
    model, (x, _, text) = network(), inputs(24)
    sigma, grids = torch.tensor([0.9, 0.3, 0.01]), [(4, 6), (3, 5), (4, 6)]
    answer = model(x, sigma, text, None, grids)
    model.cfg = dataclasses.replace(CFG, predicts_data=True)
    v = model(x, sigma, text, None, grids)
    divisor = torch.tensor([0.9, 0.3, 0.05]).view(3, 1, 1)
    expected = (x - answer) / divisor
    expected[1, 15:] = 0.0  # padding stays zeros
    torch.testing.assert_close(v, expected, rtol=0, atol=1e-5)


def test_noise_levels_stay_apart_in_a_bfloat16_network():
    model, (x, _, text) = network().bfloat16(), inputs(24)
    sigmas = torch.tensor([0.502, 0.503, 0.504])
    assert len(set(sigmas.bfloat16().tolist())) == 1
    same = (x[:1].expand(3, -1, -1), sigmas, text[:1].expand(3, -1, -1))
    v = model(*same, None, [(4, 6)] * 3)
    assert v.dtype == torch.float32, "the latents' type comes back"
    assert not torch.equal(v[0], v[1]) and not torch.equal(v[1], v[2])


def test_the_sinusoid_is_cosines_then_sines_of_a_thousand_sigma():
    wave = sinusoid(torch.tensor([0.25]))
    assert wave.shape == (1, 256) and wave.dtype == torch.float32
    slowest = 10000 ** (-127 / 128)
    expected = torch.tensor([[250.0, 250.0 * slowest]])
    torch.testing.assert_close(wave[:, [0, 127]], expected.cos(), atol=1e-4, rtol=0)
    torch.testing.assert_close(wave[:, [128, 255]], expected.sin(), atol=1e-4, rtol=0)


def test_inference_does_not_spoil_training():
    model, (x, sigma, text) = network(), inputs(33)
    with torch.inference_mode():
        model(x, sigma, text, None, [(3, 11)] * 3)
    model(x, sigma, text, None, [(3, 11)] * 3).sum().backward()
    assert model.img_in.weight.grad.any()


def test_a_fresh_network_answers_zero_and_learns_at_once():
    torch.manual_seed(0)
    model, (x, sigma, text) = MMDiT(CFG), inputs(24)
    v = model(x, sigma, text, None, [(4, 6)] * 3)
    assert not v.any()
    (v - x).square().mean().backward()
    assert model.proj_out.weight.grad.any()
    with torch.no_grad():
        model.proj_out.weight.sub_(model.proj_out.weight.grad)
    model.zero_grad()
    (model(x, sigma, text, None, [(4, 6)] * 3) - x).square().mean().backward()
    blocks = model.transformer_blocks.named_parameters()
    asleep = {name for name, p in blocks if p.requires_grad and not p.grad.any()}
    assert not asleep, "from the second update on, every part of a block learns"


def test_the_same_seed_draws_the_same_weights():
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(MMDiT(CFG).state_dict())
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    assert not torch.equal(drawn[0]["txt_in.weight"], drawn[2]["txt_in.weight"])


def test_the_released_size_is_exact_without_memory():
    with torch.device("meta"):
        model = MMDiT(PRESETS["qwen_image"])
    assert sum(p.numel() for p in model.parameters()) == 20_430_401_088
    assert sum(p.numel() for p in model.transformer_blocks[0].parameters()) == 339_831_296
    assert all(p.is_meta for p in model.parameters()) and not list(model.buffers())
    assert len(model.transformer_blocks) == 60 and PRESETS["qwen_image"].width == 3072


def test_a_network_built_without_memory_loads_and_runs():
    source, (x, sigma, text) = network(), inputs(24)
    with torch.device("meta"):
        model = MMDiT(CFG)
    model.to_empty(device="cpu").load_state_dict(source.state_dict(), strict=True)
    grids = [(4, 6)] * 3
    assert torch.equal(model(x, sigma, text, None, grids), source(x, sigma, text, None, grids))


def test_the_names_of_the_released_size_are_the_references():
    diffusers = pytest.importorskip("diffusers")
    one_layer = dataclasses.replace(PRESETS["qwen_image"], num_layers=1)
    with torch.device("meta"):
        ours = MMDiT(one_layer).state_dict()
        theirs = diffusers.QwenImageTransformer2DModel(num_layers=1).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: v.shape for name, v in theirs.items()}


def test_presets_grow_and_fit_their_autoencoders():
    assert PRESETS.keys() == VAES.keys() == IMAGE_SIZES.keys()
    counts = []
    for name, cfg in PRESETS.items():
        vae, (height, width) = VAES[name], IMAGE_SIZES[name]
        assert cfg.in_channels == vae.z_dim * cfg.patch_size**2
        assert cfg.out_channels == vae.z_dim
        assert height % (vae.factor * cfg.patch_size) == width % (vae.factor * cfg.patch_size) == 0
        with torch.device("meta"):
            counts.append(sum(p.numel() for p in MMDiT(cfg).parameters()))
    assert counts == sorted(counts)
    assert PRESETS["nano"].joint_attention_dim == byte_encoder.WIDTH
    assert PRESETS["nano"].width == 128 and IMAGE_SIZES["nano"] == (32, 96)


def call(**changed: Any) -> Tensor:
    """The network on good inputs, some of them replaced."""
    x, sigma, text = inputs(24)
    good = {"x_BSC": x, "sigma_B": sigma, "text_BLD": text, "mask_BL": MASKS["all"], "grids": [(4, 6)] * 3}
    with torch.no_grad():
        return network()(**good | changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mask_BL": torch.ones(3, LENGTH - 1, dtype=torch.bool)}, r"mask must be bool of shape \(3, 9\).*\(3, 8\)"),
        ({"mask_BL": torch.ones(3, LENGTH)}, "mask must be bool.*float32"),
        ({"grids": [(4, 6)] * 2}, "one .rows, columns. per sample"),
        ({"grids": [(4, 5)] * 3}, "x of 3 samples of 24 tokens"),
        ({"grids": [(4, 7), (4, 6), (4, 6)]}, "x of 3 samples of 24 tokens"),
        ({"grids": [(4, 6), (0, 6), (4, 6)]}, "at least 1"),
        ({"x_BSC": torch.zeros(3, 24, 16)}, r"\[B, S, 64\].*\(3, 24, 16\)"),
        ({"x_BSC": torch.zeros(24, 64)}, r"x must be \[B, S, 64\]"),
        ({"sigma_B": torch.rand(2)}, r"shape \(3,\)"),
        ({"sigma_B": torch.rand(3).bfloat16()}, "16 bits"),
        ({"text_BLD": torch.zeros(3, LENGTH, 47)}, r"\[3, L, 48\].*\(3, 9, 47\)"),
        ({"text_BLD": torch.zeros(2, LENGTH, 48)}, r"\[3, L, 48\]"),
        ({"text_BLD": torch.zeros(3, 4094, 48), "mask_BL": None}, "position 4096.*end at 4095: shorten the prompt"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(changed: dict[str, Any], message: str):
    call()
    with pytest.raises(ValueError, match=message):
        call(**changed)


def test_a_batch_without_samples_is_refused():
    x, sigma, text = inputs(24)
    with pytest.raises(ValueError, match="at least one sample"):
        call(x_BSC=x[:0], sigma_B=sigma[:0], text_BLD=text[:0], mask_BL=None, grids=[])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"axes_dims_rope": (8, 12, 10)}, "sum to attention_head_dim=32"),
        ({"axes_dims_rope": (7, 12, 13)}, "must be even"),
        ({"num_layers": 0}, "num_layers=0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changed: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CFG, **changed)
