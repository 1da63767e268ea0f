"""Judging edits: the measures by hand, what baselines must score, and the ablations' whole way on tiny arms.

Shapes: 3HW pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from base_model.data.rendered_text import is_heldout
from base_model.pretrain import Pretrain
from base_model.qwen.model import QwenImage
from experiments.configs import CONFIGS, nano_edit, nano_positions
from experiments.evaluation import edit_evaluation
from experiments.evaluation.edit_evaluation import (
    ROUNDING,
    comparison,
    make_edits,
    psnr,
    rows_of_systems,
    score_edits,
    table,
)
from experiments.experiment import EditPlan, SizePlan
from experiments.record.record import plain
from experiments.record.recorded_settings import rebuild
from experiments.studies import ablations
from experiments.training.start_from import equip
from preference_data.records import Prompt
from rewards.scores import Scores
from tests.fixtures.tiny.tiny_chain import short
from tests.fixtures.tiny.tiny_model import tiny_model

PLAN = replace(nano_edit.evaluation, count=9, grid_images=2, sampler=replace(nano_edit.evaluation.sampler, steps=2))
EVERYWHERE = np.ones((4, 6), dtype=bool)


class Reader:
    """Stands in for OCR: knows an image by heart, and says who asked for what."""

    name = "reader"

    def __init__(self) -> None:
        self.crops: list[np.ndarray] = []

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        self.crops.extend(images_B3HW)
        score = np.full(len(prompts), 0.5)
        return Scores(score, {"ned_score": score.copy(), "exact": np.zeros(len(prompts))})


def test_psnr_by_hand():
    black = np.zeros((3, 4, 6), dtype=np.uint8)
    assert psnr(black + 51, black, EVERYWHERE) == pytest.approx(-20 * math.log10(0.2))
    assert psnr(black, black, EVERYWHERE) == pytest.approx(-10 * math.log10(ROUNDING)) == pytest.approx(58.92, abs=0.01)
    half = EVERYWHERE.copy()
    half[:, 3:] = False
    image = black.copy()
    image[:, :, 3:] = 255
    assert psnr(image, black, half) == pytest.approx(58.92, abs=0.01)
    assert psnr(image, black, ~half) == pytest.approx(0.0)
    assert math.isnan(psnr(image, black, ~EVERYWHERE)), "nothing to judge is not 0"


def test_edits_of_the_evaluation_are_held_out_in_turn_and_a_function_of_the_plan():
    edits = make_edits(PLAN)
    assert edits == make_edits(PLAN) != make_edits(replace(PLAN, seed=1))
    assert [kind for kind, _ in edits] == ["word", "ink", "place"] * 3
    assert all(is_heldout(s.scene.word) for _, e in edits for s in (e.source, e.target))
    assert {e.text.split()[0] for kind, e in edits if kind == "place"} == {"move"}


def test_copying_is_perfect_outside_and_wrong_inside_and_the_target_is_perfect():
    edits, reader = make_edits(PLAN), Reader()
    copied = score_edits(edits, [e.source.render() for _, e in edits], reader)
    perfect = score_edits(edits, [e.target.render() for _, e in edits], reader)
    best = -10 * math.log10(ROUNDING)
    judged = [row["outside"] for row in copied + perfect if not math.isnan(row["outside"])]
    assert len(judged) >= 12 and judged == pytest.approx([best] * len(judged))
    whole = [not (~e.region()).any() for _, e in edits]
    assert [math.isnan(row["outside"]) for row in copied] == whole, "a word may move over the whole image"
    assert all(row["inside"] < 30 for row in copied) and all(row["inside"] == pytest.approx(best) for row in perfect)


def test_the_reader_sees_the_cells_of_the_new_word_and_nothing_else():
    edits, reader = make_edits(PLAN), Reader()
    score_edits(edits, [e.target.render() for _, e in edits], reader)
    for (_, example), crop in zip(edits, reader.crops, strict=True):
        assert crop.shape == (3, 32, 16 * len(example.target.scene.word))
        assert np.array_equal(np.rint(crop * 255), example.target.render()[:, *example.target.box()])


def test_the_model_is_shown_source_and_instruction_and_never_the_target():
    model, (_, example) = tiny_model(), make_edits(PLAN)[0]
    cond, uncond = edit_evaluation.instructed(model, [example], 2.0)
    source = torch.from_numpy(example.source.render() / np.float32(255.0))
    assert torch.equal(cond.images_BRC, model.encode_pixels(source[None]))
    assert torch.equal(uncond.images_BRC, cond.images_BRC)
    expected = model.encode_text([example.text], [[source]])
    assert torch.equal(cond.text_BLD, expected.text_BLD)
    told, nothing = edit_evaluation.captioned(model, [example], 2.0)
    assert torch.equal(told.text_BLD, model.encode_text([example.target.scene.caption]).text_BLD)
    assert told.images_BRC is None and nothing.images_BRC is None and not torch.equal(told.text_BLD, nothing.text_BLD)


@pytest.mark.parametrize("requested", [edit_evaluation.instructed, edit_evaluation.captioned])
def test_no_prompt_of_nothing_is_encoded_where_nobody_reads_it(requested, monkeypatch):
    model, (_, example) = tiny_model(), make_edits(PLAN)[0]
    monkeypatch.setattr(type(model), "unconditional", lambda *_: pytest.fail("nobody reads it"))
    cond, uncond = requested(model, [example], 1.0)
    assert uncond is cond


def test_tables_hold_means_and_paired_differences():
    def rows(shift: float) -> list[dict]:
        return [
            {"kind": kind, "ned": 0.1 * i + shift, "exact": 0.0, "outside": 20.0 + i + shift, "inside": math.nan if
             i == 0 else 10.0 + shift}
            for i, kind in enumerate(("word", "word", "ink", "place"))
        ]  # fmt: skip

    systems = {"a": rows(0.0), "b": rows(0.5)}
    lines = table(systems)
    assert len(lines) == 4 and lines[2].startswith("| a | 0.050 ") and "| 21.5 (" in lines[2] and "| 10.0 (" in lines[2]
    assert comparison(systems, "b", ["a"])[2] == (
        "| a | +0.500 (-0.446 to +0.932) | +0.500 (no interval) | +0.500 (no interval) |"
    )


def test_rows_are_kept_and_not_made_again(tmp_path: Path):
    made = rows_of_systems(tmp_path / "rows.json", lambda: {"a": [{"kind": "word", "ned": math.nan, "outside": 1.5}]})
    again = rows_of_systems(tmp_path / "rows.json", lambda: pytest.fail("made twice"))
    assert math.isnan(made["a"][0]["ned"]) and math.isnan(again["a"][0]["ned"]) and again["a"][0]["outside"] == 1.5


# --- configurations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", [*nano_edit.ARMS.values(), *nano_positions.ARMS.values()])
def test_an_arm_survives_run_json(experiment):
    assert rebuild(plain(experiment)) == experiment


@pytest.mark.parametrize(("arms", "varied"), [(nano_edit.ARMS, "sight"), (nano_positions.ARMS, "positions")])
def test_arms_differ_in_one_setting(arms, varied):
    first, *others = arms.values()
    assert len({getattr(arm, varied) for arm in arms.values()}) == len({arm.name for arm in arms.values()}) == 3
    for other in others:
        assert replace(other, name=first.name, **{varied: getattr(first, varied)}) == first


def test_the_config_has_a_name_on_the_command_line():
    assert CONFIGS["nano_edit"] is nano_edit.config is nano_edit.ARMS["dual"]


@pytest.mark.parametrize("scheme", [arm.positions for arm in nano_positions.ARMS.values()])
def test_positions_reach_the_network_and_its_reference(scheme):
    model: QwenImage = tiny_model()
    arm = replace(nano_positions.config, positions=scheme)
    cond, x = model.encode_text(["a red word"]), torch.randn(1, 12, 16, generator=torch.Generator().manual_seed(0))
    before = model.velocity(x, torch.tensor([0.5]), cond)
    equip(model, arm)
    model.freeze_reference()
    after = model.velocity(x, torch.tensor([0.5]), cond)
    assert torch.equal(before, after) == (scheme is nano_positions.config.positions)
    with model.reference() as frozen:
        assert torch.equal(frozen.velocity(x, torch.tensor([0.5]), cond), after)


# --- the whole way ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ablations_on_arms_of_two_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Train, judge, tabulate; a second call trains nothing and says the same."""
    small = {"batch": 4, "micro": 4}
    parent = short(replace(nano_positions.config, algorithm=Pretrain(steps=2, **small)), 2)
    arms = {n: short(replace(a, algorithm=replace(a.algorithm, **small)), 2) for n, a in nano_edit.ARMS.items()}
    schemes = {n: short(replace(a, algorithm=replace(a.algorithm, **small)), 2) for n, a in nano_positions.ARMS.items()}
    ablations.train_arms({"parent": parent}, tmp_path, None)
    plan: EditPlan = replace(PLAN, count=6)
    lines = ablations.ablate_editing(tmp_path / "parent", tmp_path / "editing", arms, plan)
    sizes: SizePlan = replace(
        nano_positions.evaluation, prompts=replace(nano_positions.evaluation.prompts, count=3), sampler=plan.sampler
    )
    places = ablations.ablate_positions(tmp_path / "positions", schemes, sizes)
    heads = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert heads[2:8] == [
        "copy the input", "T2I, target's caption", "target through the autoencoder", "dual", "semantic_only", "vae_only"
    ]  # fmt: skip
    assert [line.split("|")[1].strip() for line in places[2:]] == ["32 x 96"] * 3 + ["48 x 128"] * 3
    assert (tmp_path / "editing" / "dual" / "evaluation" / "edit_00.png").exists()
    monkeypatch.setattr(ablations, "evaluate_edits", lambda *_: pytest.fail("judged twice"))
    assert ablations.ablate_editing(tmp_path / "parent", tmp_path / "editing", arms, plan) == lines
    assert (tmp_path / "editing" / "table.md").read_text() == "\n".join([*lines, ""])
