"""What every base model must keep, run over `ROWS`. A new family adds one row, and its tiny pipeline.

Shapes: B samples, S latent tokens, C channels, 3HW pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from alignment import awm, dpo, dppo, grpo, guard, nft
from alignment.trajectory import Exploration
from base_model import flow
from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.engine.mixed_precision import Memory
from base_model.families.diffusers_model import DiffusersModel
from base_model.families.open_checkpoint import export_checkpoint, open_checkpoint, open_pipeline
from base_model.interface import Conditioning
from base_model.lora import Lora, adapter_weights, add_adapter, is_dead, load_adapter, save_adapter
from base_model.policy_model import PolicyModel
from base_model.qwen.tokens import unpatchify
from base_model.sample import Sampler, sample
from base_model.seeding import generator
from preference_data.prompts import PromptSet
from tests.fixtures.tiny.tiny_families import save_pipeline
from tests.fixtures.tiny.tiny_model import tiny_model
from tests.fixtures.toy_alignment import Judged

pytest.importorskip("diffusers")
TEXTS = ("a red fox", "the word GLYPH in red on a white wall")
WORDS = PromptSet.from_texts(f'the word "{word}" in red' for word in ("ABC", "DE", "F"))
OPTIM = OptimConfig(steps=100, muon_lr=0.0, adamw_lr=1e-3, clip=0.0, warmup=0, decay_from=1.0, ema_decay=0.9)


@dataclass(frozen=True)
class Row:
    """A base model's row: where it comes from, and how its pipeline is asked for what our sampler makes."""

    pipeline: str = ""
    """the tiny pipeline of tests/fixtures/tiny/tiny_families.py; empty for our own Qwen-Image"""
    asks: Callable[[DiffusersModel, Tensor, float], dict[str, Any]] = lambda model, x, guidance: {
        "latents": latent_image(model, x), "guidance_scale": guidance,
    }  # fmt: skip
    """(model, noise, our guidance) -> arguments of the pipeline"""
    image: tuple[int, int] = (64, 96)
    tolerance: float = 1e-5
    """of a pixel in [0, 1] against the pipeline's"""
    one_by_one: bool = False
    """the pipeline's answer depends on the other prompts of a batch"""


ROWS: dict[str, Row] = {
    "qwen_image": Row(image=(32, 96)),
    "sd3": Row("sd3"),
    "sd3_without_t5": Row("sd3_without_t5"),
    "flux1_dev": Row("flux1_dev", lambda m, x, g: {"latents": x, "guidance_scale": g}),
    "flux1_schnell": Row(
        "flux1_schnell", lambda m, x, g: {"latents": x, "true_cfg_scale": g, "negative_prompt": [""] * len(x)}
    ),
    "flux1_kontext": Row(
        "flux1_kontext",
        lambda m, x, g: {"latents": x, "guidance_scale": g, "_auto_resize": False, "max_area": 64 * 96},
    ),
    "flux2_dev": Row("flux2_dev", lambda m, x, g: {"latents": x.mT.unflatten(2, m.grid), "guidance_scale": g}),
    "flux2_klein": Row("flux2_klein", lambda m, x, g: {"latents": x.mT.unflatten(2, m.grid), "guidance_scale": g}),
    "z_image": Row("z_image", lambda m, x, g: {"latents": latent_image(m, x), "guidance_scale": g - 1.0}),
    "sana": Row(
        "sana",
        lambda m, x, g: {"latents": latent_image(m, x), "guidance_scale": g, "use_resolution_binning": False},
        image=(128, 192),
    ),
    "lumina2": Row("lumina2"),
    "wan": Row(
        "wan",
        lambda m, x, g: {"latents": latent_image(m, x).unsqueeze(2), "guidance_scale": g, "num_frames": 1},
        tolerance=2e-5,
    ),
    "wan_5b": Row(
        "wan_5b",
        lambda m, x, g: {"latents": latent_image(m, x).unsqueeze(2), "guidance_scale": g, "num_frames": 1},
        tolerance=2e-5,
    ),
    "qwen_image_21": Row(
        "qwen_image_21",
        lambda m, x, g: {"latents": x, "true_cfg_scale": g, "negative_prompt": " " if g > 1.0 else None},
        one_by_one=True,
    ),
    "aura_flow": Row("aura_flow"),
}
RELEASED = [name for name, row in ROWS.items() if row.pipeline]
EDITING = {
    "flux1_kontext": lambda images: {"image": images[0], "_auto_resize": False, "max_area": 64 * 96},
    "flux2_dev": lambda images: {"image": images},
    "flux2_klein": lambda images: {"image": images},
}
"""rows that take condition images, and how their pipeline is given them"""
QUICK = ("qwen_image", "sd3")
"""rows on which everything is tried by default; `make test-all` tries the rest on all the others"""


def cases(names: Iterable[str]) -> list[Any]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


def latent_image(model: DiffusersModel, x_BSC: Tensor) -> Tensor:
    return unpatchify(x_BSC, model.grid, model.family.patch)


@dataclass(frozen=True)
class Checkpoints:
    """Tiny checkpoints, written when they are first asked for, with one cache of encoded prompts each."""

    root: Path

    def folder(self, pipeline: str) -> Path:
        folder = self.root / pipeline
        return folder if folder.exists() else save_pipeline(pipeline, folder)

    def model(
        self, name: str, rank: int = 0, cache: Path | None = None, dtype: torch.dtype | None = None
    ) -> PolicyModel:  # fmt: skip
        """A fresh model of a row, with a new adapter where `rank` is above 0."""
        row = ROWS[name]
        if row.pipeline:
            cache = cache or self.root / "encoded"
            model: PolicyModel = open_checkpoint(self.folder(row.pipeline), row.image, dtype=dtype, cache=cache)
        else:
            model = tiny_model()
        if rank:
            add_adapter(model.network, Lora(rank, 8.0, model.lora_targets))
        model.freeze_reference()
        return model


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(params=ROWS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


released = pytest.mark.parametrize("name", RELEASED)
mostly_slow = pytest.mark.parametrize("name", cases(ROWS))
mostly_slow_released = pytest.mark.parametrize("name", cases(RELEASED))


def noise(model: PolicyModel, size: int = 2) -> Tensor:
    return model.noise(size, generator(0, 0, 0, "x"))


def made(model: PolicyModel, x_BSC: Tensor, guidance: float, steps: int = 4) -> Tensor:
    """Images of `TEXTS`."""
    cond, uncond, sampler = model.encode_text(TEXTS), model.unconditional(2), Sampler(steps, guidance)
    return model.decode(sample(model, x_BSC, cond, uncond, sampler, model.levels(sampler)))


def taught(model: PolicyModel) -> PolicyModel:
    """The model with an adapter that says something."""
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.network.parameters():
            if p.requires_grad:
                p.copy_(0.3 * torch.randn(p.shape, generator=random))
    return model


# --- what is sampled


def on_white(images: Tensor) -> Tensor:
    """Images in [0, 1] without the alpha channel that some autoencoders have."""
    return images if images.shape[1] == 3 else 1.0 + (images[:, :3] - 1.0) * images[:, 3:]


@pytest.mark.parametrize("guidance", [1.0, 4.5])
@released
def test_it_makes_what_its_pipeline_makes(checkpoints: Checkpoints, name: str, guidance: float) -> None:
    model, row = checkpoints.model(name), ROWS[name]
    pipe = open_pipeline(model.family, None, {})
    pipe.set_progress_bar_config(disable=True)
    x, images = noise(model), []
    for rows in ([0], [1]) if row.one_by_one else ([0, 1],):
        theirs = pipe(
            prompt=[TEXTS[i] for i in rows], num_inference_steps=4, height=row.image[0], width=row.image[1],
            output_type="pt", **row.asks(model, x[rows], guidance),
        )  # fmt: skip
        images.append(on_white(theirs.frames[:, 0] if hasattr(theirs, "frames") else theirs.images))
    ours = made(model, noise(model), guidance)
    assert torch.allclose(ours, torch.cat(images), atol=row.tolerance, rtol=0.0)
    assert ours.std() > 0.05


@pytest.mark.parametrize("guidance", [pytest.param(1.0, marks=pytest.mark.slow), 4.5])
@pytest.mark.parametrize("name", EDITING)
def test_it_edits_as_its_pipeline_edits(checkpoints: Checkpoints, name: str, guidance: float) -> None:
    """Two images of different sizes, where as many are taken."""
    model, text = checkpoints.model(name), "make it blue"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    numbers = [pixels, pixels[:, ::-1].repeat(2, axis=0)[:96]][: model.family.most_images]
    shown = [torch.from_numpy(each.copy()).permute(2, 0, 1) / 255.0 for each in numbers]
    x, ours = noise(model, 1), []
    for images in ([shown], [shown[:-1]] if shown[1:] else ()):
        cond, uncond, sampler = model.encode_text([text], images), model.unconditional(1, images), Sampler(4, guidance)
        ours.append(model.decode(sample(model, x, cond, uncond, sampler, model.levels(sampler))))
    pipe = open_pipeline(model.family, None, {})
    pipe.set_progress_bar_config(disable=True)
    height, width = ROWS[name].image
    theirs = pipe(
        prompt=[text], num_inference_steps=4, height=height, width=width, output_type="pt",
        **ROWS[name].asks(model, x, guidance) | EDITING[name]([Image.fromarray(each) for each in numbers]),
    ).images  # fmt: skip
    assert torch.allclose(ours[0], theirs, atol=1e-5, rtol=0.0)
    assert not torch.allclose(ours[0], ours[1], atol=5e-5)  # the tiny network hardly looks, but does


@pytest.mark.parametrize("name", [*cases(each for each in RELEASED if each != "wan"), "wan"])
def test_in_16_bits_it_makes_nearly_the_same(checkpoints: Checkpoints, name: str) -> None:
    """As checkpoints are stored; Wan keeps some weights in float32 even then."""
    whole, halved = (checkpoints.model(name, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert (whole.dtype, halved.dtype) == (torch.float32, torch.bfloat16)  # type: ignore[attr-defined]
    ours, theirs = (made(model, noise(model), 3.0, steps=2) for model in (halved, whole))
    assert (ours - theirs).square().mean().sqrt() < 0.03 < theirs.std()


@mostly_slow
def test_sigma_text_and_guidance_reach_the_answer(checkpoints: Checkpoints, name: str) -> None:
    model = checkpoints.model(name)
    x, cond, uncond = noise(model), model.encode_text(TEXTS), model.unconditional(2)
    sigma = torch.full((2,), 0.6)
    v = model.velocity(x, sigma, cond)
    assert v.shape == x.shape and v.dtype == x.dtype
    assert not torch.allclose(v, model.velocity(x, sigma, uncond), atol=1e-4)
    assert not torch.allclose(v, model.velocity(x, sigma - 0.3, cond), atol=1e-4)
    assert not torch.allclose(v, model.guided(x, sigma, cond, uncond, 7.0), atol=1e-4)


def test_an_answer_does_not_depend_on_its_batch(checkpoints: Checkpoints, name: str, tmp_path: Path) -> None:
    both = checkpoints.model(name, cache=tmp_path / "both").encode_text(TEXTS)
    model, rows = checkpoints.model(name, cache=tmp_path / "alone"), [0, 1, 0]
    x, sigma = noise(model, 3), torch.tensor([0.5])
    v = model.velocity(x, sigma.repeat(3), both.take(rows))
    for i, row in enumerate(rows):
        alone = model.encode_text(TEXTS[row : row + 1])
        length = int(alone.mask_BL.sum())
        assert torch.allclose(both.text_BLD[row, :length], alone.text_BLD[0, :length], atol=1e-5)
        assert torch.allclose(v[i : i + 1], model.velocity(x[i : i + 1], sigma, alone), atol=1e-5)


@mostly_slow
def test_conditionings_are_taken_repeated_and_stacked(checkpoints: Checkpoints, name: str) -> None:
    model = checkpoints.model(name)
    cond, x, sigma = model.encode_text(TEXTS), noise(model, 4), torch.full((4,), 0.5)
    v = model.velocity(x, sigma, cond.repeat(2))
    assert torch.allclose(v[2:], model.velocity(x[2:], sigma[2:], cond.take([1, 1])), atol=1e-5)
    both = Conditioning.stack([cond, model.unconditional(2)])
    assert torch.allclose(v[::2], model.velocity(torch.cat([x[::2]] * 2), sigma, both)[:2], atol=1e-5)


@mostly_slow
def test_it_makes_images_of_another_size(checkpoints: Checkpoints, name: str) -> None:
    height, width = ROWS[name].image
    model = checkpoints.model(name).sized((width, height))
    assert made(model, noise(model), 1.0).shape == (2, 3, width, height)


@released
def test_training_is_shifted_as_sampling_is(checkpoints: Checkpoints, name: str) -> None:
    """From one size to another the logit of a level moves by the difference of shifts; 0 where the shift is fixed."""
    small = checkpoints.model(name)
    large = small.sized((256, 256))
    difference = large.shift(large.grid[0] * large.grid[1]) - small.shift(small.grid[0] * small.grid[1])
    before, after = (model.levels(Sampler(50)) for model in (small, large))
    moved = [math.log(b * (1 - a) / (a * (1 - b))) for a, b in zip(before[15:36], after[15:36], strict=True)]
    assert moved == pytest.approx([difference] * len(moved), abs=1e-5)


@released
def test_encode_pixels_undoes_the_scale_of_decode(checkpoints: Checkpoints, name: str) -> None:
    """The autoencoder is random, so only the scale of latents can come back."""
    model = checkpoints.model(name)
    images = torch.rand(1, 3, *ROWS[name].image, generator=torch.Generator().manual_seed(0))
    x = model.encode_pixels(images)
    assert x.shape == noise(model, 1).shape
    shown = (
        torch.cat([images, torch.ones_like(images[:, :1])], 1) if model.vae.config.get("in_channels") == 4 else images
    )
    encoded = model.vae.encode((shown.unsqueeze(2) if "base_dim" in model.vae.config else shown) * 2 - 1)
    raw = encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mode()
    direct = model.vae.decode(raw, return_dict=False)[0].view(1, -1, *ROWS[name].image) * 0.5 + 0.5
    assert torch.allclose(model.decode(x), on_white(direct.clamp(0, 1)), atol=1e-5)


@mostly_slow_released
def test_stored_prompts_need_no_encoder(checkpoints: Checkpoints, name: str, tmp_path: Path) -> None:
    model = checkpoints.model(name, cache=tmp_path)
    x = noise(model)
    first = made(model, x, 3.0)
    model.release_encoders()
    assert torch.equal(first, made(model, x, 3.0))
    other = checkpoints.model(name, cache=tmp_path)
    other.release_encoders()
    assert torch.equal(first, made(other, x, 3.0))
    with pytest.raises(ValueError, match="a blue fox"):
        other.encode_text(["a blue fox"])


@released
def test_plans_know_its_rows(checkpoints: Checkpoints, name: str) -> None:
    model = checkpoints.model(name)
    hollow, (row,) = model.family.hollow_row(), model.prompts.rows([(TEXTS[1], ())])
    assert {key: value.shape[1:] for key, value in hollow.items()} == {key: v.shape[1:] for key, v in row.items()}
    assert hollow["text"].is_meta and len(row["text"]) <= len(hollow["text"])
    assert model.family.reads_padding == (len(row["text"]) == len(hollow["text"]))
    short = model.family.hollow_row(7)["text"]
    assert len(short) == (len(hollow["text"]) if model.family.reads_padding else 7)


# --- what learns


@mostly_slow_released
def test_only_dead_parts_learn_nothing(checkpoints: Checkpoints, name: str) -> None:
    model = checkpoints.model(name)
    for p in model.network.parameters():
        p.requires_grad_(True)
    model.velocity(noise(model), torch.full((2,), 0.5), model.encode_text(TEXTS)).square().mean().backward()
    still = {n for n, p in model.network.named_parameters() if p.grad is None or not p.grad.any()}
    dead = {n for n, _ in model.network.named_parameters() if is_dead(model.network, n)}
    # a token that stands for padding is read only where a length is no multiple of 32
    assert dead <= still
    assert not {n for n in still - dead if not n.endswith("pad_token")}


@mostly_slow
def test_a_new_adapter_changes_nothing_and_learns(checkpoints: Checkpoints, name: str) -> None:
    bare, model = checkpoints.model(name), checkpoints.model(name, rank=2)
    x, cond, sigma = noise(model), model.encode_text(TEXTS), torch.full((2,), 0.5)
    assert torch.equal(bare.velocity(x, sigma, cond), model.velocity(x, sigma, cond))
    model.velocity(x, sigma, cond).square().mean().backward()
    learning = {n: p for n, p in model.network.named_parameters() if p.requires_grad}
    assert learning and all(".lora_" in n for n in learning)
    assert all(p.grad is not None and (p.grad.any() or ".lora_A." in n) for n, p in learning.items())


EXPLORING = Exploration(flow.flow_sde, noise=0.7, window=2, within=3)
GRPO = grpo.Grpo(
    2, prompts=2, group=2, micro=4, sampler=Sampler(4, guidance=3.0), clip=1e-4, exploration=EXPLORING, beta=0.01
)


def brightness() -> Judged:
    return Judged(lambda batch, prompts, images: images.astype(float).mean((1, 2, 3)) / 255.0)


def begun(model: PolicyModel, memory: Memory | None = None) -> LocalEngine:
    engine = LocalEngine(model.network, OPTIM, memory=memory or Memory(), keep_frozen=False)
    model.trainable = engine.module
    model.match_reference()
    return engine


MEMORIES = {"float32": Memory(), "bf16": Memory(bf16=True), "recompute": Memory(recompute=True)}


RATIOS = [(name, memory, shared) for name in ROWS for memory in MEMORIES for shared in (True, False)]


@pytest.mark.parametrize(
    ("name", "memory", "shared"),
    [
        case if case[0] in QUICK or case[1:] == ("bf16", False) else pytest.param(*case, marks=pytest.mark.slow)
        for case in RATIOS
    ],
)
def test_the_first_ratio_is_one_and_the_adapter_alone_moves(
    checkpoints: Checkpoints, name: str, memory: str, shared: bool
) -> None:
    model = checkpoints.model(name, rank=2)
    model.recompute(MEMORIES[memory].recompute)
    cfg = replace(GRPO, exploration=replace(EXPLORING, shared_noise=shared, after_window=1.0 if shared else 0.5))
    engine = begun(model, MEMORIES[memory])
    before = {n: p.detach().clone() for n, p in model.network.named_parameters()}
    steps = list(grpo.train(model, engine, WORDS, brightness(), cfg))
    assert [step.metrics["ratio_gap_first"] for step in steps] == [0.0, 0.0]
    moved = {n for n, p in model.network.named_parameters() if not torch.equal(p, before[n])}
    assert moved and all(".lora_" in n for n in moved)


@mostly_slow
def test_dpo_begins_at_log_2(checkpoints: Checkpoints, name: str) -> None:
    model = checkpoints.model(name, rank=2)
    random = generator(0, 0, 0, "pairs")
    pairs = dpo.Pairs(model.noise(4, random), model.noise(4, random), TEXTS * 2)
    steps = list(dpo.train(model, begun(model), pairs, dpo.Dpo(2, batch=4, micro=2)))
    assert steps[0].metrics["loss"] == pytest.approx(math.log(2.0), abs=1e-6)
    assert steps[1].metrics["loss"] < math.log(2.0)


FROM_IMAGES = {"sampler": Sampler(4), "exploration": Exploration(window=0, within=0, shared_noise=False)}
FROM_STEPS = {"sampler": Sampler(4, 3.0), "exploration": EXPLORING}
ALGORITHMS = {
    "nft": (nft, nft.Nft, FROM_IMAGES), "awm": (awm, awm.Awm, FROM_IMAGES), "guard": (guard, guard.Guard, FROM_STEPS),
    "dppo": (dppo, dppo.Dppo, FROM_STEPS),
}  # fmt: skip


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@mostly_slow
def test_every_algorithm_makes_an_update(checkpoints: Checkpoints, name: str, algorithm: str) -> None:
    model = checkpoints.model(name, rank=2)
    module, kind, settings = ALGORITHMS[algorithm]
    before = {n: value.clone() for n, value in adapter_weights(model.network).items()}
    cfg = kind(1, prompts=2, group=2, micro=4, **settings)
    steps = list(module.train(model, begun(model), WORDS, brightness(), cfg))
    assert math.isfinite(steps[0].metrics["loss"])
    assert any(not torch.equal(value, before[n]) for n, value in adapter_weights(model.network).items())


@mostly_slow
def test_a_run_goes_on_where_it_stopped(checkpoints: Checkpoints, name: str, tmp_path: Path) -> None:
    whole = checkpoints.model(name, rank=2)
    list(grpo.train(whole, begun(whole), WORDS, brightness(), GRPO))
    first = checkpoints.model(name, rank=2)
    engine = begun(first)
    list(grpo.train(first, engine, WORDS, brightness(), replace(GRPO, steps=1)))
    engine.save(tmp_path / "saved")
    second = checkpoints.model(name, rank=2)
    engine = begun(second)
    engine.load(tmp_path / "saved")
    list(grpo.train(second, engine, WORDS, brightness(), GRPO, start=1))
    a, b = adapter_weights(whole.network), adapter_weights(second.network)
    assert all(torch.equal(a[n], b[n]) for n in a)
    size = sum(file.stat().st_size for file in (tmp_path / "saved").iterdir())
    adapter = sum(4 * value.numel() for value in a.values())
    assert size < 5 * adapter + 60_000  # weights, average, two moments, and headers: no table of positions


def kept_by_a_pass(model: PolicyModel) -> int:
    """Bytes that autograd keeps for the backward pass."""
    saved: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        saved[x.untyped_storage()._cdata] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        model.velocity(noise(model), torch.full((2,), 0.5), model.encode_text(TEXTS)).square().mean()
    return sum(saved.values())


@mostly_slow
def test_recomputing_keeps_less_and_answers_the_same(checkpoints: Checkpoints, name: str) -> None:
    model = checkpoints.model(name, rank=2)
    whole = kept_by_a_pass(model)
    gradients = []
    for on in (False, True):
        model.recompute(on)
        model.network.zero_grad(set_to_none=True)
        model.velocity(noise(model), torch.full((2,), 0.5), model.encode_text(TEXTS)).square().mean().backward()
        gradients.append({n: p.grad for n, p in model.network.named_parameters() if p.grad is not None})
    assert kept_by_a_pass(model) < 0.8 * whole
    assert all(torch.equal(gradients[0][n], gradients[1][n]) for n in gradients[0])


@mostly_slow
def test_a_reference_answers_as_what_learns_before_the_first_update(checkpoints: Checkpoints, name: str) -> None:
    """All weights learn in bfloat16, and the copy of a float32 checkpoint rounds as they do."""
    model = checkpoints.model(name)
    x, sigma = noise(model), torch.full((2,), 0.5)
    begun(model, Memory(bf16=True))
    cond = model.encode_text(TEXTS)
    with torch.no_grad():
        own = model.velocity(x, sigma, cond)
        with model.reference() as reference:
            assert torch.equal(own, reference.velocity(x, sigma, cond))


# --- what goes out


@mostly_slow_released
def test_its_pipeline_takes_our_adapter(checkpoints: Checkpoints, name: str, tmp_path: Path) -> None:
    model, other = taught(checkpoints.model(name, rank=2)), checkpoints.model(name)
    ours, bare = made(model, noise(model), 1.0), made(other, noise(model), 1.0)
    save_adapter(model.network, tmp_path / "pytorch_lora_weights.safetensors")
    open_pipeline(other.family, None, {"transformer": other.network, "vae": other.vae}).load_lora_weights(tmp_path)
    assert not torch.allclose(ours, bare, atol=1e-3)
    assert torch.allclose(ours, made(other, noise(model), 1.0), atol=2e-5)


@mostly_slow_released
def test_we_take_an_adapter_of_its_pipeline(checkpoints: Checkpoints, name: str, tmp_path: Path) -> None:
    """As diffusers' own trainers write it: under peft's names, with or without settings in the header."""
    from peft.utils import get_peft_model_state_dict

    model, other = taught(checkpoints.model(name, rank=2)), checkpoints.model(name)
    pipe = open_pipeline(other.family, None, {"transformer": other.network, "vae": other.vae})
    layers = get_peft_model_state_dict(model.network, adapter_name="default")
    pipe.save_lora_weights(tmp_path, transformer_lora_layers=layers)
    load_adapter(other.network, tmp_path / "pytorch_lora_weights.safetensors")
    a, b = adapter_weights(model.network), adapter_weights(other.network)
    assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@mostly_slow_released
def test_its_pipeline_takes_our_export(checkpoints: Checkpoints, name: str, tmp_path: Path) -> None:
    model = taught(checkpoints.model(name, rank=2))
    export_checkpoint(model, tmp_path / "exported")
    other = open_checkpoint(tmp_path / "exported", ROWS[name].image)
    assert torch.allclose(made(model, noise(model), 1.0), made(other, noise(model), 1.0), atol=2e-5)
