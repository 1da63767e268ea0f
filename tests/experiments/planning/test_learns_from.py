"""Every algorithm says what it learns from, and one that a table lacks is an error instead of a wrong plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import pytest

from alignment.forward_process import Forward
from alignment.groups import Groups
from alignment.rwr import Rwr
from experiments.configs import CONFIGS, nano_algorithms
from experiments.experiment import Algorithm
from experiments.planning.from_experiment import FORWARD_PASSES, forward_work, work_of
from experiments.training.runner import FROM_ANSWERS, ONLINE


def test_every_algorithm_says_what_it_learns_from_and_is_in_the_tables():
    by_source = {kind: kind.learns_from for kind in get_args(Algorithm)}
    assert set(by_source.values()) == {"images", "pairs", "rollouts"}
    assert {kind for kind, source in by_source.items() if source == "rollouts"} == set(ONLINE)
    assert {kind for kind, source in by_source.items() if source == "pairs"} == set(FROM_ANSWERS)
    assert {kind for kind in by_source if issubclass(kind, Forward)} == set(FORWARD_PASSES)


def test_an_algorithm_that_no_table_knows_is_an_error():
    @dataclass(frozen=True)
    class Fresh(Rwr):
        """One that somebody adds."""

    @dataclass(frozen=True)
    class Bare(Groups):
        """One that is no variant of what there is."""

    rwr = nano_algorithms.rwr
    fresh = Fresh(**vars(rwr.algorithm))
    with pytest.raises(ValueError, match="no plan is known for Fresh; say in FORWARD_PASSES"):
        forward_work("fresh", fresh)
    with pytest.raises(ValueError, match="no plan is known for Bare"):
        work_of(replace(rwr, algorithm=Bare(steps=2, group=4, micro=4)), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "each", "asked", "anchored"),
    [
        ("nano_nft", 12, None, None), ("nano_awm", 12, 2, False), ("nano_online_dpo", 2, 1, None),
        ("nano_rwr", 12, 0, False), ("nano_best_of_n", 1, 0, False),
    ],
)  # fmt: skip
def test_the_passes_of_an_update_are_those_of_its_loss(name, each, asked, anchored):
    cfg = CONFIGS[name].algorithm
    found = FORWARD_PASSES[type(cfg)](cfg)
    assert found[0] == each and asked in (None, found[1]) and anchored in (None, found[2])
    if name == "nano_nft":
        passes = FORWARD_PASSES[type(cfg)]
        assert passes(replace(cfg, beta=0.0))[1:] == (1, False) and passes(replace(cfg, beta=0.1))[1:] == (2, True)
    if name == "nano_online_dpo":
        assert FORWARD_PASSES[type(cfg)](cfg)[2] is not cfg.follow
