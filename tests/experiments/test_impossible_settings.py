"""Numbers that no training can work with are refused by their names, wherever in the settings they stand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from base_model.sample import Sampler
from experiments.configs import CONFIGS
from experiments.evaluation.sample_run import requested_sampler
from experiments.overrides import override

KINDS = {type(each.algorithm): each for each in CONFIGS.values() if each.name.startswith("nano")}
"""an experiment of every algorithm"""


def with_one_changed(settings: Any, number: float) -> Iterator[tuple[str, Any]]:
    """The name of every setting that is a fraction, with a way to make the settings in which it is this number."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value) and not isinstance(value, type):
            for name, make in with_one_changed(value, number):
                yield f"{field.name}.{name}", lambda make=make, own=field.name: replace(settings, **{own: make()})
        elif field.init and isinstance(value, float):
            yield field.name, lambda own=field.name: replace(settings, **{own: number})


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_no_setting_is_infinite_or_not_a_number(kind: type, number: float) -> None:
    names = []
    for name, make in with_one_changed(KINDS[kind], number):
        with pytest.raises(ValueError, match=rf"{name.rsplit('.', 1)[-1]}.*{number}"):
            make()
        names.append(name)
    assert len(names) > 10


@pytest.mark.parametrize(
    ("name", "setting", "value", "reason"),
    [
        ("nano_grpo", "algorithm.advantage_clip", "-1", "advantage_clip=-1.0 must be above 0"),
        ("nano_grpo", "algorithm.clip", "-0.1", "clip=-0.1 must be at least 0"),
        ("nano_grpo", "algorithm.beta", "-1", "beta=-1.0 must be at least 0"),
        ("nano_nft", "algorithm.beta", "-1", "beta=-1.0 must be at least 0"),
        ("nano_awm", "algorithm.beta", "-1", "beta=-1.0 must be at least 0"),
        ("nano_awm", "algorithm.clip", "-1", "clip=-1.0 must be at least 0"),
        ("nano_rwr", "algorithm.sigma_std", "-1", "sigma_std=-1.0 must be at least 0"),
        ("nano_grpo", "algorithm.micro", "0", "micro=0 must be above 0"),
        ("nano_grpo", "algorithm.prompts", "0", "prompts=0 must be above 0"),
        ("nano_grpo", "algorithm.steps", "0", "algorithm.steps=0 must be at least 1"),
        ("nano_grpo", "algorithm.sampler.steps", "0", "sampler.steps=0, whose"),
        ("nano_dpo", "algorithm.batch", "0", "batch=0 must be at least 1"),
        ("nano_dpo", "algorithm.micro", "-1", "micro=-1 must be at least 1"),
        ("nano_dpo", "algorithm.sigma_std", "-1", "sigma_std=-1.0 must be at least 0"),
        ("nano_dpo", "pairs.group", "1", "group=1 must be at least 2"),
        ("nano_dpo", "pairs.per_prompt", "0", "per_prompt=0 must be at least 1"),
        ("nano_dpo", "pairs.min_margin", "-1", "min_margin=-1.0 must be at least 0"),
        ("nano_sft", "algorithm.batch", "0", "batch=0 must be at least 1"),
        ("nano_sft", "algorithm.micro", "0", "micro=0 must be at least 1"),
        ("nano_sft", "algorithm.sigma_std", "-1", "sigma_std=-1.0 must be at least 0"),
        ("nano_sft", "algorithm.glyph_block", "-1", "glyph_block=-1 must be at least 0"),
        ("nano_sft", "data.limit", "-1", "limit=-1 must be at least 0"),
        ("nano_decoder", "algorithm.batch", "0", "batch=0 must be at least 1"),
        ("nano_grpo", "prompts.count", "0", "count=0 must be at least 1"),
        ("nano_grpo", "prompts.levels", "4|99", "must be kinds of scene, each in 0 to 8"),
        ("nano_grpo", "embedded_guidance", "-1", "embedded_guidance=-1.0 must be at least 0"),
        ("nano_grpo", "zero_stage", "-1", "zero_stage=-1 must be 0, 1, 2 or 3"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_bound(name: str, setting: str, value: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        override(CONFIGS[name], {setting: value})


@pytest.mark.parametrize(("steps", "guidance", "wrong"), [(0, None, "steps=0"), (None, math.nan, "guidance=nan")])
def test_a_sampler_that_makes_no_image_is_refused(steps: int | None, guidance: float | None, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        requested_sampler(Sampler(), steps, guidance)
