"""A frozen base in fewer bits, or in host memory: the same numbers in samples and updates, and a smaller card."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from alignment import grpo
from alignment.trajectory import Exploration
from base_model import flow
from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.engine.engine_files import frozen_checksum
from base_model.engine.mixed_precision import Memory
from base_model.families.open_checkpoint import open_checkpoint
from base_model.files.delta import load_derived
from base_model.files.open_base import open_base
from base_model.frozen_linear import AS_IT_IS, BaseStorage, FrozenLinear, store_frozen, stored_tensors
from base_model.lora import Lora, adapter_weights, add_adapter, linear_layers, merged_weights
from base_model.policy_model import PolicyModel
from base_model.sample import Sampler
from base_model.seeding import generator
from experiments import cli
from experiments.configs import CONFIGS
from experiments.record.record import RunRecord, read_run
from experiments.training.throughput import main_type, model_flops
from preference_data.prompts import PromptSet
from tests.fixtures.tiny.tiny_families import save_pipeline
from tests.fixtures.tiny.tiny_released import make
from tests.fixtures.toy_alignment import Judged

pytest.importorskip("diffusers")
pytest.importorskip("bitsandbytes")
STORAGES = [BaseStorage(bits, on_host) for bits, on_host in product((0, 4, 8), (False, True)) if bits or on_host]
NARROW = [BaseStorage(4), BaseStorage(8)]
TEXTS = ("a red fox", "the word GLYPH in red")


def name_of(storage: BaseStorage) -> str:
    return f"{storage.bits}_bits{'_on_host' if storage.on_host else ''}"


every_storage = pytest.mark.parametrize("storage", STORAGES, ids=name_of)


def frozen(layer: nn.Linear, storage: BaseStorage) -> FrozenLinear:
    return FrozenLinear(layer, storage, "cpu")


@every_storage
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_product_and_gradient_are_those_of_the_stored_weight(
    storage: BaseStorage, dtype: torch.dtype, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 80, bias=bias, dtype=dtype)
    stored = frozen(layer, storage)
    x, y = (torch.randn(2, 5, 48, dtype=dtype).requires_grad_() for _ in range(2))
    y.data.copy_(x.data)
    ours, theirs = stored(x), nn.functional.linear(y, stored.weight, layer.bias)
    assert torch.equal(ours, theirs) and ours.dtype == dtype
    direction = torch.randn_like(ours)
    ours.backward(direction)
    theirs.backward(direction)
    assert x.grad is not None and y.grad is not None
    assert torch.allclose(x.grad, y.grad, atol=1e-6 if dtype == torch.float32 else 1e-2)
    assert not any(p.requires_grad for p in stored.parameters())
    error = (stored.weight - layer.weight).norm() / layer.weight.norm()
    assert {0: error == 0.0, 8: error < 0.02, 4: error < 0.1}[storage.bits]


@pytest.mark.parametrize(("storage", "most"), zip(NARROW, (0.57, 1.02), strict=True), ids=map(name_of, NARROW))
def test_what_is_stored_is_small(storage: BaseStorage, most: float) -> None:
    layer = frozen(nn.Linear(256, 512, dtype=torch.bfloat16), storage)
    assert sum(part.nbytes for part in layer.stored) <= most * 256 * 512


@every_storage
def test_nothing_is_kept_for_the_backward_pass_but_the_layer(storage: BaseStorage) -> None:
    layer = frozen(nn.Linear(64, 64), storage)
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        layer(torch.randn(3, 64, requires_grad=True))
    assert kept == []


def test_engines_neither_move_nor_cast_what_is_stored() -> None:
    network = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(64, 64)])})
    store_frozen(network, linear_layers(network), BaseStorage(4), "cpu")
    before = [part.clone() for part in stored_tensors(network)]
    network.bfloat16()
    after = stored_tensors(network)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(before, after, strict=True))
    assert network["blocks"][0](torch.randn(1, 64, dtype=torch.bfloat16)).dtype == torch.bfloat16


# --- whole models


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("bases")
    return {"sd3": save_pipeline("sd3", home / "sd3"), "qwen_image": make(home / "qwen_image")}


def opened(folder: Path, storage: BaseStorage, rank: int = 2) -> PolicyModel:
    model = open_base(folder, (64, 96), cache=folder.parent / "encoded", storage=storage)
    if rank:
        add_adapter(model.network, Lora(rank, 8.0, model.lora_targets))
    model.freeze_reference()
    return model


WORDS = PromptSet.from_texts(f'the word "{word}" in red' for word in ("ABC", "DE", "F"))
GRPO = grpo.Grpo(
    2, prompts=2, group=2, micro=4, sampler=Sampler(4, guidance=3.0), clip=1e-4, beta=0.01,
    exploration=Exploration(flow.flow_sde, noise=0.7, window=2, within=3),
)  # fmt: skip
OPTIM = OptimConfig(steps=100, muon_lr=0.0, adamw_lr=1e-3, clip=0.0, warmup=0, decay_from=1.0)


def trained(model: PolicyModel, memory: Memory) -> list[float]:
    """Ratio gaps of two updates of GRPO."""
    engine = LocalEngine(model.network, OPTIM, memory=memory, keep_frozen=False)
    model.trainable = engine.module
    reward = Judged(lambda batch, prompts, images: images.astype(float).mean((1, 2, 3)) / 255.0)
    return [step.metrics["ratio_gap_first"] for step in grpo.train(model, engine, WORDS, reward, GRPO)]


@pytest.mark.parametrize("memory", [Memory(), Memory(bf16=True), Memory(recompute=True)], ids=str)
@pytest.mark.parametrize("base", ["sd3", "qwen_image"])
@every_storage
def test_the_first_ratio_is_one_and_the_adapter_alone_moves(
    bases: dict[str, Path], base: str, storage: BaseStorage, memory: Memory
) -> None:
    model = opened(bases[base], storage)
    model.recompute(memory.recompute)
    before = [part.clone() for part in stored_tensors(model.network)]
    start = {name: value.clone() for name, value in adapter_weights(model.network).items()}
    assert before and trained(model, memory) == [0.0, 0.0]
    assert all(torch.equal(a, b) for a, b in zip(before, stored_tensors(model.network), strict=True))
    assert any(not torch.equal(value, start[name]) for name, value in adapter_weights(model.network).items())


@pytest.mark.parametrize("base", ["sd3", "qwen_image"])
def test_in_host_memory_a_run_learns_the_same(bases: dict[str, Path], base: str) -> None:
    ends = []
    for storage in (AS_IT_IS, BaseStorage(on_host=True)):
        model = opened(bases[base], storage)
        trained(model, Memory())
        ends.append(adapter_weights(model.network))
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


@pytest.mark.parametrize("base", ["sd3", "qwen_image"])
@pytest.mark.parametrize(("storage", "most"), zip(NARROW, (0.5, 0.06), strict=True), ids=map(name_of, NARROW))
def test_answers_stay_near_those_of_the_checkpoint(
    bases: dict[str, Path], base: str, storage: BaseStorage, most: float
) -> None:
    whole, narrow = (opened(bases[base], s, rank=0) for s in (AS_IT_IS, storage))
    x, sigma, cond = whole.noise(2, generator(0, 0, 0, "x")), torch.full((2,), 0.6), whole.encode_text(TEXTS)
    v, w = (model.velocity(x, sigma, cond) for model in (whole, narrow))
    assert 0.0 < (v - w).norm() / v.norm() < most


def test_speed_is_measured_against_the_same_work_and_type(bases: dict[str, Path]) -> None:
    recipe = CONFIGS["sd35m_grpo_lora"]
    experiment = replace(recipe, base=str(bases["sd3"]), size=(64, 96), lora=replace(recipe.lora, rank=2))
    whole, narrow = (opened(bases["sd3"], storage) for storage in (AS_IT_IS, BaseStorage(4)))
    assert model_flops(experiment, whole, TEXTS) == model_flops(experiment, narrow, TEXTS) > 0.0
    layers = [layer for layer in narrow.network.modules() if isinstance(layer, FrozenLinear)]
    for layer in layers:
        layer.dtype = torch.bfloat16  # as of a checkpoint in 16 bits, whose other weights are few
    assert main_type(narrow.network) is torch.bfloat16


def test_another_storage_is_another_base(bases: dict[str, Path]) -> None:
    sums = {frozen_checksum(opened(bases["sd3"], s).network) for s in (AS_IT_IS, *NARROW)}
    assert len(sums) == 3


def test_rounded_weights_are_never_written_as_a_model(bases: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"rounded to 4 bits: open the checkpoint as it is"):
        merged_weights(opened(bases["sd3"], BaseStorage(4)).network)


@pytest.mark.parametrize("bits", [1, 5, 16])
def test_other_numbers_of_bits_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"{bits} bits for the weights of a frozen base: 8, 4, or 0"):
        BaseStorage(bits)


# --- as a user types it


def line(bases: dict[str, Path], out: Path, *options: object) -> list[str]:
    prompts = bases["sd3"].parent / "prompts.txt"
    prompts.write_text('the word "ABC" in red\nthe word "DE" on a wall\na red fox\n', encoding="utf-8")
    words = (
        "train", "sd35m_grpo_lora", "--base", bases["sd3"], "--prompts.file", prompts, "--prompts.count", 3,
        "--out", out, "--engine", "local", "--algorithm.steps", 3, "--algorithm.prompts", 2, "--algorithm.group", 2,
        "--algorithm.micro", 4, "--algorithm.sampler.steps", 6, "--lora.rank", 2, "--save-every", 1,
        "--reward", "brisque", "--size", 64, 96, *options,
    )  # fmt: skip
    return [str(word) for word in words]


@pytest.mark.slow
def test_a_run_in_four_bits_goes_on_and_is_given_back_in_full(
    bases: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, stopped = tmp_path / "run", tmp_path / "stopped"
    assert cli.main(line(bases, run, "--memory.base-bits", 4)) == 0
    assert [row["ratio_gap_first"] for row in read_run(run).metrics] == [0.0] * 3
    assert load_derived(run / "model").base_storage == BaseStorage(4)
    log = RunRecord.log

    def killed(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
        log(self, step, metrics)
        if step == 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunRecord, "log", killed)
        assert cli.main(line(bases, stopped, "--memory.base-bits", 4)) != 0
    assert cli.main(["resume", str(stopped)]) == 0
    adapters = [load_file(folder / "model" / "adapter.safetensors") for folder in (run, stopped)]
    assert all(torch.equal(value, adapters[1][name]) for name, value in adapters[0].items())
    assert cli.main(["export", str(run), str(tmp_path / "whole")]) == 0
    exported = open_checkpoint(tmp_path / "whole", (64, 96))
    merged = merged_weights(load_derived(run / "model", storage=AS_IT_IS).network)
    assert all(torch.equal(value, merged[name]) for name, value in exported.network.state_dict().items())


def test_what_cannot_be_frozen_is_refused_at_once(
    bases: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(line(bases, tmp_path / "a", "--memory.base-bits", 8, "--lora.rank", 0)) == 2
    assert "memory.base_bits=8 is for a frozen base, and all weights learn here" in capsys.readouterr().err
    words = ["train", "nano_pretrain", "--memory.base-on-host", "--lora.rank", "2", "--out", str(tmp_path / "b")]
    assert cli.main(words) == 2
    assert "memory.base_on_host is for the base of a released checkpoint" in capsys.readouterr().err
