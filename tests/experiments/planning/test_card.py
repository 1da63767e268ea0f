"""The card that is none: what it refuses and allows, whose numbers it keeps, what it counts; whole recipes on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
import torch.nn.functional as F

from experiments.benchmarks.card.fake_ranks import joined
from experiments.benchmarks.card.recipe import count_recipe
from experiments.configs.edits_online import qwen_edit
from experiments.configs.large_grpo import configs as grpo
from experiments.configs.large_tuning import configs as tuning
from experiments.planning.card import Mixed, Unknown
from experiments.planning.torch_patches import opened

LINEAR = F.linear
RECIPES = {experiment.name: experiment for experiment in (*grpo, *tuning, qwen_edit)}


@pytest.fixture(autouse=True)
def torch_stays_as_it_was() -> Iterator[None]:
    """What DeepSpeed puts in place of torch's own functions would change the last digits of every later test."""
    yield
    assert F.linear is LINEAR


def host() -> torch.Tensor:
    return torch.arange(6.0).view(2, 3)


def refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except Mixed:
        return True
    return False


def test_mixing_is_refused_where_cuda_refuses_it() -> None:
    with opened():
        h, d = host(), host().to("meta")
        assert refused(lambda: d + h), "a sum"
        assert refused(lambda: torch.cat([d, h])), "cat"
        assert refused(lambda: torch.stack([d, h])), "stack"
        assert refused(lambda: F.linear(d, torch.ones(4, 3))), "weights on the host"
        assert refused(lambda: torch.cat([d.view(-1), torch.tensor(1.0).view(1)])), "one element is no scalar"
        assert refused(lambda: h[torch.tensor([0]).to("meta")]), "an index of the card into the host"
        assert refused(lambda: h + d.sum()), "a scalar of the card"
        assert refused(lambda: torch.stack([d.sum(), torch.tensor(1.0)])), "scalars, but not pointwise"


def test_what_cuda_allows_is_allowed() -> None:
    with opened():
        d = host().to("meta")
        assert (d * torch.tensor(2.0)).tolist() == (host() * 2).tolist(), "a 0-dim tensor of the host"
        assert d[torch.tensor([0])].tolist() == [[0.0, 1.0, 2.0]], "an index of the host"
        d.copy_(torch.ones(2, 3))
        assert d.tolist() == [[1.0] * 3] * 2


def test_a_refusal_names_the_line() -> None:
    with (
        opened(),
        pytest.raises(
            Mixed, match=r"aten::add at tests/experiments/planning/test_card.py:\d+: tensors of the host \[\(2, 3\)\]"
        ),
    ):
        host().to("meta") + host()


def test_small_tensors_keep_their_numbers() -> None:
    with opened():
        d = host().to("meta")
        assert d.cpu().equal(host()) and (d * 2 + 1).tolist() == (host() * 2 + 1).tolist()
        before = d.sum()
        d[0] = 7
        assert d[0].tolist() == [7, 7, 7], "writes into views"
        assert before.item() == 15.0, "what was computed before does not follow"
        assert d[d > 5].shape == (3,) and (d > 5).nonzero().shape == (3, 2)
        assert d.unique().tolist() == [3, 4, 5, 7]
        assert torch.tensor([1, 2], device="meta").tolist() == [1, 2]
        assert torch.as_tensor(3.5, device="meta").item() == 3.5
        assert torch.arange(4, device="meta").tolist() == [0, 1, 2, 3]
        ones = torch.ones(2, dtype=torch.long, device="meta")
        assert torch.cat([ones, ones.new_zeros(0)]).tolist() == [1, 1], "nothing is known to be nothing"
        w = torch.nn.Parameter(torch.tensor([2.0]).to("meta"))
        (w * w).sum().backward()
        assert w.grad is not None and w.grad.tolist() == [4.0]


def test_unknown_numbers_read_as_zeros_and_decide_nothing() -> None:
    with opened() as card:
        big = torch.empty(1000, 1000, device="meta")
        assert big.sum().item() == 0 and card.guessed
        with pytest.raises(Unknown, match=r"a mask of unknown numbers at tests/.*test_card\.py"):
            big[big > 0]
        with pytest.raises(Unknown, match="its shape would depend on them"):
            big.nonzero()
        images = torch.empty(2, 3, 8, 8, dtype=torch.uint8, device="meta").cpu()
        assert not images[0].equal(images[1]), "records of images need images that differ"
        small = torch.ones(3).to("meta")
        small.copy_(torch.empty(1000, 1000, device="meta").view(-1)[:3])
        assert small.tolist() == [0, 0, 0], "what is overwritten by the unknown is unknown"


def test_bytes_are_counted_from_birth_to_death() -> None:
    with opened() as card:
        start = card.now
        with card.phase("large"):
            x = torch.empty(256, 1024, device="meta")
            y = x[3]
        assert card.now - start == 1 << 20
        del x
        assert card.now - start == 1 << 20, "a view keeps its storage"
        del y
        assert card.now == start
        one = torch.empty(1, device="meta")
        assert card.now - start == 512 and one.numel() == 1, "blocks of the allocator"
        assert card.peaks["large"] == start + (1 << 20)
        with card.phase("idle"):
            pass
        assert card.peaks["idle"] == card.now, "what stands while nothing is made"
        assert any(line.startswith("tests/experiments/planning/test_card.py") for line in card.at_peak["large"])
        assert card.placeholders(lambda: torch.empty(9, 9, device="meta"))().shape == (9, 9)
        assert card.now - start == 512, "what stands for nothing is not counted"


def test_large_tensors_of_the_host_take_no_memory() -> None:
    """Masters and moments of all weights on the host would be more than a laptop has."""
    size = 1 << 31  # 8 GiB in float32
    before = psutil.Process().memory_info().rss
    with opened():
        weights = torch.empty(size, dtype=torch.bfloat16, device="meta")
        masters, moments = weights.to("cpu", torch.float32), torch.zeros(size)
        assert masters.shape == (size,) and masters.dtype == torch.float32
        again = torch.zeros_like(masters)
        torch._foreach_mul_([moments, again], torch.tensor(2.0))
        torch._foreach_add_([moments, torch.zeros(3)], [again, torch.ones(3)])
        assert moments.copy_(again) is moments and moments.addcmul_(again, again) is moments
        weights.copy_(masters)
        masters.copy_(weights)
    assert psutil.Process().memory_info().rss - before < 1 << 28


def test_waiting_for_the_card_is_counted_by_line() -> None:
    with opened() as card, card.phase("asking"):
        d = host().to("meta")
        d.sum().item()
        d.tolist()
        (d > 2).nonzero()
    assert sum(n for (phase, _), n in card.syncs.items() if phase == "asking") == 3


def test_collectives_refuse_the_host_as_nccl_does() -> None:
    with opened(), joined(4) as said:
        x = torch.ones(3).to("meta")
        torch.distributed.all_reduce(x)
        parts = [torch.empty_like(x) for _ in range(4)]
        torch.distributed.all_gather(parts, x)
        assert parts[3].tolist() == [1, 1, 1]
        with pytest.raises(Mixed, match=r"broadcast at tests/.*test_card\.py.*NCCL takes no tensor of the host"):
            torch.distributed.broadcast(torch.ones(3), 0)
    assert any(line.startswith("all_reduce") for line in said)
    assert not torch.distributed.is_initialized()


WAITS = {
    "local": {"base_model/engine/engine.py"},
    "deepspeed": {"base_model/engine/engine.py", "base_model/engine/engine_deepspeed.py"},
}
"""files that may wait for the card during an update: metrics, and DeepSpeed's own checks. The network may not."""


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("qwen_grpo_lora", 2),
        ("qwen_grpo_full", 3),
        ("qwen_sft_lora", 3),
        *(
            pytest.param(name, layers, marks=pytest.mark.slow)
            for name in RECIPES
            for layers in (2, 3)
            if (name, layers) not in {("qwen_grpo_lora", 2), ("qwen_grpo_full", 3), ("qwen_sft_lora", 3)}
        ),
    ],
)
def test_recipes_run_whole_at_full_width(name: str, layers: int, tmp_path: Path) -> None:
    """Open, encode, rollout, score, update, checkpoint, finish; a tensor in the wrong place raises `Mixed`."""
    experiment = RECIPES[name]
    counted = count_recipe(experiment, tmp_path / "x", layers)
    assert {"open", "encode", "equip", "update", "look", "checkpoint", "finish"} <= counted.peaks.keys()
    if experiment.prompts or experiment.pairs:
        assert {"rollout", "decode"} <= counted.peaks.keys()
    assert not counted.mixings
    waited = {line.split(":")[0] for (phase, line), _ in counted.syncs.items() if phase == "update"}
    stage_3 = {"base_model/qwen/model.py"} if experiment.zero_stage == 3 else set()  # DeepSpeed gathers in its call
    assert waited <= WAITS[experiment.engine] | stage_3, waited
    assert not {line for phase, line in counted.syncs if phase == "rollout"} - stage_3_lines(counted.syncs, stage_3)
    assert counted.peaks["encode"] > 16.5e9, "the language model was whole"
    gone = counted.at_peak["update"]
    assert not any("language_encoder.py" in line or "release.py" in line for line in gone), "and let go before training"
    assert (tmp_path / "x" / "run" / "model").is_dir()


def stage_3_lines(syncs: object, files: set[str]) -> set[str]:
    return {line for _, line in syncs if line.split(":")[0] in files}  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen_grpo_lora", "qwen_dpo_lora", "qwen_sft_lora", "medium_grpo_full"])
def test_recipes_run_at_whole_depth(name: str, tmp_path: Path) -> None:
    assert count_recipe(RECIPES[name], tmp_path / "x").peaks["update"] > 5e9


def test_no_reference_is_kept_that_nobody_reads(tmp_path: Path) -> None:
    """A frozen copy doubles what stands on every card, before ZeRO cuts anything."""
    plain = replace(RECIPES["medium_grpo_full"], zero_stage=3)
    without = replace(plain, algorithm=replace(plain.algorithm, beta=0.0))
    copied, spared = (count_recipe(e, tmp_path / e.name / str(i), 2, whole=False).peaks["equip"]
                      for i, e in enumerate((plain, without)))  # fmt: skip
    assert copied - spared == pytest.approx(2 * 184_524_352 - 32_000_000, rel=0.15)
