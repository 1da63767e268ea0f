"""Answers go from the store to a run's folder in memory: every file is written once, and none of it read back."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.configs import CONFIGS
from experiments.preferences import from_people
from experiments.preferences.from_people import install
from experiments.preferences.load_answers import load
from experiments.record.whole_files import write_png
from preference_data import comparisons, pairs
from preference_data.exchange import judgements
from preference_data.exchange.judgements import Judgement
from preference_data.pixels import pixel_hash
from preference_data.records import ImageRef, Prompt, Provenance

MADE = Provenance("m", "", 0, 1, 1.0, "r", 0)
OUTCOMES = ("first", "second", "tie", "first")
FILES = {"nano_dpo": "pairs.jsonl", "nano_tied_dpo": "comparisons.jsonl", "nano_kto": "comparisons.jsonl"}


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Judgement]:
    """What a campaign's items say; the last is about an image of the first."""
    random, refs = np.random.default_rng(0), []
    for _ in range(7):
        image = random.integers(0, 256, (3, 32, 96), dtype=np.uint8)
        path = tmp_path / "store" / f"{pixel_hash(image)}.png"
        write_png(path, image)
        refs.append(ImageRef(path.stem, str(path), 96, 32, MADE))
    couples = [(refs[0], refs[1]), (refs[2], refs[3]), (refs[4], refs[5]), (refs[0], refs[6])]
    found = [Judgement(Prompt.from_text("a word"), *two, outcome, votes=(3, 1, 0))
             for two, outcome in zip(couples, OUTCOMES, strict=True)]  # fmt: skip
    store = SimpleNamespace(operator=1, images=SimpleNamespace(root=tmp_path / "store"), close=lambda: None)
    monkeypatch.setattr(from_people, "open_store", lambda *_: store)
    monkeypatch.setattr(judgements, "of_items", lambda *_: found)
    return found


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_written_twice(name: str, said: list[Judgement], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[str] = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (written.append(Path(new).name), real(old, new)))
    with monkeypatch.context() as reading:
        for module in (pairs, comparisons):
            reading.setattr(module, "load", lambda *_: pytest.fail("what was in memory is read from a file"))
        target = install(CONFIGS[name], ["store:c"], "", tmp_path / "run")
    decided = [j for j in said if j.outcome in ("first", "second")]
    used = {ref.sha256 for j in (decided if name == "nano_dpo" else said) for ref in (j.first, j.second)}
    assert target == tmp_path / "run" / FILES[name]
    assert sorted(written) == sorted([target.name, *(f"{sha}.png" for sha in used)])
    assert {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()} == set(written)
    found = load(tmp_path / "run")
    sides = {"first": "left", "second": "right", "tie": "tie"}
    if name == "nano_dpo":
        assert [c.left.sha256 for c in found] == [said[0].first.sha256, said[1].first.sha256, said[3].first.sha256]
    assert [c.outcome for c in found] == [sides[j.outcome] for j in (decided if name == "nano_dpo" else said)]
    assert all(c.annotator == "human:c" for c in found)
    assert all((tmp_path / "run" / ref.path).exists() for c in found for ref in (c.left, c.right))
    assert install(CONFIGS[name], ["store:c"], "", tmp_path / "run") == target and len(written) == len(used) + 1


def test_a_campaign_without_decisions_teaches_dpo_nothing(said: list[Judgement], tmp_path: Path) -> None:
    del said[3], said[1], said[0]
    with pytest.raises(ValueError, match="no item of the campaign 'c' is decided"):
        install(CONFIGS["nano_dpo"], ["store:c"], "", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_others_take_no_answers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nano_grpo does not learn from pairs"):
        install(CONFIGS["nano_grpo"], ["store:c"], "", tmp_path / "run")
