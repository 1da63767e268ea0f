"""Work of processes that a Ray cluster places: the same functions, and the same bytes, as in processes of this machine.

Paths, never pixels, go from process to process, so the machines of a cluster must see the folders under the same paths.
Ray is an extra (`glyphlab[ray]`), imported when an address is named: `local` begins a cluster on this machine, `auto`
takes the one that runs here, and anything else is the address of one.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")

STORE_BYTES = 100 * 2**20
"""of Ray's object store in a cluster that begins here: only paths and settings go through it"""


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Open a connection to a cluster. Raises ValueError where Ray is not installed, or nothing answers."""
    try:
        import ray
    except ImportError as error:
        raise ValueError(f"ray={address} needs Ray, which is not installed: pip install 'glyphlab[ray]'") from error
    begins_here = address == "local"
    here: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if begins_here else {}
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}
    try:
        ray.init(
            address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": paths}, **here
        )  # fmt: skip
    except ConnectionError as error:
        raise ValueError(f"no Ray cluster answers at {address}: {error}; begin one with: ray start --head") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def placed(folder: str, work: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    """Do work in a process of the cluster, where relative paths mean what they mean here."""
    os.chdir(folder)
    return work(*arguments)


def parts_on_ray(work: Callable[[Part], Result], parts: Sequence[Part], address: str) -> Iterator[Result]:
    """Do parts in processes of the cluster; what `work` returns as they are done, in any order.

    A part whose process dies is done again, which its writes, whole or not at all, allow.
    """
    with connected(address) as ray:
        remote = ray.remote(num_cpus=1, max_retries=3)(placed)
        waiting = [remote.remote(os.getcwd(), work, (part,)) for part in parts]
        while waiting:
            done, waiting = ray.wait(waiting)
            yield from ray.get(done)
