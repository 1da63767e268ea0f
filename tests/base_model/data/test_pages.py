"""Pages of small text, the schedule of autoencoder training, and judging and exchanging autoencoders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from base_model.data.rendered_pages import ENGLISH, PageStream, chinese, english
from base_model.data.writing.corpora import common_characters
from base_model.files.shards import read_all
from base_model.files.weights import NANO_VAE, load_vae, save_vae
from base_model.qwen.vae import image_weights
from base_model.seeding import numpy_generator
from base_model.train_vae import TrainVAE, loss
from experiments import cli
from experiments.evaluation.autoencoders import (
    evaluate,
    evaluate_vae,
    export_autoencoder,
    open_autoencoder,
    photographs,
    reconstruct,
)
from tests.fixtures.tiny.tiny_model import tiny_vae

pytest.importorskip("manimgx_fonts_cjk", reason="the Chinese type face")
pytest.importorskip("skimage", reason="PSNR, SSIM and photographs")


def test_pages_are_a_function_of_seed_and_index() -> None:
    stream = PageStream(3, size=(32, 96))
    pages = stream.images(1, 4)
    assert pages.shape == (4, 3, 32, 96) and pages.dtype == torch.uint8
    assert torch.equal(pages, torch.cat([stream.images(2, 2), stream.images(3, 2)]))
    assert not torch.equal(pages, PageStream(4, size=(32, 96)).images(1, 4))
    assert all(len(np.unique(page)) > 8 for page in pages.numpy()), "a page without text"


def test_evaluation_shows_nothing_that_was_trained_on() -> None:
    def shown(heldout: bool) -> tuple[set[str], set[str]]:
        words, characters = set(), set()
        for i in range(200):
            rng = numpy_generator(0, i, 0, "test")
            words |= set(english(rng, 400, 8, heldout).replace(",", "").replace(".", "").split())
            characters |= set(chinese(rng, 40, heldout))
        return words, characters

    seen, held = shown(False), shown(True)
    assert not seen[0] & held[0] and not seen[1] & held[1]
    assert 15 < len(held[0]) < 30 and len(seen[0]) > 150 and len(held[1]) > 300
    assert seen[0] | held[0] == set(ENGLISH.split())


def test_characters_are_gb_2312s_first_level() -> None:
    assert len(common_characters()) == 3755
    assert common_characters()[0] == "啊" and common_characters()[-1] == "座"


def test_the_ratio_is_a_schedule() -> None:
    cfg = TrainVAE(steps=11, edge=0.5, edge_end=2.5, frozen_encoder=True)
    assert [cfg.edge_at(step) for step in (0, 5, 10, 99)] == [0.5, 1.5, 2.5, 2.5]
    assert {TrainVAE(steps=11, edge=0.7).edge_at(step) for step in range(11)} == {0.7}
    vae, pixels = tiny_vae(), torch.rand(1, 3, 16, 16) * 2 - 1
    noise = torch.zeros(1, 4, 2, 2)
    with torch.no_grad():
        (first, parts), (last, _) = (loss(vae, pixels, noise, cfg, step) for step in (0, 10))
    assert float(first) == pytest.approx(float(parts["reconstruction"] + 0.5 * parts["edge"]), rel=1e-5)
    assert float(last - first) == pytest.approx(2.0 * float(parts["edge"]), rel=1e-4)
    with pytest.raises(ValueError, match="must be at least 0"):
        TrainVAE(steps=1, edge_end=-1.0)


def test_photographs_are_squares_of_real_pictures() -> None:
    squares = photographs(64)
    assert squares.shape == (24, 3, 64, 64) and squares.dtype == np.uint8
    assert len({square.tobytes() for square in squares}) == 24


def test_scores_are_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    """PSNR by hand; a perfect reconstruction has SSIM 1."""
    vae = load_vae(NANO_VAE)
    monkeypatch.setattr(
        "experiments.evaluation.autoencoders.photographs", lambda side: np.full((2, 3, 16, 16), 100, np.uint8)
    )
    monkeypatch.setattr("experiments.evaluation.autoencoders.reconstruct", lambda vae, pictures: pictures // 2 * 2)
    told = evaluate_vae(vae, pages=1, side=16)
    assert [one.set for one in told][:2] == ["photographs", "en 8 px"] and len(told) == 9
    assert told[0].ssim_P.tolist() == [1.0, 1.0]
    picture = PageStream(71, heights=(8,), languages=("en",), heldout=True).images(0, 1).numpy().astype(float)
    error = ((picture - picture // 2 * 2) ** 2).mean()
    assert told[1].psnr_P[0] == pytest.approx(10 * np.log10(255**2 / error))


def test_reconstructions_are_8_bit_pictures_of_the_mode() -> None:
    vae, pictures = load_vae(NANO_VAE), PageStream(0, size=(32, 96)).images(0, 3).numpy()
    made = reconstruct(vae, pictures, batch=2)
    assert made.shape == pictures.shape and made.dtype == np.uint8
    assert np.array_equal(made[2:], reconstruct(vae, pictures[2:]))


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A tiny autoencoder as diffusers saves it."""
    from diffusers import AutoencoderKLQwenImage

    torch.manual_seed(0)
    made = AutoencoderKLQwenImage(
        base_dim=4, z_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    made.save_pretrained(tmp_path / "base" / "vae")
    return tmp_path / "base"


def test_a_fine_tuned_decoder_goes_back_with_its_video_path(released: Path, tmp_path: Path) -> None:
    """Frames of a video decode as before wherever only temporal weights matter; an image decodes as ours does."""
    from diffusers import AutoencoderKLQwenImage

    vae = open_autoencoder(released)
    with torch.no_grad():
        for p in vae.decoder.parameters():
            p.add_(0.01)
    save_vae(vae, tmp_path / "tuned.safetensors")
    assert cli.main(["export-vae", str(tmp_path / "tuned.safetensors"), "--base", str(released), "-o",
                     str(tmp_path / "out")]) == 0  # fmt: skip
    theirs = AutoencoderKLQwenImage.from_pretrained(tmp_path / "out").eval()
    pixels = torch.rand(1, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        latents = theirs.encode(pixels[:, :, None]).latent_dist.mode()
        assert (latents[:, :, 0] - vae.moments(pixels)[0]).abs().max() < 1e-5
        picture = theirs.decode(latents).sample[:, :, 0]
        assert (picture - vae.decode(vae.encode(pixels))).abs().max() < 1e-5
    before, after = dict(read_all(released / "vae")), dict(read_all(tmp_path / "out"))
    assert before.keys() == after.keys()
    for name, value in before.items():
        if ".time_conv." in name:
            assert torch.equal(after[name], value), name
        elif value.ndim == 5:
            assert torch.equal(after[name][:, :, :-1], value[:, :, :-1]), name
    changed = {
        name for name, value in image_weights(before).items() if not torch.equal(value, image_weights(after)[name])
    }
    assert changed == {name for name in vae.state_dict() if name.startswith("decoder.")}


def test_another_architecture_is_not_exported(released: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give the base it was trained from"):
        export_autoencoder(NANO_VAE, released, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="holds no autoencoder"):
        open_autoencoder(tmp_path)


def test_two_autoencoders_are_compared_on_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = photographs(16)[:3]
    monkeypatch.setattr("experiments.evaluation.autoencoders.photographs", lambda side: few)
    lines = evaluate([NANO_VAE, NANO_VAE], 2, 16, tmp_path / "vae.json")
    assert len(lines) == 2 + 1 + 9
    assert all(line.endswith("+0.00 (no interval)") for line in lines[3:])
    saved = json.loads((tmp_path / "vae.json").read_text())
    assert len(saved) == 2 and len(saved[0]["sets"]["zh 8 px"]["psnr"]) == 2


def test_settings_out_of_range_are_named() -> None:
    for wrong in ({"heights": ()}, {"heights": (2,)}, {"size": (8, 96)}, {"heights": (80,)}):
        with pytest.raises(ValueError, match="from 4 to its height"):
            replace(PageStream(0), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be chosen from"):
        PageStream(0, languages=("fr",))
