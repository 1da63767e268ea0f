"""Rewards are compared on answers about edits: sources are read before a reward is opened, and shown on the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import cli
from experiments.reward_models.train_reward import check_edits, train_reward
from preference_data.comparisons import Comparison, to_jsonl
from preference_data.pixels import pixel_hash
from preference_data.records import ImageRef, Prompt, Provenance, SourceImage
from rewards.language.rubric import read_rubric
from rewards.learned.reward_settings import TrainReward
from rewards.learned.vlm_backbone import WAY, VlmBackbone
from tests.fixtures.simulated_taste import digest


def kept(folder: Path, noise: float, number: int) -> str:
    """A noisy ramp in `folder`/pictures; its hash."""
    random = np.random.default_rng([number, int(noise)])
    ramp = np.linspace(0, 255, 96)[None, :, None] * np.ones((64, 1, 3))
    pixels = np.clip(ramp + random.normal(0, noise, ramp.shape), 0, 255).astype(np.uint8)
    sha = pixel_hash(pixels.transpose(2, 0, 1))
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / "pictures" / f"{sha}.png")
    return sha


@pytest.mark.slow
def test_answers_about_edits_are_compared_with_their_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, made = [], Provenance("m", "", 0, 1, 1.0, "", 0)
    for i in range(40):
        source = kept(tmp_path, 1, i)
        prompt = Prompt.from_text("make it blue", sources=[SourceImage(source, 96, 64, f"pictures/{source}.png")])
        left, right = (ImageRef(sha, f"pictures/{sha}.png", 96, 64, made)
                       for sha in (kept(tmp_path, 3, i), kept(tmp_path, 40, i)))  # fmt: skip
        rows.append(Comparison(prompt, left, right, "left" if i % 5 else "right", "human:ada"))
    file = tmp_path / "pairs.jsonl"
    file.write_text(to_jsonl(rows), "utf-8")
    line = ["compare-rewards", "--pairs", str(file), "--rewards", "brisque", "-o"]
    assert cli.main([*line, str(tmp_path / "out")]) == 0
    assert 'alt="source image"' in (tmp_path / "out" / "comparison.html").read_text("utf-8")
    report = json.loads((tmp_path / "out" / "comparison.json").read_text("utf-8"))
    assert all(item["record"]["prompt"]["sources"] for item in report["gallery"])
    assert len({row.prompt.id for row in rows}) == 40, "the same words, forty prompts"
    (tmp_path / rows[0].prompt.sources[0].path).unlink()
    capsys.readouterr()
    assert cli.main([*line, str(tmp_path / "again")]) == 2
    assert "the source image" in (said := capsys.readouterr().err) and "is gone; put it back" in said


def test_a_reward_that_is_shown_no_source_does_not_learn_from_edits(tmp_path: Path) -> None:
    made = Provenance("m", "", 0, 1, 1.0, "", 0)
    left, right = (ImageRef(digest(side), f"pictures/{side}.png", 8, 8, made) for side in ("left", "right"))
    edit = Prompt.from_text("make it blue", sources=[SourceImage(digest("cat"), 8, 8, "pictures/cat.png")])
    rows = [Comparison(prompt, left, right, "left", "human:ada") for prompt in (Prompt.from_text("a cat"), edit, edit)]
    (tmp_path / "answers.jsonl").write_text(to_jsonl(rows), "utf-8")
    with pytest.raises(
        ValueError, match=r"answer 2, to 'make it blue', is about an edit .*cat\.png \(2 of 3"
    ) as raised:
        train_reward(tmp_path / "answers.jsonl", tmp_path / "reward", "pixels", TrainReward())
    assert "vlm:FOLDER,rubric=edit_faithfulness" in str(raised.value) and not (tmp_path / "reward").exists()
    assert str(tmp_path / "pictures" / "cat.png") in str(raised.value), "as seen from here"
    read_rubric("edit_faithfulness").check(WAY)
    check_edits(VlmBackbone("folder", "edit_faithfulness"), rows)
