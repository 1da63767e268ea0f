"""Going on with a run: with other rates, from one checkpoint for all ranks, after a failure that did nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from base_model.lora import Lora, add_adapter
from experiments.cli import main
from experiments.configs import nano
from experiments.record.record import RunRecord, read_run
from experiments.resume import changed, resume
from experiments.training.finish import agreed_checkpoint, finished_model
from experiments.training.runner import run
from tests.experiments.training.test_runner import tiny_pretrain, weights


def stopped(folder: Path, after: int = 3) -> Path:
    """A run of 5 updates that was interrupted after some, with a checkpoint at 2."""
    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        log = RunRecord.log

        def cut(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
            if len(seen) == after:
                raise KeyboardInterrupt
            seen.append(step)
            log(self, step, metrics)

        patch.setattr(RunRecord, "log", cut)
        run(tiny_pretrain(), folder)
    return folder


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> Path:
    return stopped(tmp_path_factory.mktemp("cut") / "run")


def copied(run_folder: Path, place: Path) -> Path:
    return Path(shutil.copytree(run_folder, place))


def test_a_rate_is_changed_and_recorded_with_its_update(cut, tmp_path):
    folder = copied(cut, tmp_path / "run")
    slow = tiny_pretrain()
    slow = replace(slow, optim=replace(slow.optim, adamw_lr=1e-7, muon_lr=1e-7, clip=0.5), save_every=1)
    run(slow, folder)
    state = json.loads((folder / "run.json").read_text())
    (change,) = state["changes"]
    assert change["update"] == 2 and state["status"] == "finished"
    assert "experiment.optim.adamw_lr: 0.002 -> 1e-07" in change["settings"] and len(change["settings"]) == 4
    assert state["config"]["experiment"]["optim"]["clip"] == 0.5
    rates = [line["lr"] for line in read_run(folder).metrics]
    assert max(rates[2:]) <= 1e-7 < 1e-4 < rates[0]


def test_resume_takes_settings(cut, tmp_path, capsys):
    folder = copied(cut, tmp_path / "run")
    assert main(["resume", str(folder), "--set", "optim.adamw_lr=1e-7", "save_every=1", "--no-evaluate"]) == 0
    assert read_run(folder).metrics[-1]["lr"] <= 1e-7
    assert len(json.loads((folder / "run.json").read_text())["changes"]) == 1
    assert main(["resume", str(folder), "--set", "optim.adamw_lr=1e-6"]) == 2
    assert "it is finished" in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["data.seed=8", "algorithm.batch=16", "seed=3", "preset=micro", "lora.rank=2",
                                     "size=64|64", "memory.bf16=true"])  # fmt: skip
def test_what_says_which_model_learns_what_stays(cut, tmp_path, capsys, setting):
    folder = copied(cut, tmp_path / "run")
    before = (folder / "run.json").read_text()
    assert main(["resume", str(folder), "--set", setting]) == 2
    assert f"other settings (experiment.{setting.split('=')[0]}" in capsys.readouterr().err
    assert (folder / "run.json").read_text() == before


def test_more_updates_have_a_longer_schedule_unless_it_was_set(cut):
    recorded = replace(nano.sft, optim=replace(nano.sft.optim, steps=nano.SFT_STEPS))
    assert changed(recorded, ["algorithm.steps=400"]).optim.steps == 0, "it follows"
    own = replace(nano.sft, optim=replace(nano.sft.optim, steps=17))
    assert changed(own, ["algorithm.steps=400"]).optim.steps == 17


def test_a_run_of_a_version_with_fewer_settings_goes_on_as_it_was(cut, tmp_path):
    folder = copied(cut, tmp_path / "run")
    state = json.loads((folder / "run.json").read_text())
    for name in ("scorer_minutes", "wait_minutes"):
        del state["config"]["experiment"][name]
    (folder / "run.json").write_text(json.dumps(state))
    resume(folder)
    assert read_run(folder).status == "finished" and "changes" not in json.loads((folder / "run.json").read_text())


def test_a_failure_that_did_nothing_blocks_no_next_try(tmp_path, capsys):
    prompts = tmp_path / "p.txt"
    prompts.write_text("".join(f'the word "{word}" in red on white\n' for word in ("RUN", "SUN", "FUN")))
    line = ["train", "nano_grpo", "-o", str(tmp_path / "own"), "--prompts.file", str(prompts)]
    assert main(line) == 2
    assert "--parent" in (text := capsys.readouterr().err) and "nothing is none" not in text
    assert not (tmp_path / "own").exists()
    assert main([*line, "--prompts.count", "3"]) == 2
    assert "other settings" not in capsys.readouterr().err


def test_a_failure_that_left_work_is_kept(cut, tmp_path):
    folder = copied(cut, tmp_path / "run")
    with pytest.raises(ValueError, match="other settings"):
        run(replace(tiny_pretrain(), seed=5), folder)


@pytest.mark.parametrize(
    "there, message", [(None, "none is named"), ("gone", "there is no folder"), ("empty", "is not a run")]
)
def test_a_parent_without_a_model_says_why(tmp_path, there, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        run(nano.sft, tmp_path / "run", tmp_path / there if there else None)


def test_an_unfinished_parent_says_how_to_finish_it(cut, tmp_path):
    with pytest.raises(ValueError, match=f"is not finished.*glyphlab resume {cut}"):
        run(nano.sft, tmp_path / "run", cut)


class Told:
    """An engine of one of several ranks: `gather` gives what all of them bring."""

    def __init__(self, rank: int, *others: list[int]) -> None:
        self.rank, self.device, self.others, self.requests = rank, torch.device("cpu"), list(others), 0

    def gather(self, x_B: torch.Tensor) -> torch.Tensor:
        rows = self.others[self.requests]
        rows[self.rank] = int(x_B[0])
        self.requests += 1
        return torch.tensor(rows)


def test_ranks_take_the_checkpoint_that_rank_0_checked(cut, tmp_path):
    places = copied(cut, tmp_path / "run") / "checkpoints"
    copied(places / "update_000002", places / "update_000009")
    assert agreed_checkpoint(Told(1, [2, 0], [1, 0]), places) == places / "update_000002"  # whatever it would choose
    assert agreed_checkpoint(Told(1, [-1, 0]), places) is None
    with pytest.raises(ValueError, match=r"ranks \[2\] do not see"):
        agreed_checkpoint(Told(1, [2, 0, 0], [1, 0, 0]), places)
    with pytest.raises(ValueError, match=r"ranks \[1\] do not see"):  # on the others, too
        agreed_checkpoint(Told(0, [0, 2], [1, 0]), places)


def test_the_finished_model_is_made_without_a_second_network(cut, tmp_path):
    """Of all weights nothing is opened anew; the tensors are those of the checkpoint."""
    from experiments.training.start_from import open_model

    def refuse() -> object:
        raise AssertionError("a second network was opened")

    checkpoint = next((cut / "checkpoints").iterdir())
    made = finished_model(open_model(tiny_pretrain(), None), checkpoint, refuse)
    tensors = load_file(checkpoint / "ema.safetensors")
    state = made.network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in tensors.items()) and tensors
    assert not any(value.is_meta for value in state.values())


def test_the_adapter_of_a_released_checkpoint_is_saved_without_its_base(t2i, tmp_path):
    from base_model.files.delta import ADAPTER
    from base_model.files.released import load_base, read_base
    from base_model.files.weights import save_model

    model = load_base(read_base(t2i), (64, 64))
    add_adapter(model.network, Lora(rank=2))
    learned = {name: torch.randn_like(p) for name, p in model.network.named_parameters() if p.requires_grad}
    save_file(learned, tmp_path / "module.safetensors")
    made = finished_model(model, tmp_path, lambda: pytest.fail("a second network was opened"))
    assert sum(p.is_meta for p in made.network.parameters()) > 10
    save_model(made, tmp_path / "model")
    saved = load_file(tmp_path / "model" / ADAPTER)
    assert len(saved) == len(learned)
    incomplete = dict(list(learned.items())[1:])
    save_file(incomplete, tmp_path / "module.safetensors")
    with pytest.raises(ValueError, match="lacks 1 of the weights"):
        finished_model(model, tmp_path, lambda: None)


def test_judges_give_up_before_the_ranks_do():
    with pytest.raises(ValueError, match=r"scorer_minutes=90\.0 must be above 0"):
        replace(nano.grpo, scorer_minutes=90.0)
    assert 0 < nano.grpo.scorer_minutes < nano.grpo.wait_minutes


def test_weights_of_a_run_that_went_on_are_those_of_one_that_never_stopped(cut, tmp_path):
    folder = copied(cut, tmp_path / "run")
    run(tiny_pretrain(), folder)
    run(tiny_pretrain(), tmp_path / "whole")
    a, b = weights(folder), weights(tmp_path / "whole")
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("parent", [True, False])
def test_the_adapter_of_a_preset_is_merged_without_a_second_model(cut, tmp_path, parent):
    """Into the parent's weights, or into those that the seed draws; the file is what a whole second model made."""
    from base_model.files.weights import save_model
    from experiments.training.start_from import open_model, starting_weights

    experiment = replace(tiny_pretrain(), lora=Lora(rank=2))
    start = tmp_path / "parent" if parent else None
    if start:
        save_model(open_model(replace(tiny_pretrain(), seed=9), None), start / "model")
    model = open_model(experiment, start)
    learned = {name: torch.randn_like(p) for name, p in model.network.named_parameters() if p.requires_grad}
    save_file(learned, tmp_path / "module.safetensors")
    made = finished_model(model, tmp_path, lambda: starting_weights(experiment, start))
    save_model(made, tmp_path / "made")
    model.network.load_state_dict(learned, strict=False)
    save_model(model, tmp_path / "expected")
    for name in ("transformer.safetensors", "adapter.safetensors", "vae.safetensors"):
        a, b = load_file(tmp_path / "made" / name), load_file(tmp_path / "expected" / name)
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    with pytest.raises(ValueError, match="of the weights that were trained"):
        finished_model(model, tmp_path, dict)


def test_an_autoencoder_is_finished_without_a_second_one(tmp_path):
    from base_model.files.weights import load_vae
    from base_model.qwen.vae import QwenImageVAE

    vae, other = load_vae(), QwenImageVAE(load_vae().cfg)
    save_file({name: x.contiguous() for name, x in other.state_dict().items()}, tmp_path / "module.safetensors")
    made = finished_model(vae, tmp_path, lambda: pytest.fail("a second autoencoder was opened"))
    assert isinstance(made, QwenImageVAE)
    pixels, noise = torch.rand(1, 3, 32, 32), torch.zeros(1, vae.cfg.z_dim, 4, 4)
    torch.testing.assert_close(made(pixels, noise)[0], other(pixels, noise)[0])
    torch.testing.assert_close(made.encode(pixels), other.encode(pixels))  # with the scale of its latents
