"""From a name to a folder: released checkpoints lie on disk or on the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

INDEX = "model_index.json"
"""what makes a folder a released checkpoint"""


def released_folder(name: str | Path) -> Path:
    """The folder of a checkpoint named by its path, or by its name on the hub (`Qwen/Qwen-Image`), which is fetched
    once and kept in huggingface_hub's cache.

    Raises ValueError when there is no such folder, when it is something else, or when the hub cannot be reached.
    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / INDEX).is_file():
            raise ValueError(
                f"{folder} is not a released checkpoint: it has no {INDEX}. Name the folder that holds {INDEX}, "
                "transformer/, vae/, text_encoder/, tokenizer/ and scheduler/"
            )
        return folder
    if not is_like_a_hub_name(str(name)):
        raise ValueError(f"there is no folder {folder}, and it is not a name on the hub (those are OWNER/NAME). A run "
                         "that began from a folder needs it where it was: put it back, or a link to it")  # fmt: skip
    return fetch(str(name))


def is_like_a_hub_name(name: str) -> bool:
    """OWNER/NAME without anything that only paths have."""
    owner, slash, rest = name.partition("/")
    return bool(slash and owner and rest) and "/" not in rest and owner not in (".", "..", "~") and "\\" not in name


def fetch(name: str) -> Path:
    """The hub's snapshot of what the pipeline reads: repositories also hold single files and types for other programs.

    Raises ValueError saying what to do when it is neither in the cache nor within reach.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        index = Path(snapshot_download(name, allow_patterns=[INDEX])) / INDEX
        parts = [part for part, kind in read_json(index).items() if isinstance(kind, list) and kind[0]]
        return Path(
            snapshot_download(
                name, allow_patterns=[INDEX, *(f"{part}/*" for part in parts)],
                ignore_patterns=["*.bin", "*.gguf", "*.md", "*.fp16.*", "*.msgpack", "*.onnx*"],
            )
        )  # fmt: skip
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        if isinstance(error, HfHubHTTPError) and not isinstance(error, LocalEntryNotFoundError):
            raise ValueError(
                f"the hub refuses {name!r} ({error}): is the name right, and does it need `hf auth login`?"
            ) from error
        raise ValueError(
            f"there is no folder {name!r} here, and the hub cannot be reached for it. With a network: "
            f"`hf download {name}`; without: copy the checkpoint here and give its folder"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Settings in a file. Raises ValueError when it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}; fetch the checkpoint again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no settings; fetch the checkpoint again")
    return content
