"""Which device models go to, answered here alone.

Training, evaluation, the doctor and `sample` are the same code on a GPU and on the host.
"""

from __future__ import annotations

import torch

GPU, HOST = "cuda", "cpu"


def has_gpu() -> bool:
    """Whether this process sees a GPU."""
    return torch.cuda.is_available()


def best_device(requested: str | None = None) -> str:
    """The device asked for; without one this process's GPU, or the host where there is none.

    Of several GPUs that is the current one, which every rank of a run chooses for itself.
    """
    return requested or (GPU if has_gpu() else HOST)
