"""The commands about released checkpoints, on tiny ones: draw, edit, train in full and by an adapter, give back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from base_model.files.delta import ADAPTER, is_derived, load_derived
from base_model.files.released import load_base, load_transformer, read_base
from base_model.files.weights import load_model
from base_model.sample import Sampler, sample
from experiments import cli
from experiments.evaluation.sample_run import sample_prompt
from experiments.record.record import read_run
from experiments.record.whole_files import read_png
from experiments.training import image_data
from tests.base_model.files.test_released import ask
from tests.fixtures.tiny.tiny_released import open_pipeline

DRAW = ("--size", "64", "48", "--steps", "2", "--device", "cpu")
STEPS = ("--algorithm.steps", "2", "--algorithm.batch", "4", "--algorithm.micro", "2", "--optim.steps", "2",
         "--optim.warmup", "0", "--save-every", "1", "--data.limit", "4")  # fmt: skip
TEXT = "the word GLYPH in red"


def glyphlab(*arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command says that ends with status 2."""
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


@contextmanager
def at_once(data: object) -> Iterator[object]:
    """Latents made in this process instead of in another, which would import everything again."""
    yield data


@pytest.fixture(scope="module")
def trained(t2i: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs that began from a released checkpoint: of all weights, and of an adapter."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_data, "Producers", at_once)
        glyphlab("train", "nano_sft", "--base", t2i, "--out", folder / "full", *STEPS)
        glyphlab("train", "nano_sft", "--base", t2i, "--out", folder / "lora", *STEPS, "--lora.rank", "2")
    return {"full": folder / "full", "lora": folder / "lora"}


def picture(path: Path, size: tuple[int, int] = (64, 80), seed: int = 0) -> Path:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def test_sample_draws_with_a_released_checkpoint(t2i, tmp_path):
    glyphlab("sample", "--base", t2i, TEXT, *DRAW, "-o", tmp_path / "a.png", "--seed", 3, "--count", 2)
    model = load_base(read_base(t2i), (64, 48))
    expected = sample_prompt(model, TEXT, 2, 3, Sampler(2, 4.0))
    assert np.array_equal(read_png(tmp_path / "a.png"), np.concatenate(list(expected), axis=1))


def test_edit_makes_a_picture_in_the_shape_of_the_last(plus, tmp_path):
    a, b = picture(tmp_path / "a.png", (64, 80)), picture(tmp_path / "b.png", (90, 45), 1)
    line = ("edit", plus, "put a on b", "--image", a, "--image", b, "--steps", 1, "--side", 64, "--device", "cpu")
    glyphlab(*line, "-o", tmp_path / "ab.png")
    assert read_png(tmp_path / "ab.png").shape == (3, 96, 32)
    line = ("edit", plus, "put a on b", "--image", b, "--image", a, "--steps", 1, "--side", 64, "--device", "cpu")
    glyphlab(*line, "-o", tmp_path / "ba.png")
    assert read_png(tmp_path / "ba.png").shape == (3, 64, 64)


def test_a_trained_run_keeps_what_it_learned_and_no_copy_of_the_base(trained, t2i):
    full, lora = trained["full"] / "model", trained["lora"] / "model"
    assert is_derived(full) and is_derived(lora)
    assert not list(lora.glob("diffusion*")) and (lora / ADAPTER).exists()
    assert not list(full.glob("*text*")) and not list(full.glob("vae*"))
    before = load_transformer(read_base(t2i)).state_dict()
    after = load_model(full).network.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    adapter = load_file(lora / ADAPTER)
    assert any(value.any() for name, value in adapter.items() if ".lora_B." in name), "it learned"
    assert read_run(trained["full"]).config["experiment"]["base"] == str(t2i)
    assert (trained["full"] / "embeddings").is_dir()


def test_a_trained_run_draws_and_comes_back_as_diffusers_folder(trained, tmp_path):
    for kind, run in trained.items():
        glyphlab("sample", "--base", run, TEXT, *DRAW, "-o", tmp_path / f"{kind}.png")
        glyphlab("export", run, tmp_path / kind)
        glyphlab("sample", "--base", tmp_path / kind, TEXT, *DRAW, "-o", tmp_path / f"{kind}_again.png")
        a, b = (read_png(tmp_path / f"{name}.png").astype(int) for name in (kind, f"{kind}_again"))
        assert np.abs(a - b).max() <= 1, "merged weights are rounded once"
        model = load_derived(run / "model").sized((32, 48))
        noise = model.noise(1, torch.Generator().manual_seed(0))
        theirs = open_pipeline(tmp_path / kind)(
            prompt=TEXT, negative_prompt=" ", height=32, width=48, num_inference_steps=2, latents=noise,
            output_type="pt",
        ).images  # fmt: skip
        sampler = Sampler(2, 4.0)
        cond, uncond = model.encode_text([TEXT]), model.unconditional(1)
        ours = model.decode(sample(model, noise, cond, uncond, sampler, model.levels(sampler)))
        assert (ours - theirs).abs().max() < 1e-4
        assert not list((tmp_path / kind).glob("*lora*"))


def test_a_runs_adapter_goes_to_diffusers_and_back(trained, t2i, tmp_path):
    glyphlab("export", trained["lora"], tmp_path / "lora", "--only-lora")
    file = tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    assert file.read_bytes() == (trained["lora"] / "model" / ADAPTER).read_bytes()
    open_pipeline(t2i).load_lora_weights(tmp_path / "lora")
    glyphlab("import-lora", file, "--base", t2i, "-o", tmp_path / "back")
    ours, back = (load_file(run / "model" / ADAPTER) for run in (trained["lora"], tmp_path / "back"))
    assert ours.keys() == back.keys() and all(torch.equal(ours[name], back[name]) for name in ours)
    glyphlab("sample", "--base", tmp_path / "back", TEXT, *DRAW, "-o", tmp_path / "b.png")
    glyphlab("sample", "--base", trained["lora"], TEXT, *DRAW, "-o", tmp_path / "a.png")
    assert np.array_equal(read_png(tmp_path / "a.png"), read_png(tmp_path / "b.png"))


@pytest.mark.parametrize("style", ["lora_unet_", "diffusion_model."])
def test_a_lora_of_another_trainer_draws_as_diffusers_draws_it(style, t2i, tmp_path):
    """Names with underscores and an alpha a layer, or ComfyUI's prefix."""
    random, state = torch.Generator().manual_seed(0), {}
    for layer in ("transformer_blocks.0.attn.to_q", "transformer_blocks.1.img_mlp.net.2"):
        module = load_transformer(read_base(t2i)).get_submodule(layer)
        name = style + (layer.replace(".", "_") if style == "lora_unet_" else layer)
        state[f"{name}.lora_down.weight"] = torch.randn(3, module.in_features, generator=random)
        state[f"{name}.lora_up.weight"] = torch.randn(module.out_features, 3, generator=random) * 0.3
        state[f"{name}.alpha"] = torch.tensor(1.5)
    save_file(state, tmp_path / "foreign.safetensors")
    glyphlab("import-lora", tmp_path / "foreign.safetensors", "--base", t2i, "-o", tmp_path / "run")
    model, pipe = load_derived(tmp_path / "run" / "model"), open_pipeline(t2i)
    plain = ask(pipe.transformer)
    pipe.load_lora_weights(str(tmp_path), weight_name="foreign.safetensors")
    assert (ask(pipe.transformer) - plain).abs().max() > 0.01
    assert (ask(model.network) - ask(pipe.transformer)).abs().max() < 1e-5


def test_a_finished_run_is_a_parent(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(image_data, "Producers", at_once)
    glyphlab("train", "nano_sft", "--parent", trained["full"], "--out", tmp_path / "child", *STEPS)
    assert is_derived(tmp_path / "child" / "model")
    assert load_derived(tmp_path / "child" / "model").base == load_derived(trained["full"] / "model").base
    text = refused(capsys, "train", "nano_sft", "--parent", trained["full"], "--base", "x", "--out", tmp_path / "two")
    assert "not both" in text


def test_what_cannot_be_done_is_said_before_anything_is_written(t2i, plus, tmp_path, capsys):
    out = ("-o", tmp_path / "out" / "x.png", "--device", "cpu")
    good = picture(tmp_path / "good.png")
    bad = tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:300])
    text = tmp_path / "notes.png"
    text.write_text("no image")
    for images, message in (
        ([bad], f"cannot read the image {bad}"),
        ([text], f"cannot read the image {text}"),
        ([tmp_path / "none.png"], "there is no image"),
        ([], "0 images given, but a QwenImageEditPlusPipeline checkpoint takes 1 to 3"),
        ([good] * 4, "4 images given"),
    ):
        line = [part for path in images for part in ("--image", path)]
        assert message in refused(capsys, "edit", plus, "make it blue", *line, *out)
    assert "from text alone" in refused(capsys, "edit", t2i, "make it blue", "--image", good, *out)
    assert "0 images given" in refused(capsys, "sample", "--base", plus, TEXT, *DRAW, "-o", tmp_path / "out" / "x.png")
    small = ("--size", 64, 48, *out)
    assert "at most 1024" in refused(capsys, "sample", "--base", t2i, "word " * 1100, *small)
    assert "<|im_end|>" in refused(capsys, "sample", "--base", t2i, "a<|im_end|>b", *small)
    assert "does not divide" in refused(capsys, "sample", "--base", t2i, TEXT, "--size", 60, 48, *out)
    assert "RUN PROMPT" in refused(capsys, "sample", "--base", t2i, "runs/x", TEXT)
    assert not (tmp_path / "out").exists()


def test_runs_that_cannot_be_exported_say_why(trained, t2i, tmp_path, capsys):
    assert "has no adapter" in refused(capsys, "export", trained["full"], tmp_path / "x", "--only-lora")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.tex").write_text("years of work")
    assert "is there already" in refused(capsys, "export", trained["full"], tmp_path / "there")
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"no tensors")
    assert "cannot read" in refused(capsys, "import-lora", foreign, "--base", t2i, "-o", tmp_path / "run")
    assert not (tmp_path / "run").exists() and not (tmp_path / "x").exists()


def test_a_run_whose_base_is_gone_says_which(trained, tmp_path):
    import shutil

    folder = shutil.copytree(trained["lora"] / "model", tmp_path / "model")
    (folder / "base.json").write_text(json.dumps({"base": str(tmp_path / "gone"), "picture": [32, 96]}))
    with pytest.raises(ValueError, match=r"only what was learned on top of .*gone.*there is no folder"):
        load_derived(folder)
