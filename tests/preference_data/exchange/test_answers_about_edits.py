"""Answers about edits keep the images that were edited: in the store, in the view of an annotator, and in files."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from preference_data import comparisons
from preference_data.campaign import answering, assignment, assignment_view, campaigns
from preference_data.campaign.campaigns import Item
from preference_data.campaign.outcomes import Answer
from preference_data.campaign.sources import from_disagreements, from_folders
from preference_data.exchange import importing, incoming
from preference_data.exchange.export import FORMATS, Malformed, read, write
from preference_data.exchange.judgements import Judgement, of_answers, of_items
from preference_data.image_files import read_source, source_image
from preference_data.records import ImageRef, Prompt, Provenance
from preference_data.store import facts, schema
from preference_data.store.image_store import ImageFolder, keep_sources
from preference_data.store.staging import Staged
from preference_data.store.store import Store
from tests.fixtures import desk

CARRYING = ("jsonl", "parquet", "trl", "label-studio")


def png(number: int, size: tuple[int, int] = (12, 8)) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def edit_of(folder: Path, *numbers: int, text: str = "make it blue") -> Prompt:
    """An instruction about images of these numbers, which lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number}.png").write_bytes(png(number, (12 + number % 3, 8)))
    return Prompt.from_text(text, sources=[source_image(folder / f"{number}.png") for number in numbers])


def image(images: ImageFolder, number: int, model: str) -> ImageRef:
    sha, width, height = images.add(png(number))
    return ImageRef(sha, str(images.path(sha)), width, height, Provenance(model, "r", number, 8, 1.5, "runs/x", 40))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return desk.open_store(tmp_path / "store", tmp_path / "store" / "pictures")


@pytest.fixture
def judged(tmp_path: Path, store: Store) -> list[Judgement]:
    """Answers about edits of one, three and other images by the same words, and about no edit."""
    prompts = [edit_of(tmp_path / "own", 100), edit_of(tmp_path / "own", 101, 102, 103), edit_of(tmp_path / "own", 104)]
    prompts = [keep_sources(prompt, store.images) for prompt in prompts] + [Prompt.from_text("a cat")]
    return [
        Judgement(prompt, image(store.images, 2 * i, "old"), image(store.images, 2 * i + 1, "new"),
                  ("first", "second")[i % 2], "ann", at=1e9 + i)
        for i, prompt in enumerate(prompts)
    ]  # fmt: skip


def asked(judgements: list[Judgement]) -> list[tuple[str, str, tuple[str, ...]]]:
    ordered = sorted(judgements, key=lambda j: j.at or 0.0)
    return [(j.prompt.id, j.prompt.text, tuple(s.sha256 for s in j.prompt.sources)) for j in ordered]


@pytest.mark.parametrize(("kind", "name"), [*((kind, "file") for kind in CARRYING), ("trl", "file.parquet")])
def test_sources_go_out_and_come_back(
    kind: str, name: str, judged: list[Judgement], store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "out" / name
    write(judged, out, kind, store.images)
    moved = tmp_path / "elsewhere"
    (tmp_path / "out").rename(moved)
    back = read(moved / name, kind, into=ImageFolder(tmp_path / "again"))
    assert asked(back) == asked(judged)
    assert len(list((tmp_path / "again").iterdir())) == 8 + 5, "sources are kept with the images"
    for source in (source for judgement in back for source in judgement.prompt.sources):
        assert read_source(source).shape[:2] == (source.height, source.width)
        assert source.content or Path(source.path).is_relative_to(moved)
    text = (moved / name).read_bytes().decode("utf-8", "replace")
    for source in (source for judgement in judged for source in judgement.prompt.sources):
        assert source.path not in text, "no path of the store is told"


@pytest.mark.parametrize("kind", [name for name in FORMATS if name not in CARRYING])
def test_formats_without_a_place_for_sources_refuse_edits_by_name(
    kind: str, judged: list[Judgement], store: Store, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=f"3 of 4 judgements are about edits, and {kind} has no place .* jsonl, parquet"
    ):
        write(judged, tmp_path / "file", kind, store.images, ties="drop")
    assert not (tmp_path / "file").exists()
    write(judged[3:], tmp_path / "file", kind, store.images)


def test_a_source_that_is_missing_or_another_one_is_malformed(
    judged: list[Judgement], store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "file.jsonl"
    write(judged, out, "jsonl", store.images)
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    first, second = (row["prompt"]["sources"][0]["path"] for row in rows[:2])
    (out.parent / first).unlink()
    (out.parent / second).write_bytes(png(7))
    with pytest.raises(Malformed) as raised:
        read(out, "jsonl", into=ImageFolder(tmp_path / "again"))
    said = dict(raised.value.problems)
    assert set(said) == {1, 2} and "is not there" in said[1] and "others than the row says" in said[2]


def test_tasks_of_others_name_their_sources(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    data = {"prompt": "make it blue", "left": "0.png", "right": "1.png", "before": ["2.png", "3.png"]}
    result = [{"from_name": "p", "to_name": "left,right", "type": "pairwise", "value": {"selected": "left"}}]
    file = tmp_path / "f.json"
    file.write_text(
        json.dumps([{"id": 1, "data": data, "annotations": [{"completed_by": 3, "result": result}]}]), "utf-8"
    )
    options = incoming.Options(fields={"sources": "before"})
    (one,) = incoming.read(file, "label-studio", ImageFolder(tmp_path / "images"), options)
    assert [Path(source.path).name for source in one.prompt.sources] == ["2.png", "3.png"]
    assert one.prompt.id == Prompt.from_text("make it blue", sources=one.prompt.sources).id


def test_an_import_keeps_edits_of_different_images_apart(judged: list[Judgement], store: Store, tmp_path: Path) -> None:
    same = [replace(j, first=judged[0].first, second=judged[0].second, at=1e9 + i) for i, j in enumerate(judged)]
    write(same, tmp_path / "out" / "f.jsonl", "jsonl", store.images)
    other = desk.open_store(tmp_path / "other", tmp_path / "other" / "pictures")
    with Staged(other.images) as staged:
        rows = incoming.read_rows(tmp_path / "out" / "f.jsonl", "jsonl", staged, incoming.Options())
        importing.store_judgements(other, other.operator, "i", rows.judgements, "f", staged)
    back = of_answers(other, other.operator, "i")
    assert sorted(asked(back)) == sorted(asked(same))
    for judgement in back:
        assert all(Path(source.path).parent == other.images.root for source in judgement.prompt.sources)
        assert all(read_source(source).any() for source in judgement.prompt.sources)


def test_an_id_of_one_edit_is_not_taken_by_another(store: Store, tmp_path: Path) -> None:
    one, two = (keep_sources(edit_of(tmp_path, number), store.images) for number in (100, 101))
    forged = replace(two, id=one.id)
    stored = store.write(lambda db: facts.add_prompts(db, [one, forged], "test"))
    assert stored[one].id == one.id and stored[forged].id == two.id
    assert stored[forged].sources == two.sources


def test_annotators_are_shown_the_sources_in_order_beside_the_pair(store: Store, tmp_path: Path) -> None:
    prompt = keep_sources(edit_of(tmp_path, 101, 100, 102), store.images)
    plain = Item(Prompt.from_text("a cat"), (image(store.images, 8, "old"), image(store.images, 9, "new")))
    edit = Item(prompt, (image(store.images, 0, "old"), image(store.images, 1, "new")))
    desk.campaign(store, [edit, plain])
    ann, other = desk.person(store, "ann"), desk.person(store, "other")
    seen = {}
    for _ in range(2):
        (view,) = assignment.claim(store, ann, "c").views
        seen[view.prompt] = view
        answering.answer(store, ann, view.token, Answer("left"), key=f"key-{view.token}")
    assert seen["a cat"].sources == () and len(seen["a cat"].images) == 2
    view = seen["make it blue"]
    paths = [assignment_view.image_path(store, ann, shown.handle) for shown in view.sources]
    assert [path.stem for path in paths] == [source.sha256 for source in prompt.sources]
    assert [(s.width, s.height) for s in view.sources] == [(s.width, s.height) for s in prompt.sources]
    assert len(view.images) == 2 and view.reference is None
    assert len({shown.handle for shown in (*view.sources, *view.images)}) == 5
    with pytest.raises(Exception, match="not yours"):
        assignment_view.image_path(store, other, view.sources[0].handle)
    (answered, _) = sorted(of_answers(store, store.operator, "c"), key=lambda j: -len(j.prompt.sources))
    assert answered.prompt == prompt and read_source(answered.prompt.sources[2]).any()


def test_a_campaign_needs_the_sources_in_its_store(store: Store, tmp_path: Path) -> None:
    item = Item(edit_of(tmp_path, 100), (image(store.images, 0, "old"), image(store.images, 1, "new")))
    made = campaigns.create(store, store.operator, "c", desk.PLAIN)
    with pytest.raises(ValueError, match=r"100\.png is not in the store's folder"):
        campaigns.add_items(store, store.operator, made.id, [item], source="test")
    assert store.read(lambda db: db.execute(select(schema.prompt.c.id)).all()) == []


def test_folders_of_edits_are_compared_by_what_was_edited(store: Store, tmp_path: Path) -> None:
    for maker, shift in (("old", 0), ("new", 10)):
        edit_of(tmp_path / maker / "before", 100, 101)
        rows = []
        for i, number in enumerate((100, 101)):
            (tmp_path / maker / f"{i}.png").write_bytes(png(shift + i))
            rows.append({"picture": f"{i}.png", "prompt": "make it blue", "sources": [f"before/{number}.png"]})
        (tmp_path / maker / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    items = from_folders([tmp_path / "old", tmp_path / "new"], store.images)
    assert len(items) == 2 and items[0].prompt.id != items[1].prompt.id
    assert all(store.images.has(source.sha256) for item in items for source in item.prompt.sources)
    desk.campaign(store, items)
    (tmp_path / "old" / "before" / "100.png").unlink()
    with pytest.raises(ValueError, match=r"captions\.jsonl line 1: a source image is missing"):
        from_folders([tmp_path / "old", tmp_path / "new"], store.images)
    row = {"prompt": "make it blue", "left": "old/0.png", "right": "new/0.png", "sources": ["old/before/101.png"],
           "disagreement": 1.0}  # fmt: skip
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    (item,) = from_disagreements(tmp_path / "d.jsonl", store.images)
    assert len(item.prompt.sources) == 1


def test_exported_answers_about_edits_are_read_by_rewards(
    judged: list[Judgement], store: Store, tmp_path: Path
) -> None:
    write(judged, tmp_path / "out" / "a.jsonl", "jsonl", store.images)
    rows = comparisons.load(tmp_path / "out" / "a.jsonl")
    assert [len(row.prompt.sources) for row in rows] == [1, 3, 1, 0]
    assert all(read_source(source).any() for row in rows for source in row.prompt.sources)
    text = comparisons.to_jsonl(rows)
    (tmp_path / "b.jsonl").write_text(text, "utf-8")
    assert comparisons.load(tmp_path / "b.jsonl") == rows


def test_items_of_a_store_keep_their_sources(store: Store, tmp_path: Path) -> None:
    prompt = keep_sources(edit_of(tmp_path, 100), store.images)
    pair = (image(store.images, 0, "old"), image(store.images, 1, "new"))
    desk.campaign(store, [Item(prompt, pair)], replace(desk.PLAIN, overlap=1, cap=1))
    ann = desk.person(store, "ann")
    (view,) = assignment.claim(store, ann, "c").views
    answering.answer(store, ann, view.token, Answer("left"), key="key-00000001")
    (one,) = of_items(store, store.operator, "c")
    assert one.prompt == prompt and read_source(one.prompt.sources[0]).any()
