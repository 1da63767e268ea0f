"""What a checkpoint's own JSON decides: guidance, steps, levels, scales of time, and what is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from base_model.families.family import Family
from base_model.families.known import FAMILIES, KNOWN, family_of
from base_model.families.open_checkpoint import open_checkpoint
from base_model.sample import Sampler
from tests.fixtures.tiny.tiny_families import save_pipeline

pytest.importorskip("diffusers")
Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root = tmp_path_factory.mktemp("checkpoints")
    return lambda name: root / name if (root / name).exists() else save_pipeline(name, root / name)


def changed(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def quietly(path: Path) -> Family:
    with pytest.warns(UserWarning, match="was distilled to a few steps"):
        return family_of(path)


def test_a_family_is_one_small_file() -> None:
    """A new family is one file of at most 90 lines and a line in the table."""
    files = sorted(Path("base_model/families").glob("*.py"))
    for kind in KNOWN:
        (own,) = [path for path in files if f"class {kind.__name__}(" in path.read_text(encoding="utf-8")]
        assert len(own.read_text(encoding="utf-8").splitlines()) <= 90, own
    assert len(FAMILIES) == len(KNOWN)


def test_the_network_decides_whether_guidance_is_a_number(folder: Folder) -> None:
    dev, schnell = family_of(folder("flux1_dev")), quietly(folder("flux1_schnell"))
    assert (dev.guidance_embedded, dev.sampler, dev.is_distilled) == (3.5, Sampler(28, 3.5), False)
    assert (schnell.guidance_embedded, schnell.sampler, schnell.is_distilled) == (None, Sampler(4, 1.0), True)
    assert family_of(folder("flux1_kontext")).guidance_embedded == 2.5
    assert family_of(folder("flux2_dev")).guidance_embedded == 4.0
    assert family_of(folder("flux2_klein")).guidance_embedded is None


def test_distilled_klein_answers_once(folder: Folder) -> None:
    base, few = family_of(folder("flux2_klein")), quietly(folder("flux2_klein_distilled"))
    assert (base.sampler, few.sampler) == (Sampler(50, 4.0), Sampler(4, 1.0))
    v, other = torch.ones(1, 2, 3), torch.zeros(1, 2, 3)
    cond: Any = None
    assert torch.equal(few.combine(v, other, 4.0, cond), v)
    assert torch.equal(base.combine(v, other, 4.0, cond), 4.0 * v)


def test_the_name_decides_the_steps_of_turbo(folder: Folder, tmp_path: Path) -> None:
    turbo = tmp_path / "Z-Image-Turbo"
    folder("z_image").rename(turbo)
    family = quietly(turbo)
    assert family.is_distilled and family.sampler == Sampler(8, 1.0)
    assert family_of(turbo.rename(tmp_path / "Z-Image")).sampler == Sampler(50, 5.0)


class Listening(nn.Module):
    """Notes what it is called with."""

    def forward(self, **named: Any) -> tuple[torch.Tensor]:
        self.time = named["timestep"]
        return (torch.zeros_like(named["hidden_states"]),)


@pytest.mark.parametrize(("name", "time"), [("sana", 250.0), ("sana_scaled", 125.0), ("wan", 250.0), ("wan_5b", 250.0)])
def test_the_network_decides_the_scale_of_time(folder: Folder, name: str, time: float) -> None:
    model, network = open_checkpoint(folder(name), (128, 128)), Listening()
    cond = model.encode_text(["a red fox"])
    x = torch.randn(1, model.grid[0] * model.grid[1], model.channels)
    model.family.velocity(network, x, torch.tensor([0.25]), cond)
    assert network.time.shape == ((1, x.shape[1]) if name == "wan_5b" else (1,))
    assert torch.equal(network.time, torch.full_like(network.time, time))


SOLVERS = {
    "sana": ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction", "flow_shift": 3.0}),
    "wan": ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "flow_shift": 5.0}),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_levels_of_solvers_begin_at_one(folder: Folder, name: str) -> None:
    import diffusers

    family = family_of(folder(name))
    solver, settings = SOLVERS[name]
    scheduler = getattr(diffusers, solver)(use_flow_sigmas=True, **settings)
    levels = family.levels(scheduler, 6, 24)
    shift = settings["flow_shift"]
    even = [1.0 - i * 0.999 / 6 for i in range(6)]
    assert levels[0] == 1.0 and levels[-1] == 0.0 and len(levels) == 7
    assert levels == pytest.approx([*(shift * s / (1 + (shift - 1) * s) for s in even), 0.0], abs=3e-3)
    scheduler.set_timesteps(6)
    assert levels[1:] == scheduler.sigmas.double().tolist()[1:]


@pytest.mark.parametrize(
    ("name", "largest"),
    [("sd3", 768), ("lumina2", 1024), ("z_image", 1024), ("wan", 1024), ("aura_flow", 256), ("flux1_dev", 0)],
)
def test_a_size_that_the_network_has_no_positions_for_is_refused(folder: Folder, name: str, largest: int) -> None:
    """Each network is asked in its largest size, and the error comes before it fails by an index."""
    family = family_of(folder(name))
    if not largest:
        return family.require_size((16384, 16))
    model = open_checkpoint(folder(name), (largest, 16))
    v = model.velocity(model.noise(1, torch.Generator().manual_seed(0)), torch.ones(1), model.encode_text(["a"]))
    assert v.shape[1] == largest // 16
    with pytest.raises(ValueError, match=f"{largest + 16}x16 is too large .* positions for {largest} pixels a side"):
        model.sized((largest + 16, 16))
    with pytest.raises(ValueError, match=f"16x{largest + 16} is too large"):
        model.sized((16, largest + 16))


def test_released_levels_are_taken_when_there_are_as_many_steps(folder: Folder) -> None:
    path, own = folder("qwen_image_21") / "model_index.json", [1.0, 0.9, 0.4]
    even = open_checkpoint(path.parent, (64, 96)).levels(Sampler(3))
    changed(path, sample_sigmas=own)
    model = open_checkpoint(path.parent, (64, 96))
    assert model.sampler == Sampler(3, 1.0)
    first, second = model.levels(Sampler(3))[1], even[1]
    mu = 0.5 + (24 - 256) * (1.15 - 0.5) / (4096 - 256)
    shifted = [math.exp(mu) / (math.exp(mu) + 1 / sigma - 1) for sigma in (0.9, 2 / 3)]
    assert [first, second] == pytest.approx(shifted, abs=1e-6)
    assert len(model.levels(Sampler(5))) == 6
    changed(path, sample_sigmas=None)


def test_an_odd_number_of_tokens_is_refused(folder: Folder) -> None:
    with pytest.raises(ValueError, match="tokens of 32 pixels a side; the nearest sizes are 64 x 64 and 64 x 96"):
        open_checkpoint(folder("qwen_image_21"), (64, 80))
    with pytest.raises(ValueError, match="80x64 does not divide"):
        open_checkpoint(folder("qwen_image_21"), (64, 64)).sized((80, 64))


def test_two_networks_are_refused_by_name(folder: Folder) -> None:
    path = folder("wan") / "model_index.json"
    changed(path, transformer_2=["diffusers", "WanTransformer3DModel"], boundary_ratio=0.875)
    with pytest.raises(ValueError, match=r"two networks.*transformer_2.*Wan 2\.2 5B"):
        family_of(path.parent)
    changed(path, transformer_2=[None, None], boundary_ratio=None)
    assert family_of(path.parent).factor == 8


def test_every_checkpoint_knows_its_size(folder: Folder) -> None:
    sizes = {"flux1_dev": 1024, "z_image": 1024, "sana": 1024, "lumina2": 256, "aura_flow": 64}
    assert {name: family_of(folder(name)).native for name in sizes} == {name: (n, n) for name, n in sizes.items()}
