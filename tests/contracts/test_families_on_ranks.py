"""The first ratio of every base model is exactly 1 on two processes, at every ZeRO stage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contracts.test_flow_models import ROWS
from tests.fixtures.processes.family_ranks_story import KINDS, RANKS, SECONDS
from tests.fixtures.processes.launching import launch

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ROWS)
def test_the_first_ratio_is_one_on_two_processes(name: str, tmp_path: Path) -> None:
    folder = launch(["-m", "tests.fixtures.processes.family_ranks_story", name], tmp_path, SECONDS)
    first, *others = [json.loads((folder / f"measured_{rank}.json").read_text()) for rank in range(RANKS)]
    assert others == [first], "metrics are means over ranks"
    assert len(first) == len(KINDS)
    for kind, measured in first.items():
        assert measured["gap"] == 0.0 and measured["kl"] == 0.0, kind
        assert measured["last_kl"] > 0.0, f"{kind}: the adapter did not move"
