"""The databases that every test of the store runs on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from preference_data.store.store import Store
from tests.fixtures import desk, postgres


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL server."""
    started = postgres.cluster()
    try:
        url = started.__enter__()
    except postgres.Unavailable as reason:
        pytest.skip(str(reason))
    yield url
    started.__exit__(None, None, None)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store can be opened: a folder, or the URL of an empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "store")
    return postgres.database(request.getfixturevalue("server"))


@pytest.fixture
def clock() -> desk.Clock:
    return desk.Clock()


@pytest.fixture
def store(place: str, tmp_path: Path, clock: desk.Clock) -> Iterator[Store]:
    """An empty store on either database, whose time passes by hand and whose chance is seeded."""
    opened = desk.open_store(place, tmp_path / "pictures", clock)
    yield opened
    opened.close()
