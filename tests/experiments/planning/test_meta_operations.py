"""What is remembered of an operation on the meta device is what torch gives, and is asked for where it may differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _device as device
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.planning import meta_operations
from experiments.planning.torch_patches import opened


@pytest.fixture(autouse=True)
def empty_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(meta_operations, "_answers", {})
    yield


class Remembering(TorchDispatchMode):
    """Calls every operation through the memory, and counts those that torch itself is asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return meta_operations.call(func, args, kwargs or {})


def kind(x: Tensor) -> tuple[Any, ...]:
    return x.shape, x.stride(), x.dtype, x.storage_offset(), x.untyped_storage().nbytes(), x.device.type


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


CALLS = {
    "one for a scalar": lambda: meta(2, 3, dtype=torch.int64) + 1,
    "one point for a scalar": lambda: meta(2, 3, dtype=torch.int64) + 1.0,
    "another type": lambda: meta(2, 3, dtype=torch.bfloat16) + 1,
    "true for a scalar": lambda: meta(2, 3, dtype=torch.bool) + True,
    "one for a bool": lambda: meta(2, 3, dtype=torch.bool) + 1,
    "broadcasting": lambda: meta(2, 1) * meta(3),
    "transposed": lambda: meta(2, 3).T.clone(),
    "not transposed": lambda: meta(2, 3).clone(),
    "a slice": lambda: meta(4, 4)[1:, ::2] + 1,
    "a product": lambda: meta(2, 3) @ meta(3, 5),
    "several": lambda: torch.native_layer_norm(meta(2, 3), [3], None, None, 1e-5)[1],
    "a sum": lambda: meta(2, 3).sum(1),
    "a sum that keeps": lambda: meta(2, 3).sum(1, keepdim=True),
    "a list": lambda: torch.cat([meta(2, 3), meta(1, 3)]),
    "a longer list": lambda: torch.cat([meta(2, 3), meta(1, 3), meta(1, 3)]),
    "a number": lambda: torch.arange(3, device="meta"),
    "another number": lambda: torch.arange(4, device="meta"),
    "written to": lambda: meta(2, 3).add_(1),
    "a view": lambda: meta(2, 3).view(6)[2:],
    "no rows": lambda: meta(0, 3) * 2,
}


def test_the_second_answer_is_torchs_own_too() -> None:
    expected = {name: kind(make()) for name, make in CALLS.items()}
    with Remembering():
        for _ in range(2):
            assert {name: kind(make()) for name, make in CALLS.items()} == expected


def test_an_answer_is_remembered_and_is_a_tensor_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    x = meta(2, 3)
    with Remembering():
        first = x * 2
        count = len(meta_operations._answers)
        monkeypatch.setattr(meta_operations, "fresh", lambda *_: pytest.fail("torch was asked again"))
        second = x * 2
    assert count == len(meta_operations._answers) == 1
    assert len({t.untyped_storage()._cdata for t in (x, first, second)}) == 3


def test_a_default_type_that_changed_is_another_question() -> None:
    with Remembering():
        before = torch.ones(2, device="meta").dtype
        torch.set_default_dtype(torch.float64)
        try:
            after = torch.ones(2, device="meta").dtype
        finally:
            torch.set_default_dtype(torch.float32)
    assert (before, after) == (torch.float32, torch.float64)


def test_what_does_not_fit_is_refused_after_what_fits() -> None:
    with Remembering():
        x = meta(2, 3)
        assert x.add_(meta(3)) is x and x.mul_(2) is x
        with pytest.raises(RuntimeError):
            x.add_(meta(4))
        with pytest.raises(RuntimeError):
            meta(2, 3) @ meta(2, 3)
        assert meta(3, 2).t_().shape == meta(3, 2).t_().shape == (2, 3), "in place, and of another shape"


def test_a_card_that_was_open_leaves_the_meta_device_as_it_is() -> None:
    """torch notes once which functions make tensors, at the first use of a device as a context."""
    device._device_constructors.cache_clear()
    with opened(), torch.device("meta"):
        torch.zeros(1)
    with torch.device("meta"):
        assert torch.tensor([0]).is_meta and torch.as_tensor([0]).is_meta and torch.arange(2).is_meta


def test_bytes_and_numbers_of_the_card_are_those_without_a_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def story() -> tuple[int, list[float], bool]:
        with opened() as card:
            before, rates = card.now, torch.tensor([0.5, 1.5]).to("meta")
            w = torch.nn.Parameter(meta(64, 64, dtype=torch.bfloat16))
            for i in range(3):
                x = torch.nn.functional.silu(meta(8, 64, dtype=torch.bfloat16) @ w) * (rates[0] + i)
                x.float().square().mean().backward()
                rates.mul_(2.0)
            return card.peaks["start"] - before, rates.tolist(), w.grad is not None

    remembered = story()
    monkeypatch.setattr(meta_operations, "kind_of", lambda _: ("other", False))
    assert story() == remembered and remembered[1] == [4.0, 12.0] and remembered[2]
