"""What every test of a page needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """A page run by AppTest stays behind as the main module, which processes started later would import."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before
