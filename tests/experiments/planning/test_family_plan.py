"""Plans for checkpoints of other families: counted without memory, and compared with what a real pass keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from base_model.families.known import family_of
from base_model.families.open_checkpoint import open_checkpoint
from base_model.lora import Lora, add_adapter
from base_model.seeding import generator
from experiments import cli
from experiments.configs import CONFIGS
from experiments.planning.dry_run import Footprint, Pass
from experiments.planning.family_bytes import sizes_of
from experiments.planning.family_plan import family_behind, family_footprint, grid_of, text_tokens
from experiments.planning.from_experiment import extras_of, network_of, work_of
from tests.experiments.planning.test_plan import asked
from tests.fixtures.tiny.tiny_families import save_pipeline

pytest.importorskip("diffusers")
SD35M = "stabilityai/stable-diffusion-3.5-medium"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline("sd3", tmp_path_factory.mktemp("plan") / "sd3")


def kept_by_a_pass(folder: Path, samples: int, recompute: bool) -> int:
    """Bytes that autograd keeps of a pass with numbers, without the network's own."""
    model = open_checkpoint(folder, (64, 96))
    add_adapter(model.network, Lora(2, targets=model.lora_targets))
    model.recompute(recompute)
    cond, x = model.encode_text(["a red fox"] * samples), model.noise(samples, generator(0, 0, 0, "x"))
    own = {p.untyped_storage()._cdata for p in (*model.network.parameters(), *model.network.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        saved[value.untyped_storage()._cdata] = value.untyped_storage()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        v = model.velocity(x, torch.full((samples,), 0.5), cond)
        (v - torch.zeros_like(v)).square().mean()
    return sum(storage.nbytes() for index, storage in saved.items() if index not in own)


def counted(folder: Path, samples: int, longest: int = 0) -> Footprint:
    family = family_of(folder)
    micro = Pass(samples, grid_of(family, (64, 96)), text_tokens(family, longest))
    return family_footprint(family, 2, micro, bf16=False)


@pytest.mark.parametrize("name", ["lumina2", "qwen_image_21", "z_image"])
def test_networks_that_ask_their_masks_are_counted(name: str, tmp_path: Path) -> None:
    folder = save_pipeline(name, tmp_path / name)
    (row,) = open_checkpoint(folder, (64, 96)).prompts.rows([("a red fox", ())])
    need = counted(folder, 3, len(row["text"]))
    assert need.saved == pytest.approx(kept_by_a_pass(folder, 3, recompute=False), rel=0.03)
    whole, again = (need.activations(recompute) for recompute in (False, True))
    assert again < whole and need.saved < whole


@pytest.mark.parametrize("samples", [2, 3])
def test_it_counts_what_a_pass_keeps(folder: Path, samples: int) -> None:
    """Attention of one sample alone is laid out otherwise on a CPU than on a GPU, and copied once more."""
    need = counted(folder, samples)
    assert need.saved == pytest.approx(kept_by_a_pass(folder, samples, recompute=False), rel=0.02)
    lean = need.outside + need.entering + need.block
    assert need.outside < 0.2 * need.saved and lean < 0.7 * need.saved
    assert need.largest < need.block < need.saved


def test_it_counts_the_weights_and_the_adapter(folder: Path) -> None:
    model = open_checkpoint(folder)
    add_adapter(model.network, Lora(2))
    need = counted(folder, 1)
    assert need.trained == sum(p.numel() for p in model.network.parameters() if p.requires_grad)
    buffers = sum(buffer.numel() for buffer in model.network.buffers())
    assert need.parameters == sum(p.numel() for p in model.network.parameters()) + buffers
    assert need.in_blocks < need.forward < need.in_blocks + need.backward


def test_what_a_checkpoint_has_beside_its_network_is_read_from_its_folder(folder: Path) -> None:
    sizes = sizes_of(folder)
    files = [file.stat().st_size for file in folder.glob("text_encoder*/*.safetensors")]
    assert sizes["text_encoders"] == sum(files) and len(files) == 3
    assert (
        sizes_of(family_behind(SD35M).folder)["text_encoders"] == 2 * 5_580_620_800
    )  # CLIP-L, CLIP-G and T5-XXL in 16 bits


def test_a_recipe_is_planned_by_its_checkpoint(folder: Path) -> None:
    experiment = CONFIGS["sd35m_grpo_lora"]
    requested = asked("sd35m_grpo_lora", base=str(folder))
    micro, extras, _ = network_of(experiment, experiment.preset, requested, work_of(experiment, requested))
    assert micro == Pass(48, (32, 32), 333), "24 images, each with its prompt and with none"
    assert extras.decoding > extras.samples > 0, "of a group, and of six checkpoint samples"
    assert family_behind("Qwen/Qwen-Image") is None and family_behind("") is None
    qwen = CONFIGS["qwen_grpo_lora"]
    line = asked("qwen_grpo_lora")
    assert network_of(qwen, qwen.preset, line, work_of(qwen, line))[1] == extras_of(qwen, qwen.preset, qwen.size)


def test_a_plan_of_a_folder_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["plan", "sd35m_grpo_lora", "--base", str(folder), "--size", "64", "64", "--gpus", "1", "--rank", "2"]
    assert cli.main(line) == 0
    told = capsys.readouterr().out
    assert "4 x 4 = 16 latent tokens + 333 text tokens" in told and "peak" in told


@pytest.mark.slow
def test_the_medium_model_is_counted_at_full_size() -> None:
    """2.243 B weights, a table of positions of 0.45 GB in 16 bits, and what the blocks keep of an image at 512 px."""
    family = family_behind(SD35M)
    assert family is not None
    need = family_footprint(family, 32, Pass(1, grid_of(family, (512, 512)), text_tokens(family)), bf16=True)
    assert need.parameters - need.trained - 384 * 384 * 1536 == 2_243_171_520
    assert need.saved == pytest.approx(2.20e9, rel=0.01) and need.forward == pytest.approx(2.47e12, rel=0.01)
    assert need.outside + need.entering + need.block == pytest.approx(0.21e9, rel=0.02)
