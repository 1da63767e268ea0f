"""Randomness as a function: every draw of a run is addressed by (seed, step, rank, purpose).

Resuming therefore needs a step number and nothing else, and two purposes never share a stream. The address is hashed
with SHA-256 and all 256 bits reach the generator. `torch.Generator.manual_seed` would not do on the CPU: its Mersenne
twister keeps the low 32 bits of a seed, so among 100,000 streams about one pair would be expected to coincide.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import torch

_KEY_WORDS = 624
"""32-bit words of a Mersenne twister state (Matsumoto & Nishimura 1998)"""


def generator(seed: int, step: int, rank: int, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A fresh torch generator for one address, on `device`.

    Streams of different addresses are independent. CPU and CUDA streams of one address differ, as torch's own do.
    """
    device = torch.device(device)
    if device.type != "cpu":  # Philox keys are 64 bits and manual_seed keeps them all
        return torch.Generator(device).manual_seed(int.from_bytes(_digest(seed, step, rank, purpose)[:8], "big"))
    fresh = torch.Generator().manual_seed(0)
    state = np.frombuffer(bytes(fresh.get_state().numpy()), dtype=np.uint64).copy()
    # layout of the CPU state: 24 bytes of header (seed, words left before the next twist, cursor), then the key
    state[3 : 3 + _KEY_WORDS] = _sequence(seed, step, rank, purpose).generate_state(_KEY_WORDS)
    fresh.set_state(torch.from_numpy(state.view(np.uint8)))
    return fresh


def numpy_generator(seed: int, step: int, rank: int, purpose: str) -> np.random.Generator:
    """A fresh numpy generator for one address."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, step, rank, purpose)))


def _sequence(seed: int, step: int, rank: int, purpose: str) -> np.random.SeedSequence:
    return np.random.SeedSequence(int.from_bytes(_digest(seed, step, rank, purpose), "big"))


def _digest(seed: int, step: int, rank: int, purpose: str) -> bytes:
    return sha256(repr((int(seed), int(step), int(rank), str(purpose))).encode()).digest()
