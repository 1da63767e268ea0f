"""The ring: shards in their order, whole or not at all, never above its bound, and nobody's but its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from base_model.data.encoded_shards import sealed
from base_model.pretrain import Batch
from experiments.producers.ring import Contents, Ring

CONTENTS = Contents("data", "encoder", size=2, ranks=1, batches=2)


def content(shard: int, contents: Contents = CONTENTS) -> bytes:
    batch = Batch(torch.full((2, 6, 400), float(shard)), ["a", "b"])
    return sealed([batch] * contents.batches, contents.about(shard))


SIZE = len(content(0)) + 10


def ring(folder: Path, shards: float = 3, contents: Contents = CONTENTS) -> Ring:
    return Ring(folder, contents, int(shards * SIZE))


def there(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.safetensors"))


def test_shards_come_in_their_order_and_room_is_made_of_those_that_were_read(tmp_path: Path) -> None:
    own = ring(tmp_path)
    assert not own.put(1, content(1)), "the first one is not there, and needs its room"
    assert all(own.put(shard, content(shard)) for shard in range(3))
    assert there(tmp_path) == [0, 1, 2] and not own.put(3, content(3)), "full"
    own.read_from(2)
    assert own.put(3, content(3)) and there(tmp_path) == [1, 2, 3], "the oldest goes, no more than is needed"
    assert own.put(4, content(4)) and not own.put(5, content(5)) and there(tmp_path) == [2, 3, 4]
    assert own.put(1, content(1)) and there(tmp_path) == [2, 3, 4], "read already: nobody needs it"


def test_a_run_that_goes_back_gets_room(tmp_path: Path) -> None:
    """What lies ahead is taken away where what is read next would have no room."""
    own = ring(tmp_path)
    own.read_from(2)
    assert all(own.put(shard, content(shard)) for shard in (2, 3, 4))
    own.read_from(1)
    assert own.put(1, content(1)) and there(tmp_path) == [1, 2, 3]


def test_shards_of_other_contents_are_not_read_and_give_way(tmp_path: Path) -> None:
    ring(tmp_path).put(0, content(0))
    ring(tmp_path).put(1, content(1))
    other = replace(CONTENTS, encoder="another")
    own = ring(tmp_path, 2, other)
    assert not own.holds(0) and own.open(0) is None
    assert own.put(0, content(0, other)) and there(tmp_path) == [0]
    shard = own.open(0)
    assert shard is not None and not ring(tmp_path).holds(0)
    assert torch.equal(shard.batch(1).x0_BSC, torch.zeros(2, 6, 400))


def test_what_a_killed_process_left_is_nothing_and_is_taken_away(tmp_path: Path) -> None:
    own = ring(tmp_path)
    (tmp_path / ".00000000.safetensors.abc").write_bytes(content(0)[:-1])
    assert not own.holds(0) and own.put(0, content(0))
    assert not list(tmp_path.glob(".*.safetensors.*"))
    damaged = bytearray(content(1))
    damaged[-1] ^= 1
    own.path(1).write_bytes(damaged)
    assert own.open(1) is None and there(tmp_path) == [0], "it is made again"


def test_a_shard_larger_than_the_ring_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow more with --ring-gigabytes"):
        ring(tmp_path, 0.5).put(0, content(0))
