"""What has a name is listed, quickly, and a name that is misspelt is answered with the nearest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from base_model.train_vae import TrainVAE
from experiments.cli import main
from experiments.commands import listing
from experiments.configs import CONFIGS
from preference_data.exchange.formats.table import FORMATS
from preference_data.spelling import nearest, unknown
from rewards.reward_table import REWARDS

ROOT = Path(__file__).parents[2]


def printed(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    assert main(list(line)) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    assert main(list(line)) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and not captured.out
    return captured.err


def test_every_experiment_has_a_line_in_the_header_of_its_file():
    assert set(listing.experiments()) == set(CONFIGS)


def test_no_experiment_stands_twice_and_none_promises_numbers():
    files = sorted((ROOT / "experiments" / "configs").glob("*.py"))
    rows = re.findall(r"^ {8}(\*?[\w.]+),$", (files[0].parent / "__init__.py").read_text(), re.MULTILINE)
    assert len(rows) > 15 and len(set(rows)) == len(rows)
    assert not [file.name for file in files if "not measured yet" in file.read_text()]


def test_a_line_of_an_experiment_needs_no_other_line_and_says_what_it_starts_from():
    for name, text in listing.experiments().items():
        assert not re.search(r"\bthe same\b(?! \w+ as )", text), f"{name}: {text}"
        algorithm = CONFIGS[name].algorithm
        begins = CONFIGS[name].base or getattr(algorithm, "begins_anew", False) or isinstance(algorithm, TrainVAE)
        assert begins or "--parent" in text or "--base" in text, f"{name} cannot start by itself: {text}"


LISTS = [("experiments", CONFIGS), ("rewards", REWARDS), ("formats", FORMATS), ("benchmarks", ["rollout"])]


@pytest.mark.parametrize(("kind", "names"), LISTS)
def test_each_name_stands_on_a_line_of_its_own_with_what_it_is(kind, names, capsys):
    head, *lines = printed(capsys, "list", kind).splitlines()
    told = dict(line.split(maxsplit=1) for line in lines)
    assert head.startswith(f"{kind} (") and set(names) <= set(told)
    assert all(len(text) > 10 for text in told.values())
    assert kind == "benchmarks" or len(told) == len(names)


def test_all_kinds_are_listed_where_none_is_named(capsys):
    heads = [line.split()[0] for line in printed(capsys, "list").splitlines() if line and not line.startswith(" ")]
    assert heads == ["experiments", "rewards", "filters", "formats", "benchmarks"]
    text = printed(capsys, "list", "formats", "rewards")
    assert 0 < text.index("label-studio") < text.index("rewards (") < text.index("ocr_judge")


def test_listing_imports_no_torch():
    code = "import sys; from experiments.cli import main; main(['list']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


def test_rows_of_a_header_may_go_on_and_other_text_is_none():
    text = (
        "Title.\n\n    nano_a    one\n              and more\n    nano_b*   none\n  nano_c    left\n    A    capital\n"
    )
    rows = [(row["name"], " ".join(row["text"].split())) for row in listing.ROW.finditer(text)]
    assert rows == [("nano_a", "one and more")]


@pytest.mark.parametrize("more", [(), ("--help",), ("-h",), ("x", "y")])
@pytest.mark.parametrize(
    ("line", "near"),
    [
        (("trian",), "train"), (("SAMPLE",), "sample"), (("quickstrat",), "quickstart"), (("lsit",), "list"),
        (("campaign", "creat"), "create"), (("pairs", "shwo"), "show"), (("account", "ad"), "add"),
        (("ablate", "editin"), "editing"),
    ],
)  # fmt: skip
def test_a_misspelt_command_names_the_nearest_whatever_follows(line, near, more, capsys):
    what = "There are " if len(line) > 1 else "`glyphlab --help` lists what there is"
    assert f"did you mean {near}? {what}" in refused(capsys, *line, *more)


@pytest.mark.parametrize(
    ("line", "near"),
    [
        (("train", "nano_stf"), "nano_sft"), (("train", "nano_stf", "--help"), "nano_sft"),
        (("plan", "nano_grp"), "nano_grpo"), (("plan", "nano_grpo", "--card", "h100"), "h100-80gb"),
        (("sweep", "nano_grop"), "nano_grpo"), (("sweep", "nano_grpo,nano_nf"), "nano_nft"),
        (("score", ".", "--reward", "OCR"), "ocr"), (("list", "expriments"), "experiments"),
        (("pairs", "import", "FILE", "a", "--format", "jsnl"), "jsonl"),
        (("pairs", "export", "a", "-o", "b", "--format", "label_studio"), "label-studio"),
        (("campaign", "export", "a", "-o", "b", "--format", "parket"), "parquet"),
    ],
)  # fmt: skip
def test_other_misspelt_names_do_so_too(line, near, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = refused(capsys, *line)
    assert f"did you mean {near}?" in text and len(text) < 250, "the name that was meant is lost among others"
    assert not list(tmp_path.iterdir()), "it left something"


def test_a_name_like_none_lists_what_there_is():
    assert nearest("zzz", ["ocr", "brisque"]) is None
    assert unknown("reward", "zzz", ["ocr", "brisque"]) == "there is no reward 'zzz'. There are ocr, brisque"
    assert (
        unknown("reward", "zzz", ["a"], "glyphlab list")
        == "there is no reward 'zzz'. `glyphlab list` lists what there is"
    )


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_told(option, capsys):
    name, number, *_ = printed(capsys, option).split()
    assert name == "glyphlab" and number[0].isdigit()
