"""The folder of a training that may be stopped: it goes on with the settings that it began with, or not at all.

OUT/training/settings.json     what the result depends on
OUT/training/...               checkpoints, gone when the training is finished
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.record.whole_files import plain, require_folder, write_json

WORK, SETTINGS = "training", "settings.json"


def require_same(out: Path, facts: Mapping[str, Any]) -> None:
    """Raises ValueError where `out` cannot be a folder, holds something else, or a stopped training of other settings.

    `facts` are the settings by name. Nothing is written.
    """
    require_folder(out)
    path = out / WORK / SETTINGS
    if not path.exists():
        if out.exists() and any(each.name != WORK for each in out.iterdir()):
            raise ValueError(f"{out} is a folder with other files in it; name a new one with --out")
        return
    before, now = json.loads(path.read_text("utf-8")), plain(facts)
    changed = [f"{name} was {before.get(name)}, is {now[name]}" for name in now if before.get(name) != now[name]]
    if changed:
        raise ValueError(f"{out} holds a training that was stopped, of other settings: {'; '.join(changed)}. "
                         "Say the same to go on with it, or name a new folder with --out")  # fmt: skip


def begin(out: Path, facts: Mapping[str, Any]) -> Path:
    """The folder for checkpoints, which remembers the settings."""
    write_json(out / WORK / SETTINGS, facts)
    return out / WORK


def publish(finished: Path, out: Path, last: str) -> None:
    """Move the files of a finished result into `out`; the one by which it is known to be finished comes `last`."""
    for path in sorted(finished.iterdir(), key=lambda each: each.name == last):
        path.replace(out / path.name)
