"""A stage in a folder: what is saved, what is logged, where it starts, and what it refuses."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from base_model.engine.mixed_precision import Memory
from base_model.files.checkpoint import latest
from base_model.files.weights import NANO_VAE, load_model, load_vae
from base_model.lora import Lora
from base_model.train_vae import TrainVAE
from experiments.configs import CONFIGS, nano
from experiments.record.record import RunRecord, read_run
from experiments.record.recorded_settings import rebuild
from experiments.record.whole_files import plain
from experiments.studies import orders
from experiments.training.launch import find
from experiments.training.runner import equip_engine, run
from experiments.training.start_from import open_model, open_vae, vae_file
from tests.fixtures.tiny.tiny_chain import short
from tests.fixtures.tiny.tiny_model import tiny_model


def tiny_pretrain(ema: float = 0.5, steps: int = 5):
    small = replace(nano.pretrain, algorithm=replace(nano.pretrain.algorithm, batch=8, micro=8))
    experiment = short(small, steps)
    return replace(experiment, optim=replace(experiment.optim, ema_decay=ema, warmup=0))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runner") / "pretrain"
    run(tiny_pretrain(), folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "model").network.state_dict()


def test_a_finished_stage_holds_the_averaged_weights(trained, tmp_path):
    run(tiny_pretrain(ema=0.0), tmp_path / "plain")
    assert [m["loss"] for m in read_run(trained).metrics] == [m["loss"] for m in read_run(tmp_path / "plain").metrics]
    a, b = weights(trained), weights(tmp_path / "plain")
    assert any(not torch.equal(a[name], b[name]) for name in a), "the average was not saved"


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_model_trained_in_16_bits_is_finished_with_all_digits(tmp_path, ema):
    """It is what the masters, or their average, hold: rounded, small steps would be lost to the next stage."""
    experiment = tiny_pretrain(ema=ema, steps=3)
    experiment = replace(experiment, optim=replace(experiment.optim, muon_lr=0.0, adamw_lr=3e-6))
    run(replace(experiment, memory=Memory(bf16=True)), tmp_path / "run")
    finished, last = weights(tmp_path / "run"), latest(tmp_path / "run" / "checkpoints")
    trained = load_file(last / "module.safetensors") | (load_file(last / "ema.safetensors") if ema else {})
    assert all(torch.equal(finished[name], value) for name, value in trained.items())
    start = open_model(experiment, None).network.state_dict()
    name = "transformer_blocks.0.attn.to_q.weight"
    assert finished[name].dtype == torch.float32
    assert float((finished[name] == start[name]).float().mean()) < 0.05, "nearly all weights moved"
    assert float((finished[name] - start[name]).abs().max()) < 1e-4, "by far less than bfloat16 can tell"


def test_every_update_is_logged_once_and_the_last_checkpoints_are_kept(trained):
    assert [line["step"] for line in read_run(trained).metrics] == [0, 1, 2, 3, 4]
    newest = latest(trained / "checkpoints")
    assert newest is not None and newest.name == "update_000004"
    assert sorted(p.name for p in (trained / "checkpoints").iterdir() if not p.name.startswith(".")) == [
        "update_000002",
        "update_000004",
    ]


def test_told_to_terminate_it_saves_leaves_and_goes_on_exactly(trained, tmp_path, monkeypatch):
    logged = RunRecord.log

    def log(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
        logged(self, step, metrics)
        if step == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "log", log)
        with pytest.raises(KeyboardInterrupt, match="terminated after update 0; its checkpoint is saved"):
            run(tiny_pretrain(), tmp_path / "told")
    assert signal.getsignal(signal.SIGTERM) is before
    assert read_run(tmp_path / "told").status == "interrupted"
    assert [p.name for p in (tmp_path / "told" / "checkpoints").iterdir()] == ["update_000001"]
    run(tiny_pretrain(), tmp_path / "told")
    assert [m["loss"] for m in read_run(tmp_path / "told").metrics] == [m["loss"] for m in read_run(trained).metrics]
    a, b = weights(trained), weights(tmp_path / "told")
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_a_run_goes_on_exactly_where_its_curriculum_changes(tmp_path, monkeypatch):
    experiment = orders.arms(8)["curriculum"]
    experiment = replace(short(experiment, 8), algorithm=replace(experiment.algorithm, steps=8, batch=8, micro=8))
    run(experiment, tmp_path / "whole")
    logged = RunRecord.log

    def log(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
        logged(self, step, metrics)
        if step == 1:  # the next update shows images of two sizes
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "log", log)
        with pytest.raises(KeyboardInterrupt):
            run(experiment, tmp_path / "told")
    run(experiment, tmp_path / "told")
    assert len({m["loss"] for m in read_run(tmp_path / "whole").metrics}) == 8
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "told")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_stage_starts_from_its_parents_weights_and_autoencoder(trained):
    child, parents = open_model(short(nano.sft, 1), trained).network.state_dict(), weights(trained)
    assert set(child) == set(parents) and all(torch.equal(child[name], parents[name]) for name in child)
    assert vae_file(trained) == trained / "model" / "vae.safetensors"


def test_fresh_weights_follow_from_the_seed(trained):
    a, b = (open_model(replace(nano.pretrain, seed=seed), None).network.state_dict() for seed in (0, 0))
    c = open_model(replace(nano.pretrain, seed=1), None).network.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_alignment_without_a_trained_parent_is_refused(tmp_path):
    with pytest.raises(ValueError, match="starts from a trained model"):
        run(short(nano.grpo, 1), tmp_path / "grpo")


def test_an_experiment_without_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="learns from images and has none of its own"):
        run(replace(tiny_pretrain(), data=None), tmp_path / "none")


def test_a_decoder_stage_leaves_the_encoder_alone(tmp_path):
    decoder = short(replace(nano.decoder, algorithm=replace(nano.decoder.algorithm, batch=2)), 2)
    run(decoder, tmp_path / "decoder")
    before, after = load_vae().state_dict(), load_vae(tmp_path / "decoder" / "model" / "vae.safetensors").state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "decoder" in moved and moved <= {"decoder", "post_quant_conv"}


def test_a_fine_tuned_autoencoder_begins_as_the_shipped_one_and_learns_whole(tmp_path):
    cfg = TrainVAE(steps=2, batch=2, fine_tune=True)
    begun, shipped = open_vae(replace(nano.decoder, algorithm=cfg), None), load_vae(NANO_VAE)
    assert all(torch.equal(a, b) for a, b in zip(begun.parameters(), shipped.parameters(), strict=True))
    fresh = open_vae(replace(nano.decoder, algorithm=replace(cfg, fine_tune=False)), None)
    assert not all(torch.equal(a, b) for a, b in zip(fresh.parameters(), shipped.parameters(), strict=True))
    run(replace(nano.decoder, algorithm=cfg), tmp_path / "run")
    tuned = load_vae(tmp_path / "run" / "model" / "vae.safetensors")
    for part in ("encoder", "decoder"):
        pairs = zip(getattr(tuned, part).parameters(), getattr(shipped, part).parameters(), strict=True)
        assert not all(torch.equal(a, b) for a, b in pairs), part


@pytest.mark.parametrize("name", list(CONFIGS))
def test_settings_come_back_from_their_record(name):
    assert rebuild(plain(CONFIGS[name])) == CONFIGS[name]


def test_a_record_that_names_foreign_code_is_refused():
    with pytest.raises(ValueError, match="not a part of this project"):
        rebuild({"class": "os.system", "command": "true"})


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="nano_grpo"):
        find("nano_gpro")


def test_an_adapter_learns_in_lean_memory_and_its_run_goes_on_exactly(trained, tmp_path):
    """bfloat16, recomputation and host memory from the settings; a checkpoint holds the adapter alone."""
    small = replace(nano.sft, algorithm=replace(nano.sft.algorithm, batch=8, micro=8), lora=Lora(rank=2))
    lean = replace(short(small, 5), memory=Memory(bf16=True, offload=True, recompute=True))
    run(lean, tmp_path / "whole", trained)
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        log, seen = RunRecord.log, []

        def cut(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
            if len(seen) == 3:
                raise KeyboardInterrupt
            seen.append(step)
            log(self, step, metrics)

        patch.setattr(RunRecord, "log", cut)
        run(lean, tmp_path / "cut", trained)
    saved = load_file(latest(tmp_path / "cut" / "checkpoints") / "module.safetensors")
    assert saved and all(".lora_" in name for name in saved)
    run(lean, tmp_path / "cut", trained)
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(a[name], b[name]) for name in a)
    base = weights(trained)
    moved = {name for name in a if not torch.equal(a[name], base[name])}  # frozen weights keep all their digits
    assert moved and all(".attn." in name for name in moved)
    assert (tmp_path / "whole" / "model" / "adapter.safetensors").exists()


def test_what_only_transformers_can_trade_is_refused_for_autoencoders(tmp_path):
    with pytest.raises(ValueError, match="are the transformer's alone"):
        run(replace(short(nano.decoder, 1), memory=Memory(bf16=True)), tmp_path / "vae")


def test_a_reference_rounds_as_the_weights_that_learn_from_a_parent_in_float32() -> None:
    """DPO would not begin at log 2, nor a KL at 0, and the copy would take twice the memory that a plan says."""
    model = tiny_model()
    optim = replace(nano.dpo.optim, steps=1)
    equip_engine(replace(nano.dpo, memory=Memory(bf16=True), optim=optim), model)
    x, sigma, cond = model.noise(2, torch.Generator().manual_seed(0)), torch.tensor([0.4, 0.9]), model.encode_text("ab")
    with torch.no_grad(), model.reference() as reference:
        theirs = reference.velocity(x, sigma, cond)
        assert {p.dtype for p in reference.trainable.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        assert torch.equal(theirs, model.velocity(x, sigma, cond))
