"""What is exported for TRL trains in TRL as it is: images, words of a rubric, both orders, margins; and comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import cli
from experiments.preferences.run_campaigns import wording_of
from preference_data.exchange.export import read, write
from preference_data.exchange.judgements import Judgement
from preference_data.store.image_store import ImageFolder
from tests.preference_data.exchange.test_exchange import folder, judged, picture, png, same

__all__ = ["folder", "judged"]  # fixtures
datasets = pytest.importorskip("datasets")


def loaded(file: Path, kind: str = "parquet") -> Any:
    """The rows as TRL's users load them, without a cast."""
    return datasets.load_dataset(kind, data_files=str(file), split="train", cache_dir=str(file.parent / "cache"))


def replies(row: dict[str, Any], *names: str) -> list[str]:
    return [row[name][0]["content"][0]["text"] for name in names]


@pytest.mark.parametrize("kind", ["trl", "kto"])
def test_images_load_as_images_without_a_cast(
    kind: str, judged: list[Judgement], folder: ImageFolder, tmp_path: Path
) -> None:
    file = tmp_path / "out" / "rows.parquet"
    write(judged, file, kind, folder, ties="drop")
    assert [path.name for path in file.parent.iterdir()] == ["rows.parquet"]
    table = loaded(file)
    assert all(isinstance(image, Image.Image) for row in table for image in row["images"])
    first = next(j for j in judged if j.outcome == "first")
    expected = np.asarray(Image.open(folder.path(first.first.sha256)))
    assert np.array_equal(np.asarray(table[0]["images"][0]), expected)


def test_the_words_are_those_that_judges_are_asked_and_answer(
    judged: list[Judgement], folder: ImageFolder, tmp_path: Path
) -> None:
    from rewards.language.rubric import read_rubric

    rubric = read_rubric("text_correctness")
    wording = wording_of("text_correctness", both_orders=True)
    file, single = tmp_path / "pairs.parquet", tmp_path / "single.parquet"
    write(judged, file, "trl", folder, "drop", wording)
    write(judged, single, "kto", folder, "drop", wording)
    pairs = list(loaded(file))
    decided = [j for j in judged if j.outcome in ("first", "second")]
    assert len(pairs) == 2 * len(decided)
    for i, j in enumerate(decided):
        one, other = pairs[2 * i], pairs[2 * i + 1]
        assert one["prompt"][0]["content"][-1]["text"] == rubric.question("pair", j.prompt)
        won = ["A", "B"] if j.outcome == "first" else ["B", "A"]
        assert replies(one, "chosen", "rejected") == won and replies(other, "chosen", "rejected") == won[::-1]
        assert one["margin"] == other["margin"] == j.strength
        for a, b in zip(one["images"], reversed(other["images"]), strict=True):
            assert np.array_equal(np.asarray(a), np.asarray(b))
    row = loaded(single)[0]
    assert row["prompt"][0]["content"][-1]["text"] == rubric.question("yes", judged[0].prompt)
    assert replies(row, "completion") == ["Yes"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
@pytest.mark.parametrize("kind", ["trl", "kto"])
@pytest.mark.parametrize("rubric", ["", "alignment"])
def test_it_comes_back_as_it_was(
    kind: str, name: str, rubric: str, judged: list[Judgement], folder: ImageFolder, tmp_path: Path
) -> None:
    decided = [j for j in judged if j.outcome in ("first", "second")]
    file = tmp_path / "out" / name
    write(decided, file, kind, folder, "refuse", wording_of(rubric, both_orders=kind == "trl"))
    if kind == "kto" and name.endswith("parquet"):  # the loser of a row is in the next one, by path
        (tmp_path / "out" / "pictures").mkdir()
        for j in decided:
            for ref in (j.first, j.second):
                (tmp_path / "out" / "pictures" / f"{ref.sha256}.png").write_bytes(folder.path(ref.sha256).read_bytes())
    again = read(file, kind, ImageFolder(tmp_path / "again"))
    assert len(again) == len(decided) and all(same(a, b) for a, b in zip(again, decided, strict=True))


def test_rows_without_a_strength_have_no_margin(judged: list[Judgement], folder: ImageFolder, tmp_path: Path) -> None:
    import dataclasses

    bare = [dataclasses.replace(j, strength=None) for j in judged if j.outcome == "first"]
    write(bare, tmp_path / "rows.jsonl", "trl", folder)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    assert [row["margin"] for row in rows] == [0.0] * len(bare)


def test_words_are_for_trl_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["pairs", "export", "none", "-o", str(tmp_path / "x.jsonl"), "--format", "hpdv3", "--rubric", "alignment"]
    assert cli.main([*line, "--store", str(tmp_path / "store.db")]) != 0
    said = capsys.readouterr().err
    assert "--rubric and --both-orders are for the formats trl and kto" in said or "store" in said


@pytest.mark.slow
def test_trl_trains_on_a_parquet_file_as_it_is(folder: ImageFolder, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from preference_data.records import Prompt
    from rewards.published.open_clip_import import open_clip
    from tests.fixtures.tiny.tiny_vlm import processor, qwen_folder

    open_clip()  # torchvision's operators, which transformers' processors of videos ask for
    from transformers import AutoModelForImageTextToText

    rows = [
        Judgement(
            Prompt.from_text(f'write "W{i}"'),
            picture(folder, 2 * i, "a"),
            picture(folder, 2 * i + 1, "b"),
            "first",
            "p",
        )
        for i in range(4)
    ]
    assert png(0)
    write(rows, tmp_path / "rows.parquet", "trl", folder, "refuse", wording_of("text_correctness", both_orders=True))
    weights = qwen_folder(tmp_path / "judge")
    args = trl.DPOConfig(
        str(tmp_path / "run"), max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True, max_length=None,
        gradient_checkpointing=False, save_strategy="no", bf16=False,
    )  # fmt: skip
    model = AutoModelForImageTextToText.from_pretrained(weights)
    trainer = trl.DPOTrainer(
        model, args=args, train_dataset=loaded(tmp_path / "rows.parquet"), processing_class=processor(weights)
    )
    result = trainer.train()
    assert result.global_step == 2 and 0.0 < result.training_loss < 10.0
