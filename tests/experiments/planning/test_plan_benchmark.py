"""The table of planned and counted bytes: nothing is counted twice, and the summary is the worst."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from base_model.qwen.presets import PRESETS
from experiments.benchmarks import plan
from experiments.benchmarks.card import waits
from experiments.benchmarks.card.recipe import Counted
from experiments.experiment import Experiment

NAME = "medium_grpo_lora"
FEW, MORE = plan.DEPTHS["sd35_medium"]
DEPTH = PRESETS["sd35_medium"].num_layers
BASE = {"open": 1, "encode": 17, "rollout": 3, "decode": 9, "update": 5, "look": 2}
SLOPE = {"open": 0.1, "encode": 0.1, "rollout": 0.2, "decode": 0.2, "update": 0.3, "look": 0.1}


@dataclass
class Counts:
    """Stands in for running a recipe: peaks that grow in a straight line with depth."""

    requests: list[tuple[str, str, int, int, bool]] = field(default_factory=list)
    left: int = 99
    """after so many calls it is interrupted"""

    def __call__(
        self, experiment: Experiment, folder: Path, layers: int = 0, ranks: int = 8, prompts: int = 16,
        whole: bool = True,
    ) -> Counted:  # fmt: skip
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.requests.append((experiment.name, experiment.engine, layers, ranks, whole))
        peaks = {name: round((base + SLOPE[name] * layers) * 1e9) for name, base in BASE.items()}
        made_of = {"update": Counter({"base_model/x.py:1": 5})}
        syncs = {("update", "a.py:2"): 1, ("encode", "b.py:3"): 2, ("update", "c.py:4"): 7}
        return Counted(peaks, made_of, syncs, {}, 91)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    made = Counts()
    for module in (plan, waits):
        monkeypatch.setattr(module, "count_recipe", made)
    return made


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    monkeypatch.setattr("sys.argv", ["plan", *map(str, arguments)])
    plan.main()
    return capsys.readouterr().out.splitlines()


def test_counts_are_kept_and_not_made_again(
    counts: Counts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "counts.jsonl"
    own = ("--only", NAME, "--own", "--resume", file)
    first = run(monkeypatch, capsys, *own)
    assert counts.requests == [(NAME, "deepspeed", FEW, 8, True), (NAME, "deepspeed", MORE, 8, True)]
    assert len(file.read_text().splitlines()) == 2
    assert run(monkeypatch, capsys, *own) == first and len(counts.requests) == 2, "all are there"
    run(monkeypatch, capsys, "--only", NAME, "--own", "--whole", "--resume", file)
    assert [layers for _, _, layers, _, _ in counts.requests] == [FEW, MORE, DEPTH], "another depth is another count"
    assert len(file.read_text().splitlines()) == 3
    run(monkeypatch, capsys, *own[:-2])
    assert len(counts.requests) == 5 and len(file.read_text().splitlines()) == 3, "without a file none is kept"


def test_what_was_counted_before_an_interruption_is_kept(
    counts: Counts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "counts.jsonl"
    own = ("--only", NAME, "--own", "--resume", file)
    counts.left = 1
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, capsys, *own)
    whole = file.read_text()
    assert json.loads(whole)["layers"] == FEW
    file.write_text(whole + whole[: len(whole) // 2])  # it was stopped while it wrote the next
    counts.left = 99
    run(monkeypatch, capsys, *own)
    assert [layers for _, _, layers, _, _ in counts.requests] == [FEW, MORE]
    assert [json.loads(line)["layers"] for line in file.read_text().splitlines()] == [FEW, MORE]


@pytest.mark.parametrize(
    ("line", "said"), [("{}", "lacks recipe"), ("pairs", "not a count"), ("[1]", "not a count"), ("3", "not a count")]
)
def test_a_file_of_something_else_is_refused(line: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "counts.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(ValueError, match=rf"line 1 of .*counts.jsonl is .*{said}"):
        plan.Book(file)
    assert file.read_text() == line + "\n"


def test_peaks_are_continued_to_the_whole_depth(counts: Counts) -> None:
    experiment = plan.RECIPES[NAME]
    own, other = list(plan.ways(experiment))[:2]
    peaks, text = plan.counted(plan.Book(None), experiment, own, True, False)
    assert text == 91
    assert peaks == pytest.approx({name: base + SLOPE[name] * DEPTH for name, base in BASE.items()})
    rows = {row["of"]: row for row in plan.compare(plan.Book(None), experiment, own, True, False)}
    assert rows["peak"]["counted"] == rows["encoding"]["counted"] == pytest.approx(17 + 0.1 * DEPTH)
    account = plan.planned(experiment, own, 91)
    assert rows["peak"]["planned"] == max(account.phases.values())
    assert rows["update"]["ratio"] == pytest.approx(account.phases["update"] / (5 + 0.3 * DEPTH))
    rows = {row["of"]: row for row in plan.compare(plan.Book(None), experiment, other, False, False)}
    assert "encoding" not in rows, "without the language model there is nothing to compare"
    assert rows["peak"]["counted"] == rows["decoding"]["counted"] == pytest.approx(9 + 0.2 * DEPTH)


def test_every_recipe_is_compared_in_every_way_its_own_first() -> None:
    assert len(plan.RECIPES) == 8 + 15, "of other families those alone whose bytes no other recipe has"
    for experiment in plan.RECIPES.values():
        ways = list(plan.ways(experiment))
        assert len({way.label for way in ways}) == len(ways) == 8 and ways[0] == plan.own_way(experiment)
        for way in ways:
            changed = plan.in_way(experiment, way)
            assert (changed.engine == "local") == (way.zero < 0) == (way.gpus == 1)
            assert changed.memory.offload == way.offload and way.zero in (-1, changed.zero_stage)
            assert (changed.lora, changed.algorithm) == (experiment.lora, experiment.algorithm)
    assert {plan.depths_of("qwen_image", way)[0] for way in ways if way.zero == 3} == {8}


def test_the_summary_names_the_ratio_farthest_from_one() -> None:
    rows: list[dict[str, Any]] = [
        {"recipe": name, "of": of, "ratio": ratio}
        for name, of, ratio in (("a", "peak", 0.83), ("a", "update", 1.3), ("b", "peak", 1.19), ("b", "look", 0.76))
    ]
    assert plan.summary(rows) == {"worst_ratio": 0.83, "worst_phase_ratio": 0.76,
                                  "recipes": 2, "ways": 2}  # fmt: skip


def test_waits_are_listed_by_phase_and_line(
    counts: Counts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["waits", "--only", NAME])
    waits.main()
    assert capsys.readouterr().out.splitlines()[2:] == [
        f"| {NAME} | update | `c.py:4` | 7 |", f"| {NAME} | update | `a.py:2` | 1 |",
        f"| {NAME} | encode | `b.py:3` | 2 |",
    ]  # fmt: skip
    assert counts.requests == [(NAME, "deepspeed", 2, 8, True)]
