"""LoRA files as other trainers write them: the right strength of every layer, or a refusal that names what is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from base_model.files.lora_files import CONFIG, HEADER, LAYERS
from base_model.files.released import load_transformer, read_base
from base_model.lora import (
    adapter_layers,
    adapter_weights,
    check_adapter,
    linear_layers,
    load_adapter,
    read_adapter,
    save_adapter,
)
from base_model.qwen.mmdit import MMDiT
from experiments.evaluation.sample_released import import_lora
from tests.base_model.files.test_released import ask

CASES = Path(__file__).parents[2] / "fixtures" / "cases" / "lora"
Q, OUT, MLP = (
    "transformer_blocks.0.attn.to_q",
    "transformer_blocks.0.attn.to_out.0",
    "transformer_blocks.1.img_mlp.net.2",
)
SIZES = {Q: (64, 64), OUT: (64, 64), MLP: (64, 256)}


def factors(rank: int = 4, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of three layers."""
    random = torch.Generator().manual_seed(seed)
    return {
        layer: (torch.randn(rank, wide, generator=random), torch.randn(high, rank, generator=random))
        for layer, (high, wide) in SIZES.items()
    }


def transformer_of(folder: Path) -> Any:
    """diffusers' transformer of a checkpoint, without the rest of its pipeline."""
    from diffusers import QwenImageTransformer2DModel

    return QwenImageTransformer2DModel.from_pretrained(folder / "transformer").eval()


def written(path: Path, tensors: dict[str, Tensor], settings: object = None) -> Path:
    header = {} if settings is None else {HEADER: settings if isinstance(settings, str) else json.dumps(settings)}
    save_file(tensors, path, metadata={"format": "pt", **header})
    return path


def diffusers_file(path: Path, settings: object = None, rank: int = 4, **more: Tensor) -> Path:
    tensors = dict(more)
    for layer, (a, b) in factors(rank).items():
        tensors |= {f"transformer.{layer}.lora_A.weight": a, f"transformer.{layer}.lora_B.weight": b}
    return written(path, tensors, settings)


def strengths(path: Path, names: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """How strongly a file is read: its B A against those of the plain factors, which must be in proportion."""
    lora, tensors = read_adapter(path)
    assert {n.rsplit(".lora_", 1)[0] for n in tensors} == names.keys(), "a layer was lost, or came from nowhere"
    found = {}
    for layer, (a, b) in names.items():
        A, B = (tensors[f"{layer}.lora_{part}.weight"].float() for part in "AB")
        ours, plain = lora.alpha / lora.rank * (B @ A), b.float() @ a.float()
        found[layer] = float((ours * plain).sum() / (plain * plain).sum())
        assert torch.allclose(ours, found[layer] * plain, atol=1e-4 * float(ours.abs().max()))
    return found


def plain_of(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """The factors of a case's file by layer, whatever its layout."""
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, value in load_file(path).items():
        layer = name.split(".lora_")[0].removeprefix("transformer.").removeprefix("lora_unet_")
        if ".lora_" in name:
            flat = {f"transformer_blocks_{i}_{end.replace('.', '_')}": f"transformer_blocks.{i}.{end}"
                    for i in (0, 1) for end in LAYERS}  # fmt: skip
            part = "A" if "lora_A" in name or "down" in name else "B"
            pairs.setdefault(flat.get(layer, layer), {})[part] = value
    return {layer: (found["A"], found["B"]) for layer, found in pairs.items()}


def test_every_linear_layer_of_a_block_is_known(t2i: Path) -> None:
    with torch.device("meta"):
        network = MMDiT(read_base(t2i).transformer)
    assert {name.split(".", 2)[2] for name in linear_layers(network)} == set(LAYERS)


@pytest.mark.parametrize(
    ("case", "expected", "special"),
    [
        ("diffusers_header_rslora", 4.0, {}),
        ("diffusers_header_alpha_pattern", 2.0, {Q: 4.0}),
        ("alpha_negative", -2.0, {}),
        ("onetrainer_transformer_down_up_alpha", 2.0, {}),
        ("musubi_float8_e4m3fn", 0.5, {}),
    ],
)
def test_the_cases_of_other_peoples_adapters(case: str, expected: float, special: dict[str, float], t2i: Path) -> None:
    path = CASES / f"{case}.safetensors"
    names = plain_of(path)
    found = strengths(path, names)
    assert len(found) == 7 and found == pytest.approx({layer: special.get(layer, expected) for layer in names})
    network = load_transformer(read_base(t2i))
    plain = ask(network)
    load_adapter(network, path)
    assert torch.isfinite(ask(network)).all() and (ask(network) - plain).abs().max() > 1e-3


def test_a_folder_with_one_file_is_read_as_that_file(tmp_path: Path) -> None:
    """peft and diffusers save into a folder, and that is what one types."""
    file = diffusers_file(tmp_path / "pytorch_lora_weights.safetensors")
    assert strengths(tmp_path, plain_of(file)) == strengths(file, plain_of(file))
    diffusers_file(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"holds other\.safetensors, pytorch_lora_weights\.safetensors; name the file"):
        read_adapter(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds none; name the file"):
        read_adapter(tmp_path / "empty")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("musubi_dora_scale", r"dora_scale'.*this is a DoRA"),
        ("nan_weights", r"transformer_blocks\.0\.attn\.to_q\.lora_B\.weight holds numbers that are not finite"),
        ("alpha_nan", r"\.alpha holds numbers that are not finite"),
        ("diffusers_top_img_in", r"has a LoRA beside the blocks, first \['transformer\.img_in"),
        ("header_list", r"settings in the header of .* are \[1\], not an object"),
    ],
)
def test_the_cases_that_cannot_be_read_are_named(case: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_adapter(CASES / f"{case}.safetensors")


# --- layouts ------------------------------------------------------------------------------------------------------

DOTTED = ["", "transformer.", "diffusion_model.", "model.diffusion_model.", "pipe.dit.", "base_model.model.",
          "base_model.model.transformer.", "transformer.transformer."]  # fmt: skip
ENDS = [("lora_A", "lora_B"), ("lora_down", "lora_up"), ("lora.down", "lora.up"), ("lora_A.default", "lora_B.default"),
        ("lora_linear_layer.down", "lora_linear_layer.up")]  # fmt: skip


@pytest.mark.parametrize("outer", [*DOTTED, "lora_unet_", "lora_transformer_"])
@pytest.mark.parametrize("ends", ENDS)
def test_layouts_are_read_with_the_alpha_beside_each_layer(outer: str, ends: tuple[str, str], tmp_path: Path) -> None:
    tensors, alphas = {}, dict(zip(SIZES, (8.0, 4.0, 1.0), strict=True))
    for layer, (a, b) in factors().items():
        name = outer + (layer if outer in DOTTED else layer.replace(".", "_"))
        tensors |= {f"{name}.{ends[0]}.weight": a, f"{name}.{ends[1]}.weight": b}
        tensors[f"{name}.alpha"] = torch.tensor(alphas[layer])
    path = written(tmp_path / "a.safetensors", tensors)
    assert strengths(path, factors()) == pytest.approx({Q: 2.0, OUT: 1.0, MLP: 0.25})
    for name in [n for n in tensors if n.endswith(".alpha")]:
        tensors[name] = torch.tensor(8)  # an integer, and the same for all: the weights stay as they are
    lora, read = read_adapter(written(tmp_path / "a.safetensors", tensors))
    assert (lora.rank, lora.alpha) == (4, 8.0) and torch.equal(read[f"{Q}.lora_B.weight"], factors()[Q][1])
    bare = written(tmp_path / "a.safetensors", {n: v for n, v in tensors.items() if not n.endswith(".alpha")})
    if outer.startswith("base_model"):
        with pytest.raises(ValueError, match=rf"keeps the strength in {CONFIG}"):
            read_adapter(bare)
    else:
        assert strengths(bare, factors()) == pytest.approx(dict.fromkeys(SIZES, 1.0))


@pytest.mark.parametrize("style", ["lora_unet_", "diffusion_model.", "default."])
def test_layouts_that_diffusers_reads_answer_as_in_diffusers(style: str, t2i: Path, tmp_path: Path) -> None:
    from diffusers import QwenImagePipeline

    tensors = {}
    for number, (layer, (a, b)) in enumerate(factors().items()):
        name = layer.replace(".", "_") if style == "lora_unet_" else layer
        down, up = ("lora_A.default", "lora_B.default") if style == "default." else ("lora_down", "lora_up")
        outer = "" if style == "default." else style
        tensors |= {f"{outer}{name}.{down}.weight": a, f"{outer}{name}.{up}.weight": 0.1 * b}
        if style != "default.":
            tensors[f"{outer}{name}.alpha"] = torch.tensor(3.0 + 2 * number)
    path = written(tmp_path / "a.safetensors", tensors)
    theirs, network = transformer_of(t2i), load_transformer(read_base(t2i))
    plain = ask(network)
    load_adapter(network, path)
    theirs.load_lora_adapter(QwenImagePipeline.lora_state_dict(str(tmp_path), weight_name="a.safetensors"))
    assert (ask(network) - plain).abs().max() > 0.01
    assert (ask(network) - ask(theirs)).abs().max() < 1e-4


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "lora_alpha": 8, "use_rslora": True},
        {"r": 1, "lora_alpha": 8, "use_rslora": True},
        {"r": 4, "lora_alpha": 8, "alpha_pattern": {"transformer_blocks.0.attn.to_q": 16, "to_out.0": 3}},
        {"r": 4, "lora_alpha": 8, "alpha_pattern": {r".*\.net\.2": 1}, "rank_pattern": {"to_q": 2, "net.2": 6}},
        {"r": 4, "lora_alpha": 5, "use_rslora": True, "alpha_pattern": {"0.attn.to_q": 7}, "rank_pattern": {"to_q": 9}},
        {"r": 2, "lora_alpha": -3},
    ],
)
def test_settings_answer_as_in_peft(settings: dict[str, Any], t2i: Path, tmp_path: Path) -> None:
    """As diffusers saves them in the header, and as peft saves them in a file beside; and again as we save them."""
    from diffusers import QwenImagePipeline
    from peft import LoraConfig, get_peft_model
    from peft.utils import get_peft_model_state_dict

    inner = transformer_of(t2i)
    config = LoraConfig(**settings, target_modules=["to_q", "to_out.0", "net.2"])
    theirs = get_peft_model(inner, config)
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.2, generator=random)
    theirs.save_pretrained(tmp_path / "peft")
    state = get_peft_model_state_dict(theirs)
    QwenImagePipeline.save_lora_weights(
        tmp_path / "diffusers", {n.removeprefix("base_model.model."): v for n, v in state.items()},
        transformer_lora_adapter_metadata=config.to_dict(),
    )  # fmt: skip
    expected = ask(inner)
    files = [tmp_path / "diffusers" / "pytorch_lora_weights.safetensors", tmp_path / "peft/adapter_model.safetensors"]
    for file in files:
        network = load_transformer(read_base(t2i))
        plain = ask(network)
        load_adapter(network, file)
        assert (ask(network) - plain).abs().max() > 0.01
        assert (ask(network) - expected).abs().max() < 1e-4
        save_adapter(network, tmp_path / "ours.safetensors")
        again = load_transformer(read_base(t2i))
        load_adapter(again, tmp_path / "ours.safetensors")
        assert torch.equal(ask(again), ask(network))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"lora_bias": True}, "lora_bias=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out=True"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "layer_replication="),
        ({"modules_to_save": ["img_in"]}, "modules_to_save="),
        ({"target_parameters": ["w"]}, "target_parameters="),
        ({"use_qalora": True}, "use_qalora=True"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices="),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights='loftq'"),
        ({"peft_type": "LOHA"}, "peft_type='LOHA'"),
        ({"of_next_year": 3}, "of_next_year=3"),
        ({"use_rslora": "yes"}, "use_rslora='yes'; it must be true or false"),
        ({"lora_alpha": None}, "lora_alpha=None; it must be a finite number"),
        ({"lora_alpha": 0}, "lora_alpha=0"),
        ({"lora_alpha": 10**400}, "lora_alpha=1000"),
        ({"lora_alpha": math.nan}, "lora_alpha=nan"),
        ({"alpha_pattern": {"to_q": math.inf}}, "alpha_pattern of to_q=inf"),
        ({"lora_alpha": "8"}, "lora_alpha='8'"),
        ({"lora_alpha": True}, "lora_alpha=True"),
        ({"lora_alpha": [8]}, r"lora_alpha=\[8\]"),
        ({"r": 8}, "has rank 4, and its settings say 8"),
        ({"r": None}, "r=None"),
        ({"rank_pattern": {"to_q": 2}}, "has rank 4, and its settings say 2"),
        ({"alpha_pattern": {"to_q": "x"}}, "alpha_pattern of to_q='x'"),
        ({"alpha_pattern": [1]}, r"alpha_pattern=\[1\]"),
        ({"alpha_pattern": {"(": 1}}, r"'\(', which is not a pattern"),
    ],
)
def test_settings_that_would_change_the_answer_are_refused_by_name(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    told = {f"transformer.{name}": value for name, value in {"r": 4, "lora_alpha": 8, **settings}.items()}
    with pytest.raises(ValueError, match=message):
        read_adapter(diffusers_file(tmp_path / "a.safetensors", told))


@pytest.mark.parametrize("header", ["[1]", "5", '"x"', "null", "{", "", " ", '{"transformer.r": 4}', "[" * 99999])
def test_a_header_of_another_shape_is_refused_or_says_nothing(header: str, tmp_path: Path) -> None:
    path = diffusers_file(tmp_path / "a.safetensors", header)
    if header == "":
        assert read_adapter(path)[0].alpha == 4.0
        return
    with pytest.raises(ValueError, match=r"header of .*a\.safetensors"):
        read_adapter(path)


def test_settings_that_change_nothing_change_nothing(tmp_path: Path) -> None:
    told = {
        "r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": ["to_q"], "peft_type": "LORA", "bias": "none",
        "inference_mode": True, "init_lora_weights": "gaussian", "use_dora": False, "megatron_core": "megatron.core",
        "runtime_config": {"ephemeral_gpu_offload": False}, "rank_pattern": {}, "alpha_pattern": None,
    }  # fmt: skip
    for patterns in ({}, {"alpha_pattern": {"o_q": 16}, "rank_pattern": {"et.2": 9}}):  # a part of a name is no name
        settings = {f"transformer.{name}": value for name, value in (told | patterns).items()} | {"text_encoder.r": 5}
        assert strengths(diffusers_file(tmp_path / "a.safetensors", settings), factors()) == dict.fromkeys(SIZES, 2.0)


def test_an_alpha_in_two_places_is_one_alpha(tmp_path: Path) -> None:
    alpha = {f"transformer.{Q}.alpha": torch.tensor(8.0)}
    settings = {"transformer.r": 4, "transformer.lora_alpha": 8}
    path = diffusers_file(tmp_path / "a.safetensors", settings, **alpha)
    assert strengths(path, factors()) == dict.fromkeys(SIZES, 2.0)
    for other in ({"transformer.lora_alpha": 4}, {"transformer.use_rslora": True}):
        with pytest.raises(ValueError, match="has alpha 8 beside its weights, and its settings say"):
            read_adapter(diffusers_file(tmp_path / "a.safetensors", settings | other, **alpha))


# --- what is lost, torn or of another sort ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"transformer.{Q}.dora_scale", "DoRA"),
        (f"base_model.model.{Q}.lora_magnitude_vector.default.weight", "DoRA"),
        (f"transformer.{Q}.lora_B.bias", "biases"),
        (f"transformer.{Q}.diff", "differences"),
        (f"transformer.{Q}.lokr_w1", "LoKr"),
        (f"transformer.{Q}.hada_w1_a", "LoHa"),
        (f"transformer.{Q}.scale_weight", "quantised"),
        ("text_encoder.model.layers.0.q_proj.lora_A.weight", "text encoder"),
        ("lora_te_text_model_0.lora_down.weight", "text encoder"),
        (f"transformer.{Q}.weight", "1 other names"),
        ("transformer.norm_out.linear.lora_A.weight", "beside the blocks"),
        ("lora_unet_proj_out.lora_down.weight", "beside the blocks"),
        ("lora_unet_time_text_embed_timestep_embedder_linear_1.alpha", "beside the blocks"),
        ("transformer.transformer_blocks.1.attn.to_k.lora_A.weight", r"to_k lacks one of its two factors"),
        ("transformer.transformer_blocks.1.attn.to_k.lora_B.weight", r"to_k lacks one of its two factors"),
        ("transformer.transformer_blocks.1.attn.to_k.alpha", r"to_k lacks one of its two factors"),
        (f"{Q}.lora_A.weight", "are of one layer"),
        (f"transformer.{Q}.lora_A.second.weight", "are of one layer"),
    ],
)
def test_nothing_in_a_file_is_left_out_in_silence(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_adapter(diffusers_file(tmp_path / "a.safetensors", **{name: torch.ones(4, 64)}))


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_named(kind: torch.dtype, value: float, tmp_path: Path) -> None:
    path = diffusers_file(tmp_path / "a.safetensors")
    tensors = {name: tensor.to(kind) for name, tensor in load_file(path).items()}
    tensors[f"transformer.{MLP}.lora_A.weight"][2, 3] = value
    with pytest.raises(ValueError, match=r"1\.img_mlp\.net\.2\.lora_A\.weight holds numbers that are not finite"):
        read_adapter(written(path, tensors))


def test_other_types_are_read_exactly_or_refused(tmp_path: Path) -> None:
    path = diffusers_file(tmp_path / "a.safetensors")
    plain = load_file(path)
    for kind in (torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2):
        tensors = {name: tensor.to(kind) for name, tensor in plain.items()}
        _, read = read_adapter(written(path, tensors))
        assert read.keys() == {name.removeprefix("transformer.") for name in plain}
        assert all(torch.equal(read[n.removeprefix("transformer.")].float(), v.float()) for n, v in tensors.items())
    mixed = {n: v.to(torch.bfloat16 if "lora_A" in n else torch.float32) for n, v in plain.items()}
    assert {v.dtype for v in read_adapter(written(path, mixed))[1].values()} == {torch.float32}
    for kind in (torch.float8_e4m3fn, torch.float16, torch.int32):  # of the alpha alone
        alpha = {f"transformer.{layer}.alpha": torch.tensor(8).to(kind) for layer in SIZES}
        assert read_adapter(written(path, plain | alpha))[0].alpha == 8.0
    for kind in (torch.int8, torch.uint8, torch.bool, torch.int64):
        with pytest.raises(ValueError, match=r"lora_A\.weight is of the type .*quantised"):
            read_adapter(written(path, {n: (v.to(kind) if "lora_A" in n else v) for n, v in plain.items()}))


def test_factors_that_do_not_belong_together_are_named(t2i: Path, tmp_path: Path) -> None:
    path = diffusers_file(tmp_path / "a.safetensors")
    for shape in ((5, 64), (4,), (4, 64, 1, 1), (0, 64)):
        with pytest.raises(ValueError, match=r"are not factors of one matrix"):
            read_adapter(written(path, load_file(diffusers_file(path)) | {
                f"transformer.{Q}.lora_A.weight": torch.zeros(shape)}))  # fmt: skip
    for value in (torch.tensor([1.0, 2.0]), torch.tensor(0.0), torch.zeros(0)):
        with pytest.raises(ValueError, match=r"to_q\.alpha is .*; it must be one number other than 0"):
            read_adapter(diffusers_file(path, **{f"transformer.{Q}.alpha": value}))
    tensors = load_file(diffusers_file(path)) | {f"transformer.{Q}.lora_A.weight": torch.zeros(4, 32)}
    with torch.device("meta"):
        network = MMDiT(read_base(t2i).transformer)
    with pytest.raises(ValueError, match=r"to_q is for a layer of 32 inputs and 64 outputs, and this has 64 and 64"):
        check_adapter(network, read_adapter(written(path, tensors))[1])


def test_an_import_complains_before_the_checkpoint_is_read(
    t2i: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the checkpoint was read")

    monkeypatch.setattr("experiments.evaluation.sample_released.open_base", never)
    deep = {f"transformer.transformer_blocks.9.attn.to_q.lora_{part}.weight": torch.zeros(4, 4) for part in "AB"}
    for path in (diffusers_file(tmp_path / "a.safetensors", **deep), CASES / "musubi_dora_scale.safetensors"):
        with pytest.raises(ValueError, match=r"not in the network|DoRA"):
            import_lora(path, str(t2i), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_fills_up_a_smaller_rank_learns_nothing(t2i: Path, tmp_path: Path) -> None:
    tensors = load_file(diffusers_file(tmp_path / "a.safetensors"))
    tensors |= {
        f"transformer.{Q}.lora_A.weight": torch.ones(2, 64),
        f"transformer.{Q}.lora_B.weight": torch.ones(64, 2),
    }
    network = load_transformer(read_base(t2i))
    load_adapter(network, written(tmp_path / "a.safetensors", tensors))
    assert {layer.r["default"] for layer in adapter_layers(network).values()} == {4}
    random = torch.Generator().manual_seed(2)
    x, text = torch.randn(2, 24, 16, generator=random), torch.randn(2, 9, 32, generator=random)
    network(x, torch.tensor([0.3, 0.8]), text, None, [(4, 6)] * 2).square().sum().backward()
    weights = {n.replace(".default.", "."): p for n, p in network.named_parameters() if p.requires_grad}
    a, b = (weights[f"{Q}.lora_{part}.weight"] for part in "AB")
    assert a.grad is not None and b.grad is not None and a.grad[:2].abs().sum() > 0 and b.grad[:, :2].abs().sum() > 0
    assert not a.grad[2:].any() and not b.grad[:, 2:].any() and not a[2:].any() and not b[:, 2:].any()
    assert adapter_weights(network)[f"{Q}.lora_A.weight"].shape == (4, 64)
