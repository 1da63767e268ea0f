"""What a reward has seen is found again: in mixtures, under other ids, re-encoded; splits stay what was asked."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.cli import main
from experiments.reward_models.compare_rewards import compare_rewards
from experiments.reward_models.comparison_plan import ComparisonPlan
from experiments.reward_models.train_reward import train_reward
from preference_data.comparisons import Comparison, load, plain_words, split, to_jsonl
from preference_data.pixels import pixel_hash
from preference_data.records import Prompt, text_id
from rewards.comparison.checks.hygiene import Seen, hygiene, words_hash
from rewards.comparison.checks.likeness import alike, perceptual_hash
from rewards.comparison.checks.probes import WORDS, rendered_lines
from rewards.comparison.score_table import build
from rewards.learned.model_card import agreement_with_others
from rewards.learned.reward import HELD_OUT, learned_in, training_of
from rewards.learned.reward_settings import TrainReward
from rewards.parse import named_rewards
from tests.fixtures.simulated_taste import simulate, write


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(answers, the folder of a reward that was trained on them)."""
    folder = tmp_path_factory.mktemp("leaks")
    pairs = write(simulate(240, seed=3), folder)
    train_reward(pairs, folder / "reward", "pixels", TrainReward(heads=0, decays=(0.1,), folds=3))
    return pairs, folder / "reward"


def leaks(pairs: Path, rewards: str, out: Path, held_out: Path | None = None) -> tuple[dict, list[str]]:
    said: list[str] = []
    compare_rewards(ComparisonPlan(pairs, rewards, out, probe_images=0, held_out=held_out), said.append)
    report = json.loads((out / "comparison.json").read_text())
    return report, said


def test_a_mixture_leaks_what_its_parts_leak_and_is_compared_on_what_they_held_out(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    pairs, reward = trained
    names = f"1.0*learned:{reward}+0.001*brisque"
    assert len(learned_in(next(iter(named_rewards(names).values())))) == 1
    report, said = leaks(pairs, names, tmp_path / "a")
    held = load(reward / HELD_OUT)
    assert any(f"compared on the {len(held)} of 240 answers" in line for line in said)
    assert report["hygiene"]["leaks"][0]["prompts"] == report["hygiene"]["leaks"][0]["pictures"] == 0
    assert report["hygiene"]["answers"] == len(held)
    assert {c.left.sha256 for c in held} <= {p.stem for p in (pairs.parent / "pictures").iterdir()}
    assert all((reward / c.left.path).exists() for c in held)  # the paths are those from the reward's folder
    (reward / HELD_OUT).rename(tmp_path / "held.jsonl")  # as a reward of an older version
    try:
        report, _ = leaks(pairs, names, tmp_path / "b")
    finally:
        (tmp_path / "held.jsonl").rename(reward / HELD_OUT)
    assert report["hygiene"]["leaks"][0]["prompts"] > 0
    assert "void" in json.dumps(report["advice"]) and not report["advice"]["uses"][0]["reward"]


def test_other_ids_and_one_changed_pixel_are_the_same_prompts_and_pictures(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    pairs, reward = trained
    (tmp_path / "pictures").mkdir()
    renamed: dict[str, str] = {}
    for file in (pairs.parent / "pictures").iterdir():
        pixels = np.asarray(Image.open(file).convert("RGB")).copy()
        pixels[0, 0, 0] ^= 1
        sha = pixel_hash(pixels.transpose(2, 0, 1))
        renamed[file.stem] = sha
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{sha}.png")

    def moved(c: Comparison) -> Comparison:
        left, right = (replace(i, sha256=renamed[i.sha256], path=f"pictures/{renamed[i.sha256]}.png")
                       for i in (c.left, c.right))  # fmt: skip
        text = f"  {c.prompt.text.upper()}."
        return replace(c, prompt=Prompt("other-" + c.prompt.id, text, ()), left=left, right=right)

    (tmp_path / "answers.jsonl").write_text(to_jsonl([moved(c) for c in load(pairs)]))
    report, _ = leaks(tmp_path / "answers.jsonl", f"learned:{reward}", tmp_path / "o")
    row = report["hygiene"]["leaks"][0]
    seen = training_of(reward)
    assert row["prompts"] == len(seen.prompts) and row["alike"] == row["pictures"] >= len(seen.images)


def test_an_id_that_two_prompts_have_joins_neither_them_nor_their_answers(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    """Two files whose ids count from 0, put together: the same images were shown for both texts."""
    found = load(trained[0])
    one, other = (replace(found[0], prompt=Prompt("0", text, ())) for text in ("a fox", "a whale"))
    (tmp_path / "a.jsonl").write_text(to_jsonl([one, other, one, other]))
    again = load(tmp_path / "a.jsonl")
    assert [(c.prompt.id, c.prompt.text) for c in again[:2]] == [("0", "a fox"), (text_id("a whale"), "a whale")]
    table = build(again, {"r": np.zeros(4)})
    assert len(table.left_N) == 2 and len(set(table.prompt_N)) == 2
    seen = Seen(frozenset({"0"}), frozenset(), frozenset({words_hash("a steam train")}))
    of_another = hygiene([one], build([one], {"r": np.zeros(2)}), {"r": seen}, {})
    assert of_another["leaks"][0]["prompts"] == 0  # of that file the id is known, and not the prompt
    by_id = hygiene([one], build([one], {"r": np.zeros(2)}), {"r": Seen(seen.prompts, seen.images)}, {})
    assert by_id["leaks"][0]["prompts"] == 1  # where no words were recorded


def test_a_reencoding_looks_alike_and_another_word_does_not() -> None:
    drawn = [rendered_lines([word], (96, 192), 40, seed) for seed in range(20) for word in (*WORDS, "GARDFN", "C0FFEE")]
    looks = np.array([perceptual_hash(image) for image in drawn])
    for image in drawn[::7]:
        for quality in (95, 85):
            file = io.BytesIO()
            Image.fromarray(image.transpose(1, 2, 0)).save(file, format="JPEG", quality=quality)
            again = np.asarray(Image.open(file)).transpose(2, 0, 1)
            assert alike(perceptual_hash(again)[None], perceptual_hash(image)[None])[0]
    wrong = sum(bool(alike(looks[i : i + 1], np.delete(looks, i, 0))[0]) for i in range(len(looks)))
    assert wrong / len(looks) <= 0.02  # of images that differ by one letter at least, on the same ground


def test_a_row_with_another_hash_or_size_is_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    pairs, _ = trained
    found = load(pairs)
    for wrong, said in ((replace(found[0].left, sha256="0" * 64), "hash"), (replace(found[0].left, width=7), "7 x")):
        odd = [replace(found[0], left=replace(wrong, path=found[0].left.path)), *found[1:]]
        file = pairs.parent / f"odd-{said[:1]}.jsonl"
        file.write_text(to_jsonl(odd))
        for run in (
            lambda file=file: train_reward(file, tmp_path / "r", "pixels", TrainReward(heads=0)),
            lambda file=file: compare_rewards(ComparisonPlan(file, "brisque", tmp_path / "o", probe_images=0)),
        ):
            with pytest.raises(ValueError, match=said):
                run()


@pytest.mark.parametrize("given", ["scores", "judged"])
def test_given_scores_and_answers_too_are_about_the_pictures_of_the_rows(
    trained: tuple[Path, Path], tmp_path: Path, given: str
) -> None:
    """An image that is not there is no mistake, for such scores need none; one with other pixels is."""
    pairs, _ = trained
    found = load(pairs)
    (tmp_path / "s.csv").write_text(
        "sha256,a\n" + "".join(f"{sha},{k % 7}\n" for k, sha in enumerate({c.left.sha256 for c in found}))
    )
    (tmp_path / "j.jsonl").write_text(to_jsonl([replace(c, annotator="machine:j") for c in found]))
    own = {"scores": tmp_path / "s.csv"} if given == "scores" else {"judged": tmp_path / "j.jsonl"}
    last = found[-1]
    for wrong, said in (
        (replace(last.right, sha256="0" * 64), "hash"), (replace(last.right, width=7), "7 x"),
        (replace(last.right, height=9), "x 9"), (replace(last.right, path=last.left.path), "hash"),
    ):  # fmt: skip
        file = pairs.parent / "wrong.jsonl"
        file.write_text(to_jsonl([*found[:-1], replace(last, right=wrong)]))
        with pytest.raises(ValueError, match=said):
            compare_rewards(ComparisonPlan(file, "", tmp_path / "o", **own))
        assert not (tmp_path / "o" / "comparison.json").exists()
    (tmp_path / "answers.jsonl").write_text(to_jsonl(found))  # no image is beside it
    compare_rewards(ComparisonPlan(tmp_path / "answers.jsonl", "", tmp_path / "o", **own))
    assert (tmp_path / "o" / "comparison.json").exists()


def test_the_command_compares_on_the_file_that_it_is_given(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, reward = trained
    found, held = load(pairs), load(reward / HELD_OUT)
    some = tmp_path / "some.jsonl"  # sides exchanged, paths of another folder, and a pair that --pairs has not
    turn = {"left": "right", "right": "left"}
    mine = [replace(c, left=replace(c.right, path="x.png"), right=c.left, outcome=turn.get(c.outcome, c.outcome))
            for c in found[:40]]  # fmt: skip
    some.write_text(to_jsonl([*mine, *simulate(8, seed=77).comparisons]))
    common = ["compare-rewards", "--pairs", str(pairs), "--probe-images", "0", "-o", str(tmp_path / "o")]
    assert main([*common, "--rewards", "brisque", "--held-out", str(some)]) == 0
    report = json.loads((tmp_path / "o/comparison.json").read_text())
    assert report["hygiene"]["answers"] == 40 and "compared on the 40 of 240" in capsys.readouterr().out
    assert main([*common, "--rewards", "brisque"]) == 0  # neither given nor trained on: all of them
    assert json.loads((tmp_path / "o/comparison.json").read_text())["hygiene"]["answers"] == 240
    # what was given comes before what the reward held out, and a leak in it is named
    assert main([*common, "--rewards", f"learned:{reward}", "--held-out", str(some)]) == 0
    report = json.loads((tmp_path / "o/comparison.json").read_text())
    left = {(c.prompt.id, c.left.sha256, c.right.sha256) for c in held}
    assert any((c.prompt.id, c.left.sha256, c.right.sha256) not in left for c in found[:40])
    assert report["hygiene"]["answers"] == 40 and report["hygiene"]["leaks"][0]["prompts"] > 0
    some.write_text(to_jsonl(simulate(8, seed=77).comparisons))
    capsys.readouterr()
    assert main([*common, "--rewards", "brisque", "--held-out", str(some)]) == 2
    assert "holds no decided answer about the pairs of" in capsys.readouterr().err
    assert main([*common, "--rewards", "brisque", "--held-out", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err


def test_prompts_with_the_same_words_stay_together() -> None:
    assert plain_words("  A red FOX.") == plain_words("a red\u200b fox") and plain_words("C++") != plain_words("C")
    assert plain_words("?!") == "?!"
    found = simulate(400, seed=5).comparisons
    twice = [replace(c, prompt=replace(c.prompt, id=f"{c.prompt.id}-{k}", text=c.prompt.text.upper() if k else
                                       c.prompt.text)) for k, c in enumerate(found)]  # fmt: skip
    for seed in range(5):
        part = split(twice, (0.15, 0.85), seed)
        sides = [{plain_words(c.prompt.text) for c, k in zip(twice, part, strict=True) if k == s} for s in (0, 1)]
        images = [{i for c, k in zip(twice, part, strict=True) if k == s for i in (c.left.sha256, c.right.sha256)}
                  for s in (0, 1)]  # fmt: skip
        assert not sides[0] & sides[1] and not images[0] & images[1]


def test_a_split_is_no_larger_than_asked_whatever_the_islands() -> None:
    base = simulate(120, seed=1, per_prompt=6).comparisons
    one = [c for c in base if c.prompt.id == base[0].prompt.id]
    rest = [c for c in base if c.prompt.id != base[0].prompt.id][:100]
    large = one * (900 // len(one)) + rest
    for seed in range(60):
        part = split(large, (0.15, 0.85), seed)
        assert 0 < part.count(0) / len(part) <= 0.2
    with pytest.raises(ValueError, match="all about one prompt"):
        split(one * 20, (0.15, 0.85), 0)
    with pytest.raises(ValueError, match="largest has 900, all about one prompt"):
        split(large, (0.5, 0.5), 0)  # no part stays empty, and one would be nine tenths instead of a half
    shared = [replace(c, left=base[0].left) for c in base if base[0].left.sha256 != c.right.sha256]
    with pytest.raises(ValueError, match="more prompts cannot help while they share"):
        split(shared, (0.15, 0.85), 0)


def test_agreement_of_thousands_is_counted_once() -> None:
    base = simulate(40, seed=1).comparisons[0]
    said = [replace(base, annotator=f"human:{k}", outcome="left" if k % 4 else "right") for k in range(4000)]
    start = time.process_time()
    found = agreement_with_others(said)
    assert time.process_time() - start < 2.0  # person by person it takes minutes
    assert found["human:1"] == (2999, 3999) and found["human:0"] == (999, 3999)
    machines = [replace(base, annotator=f"machine:{k}", outcome="left") for k in range(3)]
    mixed = agreement_with_others([*machines, *said])
    assert {who: mixed[who] for who in found} == found and mixed["machine:1"] == (3000, 4000)
    assert agreement_with_others(machines) == {f"machine:{k}": (2, 2) for k in range(3)}
