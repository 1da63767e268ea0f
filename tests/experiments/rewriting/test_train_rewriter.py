"""A rewriter of prompts: which rewrites may be used, what they are worth, how it is trained and used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from base_model.data.rendered_text import PAPER, complete, contrast, read_short
from base_model.files.weights import save_model
from base_model.generate import generate
from base_model.sample import Sampler
from experiments import cli
from experiments.commands.sampling import rewriter_of
from experiments.evaluation.evaluate_file import Request
from experiments.evaluation.found_model import find_model, fingerprint
from experiments.record.record import RunRecord
from experiments.record.stopped_training import begin
from experiments.record.whole_files import read_png, write_png
from experiments.rewriting import rewrite_reward
from experiments.rewriting.held_out_prompts import own_examples, split
from experiments.rewriting.rewrite_reward import RewriteScorer, lowest
from experiments.rewriting.rewriter import Rewrite, RewriterCard, Rules, read_card, rewrite, tokenizer_of, with_fallback
from experiments.rewriting.rewriter_plan import RewriterPlan, RewriterSettings
from experiments.rewriting.short_prompts import examples_of, read_examples, short_prompts
from experiments.rewriting.train_rewriter import Results, card_lines, require_judged, reward_function
from preference_data.records import Prompt
from rewards.scores import Scores
from tests.fixtures.tiny.tiny_model import tiny_model

RULES = Rules()
SIGN = Prompt("1", "make me a red sign that says OPEN", ("OPEN",))
WHOLE = 'the word "OPEN" in black sans, large, middle centre, on red'


# --- which rewrites may be used


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (WHOLE, ""),
        ('a red enamel sign, "OPEN" in white, at night', ""),
        (WHOLE.replace("OPEN", "OPEM"), "it quotes OPEM instead of OPEN"),
        (WHOLE.replace("OPEN", "Open"), "it quotes Open instead of OPEN"),
        (WHOLE.replace("OPEN", "OPENING"), "it quotes OPENING instead of OPEN"),
        (WHOLE.replace('"', ""), ""),  # "the word OPEN" quotes it too
        (WHOLE + ' and "OPEN"', "it quotes OPEN, OPEN instead of OPEN"),
        (WHOLE + ' above "SHOP"', "it quotes OPEN, SHOP instead of OPEN"),
        ("a red sign", "it quotes nothing instead of OPEN"),
        (WHOLE.replace("red", "white"), "it leaves out red"),
        ("  ", "it is empty"),
        (WHOLE + " on a wall" * 40, "it has more than 400 characters"),
        (WHOLE + "\nand more", "it has several lines"),
    ],
)
def test_a_rewrite_keeps_the_text_to_the_character_and_what_was_named(text: str, fault: str) -> None:
    assert RULES.fault(SIGN, text) == fault


def test_the_other_rules() -> None:
    assert RULES.fault(SIGN, WHOLE, finished=False) == "it does not end within 96 tokens"
    assert Rules(keep=()).fault(SIGN, WHOLE.replace("red", "white")) == ""
    two = Prompt.from_text('a shop with "OPEN" above "24 h"')
    assert RULES.fault(two, 'a shop, "24 h" under "OPEN"') == "" and RULES.fault(two, 'a shop, "OPEN"')
    big = Prompt.from_text('a big "A"')
    assert RULES.fault(big, 'the word "A", large') == "" and "large" in RULES.fault(big, 'the word "A", small')
    bare = Prompt.from_text("make me a sign that says OPEN")
    assert not bare.spans and RULES.fault(bare, 'the word "OPEN" in black') == ""
    assert RULES.fault(bare, 'the word "SHUT" in black') and RULES.fault(bare, "a sign")
    assert RULES.fault(Prompt.from_text("I see a cat"), 'a cat that says "HI"') == "it adds HI"
    with pytest.raises(ValueError, match="most_tokens=0"):
        Rules(most_tokens=0)


def test_a_rewrite_that_breaks_a_rule_is_not_used() -> None:
    good, bad, cut = with_fallback([SIGN] * 3, [(WHOLE + ".", True), ("a sign", True), (WHOLE + ".", False)], RULES)
    assert good.text == WHOLE + "." and not good.fault
    assert bad.text == cut.text == complete(SIGN.text) == WHOLE and bad.own == "a sign" and bad.fault and cut.fault


# --- prompts and examples


def test_short_prompts_are_completed_in_many_ways_that_keep_the_rules() -> None:
    prompts, held_out = short_prompts(300, seed=1), short_prompts(40, seed=1, heldout=True)
    assert prompts[:50] == short_prompts(50, seed=1) != short_prompts(50, seed=2)
    assert not {p.spans for p in prompts} & {p.spans for p in held_out} and len({p.spans for p in prompts}) == 300
    examples = examples_of(prompts, RULES, varied=3, seed=0)
    assert len(examples) == 1200 and {e.prompt for e in examples} == {p.text for p in prompts}
    by_text = {p.text: p for p in prompts}
    assert all(RULES.fault(by_text[e.prompt], e.rewrite) == "" for e in examples)
    assert {complete(p.text) for p in prompts} <= {e.rewrite for e in examples}
    by_lot = [(e.prompt, e.rewrite) for e in examples_of(prompts, RULES, varied=3, seed=0, by_rule=False)]
    assert len(by_lot) == 900 and set(by_lot) <= {(e.prompt, e.rewrite) for e in examples}
    rng = np.random.default_rng(0)
    request = read_short(SIGN.text)
    assert request is not None
    captions = {request.varied(rng) for _ in range(300)}
    assert len(captions) > 100 and any("in red" in c for c in captions) and any("on red" in c for c in captions)
    for colour in ("white", "yellow", "black", "grey"):
        ground = read_short(f"OPEN on {colour}")
        ink = read_short(f"OPEN in {colour}")
        for words in (each.varied(rng).split() for each in (ground, ink) if each is not None for _ in range(20)):
            one, other = words[words.index("in") + 1], words[-1]
            assert contrast(one, other) >= 3.0 and colour in (one, other) and (other in PAPER or one == colour
                                                                              or other == colour)  # fmt: skip


def test_a_file_of_examples_is_checked_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "examples.jsonl"
    rows = [{"prompt": 'a "HI"', "rewrite": 'a card with "HI"'}, {"prompt": 'a "HI"', "rewrite": "a card"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:1]))
    assert [(e.prompt, e.rewrite) for e in read_examples(file, RULES)] == [('a "HI"', 'a card with "HI"')]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"line 2: the rewrite of .* cannot be learned from: it quotes nothing"):
        read_examples(file, RULES)
    file.write_text('{"prompt": "a"}\n')
    with pytest.raises(ValueError, match='line 1: it has no "rewrite"'):
        read_examples(file, RULES)
    file.write_text("")
    with pytest.raises(ValueError, match="holds no examples"):
        read_examples(file, RULES)


def test_prompts_that_share_a_text_are_on_one_side(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("".join(f'a {kind} "W{i}"\n' for i in range(30) for kind in ("red", "blue")))
    plan = RewriterPlan("m", "b", tmp_path / "out", prompts=file, held_out=0.3)
    learned, held_out = split(plan)
    assert len(learned) == 42 and len(held_out) == 18 and not {p.spans for p in learned} & {p.spans for p in held_out}
    assert split(replace(plan, settings=RewriterSettings(seed=1)))[1] != held_out
    with pytest.raises(ValueError, match="has 60 different prompts"):
        split(replace(plan, settings=RewriterSettings(batch=50, group=8)))


def test_prompts_that_share_one_of_two_texts_or_bare_capitals_are_on_one_side(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    forms = ('a sign "W{0}"', 'a sign "W{0}" above "X{0}"', "please write X{0}", 'the word "X{0}"', "a dog {0}")
    file.write_text("".join(form.format(i) + "\n" for i in range(20) for form in forms))
    learned, held_out = split(RewriterPlan("m", "b", tmp_path / "out", prompts=file, held_out=0.3))

    def number(prompts: Sequence[Prompt]) -> set[str]:
        return {prompt.text.strip('"').rpartition("X")[2].rpartition("W")[2] for prompt in prompts}

    assert not number(learned) & number(held_out) and 25 <= len(held_out) <= 30
    one = tmp_path / "one.txt"
    one.write_text('a "HI"\n')
    with pytest.raises(ValueError, match=r"has 1 different prompts in 1 groups .* give more prompts"):
        split(RewriterPlan("m", "b", tmp_path / "out", prompts=one))


def test_no_example_shows_what_a_held_out_prompt_asks_for(tmp_path: Path) -> None:
    file, said = tmp_path / "examples.jsonl", []  # type: ignore[var-annotated]
    rows = [
        ("write HI", 'the word "HI"'),
        ('a "HI"', 'a card, "HI"'),
        ("a dog", "a brown dog"),
        ('a "NO"', 'the word "NO"'),
    ]
    file.write_text("".join(json.dumps({"prompt": a, "rewrite": b}) + "\n" for a, b in rows))
    held_out = [Prompt.from_text("a sign that says HI"), Prompt.from_text("a dog")]
    assert [e.prompt for e in own_examples(file, RULES, held_out, said.append)] == ['a "NO"']
    assert "3 examples of" in said[0] and "left out" in said[0]
    assert len(own_examples(file, RULES, [], said.append)) == 4 and len(said) == 1
    with pytest.raises(ValueError, match=r"all 4 examples of .* show texts of held-out prompts"):
        own_examples(file, RULES, [*held_out, Prompt.from_text('"NO"')], said.append)


# --- what a rewrite is worth


class Brightness:
    """A pool and its reward: how bright an image is; NaN for prompts that hold NEVER."""

    version, needs = 1, ()

    def __init__(self, low: float = 0.0) -> None:
        self.range, self.images, self.prompts = (low, 1.0), [], []  # type: ignore[var-annotated]

    def submit(self, prompts: Sequence[Prompt], images: np.ndarray) -> Future[Scores]:
        self.images += list(images)
        self.prompts += [prompt.text for prompt in prompts]
        value = np.array([np.nan if "NEVER" in prompt.text else image.mean() / 255.0
                          for prompt, image in zip(prompts, images, strict=True)])  # fmt: skip
        done: Future[Scores] = Future()
        done.set_result(Scores(value, {}))
        return done


def scorer(pool: Brightness, images: int = 2) -> RewriteScorer:
    return RewriteScorer(tiny_model(), Sampler(2), pool, pool, 0, images)  # type: ignore[arg-type]


def test_rewrites_of_a_prompt_share_noise_and_same_ones_are_sampled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Brightness()
    noises: list[np.ndarray] = []

    def kept(model: object, texts: Sequence[str], noise: torch.Tensor, sampler: Sampler) -> np.ndarray:
        noises.append(noise.numpy())
        return generate(model, texts, noise, sampler)  # type: ignore[arg-type]

    monkeypatch.setattr(rewrite_reward, "generate", kept)
    other = complete("OPEN in green on red")
    values = scorer(pool).values([SIGN] * 4, [WHOLE, WHOLE, other, WHOLE], [7, 7, 7, 8], 3)
    assert values[0] == values[1] != values[2] and values[0] != values[3] and len(pool.images) == 2 * 3
    assert set(pool.prompts) == {SIGN.text}, "scored as what was asked for"
    first, second = noises[0][:2]
    assert np.array_equal(noises[0][2:4], noises[0][:2]) and not np.array_equal(first, second)
    assert not np.array_equal(noises[0][4:], noises[0][:2]), "another prompt has other noise"
    again = Brightness()
    alone = scorer(again).values([SIGN], [WHOLE], [7], 3)
    assert np.array_equal(noises[1], noises[0][:2])
    assert alone[0] == pytest.approx(np.mean([image.mean() / 255.0 for image in again.images]))
    scorer(again).values([SIGN], [WHOLE], [7], 4)
    assert not np.array_equal(noises[2], noises[1]), "another update has other noise"


def test_a_broken_rule_gets_the_lowest_reward_and_is_not_sampled() -> None:
    pool = Brightness()
    never = Prompt("2", 'say "NEVER"', ("NEVER",))
    prompts, texts = [SIGN, SIGN, never], [WHOLE, "a sign", 'the word "NEVER"']
    values = scorer(pool).ruled(prompts, texts, [0, 0, 1], ["", "it quotes nothing", ""], 0)
    assert values[0] > 0 and values[1] == 0.0 and np.isnan(values[2]) and len(pool.images) == 4
    unbounded = Brightness(-np.inf)
    values = scorer(unbounded).ruled(prompts, texts, [0, 0, 1], ["", "it quotes nothing", ""], 0)
    assert np.isfinite(values[1]) and values[1] < values[0]
    assert lowest(unbounded, np.array([np.nan])) == 0.0  # type: ignore[arg-type]
    assert scorer(pool).ruled([SIGN], ["x"], [0], ["bad"], 0).tolist() == [0.0]


def test_what_is_not_judged_is_none_for_trl(writer: Path) -> None:
    logged: dict[str, float] = {}
    never = Prompt("2", 'say "NEVER"', ("NEVER",))
    function = reward_function(scorer(Brightness()), [SIGN, never], RULES, tokenizer_of(writer))
    end = tokenizer_of(writer).eos_token_id
    texts = [WHOLE, 'the word "NEVER"', "a sign", WHOLE, WHOLE + " \u2603"]
    values = function(
        prompts=[], completions=[[{"role": "assistant", "content": text}] for text in texts],
        completion_ids=[[5, end], [5, end], [5, end], [5], [5, end]], row=[0, 1, 0, 0, 0],
        trainer_state=SimpleNamespace(global_step=1), log_metric=lambda name, value: logged.update({name: value}),
        log_extra=None,
    )  # fmt: skip
    assert values[0] and values[1] is None and values[2:] == [0.0, 0.0, 0.0]
    assert logged == {"within_rules": pytest.approx(0.4)}


def test_a_card_says_how_many_prompts_were_judged(tmp_path: Path) -> None:
    ways = ("as it is", "GRPO")
    values = {way: np.array([0.5, np.nan, np.nan]) for way in ways}
    results = Results([SIGN] * 3, {way: [Rewrite(WHOLE, WHOLE)] * 3 for way in ways}, values, 0.0)
    training = {"seconds": 1.0, "examples": 4, "prompts": 9, "losses": [], "rewards": [0.1]}
    card = "\n".join(card_lines(RewriterPlan("m", "b", tmp_path), results, training))
    assert "| GRPO | 0.500 (no interval) | 1 | 100% |" in card and "nan" not in card
    assert "| as it is | not enough judged by both |" in card
    assert "fine-tuned for" not in card and "updates of GRPO on 9 prompts" in card


def test_a_reward_that_judges_nothing_is_refused() -> None:
    never = Prompt("2", 'say "NEVER"', ("NEVER",))
    unread = Prompt.from_text("a \u2603")
    with pytest.raises(ValueError, match="the reward dim judges none of the images of 2 prompts, such as 'say"):
        require_judged(scorer(Brightness(), 1), [unread, never, never], "dim")
    require_judged(scorer(Brightness(), 1), [never, SIGN], "dim")
    require_judged(scorer(Brightness(), 1), [unread], "dim")


# --- training and use


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    from tests.fixtures.tiny.tiny_writer import writer_folder

    return writer_folder(tmp_path_factory.mktemp("writer"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with RunRecord.open(folder, {"experiment": {"name": "nano_sft"}}).running():
        save_model(tiny_model(), folder / "model")
    return folder


def line(run: Path, writer: Path, out: Path, *options: object) -> list[str]:
    words = (
        "train-rewriter", run, "--base", writer, "-o", out, "--reward", "brisque", "--count", 24, "--instruction", "",
        "--rank", 0, "--epochs", 0.5, "--sft-batch", 8, "--updates", 4, "--batch", 2, "--group", 4, "--micro", 8,
        "--save-every", 2, "--steps", 2, "--guidance", 1, "--most-tokens", 24, "--seeds", 1, *options,
    )  # fmt: skip
    return [str(word) for word in words]


def test_what_cannot_be_is_refused_before_anything_is_trained(
    run: Path, writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*options: object) -> str:
        assert cli.main(line(run, writer, tmp_path / "out", *options)) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    edits = tmp_path / "edits.jsonl"
    write_png(tmp_path / "a.png", np.zeros((3, 8, 8), np.uint8))
    edits.write_text('{"prompt": "make it red", "image": "a.png"}\n')
    assert "group=1" in error("--group", 1)
    assert "batch=3 times group=4 must be a multiple of micro=8" in error("--batch", 3)
    assert "sft_batch=12 must be a multiple of micro=8" in error("--sft-batch", 12)
    assert "held_out=0.9" in error("--held-out", 0.9) and "rate=2.0" in error("--rate", 2)
    assert "there is no such file or folder; name a causal language model" in error("--base", tmp_path / "no/such/lm")
    assert "ocrr" in error("--reward", "ocrr")
    assert "does not see images" in error("--prompts", edits)
    assert "no file of prompts" in error("--prompts", tmp_path / "none.txt")
    assert "epochs=0, updates=0: nothing would be trained" in error("--epochs", 0, "--updates", 0)
    sees = tmp_path / "sees"
    sees.mkdir()
    (sees / "config.json").write_text('{"model_type": "clip"}')
    assert "is a clip model, which continues no text" in error("--base", sees)
    monkeypatch.setitem(sys.modules, "trl", None)
    assert "train-rewriter needs TRL, datasets and peft: pip install 'glyphlab[judges-train]'" in error()
    monkeypatch.undo()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert cli.main(line(run, writer, tmp_path / "out")) == 2
    assert "is a folder with other files in it" in capsys.readouterr().err


def test_a_stopped_training_of_other_settings_is_refused(
    run: Path, writer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = RewriterPlan(str(run), str(writer), tmp_path / "out", settings=RewriterSettings(rate=1e-3, micro=2))
    begin(plan.out, plan.facts(fingerprint(find_model(str(run), "", None, "a").folder)))
    assert cli.main(line(run, writer, plan.out)) == 2
    said = capsys.readouterr().err
    assert "of other settings: " in said and "rate was 0.001, is 2e-05" in said and "micro" not in said


def finished_rewriter(writer: Path, folder: Path) -> Path:
    """A rewriter that has learned nothing."""
    shutil.copytree(writer, folder)
    (folder / "rewriter.json").write_text(RewriterCard("", Rules(most_tokens=8)).to_json({}))
    return folder


def test_sample_uses_a_rewriter_or_completes_by_rule(
    run: Path, writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_rewriter(writer, tmp_path / "rewriter")
    words = ["sample", str(run), SIGN.text, "--rewriter", str(folder), "--steps", "2", "-o"]
    assert cli.main([*words, str(tmp_path / "a.png")]) == 0
    said = capsys.readouterr().err
    assert "the rewrite is not used, it" in said and f"rewritten as: {WHOLE}" in said
    assert cli.main(["sample", str(run), WHOLE, "--steps", "2", "-o", str(tmp_path / "b.png")]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    better = WHOLE.replace("black", "white")
    monkeypatch.setattr("experiments.rewriting.rewriter.written", lambda model, tokenizer, prompts, *_: [
        (better, True) for _ in prompts
    ])  # fmt: skip
    assert cli.main([*words, str(tmp_path / "c.png")]) == 0
    assert f"rewritten as: {better}\n" in capsys.readouterr().err
    assert cli.main(["sample", str(run), better, "--steps", "2", "-o", str(tmp_path / "d.png")]) == 0
    images = [(tmp_path / f"{name}.png").read_bytes() for name in "acd"]
    assert images[1] == images[2] != images[0]
    assert cli.main(["sample", str(run), "a", "--rewriter", str(run), "-o", str(tmp_path / "e.png")]) == 2
    assert f"there is no rewriter in {run}" in capsys.readouterr().err
    (folder / "rewriter.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        read_card(folder)
    (folder / "rewriter.json").write_text(RewriterCard("", RULES).to_json({"format": 2}))
    with pytest.raises(ValueError, match="is of format 2"):
        read_card(folder)


def test_files_of_prompts_are_sampled_as_rewritten_and_scored_as_asked(
    run: Path, writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_rewriter(writer, tmp_path / "rewriter")
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": SIGN.text, "text": "OPEN"}) + "\n")
    better = WHOLE.replace("black", "white")
    monkeypatch.setattr("experiments.rewriting.rewriter.written", lambda *_: [(better, True)])
    words = ["sample", str(run), "--prompts", str(tmp_path / "p.jsonl"), "--steps", "2"]
    assert cli.main([*words, "--rewriter", str(folder), "-o", str(tmp_path / "with")]) == 0
    captions = json.loads((tmp_path / "with" / "images" / "captions.jsonl").read_text())
    assert captions["prompt"] == SIGN.text and captions["rewrite"] == better
    request = Request(tmp_path / "p.jsonl", rewriter=rewriter_of(folder)).requests(find_model(str(run)))
    assert request.prompts[0].prompt.text == SIGN.text and request.prompts[0].sampled == better, "scored as asked for"
    settings = json.loads((tmp_path / "with" / "settings.json").read_text())
    assert len(settings["rewriter"]) == 16
    assert cli.main([*words, "-o", str(tmp_path / "with")]) == 2
    assert "holds images of another" in capsys.readouterr().err
    assert cli.main(["evaluate", str(run), "--rewriter", str(folder)]) == 2
    assert "--rewriter is for a file of prompts" in capsys.readouterr().err
    (tmp_path / "q.jsonl").write_text(json.dumps({"prompt": better, "text": "OPEN"}) + "\n")
    words[3] = str(tmp_path / "q.jsonl")
    assert cli.main([*words, "-o", str(tmp_path / "plain")]) == 0
    one, other = (read_png(tmp_path / name / "images" / "00000_0.png") for name in ("with", "plain"))
    assert np.array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_a_training_that_was_killed_becomes_the_same_rewriter(
    rank: int, stage: str, run: Path, writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert cli.main(line(run, writer, whole, "--rank", rank)) == 0
    assert "written:" in capsys.readouterr().out
    from transformers import Trainer

    step, calls = Trainer.training_step, []
    after = {"sft": 5, "grpo": json.loads((whole / "rewriter.json").read_text())["losses"].__len__() + 3}[stage]

    def killed(self: Trainer, *arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return step(self, *arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", killed)
        assert cli.main(line(run, writer, cut, "--rank", rank)) == 130
    assert list((cut / "training" / stage).glob("checkpoint-*")) and not (cut / "rewriter.json").exists()
    assert cli.main(line(run, writer, cut, "--rank", rank)) == 0
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (whole, cut))
    start = load_file(writer / "model.safetensors")
    assert ours.keys() == theirs.keys() == start.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert any(not torch.equal(value, start[name]) for name, value in ours.items())
    assert not (whole / "training").exists() and "| GRPO |" in (whole / "model_card.md").read_text()
    rows = [json.loads(row) for row in (whole / "rewrites.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and all(row["GRPO"]["text"] for row in rows)
    content = json.loads((whole / "rewriter.json").read_text())
    assert content["reward"] == "brisque" and len(content["rewards"]) == 4 and len(content["model"]) == 16
    assert rewrite(whole, [SIGN])[0].text == WHOLE or not rewrite(whole, [SIGN])[0].fault
    assert cli.main(line(run, writer, whole)) == 0 and "holds a finished rewriter" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(run: Path, writer: Path, tmp_path: Path) -> None:
    losses = {}
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks), "-m",
                   "experiments.cli", *line(run, writer, out, "--micro", 4)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=os.environ, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        content = json.loads((out / "rewriter.json").read_text())
        losses[ranks] = content["losses"]
        assert len(content["rewards"]) == 4
    assert len(losses[1]) == len(losses[2]) > 3 and np.allclose(losses[1], losses[2], atol=1e-3)
