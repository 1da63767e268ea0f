"""The autoencoder against diffusers' 3-D implementation, and its training against hand-worked numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from base_model.data.rendered_pages import PageStream
from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.qwen.vae import QWEN_IMAGE_VAE, QwenImageVAE, VAEConfig, image_weights, released_weights
from base_model.seeding import generator
from base_model.train_vae import TrainVAE, freeze_encoder, laplacian, latent_statistics, loss, to_signed, train
from tests.fixtures.tiny.tiny_model import AUTOENCODER, tiny_vae

MEAN, STD = (0.3, -0.2, 0.1, 0.5), (1.5, 0.7, 2.0, 1.1)
SHAPES = [  # configuration, the video model's temporal switches, image sizes
    (VAEConfig(4, 4, (1, 2, 2, 2), 1, MEAN, STD), [False, True, True], [(1, 32, 96), (3, 24, 16)]),
    (VAEConfig(8, 3, (1, 2, 4), 2, MEAN[:3], STD[:3]), [True, False], [(2, 20, 36), (1, 8, 8)]),
    (VAEConfig(6, 2, (2, 1), 3, MEAN[:2], STD[:2]), [False], [(2, 14, 10)]),
    (VAEConfig(4, 4, (1, 1, 1, 1), 2, MEAN, STD), [True, True, True], [(1, 40, 24)]),
]


LOUD = 1.2
"""With torch's default weights the latent hardly reaches the image, and a test of it would see nothing."""


@cache
def video_model(case: int):
    """diffusers' autoencoder with every parameter random and every layer about as loud as its input."""
    from diffusers import AutoencoderKLQwenImage

    cfg, temporal, _ = SHAPES[case]
    with torch.random.fork_rng():
        torch.manual_seed(case)
        model = AutoencoderKLQwenImage(
            base_dim=cfg.base_dim, z_dim=cfg.z_dim, dim_mult=list(cfg.dim_mult), num_res_blocks=cfg.num_res_blocks,
            temperal_downsample=temporal, latents_mean=list(cfg.latents_mean), latents_std=list(cfg.latents_std),
        )  # fmt: skip
        with torch.no_grad():
            for name, p in model.named_parameters():
                if name.endswith("gamma"):
                    p.uniform_(0.5, 1.5)
                else:
                    p.normal_(std=0.2 if p.ndim == 1 else LOUD / math.sqrt(p[0, :, -1].numel()))
    return model


def ours(case: int) -> QwenImageVAE:
    """Ours with the same weights."""
    vae = QwenImageVAE(SHAPES[case][0])
    vae.load_state_dict(image_weights(video_model(case).state_dict()), strict=True)
    return vae


def random_pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


# --- parity -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", range(len(SHAPES)))
@torch.no_grad()
def test_encodes_and_decodes_as_the_video_model(case):
    cfg, _, sizes = SHAPES[case]
    theirs, vae = video_model(case), ours(case)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (cfg.latents_mean, cfg.latents_std))
    for B, H, W in sizes:
        pixels = random_pictures(B, 3, H, W)
        posterior = theirs.encode(pixels[:, :, None]).latent_dist
        got_mean, got_logvar = vae.moments(pixels)
        close(got_mean, posterior.mode()[:, :, 0])
        close(got_logvar, posterior.logvar[:, :, 0])
        close(vae.encode(pixels), (posterior.mode()[:, :, 0] - mean) / std)
        assert got_mean.shape == (B, cfg.z_dim, H // cfg.factor, W // cfg.factor)

        latents = torch.randn(got_mean.shape, generator=torch.Generator().manual_seed(1))
        expected = theirs.decode((latents * std + mean)[:, :, None]).sample[:, :, 0]
        close(vae.decode(latents), expected)
        other = theirs.decode((latents.roll(1, 1) * std + mean)[:, :, None]).sample[:, :, 0]
        assert (other - expected).std() > 0.1 and got_mean.std() > 0.1, "nothing was compared"


@torch.no_grad()
def test_log_variance_has_the_released_bounds():
    """An untrained or broken encoder must not turn into infinite noise."""
    theirs, vae, pixels = video_model(0), ours(0), random_pictures(1, 3, 16, 16)
    vae.quant_conv.weight.mul_(1e3)
    _, logvar = vae.moments(pixels)
    posterior = type(theirs.encode(pixels[:, :, None]).latent_dist)
    raw = vae.quant_conv(vae.encoder(pixels))
    assert raw[:, 4:].max() > 20.0 and raw[:, 4:].min() < -30.0
    assert torch.equal(logvar, posterior(raw).logvar)


def test_gradients_are_those_of_the_last_temporal_slices():
    """Training the 2-D path is training the video model on images: same gradient, and none for its other taps."""
    theirs, vae = video_model(0), ours(0)
    pixels, target = random_pictures(2, 3, 16, 24), random_pictures(2, 3, 16, 24, seed=1)
    theirs.zero_grad()
    z = theirs.encode(pixels[:, :, None]).latent_dist.mode()
    (theirs.decode(z).sample[:, :, 0] - target).square().mean().backward()
    recon, _, _ = vae(pixels, torch.zeros(2, 4, 2, 3))
    (recon.clamp(-1.0, 1.0) - target).square().mean().backward()
    full = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    assert not any(".time_conv." in name for name in full)
    assert all(not g[:, :, :-1].any() for g in full.values() if g.ndim == 5)
    mine = {name: p.grad for name, p in vae.named_parameters()}
    expected = image_weights(full)
    assert mine.keys() == expected.keys()
    assert sum(g.abs().sum() for g in mine.values()) > 1.0
    for name, gradient in mine.items():
        close(gradient, expected[name])


def test_image_weights_fit_exactly():
    state = video_model(0).state_dict()
    image = image_weights(state)
    vae = QwenImageVAE(SHAPES[0][0])
    assert image.keys() == vae.state_dict().keys()
    assert all(image[name].shape == value.shape for name, value in vae.state_dict().items())
    image.pop("encoder.norm_out.gamma")
    with pytest.raises(RuntimeError, match=r"encoder\.norm_out\.gamma"):
        vae.load_state_dict(image, strict=True)


def test_released_round_trip_is_bit_identical():
    base = video_model(0).state_dict()
    again = released_weights(image_weights(base), base)
    assert list(again) == list(base)
    assert all(torch.equal(again[name], base[name]) for name in base)


@torch.no_grad()
def test_a_trained_image_path_returns_to_the_video_model():
    """New image weights in, the same images out; what only a video needs is kept, and the base is not touched."""
    from diffusers import AutoencoderKLQwenImage

    theirs = video_model(0)
    base = {name: value.clone() for name, value in theirs.state_dict().items()}
    trained = QwenImageVAE.seeded(SHAPES[0][0], seed=9)
    merged = released_weights(trained.state_dict(), base)
    assert all(torch.equal(base[name], value) for name, value in theirs.state_dict().items())
    timed = [name for name in base if ".time_conv." in name]
    assert timed and all(torch.equal(merged[name], base[name]) for name in timed)
    kernels = [name for name, value in base.items() if value.ndim == 5 and value.shape[2] > 1 and name not in timed]
    assert all(torch.equal(merged[name][:, :, :-1], base[name][:, :, :-1]) for name in kernels)

    fresh = AutoencoderKLQwenImage(**{k: v for k, v in theirs.config.items() if not k.startswith("_")})
    fresh.load_state_dict(merged, strict=True)
    pixels = random_pictures(1, 3, 32, 48)
    posterior = fresh.encode(pixels[:, :, None]).latent_dist
    close(trained.moments(pixels)[0], posterior.mode()[:, :, 0])
    z = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(2))
    close(trained.decode_raw(z).clamp(-1.0, 1.0), fresh.decode(z[:, :, None]).sample[:, :, 0])


def test_another_autoencoder_is_refused():
    with pytest.raises(ValueError, match=r"not the same autoencoder.*in one state dict only"):
        released_weights(ours(1).state_dict(), video_model(0).state_dict())


def test_the_released_size_has_the_published_parameter_count():
    with torch.device("meta"):
        vae = QwenImageVAE(QWEN_IMAGE_VAE)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in vae.named_children()}
    assert count == {"encoder": 19_306_592, "decoder": 25_291_683, "quant_conv": 1_056, "post_quant_conv": 272}
    assert QWEN_IMAGE_VAE.factor == 8


# --- edges of use -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("H", "W"), [(30, 96), (32, 90)])
def test_a_size_that_does_not_divide_is_named(H, W):
    with pytest.raises(ValueError, match=rf"{H}x{W} pixels.*multiples of 8"):
        tiny_vae().encode(torch.zeros(1, 3, H, W))


def test_statistics_of_another_length_are_refused():
    with pytest.raises(ValueError, match="z_dim=4"):
        replace(AUTOENCODER, latents_std=(1.0,) * 3)


@torch.no_grad()
def test_standardised_latents_decode_as_raw_ones():
    vae = ours(0)
    pixels = random_pictures(2, 3, 16, 16)
    raw = vae.moments(pixels)[0]
    close(vae.decode(vae.encode(pixels)), vae.decode_raw(raw).clamp(-1.0, 1.0))
    assert not torch.allclose(vae.decode(raw), vae.decode_raw(raw).clamp(-1.0, 1.0), atol=1e-2)


@torch.no_grad()
def test_samples_of_a_batch_do_not_mix():
    vae, pixels = tiny_vae(), random_pictures(4, 3, 16, 24)
    encoded, z = vae.encode(pixels), torch.randn(4, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(encoded[2], encoded[1], atol=1e-2)
    close(encoded[2:3], vae.encode(pixels[2:3]))
    close(vae.decode(z)[2:3], vae.decode(z[2:3]))


def test_the_seed_decides_the_weights_and_nothing_else_is_drawn():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = (QwenImageVAE.seeded(AUTOENCODER, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


# --- training -----------------------------------------------------------------------------------------------------


class Noise:
    """Random images, a new batch for every step."""

    def images(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Tensor:
        return (torch.rand(size, 3, 16, 16, generator=generator(0, step, rank, "pictures")) * 255.0).byte()


class Answers(nn.Module):
    """An autoencoder whose answers are given, and can be learned."""

    def __init__(self, recon: Tensor, mean: Tensor, logvar: Tensor) -> None:
        super().__init__()
        self.recon, self.mean, self.logvar = (nn.Parameter(t) for t in (recon, mean, logvar))

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.recon, self.mean, self.logvar


@torch.no_grad()
def worked(vae: nn.Module, pixels: Tensor, noise: Tensor, cfg: TrainVAE) -> tuple[float, dict[str, float]]:
    """The loss and its parts as numbers."""
    total, parts = loss(vae, pixels, noise, cfg)
    return float(total), {name: float(part) for name, part in parts.items()}


def test_loss_by_hand():
    pixels = torch.zeros(1, 3, 8, 8)
    no_noise, cfg = torch.zeros(1, 2, 1, 1), TrainVAE(1, edge=3.0, kl=0.1)
    # A constant has no edges but in the low-pass remainder: reconstruction 0.5, edges 0 + 0 + 0 + 0.5.
    flat = Answers(torch.full((1, 3, 8, 8), 0.5), torch.full((1, 2, 1, 1), 2.0), torch.zeros(1, 2, 1, 1))
    total, parts = worked(flat, pixels, no_noise, cfg)
    assert parts["reconstruction"] == 0.5 and parts["edge"] == 0.5
    assert parts["kl"] == pytest.approx(0.5 * (4.0 + 1.0 - 1.0 - 0.0))
    assert total == pytest.approx(0.5 + 3.0 * 0.5 + 0.1 * 2.0)
    assert parts["psnr"] == pytest.approx(-10.0 * math.log10(0.25 / 4.0))
    # A checkerboard of +-0.5 is nothing but its finest band.
    board = 0.5 - (torch.arange(8)[:, None] + torch.arange(8)) % 2
    fine = Answers(board.expand(1, 3, 8, 8).clone(), torch.zeros(1, 2, 1, 1), torch.full((1, 2, 1, 1), math.log(3.0)))
    _, parts = worked(fine, pixels, no_noise, cfg)
    assert parts["edge"] == pytest.approx(0.5)
    assert parts["kl"] == pytest.approx(0.5 * (3.0 - 1.0 - math.log(3.0)))


def test_loss_sees_what_clamping_would_hide():
    """A pixel of 3 where 1 is wanted must be pulled back; through the clamp its gradient would be 0."""
    pixels = torch.ones(1, 3, 8, 8)
    wrong = Answers(torch.full((1, 3, 8, 8), 3.0), torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1))
    loss(wrong, pixels, torch.zeros(1, 2, 1, 1), TrainVAE(1))[0].backward()
    assert wrong.recon.grad is not None and (wrong.recon.grad > 0).all()
    vae = tiny_vae()
    with torch.no_grad():
        vae.decoder.conv_out.bias.fill_(5.0)
    total, parts = loss(vae, torch.ones(1, 3, 16, 16), torch.zeros(1, 4, 2, 2), TrainVAE(1, kl=0.0, edge=0.0))
    total.backward()
    assert parts["reconstruction"] > 3.0
    assert vae.decoder.conv_out.bias.grad.tolist() == pytest.approx([1.0 / 3.0] * 3)


def test_noise_is_the_posteriors():
    """(V1): z = mean + std * noise, on raw latents."""
    vae, pixels = ours(0), random_pictures(2, 3, 16, 16)
    noise = torch.randn(2, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    recon, mean, logvar = vae(pixels, noise)
    close(recon, vae.decode_raw(mean + logvar.exp().sqrt() * noise))
    assert not torch.allclose(recon, vae.decode_raw(mean), atol=1e-3)


def test_pyramid():
    x, y = random_pictures(2, 3, 16, 24), random_pictures(2, 3, 16, 24, seed=1)
    bands = laplacian(x)
    assert [tuple(b.shape[2:]) for b in bands] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    rebuilt = bands[-1]
    for band in reversed(bands[:-1]):
        rebuilt = rebuilt.repeat_interleave(2, 2).repeat_interleave(2, 3) + band
    close(rebuilt, x, 1e-6)
    close(bands[-1].mean(), x.mean(), 1e-6)
    assert all(float(band.mean().abs()) < 1e-6 for band in bands[:-1])

    def edge(a: Tensor, b: Tensor) -> float:
        still = Answers(a, torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
        return worked(still, b, torch.zeros(2, 1, 1, 1), TrainVAE(1))[1]["edge"]

    assert edge(x, x) == 0.0 and edge(x, y) > 0.1


def test_to_signed_covers_the_range():
    assert to_signed(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


OPTIM = OptimConfig(steps=100, muon_lr=0.0, adamw_lr=3e-3, warmup=0, decay_from=1.0)


def parts_of(vae: QwenImageVAE) -> dict[str, dict[str, Tensor]]:
    return {n: {k: v.clone() for k, v in part.state_dict().items()} for n, part in vae.named_children()}


def moved(before: dict[str, dict[str, Tensor]], vae: QwenImageVAE) -> set[str]:
    """Which parts have a parameter that changed."""
    after = parts_of(vae)
    return {n for n in before if any(not torch.equal(before[n][k], after[n][k]) for k in before[n])}


def test_a_frozen_encoder_stays_and_the_decoder_learns():
    vae = tiny_vae()
    freeze_encoder(vae)
    before = parts_of(vae)
    steps = list(train(vae, LocalEngine(vae, OPTIM), Noise(), TrainVAE(25, batch=4, kl=1e9, frozen_encoder=True)))
    assert moved(before, vae) == {"decoder", "post_quant_conv"}
    assert [s.index for s in steps] == list(range(25))
    assert steps[-1].metrics["loss"] < steps[0].metrics["loss"] - 0.05
    # The KL cannot learn without its encoder; a weight of a billion would show in the loss.
    assert steps[-1].metrics["loss"] < 10.0
    total, _ = loss(vae, to_signed(Noise().images(0, 2)), torch.zeros(2, 4, 2, 2), TrainVAE(1, frozen_encoder=True))
    total.backward()
    assert all(p.grad is None for part in (vae.encoder, vae.quant_conv) for p in part.parameters())


def test_everything_learns_without_freezing():
    vae = tiny_vae()
    before = parts_of(vae)
    steps = list(train(vae, LocalEngine(vae, OPTIM), Noise(), TrainVAE(25, batch=4)))
    assert moved(before, vae) == {"encoder", "quant_conv", "decoder", "post_quant_conv"}
    assert steps[-1].metrics["psnr"] > steps[0].metrics["psnr"] + 0.5


@pytest.mark.parametrize("frozen", [False, True])
def test_noise_of_training_is_new_every_step_and_absent_with_a_frozen_encoder(frozen):
    vae, seen = tiny_vae(), []
    vae.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    if frozen:
        freeze_encoder(vae)
    list(train(vae, LocalEngine(vae, OPTIM), Noise(), TrainVAE(3, batch=4, frozen_encoder=frozen)))
    assert len(seen) == 3
    if frozen:
        assert not any(noise.any() for noise in seen)
    else:
        assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
        assert 0.7 < float(torch.stack(seen).std()) < 1.3


def test_training_goes_on_where_it_stopped(tmp_path):
    cfg = TrainVAE(6, batch=4)
    whole = tiny_vae()
    list(train(whole, LocalEngine(whole, OPTIM), Noise(), cfg))
    first = tiny_vae()
    engine = LocalEngine(first, OPTIM)
    list(train(first, engine, Noise(), replace(cfg, steps=3)))
    engine.save(tmp_path)
    second = tiny_vae(seed=1)
    engine = LocalEngine(second, OPTIM)
    engine.load(tmp_path)
    assert [s.index for s in train(second, engine, Noise(), cfg, start=3)] == [3, 4, 5]
    assert not moved(parts_of(whole), second)


def test_latent_statistics_standardise_the_latents():
    vae = ours(0)
    mean, std = latent_statistics(vae, Noise(), batches=3, size=8)
    standard = QwenImageVAE(replace(SHAPES[0][0], latents_mean=tuple(mean), latents_std=tuple(std)))
    standard.load_state_dict(vae.state_dict())
    with torch.no_grad():
        latents = torch.cat([standard.encode(to_signed(Noise().images(i, 8))) for i in range(3)])
    assert latents.mean((0, 2, 3)).tolist() == pytest.approx([0.0] * 4, abs=1e-4)
    assert latents.std((0, 2, 3)).tolist() == pytest.approx([1.0] * 4, abs=1e-4)


@pytest.mark.parametrize("frozen_encoder", [False, True])
def test_every_rank_trains_on_its_own_pictures(frozen_encoder):
    """Two ranks see what one of twice the batch would, so their mean is its gradient."""
    seen: dict[tuple[int, int], list[Tensor]] = {}

    class Recording:
        device, module = torch.device("cpu"), None

        def __init__(self, rank: int, world_size: int) -> None:
            self.rank, self.world_size = rank, world_size

        def update(self, micros, loss):
            seen.setdefault((self.rank, self.world_size), []).append(micros[0][0])
            return {}

    vae, stream = QwenImageVAE.seeded(AUTOENCODER, 0), PageStream(0, size=(16, 32), heights=(8,))
    for rank, ranks, batch in ((0, 1, 4), (0, 2, 2), (1, 2, 2)):
        cfg = TrainVAE(steps=2, batch=batch, frozen_encoder=frozen_encoder)
        list(train(vae, Recording(rank, ranks), stream, cfg))
    for step in range(2):
        assert torch.equal(torch.cat([seen[0, 2][step], seen[1, 2][step]]), seen[0, 1][step])
        assert not torch.equal(seen[0, 2][step], seen[1, 2][step])
