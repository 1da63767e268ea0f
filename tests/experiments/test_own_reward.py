"""The reward that docs/how-to/rewards.md shows works as it says: with the command line and with the contract suite."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rewards
from experiments import cli
from experiments.record.whole_files import write_png
from rewards.parse import named_reward
from rewards.reward_table import REWARDS
from tests.contracts import test_rewards as contract
from tests.fixtures.writing import written

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "rewards.md"


@pytest.fixture
def page() -> list[str]:
    """What the page shows: the reward's file, its import, its line in REWARDS, its row in the contract suite."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    return blocks


@pytest.fixture
def own(page: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The page's file as a module of `rewards`, with its import and its line in REWARDS."""
    file, imported, line, _ = page
    (tmp_path / "sharpness.py").write_text(file, encoding="utf-8")
    monkeypatch.setattr(rewards, "__path__", [*rewards.__path__, str(tmp_path)])
    module = importlib.import_module("rewards.sharpness")
    names: dict[str, Any] = {}
    exec(imported, names)
    for name, kind in eval(f"{{{line}}}", names).items():
        monkeypatch.setitem(REWARDS, name, kind)
    yield module
    del sys.modules["rewards.sharpness"], rewards.sharpness


def test_the_command_line_scores_with_it_at_once(own: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures"
    for name, word in (("a", "KIWI"), ("b", "")):
        write_png(folder / f"{name}.png", (written(word) * 255).astype(np.uint8))
        (folder / f"{name}.txt").write_text("a sign")
    assert cli.main(["score", str(folder), "--reward", "sharpness:gain=2"]) == 0
    assert "sharpness:gain-2" in capsys.readouterr().out
    rows = json.loads((folder / "scores.json").read_text())["rows"]
    assert rows[0]["score"] > rows[1]["score"] == 0.0 and rows[0]["sharpness"] == rows[0]["score"]
    assert cli.main(["score", str(folder), "--reward", "0.5*sharpness+0.5*ocr"]) == 0
    assert "no_spans" in capsys.readouterr().out


def test_the_contract_suite_accepts_it_with_the_row_that_the_page_shows(
    own: Any, page: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every test of the suite that its row can be given to; they hold the assertions."""
    row = eval(f"{{{page[3]}}}", vars(contract))["sharpness"]
    reward = named_reward("sharpness")
    loaded = ("sharpness", reward, reward.load("cpu"), row)
    contract.test_settings_are_a_frozen_picklable_dataclass(loaded)
    contract.test_the_documentation_says_the_range_and_the_needs_exist(loaded)
    contract.test_it_says_which_part_of_a_picture_it_sees(loaded, 928, 1664)
    contract.test_scores_have_their_shape_range_and_order(loaded)
    turned = replace(row, images=lambda: row.images()[::-1])
    with pytest.raises(AssertionError):  # the suite can refuse: these images are not in the order that it asks for
        contract.test_scores_have_their_shape_range_and_order((*loaded[:3], turned))
    contract.test_a_score_does_not_depend_on_the_batch_nor_on_the_call(loaded)
    contract.test_a_score_survives_the_trip_through_8_bits(loaded)
    contract.test_what_cannot_be_judged_is_nan_and_counted(loaded)
    contract.test_a_failure_of_what_it_asks_is_nan_and_never_a_score(loaded, monkeypatch)
    contract.test_empty_and_unequal_batches(loaded)
