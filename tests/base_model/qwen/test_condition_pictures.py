"""Condition images in the network and in `Conditioning`: against the reference, one by one, and what must not matter.

Shapes: B samples, S target tokens, R tokens of condition images, L text tokens, C channels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from base_model.interface import Conditioning, token_count
from base_model.qwen.layout import lay_out
from base_model.qwen.mmdit import MMDiT
from tests.base_model.qwen.test_mmdit import CFG, LENGTH, MASKS, assert_near, gradients, network, reference
from tests.fixtures.tiny.tiny_model import tiny_model

CLEAN = dataclasses.replace(CFG, zero_cond_t=True)
TARGETS = [(4, 6), (3, 5), (1, 7)]
PICTURES = [[(3, 3), (2, 5)], [], [(5, 2), (4, 4), (1, 3)]]
"""two images, none, three"""


def inputs(grids: Any = TARGETS, pictures: Any = PICTURES) -> dict[str, Any]:
    """Arguments of the network; the padding of latents is not zero, so that reading it shows."""
    random = torch.Generator().manual_seed(5)
    B, S, R = len(grids), max(h * w for h, w in grids), max(map(token_count, pictures))
    return {
        "x_BSC": torch.randn(B, S, CFG.in_channels, generator=random),
        "sigma_B": torch.rand(B, generator=random),
        "text_BLD": torch.randn(B, LENGTH, CFG.joint_attention_dim, generator=random),
        "mask_BL": MASKS["right padded"][:B],
        "grids": grids,
        "images_BRC": torch.randn(B, R, CFG.in_channels, generator=random),
        "image_grids": pictures,
    }


def one(batch: dict[str, Any], i: int) -> dict[str, Any]:
    """Sample `i` alone, without any padding."""
    (h, w), own = batch["grids"][i], batch["image_grids"][i]
    R = token_count(own)
    return {
        "x_BSC": batch["x_BSC"][i : i + 1, : h * w],
        "sigma_B": batch["sigma_B"][i : i + 1],
        "text_BLD": batch["text_BLD"][i : i + 1],
        "mask_BL": batch["mask_BL"][i : i + 1],
        "grids": [(h, w)],
        "images_BRC": batch["images_BRC"][i : i + 1, :R] if R else None,
        "image_grids": [own] if R else [],
    }


def ask_reference(peer: nn.Module, batch: dict[str, Any]) -> Tensor:
    """The reference's prediction for the target tokens; all samples have the shapes of the first."""
    S = batch["x_BSC"].shape[1]
    shapes = [[(1, *grid), *((1, *g) for g in own)] for grid, own in zip(batch["grids"], batch["image_grids"])]  # noqa: B905
    latents = torch.cat([batch["x_BSC"], batch["images_BRC"]], 1)
    return peer(latents, batch["text_BLD"], batch["mask_BL"], batch["sigma_B"], shapes).sample[:, :S]


@pytest.mark.parametrize("cfg", [CFG, CLEAN], ids=["plain", "zero_cond_t"])
@pytest.mark.parametrize("mask", ["none", "right padded", "holes", "one empty"])
@pytest.mark.parametrize("own", [[(3, 3)], [(5, 2), (2, 9)], [(2, 2), (3, 8), (7, 1)]], ids=["one", "two", "three"])
def test_velocity_and_gradients_with_pictures_are_the_references(cfg, mask, own):
    model, batch = network(cfg), inputs([(4, 6)] * 3, [own] * 3) | {"mask_BL": MASKS[mask]}
    peer = reference(model)
    leaves = {name: batch[name].requires_grad_() for name in ("x_BSC", "text_BLD", "images_BRC")}
    weight = torch.randn(batch["x_BSC"].shape, generator=torch.Generator().manual_seed(1)) / batch["x_BSC"][0].numel()
    found = []
    for net, ask in ((model, lambda net, b: net(**b)), (peer, ask_reference)):
        v = ask(net, batch)
        (v * weight).sum().backward()
        found.append((v.detach(), gradients(net) | {name: leaf.grad.clone() for name, leaf in leaves.items()}))
        for leaf in leaves.values():
            leaf.grad = None
    (ours, our_gradients), (theirs, their_gradients) = found
    assert ours.std() > 0.1
    assert (ours - theirs).abs().max() < 1e-5
    assert_near(our_gradients, their_gradients)


@pytest.mark.parametrize("cfg", [CFG, CLEAN], ids=["plain", "zero_cond_t"])
@pytest.mark.parametrize("mask", ["none", "right padded", "holes"])
def test_a_ragged_batch_with_pictures_is_its_samples_one_by_one(cfg, mask):
    """Sizes, numbers of images and texts all differ; one sample has no image."""
    model, batch = network(cfg), inputs()
    batch["mask_BL"] = torch.ones(3, LENGTH, dtype=torch.bool) if mask == "none" else MASKS[mask]
    leaves = {name: batch[name].requires_grad_() for name in ("x_BSC", "text_BLD", "images_BRC")}
    weight = torch.randn(batch["x_BSC"].shape, generator=torch.Generator().manual_seed(1)) / batch["x_BSC"][0].numel()
    together = model(**batch)
    (together * weight).sum().backward()
    found = gradients(model) | {name: leaf.grad.clone() for name, leaf in leaves.items()}
    model.zero_grad()
    for leaf in leaves.values():
        leaf.grad = None
    for i, (h, w) in enumerate(TARGETS):
        alone = model(**one(batch, i))
        assert (together[i, : h * w] - alone[0]).abs().max() < 1e-5
        assert not together[i, h * w :].any()
        (alone[0] * weight[i, : h * w]).sum().backward()
    assert_near(found, gradients(model) | {name: leaf.grad for name, leaf in leaves.items()})


def test_every_picture_token_is_read_and_padding_is_not():
    model, batch = network(), inputs()
    batch["images_BRC"].requires_grad_()
    model(**batch).square().sum().backward()
    counts = torch.tensor([token_count(own) for own in PICTURES])
    real = torch.arange(batch["images_BRC"].shape[1]) < counts[:, None]
    assert torch.equal(batch["images_BRC"].grad.abs().sum(-1) > 0, real)
    spoilt = batch["images_BRC"].detach().masked_fill(~real[..., None], float("nan"))
    assert torch.equal(model(**batch | {"images_BRC": spoilt}), model(**batch))


def test_the_order_of_pictures_matters_and_so_does_their_shape():
    """Frame indices tell the images apart, and rows from columns."""
    model, batch = network(), inputs([(4, 6)], [[(2, 3), (2, 3)]])
    v = model(**batch)
    first, second = batch["images_BRC"].split(6, 1)
    swapped = model(**batch | {"images_BRC": torch.cat([second, first], 1)})
    turned = model(**batch | {"image_grids": [[(3, 2), (2, 3)]]})
    assert (v - swapped).abs().max() > 1e-3 and (v - turned).abs().max() > 1e-3


def test_with_zero_cond_t_a_picture_is_modulated_alike_at_every_noise_level():
    """In a network of one block whose attention ignores text and target, its key at sigma is that at 0."""
    batch = inputs([(4, 6)], [[(3, 3)]])
    changes = {}
    for cfg in (CFG, CLEAN):
        model, seen = network(cfg), []
        block = model.transformer_blocks[0]
        block.attn.to_k.register_forward_hook(lambda _m, i, _o, seen=seen: seen.append(i[0][0, 24:]))
        for sigma in (0.0, 0.9):
            model(**batch | {"sigma_B": torch.tensor([sigma])})
        changes[cfg.zero_cond_t] = (seen[0] - seen[1]).abs().max()
    assert changes[True] == 0.0 and changes[False] > 1e-2


def test_without_pictures_zero_cond_t_changes_nothing():
    plain, clean = network(CFG), network(CLEAN)
    batch = inputs() | {"images_BRC": None, "image_grids": ()}
    assert torch.equal(plain(**batch), clean(**batch))
    assert torch.equal(plain(**batch), plain(**batch | {"image_grids": [[], [], []]}))


def test_text_begins_beside_the_largest_of_all_pictures():
    batch = inputs([(4, 6)], [[(2, 30)]])
    arguments = [batch[name] for name in ("text_BLD", "mask_BL", "x_BSC", "grids")]
    table = lay_out(*arguments, batch["image_grids"], CFG.axes_dims_rope, False).table_NE2
    angle = torch.atan2(table[0, 0, 1], table[0, 0, 0])  # text token 0, first pair of the frame axis: angle = position
    assert float(angle) == pytest.approx((15 + torch.pi) % (2 * torch.pi) - torch.pi, abs=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images_BRC": None}, "but no images"),
        ({"image_grids": ()}, r"do not fit image grids \(\)"),
        ({"image_grids": PICTURES[:2]}, "of 3 samples"),
        ({"image_grids": [[(3, 3)], [], [(5, 2)]]}, "as many tokens as the longest"),
        ({"image_grids": [[(0, 3)], [], []]}, "at least 1"),
        ({"images_BRC": torch.zeros(3, 29, 16)}, "of 64 channels"),
        ({"text_BLD": torch.zeros(3, 4092, 48), "mask_BL": None}, "position 4096.*shorten"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(changed: dict[str, Any], message: str):
    if "text_BLD" in changed:
        changed = changed | {"grids": [(3, 8), (3, 5), (1, 7)], "image_grids": [[(3, 3)], [], [(10, 2), (3, 3)]]}
    model: MMDiT = network()
    model(**inputs())
    with pytest.raises(ValueError, match=message), torch.no_grad():
        model(**inputs() | changed)


# --- Conditioning -------------------------------------------------------------------------------------------------


def conditioning() -> Conditioning:
    """Three samples with two, no and one image."""
    model = tiny_model()
    random = torch.Generator().manual_seed(3)
    pictures = [
        [torch.rand(3, *size, generator=random) for size in own] for own in ([(16, 32), (32, 16)], [], [(48, 16)])
    ]
    return model.encode_text(["make it red", "blue", "write AB"], pictures)


def assert_same(a: Conditioning, b: Conditioning) -> None:
    assert a.grids == b.grids and a.image_grids == b.image_grids
    assert torch.equal(a.text_BLD, b.text_BLD) and torch.equal(a.mask_BL, b.mask_BL)
    assert (a.images_BRC is None) == (b.images_BRC is None)
    assert a.images_BRC is None or torch.equal(a.images_BRC, b.images_BRC)


def test_pictures_are_encoded_one_behind_the_other_in_their_own_sizes():
    model, random = tiny_model(), torch.Generator().manual_seed(3)
    first, second = torch.rand(3, 16, 32, generator=random), torch.rand(3, 32, 16, generator=random)
    cond = conditioning()
    assert cond.image_grids == (((1, 2), (2, 1)), (), ((3, 1),))
    assert torch.equal(cond.images_BRC[0, :2], model.encode_pixels(first[None])[0])
    assert torch.equal(cond.images_BRC[0, 2:], model.encode_pixels(second[None])[0])
    assert not cond.images_BRC[1].any() and not cond.images_BRC[2, 3:].any()
    with pytest.raises(ValueError, match="24x16 does not divide into tokens of 16"):
        model.encode_text(["x"], [[torch.zeros(3, 24, 16)]])


def test_taking_and_stacking_keep_every_samples_pictures():
    cond = conditioning()
    for rows in (slice(0, 3), [0, 1, 2], torch.tensor([0, 1, 2]), torch.tensor([True] * 3)):
        assert_same(cond.take(rows), cond)
    assert_same(Conditioning.stack([cond.take([i]) for i in range(3)]), cond)
    turned = cond.take([2, 0])
    assert turned.image_grids == (cond.image_grids[2], cond.image_grids[0])
    assert torch.equal(turned.images_BRC, cond.images_BRC[[2, 0]])
    assert cond.take([2]).images_BRC.shape[1] == 3, "no padding of samples that are gone"
    assert cond.take([1]).images_BRC is None and cond.take([1]).image_grids == ()


def test_repeating_puts_copies_side_by_side():
    cond = conditioning()
    assert_same(cond.repeat(2), cond.take([0, 0, 1, 1, 2, 2]))
    plain = tiny_model().encode_text(["a", "b"])
    assert_same(plain.repeat(2), plain.take([0, 0, 1, 1]))


def test_stacking_different_sizes_gives_each_its_own():
    model, cond = tiny_model(), conditioning()
    other = Conditioning(cond.text_BLD[:1], cond.mask_BL[:1], ((3, 4),))
    both = Conditioning.stack([cond, other])
    assert both.grids == (*cond.grids, (3, 4)) and both.image_grids == (*cond.image_grids, ())
    random = torch.Generator().manual_seed(0)
    x, sigma = torch.randn(4, 12, model.channels, generator=random), torch.rand(4, generator=random)
    together = model.velocity(x, sigma, both)
    for i in range(4):
        assert (together[i] - model.velocity(x[i : i + 1], sigma[i : i + 1], both.take([i]))[0]).abs().max() < 1e-5


def test_no_prompt_keeps_the_pictures():
    model, picture = tiny_model(), torch.rand(3, 16, 32)
    nothing = model.unconditional(2, [[picture], [picture, picture]])
    assert_same(nothing, model.encode_text(["", ""], [[picture], [picture, picture]]))
    assert nothing.image_grids == (((1, 2),), ((1, 2), (1, 2)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"grids": (2, 6)}, "one .rows, columns. for each of the 3 samples"),
        ({"grids": ((2, 6),)}, "one .rows, columns. for each of the 3 samples"),
        ({"images_BRC": None}, "belong together"),
        ({"image_grids": ()}, "belong together"),
        ({"image_grids": (((1, 2),), (), ())}, "as long as the longest"),
    ],
)
def test_a_conditioning_that_contradicts_itself_is_refused(changed: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(conditioning(), **changed)
