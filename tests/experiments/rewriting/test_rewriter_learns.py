"""A small rewriter for a small image model: what rewriting is worth, by rule, after fine-tuning and after GRPO."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import cli
from experiments.rewriting.rewriter import read_card, rewrite
from preference_data.records import Prompt, quoted_spans

pytest.importorskip("trl")
pytestmark = pytest.mark.slow
TRAINING = (
    "--stage", "", "--guidance", 1, "--steps", 6, "--count", 4000, "--varied", 3, "--held-out", 0.024, "--seeds", 2,
    "--instruction", "", "--most-tokens", 40, "--rank", 0, "--sft-batch", 64, "--micro", 64, "--epochs", 2,
    "--sft-rate", 0.002, "--updates", 70, "--rate", 0.0002, "--batch", 8, "--group", 8, "--save-every", 100,
)  # fmt: skip


@pytest.fixture(scope="module")
def rewriter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rewriter for the nano preset after pretraining, both trained from nothing here."""
    from tests.fixtures.tiny.tiny_writer import writer_folder

    folder = tmp_path_factory.mktemp("rewriter")
    base = writer_folder(folder / "base", width=128, layers=3)
    run = folder / "pretrain"
    assert cli.main(["train", "nano_pretrain", "-o", str(run), "--no-evaluate"]) == 0
    words = ["train-rewriter", run, "--base", base, "-o", folder / "out", "--reward", "ocr", *TRAINING]
    assert cli.main([str(word) for word in words]) == 0
    return folder / "out"


def test_a_rewriter_is_worth_as_much_as_the_completion_by_rule_and_loses_no_text(rewriter: Path) -> None:
    content = json.loads((rewriter / "rewriter.json").read_text())
    numbers, above = content["held_out"], content["grpo_above"]
    print(json.dumps({"held_out": numbers, "grpo_above": above}, indent=1))
    assert numbers["as it is"]["interval"][1] < numbers["fine-tuned"]["interval"][0]
    assert above["as it is"]["interval"][0] > 0.2, "what a prompt leaves open must be said"
    for way in ("fine-tuned", "GRPO"):
        assert numbers[way]["within_rules"] > 0.6 and numbers[way]["mean"] > numbers["completed by rule"]["mean"] - 0.05
    rows = [json.loads(row) for row in (rewriter / "rewrites.jsonl").read_text().splitlines()]
    assert len(rows) == 96
    for row in rows:
        for way in ("completed by rule", "fine-tuned", "GRPO"):
            assert list(quoted_spans(row[way]["text"])) == row["spans"]
            assert row[way]["fault"] or row[way]["text"] == row[way]["own"]


def test_it_rewrites_what_a_person_asks_for(rewriter: Path) -> None:
    prompts = [Prompt("a", "make me a red sign that says OPEN", ("OPEN",)), Prompt("b", 'write "HALT"', ("HALT",))]
    results = rewrite(rewriter, prompts)
    assert [list(quoted_spans(each.text)) for each in results] == [["OPEN"], ["HALT"]]
    assert "red" in results[0].text and read_card(rewriter).rules.most_tokens == 40
