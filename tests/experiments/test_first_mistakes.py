"""What a newcomer types wrong is said in one line, before anything is written."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from base_model.sample import Sampler
from experiments.cli import main
from experiments.configs import nano
from experiments.record.environment import revision
from experiments.training.start_from import open_model


def refused(capsys: pytest.CaptureFixture[str], *line: object) -> str:
    assert main([str(part) for part in line]) == 2
    return capsys.readouterr().err


def test_sample_refuses_what_it_cannot_draw(tmp_path, capsys):
    assert "the prompt is empty" in refused(capsys, "sample", tmp_path, " ", "-o", tmp_path / "x.png")
    assert "name a .png file" in refused(capsys, "sample", tmp_path, "A", "-o", tmp_path / "x.jpg")
    assert "there is no folder" in (text := refused(capsys, "sample", tmp_path / "nope", "A")) and "resume" not in text


@pytest.mark.parametrize("preset", ["medium", "sd35_medium", "large", "qwen_image"])
def test_a_preset_without_its_text_encoder_is_refused_at_once(preset):
    with pytest.raises(ValueError, match=r"text encoder of Qwen2\.5-VL.*--base"):
        open_model(replace(nano.pretrain, preset=preset), None)


def test_an_image_in_the_clone_is_no_change_of_the_code(tmp_path):
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)

    (tmp_path / "code.py").write_text("a = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    (Path(tmp_path) / "out.png").write_bytes(b"image")
    assert (revision(tmp_path) or {})["dirty"] is False
    (tmp_path / "code.py").write_text("a = 2\n")
    assert (revision(tmp_path) or {})["dirty"] is True


def test_a_second_train_says_that_the_run_is_finished(tmp_path, capsys, monkeypatch):
    from experiments.training import launch
    from experiments.training.runner import open_record

    open_record(nano.pretrain, tmp_path / "run", None)
    state = (tmp_path / "run" / "run.json").read_text()
    (tmp_path / "run" / "run.json").write_text(state.replace('"created"', '"finished"'))
    monkeypatch.setattr(launch, "train", lambda experiment, folder, parent: folder / "report.html")
    folder = str(tmp_path / "run")
    assert main(["train", "nano_pretrain", "-o", folder]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"already finished: {folder}; nothing is trained again\n")
    assert f"go on from its model: glyphlab train nano_pretrain --parent {folder} --out" in out
    assert f"start anew: name another folder with --out, or remove {folder} first" in out


def test_a_reader_that_has_enough_is_no_error():
    import sys

    line = f"{sys.executable} -m experiments.cli plan qwen_grpo_lora --gpus 8 | head -c 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True)
    assert "Broken pipe" not in done.stderr and done.returncode in (0, 120)


def test_help_of_no_command_names_the_nearest(capsys):
    assert "did you mean train?" in refused(capsys, "trian", "--help")
    assert "`glyphlab --help` lists" in refused(capsys, "nonsense", "-h")


@pytest.mark.parametrize(("wrong", "right"), [("nano_stf", "nano_sft"), ("nano_grop", "nano_grpo")])
def test_a_misspelt_experiment_names_the_nearest(wrong, right, capsys):
    assert f"did you mean {right}?" in refused(capsys, "train", wrong)


def test_a_size_is_refused_where_a_run_draws(tmp_path, capsys):
    text = refused(capsys, "sample", tmp_path, "the word A", "--size", 512, 256)
    assert "--size 512 256" in text and "leave --size out" in text


def test_a_prompt_unlike_the_captions_is_told(tmp_path, capsys, monkeypatch):
    from experiments.evaluation import sample_run

    monkeypatch.setattr(sample_run, "model_folder", lambda run, stage: run)
    monkeypatch.setattr(sample_run, "load_model", lambda *_: SimpleNamespace(keeps_base=False, sampler=Sampler()))
    monkeypatch.setattr(sample_run, "sample_prompt", lambda model, prompt, *rest: prompt)
    monkeypatch.setattr(sample_run, "write_images", lambda pictures, out: pictures)
    for prompt, unlike in (("an elephant on a bike", True), ("the word GLYPH", False)):
        drawn = sample_run.sample_to_file(tmp_path, prompt, 0, tmp_path / "x.png", 1.0, 2, 1)
        told = capsys.readouterr().err
        assert f"drawn as: {drawn}" in told and ("unlike the captions" in told) is unlike

    def refuse(*given):
        raise ValueError("there is no such letter")

    monkeypatch.setattr(sample_run, "sample_prompt", refuse)
    with pytest.raises(ValueError, match="no such letter"):
        sample_run.sample_to_file(tmp_path, "the word A", 0, tmp_path / "x.png", 1.0, 2, 1)
    assert not capsys.readouterr().err


def test_an_early_ctrl_c_names_the_same_command_again(tmp_path, capsys, monkeypatch):
    from experiments.training import launch

    def stop(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "train", stop)
    folder = tmp_path / "run"
    line = ["train", "nano_pretrain", "-o", str(folder)]
    assert main(line) == 130
    assert f"go on with: glyphlab {' '.join(line)}" in capsys.readouterr().err
    folder.mkdir()
    (folder / "run.json").write_text('{"status": "running"}')
    assert main(line) == 130
    assert f"go on with: glyphlab resume {folder}" in capsys.readouterr().err


def test_fields_are_named_only_where_there_are_some():
    from preference_data.comparisons import comparison_from_json
    from preference_data.records import prompt_from_json

    with pytest.raises(ValueError, match="lacks") as lacking:
        comparison_from_json({"prompt": {}, "left": {}})
    with pytest.raises(ValueError, match="has the unknown colour") as unknown:
        prompt_from_json({"id": "a", "text": "b", "spans": [], "colour": 1})
    assert "nothing" not in f"{lacking.value}{unknown.value}" and "lacks" not in str(unknown.value).split(";")[0]


def test_a_misspelt_backbone_ends_its_sentence():
    from rewards.learned.backbones import parse

    with pytest.raises(ValueError, match=r"no backbone 'resnet'\. There are"):
        parse("resnet")


def test_a_sweep_counts_in_words():
    from experiments.studies.sweep import counted

    assert (counted(1, "seed"), counted(3, "seed"), counted(0, "seed")) == ("1 seed", "3 seeds", "0 seeds")


@pytest.fixture
def trained(monkeypatch):
    """What `train` would train, without training it."""
    from experiments.training import launch

    given = []
    monkeypatch.setattr(launch, "train", lambda experiment, folder, parent: given.append(experiment) or folder / "r")
    monkeypatch.setattr(launch, "conclude", lambda folder, report, judged: [])
    return given


def test_a_file_of_few_prompts_is_used_whole_unless_a_count_is_asked_for(tmp_path, capsys, trained):
    from experiments.evaluation.prompts_of_plan import make_prompts
    from experiments.studies.sweep import grid

    file = tmp_path / "mine.txt"
    file.write_text("".join(f'a sign "W{i}"\n' for i in range(10)))
    line = ["train", "nano_grpo", "-o", str(tmp_path / "run"), "--prompts.file", str(file)]
    assert main(line) == 0
    assert f"{file} has 10 prompts: all of them are used, instead of 2000" in capsys.readouterr().out
    assert main([*line, "--prompts.count", "4"]) == 0 and main([*line, "--prompts.count=11"]) == 0
    assert [experiment.prompts.count for experiment in trained] == [10, 4, 11]
    with pytest.raises(ValueError, match=r"has 10 prompts and 11 are asked for; lower prompts\.count"):
        make_prompts(trained[2].prompts)
    assert [e.prompts.count for e in grid(nano.grpo, [f"prompts.file={file}"]).values()] == [10]


@pytest.mark.parametrize("experiment", [nano.grpo, nano.dpo], ids=["prompts", "pairs.prompts"])
def test_prompts_that_pairs_are_drawn_for_are_counted_too(experiment, tmp_path):
    from experiments.evaluation.prompts_of_plan import fitted

    file = tmp_path / "mine.txt"
    file.write_text('a "A"\na "B"\n')
    where = "prompts" if experiment.prompts else "pairs"
    plan = experiment.prompts or experiment.pairs.prompts
    own = replace(plan, file=str(file))
    given = replace(experiment, **{where: own if where == "prompts" else replace(experiment.pairs, prompts=own)})
    small, said = fitted(given, ())
    assert (small.prompts or small.pairs.prompts).count == 2 and len(said) == 1
    setting = "prompts.count" if where == "prompts" else "pairs.prompts.count"
    assert fitted(given, {setting}) == (given, [])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "No such file or directory", "a/b.txt"), "there is no file or folder a/b.txt; check"),
        (FileExistsError(17, "File exists", "runs/x"), "runs/x exists already and is in the way; name another"),
        (NotADirectoryError(20, "Not a directory", "f/x"), "f/x cannot be reached: a part of it is a file"),
        (IsADirectoryError(21, "Is a directory", "runs"), "runs is a folder and a file is needed"),
        (PermissionError(13, "Permission denied", "/root/x"), "you may not read or write /root/x; change"),
        (OSError(28, "No space left on device", "w.bin"), "the disk is full, so w.bin cannot be written; make room"),
        (OSError(5, "Input/output error", "w.bin"), "w.bin: Input/output error"),
        (OSError(28, "No space left on device"), "the disk is full; make room"),
        (FileNotFoundError("weights is not set"), "weights is not set"),
        (ValueError("bad"), "bad"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(error, words, capsys, monkeypatch):
    from experiments import cli

    def fail(arguments):
        raise error

    monkeypatch.setattr(cli, "parsed", fail)
    status = main(["report"])
    text = capsys.readouterr().err
    assert text.startswith(f"glyphlab: {words}") and "Errno" not in text
    assert status == (2 if isinstance(error, ValueError | FileNotFoundError) else 1)


def test_a_missing_file_and_a_file_in_the_way_name_the_path(tmp_path, capsys):
    assert f"no file or folder {tmp_path / 'no.jsonl'}" in refused(
        capsys, "compare-rewards", "--pairs", tmp_path / "no.jsonl", "--rewards", "brisque", "-o", tmp_path / "o"
    )


def test_no_reward_judges_before_all_have_their_weights(tmp_path, capsys, monkeypatch):
    from experiments.reward_models import compare_rewards
    from tests.fixtures.simulated_taste import simulate, write

    monkeypatch.setattr(compare_rewards, "score", lambda *given: pytest.fail("judged"))
    pairs = write(simulate(6, seed=2), tmp_path)
    text = refused(capsys, "compare-rewards", "--pairs", pairs, "--rewards", "brisque,pickscore", "-o", tmp_path / "o")
    assert "pickscore needs a folder" in text and "--reward pickscore:weights=yuvalkirstain/PickScore_v1," in text


def test_weights_are_looked_for_one_reward_at_a_time():
    from experiments.reward_models.compare_rewards import require_weights

    alive, most, loaded = set(), [], []

    class Loaded:
        def __init__(self, name: str) -> None:
            self.name = name
            alive.add(name)
            most.append(len(alive))

        def __del__(self) -> None:
            alive.discard(self.name)

    class Large:
        def __init__(self, name: str) -> None:
            self.name = name

        def load(self, device: str = "cpu") -> Loaded:
            loaded.append(self.name)
            return Loaded(self.name)

    require_weights({name: Large(name) for name in "abc"})
    assert loaded == ["b", "c"] and max(most) == 1 and not alive


def test_a_comparison_says_how_many_images_are_new():
    from experiments.reward_models.compare_rewards import _to_do

    assert _to_do("ocr", 58, 58) == "ocr: judging 58 images"
    assert _to_do("ocr", 8, 58) == "ocr: judging 8 images; 50 are known already"
    assert _to_do("ocr", 0, 58) == "ocr: the scores of all 58 images are known already"


def test_a_doctor_looks_for_the_run_before_it_imports_what_is_slow(tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "experiments.evaluation.doctor", None)
    assert f"there is no folder {tmp_path / 'none'}; check how" in refused(capsys, "doctor", tmp_path / "none")
    assert f"{tmp_path} is not a run: it has no run.json" in refused(capsys, "doctor", tmp_path)


@pytest.mark.parametrize(
    ("line", "words", "silent"),
    [
        (
            "train nano_sft --algorithm.steps 2k",
            "--algorithm.steps: a whole number is wanted, such as 48; '2k' is not",
            "",
        ),
        ("write -o w --size 48 48px", "--size: a whole number is wanted, such as 48; '48px' is not one", "'48'"),
        (
            "sample p x --size 48px 48",
            "--size: a whole number is wanted, such as 48; '48px' is not one",
            "instantiated",
        ),
        ("sample p x --steps 2k", "--steps: a whole number is wanted, such as 48; '2k' is not one", "instantiated"),
        ("plan a --share x", "--share: a number is wanted, such as 0.5; 'x' is not one", "float:"),
        ("write -o w --size 48", "Missing value for argument '--size'. Expected 2 values.", ""),
        ("sample p --prompt x", "the prompt is written without an option: glyphlab sample RUN", "evaluate"),
        ("sample p --prompt x", "--prompts FILE\n        instead of a prompt", "--per-prompt"),
        ("campaign create", "glyphlab: Missing", ""),
        ("train", "`glyphlab list experiments` names them all", ""),
    ],
)
def test_a_wrong_option_is_said_in_words_with_the_help_of_its_own_command(line, words, silent, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        main(line.split())
    text = capsys.readouterr().err
    assert end.value.code == 2 and text.startswith("glyphlab: ") and words in text and "│" not in text
    assert not silent or silent not in text
    name = line.split()[: 2 if line.startswith(("campaign", "train ")) else 1]
    assert text.endswith(f"see glyphlab {' '.join(name)} --help\n")


def test_a_box_of_a_terminal_is_taken_apart_too():
    from experiments.commands.arguments import plain_words

    box = (
        "\x1b[31m╭─ Value error ──────────╮\x1b[0m\n│ \x1b[1mError parsing --count:\x1b[0m invalid literal │\n"
        "│ for int() with base 10: '2k' │\n│ ──────── │\n│ Argument helptext: │\n│     --count INT │\n│ ──────── │\n"
        "│ For full helptext, see glyphlab --help │\n╰──────────╯\n"
    )
    said = "glyphlab: --count: a whole number is wanted, such as 48; '2k' is not one\n    --count INT\n"
    assert plain_words(box, "write") == f"{said}see glyphlab write --help\n"
    assert plain_words("no box\n", "write") == "no box\n" and plain_words("", "write") == ""
