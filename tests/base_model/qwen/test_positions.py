"""MSRoPE against the reference tables, and against what a rotary position must do.

Shapes: S image tokens, N tokens, H heads, E channels of a head.
"""

from __future__ import annotations

import pytest
import torch

from base_model.qwen.layout import lay_out
from base_model.qwen.positions import (
    POSITIONS,
    flat,
    image_positions,
    image_table,
    msrope,
    rotate,
    rotations,
    row_text,
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
    assert (torch.view_as_real(image) - image_table(msrope, (grid,), AXES, CPU)).abs().max() < 1e-6
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
    table = image_table(msrope, ((2, 3),), AXES, CPU)
    x = torch.randn(6, 2, sum(AXES), generator=torch.Generator().manual_seed(0)).requires_grad_()
    turned = rotate(x, table)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    turned.backward(turned.detach())
    torch.testing.assert_close(x.grad, x.detach())
    assert rotate(x.bfloat16(), table).dtype == torch.bfloat16


def test_tables_are_built_once_and_serve_training_after_inference():
    with torch.inference_mode():
        first = image_table(msrope, ((5, 9),), AXES, CPU)
    assert image_table(msrope, ((5, 9),), AXES, CPU) is first
    assert not first.is_inference() and not first.requires_grad
    assert text_table(AXES, CPU).shape == (POSITIONS, sum(AXES) // 2, 2)


def test_tables_stand_on_the_device_asked_for():
    assert image_table(msrope, ((2, 3),), AXES, torch.device("meta")).is_meta


# --- the schemes --------------------------------------------------------------------------------------------------

GRIDS = ((2, 6), (3, 4))
"""what is made, and one condition image"""


def test_msrope_puts_pictures_on_frames_and_text_on_the_diagonal_beyond_both():
    places = msrope(GRIDS)
    assert torch.equal(places.images[0], image_positions((2, 6), 0))
    assert torch.equal(places.images[1], image_positions((3, 4), 1))
    assert (places.origin, places.line) == (3, (1, 1, 1))


def test_text_on_row_0_begins_right_of_the_widest_picture_and_differs_in_columns_alone():
    places = row_text(GRIDS)
    assert all(torch.equal(a, b) for a, b in zip(places.images, msrope(GRIDS).images, strict=True))
    assert (places.origin, places.line) == (3, (0, 0, 1))
    assert places.origin == int(torch.cat(places.images)[:, 2].max()) + 1
    assert row_text(((9, 2),)).origin == 1, "rows do not count"


def test_the_flat_scheme_counts_tokens():
    places = flat(GRIDS)
    assert torch.cat(places.images).tolist() == [[n, n, n] for n in range(24)]
    assert [len(p) for p in places.images] == [12, 12]
    assert (places.origin, places.line) == (24, (1, 1, 1))


@pytest.mark.parametrize("scheme", [msrope, row_text, flat])
def test_the_rotations_of_a_batch_are_those_of_its_samples_places(scheme):
    """Mixed sizes, one sample with a condition image; row by row against the scheme."""
    grids, pictures = [(2, 6), (3, 4)], [[(1, 2)], []]
    text, mask = torch.zeros(2, 4, 8), torch.tensor([[True] * 4, [True, True, False, False]])
    layout = lay_out(text, mask, torch.zeros(2, 12, 16), grids, pictures, AXES, False, scheme)
    first, second = scheme(((2, 6), (1, 2))), scheme(((3, 4),))

    def words(places, count: int) -> torch.Tensor:
        return (places.origin + torch.arange(count))[:, None] * torch.tensor(places.line)

    expected = torch.cat([words(first, 4), words(second, 2), *first.images, *second.images])
    assert torch.equal(layout.table_NE2[layout.joint.inverse_N], rotations(expected, AXES))


def test_schemes_differ_where_they_should():
    """On a larger image MSRoPE and row text keep the places of the middle; the flat scheme does not."""
    small, large = (2, 6), (4, 8)
    for scheme, kept in ((msrope, True), (row_text, True), (flat, False)):
        places = {tuple(p) for p in scheme((large,)).images[0].tolist()}
        middle = [tuple(p) for p in scheme((small,)).images[0].tolist()]
        at = [scheme((large,)).images[0].tolist().index(list(p)) if p in places else -1 for p in middle]
        expected = [8 * row + column for row in (1, 2) for column in range(1, 7)]
        assert (at == expected) == kept
