"""Edits under every algorithm: source images reach the network in rollout and loss alike, on three kinds of models.

Shapes: B samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alignment import awm, best_of_n, dpo, dppo, grpo, guard, kto, nft, online_dpo, rwr, tied_dpo
from alignment.trajectory import Exploration, rollout
from base_model import flow
from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.engine.mixed_precision import Memory
from base_model.files.open_base import open_base
from base_model.generate import generate
from base_model.lora import Lora, add_adapter
from base_model.policy_model import PolicyModel
from base_model.sample import Sampler
from base_model.seeding import generator
from experiments.evaluation.prompts_of_plan import read_prompts
from preference_data.image_files import source_readers
from preference_data.prompts import PromptSet
from tests.fixtures.edit_prompts import write_edits
from tests.fixtures.tiny.tiny_model import Spy, tiny_model
from tests.fixtures.toy_alignment import Judged

pytest.importorskip("diffusers")
OPTIM = OptimConfig(steps=100, muon_lr=0.0, adamw_lr=1e-3, clip=0.0, warmup=0, decay_from=1.0, ema_decay=0.9)
EXPLORING = Exploration(flow.flow_sde, noise=0.7, window=2, within=3)
GRPO = grpo.Grpo(
    2, prompts=2, group=2, micro=4, sampler=Sampler(4, guidance=3.0), clip=1e-4, exploration=EXPLORING, beta=0.01
)
INSTRUCTIONS = ("make it blue", "make it red", "make it blue")
SIZES = ((32, 96), (64, 64), (96, 32))
"""of source images: the samples of a batch have different ones"""


def edits(folder: Path, counts: tuple[int, ...] = (1,)) -> PromptSet:
    return PromptSet(read_prompts(write_edits(folder, INSTRUCTIONS, counts, sizes=SIZES), 0))


def shown(model: PolicyModel, prompts: PromptSet) -> object:
    return model.read_images(source_readers(prompt.sources for prompt in prompts))


def nano(rank: int = 0) -> PolicyModel:
    model = tiny_model()
    if rank:
        add_adapter(model.network, Lora(rank, 8.0, model.lora_targets))
    model.freeze_reference()
    return model


@pytest.fixture(scope="session")
def kontext(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.fixtures.tiny.tiny_families import save_pipeline

    return save_pipeline("flux1_kontext", tmp_path_factory.mktemp("kontext") / "base")


Open = Callable[..., PolicyModel]


def opened(folder: Path, image: tuple[int, int], rank: int, cache: Path | None) -> PolicyModel:
    model = open_base(folder, image, cache=cache)
    if hasattr(model, "for_area"):
        model = model.for_area(image[0] * image[1])
    if rank:
        add_adapter(model.network, Lora(rank, 8.0, model.lora_targets))
    model.freeze_reference()
    return model


@pytest.fixture(params=["nano", "edit", "kontext"])
def model_of(request: pytest.FixtureRequest) -> Open:
    """Opens a model with an adapter of a rank: our own, a released Qwen-Image-Edit, FLUX.1 Kontext."""
    if request.param == "nano":
        return lambda rank=0, cache=None: nano(rank)
    folder = request.getfixturevalue(request.param)
    return lambda rank=0, cache=None: opened(folder, (64, 64), rank, cache)


def begun(model: PolicyModel, memory: Memory | None = None, optim: OptimConfig = OPTIM) -> LocalEngine:
    engine = LocalEngine(model.network, optim, memory=memory or Memory(), keep_frozen=False)
    model.trainable = engine.module
    return engine


def brightness() -> Judged:
    return Judged(lambda batch, prompts, images: images.astype(float).mean((1, 2, 3)) / 255.0)


MEMORIES = {"float32": Memory(), "bf16": Memory(bf16=True), "recompute": Memory(recompute=True)}


@pytest.mark.parametrize(
    ("memory", "shared"),
    [
        (memory, shared) if memory == "bf16" and not shared else pytest.param(memory, shared, marks=pytest.mark.slow)
        for memory in MEMORIES
        for shared in (True, False)
    ],
)
def test_the_first_ratio_is_one(model_of: Open, memory: str, shared: bool, tmp_path: Path) -> None:
    model, prompts, scorer = model_of(rank=2), edits(tmp_path), brightness()
    model.recompute(MEMORIES[memory].recompute)
    cfg = replace(GRPO, exploration=replace(EXPLORING, shared_noise=shared))
    steps = list(grpo.train(model, begun(model, MEMORIES[memory]), prompts, scorer, cfg))
    assert [step.metrics["ratio_gap_first"] for step in steps] == [0.0, 0.0]
    assert steps[0].metrics["kl"] == 0.0 < steps[1].metrics["kl"]
    assert all(prompt.sources for group, _ in scorer.requests for prompt in group), "rewards see the sources"


def test_the_sources_reach_rollout_and_guidance(model_of: Open, tmp_path: Path) -> None:
    model, prompts = model_of(), edits(tmp_path)
    images, texts = shown(model, prompts), [prompt.text for prompt in prompts]
    path = rollout(model, texts, 2, Sampler(4, 3.0), EXPLORING, 0, 0, 0, images=images[:])
    assert len(path.cond.image_grids) == 6 and all(path.cond.image_grids)
    if path.uncond is not path.cond:
        assert path.uncond.image_grids == path.cond.image_grids, "no prompt is no prompt about the same image"
    # first and third ask for the same of different images, from noise of one seed
    noise = model.noise(1, generator(0, 0, 0, "x")).repeat(3, 1, 1)
    made = generate(model, texts, noise, Sampler(4, 3.0), images).astype(int)
    assert abs(made[0] - made[2]).max() > 0
    alone = generate(model, texts[2:], noise[:1], Sampler(4, 3.0), images[2:]).astype(int)
    assert abs(made[2] - alone[0]).max() <= 1, "and neighbours do not matter"


def test_a_network_sees_every_source_of_its_own_sample(tmp_path: Path) -> None:
    model, prompts = nano(), edits(tmp_path, counts=(1, 0, 3))
    images = shown(model, prompts)
    assert [len(own) for own in images] == [1, 0, 3]
    with Spy(model) as spy:
        rollout(model, [p.text for p in prompts], 2, Sampler(4, 1.0), EXPLORING, 0, 0, 0, images=images[:])
    direct = model.encode_text(INSTRUCTIONS, images[:])
    for cond in spy.cond:
        every = cond.take(slice(None, None, len(cond) // 3))
        assert every.image_grids == direct.image_grids and torch.equal(every.images_BRC, direct.images_BRC)


FINISHED = Exploration(window=0, within=0, shared_noise=False)
ALGORITHMS = {
    "guard": (guard, guard.Guard, {"sampler": Sampler(4, 3.0), "exploration": EXPLORING}),
    "dppo": (dppo, dppo.Dppo, {"sampler": Sampler(4, 3.0), "exploration": EXPLORING}),
    **{
        name: (module, kind, {"sampler": Sampler(4), "exploration": FINISHED})
        for name, module, kind in (
            ("nft", nft, nft.Nft), ("awm", awm, awm.Awm), ("rwr", rwr, rwr.Rwr),
            ("best_of_n", best_of_n, best_of_n.BestOfN), ("online_dpo", online_dpo, online_dpo.OnlineDpo),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "algorithm", [a if a in ("guard", "nft") else pytest.param(a, marks=pytest.mark.slow) for a in ALGORITHMS]
)
def test_every_algorithm_learns_from_edits(model_of: Open, algorithm: str, tmp_path: Path) -> None:
    model, (module, kind, settings) = model_of(rank=2), ALGORITHMS[algorithm]
    before = {n: p.detach().clone() for n, p in model.network.named_parameters()}
    cfg = kind(1, prompts=2, group=2, micro=4, **settings)
    (step,) = module.train(model, begun(model), edits(tmp_path), brightness(), cfg)
    assert math.isfinite(step.metrics["loss"]) and step.metrics.get("ratio_gap_first", 0.0) == 0.0
    moved = {n for n, p in model.network.named_parameters() if not torch.equal(p, before[n])}
    assert moved and all(".lora_" in n for n in moved)


def pairs_of(model: PolicyModel, prompts: PromptSet, kind: type) -> object:
    random, texts = generator(0, 0, 0, "pairs"), tuple(prompt.text for prompt in prompts)
    first, second = model.noise(3, random), model.noise(3, random)
    images = shown(model, prompts)
    if kind is kto.Verdicts:
        return kto.Verdicts(first, torch.tensor([True, False, True]), texts, images)
    if kind is tied_dpo.Answers:
        return tied_dpo.Answers(first, second, texts, torch.tensor([False, True, False]), torch.ones(3), images)
    return dpo.Pairs(first, second, texts, images)


def test_dpo_begins_at_log_2_and_asks_about_the_images_of_its_rows(model_of: Open, tmp_path: Path) -> None:
    model, prompts = model_of(rank=2), edits(tmp_path)
    pairs = pairs_of(model, prompts, dpo.Pairs)
    asked, encode = [], model.encode_text
    model.encode_text = lambda texts, images=(): asked.append((texts, images)) or encode(texts, images)
    engine = begun(model, optim=replace(OPTIM, adamw_lr=1e-6))
    steps = list(dpo.train(model, engine, pairs, dpo.Dpo(2, batch=3, micro=3)))
    assert steps[0].metrics["loss"] == pytest.approx(math.log(2.0), abs=1e-6)
    assert 0.0 < abs(steps[1].metrics["loss"] - math.log(2.0)) < 0.1
    for step, (texts, images) in enumerate(asked):
        rows = [int(i) for i in dpo.shuffled_rows(3, step, 3, 0)]
        assert texts == [INSTRUCTIONS[i] for i in rows]
        expected = shown(model, prompts)
        assert all(torch.equal(own[0], expected[i][0]) for own, i in zip(images, rows, strict=True))


@pytest.mark.parametrize(
    ("module", "kind", "settings"),
    [(tied_dpo, tied_dpo.Answers, tied_dpo.TiedDpo), (kto, kto.Verdicts, kto.Kto)],
)
def test_answers_and_verdicts_about_edits_teach(module: object, kind: type, settings: type, tmp_path: Path) -> None:
    model, prompts = nano(rank=2), edits(tmp_path)
    with Spy(model) as spy:
        (step,) = module.train(model, begun(model), pairs_of(model, prompts, kind), settings(1, batch=3, micro=3))
    assert math.isfinite(step.metrics["loss"]) and spy.cond and all(all(cond.image_grids) for cond in spy.cond)


def test_encoded_prompts_are_stored_by_their_images_too(model_of: Open, tmp_path: Path) -> None:
    model, prompts = model_of(cache=tmp_path / "cache"), edits(tmp_path)
    images, texts = shown(model, prompts), [prompt.text for prompt in prompts]
    sampler, noise = Sampler(4, 3.0), model.noise(3, generator(0, 0, 0, "x"))
    before = generate(model, texts, noise, sampler, images)
    model.encode_ahead(texts, images[:])
    model.release_encoders()
    assert (generate(model, texts, noise, sampler, images) == before).all()
    if not model.keeps_base:
        return
    other = edits(tmp_path / "other")
    write_edits(tmp_path / "other", INSTRUCTIONS, sizes=SIZES[::-1])
    changed = PromptSet(read_prompts(tmp_path / "other" / "edits.jsonl", 0))
    assert changed[0].text == other[0].text and changed[0].sources != other[0].sources
    with pytest.raises(ValueError, match=r"make it blue.*was not encoded|not encoded.*make it blue"):
        model.encode_text(texts[:1], shown(model, changed)[:1])


def test_two_and_three_sources_of_edit_plus(plus: Path, tmp_path: Path) -> None:
    model = opened(plus, (64, 64), 2, None)
    prompts = edits(tmp_path, counts=(2, 3, 1))
    steps = list(grpo.train(model, begun(model), prompts, brightness(), GRPO))
    assert [step.metrics["ratio_gap_first"] for step in steps] == [0.0, 0.0]
    assert [len(own) for own in model.encode_text(INSTRUCTIONS, shown(model, prompts)[:]).image_grids] == [2, 3, 1]


def test_large_sources_are_shown_no_larger_than_what_is_made(kontext: Path, edit: Path, tmp_path: Path) -> None:
    file = write_edits(tmp_path, ["a", "b", "c"], sizes=((512, 256), (50, 70), (16, 16)))
    prompts = PromptSet(read_prompts(file, 0))
    for model in (opened(kontext, (64, 64), 0, None), nano()):
        sizes = [tuple(own[0].shape[1:]) for own in shown(model, prompts)]
        assert all(h % model.side == w % model.side == 0 for h, w in sizes)
        area = model.picture[0] * model.picture[1]
        assert sizes[0][0] > 1.5 * sizes[0][1] and 0.7 * area <= sizes[0][0] * sizes[0][1] <= 1.3 * area
        assert sizes[2] == (16, 16), "what fits stays as it is"
        model.encode_text(["a", "b", "c"], shown(model, prompts)[:])
    cond = opened(edit, (64, 64), 0, None).encode_text(["a"], shown(nano(), prompts)[:1])
    assert cond.image_grids[0][0] in ((6, 2), (6, 3), (5, 3), (4, 2)), "and a released one makes its own copies"


def test_samples_of_several_layouts_keep_their_rows(kontext: Path) -> None:
    """The network is called once for each layout, and every answer comes back to its own sample."""
    model, random = opened(kontext, (64, 64), 0, None), torch.Generator().manual_seed(0)
    images = [[torch.rand(3, *size, generator=random)] for size in ((32, 96), (64, 64), (32, 96))] + [[]]
    cond, x = model.encode_text(["a", "b", "c", "d"], images), model.noise(4, generator(0, 0, 0, "x"))
    sigma = torch.tensor([0.2, 0.4, 0.6, 0.8])
    together = model.velocity(x, sigma, cond)
    for row in range(4):
        own = slice(row, row + 1)
        assert torch.allclose(together[own], model.velocity(x[own], sigma[own], cond.take(own)), atol=1e-5)


def test_what_is_encoded_ahead_is_enough_for_guidance(edit: Path, tmp_path: Path) -> None:
    model, prompts = opened(edit, (64, 64), 0, tmp_path / "cache"), edits(tmp_path)
    images, texts = shown(model, prompts)[:], [prompt.text for prompt in prompts]
    model.encode_ahead(texts, images)
    model.release_encoders()
    assert len(model.unconditional(3, images)) == len(model.encode_text(texts, images)) == 3
