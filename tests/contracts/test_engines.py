"""Every engine tells the story of `engine_story` with the same numbers.

One `torchrun` of two gloo processes serves all DeepSpeed cases; each engine's story is then compared with that of
`LocalEngine`, which got the micro-batches of both ranks.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from base_model.engine.skipped_updates import MOST
from tests.fixtures.processes import adapter_story
from tests.fixtures.processes.engine_story import RANKS, SAVED_AFTER, STAGES, UPDATES, local_story
from tests.fixtures.processes.launching import launch

ENGINES = ["local", *(f"zero{stage}" for stage in STAGES)]
SPLIT = [f"zero{stage}" for stage in STAGES if stage]
WEIGHTS = 1e-6
SECONDS = 900
"""for a launch that takes under a minute on an idle machine, and ten times that beside seven other jobs a core"""
Story = dict[str, Any]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return local_story(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have told the story at `STAGES`."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(RANKS)]
    command += ["-m", "tests.fixtures.processes.engine_story"]
    return launch(command, tmp_path_factory.mktemp("deepspeed"), SECONDS)


@pytest.fixture(params=ENGINES)
def stories(request: pytest.FixtureRequest, local: Story) -> list[Story]:
    """What each rank of one engine told."""
    if request.param == "local":
        return [local]
    return split_stories(request.getfixturevalue("folder"), request.param)


@pytest.fixture(scope="module")
def local_adapters(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return adapter_story.local(range(RANKS), tmp_path_factory.mktemp("local_adapters"))


@pytest.fixture(params=ENGINES)
def adapters(request: pytest.FixtureRequest, local_adapters: Story) -> list[Story]:
    """What each rank of one engine told of adapters and of what is traded for memory."""
    if request.param == "local":
        return [local_adapters]
    folder = request.getfixturevalue("folder")
    return [torch.load(folder / f"adapter_stage_{request.param[-1]}_rank_{rank}.pt") for rank in range(RANKS)]


@pytest.fixture(params=SPLIT)
def split(request: pytest.FixtureRequest, folder: Path) -> list[Story]:
    return split_stories(folder, request.param)


def split_stories(folder: Path, name: str) -> list[Story]:
    return [torch.load(folder / f"stage_{name[-1]}_rank_{rank}.pt") for rank in range(RANKS)]


def distance(a: Story, b: Story) -> float:
    """Largest difference between two sets of trained and averaged weights; NaN, which is below no bound, if one is."""
    assert {kind: sorted(a[kind]) for kind in a} == {kind: sorted(b[kind]) for kind in b}
    return float(torch.stack([(a[kind][name] - b[kind][name]).abs().max() for kind in a for name in a[kind]]).max())


def test_weights_and_averages_agree(stories: list[Story], local: Story) -> None:
    """Several micro-batches a rank, clipping, schedule, a forward between forward and backward, two dropped updates."""
    for told in stories:
        assert distance(told["end"], local["end"]) < WEIGHTS


def test_weight_decay_agrees(stories: list[Story], local: Story) -> None:
    for told in stories:
        assert distance(told["decayed"], local["decayed"]) < WEIGHTS


def test_metrics_agree(stories: list[Story], local: Story) -> None:
    """The norm above all: Adam hides a wrong scale of the gradient, and clipping here hides it further."""
    for told in stories:
        assert len(told["metrics"]) == UPDATES
        for mine, expected in zip(told["metrics"], local["metrics"], strict=True):
            assert mine == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_unused_layer_stays(stories: list[Story]) -> None:
    for told in stories:
        for name in ("unused.weight", "unused.bias"):
            assert torch.equal(told["end"]["module"][name], told["end"]["average"][name])


def test_everything_else_moves_and_what_is_frozen_does_not(local: Story) -> None:
    """Guards the comparisons above against comparing standing weights."""
    end, other = local["end"], local["decayed"]["module"]
    for name, average in end["average"].items():
        assert name.startswith("unused") or not torch.allclose(average, end["module"][name], atol=1e-4)
    assert not [name for name in end["average"] if name.startswith("frozen")]
    assert not torch.equal(other["frozen.weight"], end["module"]["frozen.weight"])


def test_non_finite_updates_are_refused_by_all_ranks(stories: list[Story]) -> None:
    """A metric, loss or gradient of one micro-batch of one rank; that nothing moved shows in the weights at the end."""
    for told in stories:
        bad = told["bad"]
        assert all(metrics["skipped"] == 1.0 for metrics in bad.values())
        assert math.isnan(bad["bad_metric"]["spoilt"]) and math.isinf(bad["bad_loss"]["loss"])
        assert math.isfinite(bad["bad_gradient"]["loss"]) and not math.isfinite(bad["bad_gradient"]["grad_norm"])
        assert all(metrics["skipped"] == 0.0 for metrics in told["metrics"])


def test_all_ranks_stop_after_several_non_finite_updates_in_a_row(stories: list[Story]) -> None:
    for told in stories:
        *before, last = told["stops"]
        assert not any(before), "one bad update is no end"
        assert last.startswith("FloatingPointError: update 0: ") and f"{MOST} in a row" in last
        assert told["stopped_count"] == MOST


def test_resuming_is_exact(stories: list[Story]) -> None:
    """A new engine made with other weights, and the engine that saved: both go on bit for bit."""
    for told in stories:
        assert distance(told["resumed"], told["end"]) == 0.0
        assert distance(told["rolled_back"], told["end"]) == 0.0
        assert told["resumed_metrics"] == told["metrics"][SAVED_AFTER:]


def test_settings_of_the_loading_engine_hold(stories: list[Story], local: Story) -> None:
    assert distance(local["taken_over"], local["end"]) > 1e-2
    for told in stories:
        assert distance(told["taken_over"], local["taken_over"]) < WEIGHTS


def test_averaged_weights_answer_inside_and_own_weights_after(stories: list[Story], local: Story) -> None:
    assert (local["averaged_answer"] - local["answer"]).abs().max() > 1e-3
    for told in stories:
        torch.testing.assert_close(told["averaged_answer"], local["averaged_answer"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(told["answer"], local["answer"], rtol=1e-5, atol=1e-5)
        assert told["restored"]
        assert told["inside"].startswith("ValueError: update, save and load work on the trained weights")


def test_averaged_weights_are_used_although_own_ones_are_still_gathered(stories: list[Story], local: Story) -> None:
    """Without care ZeRO-3 answers with weights it gathered before they were exchanged."""
    own, averaged, again = local["steady"]
    assert (averaged - own).abs().max() > 1e-3
    assert torch.equal(own, again)
    for told in stories:
        for mine, expected in zip(told["steady"], (own, averaged, own), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)


def test_gather_is_in_rank_order(stories: list[Story]) -> None:
    for told in stories:
        assert told["gathered"].tolist() == [[0.0, 0.5], [1.0, 1.5]]


def test_a_wrong_checkpoint_is_named(stories: list[Story]) -> None:
    for told in stories:
        assert "trains other parameters" in told["wrong_groups"]
        assert "nowhere is not an engine's checkpoint: it has no engine.json" in told["no_folder"]


@pytest.mark.parametrize("name", ["local", "zero0"])
def test_muon_agrees_and_resumes(name: str, local: Story, request: pytest.FixtureRequest) -> None:
    told = local if name == "local" else split_stories(request.getfixturevalue("folder"), name)[1]
    assert distance(told["muon"], local["muon"]) < 2 * WEIGHTS
    assert distance(told["muon_resumed"], told["muon"]) == 0.0


def test_zero_refuses_what_it_would_do_wrongly(split: list[Story]) -> None:
    for told in split:
        assert "breaks Muon's orthogonalisation. Use muon_lr=0" in told["muon_refused"]
        assert "2 parameters got no gradient" in told["decay_refused"]


def test_ranks_that_disagree_say_so_instead_of_waiting(folder: Path) -> None:
    for told in split_stories(folder, "zero2") + split_stories(folder, "zero3"):
        assert "ranks disagree on the number of micro-batches" in told["uneven"]
        assert "ranks disagree on the names of the metrics" in told["other_names"]
        assert "cut an earlier update short" in told["interrupted"]


def test_going_behind_the_wrapper_is_refused_under_zero3(folder: Path) -> None:
    """DeepSpeed 0.19 then keeps only one micro-batch's gradient and says nothing; below stage 3 it is right."""
    for told in split_stories(folder, "zero3"):
        assert "the loss did not call engine.module" in told["behind"]
    assert split_stories(folder, "zero2")[0]["behind"] == ""


def test_adapters_agree(adapters: list[Story], local_adapters: Story) -> None:
    """Weight decay is on: nothing may shrink that has no adapter, and no part of an adapter goes without gradient."""
    for told in adapters:
        assert distance(told["adapter"]["end"], local_adapters["adapter"]["end"]) < WEIGHTS
        pairs = zip(told["adapter"]["metrics"], local_adapters["adapter"]["metrics"], strict=True)
        assert all(mine == pytest.approx(expected, rel=1e-5, abs=1e-6) for mine, expected in pairs)


def test_an_adapters_reference_is_its_base_to_the_end(adapters: list[Story]) -> None:
    for told in adapters:
        assert torch.equal(told["adapter"]["reference"], told["adapter"]["before"])
        assert (told["adapter"]["after"] - told["adapter"]["before"]).abs().max() > 0.1


def test_an_adapters_checkpoint_holds_the_adapter_and_resumes_exactly(adapters: list[Story]) -> None:
    for told in adapters:
        for kind in set(told) & {"adapter", "adapter_lean"}:
            one = told[kind]
            assert distance(one["resumed"], one["end"]) == 0.0
            assert one["resumed_metrics"] == one["metrics"][adapter_story.SAVED_AFTER :]
            assert all(".lora_" in name for name in one["end"]["module"])
            assert "start from the model that the run started from" in one["other_base"]
        learned = sum(x.numel() for x in told["adapter"]["end"]["module"].values())
        # a weight, its average and two moments, in whole and in the processes' own files, and the files' overhead
        assert told["adapter"]["bytes"] < 8 * 4 * learned + 100_000


def test_averages_beside_16_bit_weights_are_those_of_the_masters(adapters: list[Story]) -> None:
    """After one update: a tenth of the start and the rest of where the masters are, to the last digits of float32."""
    for told in adapters:
        for kind in {"adapter", "adapter_lean", "lean"} & told.keys():
            start, saved = told[kind]["start"]["average"], told[kind]["saved"]
            for name, average in saved["average"].items():
                expected = torch.lerp(start[name], saved["module"][name].float(), 0.9)
                torch.testing.assert_close(average, expected, rtol=1e-6, atol=1e-8)
            assert any(not torch.equal(average, average.bfloat16().float()) for average in saved["average"].values())


def test_masters_start_from_all_digits_of_the_weights(adapters: list[Story]) -> None:
    """The network computes with roundings from its first pass on; what is trained does not begin at them."""
    for told in adapters:
        for kind, lora in {"lean": False, "adapter_lean": True}.items():
            if kind in told:
                network = adapter_story.untrained(lora).network
                expected = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
                assert any(not torch.equal(x, x.bfloat16().float()) for x in expected.values())
                start = told[kind]["start"]
                assert all(torch.equal(start["module"][name], x) for name, x in expected.items())
                assert all(torch.equal(start["average"][name], x) for name, x in expected.items())


def test_rank_0_alone_reads_checkpoints(adapters: list[Story]) -> None:
    for rank, told in enumerate(adapters):
        for kind in {"adapter", "adapter_lean", "lean"} & told.keys():
            assert bool(told[kind]["read"]) is (rank == 0)


def test_lean_training_agrees_and_resumes_exactly(adapters: list[Story], local_adapters: Story) -> None:
    """bfloat16 weights, float32 masters and optimizer in host memory, blocks recomputed."""
    for told in adapters:
        if "refused" in told:
            assert "use zero_stage=1" in told["refused"]["error"]
            continue
        for kind in ("lean", "adapter_lean"):
            assert distance(told[kind]["resumed"], told[kind]["end"]) == 0.0
            losses = [m["loss"] for m in told[kind]["metrics"]]
            assert losses == pytest.approx([m["loss"] for m in local_adapters[kind]["metrics"]], rel=5e-3)
            after, expected = told[kind]["after"], local_adapters[kind]["after"]
            assert (after - expected).square().mean() < 1e-3 * expected.square().mean()
