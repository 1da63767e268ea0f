"""One update is one update, however it is split: among processes, micro-batches, and between two launches.

Twelve micro-batches are trained on by 1, 2 and 4 processes at all ZeRO stages, joined to larger ones in another way on
each number. Checkpoints go from 2 to 4, from 4 to 1 and 2, and from 1 to 2. `LocalEngine` is what all must meet.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from base_model.engine.engine_files import AVERAGE_FILE, MODULE_FILE
from base_model.engine.zero_state import MOMENTS_FILE
from tests.fixtures.processes.any_ranks_story import EXACT, KINDS, LAUNCHES, SECONDS, STAGES, local
from tests.fixtures.processes.launching import launch

PASSED_ON = [(before, after) for after, _, others in LAUNCHES for before in others]
WEIGHTS = 1e-6
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all launches left their checkpoints."""
    return launch(["-m", "tests.fixtures.processes.any_ranks_story"], tmp_path_factory.mktemp("ranks"), SECONDS)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What one process reaches alone with the smallest micro-batches, by kind."""
    folder = tmp_path_factory.mktemp("alone")
    for kind in EXACT:
        local(kind, 1, folder / kind)
    return {kind: tensors(folder / kind) for kind in EXACT}


def tensors(folder: Path, *names: str) -> dict[str, Tensor]:
    """Of files of a checkpoint, the weights and their averages unless others are named."""
    files = names or (MODULE_FILE, AVERAGE_FILE)
    return {f"{file} {name}": x for file in files for name, x in load_file(folder / file).items()}


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference; NaN if there is a NaN, which is below no bound."""
    assert sorted(a) == sorted(b)
    return float(torch.stack([(a[name] - b[name]).abs().max() for name in a]).max())


CUT_STAGES = [(kind, stage) for kind, stages in STAGES.items() for stage in stages]
EXACT_STAGES = [(kind, stage) for kind, stage in CUT_STAGES if kind in EXACT]


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("joined", [2, 3, 12])
def test_an_update_is_the_same_for_any_split_into_micro_batches(
    kind: str, joined: int, alone: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    local(kind, joined, tmp_path)
    assert distance(tensors(tmp_path), alone[kind]) < WEIGHTS


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize(("kind", "stage"), EXACT_STAGES)
def test_an_update_is_the_same_on_any_number_of_processes(
    kind: str, stage: int, ranks: int, folder: Path, alone: dict[str, dict[str, Tensor]]
) -> None:
    run = folder / f"{kind}_{stage}_on_{ranks}"
    assert distance(tensors(run / "end"), alone[kind]) < WEIGHTS
    assert distance(tensors(run / "saved"), alone[kind]) > 5e-4  # the second update is seen


@pytest.mark.parametrize(("before", "after"), PASSED_ON)
@pytest.mark.parametrize(("kind", "stage"), EXACT_STAGES)
def test_a_run_goes_on_with_another_number_of_processes(
    kind: str, stage: int, before: int, after: int, folder: Path, alone: dict[str, dict[str, Tensor]]
) -> None:
    """To the same weights, so moments, counts of steps and averages came along; one process has another stage."""
    assert distance(tensors(folder / f"{kind}_{stage}_on_{before}_then_{after}" / "end"), alone[kind]) < WEIGHTS


@pytest.mark.parametrize(("before", "after"), PASSED_ON)
@pytest.mark.parametrize(("kind", "stage"), CUT_STAGES)
def test_what_was_loaded_is_what_was_saved(kind: str, stage: int, before: int, after: int, folder: Path) -> None:
    """To the bit, float32 masters and moments of 16-bit weights as well; and the network computes with it."""
    old, new = folder / f"{kind}_{stage}_on_{before}", folder / f"{kind}_{stage}_on_{before}_then_{after}"
    files = (MODULE_FILE, AVERAGE_FILE, MOMENTS_FILE) if stage else (MODULE_FILE, AVERAGE_FILE)
    assert distance(tensors(old / "saved", *files), tensors(new / "saved", *files)) == 0.0
    said = torch.load(old / "said.pt")
    assert torch.equal(torch.load(new / "said.pt"), said)
    assert said.abs().max() > 0.1


@pytest.mark.parametrize("kind", [kind for kind, (memory, _) in KINDS.items() if memory.bf16])
def test_masters_are_saved_and_not_their_roundings(kind: str, folder: Path) -> None:
    saved = load_file(folder / f"{kind}_1_on_2" / "saved" / MODULE_FILE)
    assert any(not torch.equal(x, x.bfloat16().float()) for x in saved.values())
