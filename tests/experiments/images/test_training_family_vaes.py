"""`train train_vae --base` with checkpoints of other families: what is refused, and a run from start to export."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from base_model.files.family_vae import open_family_vae, save_family_vae
from experiments import cli
from experiments.configs import CONFIGS
from experiments.evaluation.outcome import outcome_lines
from experiments.evaluation.sample_run import model_folder
from experiments.record.heldout import read_reconstructions
from experiments.training import runner
from experiments.training.start_from import missing, open_vae, require_startable, require_trainable_vae, vae_file
from tests.base_model.files.test_family_vae import vae_alone
from tests.fixtures.tiny.tiny_families import save_pipeline

pytest.importorskip("diffusers")
VAE = CONFIGS["train_vae"]


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vae_alone(tmp_path_factory.mktemp("base") / "sd3")


def test_what_cannot_be_trained_is_refused_before_anything_is_loaded(sd3: Path, tmp_path: Path) -> None:
    require_startable(replace(VAE, base=str(sd3)), None, 1)
    with pytest.raises(ValueError, match="60x90 does not divide"):
        require_startable(replace(VAE, base=str(sd3), size=(60, 90)), None, 1)
    sana: Any = SimpleNamespace(pipeline="SanaPipeline", has_posterior=False, multiple=32, folder=sd3)
    require_trainable_vae(VAE, sana)
    whole = replace(VAE, algorithm=replace(VAE.algorithm, frozen_encoder=False, fine_tune=True))
    with pytest.raises(ValueError, match="gives one latent and no distribution"):
        require_trainable_vae(whole, sana)
    with pytest.raises(ValueError, match="lora and memory"):
        open_vae(replace(VAE, base=str(sd3), lora=replace(VAE.lora, rank=4)), None)
    base = shutil.copytree(sd3, tmp_path / "base")
    (base / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match="fetch the checkpoint again"):
        require_startable(replace(VAE, base=str(base)), None, 1)


def test_an_autoencoder_alone_is_parent_of_its_kind_and_a_changed_encoder_warns(sd3: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    save_family_vae(open_family_vae(sd3), run / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = open_vae(VAE, run)
    frozen = {name.split(".")[1] for name, p in again.named_parameters() if not p.requires_grad}
    assert frozen == {"encoder"}
    with pytest.raises(ValueError, match=r"trained the autoencoder .* `glyphlab export"):
        vae_file(run)
    assert "to start from by --base FOLDER" in missing(run)
    with pytest.raises(ValueError, match=r"trained the autoencoder .* `glyphlab export .*to sample from"):
        model_folder(run)
    with pytest.raises(ValueError, match=r"from base .*sd3 or from parent .*run, not both"):
        require_startable(replace(VAE, base=str(sd3)), run, 1)
    whole = replace(VAE, algorithm=replace(VAE.algorithm, frozen_encoder=False, fine_tune=True))
    with pytest.warns(UserWarning, match="no longer fits them"):
        learned = open_vae(whole, run)
    assert all(p.requires_grad for p in learned.parameters())


def write_images(folder: Path) -> Path:
    """Squares of photographs that scikit-image holds."""
    from skimage import data

    folder.mkdir()
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        pixels = getattr(data, name)()
        for i in range(4):
            Image.fromarray(pixels[40 * i : 40 * i + 160, 60 * i : 60 * i + 160]).save(folder / f"{name}{i}.png")
            (folder / f"{name}{i}.txt").write_text(f"a {name}")
    return folder


def glyphlab(*line: object) -> None:
    assert cli.main([*map(str, line)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd3", "wan", "flux2_klein"])
def test_the_commands_train_the_decoder_of_a_family_and_its_checkpoint_goes_on_with_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, images = save_pipeline(name, tmp_path / name), write_images(tmp_path / "images")
    line = ["train", "train_vae", "--base", base, "--data.folder", images, "--data.heldout", 0.3, "--size", 64, 64,
            "--algorithm.batch", 4, "--algorithm.steps", 12, "--save-every", 4]  # fmt: skip
    glyphlab(*line, "-o", tmp_path / "whole")
    compared = read_reconstructions(tmp_path / "whole")
    assert compared is not None and compared["psnr"]["difference"].value > 0.0
    assert any("PSNR of held-out images: " in each for each in outcome_lines(tmp_path / "whole"))
    rows = json.loads((tmp_path / "whole" / "evaluation" / "heldout_images" / "reconstructions.json").read_text())
    gaps = [row["psnr_after"] - row["psnr_before"] for row in rows["rows"]]
    assert compared["psnr"]["difference"].value == pytest.approx(np.mean(gaps))

    with monkeypatch.context() as patch:
        kept, count = runner.save_checkpoint, [0]

        def stopped(engine: Any, folder: Path) -> None:
            kept(engine, folder)
            count[0] += 1
            if count[0] == 1:
                raise KeyboardInterrupt

        patch.setattr(runner, "save_checkpoint", stopped)
        assert cli.main([*map(str, line), "-o", str(tmp_path / "stopped")]) == 130
    glyphlab("resume", tmp_path / "stopped")
    file = Path("model", "vae", "diffusion_pytorch_model.safetensors")
    assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "stopped" / file).read_bytes()

    glyphlab("export", tmp_path / "whole", tmp_path / "exported")
    for path in base.rglob("*"):
        if path.is_file() and path.parent.name != "vae":
            assert path.read_bytes() == (tmp_path / "exported" / path.relative_to(base)).read_bytes(), path
    before, after = (load_file(folder / "vae" / file.name) for folder in (base, tmp_path / "exported"))
    changed = {name for name in before if not np.array_equal(before[name].float(), after[name].float())}
    assert changed and all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed)
    assert not any(".time_conv." in name for name in changed)

    small = ["--size", 64, 64, "--steps", 2, "--seed", 3]
    for folder in (base, tmp_path / "exported"):
        glyphlab("sample", "--base", folder, "a cat", *small, "-o", tmp_path / f"{folder.name}.png")
    assert (tmp_path / f"{base.name}.png").read_bytes() != (tmp_path / "exported.png").read_bytes()
    glyphlab("train", "sft", "--base", tmp_path / "exported", "--data.folder", images, "--size", 64, 64, "--lora.rank",
             2, "--algorithm.steps", 1, "--no-evaluate", "-o", tmp_path / "sft")  # fmt: skip
    capsys.readouterr()
    glyphlab("evaluate-vae", base, tmp_path / "whole", "--pages", 1, "--side", 64)
    table = capsys.readouterr().out
    assert "PSNR B - A" in table and "photographs" in table
    line[2:4] = ["--parent", tmp_path / "whole"]
    glyphlab(*line, "--no-evaluate", "-o", tmp_path / "further")
    assert json.loads((tmp_path / "further" / "model" / "autoencoder.json").read_text())["base"] == str(base)
