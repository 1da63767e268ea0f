"""Plans of a frozen base in fewer bits or in host memory, held to the bytes counted on a card that is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from experiments import cli
from experiments.benchmarks.card.recipe import count_recipe
from experiments.benchmarks.plan import PHASES, own_way, planned
from experiments.configs import CONFIGS

RECIPE = CONFIGS["qwen_grpo_lora"]
BLOCKS = 60


@pytest.mark.parametrize(
    ("bits", "on_host"),
    [(4, False), pytest.param(8, False, marks=pytest.mark.slow), pytest.param(0, True, marks=pytest.mark.slow)],
)
def test_planned_bytes_are_those_counted(bits: int, on_host: bool, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    stored = replace(RECIPE, memory=replace(RECIPE.memory, base_bits=bits, base_on_host=on_host))
    two, three = (count_recipe(stored, tmp_path / str(n), n, whole=False) for n in (2, 3))
    account = planned(stored, own_way(stored), three.text_tokens)
    for phase, name in PHASES.items():
        if phase == "encoding" or name not in three.peaks:
            continue
        counted = three.peaks[name] + (three.peaks[name] - two.peaks[name]) * (BLOCKS - 3)
        assert account.phases[phase] * 1e9 == pytest.approx(counted, rel=0.1), phase


def told(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    status = cli.main(["plan", *options])
    answer = capsys.readouterr()
    return status, answer.out + answer.err


def test_the_plan_says_what_fewer_bits_save(capsys: pytest.CaptureFixture[str]) -> None:
    line = ("qwen_grpo_lora", "--gpus", "1", "--card", "h100-80gb")
    weights = []
    for options in ((), ("--base-bits", "8"), ("--base-bits", "4"), ("--base-on-host",)):
        said = told(capsys, *line, *options)[1]
        weights.append(float(next(row for row in said.splitlines() if row.startswith("  weights ")).split()[1]))
    whole, eight, four, host = weights
    assert eight / whole == pytest.approx(0.52, abs=0.02) and four / whole == pytest.approx(0.29, abs=0.02)
    assert host < 1.0


def test_fewer_bits_are_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = told(capsys, "qwen_grpo_lora", "--gpus", "1", "--card", "h100-80gb", "--frozen-gb", "25")
    assert status == 1 and "--base-bits 8" in said and "--base-bits 4" not in said


def test_a_base_that_learns_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = told(capsys, "sd35m_grpo_full", "--base-bits", "8")
    assert status == 2 and "the base is frozen beside an adapter only, and all weights learn here: add --rank" in said


@pytest.mark.slow  # a network of 12 billion weights is counted several times
def test_a_pass_of_a_rollout_holds_whole_groups(capsys: pytest.CaptureFixture[str]) -> None:
    line = ("flux1_grpo_lora", "--gpus", "1", "--card", "rtx4090-24gb", "--base-bits", "4")
    status, said = told(capsys, *line)
    assert status == 1 and "fewer samples a pass than 24: algorithm.group and algorithm.micro" in said
    assert told(capsys, *line, "--micro", "24")[1] == said
    status, said = told(capsys, *line, "--micro", "12")
    assert status == 2 and "micro=12 must be a multiple of group=24" in said
