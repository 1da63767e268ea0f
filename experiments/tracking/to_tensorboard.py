"""Mirrors into TensorBoard's event files, with TensorBoard's own writer and without torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TensorBoard:
    """An event file in `folder`: `tensorboard --logdir FOLDER` shows it."""

    def __init__(self, folder: Path, *_: object) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventFileWriter(str(folder))

    def settings(self, config: Mapping[str, Any]) -> None:
        """A text named settings."""
        text = json.dumps(config, indent=1, ensure_ascii=False)
        self._put(0, 0.0, _text("settings", "\n".join(f"    {line}" for line in text.splitlines())))

    def metrics(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """A scalar for each metric."""
        self._put(step, time, *({"tag": name, "simple_value": value} for name, value in values.items()))

    def image(self, step: int, time: float, name: str, file: Path, caption: str) -> None:
        """The PNG as it is; its name in TensorBoard is its own and its caption."""
        content = file.read_bytes()
        width, height = struct.unpack(">II", content[16:24])  # of a PNG, whose header chunk is always first
        image = {"height": height, "width": width, "colorspace": 3, "encoded_image_string": content}
        self._put(step, time, {"tag": f"{name}: {caption}", "image": image})

    def alarm(self, step: int, time: float, title: str, text: str) -> None:
        """A text under alarms."""
        self._put(step, time, _text(f"alarms/{title}", text))

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()

    def _put(self, step: int, time: float, *values: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time, step=step, summary={"value": list(values)}))


def _text(tag: str, text: str) -> dict[str, Any]:
    """A value that TensorBoard's text page shows."""
    tensor = {"dtype": "DT_STRING", "string_val": [text.encode()], "tensor_shape": {"dim": [{"size": 1}]}}
    return {"tag": f"{tag}/text_summary", "metadata": {"plugin_data": {"plugin_name": "text"}}, "tensor": tensor}
