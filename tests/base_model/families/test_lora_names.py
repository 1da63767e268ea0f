"""LoRA files of other trainers for the families: the same change of the same layers as by diffusers' own tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from base_model.families.known import family_of
from base_model.families.lora_names import SD3, translated
from base_model.families.open_checkpoint import open_checkpoint, open_pipeline
from base_model.files.lora_files import read_factors
from base_model.lora import linear_layers
from experiments import cli
from tests.fixtures.tiny.tiny_families import save_pipeline

pytest.importorskip("diffusers")
Shapes = dict[str, tuple[int, int]]
BLOCK = (
    "x_block.attn2.qkv",
    "x_block.attn2.proj",
    "context_block.attn.proj",
    "context_block.mlp.fc1",
    "context_block.mlp.fc2",
)
"""layers that not every joint block of Stable Diffusion 3 has"""


def sd3_shapes() -> Shapes:
    """Of every published layer of the tiny Stable Diffusion 3: three blocks, the first with a second attention."""
    size = {"qkv": (96, 32), "proj": (32, 32), "fc1": (128, 32), "fc2": (32, 128)}
    wide = {("x", 0): 288, ("x", 1): 192, ("x", 2): 192, ("context", 0): 192, ("context", 1): 192, ("context", 2): 64}
    shapes: Shapes = {}
    for block in range(3):
        for layer in SD3:
            missing = ("attn2" in layer and block > 0) or (block == 2 and layer in BLOCK[2:])
            stream, end = layer.split("_", 1)[0], layer.rsplit(".", 1)[1]
            shape = (wide[stream, block], 32) if "adaLN" in layer else size[end]
            if not missing:
                shapes[f"joint_blocks.{block}.{layer}"] = shape
    return shapes


OTHERS: dict[str, tuple[str, Shapes]] = {
    "flux1_dev": ("lora_unet_", {
        "double_blocks_0_img_attn_qkv": (96, 32), "double_blocks_0_img_attn_proj": (32, 32),
        "double_blocks_0_txt_mlp_0": (128, 32), "single_blocks_0_linear2": (32, 160),
        "single_blocks_0_modulation_lin": (96, 32),
    }),
    "flux2_klein": ("lora_unet_", {
        "double_blocks_0_img_attn_qkv": (96, 32), "double_blocks_0_txt_attn_proj": (32, 32),
        "double_blocks_0_img_mlp_0": (192, 32), "single_blocks_0_linear1": (288, 32),
        "single_blocks_0_linear2": (32, 128),
    }),
    "z_image": ("lora_unet_", {
        "layers_0_attention_qkv": (96, 32), "layers_0_attention_out": (32, 32), "layers_0_feed_forward_w1": (85, 32),
    }),
    "wan": ("lora_unet_", {
        f"blocks_{i}_{part}_attn_{o}": (32, 32) for i in (0, 1) for part in ("self", "cross") for o in "qkvo"
    } | {f"blocks_{i}_ffn_{n}": shape for i in (0, 1) for n, shape in ((0, (64, 32)), (2, (32, 64)))}),
}  # fmt: skip
"""tiny pipeline -> prefix, and layers by the names of kohya and musubi with their shapes"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lora_names")


def base(home: Path, pipeline: str) -> Path:
    folder = home / pipeline
    return folder if folder.exists() else save_pipeline(pipeline, folder)


def random_lora(shapes: Shapes, prefix: str, alpha: float | None, dotted: bool = False) -> dict[str, Tensor]:
    """Random factors of rank 4 by kohya's names, or by ComfyUI's where `dotted`."""
    random = torch.Generator().manual_seed(7)
    down, up = ("lora_A", "lora_B") if dotted else ("lora_down", "lora_up")
    tensors: dict[str, Tensor] = {}
    for name, (high, wide) in shapes.items():
        layer = prefix + (name if dotted else name.replace(".", "_"))
        tensors[f"{layer}.{down}.weight"] = torch.randn(4, wide, generator=random)
        tensors[f"{layer}.{up}.weight"] = torch.randn(high, 4, generator=random)
        if alpha is not None:
            tensors[f"{layer}.alpha"] = torch.tensor(alpha)
    return tensors


def written(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, path)
    return path


def changes(folder: Path, file: Path) -> dict[str, Tensor]:
    """What the file adds to every layer's weight, as we read it."""
    family = family_of(folder)
    layers = linear_layers(family.hollow_network())
    factors = read_factors(file, lambda tensors: translated(family, layers, tensors))
    assert set(factors) <= set(layers)
    return {layer: f.B @ f.A * (f.alpha / f.rank) for layer, f in factors.items()}


class Whole(dict[str, Tensor]):
    """A published checkpoint that answers zeros for weights that a test does not care about."""

    def pop(self, key: str, *_: Any) -> Tensor:
        return super().pop(key, torch.zeros(6, 1))

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().__iter__()))


@pytest.mark.parametrize(
    ("prefix", "alpha", "dotted"),
    [("lora_unet_", 2.0, False), ("lora_unet_", None, False), ("diffusion_model.", None, True)],
)
def test_sd3_changes_what_diffusers_says_its_published_weights_are(
    prefix: str, alpha: float | None, dotted: bool, home: Path, tmp_path: Path
) -> None:
    from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

    shapes = sd3_shapes()
    tensors = random_lora(shapes, prefix, alpha, dotted)
    ours = changes(base(home, "sd3"), written(tmp_path / "a.safetensors", tensors))
    down, up = ("lora_A", "lora_B") if dotted else ("lora_down", "lora_up")
    published = Whole({"context_embedder.weight": torch.zeros(32, 1)})
    for name in shapes:
        layer = prefix + (name if dotted else name.replace(".", "_"))
        B, A = tensors[f"{layer}.{up}.weight"], tensors[f"{layer}.{down}.weight"]
        published[f"{name}.weight"] = B @ A * ((alpha or 4.0) / 4.0)
    theirs = convert_sd3_transformer_checkpoint_to_diffusers(published)
    expected = {
        n.removesuffix(".weight"): v for n, v in theirs.items() if n.startswith("transformer_blocks") and v.any()
    }
    expected = {name: value for name, value in expected.items() if not name.endswith("bias")}
    assert ours.keys() == expected.keys()
    assert all(torch.allclose(ours[name], value, atol=1e-5) for name, value in expected.items())


@pytest.mark.parametrize("alpha", [1.0, 8.0])
@pytest.mark.parametrize("pipeline", OTHERS)
def test_other_families_answer_as_in_their_pipeline(pipeline: str, alpha: float, home: Path, tmp_path: Path) -> None:
    prefix, shapes = OTHERS[pipeline]
    folder = base(home, pipeline)
    file = written(tmp_path / "a.safetensors", random_lora(shapes, prefix, alpha))
    ours = changes(folder, file)
    model = open_checkpoint(folder, (64, 96))
    pipe = open_pipeline(model.family, None, {})
    network = pipe.transformer
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pipe.load_lora_weights(str(tmp_path), weight_name="a.safetensors")
    pipe.fuse_lora()
    after = {name.replace(".base_layer", ""): value for name, value in network.state_dict().items()}
    moved = {n.removesuffix(".weight"): after[n] - v for n, v in before.items() if not torch.equal(after[n], v)}
    assert ours.keys() == moved.keys()
    assert all(torch.allclose(ours[name], value, atol=1e-4) for name, value in moved.items())


@pytest.mark.parametrize("ends", [("lora_A", "lora_B"), ("lora_down", "lora_up")])
@pytest.mark.parametrize("prefix", ["diffusion_model.", ""])
@pytest.mark.parametrize("alpha", [None, 8.0])
@pytest.mark.parametrize(
    ("pipeline", "layers"),
    [
        ("flux1_dev", ("double_blocks.0.img_attn.qkv", "double_blocks.0.img_attn.proj", "single_blocks.0.linear2")),
        ("flux2_klein", ("double_blocks.0.img_attn.qkv", "single_blocks.0.linear1")),
        ("z_image", ("layers.0.attention.qkv", "layers.0.attention.out")),
    ],
)
def test_names_with_dots_change_what_kohyas_change(
    pipeline: str, layers: tuple[str, ...], alpha: float | None, prefix: str, ends: tuple[str, str], home: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    shapes = {layer: OTHERS[pipeline][1][layer.replace(".", "_")] for layer in layers}
    kohya = random_lora(shapes, "lora_unet_", alpha)
    dotted = {
        name.replace(f"lora_unet_{layer.replace('.', '_')}", f"{prefix}{layer}")
        .replace("lora_down", ends[0]).replace("lora_up", ends[1]): value
        for name, value in kohya.items() for layer in layers if layer.replace(".", "_") + "." in name
    }  # fmt: skip
    ours = changes(base(home, pipeline), written(tmp_path / "dots.safetensors", dotted))
    theirs = changes(base(home, pipeline), written(tmp_path / "kohya.safetensors", kohya))
    assert ours.keys() == theirs.keys() and len(dotted) == len(kohya)
    assert all(torch.allclose(ours[name], value, atol=1e-5) for name, value in theirs.items())


def test_what_a_table_leaves_out_is_refused(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    whole = diffusers.FluxPipeline.lora_state_dict
    monkeypatch.setattr(
        diffusers.FluxPipeline, "lora_state_dict", lambda tensors: dict(list(whole(tensors).items())[:-2])
    )
    prefix, shapes = OTHERS["flux1_dev"]
    file = written(tmp_path / "a.safetensors", random_lora(shapes, prefix, 4.0))
    with pytest.raises(ValueError, match=r"knows \d+ of the \d+ rows of this LoRA"):
        changes(base(home, "flux1_dev"), file)


@pytest.mark.parametrize(
    ("name", "shape"), [("joint_blocks.0.x_block.attn.unknown", (32, 32)), ("some_blocks.0.qkv", (96, 32))]
)
def test_unknown_names_are_refused_by_name(name: str, shape: tuple[int, int], home: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "a.safetensors", random_lora({name: shape}, "lora_unet_", 4.0))
    with pytest.raises(ValueError, match="is not a LoRA of the transformer"):
        changes(base(home, "sd3"), file)


def test_a_user_imports_one_and_samples_with_it(home: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "a.safetensors", random_lora(sd3_shapes(), "lora_unet_", 2.0))
    assert cli.main(["import-lora", str(file), "--base", str(base(home, "sd3")), "-o", str(tmp_path / "run")]) == 0
    line = ["sample", str(tmp_path / "run"), "a red fox", "--steps", "2", "-o", str(tmp_path / "fox.png")]
    assert cli.main(line) == 0 and (tmp_path / "fox.png").is_file()
