"""What a run of another family is refused before anything is loaded, and what it starts from."""

from __future__ import annotations

import copy
import io
import json
import math
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from alignment.dpo import Dpo
from base_model.families.open_checkpoint import open_checkpoint
from base_model.files.delta import save_derived
from base_model.lora import Lora, add_adapter
from base_model.pretrain import Pretrain
from base_model.sample import Sampler
from experiments import cli
from experiments.configs import CONFIGS
from experiments.experiment import PairPlan, PromptPlan
from experiments.images.image_sources import ImageSources
from experiments.progress import Progress
from experiments.record.record import read_run
from experiments.training import launch, start_from
from experiments.training.start_from import open_model, require_startable, without_base
from tests.fixtures.tiny.tiny_families import save_pipeline

pytest.importorskip("diffusers")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline("sd3", tmp_path_factory.mktemp("base") / "sd3")


@pytest.fixture(scope="module")
def run(sd3: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of an adapter."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    model = open_checkpoint(sd3, (64, 96))
    add_adapter(model.network, Lora(32, 64.0))
    save_derived(model, folder / "model")
    return folder


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        ((60, 90), "48 x 80 and 64 x 96"),
        ((8, 64), "16 x 64"),
        ((64, 100), "64 x 96 and 64 x 112"),
        ((0, 64), "16 x 64"),
    ],
)
def test_a_size_is_refused_before_scorers_and_weights_are_loaded(
    size: tuple[int, int], nearest: str, sd3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(launch, "ScorerPool", None)
    (tmp_path / "p.txt").write_text('the word "A"\n')
    line = ("--base", sd3, "--size", *size, "--prompts.file", tmp_path / "p.txt", "--out", tmp_path / "run")
    assert cli.main(["train", "sd35m_grpo_lora", *map(str, line)]) == 2
    error = capsys.readouterr().err
    assert f"{size[0]}x{size[1]} does not divide" in error and f"the nearest sizes are {nearest}\n" in error


def test_ranks_that_share_weights_are_not_left_waiting_for_one_another(
    tmp_path: Path, sd3: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Qwen-Image 2.1 is asked once for every length of a prompt, and weights are gathered in every call at stage 3."""
    base = save_pipeline("qwen_image_21", tmp_path / "qwen21")
    shared = replace(CONFIGS["qwen21_grpo_lora"], base=str(base), size=(64, 64), engine="deepspeed", zero_stage=3)
    with pytest.raises(ValueError, match=r"8 ranks .*QwenImage21Pipeline.*--zero-stage 2"):
        require_startable(shared, None, 8)
    for other, ranks in ((shared, 1), (replace(shared, zero_stage=2), 8), (replace(shared, base=str(sd3)), 8)):
        require_startable(other, None, ranks)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(launch, "ScorerPool", None)
    with pytest.raises(ValueError, match="for ever"):
        launch.train(shared, tmp_path / "run", None)


def test_samples_and_losses_are_given_one_guidance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FLUX.1-dev reads it as a number, also under DiffusionNFT, which asks for no guided velocity."""
    model = open_checkpoint(save_pipeline("flux1_dev", tmp_path / "flux1"), (64, 64), cache=tmp_path / "rows")
    monkeypatch.setattr(start_from, "starting_model", lambda *_: copy.copy(model))
    flux1 = replace(CONFIGS["flux1_nft_lora"], base=model.checkpoint, size=(64, 64), lora=Lora())
    lower = replace(flux1, algorithm=replace(flux1.algorithm, sampler=Sampler(6, 2.0)))
    made = replace(flux1, algorithm=Dpo(2), pairs=PairPlan(PromptPlan(1, 1), sampler=Sampler(6, 2.5)))
    images = replace(flux1, algorithm=Pretrain(2), data=ImageSources(folder=("images",)))
    expected = [(flux1, 3.5), (lower, 2.0), (made, 2.5), (replace(made, embedded_guidance=1.0), 1.0), (images, 3.5),
                (replace(images, embedded_guidance=1.0), 1.0)]  # fmt: skip
    for experiment, guidance in expected:
        cond = open_model(experiment, None).encode_text(["a"])
        assert cond.more_B["scale"].tolist() == [guidance]
    with pytest.raises(ValueError, match=r"samples at guidance 2 and would learn at embedded_guidance=3\.5"):
        open_model(replace(lower, embedded_guidance=3.5), None)


def test_a_parent_alone_says_what_a_stage_starts_from(run: Path, sd3: Path, tmp_path: Path) -> None:
    recipe = CONFIGS["sd35m_grpo_lora"]
    assert recipe.base and without_base(recipe, None) is recipe
    assert without_base(recipe, tmp_path) is recipe, "which began from nothing released"
    child = replace(without_base(recipe, run), size=(64, 96))
    assert child.base == "" and open_model(child, run, None, "cpu").checkpoint == str(sd3)
    with pytest.raises(ValueError, match="48 x 80 and 64 x 96"):
        require_startable(replace(child, size=(60, 90)), run, 1)
    with pytest.raises(ValueError, match="not both"):
        open_model(recipe, run)


def test_a_parent_with_another_base_typed_is_still_refused(
    run: Path, sd3: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr("experiments.training.launch.train", lambda experiment, *_: started.append(experiment.base))
    monkeypatch.setattr("experiments.training.launch.conclude", lambda *_: [])
    for base in ([], ["--base", str(sd3)]):
        cli.main(["train", "sd35m_grpo_lora", "--parent", str(run), "--out", str(tmp_path / "x"), *base])
    assert started == ["", str(sd3)]
    capsys.readouterr()


@pytest.mark.slow
def test_a_checkpoint_is_opened_without_advice_of_others(sd3: Path, tmp_path: Path) -> None:
    line = [
        "sample",
        "--base",
        str(sd3),
        "a red fox",
        "--steps",
        "2",
        "--size",
        "64",
        "96",
        "-o",
        str(tmp_path / "a.png"),
    ]
    done = subprocess.run([sys.executable, "-m", "experiments.cli", *line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "torchvision" not in done.stderr and "kernels" not in done.stderr, done.stderr


def learning(base: Path, prompts: Path, run: Path, *more: object) -> list[str]:
    """The arguments of two updates of GRPO with an adapter."""
    line = (
        "train", "sd35m_grpo_lora", "--base", base, "--prompts.file", prompts, "--out", run, "--algorithm.steps", 2,
        "--algorithm.group", 2, "--algorithm.micro", 2, "--algorithm.sampler.steps", 6, "--lora.rank", 2, "--reward",
        "brisque", "--size", 64, 96, *more,
    )  # fmt: skip
    return [str(argument) for argument in line]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_two_ranks_make_images_of_several_sizes(sd3: Path, tmp_path: Path, stage: int) -> None:
    """Ranks with other sizes than each other call the network equally often, also where they put its weights together
    in every call."""
    pytest.importorskip("deepspeed")
    sizes = [(64, 96), (96, 64), None, (64, 64), None, (32, 32)]
    rows = [
        {"prompt": f'the word "{text}"'} | ({"height": size[0], "width": size[1]} if size else {})
        for text, size in zip("ABCDEF", sizes, strict=True)
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    more = ("--prompts.count", 6, "--algorithm.prompts", 3, "--zero-stage", stage, "--no-evaluate")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "experiments.cli")
    line = learning(sd3, tmp_path / "p.jsonl", tmp_path / "run", *more)
    done = subprocess.run([sys.executable, *launcher, *line], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = read_run(tmp_path / "run").metrics
    assert [each["ratio_gap_first"] for each in metrics] == [0.0, 0.0] and metrics[0]["kl"] == 0.0
    assert all(math.isfinite(each["loss"]) for each in metrics)


@pytest.mark.slow
def test_two_nodes_train_it(sd3: Path, tmp_path: Path) -> None:
    """The form of docs/how-to/several_gpus.md: the same command on both, which find one another at an endpoint."""
    pytest.importorskip("deepspeed")
    (tmp_path / "p.txt").write_text('the word "A"\nthe word "B"\n')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    launcher = ("-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d",
                "--rdzv_endpoint", endpoint, "--rdzv_id", "tiny", "-m", "experiments.cli")  # fmt: skip
    line = learning(sd3, tmp_path / "p.txt", tmp_path / "run", "--algorithm.prompts", 1)
    command = [sys.executable, *launcher, *line]
    nodes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    told = [node.communicate(timeout=600)[0].decode()[-3000:] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], told
    metrics = read_run(tmp_path / "run").metrics
    assert [each["ratio_gap_first"] for each in metrics] == [0.0, 0.0]
    assert sum((tmp_path / "run").name in text and "report" in text for text in told) == 1, "rank 0 alone tells"


def test_no_time_is_foretold_that_nobody_measured() -> None:
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    bar = Progress({"one": 60.0 * CONFIGS["sd35m_grpo_lora"].minutes}, screen)
    with bar.stage("one", 4):
        bar.note("encoding")
        assert bar.remaining() == "?"
        bar.advance(2, {})
        assert bar.remaining() == "0:00"
    assert "whole run: ? left" in screen.getvalue()
