"""Packing streams and attending in groups, against padding and masks.

Shapes: B samples, L padded tokens, N real tokens, D width, H heads, E channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from base_model.qwen.packing import attention, full_stream, image_stream, join, masked_stream

CPU = torch.device("cpu")
MASK = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_packing_keeps_real_tokens_in_order_and_unpacking_puts_zeros_for_the_rest():
    x, stream = random(4, 5, 3), masked_stream(MASK)
    assert stream.lengths == (3, 3, 1, 0)
    assert torch.equal(stream.pack(x), x[MASK])
    assert torch.equal(stream.unpack(stream.pack(x)), x * MASK[..., None])


def test_a_batch_of_equal_lengths_keeps_its_sample_axis():
    x, stream = random(2, 5, 3), masked_stream(MASK[:2])
    assert stream.even and not stream.full
    assert stream.pack(x).shape == (2, 3, 3)
    assert torch.equal(stream.pack(x)[1], x[1, MASK[1]])
    assert torch.equal(stream.unpack(stream.pack(x)), x * MASK[:2, :, None])


def test_a_batch_without_padding_is_not_copied():
    x = random(2, 5, 3)
    for stream in (full_stream(2, 5, CPU), image_stream((5, 5), 5, CPU)):
        assert stream.pack(x) is x and stream.unpack(x) is x


def test_spreading_gives_every_token_its_samples_vector():
    vector = random(4, 3)
    assert torch.equal(masked_stream(MASK).spread(vector), vector[MASK.nonzero()[:, 0]])
    assert torch.equal(full_stream(4, 5, CPU).spread(vector), vector[:, None])


def test_joint_rows_are_sample_by_sample_text_first_and_sorted_by_length():
    txt, img = masked_stream(MASK), image_stream((2, 4, 4, 6), 6, CPU)
    joint = join(txt, img)
    assert joint.groups == ((2, 5), (1, 6), (1, 7))
    sample = torch.cat([txt.sample_N, img.sample_N])[joint.order_N]
    is_image = (joint.order_N >= len(txt.sample_N)).int()
    assert sample.tolist() == [0] * 5 + [2] * 5 + [3] * 6 + [1] * 7
    for i in range(4):
        assert is_image[sample == i].diff().ge(0).all()
    assert torch.equal(joint.order_N[joint.inverse_N], torch.arange(len(sample)))


def test_attention_in_groups_is_attention_with_a_mask():
    txt, img = masked_stream(MASK), image_stream((2, 4, 4, 6), 6, CPU)
    joint, H, E, D = join(txt, img), 2, 4, 8
    padded = [random(4, 11, D), random(4, 11, D).flip(0), random(4, 11, D).flip(1)]
    real = torch.cat([MASK, torch.arange(6) < torch.tensor(img.lengths)[:, None]], 1)
    rows = [torch.cat([txt.pack(x[:, :5]), img.pack(x[:, 5:])])[joint.order_N].view(-1, H, E) for x in padded]
    mixed = joint.attend(*rows)[joint.inverse_N]
    masked = F.scaled_dot_product_attention(
        *(x.view(4, 11, H, E).transpose(1, 2) for x in padded), attn_mask=real[:, None, None, :]
    )
    masked = masked.transpose(1, 2).flatten(2)
    expected = torch.cat([masked[:, :5][MASK], masked[:, 5:][real[:, 5:]]])
    torch.testing.assert_close(mixed, expected, atol=1e-6, rtol=0)


def test_attention_of_16_bits_on_a_cpu_is_that_of_float32_rounded_once():
    """In both directions: the kernel for 16 bits rounds in between, and its backward pass is slow."""
    half = [random(2, 3, 5, 8).bfloat16().requires_grad_() for _ in range(3)]
    whole = [x.detach().float().requires_grad_() for x in half]
    mixed, exact = attention(*half), F.scaled_dot_product_attention(*whole)
    assert torch.equal(mixed, exact.bfloat16())
    mixed.float().square().sum().backward()
    exact.backward(2 * mixed.detach().float())
    assert all(torch.equal(a.grad, b.grad.bfloat16()) for a, b in zip(half, whole, strict=True))
