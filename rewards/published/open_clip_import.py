"""Importing open_clip beside any build of torch.

open_clip imports torchvision. A torchvision that was built for CUDA cannot load its operators beside a CPU build of
torch, and then fails to import at all: "operator torchvision::nms does not exist". The two operators it asks for while
it is imported need only be declared. Everything but detection (nms) and its own file readers works then, and nothing
here uses those.

As long as it is installed, such a torchvision also breaks the CLIP and Qwen2-VL image processors of transformers and
the pipelines of diffusers, which use it when it is there. So the Makefile puts open_clip and torchvision into a folder
of their own, which only a process that asks for open_clip adds to its path.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

SIDE_FOLDER = Path(sys.prefix) / "open_clip"
PACKAGES = "torchvision==0.28.0 open_clip_torch==3.3.0 timm==1.0.31 ftfy==6.3.1 wcwidth==0.9.4"
INSTALL = f"pip install --no-deps --target {SIDE_FOLDER} {PACKAGES}"

_declared: list[Any] = []  # a library's schemas are withdrawn when it is collected


def open_clip() -> Any:
    """The module. ImportError says what to install.

    It takes the installed open_clip, else the one in ``SIDE_FOLDER``, which is put last on ``sys.path``.
    """
    if importlib.util.find_spec("open_clip") is None and SIDE_FOLDER.is_dir() and str(SIDE_FOLDER) not in sys.path:
        sys.path.append(str(SIDE_FOLDER))
    if importlib.util.find_spec("open_clip") is None:
        raise ImportError(f"weights of this kind are run by open_clip, which is missing; run: {INSTALL}")
    declare_operators()
    try:
        return importlib.import_module("open_clip")
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"open_clip could not be imported: {error}. Usually torchvision is a build for another torch; take the "
            f"pair from one index, or uninstall torchvision and open_clip_torch and keep them apart: {INSTALL}"
        ) from error


def declare_operators() -> None:
    """Declare torchvision's two operators when its own library cannot be loaded beside this torch."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if _declared or "torchvision" in sys.modules or spec is None or spec.origin is None:
        return
    for own in Path(spec.origin).parent.glob("_C*.so"):
        with suppress(OSError):
            torch.ops.load_library(str(own))  # as importing torchvision does
            return
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
