"""How checkpoints of other families open: by their pipeline, in their own type and size, and what is warned of."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from base_model.families.diffusers_model import DiffusersModel
from base_model.families.encoded_prompts import EncodedPrompts
from base_model.families.known import FAMILIES, family_of
from base_model.families.open_checkpoint import encoders_of, open_checkpoint
from base_model.files.delta import load_derived, save_derived
from base_model.files.open_base import open_base, read_any
from base_model.lora import Lora, adapter_weights, add_adapter
from base_model.sample import Sampler
from tests.fixtures.tiny.tiny_families import save_pipeline, sd3

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline("sd3", tmp_path_factory.mktemp("base") / "stable-diffusion-3.5-tiny")


def named(folder: Path, place: Path) -> Path:
    """The same checkpoint in a folder of another name."""
    return Path(shutil.copytree(folder, place))


def test_its_size_is_its_own_unless_another_is_asked_for(folder: Path) -> None:
    assert open_base(folder).native == (64, 64)  # a sample of 8 x 8, 8 pixels each
    assert open_base(folder, (32, 96)).native == (32, 96)
    with pytest.raises(ValueError, match="72x64 does not divide into tokens of 16 pixels"):
        open_base(folder, (72, 64))


def test_its_weights_keep_the_type_that_they_are_stored_in(tmp_path: Path) -> None:
    pipe = sd3()
    pipe.transformer.to(torch.bfloat16)
    pipe.text_encoder.to(torch.float16)
    pipe.save_pretrained(tmp_path / "half")
    model = open_checkpoint(tmp_path / "half")
    assert isinstance(model, DiffusersModel) and model.dtype == torch.bfloat16
    assert next(model.vae.parameters()).dtype == torch.float32
    model.encode_text(["a red fox"])
    encoders = model.prompts._pipe
    assert (encoders.text_encoder.dtype, encoders.text_encoder_3.dtype) == (torch.float16, torch.float32)
    assert open_checkpoint(tmp_path / "half", dtype=torch.float32).dtype == torch.float32


def test_a_network_in_float16_is_opened_in_bfloat16(tmp_path: Path) -> None:
    pipe = sd3()
    pipe.transformer.to(torch.float16)
    pipe.save_pretrained(tmp_path / "half")
    assert open_checkpoint(tmp_path / "half").network.dtype == torch.bfloat16


def test_time_is_not_rounded_to_the_networks_type(folder: Path) -> None:
    """bfloat16 would make 0.600 and 0.601 one."""
    model = open_checkpoint(folder, dtype=torch.bfloat16)
    cond, x = model.encode_text(["a red fox"]), model.noise(1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = (model.velocity(x, torch.tensor([sigma]), cond) for sigma in (0.600, 0.601))
    assert not torch.equal(one, other) and one.dtype == torch.float32


def test_encoders_are_read_when_they_are_needed(folder: Path, tmp_path: Path) -> None:
    model = open_checkpoint(folder, cache=tmp_path)
    assert model.prompts._pipe is None
    model.encode_ahead(["a red fox"])
    assert model.prompts._pipe is not None
    again = open_checkpoint(folder, cache=tmp_path)
    again.encode_text(["a red fox", "a red fox"])
    again.unconditional(3)
    assert again.prompts._pipe is None, "both rows are stored"


def test_rows_of_other_encoders_are_not_taken(folder: Path, tmp_path: Path) -> None:
    one = open_checkpoint(folder, cache=tmp_path / "rows")
    one.encode_ahead(["a red fox"])
    other = named(folder, tmp_path / "other")
    (other / "tokenizer_3" / "added.json").write_text("{}")
    two = open_checkpoint(other, cache=tmp_path / "rows")
    two.release_encoders()
    with pytest.raises(ValueError, match=r"1 prompts were not encoded .* first 'a red fox'"):
        two.encode_text(["a red fox"])


def test_without_a_folder_rows_wait_in_memory(folder: Path) -> None:
    model = open_checkpoint(folder)
    before = model.encode_text(["a red fox"])
    model.encode_ahead(["a red fox"])
    model.release_encoders()
    sized = model.sized((32, 32))
    after = sized.encode_text(["a red fox"])
    assert torch.equal(before.text_BLD, after.text_BLD) and after.grids == ((2, 2),)
    assert len(sized.unconditional(2)) == 2
    with pytest.raises(ValueError, match="a blue fox"):
        sized.encode_text(["a blue fox"])


def test_a_damaged_row_is_encoded_again(folder: Path, tmp_path: Path) -> None:
    model = open_checkpoint(folder, cache=tmp_path)
    before = model.encode_text(["a red fox"])
    (row,) = tmp_path.rglob("*.safetensors")
    row.write_bytes(row.read_bytes()[:50])
    after = open_checkpoint(folder, cache=tmp_path).encode_text(["a red fox"])
    assert torch.equal(before.text_BLD, after.text_BLD) and row.stat().st_size > 50


@pytest.mark.parametrize("name", ["stable-diffusion-3.5-large-turbo", "Some-Lightning-4steps"])
def test_distilled_checkpoints_are_warned_of_by_name(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.warns(UserWarning, match=f"{name} was distilled to a few steps"):
        assert family_of(named(folder, tmp_path / name)).is_distilled
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not family_of(folder).is_distilled


def test_an_unknown_pipeline_lists_those_that_are_known(folder: Path, tmp_path: Path) -> None:
    odd = named(folder, tmp_path / "odd")
    index = json.loads((odd / "model_index.json").read_text())
    (odd / "model_index.json").write_text(json.dumps(index | {"_class_name": "OddPipeline"}))
    for opens in (family_of, read_any):
        with pytest.raises(ValueError, match="OddPipeline") as error:
            opens(odd)
        assert all(name in str(error.value) for name in FAMILIES)
    assert "QwenImagePipeline" in str(error.value)


def test_a_folder_that_lacks_a_part_says_so(folder: Path, tmp_path: Path) -> None:
    lost = named(folder, tmp_path / "lost")
    (lost / "transformer" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"transformer/config\.json"):
        open_base(lost)


def test_images_where_none_are_taken_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="StableDiffusion3Pipeline checkpoint takes at most 0 condition images"):
        open_base(folder).encode_text(["a red fox"], [[torch.zeros(3, 32, 32)]])


def test_all_weights_come_back_with_the_types_that_were_trained(folder: Path, tmp_path: Path) -> None:
    model = open_checkpoint(folder)
    with torch.no_grad():
        model.network.proj_out.weight.add_(0.1)
    save_derived(model, tmp_path / "full")
    again = load_derived(tmp_path / "full")
    own, theirs = model.network.state_dict(), again.network.state_dict()
    assert own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)


def test_an_adapter_comes_back_on_the_base_that_it_was_trained_on(folder: Path, tmp_path: Path) -> None:
    model = open_checkpoint(folder, (32, 64))
    add_adapter(model.network, Lora(2, 4.0))
    save_derived(model, tmp_path / "adapter")
    again = load_derived(tmp_path / "adapter")
    own, theirs = adapter_weights(model.network), adapter_weights(again.network)
    assert again.native == (32, 64) and all(torch.equal(own[name], theirs[name]) for name in own)
    assert not any(".2.attn.add_q_proj" in name for name in own), "nothing reads the last block's text queries"


def test_the_scheduler_decides_the_levels(folder: Path) -> None:
    """Of SD3: the scheduler's range from 1 to its shifted end, shifted again, whatever the number of steps."""
    levels = open_checkpoint(folder).levels(Sampler(6))
    assert levels == pytest.approx([1.0, 0.9230, 0.8189, 0.6679, 0.4320, 0.0089, 0.0], abs=1e-3)


def test_the_hollow_network_is_the_network_without_values(folder: Path) -> None:
    model = open_checkpoint(folder)
    hollow = model.hollow_network()
    assert all(p.is_meta for p in hollow.parameters())
    assert {n: p.shape for n, p in hollow.named_parameters()} == {
        n: p.shape for n, p in model.network.named_parameters()
    }
    assert [n for n, p in hollow.named_parameters() if not p.requires_grad] == [
        n for n, p in model.network.named_parameters() if not p.requires_grad
    ]
    assert encoders_of(model.family) == ["text_encoder", "text_encoder_2", "text_encoder_3"]


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder_2"])
def test_weights_that_were_cut_off_are_named_before_anything_is_loaded(folder: Path, tmp_path: Path, part: str) -> None:
    cut = named(folder, tmp_path / "cut")
    (path,) = (cut / part).glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=rf"{part}/{path.name} is cut off or damaged .*fetch it again"):
        open_checkpoint(cut)


Q = "transformer_blocks.0.attn.to_q.weight"


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("transformer", Q, torch.full((32, 32), torch.nan), rf"{Q} holds numbers that are not finite"),
        ("vae", "decoder.conv_in.bias", torch.full((8,), torch.inf), r"vae: decoder\.conv_in\.bias holds numbers"),
        ("transformer", Q, None, rf"lacks the weight {Q}"),
        ("vae", "decoder.conv_in.bias", None, r"vae lacks the weight decoder\.conv_in\.bias"),
        ("transformer", Q, torch.zeros(32, 32, dtype=torch.float8_e4m3fn), rf"{Q} is stored as F8_E4M3.*quantised"),
        ("transformer", Q, torch.zeros(32, 32, dtype=torch.int8), rf"{Q} is stored as I8.*quantised"),
        ("text_encoder_3", "shared.weight", torch.zeros(9, dtype=torch.uint8), r"shared\.weight is stored as U8"),
        ("transformer", Q.replace("weight", "scale_weight"), torch.ones(1), r"has no use for, first .*scale_weight"),
    ],
)  # fmt: skip
def test_weights_that_make_another_model_are_named(
    part: str, name: str, value: torch.Tensor | None, message: str, folder: Path, tmp_path: Path
) -> None:
    spoilt = named(folder, tmp_path / "spoilt")
    (path,) = (spoilt / part).glob("*.safetensors")
    state = {each: x for each, x in load_file(path).items() if each != name}
    save_file(state if value is None else state | {name: value}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message):
        open_checkpoint(spoilt)


def test_a_text_encoder_that_failed_is_named_when_it_is_read(folder: Path, tmp_path: Path) -> None:
    spoilt = named(folder, tmp_path / "spoilt")
    (path,) = (spoilt / "text_encoder").glob("*.safetensors")
    state = load_file(path)
    state["text_model.final_layer_norm.bias"][3] = torch.nan
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"final_layer_norm\.bias holds numbers that are not finite"):
        open_checkpoint(spoilt).encode_text(["a red fox"])


@pytest.mark.parametrize(
    ("part", "name"),
    [("text_encoder", "text_model.final_layer_norm.bias"), ("text_encoder_3", "encoder.final_layer_norm.weight")],
)
def test_a_text_encoder_that_lacks_a_weight_is_not_filled_up_by_lot(
    part: str, name: str, folder: Path, tmp_path: Path
) -> None:
    spoilt = named(folder, tmp_path / "spoilt")
    (path,) = (spoilt / part).glob("*.safetensors")
    save_file({each: x for each, x in load_file(path).items() if each != name}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"{part} lacks 1 weights of \w+, first .*{re.escape(name)}"):
        open_checkpoint(spoilt).encode_text(["a red fox"])


@pytest.mark.parametrize("text", ["a </s> cat", "a <|im_end|> cat", "a \ud83d cat"])
def test_tokens_of_its_tokenizers_and_what_is_no_text_are_refused(text: str, folder: Path, tmp_path: Path) -> None:
    """ "!" is none of them, with which one of Stable Diffusion 3's tokenizers pads."""
    settings = named(folder, tmp_path / "copy") / "tokenizer_2" / "tokenizer_config.json"
    added = json.loads(settings.read_text()) | {"added_tokens_decoder": {"0": {"content": "!", "special": True}}}
    settings.write_text(json.dumps(added))
    model = open_checkpoint(tmp_path / "copy")
    for ask in (model.check_text, lambda t: model.encode_text([t]), lambda t: model.encode_ahead(["a", t])):
        with pytest.raises(ValueError, match=r"the prompt contains (</s>|<\|im_end\|>|\\ud83d), "):
            ask(text)
    model.check_text("stop! <b> now")
    assert model.prompts._pipe is None, "it is said before an encoder is read"


@pytest.mark.parametrize(
    "file",
    ["scheduler/scheduler_config.json", "vae/config.json", "transformer/config.json", "text_encoder/config.json"],
)
def test_settings_that_are_missing_are_named(folder: Path, tmp_path: Path, file: str) -> None:
    poor = named(folder, tmp_path / "poor")
    (poor / file).unlink()
    with pytest.raises(ValueError, match=Path(file).parent.name):
        open_checkpoint(poor)


def test_prompts_that_are_stored_ask_no_encoder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are they a time in which something is encoded, for whoever counts what that takes."""
    prompts, asked = EncodedPrompts(family_of(folder), lambda: None, "x", tmp_path), []
    monkeypatch.setattr(
        prompts, "_encode", lambda new: asked.append(len(new)) or [{"text": torch.zeros(2, 3)}] * len(new)
    )
    for _ in range(2):
        assert len(prompts.rows([("a", ()), (None, ()), ("a", ())])) == 3
    assert asked == [2]


NETWORK, VAE, INDEX = "transformer/config.json", "vae/config.json", "model_index.json"
CHROMA = "ChromaTransformer2DModel"


@pytest.mark.parametrize(
    ("pipeline", "file", "settings", "message"),
    [
        ("flux1_dev", NETWORK, {"_class_name": CHROMA}, f"names {CHROMA} .* FluxPipeline calls FluxTransformer2D"),
        ("flux1_dev", INDEX, {"transformer": ["diffusers", CHROMA]}, f"model_index.json names {CHROMA} as"),
        ("flux1_dev", NETWORK, {"guidance_embeds": None}, "transformer/config.json has no 'guidance_embeds'"),
        ("sd3", NETWORK, {"_class_name": None}, "config.json has no '_class_name'"),
        ("sd3", VAE, {"block_out_channels": None}, "vae/config.json has no 'block_out_channels'"),
        ("sd3", INDEX, {"scheduler": ["diffusers", "DDIMScheduler"]}, "DDIMScheduler whose noise levels are not"),
        ("sd3", NETWORK, {"num_attention_heads": 4}, r"sd3 cannot be opened: .*expected shape .*\]\)\. Where files"),
        ("sd3", VAE, {"latent_channels": 4}, "sd3 cannot be opened: .* expected shape"),
        ("sd3", "text_encoder/config.json", {"hidden_size": 32}, "sd3 cannot be opened: .*mismatched_sizes"),
        ("sd3", "tokenizer_2/tokenizer.json", None, "sd3 cannot be opened: .*tokenizer"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    folder: Path, tmp_path: Path, pipeline: str, file: str, settings: dict[str, object] | None, message: str
) -> None:
    """FLUX.1's layers have the names of Chroma's, which answers otherwise."""
    odd = tmp_path / pipeline
    named(folder, odd) if pipeline == "sd3" else save_pipeline(pipeline, odd)
    if settings is None:
        (odd / file).unlink()
    else:
        changed = json.loads((odd / file).read_text()) | settings
        (odd / file).write_text(json.dumps({name: value for name, value in changed.items() if value is not None}))
    with pytest.raises(ValueError, match=message):
        open_checkpoint(odd).encode_text(["a red fox"])
    if "Chroma" in message:
        with pytest.raises(ValueError, match=message):
            family_of(odd).hollow_network()  # of plans
