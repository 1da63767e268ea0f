"""The command line: quick help, clear mistakes, and every option reaching what it is for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from base_model.sample import Sampler
from experiments import cli
from experiments.experiment import MonitorPlan
from experiments.record.whole_files import write_png
from preference_data.pairs import save
from preference_data.records import ImageRef, PreferencePair, Prompt, Provenance
from rewards.reward_table import REWARDS
from rewards.scores import Scores, View
from tests.fixtures.made_up_run import make_single

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "quickstart",
    "train",
    "sweep",
    "resume",
    "sample",
    "evaluate",
    "report",
    "score",
    "serve-rewards",
    "pairs",
    "doctor",
    "train-reward",
    "compare-rewards",
    "campaign",
    "account",
    "edit",
    "export",
    "import-lora",
    "evaluate-vae",
    "export-vae",
    "plan",
    "evaluate-edits",
    "ablate",
    "study",
    "annotate",
    "list",
)
HEAVY = ("torch", "numpy", "PIL", "onnxruntime", "paddleocr", "diffusers", "transformers", "deepspeed",
         "scipy", "statsmodels", "pandas")  # fmt: skip


def help_text(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--help"])
    assert ended.value.code == 0
    return re.sub(r"[│\s]+", " ", capsys.readouterr().out)


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What stderr says about a wrong command line; it exits with 2."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    code = (
        "import sys\nfrom experiments.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print('loaded', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0 and "loaded []" in text
    assert all(command in text for command in COMMANDS)
    # processor time: on a machine that is busy with something else the clock measures that instead
    assert used.ru_utime + used.ru_stime < 1.0, f"--help took {used.ru_utime + used.ru_stime:.2f} s of processor time"


@pytest.mark.parametrize(
    "command",
    [
        *COMMANDS,
        "pairs from-scores",
        "pairs show",
        "pairs import",
        "pairs export",
        "campaign create",
        "campaign list",
        "campaign status",
        "campaign open",
        "campaign close",
        "campaign export",
        "ablate editing",
        "ablate positions",
    ],
)
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text(capsys, *command.split())
    if command not in ("pairs", "campaign", "account", "ablate", "study"):
        assert f"Example: glyphlab {command}" in text


def test_options_of_sample_say_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text(capsys, "sample")
    for option in ("--seed", "--out", "-o", "--guidance", "--steps", "--count", "--stage"):
        assert option in text
    assert "the same seed gives the same image (default: 0)" in text


def test_misspelt_commands_and_options_name_what_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sampel", "run", "prompt"]) == 2 and "did you mean sample?" in capsys.readouterr().err
    assert "--seed" in mistake(capsys, "sample", "run", "prompt", "--sead", "3")
    assert cli.main(["sample"]) == 2 and "RUN PROMPT" in capsys.readouterr().err


@dataclass
class Calls:
    """Stands in for a function: remembers what it was called with, and does what it is told."""

    answer: object = None
    error: BaseException | None = None
    got: tuple[object, ...] = ()

    def __call__(self, *arguments: object) -> object:
        self.got = arguments
        if self.error is not None:
            raise self.error
        return self.answer


Stand = Callable[[str, str, Calls], Calls]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Put a stand-in where a command imports its implementation from."""

    def put(module: str, name: str, calls: Calls) -> Calls:
        monkeypatch.setattr(f"{module}.{name}", calls)
        return calls

    return put


def test_options_reach_the_implementation(stand_in: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    draw = stand_in("experiments.evaluation.sample_run", "sample_to_file", Calls(Path("out.png")))
    line = [
        "sample",
        "runs/a",
        "the word A in red",
        "--seed",
        "7",
        "-o",
        "out.png",
        "--guidance",
        "1.5",
        "--steps",
        "4",
    ]
    assert cli.main([*line, "--count", "2", "--stage", "sft"]) == 0
    assert draw.got == (Path("runs/a"), "the word A in red", 7, Path("out.png"), 1.5, 4, 2, "sft")
    quick = stand_in("experiments.quickstart.quickstart", "quickstart", Calls(Path("report.html")))
    assert cli.main(["quickstart"]) == 0 and quick.got == (Path("runs/quickstart"), None, 0)
    assert cli.main(["quickstart", "--seed", "2"]) == 0 and quick.got == (Path("runs/quickstart"), None, 2)
    assert "report: report.html" in capsys.readouterr().out
    resume = stand_in("experiments.resume", "resume", Calls(Path("report.html")))
    conclude = stand_in("experiments.training.launch", "conclude", Calls(["came out"]))
    assert cli.main(["resume", "runs/b"]) == 0 and resume.got == (Path("runs/b"),)
    assert conclude.got == (Path("runs/b"), Path("report.html"), True) and "came out" in capsys.readouterr().out
    assert cli.main(["resume", "runs/b", "--no-evaluate"]) == 0 and conclude.got[2] is False
    pairs = stand_in("experiments.reward_models.score_folder", "pairs_from_run", Calls(Path("p.jsonl")))
    stand_in("experiments.reward_models.score_folder", "pairs_lines", Calls(["3 pairs"]))
    assert cli.main(["pairs", "from-scores", "runs/c", "--group", "4", "--min-margin", "0.1", "-o", "x"]) == 0
    assert pairs.got == (Path("runs/c"), Path("x"), "ocr", 240, 4, 0.1, 0)


def test_settings_of_an_experiment_are_options(stand_in: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    from experiments.configs import nano

    launch = stand_in("experiments.training.launch", "train", Calls(Path("report.html")))
    conclude = stand_in("experiments.training.launch", "conclude", Calls([]))
    line = ["train", "nano_sft", "--algorithm.steps", "7", "--optim.adamw-lr", "1e-5", "--parent", "runs/p"]
    assert cli.main(line) == 0
    experiment, folder, parent = launch.got
    assert (folder, parent) == (Path("runs/nano_sft"), Path("runs/p"))
    assert experiment.algorithm.steps == 7 and experiment.optim.adamw_lr == 1e-5  # type: ignore[attr-defined]
    assert experiment.data == nano.sft.data, "what was not given stays"  # type: ignore[attr-defined]
    assert cli.main(["train", "nano_sft"]) == 0
    assert launch.got == (nano.sft, Path("runs/nano_sft"), None)
    assert conclude.got == (Path("runs/nano_sft"), Path("report.html"), True)
    assert cli.main(["train", "nano_sft", "--no-evaluate"]) == 0 and conclude.got[2] is False
    assert cli.main([*line, "--monitors.every", "9", "--monitors.sampler.steps=4"]) == 0
    watched = launch.got[0].monitors  # type: ignore[attr-defined]
    assert watched == MonitorPlan(every=9, sampler=Sampler(steps=4)), "naming a setting of a group asks for the group"
    capsys.readouterr()
    assert "--monitors.every" in mistake(capsys, "train", "nano_sft", "--monitors.everi", "7")
    assert "--algorithm.steps" in mistake(capsys, "train", "nano_sft", "--algorithm.stepz", "7")
    assert "--algorithm.steps INT" in help_text(capsys, "train", "nano_sft")


def test_unknown_experiment_lists_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "nano_stf"]) == 2
    assert "nano_stf" in (text := capsys.readouterr().err) and "nano_sft" in text


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("count=0: ask for one"), 2), (FileNotFoundError("no run"), 2), (FloatingPointError("loss = nan"), 1)],
)
def test_mistakes_are_one_line(
    error: Exception, status: int, stand_in: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in("experiments.evaluation.sample_run", "sample_to_file", Calls(error=error))
    assert cli.main(["sample", "runs/a", "p"]) == status
    captured = capsys.readouterr()
    assert captured.err == f"glyphlab: {error}\n" and captured.out == ""
    with pytest.raises(type(error)):
        cli.main(["sample", "runs/a", "p", "--traceback"])


def test_defects_are_not_taken_for_mistakes(stand_in: Stand) -> None:
    stand_in("experiments.evaluation.sample_run", "sample_to_file", Calls(error=RuntimeError("a defect")))
    with pytest.raises(RuntimeError, match="defect"):
        cli.main(["sample", "runs/a", "p"])


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        (["quickstart"], "glyphlab resume runs/quickstart"),
        (["quickstart", "-o", "my runs/q"], "glyphlab resume 'my runs/q'"),
        (["resume", "runs/x"], "glyphlab resume runs/x"),
        (["train", "nano_sft", "--parent", "runs/p"], "glyphlab resume runs/nano_sft"),
        (["train", "nano_sft", "--out", "runs/y", "--parent", "runs/p"], "glyphlab resume runs/y"),
    ],
)
def test_ctrl_c_says_how_to_go_on(
    line: list[str],
    advice: str,
    stand_in: Stand,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/quickstart", "my runs/q", "runs/x", "runs/nano_sft", "runs/y"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text('{"status": "running"}')
    stopped = Calls(error=KeyboardInterrupt())
    for module, name in (
        ("quickstart.quickstart", "quickstart"),
        ("resume", "resume"),
        ("training.launch", "train"),
    ):
        stand_in(f"experiments.{module}", name, stopped)
    assert cli.main(line) == 130
    assert advice in capsys.readouterr().err


def test_doctor_fails_when_a_check_fails(stand_in: Stand, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True)
    class Check:
        name: str
        passed: bool
        detail: str

    good, bad = Check("ratio", True, "1"), Check("loss", False, "0.7 instead of log 2")
    stand_in("experiments.evaluation.doctor", "doctor", Calls([good, good]))
    run = str(make_single(tmp_path / "a"))
    assert cli.main(["doctor", run]) == 0
    stand_in("experiments.evaluation.doctor", "doctor", Calls([good, bad]))
    assert cli.main(["doctor", run]) == 1
    out = capsys.readouterr().out
    assert "FAILED  loss: 0.7 instead of log 2" in out and "1 of 2 checks failed" in out


def test_report_of_one_and_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = make_single(tmp_path / "a"), make_single(tmp_path / "b")
    assert cli.main(["report", str(first), "-o", str(tmp_path / "one.html")]) == 0
    assert (tmp_path / "one.html").exists() and not (first / "report.html").exists()
    assert cli.main(["report", str(first)]) == 0 and (first / "report.html").exists()
    assert not (tmp_path / "comparison.html").exists()
    assert cli.main(["report", str(first), str(second)]) == 0 and (tmp_path / "comparison.html").exists()
    assert cli.main(["report"]) == 2 and cli.main(["report", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err


class MadeUpScorer:
    """Scores an image by its mean and cannot judge prompts without spans."""

    name = "made_up:mean"

    def __call__(self, prompts: list[Prompt], images_B3HW: np.ndarray) -> Scores:
        assert images_B3HW.dtype == np.float32 and images_B3HW.max() <= 1.0
        value_B = images_B3HW.reshape(len(prompts), -1).mean(1).astype(np.float64).round(3)
        known = np.array([bool(p.spans) for p in prompts])
        value_B[~known] = np.nan
        return Scores(value_B, {"mean": value_B.copy()}, {"no_spans": int((~known).sum())} if not known.all() else {})


@dataclass(frozen=True)
class MadeUp:
    range = (0.0, 1.0)

    def sees(self, height: int, width: int) -> View:
        return View(0.5, height, width // 2, "the left half")

    def load(self, device: str = "cpu") -> MadeUpScorer:
        return MadeUpScorer()


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(REWARDS, "made_up", MadeUp)
    for i, (name, height) in enumerate((("a", 8), ("b", 8), ("c", 12))):
        write_png(tmp_path / f"{name}.png", np.full((3, height, 16), i * 51, dtype=np.uint8))
    (tmp_path / "a.txt").write_text("the word A\nin red\n")
    (tmp_path / "captions.jsonl").write_text(
        '{"picture": "b.png", "prompt": "the word B"}\n{"picture": "c.png", "prompt": "a cat"}\n'
    )
    return tmp_path


def test_score_writes_a_table_for_people_and_machines(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["score", str(pictures), "--reward", "made_up"]) == 0
    out = capsys.readouterr().out
    assert "mean 0.100 over 2 images (made_up:mean)" in out
    assert "it sees 50% of the first image, at 8x8 pixels: the left half" in out and " ms an image" in out
    assert "1 could not be judged and count nowhere: 1 no_spans" in out
    assert (pictures / "scores.csv").read_text() == (
        "picture,prompt,score,mean,read\na.png,the word A in red,0.0,0.0,\nb.png,the word B,0.2,0.2,\nc.png,a cat,,,\n"
    )
    content = json.loads((pictures / "scores.json").read_text())
    assert [row["score"] for row in content["rows"]] == [0.0, 0.2, None]
    assert content["reward"] == "made_up:mean" and content["unjudged"] == {"no_spans": 1}


def test_score_says_what_is_missing(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def complaint(*more: str) -> str:
        assert cli.main(["score", str(pictures), "--reward", "made_up", *more]) == 2
        return capsys.readouterr().err

    assert cli.main(["score", str(pictures), "--reward", "orc"]) == 2
    assert "did you mean ocr" in capsys.readouterr().err
    (pictures / "a.txt").unlink()
    assert "a.png has no prompt; put it into a.txt or a line of captions.jsonl" in complaint()
    (pictures / "captions.jsonl").write_text('{"picture": "b.png", "prompt": "the word B"}\n')
    assert "captions.jsonl; 1 more of 3 images have none: c.png" in complaint()
    (pictures / "captions.jsonl").write_text('{"picture": "z.png", "prompt": "the word Z"}\n')
    assert "'z.png'" in complaint()
    (pictures / "captions.jsonl").write_text('{"picture": "a.png"}\n')
    assert "line 1" in complaint()
    assert cli.main(["score", str(pictures / "none"), "--reward", "made_up"]) == 2
    assert f"there is no folder {pictures / 'none'}; check how" in capsys.readouterr().err
    assert cli.main(["score", str(pictures / "a.png"), "--reward", "made_up"]) == 2
    assert "a folder of images is needed, and" in capsys.readouterr().err


def test_pairs_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Provenance("m", "", 0, 10, 1.0, "run", 0)
    refs = [ImageRef(f"{i:064x}", f"pictures/{i}.png", 96, 32, made) for i in range(4)]
    pairs = [
        PreferencePair(Prompt.from_text(f"the word {w}"), refs[2 * i], refs[2 * i + 1], "machine:ocr", 0.25 + i, "left")
        for i, w in enumerate(("ONE", "TWO"))
    ]
    save(pairs, tmp_path / "pairs.jsonl")
    assert cli.main(["pairs", "show", str(tmp_path / "pairs.jsonl"), "--count", "1"]) == 0
    out = capsys.readouterr().out
    assert "pairs: 2, prompts: 2" in out and "decided by machine:ocr: 2" in out and "0.250 to 1.250" in out
    assert "the word ONE: pictures/0.png beats pictures/1.png by 0.250" in out and "the word TWO" not in out


def test_a_stage_that_a_run_does_not_have_is_named_with_those_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in ("sft", "dpo"):
        (tmp_path / "run" / stage).mkdir(parents=True)
        (tmp_path / "run" / stage / "run.json").write_text("{}")
    (tmp_path / "run" / "run.json").write_text("{}")
    (tmp_path / "run" / "evaluation").mkdir()  # no stage, though a folder of the run
    for asked in ("sftt", "evaluation"):
        assert cli.main(["sample", str(tmp_path / "run"), "the word A in red", "--stage", asked]) == 2
        said = capsys.readouterr().err
        assert f"has no stage '{asked}'; it has dpo, sft" in said and "resume" not in said
    assert cli.main(["sample", str(tmp_path / "run"), "the word A in red", "--stage", "sft"]) == 2
    assert f"glyphlab resume {tmp_path / 'run'}" in capsys.readouterr().err, (
        "a stage that is there is only not finished"
    )
