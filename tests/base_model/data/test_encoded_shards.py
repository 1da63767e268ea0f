"""Shards give back what was sealed, bit for bit, and say when they are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from base_model.data.encoded_shards import Shard, about_shard, sealed
from base_model.interface import padded_together
from base_model.pretrain import Batch

ABOUT = {"data": "d", "encoder": "e", "shard": 3}


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def levels(*shape: int) -> Tensor:
    return (noise(*shape) * 40 + 128).clamp(0, 255).to(torch.uint8)


RAGGED = Batch(
    padded_together([noise(1, 6, 4), noise(1, 8, 4), noise(1, 6, 4) + 1]), ["a", '字 "b"', ""],
    ((2, 3), (2, 4), (3, 2)),
    [[levels(3, 8, 4)], [], [levels(3, 8, 4) // 2, levels(3, 4, 4)]],
)  # fmt: skip
EVEN = Batch(noise(2, 6, 4), ["x", "y"])
BRAIN = Batch(noise(2, 6, 4).bfloat16(), ["x", "y"])
PIXELS = Batch(levels(2, 3, 8, 4), ["", ""])


def check_equal(a: Batch, b: Batch) -> None:
    assert torch.equal(a.x0_BSC, b.x0_BSC) and a.x0_BSC.dtype == b.x0_BSC.dtype
    assert list(a.texts) == list(b.texts) and a.grids == b.grids and len(a.sources) == len(b.sources)
    for own, other in zip(a.sources, b.sources, strict=True):
        assert len(own) == len(other) and all(torch.equal(x, y) for x, y in zip(own, other, strict=True))


def test_batches_of_any_kind_come_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "0.safetensors"
    batches = (RAGGED, EVEN, BRAIN, PIXELS, RAGGED)
    path.write_bytes(sealed(batches, ABOUT))
    shard = Shard(path)
    assert len(shard) == 5 and about_shard(path) == ABOUT
    for index in (3, 0, 2, 1, 4):
        check_equal(shard.batch(index), batches[index])
    assert shard.batch(1).grids == () and shard.batch(1).sources == (), "of the model's own size, made from nothing"
    rows = shard.rows([(4, 1), (0, 0), (1, 1)])
    expected = [RAGGED.x0_BSC[1:2], RAGGED.x0_BSC[:1, :6], EVEN.x0_BSC[1:]]
    assert torch.equal(rows, padded_together(expected)), "rows of any batches, without padding that none needs"
    assert path.read_bytes() == sealed(batches, dict(reversed(ABOUT.items()))), "one bytes for one content"


def test_nothing_is_stored_for_padding(tmp_path: Path) -> None:
    long = Batch(padded_together([noise(1, 4000, 4), noise(1, 4, 4)]), ["a", "b"], ((40, 100), (2, 2)))
    assert len(sealed([long], ABOUT)) < 4200 * 4 * 4


@pytest.mark.parametrize("where", [0.1, 0.5, 0.999])
def test_damaged_shards_are_refused(where: float, tmp_path: Path) -> None:
    content = bytearray(sealed([RAGGED, EVEN], ABOUT))
    content[int(where * len(content))] ^= 1
    (tmp_path / "bent").write_bytes(content)
    (tmp_path / "cut").write_bytes(content[: int(where * len(content))])
    for name in ("bent", "cut"):
        with pytest.raises(ValueError, match=r"damaged|not a whole shard|JSON|utf|line"):
            Shard(tmp_path / name)
    assert about_shard(tmp_path / "cut") == about_shard(tmp_path / "nothing") == {}
