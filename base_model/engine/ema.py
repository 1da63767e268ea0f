"""An exponential moving average of trainable weights.

    (E1)  d_s = min(decay, (1 + s) / (10 + s)),  s = averages taken so far      the ramp forgets the random start
    (E2)  shadow <- d_s shadow + (1 - d_s) weight                               Polyak & Juditsky 1992

The shadow is float32, whatever the weights are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def whole(parameter: nn.Parameter) -> Tensor:
    """The storage of a parameter that lives whole on this process."""
    return parameter.data


class Ema:
    """Averages what requires a gradient; frozen weights are their own average."""

    def __init__(
        self,
        module: nn.Module,
        decay: float,
        storage: Callable[[nn.Parameter], Tensor] = whole,
        master: Callable[[str], Tensor] | None = None,
    ) -> None:
        """`storage` returns what this process holds of a parameter: all of it, or its shard under ZeRO-3.

        `master` returns what is averaged in place of the parameter of a name, of the storage's shape: float32 beside
        16-bit weights. It is asked in the order of the parameters, by all ranks together.
        """
        self.decay = decay
        self.updates = 0
        self.inside = False
        """whether the module holds the averages now"""
        self._storage = storage
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._master = master
        self.shadow = {name: self._weight(name, p).to(torch.float32, copy=True) for name, p in self._parameters.items()}

    def _weight(self, name: str, parameter: nn.Parameter) -> Tensor:
        """Returns the tensor that is averaged."""
        return (self._master(name) if self._master else self._storage(parameter)).detach()

    @torch.no_grad()
    def update(self) -> None:
        """(E1), (E2)."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))  # (E1)
        for name, parameter in self._parameters.items():  # one at a time: of 16-bit weights a float32 copy is made
            self.shadow[name].lerp_(self._weight(name, parameter).float(), 1.0 - decay)  # (E2)
        self.updates += 1

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The module holds the averages inside, and exactly its own weights again after, also after an error."""
        own = {name: self._storage(p).detach().clone() for name, p in self._parameters.items()}
        self._write(self.shadow)
        self.inside = True
        try:
            yield
        finally:
            self._write(own)
            self.inside = False

    @torch.no_grad()
    def load(self, shadow: Iterable[tuple[str, Tensor]], updates: int) -> None:
        """Continue from saved averages; `shadow` holds exactly the names and shapes of `self.shadow`, in any order."""
        for name, tensor in shadow:
            self.shadow[name].copy_(tensor)
        self.updates = updates

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            self._storage(parameter).copy_(values[name])
