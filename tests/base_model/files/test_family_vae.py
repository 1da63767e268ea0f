"""Another family's autoencoder: it answers as the pipeline does, its decoder learns, and the rest stays as it was."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.files.family_vae import (
    FamilyVae,
    PassingClamps,
    base_of_vae,
    export_with_vae,
    open_family_vae,
    open_saved_vae,
    require_vae,
    save_family_vae,
)
from base_model.train_vae import TrainVAE, freeze_encoder, loss, to_signed, train
from experiments.training.finish import finished_autoencoder
from tests.fixtures.tiny.tiny_families import autoencoder_kl, save_pipeline

diffusers = pytest.importorskip("diffusers")
SIZE = (64, 96)


def vae_alone(folder: Path) -> Path:
    """What is read of a Stable Diffusion 3 checkpoint for its autoencoder."""
    autoencoder_kl().save_pretrained(folder / "vae")
    index = {"_class_name": "StableDiffusion3Pipeline", "transformer": ["diffusers", "SD3Transformer2DModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "transformer").mkdir()
    (folder / "transformer" / "config.json").write_text("{}")
    (folder / "transformer" / "weights").write_bytes(b"untouched")
    return folder


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vae_alone(tmp_path_factory.mktemp("base") / "sd3")


class Gradients:
    """The same few smooth images at every step."""

    def images(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> torch.Tensor:
        ramp = torch.linspace(0, 255, 32).expand(size, 3, 32, 32)
        return torch.stack([image.roll(8 * i, -1) for i, image in enumerate(ramp)]).byte()


def trained(model: FamilyVae, cfg: TrainVAE) -> list[dict[str, float]]:
    engine = LocalEngine(model, OptimConfig(muon_lr=0.0, adamw_lr=3e-3, steps=cfg.steps), torch.device("cpu"))
    return [
        {name: float(value) for name, value in step.metrics.items()} for step in train(model, engine, Gradients(), cfg)
    ]


def test_the_decoder_learns_and_everything_else_stays_as_it_was(sd3: Path, tmp_path: Path) -> None:
    model, before = open_family_vae(sd3), open_family_vae(sd3).vae.state_dict()
    freeze_encoder(model)
    metrics = trained(model, TrainVAE(steps=8, batch=2, frozen_encoder=True))
    assert metrics[-1]["psnr"] > metrics[0]["psnr"] + 0.5
    finished = finished_autoencoder(model, model.state_dict())
    save_family_vae(finished, tmp_path / "run")

    theirs = diffusers.AutoencoderKL.from_pretrained(tmp_path / "run" / "vae").state_dict()
    again = open_saved_vae(tmp_path / "run").vae.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, theirs[name])}
    assert changed and all(name.startswith("decoder.") for name in changed) and set(theirs) == set(before)
    for name, value in model.vae.state_dict().items():
        assert torch.equal(theirs[name], value) and torch.equal(again[name], value), name
    assert (tmp_path / "run" / "vae" / "config.json").read_bytes() == (sd3 / "vae" / "config.json").read_bytes()

    export_with_vae(tmp_path / "run", tmp_path / "whole")
    for name, value in open_family_vae(tmp_path / "whole").vae.state_dict().items():
        assert torch.equal(value, theirs[name]), name
    assert (tmp_path / "whole" / "transformer" / "weights").read_bytes() == b"untouched"


def test_the_encoder_learns_as_well_where_it_is_asked_to(sd3: Path) -> None:
    model, before = open_family_vae(sd3), open_family_vae(sd3).vae.state_dict()
    trained(model, TrainVAE(steps=1, batch=2, fine_tune=True))
    now = model.vae.state_dict()
    assert not torch.equal(now["encoder.conv_in.weight"], before["encoder.conv_in.weight"])
    pixels, (C, h, w) = to_signed(Gradients().images(0, 2)), model.latent_shape(32, 32)
    noise = torch.randn(2, C, h, w)
    latent = model.vae.encode(pixels).latent_dist
    with torch.no_grad():
        torch.testing.assert_close(
            model(pixels, noise)[0], model.vae.decode(latent.mean + latent.std * noise).sample, atol=1e-4, rtol=1e-4
        )
    assert float(loss(model, pixels, noise, TrainVAE(steps=1))[1]["kl"].detach()) == pytest.approx(
        float(latent.kl().detach().mean() / (C * h * w)), rel=1e-4
    )


def test_a_clamp_passes_the_gradient_on() -> None:
    x = torch.tensor([-3.0, 0.5, 2.0], requires_grad=True)
    with PassingClamps():
        y = torch.clamp(x, min=-1.0, max=1.0)
    (y * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert y.tolist() == [-1.0, 0.5, 1.0] and x.grad is not None and x.grad.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("damage", "fault"),
    [(lambda file: file.unlink(), "holds no *.safetensors; fetch"),
     (lambda file: file.rename(file.with_suffix(".fp16.safetensors")), "but diffusion_pytorch_model.fp16.safetensors"),
     (lambda file: file.rename(file.with_suffix(".bin")), "but diffusion_pytorch_model.bin: open the checkpoint with"),
     (lambda file: file.write_bytes(file.read_bytes()[:-100]), "is cut off or damaged")],
)  # fmt: skip
def test_files_that_are_missing_or_cut_off_are_named(
    damage: Callable[[Path], object], fault: str, tmp_path: Path
) -> None:
    folder = vae_alone(tmp_path / "base") / "vae"
    damage(folder / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match=re.escape(fault)):
        require_vae(folder)
    with pytest.raises(ValueError, match=re.escape(fault)):
        open_family_vae(tmp_path / "base")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = vae_alone(tmp_path / "base")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    next(iter(weights.values())).view(-1)[0] = torch.nan
    save_file(weights, file)
    with pytest.raises(ValueError, match="holds numbers that are not finite"):
        open_family_vae(folder)


def test_what_only_further_frames_go_through_does_not_learn() -> None:
    parts = torch.nn.ModuleDict({"time_conv": torch.nn.Linear(1, 1), "conv": torch.nn.Linear(1, 1)})
    family: Any = SimpleNamespace()
    model = FamilyVae(family, torch.nn.Sequential(parts), "a")
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {"vae.0.conv.weight", "vae.0.conv.bias"}


def test_a_saved_one_finds_its_checkpoint_from_anywhere_and_no_hidden_files_are_exported(
    sd3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shutil.copytree(sd3, tmp_path / "base")
    (base / ".cache").mkdir()
    monkeypatch.chdir(tmp_path)
    save_family_vae(open_family_vae("base"), tmp_path / "run")
    monkeypatch.chdir("/")
    assert base_of_vae(tmp_path / "run") == str(base)
    export_with_vae(tmp_path / "run", tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == ["model_index.json", "transformer", "vae"]


def test_a_size_that_does_not_divide_is_refused(sd3: Path) -> None:
    with pytest.raises(ValueError, match="40x64 does not divide"):
        open_family_vae(sd3)(torch.zeros(1, 3, 40, 64), torch.zeros(1, 16, 5, 8))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["sd3", "flux1_dev", "flux2_klein", "z_image", "sana", "lumina2", "wan", "aura_flow", "qwen_image_21"]
)
def test_pixels_are_those_of_the_familys_pipeline_and_the_decoder_alone_gets_gradients(
    name: str, tmp_path: Path
) -> None:
    from base_model.families.open_checkpoint import open_checkpoint

    folder = save_pipeline(name, tmp_path / name)
    model, whole = open_family_vae(folder), open_checkpoint(folder, SIZE)
    freeze_encoder(model)
    pixels = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 2.0 - 1.0
    noise = torch.zeros(2, *model.latent_shape(*SIZE))
    assert model.encode(pixels).shape == noise.shape
    recon: Any = model(pixels, noise)[0]
    with torch.no_grad():
        expected = whole.decode(whole.encode_pixels(pixels * 0.5 + 0.5))
    torch.testing.assert_close((recon * 0.5 + 0.5).clamp(0.0, 1.0), expected, atol=1e-4, rtol=1e-4)
    loss(model, pixels, noise, TrainVAE(steps=1, frozen_encoder=True))[0].backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.startswith(("vae.decoder.", "vae.post_quant_conv.")) for name in with_gradient)
