"""What is built and installed is whole: no file that is read when it runs stays behind, and no test comes along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("alignment", "base_model", "dashboards", "experiments", "preference_data", "rewards")
STAYS = "experiments/reports/"
"""What is read by people, on the repository's pages."""


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The files that a wheel of this checkout would hold, as setuptools works them out."""
    from setuptools import Distribution

    monkeypatch.chdir(ROOT)
    distribution = Distribution({"script_name": "setup.py"})
    distribution.parse_config_files()
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    modules = {Path(each[-1]).as_posix() for each in command.find_all_modules()}
    data = {f"{source}/{name}" for _, source, _, names in command.data_files for name in names}
    yield modules | data


def test_every_file_of_the_floors_is_packed_and_nothing_else(packed: set[str]) -> None:
    there = (path for floor in FLOORS for path in (ROOT / floor).rglob("*") if path.is_file())
    ours = {path.relative_to(ROOT).as_posix() for path in there if "__pycache__" not in path.parts}
    ours = {name for name in ours if not name.startswith(STAYS)}
    assert len(ours) > 200
    assert not ours - packed, "left behind: package-data of pyproject.toml, or a folder without __init__.py"
    assert not {name.split("/")[0] for name in packed} - set(FLOORS)
