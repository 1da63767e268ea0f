"""The quickstart in miniature: what it leaves, and interrupted in every stage against the same run left alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from base_model.files.checkpoint import latest, save_atomically, verify
from base_model.files.weights import load_model
from experiments.configs import nano_taste
from experiments.evaluation.doctor import doctor
from experiments.evaluation.prompts_of_plan import OPEN, make_prompts
from experiments.quickstart import taste_summary
from experiments.quickstart.quickstart import MAIN_LINE, SIDE_LINE, TasteChain, adopt_decoder, quickstart, reward_of
from experiments.record.record import RunRecord, read_run
from experiments.record.whole_files import model_identity, plain
from experiments.resume import resume
from preference_data import comparisons, pairs
from rewards.learned.reward import learned_in
from tests.fixtures.tiny.tiny_taste import tiny_taste

MEASURED = {"seconds", "total_seconds", "decoder_seconds", "peak_memory_mb"}
STAGES = ("decoder", *taste_summary.STAGES)
GOLDEN = Path(__file__).parent / "golden" / "tiny_taste.json"


def start(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fixtures.tiny.tiny_run", str(folder), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)


def scores(value: object) -> object:
    """A summary without what was measured by a clock or a memory meter."""
    if isinstance(value, dict):
        return {name: scores(item) for name, item in value.items() if name not in MEASURED}
    return value


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("alone") / "quickstart"
    done = start(folder)
    assert done.returncode == 0, done.stderr
    return folder


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def status(folder: Path) -> str:
    return read_run(folder).status if (folder / "run.json").exists() else "absent"


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_run(folder).metrics if "loss" in line]


def check_it_goes_on(folder: Path, alone: Path) -> None:
    """Finish the run, which then is the one that was left alone."""
    done = start(folder)
    assert done.returncode == 0, done.stderr
    assert scores(summary(folder)) == scores(summary(alone))
    for stage in STAGES:
        assert losses(folder / stage) == losses(alone / stage)


def interrupt(folder: Path, stage: str, updates: str, name: str) -> None:
    done = start(folder, "--die-in", stage, updates, name)
    assert done.returncode != 0, "it should have been interrupted"
    while any(status(folder / each) == "running" for each in ("decoder", *SIDE_LINE)):
        time.sleep(0.1)  # the process beside needs a moment to see that it is alone


def updates_left(folder: Path, stage: str) -> int:
    """How many updates a stage still has to make; two stages run at a time, and one may be far when the other dies."""
    if status(folder / stage) == "finished":
        return 0
    last = latest(folder / stage / "checkpoints") if (folder / stage / "checkpoints").exists() else None
    return tiny_taste().stage(stage).algorithm.steps - (int(last.name.rpartition("_")[2]) if last else 0)


def test_every_stage_is_judged_in_both_languages_by_both_engines(alone):
    result = summary(alone)
    assert set(result["stages"]) == set(taste_summary.STAGES) and result["headline"]
    for name, row in result["stages"].items():
        kinds = {"open", "captions"} | ({"open_guided", "captions_guided"} if name in ("pretrain", "nft") else set())
        for language in taste_summary.LANGUAGES:
            assert set(row[language]) == kinds
            for own in row[language].values():
                assert own["prompts"] == 3
                for engine in ("exact", "gold_exact"):
                    low, high = own[f"{engine}_ci"]
                    assert 0 <= low <= own[engine] <= high <= 1
        assert {"win", "win_ci", "utility", "obeyed", "diversity"} <= set(row)
    assert result["stages"]["pretrain"]["win"] == 0.5
    assert set(result["without_training"]) == {"guidance", "saying it"}
    clean = [result["renderings"][language] for language in taste_summary.LANGUAGES]
    assert all(one["exact"] == one["gold_exact"] == 1 and one["prompts"] == 3 for one in clean), "nothing is in the way"
    assert 0 < result["peak_memory_mb"] < 3072


def test_the_report_says_that_people_are_simulated_and_shows_both_languages_first(alone):
    page = (alone / "report.html").read_text()
    head = page[: page.index("<h2")]
    assert "Simulated people" in head and head.count("data:image/png;base64,") >= 8
    assert "ink near blue" in page and "broke" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_answers_reward_and_tuning_come_from_the_same_pairs(alone):
    answers = comparisons.load(alone / "answers" / "answers.jsonl")
    assert len(answers) == 60 and all(one.prompt.category == (OPEN,) for one in answers)
    assert len(pairs.load(alone / "dpo" / "pairs.jsonl")) == 60 and (alone / "dpo" / "latents.safetensors").exists()
    assert json.loads((alone / "reward" / "reward.json").read_text())["backbone"] == "pixels"


def test_nobody_judges_who_has_answered():
    who = nano_taste.answers.people, nano_taste.answers.seed
    from experiments.preferences.simulated_people import people

    answered, judge = people(*who), people(nano_taste.VOTERS, taste_summary.VOTERS_SEED)
    assert not {one.weights for one in answered} & {one.weights for one in judge}


def test_no_prompt_of_training_is_one_that_is_judged():
    judged = {p.spans[0] for plan in (nano_taste.left_open, nano_taste.captions) for p in make_prompts(plan.prompts)}
    for plan in (nano_taste.answers.prompts, nano_taste.nft.prompts):
        assert plan is not None and not judged & {p.spans[0] for p in make_prompts(plan)}


def seeds_of(settings: object, path: str = "") -> dict[str, int]:
    """Every setting that is called seed, by where it stands."""
    inside = settings.items() if isinstance(settings, dict) else ()
    found: dict[str, int] = {}
    for name, value in inside:
        found |= {path: value} if name == "seed" else seeds_of(value, f"{path}.{name}")
    return found


def test_a_seed_moves_all_of_training_and_nothing_that_judges():
    chain = TasteChain()
    before, after = (seeds_of(plain(each.settings())) for each in (chain, chain.with_seed(2)))
    judging = {path for path in before if path.startswith((".captions", ".left_open"))}
    assert len(before) > 20 and len(judging) == 4 and all(before[path] == after[path] for path in judging)
    assert {after[path] - before[path] for path in set(before) - judging - {""}} == {2000} and after[""] == 2
    assert chain.with_seed(2).with_seed(0) == chain
    with pytest.raises(ValueError, match="seed=-1"):
        chain.with_seed(-1)


def test_what_is_compared_with_nft_learns_as_it_does_and_the_reward_alone_is_held_by_nothing():
    chain = TasteChain()
    assert replace(chain.nft_ocr.algorithm, parts=chain.nft.algorithm.parts) == chain.nft.algorithm
    assert chain.nft.algorithm.needs_reference and not chain.nft_taste.algorithm.needs_reference


def test_a_run_is_resumed_with_its_seed(tmp_path, monkeypatch):
    RunRecord.open(tmp_path / "q", {"quickstart": TasteChain().with_seed(2).settings()})
    monkeypatch.setattr("experiments.resume.quickstart", lambda *got: got)
    assert resume(tmp_path / "q") == (tmp_path / "q", None, 2)


def test_the_decoder_is_the_refined_one_everywhere_and_nothing_but_the_network_moves(alone):
    refined = (alone / "decoder" / "model" / "vae.safetensors").read_bytes()
    assert (alone / "pretrain" / "model" / "vae.safetensors").read_bytes() == refined
    before = load_model(alone / "pretrain" / "model")
    for name in (*MAIN_LINE, *SIDE_LINE):
        after = load_model(alone / name / "model")
        assert any(not a.equal(b) for a, b in zip(before.network.parameters(), after.network.parameters(), strict=True))
        assert all(
            a.equal(b) for a, b in zip(before.vae.state_dict().values(), after.vae.state_dict().values(), strict=True)
        )


def test_the_reward_is_that_of_the_run_wherever_it_lies():
    for name, count in (("nft", 1), ("nft_taste", 1), ("nft_ocr", 0)):
        inside = learned_in(reward_of(TasteChain(), name, Path("elsewhere")))
        assert [(one.path, one.category) for one in inside] == [(Path("elsewhere/reward"), "open")] * count


@pytest.mark.parametrize("stage", STAGES)
def test_losses_are_the_golden_ones(alone, stage):
    """A refactoring leaves these alone. A change of science changes them, and brings a report (CONTRIBUTING.md)."""
    golden = json.loads(GOLDEN.read_text())[stage]
    assert losses(alone / stage) == pytest.approx(golden, rel=2e-3, abs=1e-6)


@pytest.mark.slow
def test_killed_while_it_aligns_it_ends_with_the_same_numbers(alone, tmp_path):
    """From where the answers are there, and nothing is judged yet."""
    folder = tmp_path / "quickstart"
    later = shutil.ignore_patterns(
        *MAIN_LINE, *SIDE_LINE, "evaluation", "captions", "stated", "summary.json", "report.html"
    )
    shutil.copytree(alone, folder, ignore=later)
    settings = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**settings, "status": "interrupted"}))
    interrupt(folder, "nft", "3", "SIGKILL")
    check_it_goes_on(folder, alone)


@pytest.mark.slow
def test_interrupted_in_every_stage_it_ends_with_the_same_numbers(alone, tmp_path):
    plan = [("decoder", "3", "SIGKILL"), ("pretrain", "4", "SIGINT"), ("nft", "3", "SIGKILL"), ("dpo", "1", "SIGKILL"),
            ("nft_taste", "3", "SIGINT"), ("chosen", "3", "SIGKILL"), ("nft_ocr", "1", "SIGINT")]  # fmt: skip
    folder = tmp_path / "quickstart"
    for stage, updates, name in plan:
        left = updates_left(folder, stage)
        if left:
            interrupt(folder, stage, str(min(int(updates), left)), name)
        folder = folder.rename(tmp_path / f"moved after {stage}")
    check_it_goes_on(folder, alone)


def test_a_finished_run_is_left_alone_and_passes_the_doctor(alone):
    weights = alone / "nft" / "model" / "transformer.safetensors"
    before = weights.stat().st_mtime_ns, (alone / "summary.json").read_text()
    quickstart(alone, tiny_taste())
    assert (weights.stat().st_mtime_ns, (alone / "summary.json").read_text()) == before
    by_name = {check.name: check for check in doctor(alone)}
    assert by_name["prompts are like the training captions"].passed
    for stage in ("decoder", "pretrain", "nft", "nft_ocr", "dpo", "chosen"):  # pretrain has another decoder since
        by_name = {check.name: check for check in doctor(alone / stage)}
        assert by_name["the record is whole"].passed and by_name["the model is the run's own"].passed, stage


@pytest.mark.parametrize("died", ["between its two renames", "in an older version, which wrote the file alone"])
def test_the_decoder_is_put_in_place_whatever_was_left(died, tmp_path):
    """Stand-ins of one line for the two models; the run's record names the model that is there in the end."""
    for stage, vae in (("decoder", "refined"), ("pretrain", "own")):
        for name in ("vae.safetensors", "transformer.safetensors"):
            (tmp_path / name).write_text(vae if name[0] == "v" else "network")
        files = list(tmp_path.glob("*.s*"))
        save_atomically(tmp_path / stage / "model", lambda new, own=files: [shutil.copy(f, new) for f in own] and None)
    model = tmp_path / "pretrain" / "model"
    (model.parent / "run.json").write_text('{"model": "another"}')
    if "older" in died:
        (model / "vae.safetensors").write_text("refined")
    else:
        model.rename(model.with_name(".model.replaced"))
    adopt_decoder(tmp_path)
    verify(model)
    assert [(model / f"{name}.safetensors").read_text() for name in ("vae", "transformer")] == ["refined", "network"]
    assert json.loads((model.parent / "run.json").read_text())["model"] == model_identity(model.parent)


def test_other_settings_in_the_same_folder_are_refused(alone):
    tiny = tiny_taste()
    with pytest.raises(ValueError, match="other settings"):
        quickstart(alone, replace(tiny, voters=tiny.voters + 1))
