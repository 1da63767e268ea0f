"""MSRoPE against the reference tables, and against what a rotary position must do.

Shapes: S image tokens, N tokens, H heads, E channels of a head.
"""

from __future__ import annotations

import pytest
import torch

from base_model.positions import (
    POSITIONS,
    image_positions,
    msrope,
    picture_table,
    rotate,
    rotations,
    text_origin,
    text_table,
)

AXES = (8, 12, 12)
CPU = torch.device("cpu")


def test_even_and_odd_grids_are_centred_with_the_extra_row_on_the_negative_side():
    rows, columns = image_positions((3, 4))[:, 1], image_positions((3, 4))[:, 2]
    assert rows.tolist() == [-2] * 4 + [-1] * 4 + [0] * 4
    assert columns.tolist() == [-2, -1, 0, 1] * 3
    assert not image_positions((3, 4))[:, 0].any()


def test_a_larger_picture_keeps_the_centre_where_it_was():
    small, large = image_positions((4, 6)).tolist(), image_positions((8, 10)).tolist()
    assert all(place in large for place in small)


def test_text_begins_beside_the_largest_image_coordinate_and_follows_the_diagonal():
    for grid in [(1, 1), (2, 6), (7, 3), (5, 5)]:
        origin = text_origin(grid)
        assert origin == int(image_positions(grid)[:, 1:].max()) + 1
        diagonal = rotations(torch.full((1, 3), origin + 5), AXES)
        assert torch.equal(text_table(AXES, CPU)[origin + 5], diagonal[0])


@pytest.mark.parametrize("grid", [(4, 6), (3, 5), (1, 7), (64, 64)])
def test_tables_are_those_of_the_reference(grid):
    pytest.importorskip("diffusers")
    from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope

    image, text = QwenEmbedRope(10000, list(AXES), scale_rope=True)([(1, *grid)], device=CPU, max_txt_seq_len=50)
    origin = text_origin(grid)
    assert (torch.view_as_real(image) - picture_table(msrope, (grid,), AXES, CPU)).abs().max() < 1e-6
    assert (torch.view_as_real(text) - text_table(AXES, CPU)[origin : origin + 50]).abs().max() < 1e-6


def test_scores_depend_on_differences_of_positions_only():
    q, k = torch.randn(2, 1, 1, sum(AXES), dtype=torch.float32, generator=torch.Generator().manual_seed(0))

    def score(place_q: tuple[int, int, int], place_k: tuple[int, int, int]) -> torch.Tensor:
        tables = [rotations(torch.tensor([place]), AXES) for place in (place_q, place_k)]
        return (rotate(q, tables[0]) * rotate(k, tables[1])).sum()

    here = score((0, 3, -2), (0, 1, 5))
    torch.testing.assert_close(score((7, -4, 2), (7, -6, 9)), here, atol=1e-4, rtol=0)
    assert (score((0, 3, -2), (0, 2, 5)) - here).abs() > 1e-2
    assert (score((0, 3, -2), (1, 1, 5)) - here).abs() > 1e-2


def test_every_axis_turns_channels_of_its_own():
    table = rotations(torch.tensor([[5, 0, 0], [0, 5, 0], [0, 0, 5]]), AXES)
    turned = table[..., 1] != 0
    first, second = AXES[0] // 2, (AXES[0] + AXES[1]) // 2
    assert turned[0].nonzero().flatten().tolist() == list(range(first))
    assert turned[1].nonzero().flatten().tolist() == list(range(first, second))
    assert turned[2].nonzero().flatten().tolist() == list(range(second, sum(AXES) // 2))


def test_rotation_keeps_length_and_dtype_and_its_gradient_turns_back():
    table = picture_table(msrope, ((2, 3),), AXES, CPU)
    x = torch.randn(6, 2, sum(AXES), generator=torch.Generator().manual_seed(0)).requires_grad_()
    turned = rotate(x, table)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    turned.backward(turned.detach())
    torch.testing.assert_close(x.grad, x.detach())
    assert rotate(x.bfloat16(), table).dtype == torch.bfloat16


def test_tables_are_built_once_and_serve_training_after_inference():
    with torch.inference_mode():
        first = picture_table(msrope, ((5, 9),), AXES, CPU)
    assert picture_table(msrope, ((5, 9),), AXES, CPU) is first
    assert not first.is_inference() and not first.requires_grad
    assert text_table(AXES, CPU).shape == (POSITIONS, sum(AXES) // 2, 2)


def test_tables_stand_on_the_device_asked_for():
    assert picture_table(msrope, ((2, 3),), AXES, torch.device("meta")).is_meta
