"""Released folders in and out: bit for bit, within one copy of memory, and what is wrong with a bad one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignment.trajectory import Exploration, rollout
from base_model import flow
from base_model.engine.schedule import Schedule, read_schedule
from base_model.files import released
from base_model.files.hub import released_folder
from base_model.files.released import export, load_base, load_transformer, load_vae, read_base
from base_model.files.shards import load_into, read_all, weight_files, write_shards
from base_model.lora import Lora, add_adapter, load_adapter, save_adapter
from base_model.qwen.mmdit import MMDiT
from base_model.qwen.vae import QWEN_IMAGE_VAE, QwenImageVAE, image_weights
from base_model.sample import Sampler
from tests.fixtures.tiny.tiny_released import SCHEDULER, open_pipeline

TRANSFORMER_FILE = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copied(t2i: Path, tmp_path: Path) -> Path:
    """A folder that may be damaged."""
    return shutil.copytree(t2i, tmp_path / "copy")


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return dict(read_all(folder))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


# --- in and out ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_in_shards_is_read_whole(t2i):
    assert len(weight_files(t2i / "transformer")) > 2
    model, pipe = load_base(read_base(t2i), (64, 64)), open_pipeline(t2i)
    assert same(dict(model.network.state_dict()), dict(pipe.transformer.state_dict()))
    assert same(dict(model.vae.state_dict()), image_weights(pipe.vae.state_dict()))
    assert model.vae.mean.flatten().tolist() == pytest.approx([0.1, -0.2, 0.3, 0.0])
    assert not any(p.is_meta for p in model.network.parameters())


def test_import_export_import_is_bit_identical_and_diffusers_reads_it(t2i, tmp_path):
    base = read_base(t2i)
    network = load_transformer(base)
    export(network, base, tmp_path / "out")
    again = read_base(tmp_path / "out")
    assert replace(again, name=base.name, folder=base.folder) == base
    assert same(dict(load_transformer(again).state_dict()), dict(network.state_dict()))
    assert same(tensors(tmp_path / "out" / "transformer"), tensors(t2i / "transformer"))
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        for path in (t2i / part).iterdir():
            assert (tmp_path / "out" / part / path.name).read_bytes() == path.read_bytes()
    pipe = open_pipeline(tmp_path / "out")
    assert same(dict(pipe.transformer.state_dict()), dict(network.state_dict()))
    assert pipe.transformer.config.zero_cond_t is False
    made = pipe(prompt="a", height=32, width=32, num_inference_steps=2, output_type="pt").images
    assert made.shape == (1, 3, 32, 32) and made.isfinite().all()


def test_what_was_learned_is_exported_and_only_that(t2i, tmp_path):
    base = read_base(t2i)
    network = load_transformer(base)
    with torch.no_grad():
        network.img_in.weight.add_(1.0)
    export(network, base, tmp_path / "out")
    before, after = tensors(t2i / "transformer"), tensors(tmp_path / "out" / "transformer")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"img_in.weight"} and torch.equal(after["img_in.weight"], before["img_in.weight"] + 1.0)


def test_zero_cond_t_survives_the_circle(plus, tmp_path):
    base = read_base(plus)
    export(load_transformer(base), base, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "transformer" / "config.json").read_text())
    assert config["zero_cond_t"] is base.transformer.zero_cond_t
    assert read_base(tmp_path / "out").transformer == base.transformer


def test_types_are_kept_and_can_be_asked_for(t2i, copied):
    for path in weight_files(copied / "transformer"):
        save_file({name: value.bfloat16() for name, value in load_file(path).items()}, path)
    base = read_base(copied)
    assert {p.dtype for p in load_transformer(base).parameters()} == {torch.bfloat16}
    assert {p.dtype for p in load_transformer(base, dtype=torch.float32).parameters()} == {torch.float32}
    assert {p.dtype for p in load_vae(base).parameters()} == {torch.float32}


def test_shards_are_cut_and_put_together(tmp_path):
    drawn = {f"w{i}": torch.randn(100, generator=torch.Generator().manual_seed(i)) for i in range(7)}
    assert len(write_shards(drawn, tmp_path, most=900)) == 4
    assert same(tensors(tmp_path), drawn)


def test_a_tensor_in_two_shards_is_taken_from_the_file_of_the_index(t2i, copied):
    files = weight_files(copied / "transformer")
    states = [load_file(path) for path in files]
    for holder, state in enumerate(states):
        name, other = next(iter(state)), (holder + 1) % len(files)
        save_file(load_file(files[other]) | {name: torch.full_like(state[name], 9.0)}, files[other])
    assert same(
        dict(load_transformer(read_base(copied)).state_dict()), dict(load_transformer(read_base(t2i)).state_dict())
    )
    save_file({n: v for n, v in load_file(files[0]).items() if n != next(iter(states[0]))}, files[0])
    with pytest.raises(ValueError, match=rf"{files[0].name} lacks .*index beside it"):
        load_transformer(read_base(copied))
    index = copied / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    for damage in ("{", "[]", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 5}}',
                   '{"weight_map": {"a": "../x.safetensors"}}'):  # fmt: skip
        index.write_text(damage)
        with pytest.raises(ValueError, match=r"index\.json is damaged"):
            load_transformer(read_base(copied))


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8])
def test_a_quantised_checkpoint_is_refused_before_anything_is_read(kind, copied):
    for path in weight_files(copied / "transformer")[1:2]:
        save_file({name: value.to(kind) for name, value in load_file(path).items()}, path)
    with torch.device("meta"):
        network = MMDiT(read_base(copied).transformer)
    with pytest.raises(ValueError, match="quantised weights, which are not supported"):
        load_into(network, copied / "transformer")
    assert all(p.is_meta for p in network.parameters())


@pytest.mark.parametrize(("part", "load"), [("transformer", load_transformer), ("vae", load_vae)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(part, load, value, copied):
    end = "attn.to_q.bias" if part == "transformer" else "decoder.conv_in.bias"
    states = [(path, load_file(path)) for path in weight_files(copied / part)]
    path, state, name = next((path, state, n) for path, state in states for n in state if n.endswith(end))
    state[name].view(-1)[0] = value
    save_file(state, path)
    with pytest.raises(ValueError, match=rf"{name} holds numbers that are not finite"):
        load(read_base(copied))


@pytest.mark.slow
def test_reading_needs_the_memory_of_one_copy(tmp_path):
    """80 MB of weights in shards of 20 MB. Anonymous memory is what the process itself holds; files that are mapped can
    be dropped by the system at any time."""
    code = f"""
import sys, threading
from pathlib import Path
import torch
from torch import nn
from base_model.files.shards import load_into, write_shards
from safetensors.torch import load_file

class Many(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(1000, 1000, bias=False) for _ in range(20)])

def anonymous():
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("RssAnon"))

folder, size = Path({str(tmp_path)!r}), 80e6
if sys.argv[1] == "write":
    write_shards(Many().state_dict(), folder, most=20_000_000)
    raise SystemExit
with torch.device("meta"):
    many = Many()
peak, done = 0, threading.Event()
def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, anonymous())
before = anonymous()
watcher = threading.Thread(target=watch); watcher.start()
if sys.argv[1] == "ours":
    load_into(many, folder)
else:
    state = {{n: v.clone() for path in folder.glob("*.safetensors") for n, v in load_file(path).items()}}
    many.to_empty(device="cpu").load_state_dict(state)
done.set(); watcher.join()
print((max(peak, anonymous()) - before) / size)
"""
    share = {}
    for way in ("write", "ours", "naive"):
        run = subprocess.run([sys.executable, "-c", code, way], capture_output=True, text=True, check=True)
        share[way] = float(run.stdout or 0)
    assert 0.95 < share["ours"] < 1.15
    assert share["naive"] > 1.8, "the measurement sees two copies"


def test_sizes_of_the_released_autoencoder():
    vae = QwenImageVAE(QWEN_IMAGE_VAE)
    assert sum(p.numel() for p in vae.encoder.parameters()) == 19_306_592
    assert sum(p.numel() for p in vae.decoder.parameters()) == 25_291_683


# --- adapters -----------------------------------------------------------------------------------------------------


def learned(network: MMDiT, scale: float = 0.3) -> None:
    """Give the network an adapter that has learned something."""
    add_adapter(network, Lora(rank=4, alpha=6.0))
    random = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if ".lora_B." in name:
                p.copy_(scale * torch.randn(p.shape, generator=random))


def ask(network: Any) -> torch.Tensor:
    """The velocity for fixed inputs, from our network or from diffusers'."""
    random = torch.Generator().manual_seed(2)
    x, text = torch.randn(2, 24, 16, generator=random), torch.randn(2, 9, 32, generator=random)
    sigma = torch.tensor([0.3, 0.8])
    with torch.no_grad():
        if isinstance(network, MMDiT):
            return network(x, sigma, text, None, [(4, 6)] * 2)
        return network(x, text, None, sigma, [[(1, 4, 6)]] * 2).sample


def test_an_exported_adapter_changes_diffusers_output_exactly_as_ours(t2i, tmp_path):
    base, pipe = read_base(t2i), open_pipeline(t2i)
    network = load_transformer(base)
    plain = ask(network)
    assert (plain - ask(pipe.transformer)).abs().max() < 1e-5
    learned(network)
    save_adapter(network, tmp_path / "pytorch_lora_weights.safetensors")
    pipe.load_lora_weights(tmp_path)
    ours, theirs = ask(network), ask(pipe.transformer)
    assert (ours - plain).abs().max() > 0.05
    assert (ours - theirs).abs().max() < 1e-5
    export(network, base, tmp_path / "merged")
    assert (ask(open_pipeline(tmp_path / "merged").transformer) - ours).abs().max() < 1e-5


def test_an_adapter_of_diffusers_changes_ours_exactly_as_theirs(t2i, tmp_path):
    """Made by peft inside diffusers and saved by its pipeline."""
    import diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe, network = open_pipeline(t2i), load_transformer(read_base(t2i))
    pipe.transformer.add_adapter(LoraConfig(r=3, lora_alpha=5, target_modules=["to_q", "to_out.0", "net.2"]))
    with torch.no_grad():
        for name, p in pipe.transformer.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.2, generator=torch.Generator().manual_seed(len(name)))
    state = get_peft_model_state_dict(pipe.transformer)
    diffusers.QwenImagePipeline.save_lora_weights(
        tmp_path, state, transformer_lora_adapter_metadata=pipe.transformer.peft_config["default"].to_dict()
    )
    plain = ask(network)
    load_adapter(network, tmp_path / "pytorch_lora_weights.safetensors")
    assert (ask(network) - plain).abs().max() > 0.01
    assert (ask(network) - ask(pipe.transformer)).abs().max() < 1e-5


# --- the schedule -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [24, 256, 4096, 6889, 20_000])
@pytest.mark.parametrize("steps", [1, 4, 50])
def test_noise_levels_are_the_released_schedulers(t2i, tokens, steps):
    import diffusers
    import numpy as np
    from diffusers.pipelines.qwenimage.pipeline_qwenimage import calculate_shift

    peer = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(t2i / "scheduler")
    mu = calculate_shift(tokens, 256, 8192, 0.5, 0.9)
    ours = read_schedule(t2i / "scheduler")
    assert ours == Schedule() and ours.mu(tokens) == pytest.approx(mu)
    if steps > 1:  # with one step the reference divides 0 by 0
        peer.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
        torch.testing.assert_close(torch.tensor(ours.levels(steps, tokens)), peer.sigmas, atol=1e-6, rtol=0)
        assert ours.levels(steps, tokens)[-2] == pytest.approx(0.02)
    assert ours.levels(steps, tokens)[0] == 1.0 and ours.levels(steps, tokens)[-1] == 0.0


def test_a_fixed_shift_is_the_reference_schedulers_too(tmp_path):
    import diffusers
    import numpy as np

    peer = diffusers.FlowMatchEulerDiscreteScheduler(**SCHEDULER | {"use_dynamic_shifting": False, "shift": 3.0})
    peer.save_pretrained(tmp_path)
    peer.set_timesteps(sigmas=np.linspace(1.0, 1 / 8, 8))
    torch.testing.assert_close(torch.tensor(read_schedule(tmp_path).levels(8, 999)), peer.sigmas, atol=1e-6, rtol=0)


# --- what is wrong ------------------------------------------------------------------------------------------------


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("scheduler/scheduler_config.json", lambda c: c.pop("max_shift"), "lacks max_shift"),
        ("scheduler/scheduler_config.json", lambda c: c.pop("shift_terminal"), "lacks shift_terminal"),
        ("scheduler/scheduler_config.json", lambda c: c.update(time_shift_type="linear"), "'linear'.*'exponential'"),
        ("scheduler/scheduler_config.json", lambda c: c.update(use_karras_sigmas=True), "use_karras_sigmas"),
        ("scheduler/scheduler_config.json", lambda c: c.update(_class_name="DDIMScheduler"), "DDIMScheduler"),
        ("scheduler/scheduler_config.json", lambda c: c.update(shift_terminal=1.5), "shift_terminal=1.5"),
        ("scheduler/scheduler_config.json", lambda c: c.update(max_image_seq_len=256), "must be below"),
        ("model_index.json", lambda c: c.update(_class_name="FluxPipeline"), "FluxPipeline.*QwenImagePipeline"),
        ("transformer/config.json", lambda c: c.update(use_layer3d_rope=True), "Qwen-Image-Layered"),
        ("transformer/config.json", lambda c: c.update(guidance_embeds=True), "guidance-distilled"),
        ("transformer/config.json", lambda c: c.update(_class_name="FluxTransformer2DModel"), "FluxTransformer"),
        ("transformer/config.json", lambda c: c.pop("num_layers"), "lacks num_layers"),
        ("vae/config.json", lambda c: c.update(input_channels=4), "input_channels=4.*Layered"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(copied, part, change, message):
    rewrite(copied / part, change)
    with pytest.raises(ValueError, match=message):
        read_base(copied)


def test_damaged_settings_are_named(copied):
    (copied / "vae" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"vae/config.json.*fetch"):
        read_base(copied)


def test_an_edit_checkpoint_that_does_not_say_zero_cond_t_is_warned_about(plus, tmp_path):
    folder = shutil.copytree(plus, tmp_path / "copy")
    rewrite(folder / "transformer" / "config.json", lambda c: c.pop("zero_cond_t"))
    with pytest.warns(UserWarning, match="Edit-2511 needs"):
        assert read_base(folder).transformer.zero_cond_t is False


def single(folder: Path) -> Path:
    """The transformer's weights as one file."""
    state = tensors(folder / "transformer")
    for path in (folder / "transformer").glob("*safetensors*"):
        path.unlink()
    save_file(state, folder / TRANSFORMER_FILE, metadata={"format": "pt"})
    return folder / TRANSFORMER_FILE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("img_in.bias"), "1 missing: img_in.bias.*Edit-2509 and Edit-2511.*zero_cond_t"),
        (lambda s: s.update({"time_text_embed.addition_t_embedding.weight": torch.zeros(2, 64)}), "Layered"),
        (lambda s: s.update({"transformer_blocks.2.attn.to_q.bias": torch.zeros(64)}), "num_layers in config.json"),
        (lambda s: s.update({"img_in.lora_A.weight": torch.zeros(4, 16)}), "import-lora"),
        (lambda s: s.update({"img_in.scale_weight": torch.zeros(1)}), "quantised"),
        (lambda s: s.update({"img_in.bias": torch.zeros(65)}), r"img_in.bias has shape \(65,\).*\(64,\)"),
    ],
)
def test_weights_that_do_not_fit_are_named_with_what_that_means(copied, change, message):
    path = single(copied)
    state = load_file(path)
    change(state)
    save_file(state, path)
    with pytest.raises(ValueError, match=message):
        load_transformer(read_base(copied))


def test_a_truncated_or_missing_shard_is_named_before_anything_is_read(copied, monkeypatch):
    shard = weight_files(copied / "transformer")[-1]
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with torch.device("meta"):
        network = MMDiT(read_base(copied).transformer)
    with pytest.raises(ValueError, match=rf"{shard.name}.*cut short or damaged.*fetch this file again"):
        load_into(network, copied / "transformer")
    assert all(p.is_meta for p in network.parameters()), "nothing was read"
    shard.unlink()
    with pytest.raises(ValueError, match=rf"lacks {shard.name}, 1 of its"):
        load_transformer(read_base(copied))


def test_a_truncated_text_encoder_is_named(copied):
    path = copied / "text_encoder" / "model.safetensors"
    files = [path] if path.exists() else sorted((copied / "text_encoder").glob("*.safetensors"))
    files[0].write_bytes(files[0].read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"cannot read the text encoder.*fetch"):
        load_base(read_base(copied), (64, 64)).encode_text(["a"])


def test_a_failed_export_leaves_nothing(t2i, tmp_path, monkeypatch):
    base = read_base(t2i)
    network = load_transformer(base)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(released, "write_shards", fail)
    with pytest.raises(OSError, match="disk full"):
        export(network, base, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is there already"):
        export(network, base, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_folder_that_is_no_checkpoint_and_a_hub_out_of_reach_are_said_so(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"not a released checkpoint: it has no model_index.json"):
        released_folder(tmp_path)
    with pytest.raises(ValueError, match="there is no folder"):
        released_folder(tmp_path / "nothing")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"'Owner/Name' here, and the hub cannot be reached.*hf download Owner/Name"):
        released_folder("Owner/Name")


@pytest.mark.parametrize("side", [512, 768])
def test_the_first_step_of_a_walk_is_as_wide_as_its_noise(t2i, side):
    """From pure noise the step's own spread is `noise`; at these sizes rounding puts the first level beside 1."""
    walk = Exploration(flow.flow_sde, noise=1.2, window=2, within=5)
    step = next(step for step in range(20) if walk.start(0, step) == 0)
    model = load_base(read_base(t2i), (side, side), dtype=torch.float32)
    seen = rollout(model, ["a word"], 2, Sampler(steps=4), walk, 0, step, 0)
    first = seen.transitions[0]
    assert first.sigma == 1.0
    spread = float((first.next_BSC - first.mean_BSC).std())
    assert spread == pytest.approx(1.2, rel=0.02) and float(seen.x0_BSC.abs().max()) < 100
    assert first.log_prob_B == pytest.approx([-0.5 - 0.9189 - 0.1823] * 2, abs=0.02), "of a normal of spread 1.2"


def test_of_the_hub_only_what_the_pipeline_reads_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repositories also hold the same weights as a single file of tens of gigabytes, and in other types."""
    import fnmatch

    files = (
        "model_index.json", "transformer/config.json", "transformer/weights.safetensors", "vae/config.json",
        "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors", "text_encoders/t5xxl_fp8.safetensors",
        "model.safetensors", "text_encoder_3/model.safetensors",
    )  # fmt: skip
    parts = {"transformer": ["diffusers", "T"], "vae": ["diffusers", "V"], "text_encoder": ["transformers", "E"],
             "text_encoder_3": [None, None]}  # fmt: skip

    def snapshot_download(name: str, allow_patterns: list[str], ignore_patterns: list[str] | None = None) -> str:
        for file in files:
            taken = any(fnmatch.fnmatch(file, pattern) for pattern in allow_patterns)
            if taken and not any(fnmatch.fnmatch(file, pattern) for pattern in ignore_patterns or ()):
                (tmp_path / file).parent.mkdir(exist_ok=True)
                (tmp_path / file).write_text(json.dumps({"_class_name": "Pipeline", **parts}))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert released_folder("Owner/Name") == tmp_path
    fetched = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert fetched == {
        "model_index.json", "transformer/config.json", "transformer/weights.safetensors", "vae/config.json",
        "text_encoder/model.safetensors",
    }  # fmt: skip
