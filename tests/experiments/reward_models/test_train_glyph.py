"""`glyphlab train-glyph`: it learns, goes on where it was stopped, and what it writes is a reward."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest

from base_model.data.glyphs.crops import BLANK, HALF, SOLID, SOUND, Source, crop
from base_model.data.glyphs.shapes import BARS, TRAINING, UNSEEN
from experiments.cli import parsed
from experiments.commands.arguments import with_current_options
from experiments.reward_models import glyph_levels
from experiments.reward_models import train_glyph as module
from experiments.reward_models.glyph_examples import all_references, framed_example, made, references
from experiments.reward_models.glyph_plan import GlyphPlan
from experiments.reward_models.train_glyph import CARD, area, facts_of, phases, scores, train_glyph
from preference_data.records import Prompt
from rewards.glyph import glyph_training
from rewards.glyph.glyph import CONTENT, WEIGHTS, Glyph, GlyphModel, read
from rewards.glyph.glyph_network import GlyphNetwork
from rewards.glyph.glyph_settings import TrainGlyph
from rewards.glyph.glyph_training import Examples, confused, rate_at, rows_at, train
from tests.fixtures.simulated_taste import simulate, write
from tests.rewards.glyph.test_glyph_reward import written

FACES = (("en", TRAINING["en"][0]),)
FEW = Source(faces=FACES, characters=(("en", "ABEGHKMR"),), kinds=("cut", "merge", "mix"), seed=3)


@pytest.fixture(scope="module")
def examples() -> Examples:
    return made(FEW, 160, references({"en": "ABEGHKMR"})).examples


def test_it_learns_what_it_is_shown(examples: Examples) -> None:
    losses = [
        update.metrics["loss"] for update in train(examples, TrainGlyph(updates=60, batch=32, width=4, rate=5e-3))
    ]
    assert np.mean(losses[-6:]) < 0.75 * np.mean(losses[:6]) and all(np.isfinite(losses))


def test_stopped_and_gone_on_is_the_same_to_the_last_bit(examples: Examples) -> None:
    cfg = TrainGlyph(updates=6, batch=8, width=2)
    whole = list(train(examples, cfg))[-1].state()
    part = train(examples, cfg)
    state = [next(part) for _ in range(3)][-1].state()
    state = {"update": state["update"], "network": {n: t.clone() for n, t in state["network"].items()},
             "optimizer": _copied(state["optimizer"])}  # fmt: skip
    rest = list(train(examples, cfg, state))
    assert [update.number for update in rest] == [4, 5, 6]
    for name, weights in whole["network"].items():
        assert weights.equal(rest[-1].state()["network"][name]), name


def test_a_network_goes_on_from_the_weights_of_another(examples: Examples) -> None:
    cfg = TrainGlyph(updates=2, batch=8, width=2, rate=1e-9)
    other = list(train(examples, replace(cfg, updates=3, seed=1, rate=0.01)))[-1].state()["network"]
    mine = {name: each.clone() for name, each in next(train(examples, cfg, None, other)).state()["network"].items()}
    for name, weights in other.items():
        if "running" not in name and "tracked" not in name:
            np.testing.assert_allclose(mine[name], weights, atol=1e-6, err_msg=name)


def _copied(state: dict) -> dict:
    import copy

    return copy.deepcopy(state)


def test_every_crop_is_seen_once_before_any_comes_again() -> None:
    cfg = TrainGlyph(batch=5)
    first = np.concatenate([rows_at(cfg, 13, update) for update in range(6)])
    assert sorted(first[:13]) == sorted(first[13:26]) == list(range(13)) and list(first[:13]) != list(first[13:26])
    np.testing.assert_array_equal(rows_at(cfg, 13, 2), first[10:15])
    rates = [rate_at(TrainGlyph(updates=50), update) for update in range(50)]
    assert (
        max(rates) == pytest.approx(TrainGlyph().rate) and rates[0] < 0.5 * max(rates) and rates[-1] < 0.01 * max(rates)
    )


def test_sound_characters_are_asked_for_as_others_that_look_otherwise() -> None:
    table = references({"en": "ABoO", "zh-Hans": "永和"})
    same = made(Source(faces=FACES, characters=(("en", "ABoO"),), sound=1.0, empty=0.0), 40, table).examples
    cfg = TrainGlyph(batch=40, wrong=0.9)
    character_B, swapped_B = confused(cfg, same, np.arange(40), 0)
    assert 10 < swapped_B.sum() < 40
    pairs = {(table.characters[a], table.characters[b]) for a, b in zip(same.character_N, character_B, strict=True)}
    assert ("o", "O") not in pairs and ("O", "o") not in pairs and not {b for _, b in pairs} & set("永和")
    broken = replace(same, sound_N=np.zeros(40, bool))
    assert not confused(cfg, broken, np.arange(40), 0)[1].any()


def test_a_sound_character_asked_for_as_another_is_learned_as_not_sound(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, seen, before = TrainGlyph(updates=1, batch=64, width=2, wrong=0.5), [], glyph_training.loss
    monkeypatch.setattr(glyph_training, "loss", lambda *a: [seen.append(a), before(*a)][1])
    list(train(examples, cfg))
    rows_B = rows_at(cfg, 160, 0)
    swapped_B = confused(cfg, examples, rows_B, 0)[1]
    assert swapped_B.sum() > 3
    np.testing.assert_array_equal(seen[0][2].numpy() > 0.5, examples.sound_N[rows_B] & ~swapped_B)
    np.testing.assert_array_equal(seen[0][4].numpy() > 0.5, ~swapped_B)


def test_each_language_has_its_own_network_and_crops() -> None:
    common, latin, chinese = phases(GlyphPlan(crops=500, settings=TrainGlyph(updates=9, own=7, own_rate=0.01)))
    assert (common.crops, common.settings.updates, common.settings.rate) == (500, 9, TrainGlyph().rate)
    for phase, language in ((latin, "en"), (chinese, "zh-Hans")):
        assert phase.name == language and {each for each, _ in phase.source.faces} == {language}
        assert (phase.crops, phase.settings.updates, phase.settings.rate) == (100, 7, 0.01)
        assert crop(phase.source, 0).language == language and phase.source.clean == common.source.clean > 0


def test_each_language_goes_on_from_the_common_network_and_is_seen_by_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks, begun = {name: GlyphNetwork(2) for name in ("common", "en", "zh-Hans")}, []

    def trained(plan, phase, table, bar, begin=None) -> GlyphNetwork:
        begun.append((phase.name, begin))
        return networks[phase.name].eval()

    monkeypatch.setattr(module, "_trained", trained)
    monkeypatch.setattr(module, "all_references", lambda: references({"en": "AB", "zh-Hans": "永"}))
    monkeypatch.setattr(module, "levels", lambda model, *rest: model.levels)
    monkeypatch.setattr(module, "measure", lambda *rest: {})
    train_glyph(GlyphPlan(tmp_path / "glyph", settings=TrainGlyph(width=2)))
    assert begun == [("common", None), ("en", networks["common"]), ("zh-Hans", networks["common"])]
    model = read(tmp_path / "glyph")[1]
    crops = [model.references[each][0] for each in "A永"]
    alone = [
        GlyphModel([networks[name]], "A永", np.stack([model.references[c] for c in "A永"]))
        for name in ("en", "zh-Hans")
    ]
    expected = [alone[k].score(crops, "A永")[k] for k in range(2)]
    np.testing.assert_allclose(model.score(crops, "A永"), expected, rtol=1e-4)


def test_the_map_says_where_a_stroke_is_missing() -> None:
    each = crop(replace(FEW, kinds=("cut",), sound=0.0, empty=0.0), 4)
    _, map_MM = framed_example(each)
    sound_MM = framed_example(crop(replace(FEW, sound=1.0, empty=0.0), 4))[1]
    assert map_MM.max() > 200 and (map_MM == 0).any() and not sound_MM.any()


def test_a_command_trains_resumes_and_writes_a_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    small = references({"en": "ABOPENDILY"})
    monkeypatch.setattr(module, "all_references", lambda: small)
    monkeypatch.setattr(module, "CARD_CROPS", 40)
    monkeypatch.setattr("base_model.data.glyphs.crops.alphabet", lambda language: "ABOPEN")
    monkeypatch.setattr(glyph_levels, "alphabet", lambda language: "ABOPEN")
    monkeypatch.setattr(glyph_levels, "EMPTY_CROPS", 20)
    monkeypatch.setattr(module, "TRAINING", {"en": TRAINING["en"][2:4]})
    monkeypatch.setattr(module, "UNSEEN", {"en": UNSEEN["en"][:1]})
    out = tmp_path / "glyph"
    plan = GlyphPlan(out, "en", 100, save_every=2, settings=TrainGlyph(updates=5, own=4, batch=8, width=2))
    whole = replace(plan, out=tmp_path / "whole")
    train_glyph(whole)
    begun, steps, making = [], module.train, module.make
    monkeypatch.setattr(
        module, "make", lambda source, count, table: [begun.append(count), making(source, count, table)][1]
    )

    def stopping(updates: int):
        def train(examples: Examples, cfg: TrainGlyph, state: dict | None, first: dict | None):
            begun.append((cfg.updates, 0 if state is None else state["update"]))
            every = steps(examples, cfg, state, first)
            return _stopped(every, 3) if cfg.updates == updates else every

        return train

    for updates in (5, 4):  # in the network of all languages, then in the language's own
        monkeypatch.setattr(module, "train", stopping(updates))
        with pytest.raises(KeyboardInterrupt):
            train_glyph(plan)
    monkeypatch.setattr(module, "train", stopping(0))
    with pytest.raises(ValueError, match="updates was 5, is 6"):
        train_glyph(replace(plan, settings=replace(plan.settings, updates=6)))
    assert f"glyph:weights={out}" in train_glyph(plan)[-1]
    assert begun == [100, (5, 0), 100, (5, 2), 20, (4, 0), 20, (4, 2)], "(updates of a network, from which); crops"
    assert (out / WEIGHTS).read_bytes() == (whole.out / WEIGHTS).read_bytes()
    assert sorted(p.name for p in out.iterdir()) == sorted((CARD, CONTENT, "references.npz", WEIGHTS))
    content = json.loads((out / CONTENT).read_text())
    assert content["updates"] == 5 and set(content["measured"]) == {"en, faces of training", "en, other faces"}
    levels = read(out)[1].levels
    np.testing.assert_array_equal(levels.box_C23, small.box_C23)
    assert (levels.like_C < 1).sum() == 7 and "is added to the network's logit" in (out / CARD).read_text()
    assert f"{levels.shift_C[0]:.2f} for en and 0.00 for zh-Hans" in (out / CARD).read_text()
    value = Glyph(out).load()([Prompt.from_text('"OPEN"')], written(["OPEN"]).transpose(2, 0, 1)[None]).value_B
    assert 0 < value[0] < 1
    assert parsed(["train-glyph", "-o", str(out), "--languages", "en"])() == 0 and "finished" in capsys.readouterr().out


def _stopped(updates, after: int):
    for update in updates:
        yield update
        if update.number == after:
            raise KeyboardInterrupt


def test_the_options_of_trained_rewards_are_their_settings(capsys: pytest.CaptureFixture[str]) -> None:
    glyph = parsed(["train-glyph", "--languages", "zh", "--rate", "1e-4", "--kinds", "cut,gap"]).__self__
    assert glyph.settings == TrainGlyph(rate=1e-4) and glyph.chosen_languages == ("zh-Hans",)
    assert facts_of(glyph)["kinds"] == ["cut", "gap"] and facts_of(glyph)["rate"] == 1e-4
    for command, more in (("train-reward", []), ("train-judge", ["--base", "m"])):
        line = with_current_options([command, "--pairs", "a.jsonl", "--same-annotators", "--seed", "3", *more])
        typed = parsed(line).__self__
        assert typed.settings.seed == 3 and (typed if more else typed.settings).annotators is False
    assert "--same-annotators is called --no-annotators now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--languages", "fr"], "'fr' is not written"),
        (["--languages", "ja"], "languages are en, zh-Hans"),
        (["--kinds", "cut,scratch"], "kinds of damage are"),
        (["--updates", "0"], "updates=0"),
        (["--own-rate", "1"], "own_rate=1"),
        (["--crops", "3"], "crops=3"),
        (["--faces", "a.ttf"], "names no language"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(tmp_path: Path, arguments: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parsed(["train-glyph", "-o", str(tmp_path / "g"), *arguments])()
    assert not (tmp_path / "g").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_minute_of_letters_holds_its_bounds_on_faces_and_crops_it_has_not_seen(tmp_path: Path, seed: int) -> None:
    """Measured with 8,000 crops and 700 updates; the bounds leave a margin for both seeds."""
    out = tmp_path / "glyph"
    train_glyph(GlyphPlan(out, "en", 8_000, settings=TrainGlyph(updates=700, seed=seed)))
    table = all_references()
    _, model = read(out)
    for faces, least in ((TRAINING["en"], 0.90), (UNSEEN["en"], 0.86)):
        source = Source(faces=tuple(("en", face) for face in faces), sound=0.5, empty=0.0, seed=777)
        assert area(model, made(source, 600, table)).value > least
    letters = "".join(c for c in "ABCDEFGHKMNPQRSTUVWXYZabdefghkmnpqrstuvwxyz" if c not in BARS)
    empty = made(Source(faces=FACES, characters=(("en", letters),), sound=0.0, empty=1.0, seed=778), 200, table)
    assert {BLANK, HALF, SOLID} == set(empty.kinds) and (scores(model, empty) > 0.5).mean() < 0.15
    sound = made(Source(faces=FACES, characters=(("en", letters),), sound=1.0, empty=0.0, seed=779), 200, table)
    assert set(sound.kinds) == {SOUND} and scores(model, sound).mean() > 0.6


@pytest.mark.slow
def test_it_is_compared_with_other_rewards(tmp_path: Path) -> None:
    """Typed as a user does: trained, and beside ocr on words of which people preferred the sharper ones."""
    glyph, pairs = tmp_path / "glyph", write(simulate(240, seed=3, bad="", sharpness=4.0, words=True), tmp_path)
    line = f"train-glyph -o {glyph} --languages en --crops 2000 --updates 150"
    assert parsed(line.split())() == 0
    line = (
        f"compare-rewards --pairs {pairs} --rewards ocr,glyph:weights={glyph} -o {tmp_path}/comparison --probe-images 0"
    )
    assert parsed(line.split())() == 0
    table = pandas.read_csv(tmp_path / "comparison" / "comparison.csv")
    assert {"ocr", f"glyph:weights={glyph}"} <= set(table["reward"])
    scores = pandas.read_csv(tmp_path / "comparison" / "scores.csv")
    print(table.head(8), scores.describe(), sep="\n")
    assert scores[f"glyph:weights={glyph}"].notna().mean() > 0.9 and scores[f"glyph:weights={glyph}"].std() > 0.02
    assert "glyph:weights=" in (tmp_path / "comparison" / "comparison.html").read_text()
