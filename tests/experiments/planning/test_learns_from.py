"""Every algorithm says what it learns from, and one that a table lacks is an error instead of a wrong plan."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import pytest

from alignment.forward_process import Forward
from alignment.groups import Groups, Passes
from alignment.rwr import Rwr
from base_model.engine.step import Step
from experiments.configs import CONFIGS, nano_algorithms
from experiments.experiment import LOOPS, Algorithm
from experiments.planning.estimate import Setup
from experiments.planning.from_experiment import CommandLine, forward_work, work_of
from experiments.training.runner import LOADERS, updates
from tests.fixtures.tiny.tiny_model import tiny_model

ROOT = Path(__file__).parents[3]
ASKED = CommandLine("nano_rwr", Setup("h100-80gb", 1, -1, True, False, False, 0, 0.4, False, False, 0.0), None, None, None,  # noqa: E501
              0, 0, (0, 0), 64, 100)  # fmt: skip


@dataclass(frozen=True)
class Toy(Forward):
    """An algorithm that somebody adds: one that counts its updates."""

    def passes(self) -> Passes:
        """See `Groups.passes`."""
        return Passes(self.group, 3, True)


def train(model, engine, prompts, judge, cfg: Toy, start: int = 0) -> Iterator[Step]:
    for step in range(start, cfg.steps):
        yield Step(step, {"loss": float(len(prompts.batch(step, cfg.prompts)))})


def test_every_algorithm_says_what_it_learns_from_and_answers_have_a_reader():
    assert {kind.learns_from for kind in LOOPS} == {"images", "pairs", "rollouts"}
    assert set(get_args(Algorithm)) == set(LOOPS)
    assert {kind.reads for kind in LOOPS if kind.learns_from == "pairs"} == set(LOADERS)
    for kind, loop in LOOPS.items():
        assert loop.__module__ == kind.__module__ and loop.__name__ == "train"


def test_nobody_asks_which_algorithm_it_is():
    """What differs between algorithms is a fact of their settings; a question for a class would forget the next one."""
    names, wrong = {kind.__name__ for kind in LOOPS} | {"Groups", "Forward"}, []
    for path in [*(ROOT / "experiments").rglob("*.py"), *(ROOT / "dashboards").rglob("*.py")]:
        if "benchmarks" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
                asked = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
                asked |= {n.attr for n in ast.walk(node.args[1]) if isinstance(n, ast.Attribute)}
            elif isinstance(node, ast.Compare) and "type(" in ast.unparse(node.left):
                asked = {n.attr if isinstance(n, ast.Attribute) else n.id for c in node.comparators
                         for n in ast.walk(c) if isinstance(n, ast.Attribute | ast.Name)}  # fmt: skip
            else:
                continue
            wrong += [f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}" for _ in asked & names]
    assert not wrong, wrong


def test_what_plans_and_checks_ask_is_known_of_every_algorithm():
    rollouts = {kind.__name__: kind.learns_at for kind in LOOPS if kind.learns_from == "rollouts"}
    assert {name for name, at in rollouts.items() if at == "steps"} == {"Grpo", "Guard", "Dppo"}
    assert {kind.__name__: kind.trains for kind in LOOPS if kind.learns_from == "images"} == {
        "TrainVAE": "autoencoder", "Pretrain": "transformer", "Sft": "transformer",
    }  # fmt: skip
    assert [kind.__name__ for kind in LOOPS if getattr(kind, "begins_anew", False)] == ["Pretrain"]


def test_an_algorithm_is_its_file_and_a_row_of_one_table(monkeypatch, tmp_path):
    monkeypatch.setitem(LOOPS, Toy, train)
    rwr, toy = nano_algorithms.rwr, Toy(steps=3, prompts=2, group=4, micro=8, levels=2)
    experiment = replace(rwr, algorithm=toy)
    with updates(experiment, tiny_model(), None, tmp_path, 1, object()) as loop:  # type: ignore[arg-type]
        assert [(step.index, step.metrics["loss"]) for step in loop] == [(1, 2.0), (2, 2.0)]
    own, known = work_of(experiment, ASKED), work_of(replace(rwr, algorithm=Rwr(**vars(toy))), ASKED)
    assert (own.trained, own.micro) == (known.trained, known.micro) == (16, 8)
    assert own.sampled == known.sampled + 3 * 16, "what is asked without learning is counted"
    assert own.reference and not known.reference


def test_an_algorithm_that_the_table_lacks_is_an_error():
    with pytest.raises(ValueError, match="nano_rwr: no loop is known for Toy; add it to LOOPS"):
        replace(nano_algorithms.rwr, algorithm=Toy(steps=3, group=4, micro=4))


def test_an_algorithm_that_does_not_say_its_passes_has_no_plan():
    for cfg in (Forward(steps=2, group=4, micro=4), Groups(steps=2, group=4, micro=4)):
        with pytest.raises(ValueError, match=f"no plan is known for {type(cfg).__name__}; say in its `passes`"):
            forward_work("bare", cfg)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "each", "asked", "anchored"),
    [
        ("nano_nft", 12, None, None), ("nano_awm", 12, 2, False), ("nano_online_dpo", 2, 1, None),
        ("nano_rwr", 12, 0, False), ("nano_best_of_n", 1, 0, False),
    ],
)  # fmt: skip
def test_the_passes_of_an_update_are_those_of_its_loss(name, each, asked, anchored):
    cfg = CONFIGS[name].algorithm
    found = cfg.passes()
    assert found[0] == each and asked in (None, found[1]) and anchored in (None, found[2])
    if name == "nano_nft":
        assert replace(cfg, beta=0.0).passes()[1:] == (1, False) and replace(cfg, beta=0.1).passes()[1:] == (2, True)
        assert replace(cfg, beta=0.1, reference_guidance=2.0).passes()[1:] == (3, True)
    if name == "nano_online_dpo":
        assert cfg.passes().reference is not cfg.follow
