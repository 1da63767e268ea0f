"""Captions of a model in this process: what it is asked is what transformers would ask it, and answers are kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from base_model.devices import GPU
from experiments.cli import main
from experiments.curation import captioner, curated_folder, measuring
from experiments.curation.captioner import PIXELS, QUESTION, Captioner, answer_key, answered, ready
from experiments.curation.curated_folder import CAPTIONS, curate
from experiments.curation.opened_image import OpenedImage
from experiments.images.image_readers import list_entries
from rewards.image_scorer import Unjudged
from rewards.language.qwen_vl import QwenInputs, QwenVl
from tests.experiments.curation.conftest import NAMES
from tests.experiments.curation.images_to_curate import photograph
from tests.experiments.curation.test_captioner import BLACK, GOOD
from tests.experiments.curation.test_curated_folder import content
from tests.fixtures.tiny.tiny_judges import photographs as small_images
from tests.fixtures.tiny.tiny_vlm import processor, qwen_folder

AGAIN = "That was not right: it is not JSON. Answer again with the JSON object alone."


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen_folder(tmp_path_factory.mktemp("qwen"))


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen2_vl"])
def test_a_model_reads_and_writes_what_transformers_own_processor_and_generate_do(
    kind: str, qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForImageTextToText

    folder = qwen if kind == "qwen2_5_vl" else qwen_folder(tmp_path / kind, kind)
    images, later = small_images()[:3:2], [[], ["Sure! A cat.<|im_end|>", AGAIN]]
    model = QwenVl(folder, "cpu", "float32", *PIXELS)
    given: list[dict[str, Any]] = []
    generate = model.model.generate
    monkeypatch.setattr(model.model, "generate", lambda **inputs: given.append(inputs) or generate(**inputs))
    answers = model.answers(QUESTION, images, later, 6)

    theirs = processor(folder)
    texts = []
    for said in later:
        turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
        for role, text in zip(("assistant", "user"), said, strict=False):
            turns.append({"role": role, "content": [{"type": "text", "text": text.replace("<|im_end|>", "")}]})
        texts.append(theirs.apply_chat_template(turns, add_generation_prompt=True))
    inputs = theirs(
        text=texts, images=[[Image.fromarray(image)] for image in images], padding=True, padding_side="left",
        return_tensors="pt",
    )  # fmt: skip
    for name, tensor in inputs.items():
        assert torch.equal(given[0][name], tensor), name
    reference = AutoModelForImageTextToText.from_pretrained(folder).eval()
    ids = reference.generate(**inputs, do_sample=False, max_new_tokens=6, eos_token_id=theirs.tokenizer.eos_token_id)
    new = theirs.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answers == [(text.strip(), False) for text in new] and new[0] != new[1]
    alone = [model.answers(QUESTION, [image], [said], 6)[0] for image, said in zip(images, later, strict=True)]
    assert alone == answers, "what is answered together changes nothing"


def test_an_answer_is_whole_with_any_end_that_the_model_has(qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = QwenVl(qwen, "cpu", "float32", *PIXELS)
    words, image = model._inputs.tokenizer, small_images()[0]
    end, other, pad, a, b = words.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>", "<|endoftext|>", "A", "B"])
    rows = torch.tensor([[a, end, pad], [b, other, pad], [a, b, a]])
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(model.model.generation_config, "eos_token_id", other)
    monkeypatch.setattr(
        model.model, "generate", lambda **given: asked.append(given) or torch.cat([given["input_ids"], rows], 1)
    )
    assert model.answers(QUESTION, [image] * 3, [[]] * 3, 3) == [("A", True), ("B", True), ("ABA", False)]
    assert asked[0]["eos_token_id"] == sorted([end, other]) and asked[0]["pad_token_id"] == pad
    with pytest.raises(Unjudged, match="more than 200 times as long as wide"):
        model.answers(QUESTION, [np.zeros((1, 201, 3), np.uint8)], [[]], 3)


@pytest.mark.parametrize(
    ("device", "dtype", "kind"), [("cpu", "", "float32"), (GPU, "", "bfloat16"), (GPU, "float16", "float16")]
)
def test_a_model_computes_in_what_is_asked_for_or_fits_its_device(
    device: str, dtype: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("base_model.devices.best_device", lambda: device)
    monkeypatch.setattr("rewards.language.qwen_vl.QwenVl", lambda *given: given)
    assert captioner.local_model.__wrapped__("there", dtype) == ("there", device, kind, 3136, 1605632)


class Writer:
    """Answers as a test says, and remembers what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.batches = answer, []

    def answers(
        self, question: str, images_HW3: Sequence[np.ndarray], later: Sequence[Sequence[str]], longest: int
    ) -> list[tuple[str, bool]]:
        names = [next(n for n in NAMES if np.array_equal(image, np.asarray(photograph(n)))) for image in images_HW3]
        self.batches.append(dict(zip(names, [list(said) for said in later], strict=True)))
        return [self.answer(name, len(said), len(names)) for name, said in zip(names, later, strict=True)]


def settings(weights: Path, **more: object) -> list[str]:
    chosen = {"weights": weights, "batch": 3, "shares": "0|1|0", **more}
    return ["reading=no", *(f"captioner.{name}={value}" for name, value in chosen.items())]


def test_images_are_asked_about_together_and_only_faults_again(
    qwen: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(name: str, said: int, together: int) -> tuple[str, bool]:
        text = json.dumps({**GOOD, "caption": f"a {name}"})
        return (text, True) if name != "chelsea" or said == 4 else (text, False) if said else ("no", True)

    writer, out = Writer(answer), tmp_path / "set"
    monkeypatch.setattr(captioner, "local_model", lambda weights, dtype: writer)
    list(curate([str(photographs)], out, settings(qwen)))
    assert [sorted(batch) for batch in writer.batches] == [
        ["chelsea", "coffee", "coins"], ["chelsea"], ["chelsea"], ["rocket"]
    ]  # fmt: skip
    last = writer.batches[2]["chelsea"]
    assert "it is not JSON" in last[1] and "it was cut off" in last[3]
    assert (out / CAPTIONS).read_text().count('["a ') == 4
    before = content(out)
    shutil.rmtree(out / ".curation" / "described")
    monkeypatch.setattr("rewards.published.published_weights.weights_digest", None)  # the files are those of before
    list(curate((), out))
    assert len(writer.batches) == 4 and content(out) == before, "answers are kept"


def test_answers_are_kept_by_the_weights_wherever_they_lie(qwen: Path, tmp_path: Path) -> None:
    first = ready(Captioner(weights=str(qwen)))
    other = shutil.copytree(qwen, tmp_path / "copied")
    assert answer_key(ready(replace(first, weights=str(other)))) == answer_key(first)
    whole = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert answer_key(ready(replace(first, weights=str(other)))) != answer_key(first)


def test_what_fails_together_is_asked_one_by_one_and_half_a_batch_is_asked_again(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(name: str, said: int, together: int) -> tuple[str, bool]:
        if together > 1:
            raise RuntimeError("out of memory")
        return ("no", True) if name == "chelsea" else (json.dumps({**GOOD, "caption": f"a {name}"}), True)

    writer, asks = Writer(answer), Captioner(weights=str(photographs), digest="abc-0")
    monkeypatch.setattr(captioner, "local_model", lambda weights, dtype: writer)
    images = [OpenedImage(entry) for entry in list_entries(str(photographs), "") if "rocket" not in entry.name]
    faults = dict(zip(("chelsea", "coffee", "coins"), answered(asks, tmp_path, images), strict=True))
    assert "it is not JSON" in str(faults.pop("chelsea")) and set(faults.values()) == {None}
    writer.batches, writer.answer = [], lambda name, said, together: (json.dumps(GOOD), True)
    assert answered(asks, tmp_path, images) == [None] * 3
    assert [[*batch] for batch in writer.batches] == [["chelsea", "coffee", "coins"]]
    assert answered(asks, tmp_path, images) == [None] * 3 and len(writer.batches) == 1


def test_a_model_is_asked_the_question_of_all_and_named_where_it_gives_no_right_answer(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    writer = SimpleNamespace(answers=lambda *given: asked.append(given) or [("no", True)])
    monkeypatch.setattr(captioner, "local_model", lambda weights, dtype: writer)
    (fault,) = captioner.ask(Captioner(weights=str(photographs)), [BLACK])
    assert str(fault).startswith(f"{photographs} gave no right answer in 3 tries: it is not JSON")
    assert [(question, longest) for question, _, _, longest in asked] == [(QUESTION, 800)] * 3


def test_an_answer_is_filed_by_the_digest_of_the_weights_without_what_the_files_looked_like(tmp_path: Path) -> None:
    first, image = Captioner(weights="a", digest="abc-1"), SimpleNamespace(identity="ff")
    others = [replace(first, weights="b", digest=digest) for digest in ("abc-2", "abd-1")]
    file, *files = (captioner.answer_path(each, tmp_path, image) for each in (first, *others))  # type: ignore[arg-type]
    assert [file == each for each in files] == [True, False]


def taught(folder: Path, answer: str) -> Path:
    """A tiny model that gives this answer to the question about any image, trained for some seconds."""
    from transformers import AutoModelForImageTextToText

    model: Any = AutoModelForImageTextToText.from_pretrained(qwen_folder(folder))
    inputs = QwenInputs(folder, *PIXELS)
    words = inputs.tokenizer(f"{answer}<|im_end|>", add_special_tokens=False, return_tensors="pt").input_ids
    rows = []
    for name in NAMES:
        row = inputs(QUESTION, [np.asarray(photograph(name))], "cpu")
        row["mm_token_type_ids"] = torch.cat([row["mm_token_type_ids"], torch.zeros_like(words, dtype=torch.int)], 1)
        row["input_ids"] = torch.cat([row["input_ids"], words], 1)
        rows.append({**row, "attention_mask": torch.ones_like(row["input_ids"])})
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses: list[float] = []
    for update in range(400):
        logits = model.train()(**rows[update % len(rows)]).logits[0, -words.shape[1] - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, words[0])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if max(losses[-len(rows) :]) < 0.01:
            break
    model.eval().save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_model_that_learned_to_answer_captions_a_folder_and_goes_on_where_it_was_stopped(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(curated_folder, "SHARD", 2)
    weights = taught(tmp_path / "taught", json.dumps(GOOD))
    line = ["curate", str(photographs), "--set", *settings(weights, batch=2)]
    calls, stop_at, asked = 0, 0, captioner.reply_here

    def counted(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt
        return asked(*given)

    monkeypatch.setattr(captioner, "reply_here", counted)
    assert main([*line, "--processes", "2", "-o", str(tmp_path / "set")]) == 0
    assert (tmp_path / "set" / CAPTIONS).read_text().count("a cup on a table") == 4
    assert calls == 2, "the model is in this process alone"
    whole = content(tmp_path / "set")

    line += ["--processes", "1"]
    calls, stop_at = 0, 2
    assert main([*line, "-o", str(tmp_path / "other")]) == 130
    assert len(list((tmp_path / "other").rglob("answers/*.json"))) == 2
    assert main([*line, "-o", str(tmp_path / "other")]) == 0 and calls == 3
    assert content(tmp_path / "other") == whole

    capsys.readouterr()
    monkeypatch.setattr(measuring, "MOST_IN_A_ROW", 2)
    monkeypatch.setattr(captioner, "TOKENS", 12)
    garbage = settings(qwen_folder(tmp_path / "garbage"))
    line = ["curate", str(photographs), "--processes", "1", "-o", str(tmp_path / "third"), "--set", *garbage]
    assert main(line) == 1
    assert "described failed on 2 images in a row, last with: ValueError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "more", "fault"),
    [("gone", {}, "captioner.weights is .*: there is no such file or folder; it takes the folder of a Qwen2-VL"),
     ("config", {}, "where no config.json is: it holds no model"),
     ("llama", {}, "is a llama model, not a qwen2_vl or qwen2_5_vl one"),
     ("weights", {}, "lacks model.safetensors, 1 of its 1 weight files"),
     ("cut", {}, "is cut short or damaged"),
     ("template", {}, "has no chat template"),
     ("tokenizer", {}, "its tokenizer.json is not its own or is missing"),
     ("cut tokenizer", {}, "the tokenizer or the image processor of .*model cannot be read: .*; fetch its files again"),
     ("", {"url": "http://127.0.0.1:9/v1", "model": "m"}, "both write captions"),
     ("", {"batch": 0}, "captioner.batch=0 must be at least 1"),
     ("", {"dtype": "int8"}, "dtype is 'int8'")],
)  # fmt: skip
def test_a_model_that_cannot_write_captions_is_refused_before_an_image_is_opened(
    change: str, more: dict[str, object], fault: str, qwen: Path, photographs: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = qwen if not change else shutil.copytree(qwen, tmp_path / "model")
    if change == "gone":
        shutil.rmtree(folder)
    elif change == "llama":
        (folder / "config.json").write_text('{"model_type": "llama"}')
    elif change == "cut":
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[:-100])
    elif change == "cut tokenizer":
        (folder / "tokenizer.json").write_text("{")
    elif change:
        names = {
            "tokenizer": "tokenizer.json",
            "config": "config.json",
            "weights": "model.safetensors",
            "template": "chat_template.jinja",
        }
        (folder / names[change]).unlink()
    line = ["curate", str(photographs), "-o", str(tmp_path / "set"), "--set", *settings(folder, **more)]
    assert main(line) == 2
    assert re.search(fault, capsys.readouterr().err)
    assert not (tmp_path / "set").exists()
