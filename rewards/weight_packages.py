"""Packages of which only files are read: the weights of the OCR engines, of BRISQUE and of NudeNet.

Their own dependencies include more builds of OpenCV, which would overwrite each other's files. So `make` puts them,
without dependencies, into a folder beside the installed packages. Nothing is imported from there, and `pip check` does
not ask what they depend on.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(sys.prefix) / "weights"


def package_folder(name: str) -> Path | None:
    """The folder of a package, where it is installed or else in ``FOLDER``; None without it. It is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return FOLDER / name if (FOLDER / name).is_dir() else None
