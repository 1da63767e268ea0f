"""Prompts that say in which size they are to be made: sampled and learned from in groups of one size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alignment import grpo, nft, online_dpo
from alignment.groups import Groups, sample_groups
from alignment.grpo import Grpo
from alignment.nft import Nft
from alignment.online_dpo import OnlineDpo
from alignment.trajectory import Exploration
from base_model.sample import Sampler
from experiments.evaluation.prompt_files import read_prompt_file
from experiments.evaluation.prompts_of_plan import first_prompts
from preference_data.prompts import PromptSet
from preference_data.records import Prompt, prompt_from_json, to_json
from tests.fixtures.tiny.tiny_model import tiny_model
from tests.fixtures.toy_alignment import G, Judged, Watching, redness

SIZES = ((64, 32), (64, 32), None, (32, 96), (48, 48), None)
SET = PromptSet(
    replace(Prompt.from_text(f"the word {text}"), size=size) for text, size in zip("ABCDEF", SIZES, strict=True)
)
BASE = {"steps": 1, "prompts": 6, "group": G, "sampler": Sampler(steps=3)}
EXPLORED = {"exploration": Exploration(window=1, within=2)}
UNEXPLORED = {"exploration": Exploration(window=0, within=2, shared_noise=False)}


class OfTwo(Watching):
    """Another rank has `most` chunks, and rewards like ours."""

    def __init__(self, model, most: int) -> None:
        super().__init__(model, rank=1)
        self.world_size, self.most = 2, most

    def gather(self, x_B: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.full_like(x_B, self.most) if x_B.dtype == torch.int64 else x_B.flip(0), x_B])


@pytest.mark.parametrize("most", [0, 1, 5, 6])
@pytest.mark.parametrize("micro", [2 * G, 6 * G])
def test_every_image_weighs_the_same_whatever_its_size(micro: int, most: int) -> None:
    model, judge = tiny_model(), Judged(redness)
    engine = OfTwo(model, most) if most else Watching(model)
    rollouts = sample_groups(model, engine, SET, judge, Groups(**BASE, **EXPLORED, micro=micro), 2)
    assert len(rollouts.parts) == max(most, 4), "the run's own size, and three others"
    texts = [prompts[0].text[-1] for prompts, _ in judge.requests]
    assert sorted(texts) == list("ABCDEF")
    for prompts, images in judge.requests:
        assert images.shape[2:] == (prompts[0].size or (32, 96))
    weights = [part.weight_B for part in rollouts.parts]
    values = torch.arange(6 * G, dtype=torch.float32).split([len(w) for w in weights])
    means = [(w * x).mean() for w, x in zip(weights, values, strict=True)]
    taught = torch.cat(weights) > 0
    assert taught.any() and all(len(set(part.trajectory.cond.grids)) == 1 for part in rollouts.parts)
    share = taught.float() / taught.float().mean() if not most else None
    if share is not None:
        torch.testing.assert_close(torch.stack(means).mean(), (share * torch.cat(values)).mean())
    sizes = [len(part.weight_P) for part in rollouts.parts]
    assert most or sizes == [2, 2, 1, 1], "else shares in another order would be the same"
    assert sum(sizes) == 6 and [len(w) for w in weights] == [G * size for size in sizes]


@pytest.mark.parametrize(
    ("loop", "cfg"),
    [
        (grpo.train, Grpo(**BASE, **EXPLORED, micro=6 * G, beta=0.1)),
        (nft.train, Nft(**BASE, **UNEXPLORED, micro=3 * G)),
        (online_dpo.train, OnlineDpo(**BASE, **UNEXPLORED, micro=2 * G)),
    ],
)  # fmt: skip
def test_algorithms_make_an_update_of_several_sizes(loop, cfg) -> None:
    model = tiny_model()
    engine = Watching(model)
    (step,) = loop(model, engine, SET, Judged(redness), cfg)
    assert len(engine.micros) >= 4 and any(p.grad is not None and p.grad.any() for p in model.network.parameters())
    if loop is grpo.train:
        assert step.metrics["ratio_gap_first"] == 0.0 and step.metrics["kl"] == 0.0


def test_a_set_of_one_size_is_sampled_as_it_always_was() -> None:
    plain = PromptSet(replace(prompt, size=None) for prompt in SET)
    cfg, results = Groups(**BASE, **EXPLORED, micro=2 * G), []
    for prompts in (plain, PromptSet(replace(prompt, size=(32, 96)) for prompt in SET)):
        model = tiny_model()
        rollouts = sample_groups(model, Watching(model), prompts, Judged(redness), cfg, 3)
        results.append(rollouts)
    for one, other in zip(results[0].parts, results[1].parts, strict=True):
        assert torch.equal(one.trajectory.x0_BSC, other.trajectory.x0_BSC)
        assert torch.equal(one.weight_B, other.weight_B) and torch.equal(one.advantage_B, other.advantage_B)


def test_further_tries_are_refused_by_name() -> None:
    model = tiny_model()
    with pytest.raises(ValueError, match="tries=2"):
        sample_groups(model, Watching(model), SET, Judged(redness), Groups(**BASE, **EXPLORED, micro=G, tries=2), 0)


def test_a_file_of_prompts_names_sizes_and_keeps_them(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "height": 64, "width": 32}, {"prompt": "b"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prompts = first_prompts(tmp_path / "p.jsonl", 0)
    assert [prompt.size for prompt in prompts] == [(64, 32), None]
    again = [prompt_from_json(json.loads(json.dumps(to_json(prompt)))) for prompt in prompts]
    assert again == prompts and [prompt.size for prompt in again] == [(64, 32), None]
    assert "size" not in to_json(prompts[1]) and prompts[0].id == Prompt.from_text("a").id
    (tmp_path / "kept.jsonl").write_text(PromptSet(prompts).to_jsonl())
    assert [each.size for each in read_prompt_file(tmp_path / "kept.jsonl")] == [(64, 32), None]
    for size in ((0, 32), (64,), ("a", "b")):
        with pytest.raises(ValueError, match="height and a width"):
            replace(prompts[0], size=size)
