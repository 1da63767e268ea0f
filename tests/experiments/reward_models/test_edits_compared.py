"""Rewards are compared on answers about edits: sources are read before a reward is opened, and shown on the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import cli
from preference_data.comparisons import Comparison, to_jsonl
from preference_data.pixels import pixel_hash
from preference_data.records import ImageRef, Prompt, Provenance, SourceImage

pytestmark = pytest.mark.slow


def kept(folder: Path, noise: float, number: int) -> str:
    """A noisy ramp in `folder`/pictures; its hash."""
    random = np.random.default_rng([number, int(noise)])
    ramp = np.linspace(0, 255, 96)[None, :, None] * np.ones((64, 1, 3))
    pixels = np.clip(ramp + random.normal(0, noise, ramp.shape), 0, 255).astype(np.uint8)
    sha = pixel_hash(pixels.transpose(2, 0, 1))
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / "pictures" / f"{sha}.png")
    return sha


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
