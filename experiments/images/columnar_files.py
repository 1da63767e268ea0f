"""Opens Parquet and Arrow files, which hold images by columns, and reads one column of a part at a time."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLUMNS = ("image", "images", "img", "jpg", "png", "webp", "bytes", "picture")
"""Columns of bytes that hold images."""


@functools.lru_cache(maxsize=16)
def parquet_file(path: Path) -> Any:
    """An open Parquet file. Raises ValueError when it is none."""
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a whole Parquet file: {error}; copy it again") from error


@functools.lru_cache(maxsize=16)
def arrow_file(path: Path) -> Any:
    """An open Arrow file, of either of its formats, with batches by number. Raises ValueError when it is none."""
    import pyarrow.ipc

    try:
        return pyarrow.ipc.open_file(pyarrow.memory_map(str(path)))
    except pyarrow.ArrowInvalid:
        pass
    try:
        return ArrowStream(pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all().to_batches())
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a whole Arrow file: {error}; copy it again") from error


class ArrowStream:
    """Batches of an Arrow stream, which stay in the mapped file, with the reader of Arrow files' names."""

    def __init__(self, batches: Sequence[Any]) -> None:
        import pyarrow

        self._batches = batches
        self.schema = batches[0].schema if batches else pyarrow.schema([])
        self.num_record_batches = len(batches)

    def get_batch(self, index: int) -> Any:
        """One batch of rows."""
        return self._batches[index]


ONE_READER = threading.Lock()
"""An open Parquet file takes one reader at a time: two threads can end the process."""


@functools.lru_cache(maxsize=4)
def parquet_rows(path: Path, group: int, column: str) -> Any:
    """A column of a row group, which can only be read whole."""
    with ONE_READER:
        return parquet_file(path).read_row_group(group, [column])[column]


def arrow_rows(path: Path, batch: int, column: str) -> Any:
    """A column of a batch."""
    return arrow_file(path).get_batch(batch).column(column)
