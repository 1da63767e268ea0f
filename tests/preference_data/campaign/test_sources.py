"""Where items come from: lists of disagreements, gold with known answers, and checks that are made from the work."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from experiments.preferences.run_campaigns import create
from preference_data.campaign import campaigns, checks, sources
from preference_data.campaign.answering import answer
from preference_data.campaign.assignment import claim
from preference_data.campaign.outcomes import Answer
from preference_data.campaign.quality import annotators, campaign_progress
from preference_data.store import schema
from preference_data.store.store import Store
from tests.fixtures.desk import PLAIN, campaign, open_store, person


def picture(path: Path, number: int, size: tuple[int, int] = (48, 40)) -> Path:
    """A smooth image with a dark bar, as if something were written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    pixels = np.stack([x, y, (x + y + number / 7) % 1], axis=-1) * 200
    pixels[18:22] = number
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "s", tmp_path / "p")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(8):
        picture(tmp_path / "in" / ("old" if i % 2 else "new") / f"{i}.png", i)
    return tmp_path / "in"


def row(i: int, **more: object) -> dict[str, object]:
    return {"prompt": f"prompt {i}", "left": f"new/{2 * i}.png", "right": f"old/{2 * i + 1}.png", **more}


def test_disagreements_keep_their_number_and_their_makers(store: Store, folder: Path) -> None:
    file = lines(folder / "d.jsonl", [row(i, disagreement=i + 0.5) for i in range(3)])
    found = sources.from_disagreements(file, store.images)
    assert [(i.disagreement, i.labels, i.kind) for i in found] == [(n + 0.5, ("new", "old"), "work") for n in range(3)]
    lines(file, [row(0, disagreement=1.0), row(1)])
    with pytest.raises(ValueError, match=r"line 2: the field 'disagreement' is missing"):
        sources.from_disagreements(file, store.images)


def test_the_texts_that_images_must_show_come_along(store: Store, folder: Path) -> None:
    images = [{"picture": f"{i}.png", "prompt": "a sign", "spans": ["EXIT"]} for i in range(0, 8, 2)]
    lines(folder / "new" / "captions.jsonl", images)
    assert {item.prompt.spans for item in sources.from_folders([folder / "new"], store.images)} == {("EXIT",)}
    lines(folder / "new" / "captions.jsonl", [*images[1:], images[0] | {"spans": "EXIT"}])
    with pytest.raises(ValueError, match=r"line 4: spans is 'EXIT'; it must be a list"):
        sources.from_folders([folder / "new"], store.images)


@pytest.mark.parametrize("per_prompt", [1, 3])
def test_of_several_folders_every_two_take_turns(store: Store, tmp_path: Path, per_prompt: int) -> None:
    """Three images of each of four prompts by four makers: the first two of them are not asked about alone."""
    for maker, prompt, copy in itertools.product("abcd", range(4), range(3)):
        file = picture(tmp_path / "in" / maker / f"{prompt}{copy}.png", ord(maker) - 97 + 4 * (3 * prompt + copy))
        file.with_suffix(".txt").write_text(f"prompt {prompt}")
    found = sources.from_folders([tmp_path / "in" / maker for maker in "abcd"], store.images, per_prompt)
    asked = Counter(item.labels for item in found)
    assert len(found) == 4 * per_prompt and {maker for pair in asked for maker in pair} == set("abcd")
    often = [asked[pair] for pair in itertools.combinations("abcd", 2)]
    assert max(often) - min(often) <= 1


def test_gold_says_which_picture_must_win(store: Store, folder: Path) -> None:
    said = ["left", "right", "tie", "both_bad"]
    found = checks.gold(lines(folder / "g.jsonl", [row(i, expected=e) for i, e in enumerate(said)]), store.images)
    assert {item.kind for item in found} == {"gold"}
    assert [item.expected for item in found] == [
        found[0].images[0].sha256, found[1].images[1].sha256, "tie", "both_bad"]  # fmt: skip
    c = campaign(store, found, dataclasses.replace(PLAIN, gold_share=0.05))
    rows = store.read(lambda db: db.execute(select(schema.item).where(schema.item.c.campaign_id == c)).all())
    assert Counter(r.expected for r in rows)["tie"] == 1 and all(r.cap == campaigns.CHECK_CAP for r in rows)
    work = sources.from_disagreements(lines(folder / "d.jsonl", [row(i, disagreement=1) for i in (0, 1)]),
                                      store.images)  # fmt: skip
    both = campaign(store, [*found[1:], *work], name="both")  # the second pair is gold, and so it is no work
    asked = select(schema.item.c.kind).where(schema.item.c.campaign_id == both)
    assert Counter(store.read(lambda db: db.execute(asked).scalars().all())) == {"gold": 3, "work": 1}
    for wrong, told in (({"expected": "best"}, "choose one of left"), ({}, "'expected' is missing")):
        with pytest.raises(ValueError, match=f"line 1: .*{told}"):
            checks.gold(lines(folder / "w.jsonl", [row(0, **wrong)]), store.images)


def test_attention_checks_are_spoilt_copies_of_the_work(store: Store, folder: Path) -> None:
    work = sources.from_disagreements(lines(folder / "d.jsonl", [row(i, disagreement=1) for i in range(4)]),
                                      store.images)  # fmt: skip
    found = checks.attention(work, store.images, 0.02)
    assert len(found) == 4 and checks.attention(work, store.images, 0.0) == []  # five at least, and no more than work
    for item in found:
        source = next(w for w in work if w.prompt.id == item.prompt.id)
        good, bad = (np.asarray(Image.open(store.images.path(p.sha256)), float) for p in item.images)
        assert item.expected == item.images[0].sha256 in {p.sha256 for p in source.images}
        assert good.shape == bad.shape and item.kind == "attention"
        steps = [np.abs(np.diff(pixels, axis=1)).mean() for pixels in (good, bad)]
        assert steps[1] > 5 * steps[0] and np.corrcoef(good.ravel(), bad.ravel())[0, 1] < 0.5, "nothing is left to like"
    again = checks.attention(work, store.images, 0.02)
    assert [i.images for i in again] == [i.images for i in found]  # a function of the seed


def test_what_is_known_never_counts_as_work(store: Store, folder: Path) -> None:
    """Neither agreement, nor ratings, nor exports see gold, checks or repeats."""
    from preference_data.exchange.judgements import of_answers, of_items

    work = sources.from_disagreements(lines(folder / "d.jsonl", [row(i, disagreement=1) for i in range(4)]),
                                      store.images)  # fmt: skip
    gold = checks.gold(lines(folder / "g.jsonl", [row(i, expected="left") for i in range(4)]), store.images)
    known = gold + checks.attention(work, store.images, 0.02)
    gold = [dataclasses.replace(g, prompt=dataclasses.replace(g.prompt, text="?", id=f"{i:064x}"))
            for i, g in enumerate(gold)]  # fmt: skip
    settings = dataclasses.replace(PLAIN, overlap=2, cap=2, gold_share=0.3, attention_share=0.3, repeat_share=0.3,
                                   repeat_gap=1)  # fmt: skip
    c = campaign(store, [*work, *gold, *known[4:]], settings)
    for name in ("ada", "bo"):
        who = person(store, name)
        for i in range(60):
            if not (views := claim(store, who, c).views):
                break
            answer(store, who, views[0].token, Answer("left", duration_ms=900), f"{name}-{i:08d}")
    kinds = Counter(store.read(lambda db: db.execute(select(schema.assignment.c.kind)).scalars().all()))
    assert all(kinds[kind] for kind in ("gold", "attention", "repeat")), kinds
    lead = store.operator
    given = store.read(lambda db: annotators.answers(db, c))
    assert len(annotators.ratings(given)) == kinds["work"] == 8
    assert sum(w.a_wins + w.b_wins for w in campaign_progress.wins(store, lead, c)) == 8
    assert len(of_answers(store, lead, c)) == 8 and {j.prompt.text for j in of_items(store, lead, c)} <= {
        f"prompt {i}" for i in range(4)}  # fmt: skip
    assert campaign_progress.overview(store, lead, c).answers == 8
    people = annotators.people(store, lead, c)
    assert sum(p.gold + p.attention for p in people) == kinds["gold"] + kinds["attention"]
    assert sum(p.answers for p in people) == sum(kinds.values())


def run_folder(place: Path, last: int, sampled: int, evaluated: bool, number: int, model: bool = True) -> Path:
    """A stage that made updates 0 to `last`, samples after one of them, and perhaps images of its finished model."""
    (place / "samples").mkdir(parents=True)
    rows = [{"step": step, "loss": 0.5} for step in range(last + 1)]
    (place / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"step": ')  # one half written
    picture(place / "samples" / "0.png", number)
    early = {"step": 0, "caption": "a wall", "picture": "0.png"}
    (place / "samples" / "index.json").write_text(json.dumps([early, {**early, "step": sampled}]))
    if model:
        (place / "model").mkdir()
    if evaluated:
        for setting, shift in (("guided", 100), ("unguided", 50)):
            picture(place / "evaluation" / f"{setting}_0.png", number + shift)
            content = {"rows": [{"prompt": "a wall", "picture": f"{setting}_0.png"}, {"prompt": "b", "picture": ""}]}
            (place / "evaluation" / f"{setting}.json").write_text(json.dumps(content))
    return place


def test_of_a_run_the_finished_model_is_compared_and_labels_say_the_update(store: Store, tmp_path: Path) -> None:
    sft, dpo = (run_folder(tmp_path / name, 39, 19, True, i) for i, name in enumerate(("sft", "dpo")))
    (item,) = sources.from_folders([sft, dpo], store.images)
    assert item.labels == ("sft (finished, update 39)", "dpo (finished, update 39)")
    assert [p.path for p in item.images] == [str(f / "evaluation" / "unguided_0.png") for f in (sft, dpo)]
    assert {p.provenance.step for p in item.images} == {39} and sources.unfinished(item.labels) == []
    half, whole = run_folder(tmp_path / "half", 39, 19, False, 2), run_folder(tmp_path / "whole", 39, 39, False, 3)
    killed = run_folder(tmp_path / "killed", 39, 39, False, 4, model=False)
    items = sources.from_folders([half, whole, killed], store.images)
    labels = {label for item in items for label in item.labels}
    assert labels == {"half (update 19 of 39)", "whole (finished, update 39)", "killed (update 39 of 39)"}
    lines = create(store, "c", PLAIN, items, "runs", True)
    assert "half (update 19 of 39)" in lines[1] and len(lines) == 4
    assert [line.split(":")[0] for line in lines[2:]] == ["half (update 19 of 39)", "killed (update 39 of 39)"]
    asked = select(schema.item.c.first_label, schema.item.c.second_label)
    stored = store.read(lambda db: {label for row in db.execute(asked) for label in row})
    assert stored == labels
    outside = run_folder(tmp_path / "outside", 1, 1, True, 5)
    (outside / "evaluation" / "unguided.json").write_text('[{"prompt": "a wall", "picture": "../../sft/x.png"}]')
    with pytest.raises(ValueError, match="outside"):
        list(sources.images_of_folder(outside, "outside"))
