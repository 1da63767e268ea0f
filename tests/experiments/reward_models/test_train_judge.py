"""A judge of pairs that learns from answers: what it is asked, how much an answer counts, and what it becomes."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import experiments.reward_models.train_judge as train_judge_module
from experiments import cli
from experiments.reward_models.judge_plan import JudgePlan, JudgeSettings
from experiments.reward_models.judge_trainer import (
    Collator,
    Question,
    answer_loss,
    preference_loss,
)
from experiments.reward_models.train_judge import askable, nothing_to_learn, questions_of, reliability, train_judge
from preference_data.comparisons import Comparison, load, to_jsonl
from preference_data.records import Prompt
from rewards.language.local_judge import Vlm
from rewards.language.qwen_vl import QwenInputs
from rewards.language.rubric import read_rubric
from rewards.language.trained_judge import UNTRAINED, TrainedJudge, read_judge, rubric_of
from rewards.learned.reward import trained_in, trained_on
from rewards.parse import named_reward
from tests.fixtures.simulated_taste import simulate, write
from tests.fixtures.tiny.tiny_vlm import qwen_folder

pytest.importorskip("trl")
RUBRIC = read_rubric("aesthetics")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(simulate(96, seed=1, bad=""), tmp_path_factory.mktemp("answers"))


def line(base: Path, answers: Path, out: Path, *options: object) -> list[str]:
    words = (
        "train-judge", "--pairs", answers, "--base", base, "-o", out, "--rubric", "aesthetics", "--rank", 0,
        "--rate", 0.002, "--epochs", 1, "--batch", 16, "--micro", 8, *options,
    )  # fmt: skip
    return [str(word) for word in words]


# --- what it is asked


def of(c: Comparison, **changes: object) -> Comparison:
    return replace(c, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(answers: Path) -> Comparison:
    return of(load(answers)[0], outcome="left", annotator="human:a", strength=None)


def asked(comparisons: list[Comparison], answers: Path, **settings: bool) -> list[Question]:
    judge = TrainedJudge("aesthetics", RUBRIC.digest, settings.get("ties", False), 1.0)
    return questions_of(comparisons, RUBRIC, judge, JudgePlan(answers, "", Path("x"), **settings))


def test_every_answer_is_asked_in_both_orders(plain: Comparison, answers: Path) -> None:
    first, second = asked([plain], answers)
    assert (first.answer, second.answer) == ("A", "B") and first.weight == second.weight == 1.0
    assert first.text == second.text == RUBRIC.question("pair", plain.prompt)
    for one, other in zip(first.images, reversed(second.images), strict=True):
        assert np.array_equal(one(), other())
    assert not np.array_equal(first.images[0](), first.images[1]())


def test_ties_are_left_out_or_an_answer_of_their_own(plain: Comparison, answers: Path) -> None:
    tie = of(plain, outcome="tie")
    assert asked([tie], answers) == []
    first, second = asked([tie], answers, ties=True)
    assert first.answer == second.answer == "C" and first.text.endswith("If neither is better, answer C.")


def test_single_images_are_asked_about_on_demand(plain: Comparison, answers: Path) -> None:
    pair, single = asked([plain], answers), asked([plain], answers, single=True)
    assert [(q.text, q.answer) for q in single[:2]] == [(q.text, q.answer) for q in pair] and len(single) == 4
    yes, no = single[2:]
    assert (yes.answer, no.answer) == ("Yes", "No") and yes.text == no.text == RUBRIC.question("yes", plain.prompt)
    assert np.array_equal(yes.images[0](), pair[0].images[0]()) and np.array_equal(no.images[0](), pair[0].images[1]())
    tie = asked([of(plain, outcome="tie")], answers, single=True)
    assert sorted(q.answer for q in tie) == ["No", "No", "Yes", "Yes"] and {q.weight for q in tie} == {1.0}
    shared = asked([of(plain, shares=(0.5, 0.5, 0.0))], answers, single=True)
    weights = {(q.images[0]().tobytes(), q.answer): q.weight for q in shared if len(q.images) == 1}
    left, right = (image().tobytes() for image in pair[0].images)
    assert weights[left, "Yes"] == pytest.approx(3 * weights[left, "No"])
    assert weights[right, "No"] == pytest.approx(3 * weights[right, "Yes"])


def test_every_question_knows_what_else_may_be_answered(plain: Comparison, answers: Path) -> None:
    assert [q.others for q in asked([plain], answers, single=True)] == [("B",), ("A",), ("No",), ("Yes",)]
    assert [set(q.others) for q in asked([plain], answers, ties=True)] == [{"B", "C"}, {"A", "C"}]


def test_shares_and_strengths_count(plain: Comparison, answers: Path) -> None:
    shared = of(plain, shares=(0.75, 0.0, 0.25))
    weights = {(q.answer, q.weight) for q in asked([shared], answers)}
    assert weights == {("A", 1.5), ("B", 0.5), ("A", 0.5), ("B", 1.5)}
    strong = asked([of(plain, strength=3.0), of(plain, strength=1.0)], answers, strengths=True)
    assert [q.weight for q in strong] == [1.5, 1.5, 0.5, 0.5]
    assert {q.weight for q in asked([of(plain, strength=3.0), of(plain, strength=1.0)], answers)} == {1.0}


def test_who_disagrees_with_all_others_counts_nothing(plain: Comparison) -> None:
    rows = [of(plain, annotator=f"human:{name}", outcome="left") for name in "abc"]
    found = reliability([*rows, of(plain, annotator="human:bad", outcome="right")])
    assert found["human:bad"] == 0.0 and found["human:a"] == pytest.approx(2 * (2 + 1) / (3 + 2) - 1)
    assert reliability([plain]) == {} or reliability([plain])["human:a"] == 1.0


# --- how it learns


def test_a_batch_learns_what_its_questions_learn_alone(base: Path) -> None:
    """Questions of different lengths and images of different sizes: padding changes nothing."""
    from transformers import AutoModelForImageTextToText

    random = np.random.default_rng(0)
    images = [random.integers(0, 256, size, dtype=np.uint8) for size in ((56, 84, 3), (84, 56, 3), (112, 56, 3))]
    take = [partial(lambda i: images[i], i) for i in range(3)]
    questions = [
        Question("Which?", (take[0], take[1]), "A", 0.5),
        Question("Which of the two images is the better one?", (take[2], take[0]), "B", 1.5),
    ]
    inputs = QwenInputs(base, 56 * 56, 112 * 112)
    collator = Collator(questions, inputs)
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        both = answer_loss(model, collator([{"row": 0}, {"row": 1}]))[0]
        alone = [answer_loss(model, collator([{"row": i}]))[0] for i in range(2)]
    assert float(both) == pytest.approx(float(alone[0] + alone[1]) / 2, rel=1e-4)
    tokens = inputs.tokenizer("A", add_special_tokens=False).input_ids
    with torch.no_grad():
        logits = model(**inputs(questions[0].text, [images[0], images[1]], "cpu")).logits[0, -1].double()
    assert float(alone[0]) == pytest.approx(-0.5 * float(logits.log_softmax(-1)[tokens[0]]), rel=1e-4)


def test_preference_is_for_the_answer_against_all_others_beside_the_model_without_adapter(base: Path) -> None:
    from transformers import AutoModelForImageTextToText

    image = np.random.default_rng(0).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    questions = [
        Question("Which?", (lambda: image,) * 2, "A", 0.5, ("C", "B")),
        Question("Good?", (lambda: image,), "Yes", 1.5, ("No",)),
    ]
    inputs = QwenInputs(base, 56 * 56, 112 * 112)
    batch = Collator(questions, inputs)([{"row": 0}, {"row": 1}])
    models = {}
    for name, scale in (("now", 1.3), ("before", 1.0)):
        models[name] = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
        models[name].lm_head.weight.data *= scale

    def odds(name: str, q: Question) -> float:
        """log P(answer) - log P(others)"""
        with torch.no_grad():
            p = models[name](**inputs(q.text, [i() for i in q.images], "cpu")).logits[0, -1].double().softmax(-1)
        ids = [inputs.tokenizer(word, add_special_tokens=False).input_ids[0] for word in (q.answer, *q.others)]
        return float(p[ids[0]].log() - p[ids[1:]].sum().log())

    @contextmanager
    def without_adapter() -> Iterator[None]:
        models["now"].lm_head.weight.data /= 1.3
        yield
        models["now"].lm_head.weight.data *= 1.3

    expected = [q.weight * math.log1p(math.exp(-0.7 * (odds("now", q) - odds("before", q)))) for q in questions]
    loss = preference_loss(models["now"], batch, 0.7, without_adapter)[0].detach()
    assert float(loss) == pytest.approx(sum(expected) / 2, rel=1e-4)
    assert abs(float(loss) - math.log(2)) > 1e-3, "the two differ"


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"batch": 10, "micro": 4}, "micro=4 does not divide batch=10"), ({"rate": 0.0}, "rate=0.0"),
     ({"rank": -1}, "rank=-1"), ({"method": "dpo", "rank": 0}, "compares with the model without its adapter"),
     ({"method": "kto"}, "method=kto"), ({"dtype": "int8"}, "dtype is 'int8'")],
)  # fmt: skip
def test_impossible_settings_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        JudgeSettings(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("rank", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_a_training_that_was_killed_becomes_the_same_judge(
    rank: int,
    base: Path,
    answers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert cli.main(line(base, answers, whole, "--save-every", 2, "--ties", "--rank", rank)) == 0
    said = capsys.readouterr().out
    assert "held out: agrees with people in" in said and "use it as vlm:weights=" in said
    collate, calls = Collator.__call__, []

    def killed(self: Collator, rows: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        calls.append(1)
        if len(calls) > 8:
            raise KeyboardInterrupt
        return collate(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Collator, "__call__", killed)
        assert cli.main(line(base, answers, cut, "--save-every", 2, "--ties", "--rank", rank)) != 0
    assert list((cut / "training").glob("checkpoint-*")) and not (cut / "judge.json").exists()
    assert cli.main(line(base, answers, cut, "--save-every", 2, "--ties", "--rank", rank, "--rate", 0.001)) == 2
    assert "of other settings: rate was 0.002, is 0.001" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(train_judge_module, "temperature_of", stopped)
        assert cli.main(line(base, answers, cut, "--save-every", 2, "--ties", "--rank", rank)) == 130
    assert not (cut / "judge.json").exists(), "what is not calibrated is not finished"
    assert cli.main(line(base, answers, cut, "--save-every", 2, "--ties", "--rank", rank)) == 0
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (whole, cut))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    start = load_file(base / "model.safetensors")
    moved = {name for name, value in ours.items() if not torch.equal(value, start[name])}
    assert ours.keys() == start.keys() and moved and (not rank or not any("visual" in name for name in moved))
    assert sorted(p.name for p in whole.iterdir() if p.suffix in (".md", ".jsonl", ".txt")) == [
        "held_out.jsonl", "judged.jsonl", "model_card.md", "rubric.md", "trained_on.txt",
    ]  # fmt: skip
    judge = read_judge(whole)
    assert judge.ties and judge.rubric == "aesthetics" and judge.temperature > 0
    assert judge.most_pixels == 1024 * 28 * 28 and (whole / "rubric.md").is_file()
    held_out, seen = load(whole / "held_out.jsonl"), trained_on(whole)
    assert held_out and not {c.prompt.id for c in held_out} & seen[0]
    assert not {i.sha256 for c in held_out for i in (c.left, c.right)} & seen[1]
    judged = load(whole / "judged.jsonl")
    assert judged and {c.annotator for c in judged} == {"machine:whole"}
    asked_both = {(c.left.sha256, c.right.sha256) for c in judged}
    assert all((right, left) in asked_both for left, right in asked_both)
    assert Vlm(str(whole)).load_pairs().name.endswith("/pair") and "aesthetics" in Vlm(str(whole)).load_pairs().name
    assert cli.main(line(base, answers, whole)) == 0 and "holds a finished judge already" in capsys.readouterr().out


def stopped(*anything: object) -> float:
    raise KeyboardInterrupt


# --- how it is read


def test_neither_is_half_for_each_and_temperature_softens() -> None:
    from rewards.language.read_answer import read_pair

    assert read_pair({"A": 0.2, "B": 0.4, "C": 0.4}) == pytest.approx(0.4)
    assert read_pair({"A": 0.2, "B": 0.3}) == pytest.approx(0.4)
    judge = TrainedJudge("x", "y", False, 2.0)
    assert judge.calibrated(0.8) == pytest.approx(1 / (1 + math.exp(-math.log(4.0) / 2.0)))
    assert judge.calibrated(0.5) == 0.5 and judge.calibrated(1.0) == 1.0
    assert UNTRAINED.calibrated(0.8) == pytest.approx(0.8)


@pytest.mark.parametrize(
    "text", ["{", '{"rubric": "x"}', '{"format": 9, "rubric": "", "digest": "", "ties": 0, "temperature": 1}']
)
def test_a_damaged_card_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "judge.json").write_text(text)
    with pytest.raises(ValueError, match="train the judge again"):
        read_judge(tmp_path)
    assert read_judge(tmp_path / "elsewhere") == UNTRAINED


# --- what is refused


def test_without_trl_it_says_what_to_install(
    base: Path, answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    assert cli.main(line(base, answers, tmp_path / "judge")) == 2
    assert "pip install 'glyphlab[judges-train]'" in capsys.readouterr().err
    assert not (tmp_path / "judge").exists()


def test_other_folders_and_missing_models_are_refused(
    base: Path, answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert cli.main(line(base, answers, tmp_path / "full")) == 2
    assert "is a folder with other files in it" in capsys.readouterr().err
    assert cli.main(line(tmp_path / "no/such/model", answers, tmp_path / "judge")) == 2
    assert "there is no such file or folder" in capsys.readouterr().err


def refused(message: str, base: Path, answers: Path, **changes: Any) -> None:
    settings = JudgeSettings(**{"rank": 0, **changes.pop("settings", {})})
    plan = JudgePlan(
        answers, str(base), answers.parent / "none", **{"rubric": "aesthetics", **changes}, settings=settings
    )
    with pytest.raises(ValueError, match=message):
        train_judge(plan)
    assert not plan.out.exists(), "before anything is trained"


def changed(answers: Path, name: str, **changes: object) -> Path:
    """The answers with other fields, in a file beside theirs."""
    rows = [replace(c, **changes) for c in load(answers)]  # type: ignore[arg-type]
    (path := answers.with_name(f"{name}.jsonl")).write_text(to_jsonl(rows))
    return path


def test_models_that_cannot_be_a_judge_are_refused_before_training(base: Path, answers: Path, tmp_path: Path) -> None:
    writer = tmp_path / "writer"
    writer.mkdir()
    (writer / "config.json").write_text('{"model_type": "llama"}')
    refused("is a llama model, not a qwen2_vl or qwen2_5_vl one", writer, answers)
    silent = tmp_path / "silent"
    shutil.copytree(base, silent)
    (silent / "chat_template.jinja").unlink()
    refused("has no chat template", silent, answers)
    other = tmp_path / "other"
    shutil.copytree(base, other)
    (other / "judge.json").write_text(TrainedJudge("aesthetics", RUBRIC.digest, True, 1.0).to_json())
    dpo = {"method": "dpo", "rank": 4}
    refused("learned to answer the rubric aesthetics with --ties, .* aesthetics without", other, answers, settings=dpo)
    refused("another question than alignment with", other, answers, settings=dpo, ties=True, rubric="alignment")
    assert not (answers.parent / "none").exists(), "nothing is written for any of them"


def test_answers_that_cannot_be_asked_about_are_refused_or_left_out(base: Path, answers: Path) -> None:
    refused("needs a text in quotation marks, and 'scene", base, answers, rubric="text_correctness")
    refused("needs images that were edited, and", base, answers, rubric="edit_faithfulness")
    bad = Prompt.from_text("a <|image_pad|>")
    refused("holds '<|image_pad|>'", base, changed(answers, "tokens", prompt=bad), rubric="alignment")
    some, said = [*load(answers)[:3], replace(load(answers)[3], prompt=bad)], []
    plan = JudgePlan(answers, "", Path("x"))
    left = askable(some, read_rubric("alignment"), QwenInputs(base, 56 * 56, 112 * 112), plan, said.append)
    assert left == some[:3] and "1 of 4 answers of" in said[0] and "they are left out" in said[0]


def test_answers_that_teach_nothing_say_what_helps(base: Path, answers: Path) -> None:
    refused("not one of the .* held out says which image is better", base, changed(answers, "ties", outcome="tie"))
    tie, left = (replace(load(answers)[0], outcome=outcome, strength=0.0) for outcome in ("tie", "left"))
    plan = JudgePlan(answers, "", Path("x"), strengths=True)
    assert "--ties" in nothing_to_learn(plan, [tie]) and "leave out --strengths" in nothing_to_learn(plan, [left])
    assert "--no-annotators" in nothing_to_learn(replace(plan, strengths=False), [left])


def test_a_moved_judge_is_asked_what_it_learned_as_it_saw_it(tmp_path: Path) -> None:
    (tmp_path / "judge.json").write_text(TrainedJudge("mine", "0", False, 1.0, 28 * 28, 56 * 56).to_json())
    (tmp_path / "rubric.md").write_text("# Mine\n## pair\nWhich?\n## yes\nGood?\n")
    rubric = rubric_of(tmp_path, "")
    assert rubric.name == "mine" and rubric.questions["pair"] == "Which?"
    assert rubric_of(tmp_path, "aesthetics").name == "aesthetics" and rubric_of("", "").name == "alignment"
    view, other = (Vlm(str(tmp_path), most_pixels=most).sees(560, 560) for most in (0, 112 * 112))
    assert (view.height, view.width) == (56, 56) and (other.height, other.width) == (112, 112)
    assert Vlm().sees(560, 560).height == 560


def test_a_judge_is_known_by_what_it_was_trained_on(tmp_path: Path) -> None:
    assert trained_in(named_reward(f"0.5*vlm:weights={tmp_path}+0.5*brisque")) == []
    (tmp_path / "trained_on.txt").write_text("prompt:1\n")
    assert trained_in(named_reward(f"0.5*vlm:weights={tmp_path}+0.5*brisque")) == [tmp_path]


# --- the whole story


@pytest.mark.slow
@pytest.mark.parametrize(("words", "least"), [(False, 0.80), (True, 0.60)])
def test_a_judge_learns_from_chance_and_is_compared(words: bool, least: float, base: Path, tmp_path: Path) -> None:
    """From chance on, on held-out pairs of ramps and of words, above the untrained one's interval; beside a reward, a
    head on pixels and one on the same model."""
    pairs = write(simulate(1600, seed=3, bad="", sharpness=4.0, words=words), tmp_path)
    judge = tmp_path / "judge"
    assert cli.main(line(base, pairs, judge, "--rate", 0.003, "--epochs", 5, "--micro", 16)) == 0
    numbers = json.loads((judge / "judge.json").read_text())["held_out"]
    assert abs(numbers["before"]["value"] - 0.5) < 0.15
    assert numbers["after"]["value"] >= least and numbers["after"]["low"] > numbers["before"]["high"]
    other = "ocr" if words else "brisque"  # a ramp has nothing to read
    rewards = {name: f"learned:{tmp_path / name}" for name in ("pixels", "head")}
    for name, backbone in (("pixels", "pixels"), ("head", f"vlm:{base},rubric=aesthetics")):
        typed = ("train-reward", "--pairs", pairs, "-o", tmp_path / name, "--backbone", backbone)
        assert cli.main([str(word) for word in typed]) == 0
    typed = (
        "compare-rewards", "--pairs", pairs, "--held-out", judge / "held_out.jsonl", "--judged", judge / "judged.jsonl",
        "--rewards", ",".join([other, *rewards.values()]), "-o", tmp_path / "comparison", "--probe-images", 0,
    )  # fmt: skip
    assert cli.main([str(word) for word in typed]) == 0
    with (tmp_path / "comparison" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    print(numbers, *rows[:12], sep="\n")
    assert {"machine:judge", other, *rewards.values()} <= {row["reward"] for row in rows}


@pytest.mark.slow
def test_a_judge_learns_more_by_preference(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fine-tuned a little, then by DPO; killed and resumed; what was held out stays so; other splits are refused."""
    pairs = write(simulate(800, seed=3, bad="", sharpness=4.0), tmp_path)
    tuned, better, cut = (tmp_path / name for name in ("tuned", "better", "cut"))
    assert cli.main(line(base, pairs, tuned, "--rate", 0.003, "--epochs", 3, "--micro", 16)) == 0
    more = ("--method", "dpo", "--rank", 8, "--rate", 0.003, "--epochs", 3, "--micro", 16, "--save-every", 20)
    assert cli.main(line(tuned, pairs, better, *more)) == 0
    card = json.loads((better / "judge.json").read_text())
    numbers, losses = card["held_out"], card["losses"]
    print(numbers)
    assert numbers["before"] == json.loads((tuned / "judge.json").read_text())["held_out"]["after"]
    assert losses[0] == pytest.approx(math.log(2), abs=0.01) and np.mean(losses[-30:]) < 0.6
    assert numbers["after"]["value"] > max(0.75, numbers["before"]["value"] - 0.03)
    assert (better / "held_out.jsonl").read_text() == (tuned / "held_out.jsonl").read_text()
    assert set((tuned / "trained_on.txt").read_text().split()) <= set((better / "trained_on.txt").read_text().split())
    collate, calls = Collator.__call__, []

    def killed(self: Collator, rows: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        calls.append(1)
        if len(calls) > 50:
            raise KeyboardInterrupt
        return collate(self, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Collator, "__call__", killed)
        assert cli.main(line(tuned, pairs, cut, *more)) == 130
    assert cli.main(line(tuned, pairs, cut, *more)) == 0
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (better, cut))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    capsys.readouterr()
    assert cli.main(line(tuned, pairs, tmp_path / "other", *more, "--seed", 1)) == 2
    assert "train it further with the --pairs, --held-out and --seed" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(base: Path, answers: Path, tmp_path: Path) -> None:
    losses = {}
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks), "-m",
                   "experiments.cli", *line(base, answers, out, "--micro", 8, "--save-every", 1000)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=os.environ, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        losses[ranks] = json.loads((out / "judge.json").read_text())["losses"]
    assert len(losses[1]) == len(losses[2]) > 5
    assert np.allclose(losses[1], losses[2], atol=1e-3)
