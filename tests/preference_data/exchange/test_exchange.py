"""Formats of others: what goes out comes back, a tie never becomes a win, and what is malformed is named."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select

from preference_data import comparisons
from preference_data.campaign import campaigns
from preference_data.exchange import importing
from preference_data.exchange.export import FORMATS, Malformed, read, write
from preference_data.exchange.judgements import Judgement, of_answers, of_items, training_pairs
from preference_data.records import ImageRef, Prompt, Provenance
from preference_data.store import schema
from preference_data.store.image_store import ImageFolder
from preference_data.store.store import Store
from tests.fixtures.desk import open_store

OUTCOMES = ("first", "second", "tie", "both_good", "both_bad")


def png(number: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, size=(8, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def picture(folder: ImageFolder, number: int, model: str) -> ImageRef:
    sha, width, height = folder.add(png(number))
    return ImageRef(sha, str(folder.path(sha)), width, height, Provenance(model, "r2", number, 8, 1.5, "runs/x", 40))


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    return ImageFolder(tmp_path / "pictures-of-the-store")


@pytest.fixture
def judged(folder: ImageFolder) -> list[Judgement]:
    """Every outcome, by two people, with everything that can be said; prompts in two languages."""
    found = []
    for i, outcome in enumerate(OUTCOMES * 2):
        prompt = Prompt.from_text(f'write "W{i % 5}"' if i % 2 else f"写“字{i % 5}”", language="en" if i % 2 else "zh")
        found.append(Judgement(
            prompt, picture(folder, 2 * (i % 5), "old"), picture(folder, 2 * (i % 5) + 1, "new"), outcome,
            f"p{i // 5}", strength=1 + i % 5, axes={"text": "first", "realism": "na"}, tags=("typo",),
            rationale='<script>"é"\n', at=1e9 + i, propensity=0.25, votes=(1, 1, 0),
        ))  # fmt: skip
    return found


def same(one: Judgement, other: Judgement) -> bool:
    """Equal but for where the files are."""

    def plain(j: Judgement) -> Judgement:
        return dataclasses.replace(j, first=dataclasses.replace(j.first, path="-"), axes=dict(j.axes),
                                   second=dataclasses.replace(j.second, path="-"))  # fmt: skip

    return plain(one) == plain(other)


def test_exported_answers_read_as_what_rewards_learn_from(
    judged: list[Judgement], folder: ImageFolder, tmp_path: Path
) -> None:
    """Of one person: an outcome and a strength. Of an item: the shares of its votes, ties between the sides."""
    item = dataclasses.replace(judged[0], annotator="", strength=None, votes=(3, 1, 4), decided_by="majority")
    write([*judged, item], tmp_path / "answers.jsonl", "jsonl", folder)
    found = comparisons.load(tmp_path / "answers.jsonl")
    assert [c.outcome for c in found[:5]] == ["left", "right", "tie", "both_good", "both_bad"]
    assert [c.annotator for c in found] == ["human:p0"] * 5 + ["human:p1"] * 5 + ["human:everybody"]
    assert [c.strength for c in found[:5]] == [1.0, 2.0, 3.0, 4.0, 5.0] and found[0].shares is None
    assert found[-1].shares == (0.375, 0.5, 0.125)
    assert [(c.left.sha256, c.right.sha256) for c in found[:-1]] == [(j.first.sha256, j.second.sha256) for j in judged]
    assert all((tmp_path / c.left.path).exists() for c in found)
    assert set(comparisons.JUDGED) == {field.name for field in dataclasses.fields(Judgement)}
    line = json.loads((tmp_path / "answers.jsonl").read_text("utf-8").splitlines()[0])
    for broken, said in (({**line, "best": 1}, "has the unknown best;"), ({**line, "outcome": "left_"}, "outcome is")):
        with pytest.raises(ValueError, match=said):
            comparisons.comparison_from_json(broken)
    del line["outcome"]
    with pytest.raises(ValueError, match="lacks outcome;"):
        comparisons.comparison_from_json(line)


@pytest.mark.parametrize("kind", list(FORMATS))
def test_everything_comes_back_as_it_was(
    kind: str, judged: list[Judgement], folder: ImageFolder, tmp_path: Path
) -> None:
    out = tmp_path / "out" / f"file.{FORMATS[kind].container}"
    done = write(judged, out, kind, folder, ties="aside")
    back = read(out, kind, into=ImageFolder(tmp_path / "again"))
    assert len(back) == len(judged) and (done.excluded is None) == FORMATS[kind].ties
    ordered = sorted(judged, key=lambda j: j.at or 0.0)
    assert all(same(a, b) for a, b in zip(ordered, sorted(back, key=lambda j: j.at or 0.0), strict=True))
    assert len(list((tmp_path / "again").iterdir())) == 10


@pytest.mark.parametrize("kind", [name for name, f in FORMATS.items() if not f.ties])
def test_formats_without_ties_refuse_or_drop_them_as_they_are_told(
    kind: str, judged: list[Judgement], folder: ImageFolder, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "file"
    with pytest.raises(ValueError, match="ties"):
        write(judged, out, kind, folder)
    assert not out.exists()
    done = write(judged, out, kind, folder, ties="drop")
    kept = 8 if kind == "kto" else 4  # KTO can also say that both are good, or bad
    assert (done.rows, done.dropped) == (kept, 10 - kept)
    assert len(read(out, kind)) == kept


def test_no_reader_of_another_format_can_take_a_tie_for_a_win(
    judged: list[Judgement], folder: ImageFolder, tmp_path: Path
) -> None:
    from pyarrow import parquet

    ties = [j for j in judged if j.outcome not in ("first", "second")]
    write(ties, tmp_path / "a", "pickapic", folder)
    rows = parquet.read_table(tmp_path / "a").to_pylist()
    assert {(r["label_0"], r["label_1"], r["has_label"], r["best_image_uid"]) for r in rows} == {
        (0.5, 0.5, True, "tie")
    }
    write(ties, tmp_path / "b", "imagereward", folder)
    assert all(r["ranking"] == [1, 1] for r in json.loads((tmp_path / "b").read_text()))
    write(ties, tmp_path / "c", "label-studio", folder)
    kinds = [x["type"] for r in json.loads((tmp_path / "c").read_text()) for x in r["annotations"][0]["result"]]
    assert "pairwise" not in kinds
    for kind in ("hpdv3", "diffusion-dpo", "trl"):
        with pytest.raises(ValueError, match="nothing to write"):
            write(ties, tmp_path / "d", kind, folder, ties="drop")
    assert training_pairs(ties, "human:c") == []
    won = training_pairs(judged, "human:c")
    assert [(p.chosen.provenance.model, p.outcome) for p in won] == [("old", "left"), ("new", "right")] * 2


def test_margins_are_of_the_winner_whichever_picture_won(judged: list[Judgement]) -> None:
    votes = [("first", (3, 1, 0), 0.5), ("second", (1, 3, 0), 0.5), ("second", (0, 2, 0), 1.0),
             ("first", (1, 1, 2), 0.0),
             ("second", (2, 1, 1), 0.0), ("second", (0, 0, 0), None)]  # fmt: skip
    said = [dataclasses.replace(judged[0], outcome=outcome, votes=cast) for outcome, cast, _ in votes]
    assert [pair.margin for pair in training_pairs(said, "human:c")] == [margin for *_, margin in votes]


def test_hpdv3_puts_the_better_picture_first(judged: list[Judgement], folder: ImageFolder, tmp_path: Path) -> None:
    write(judged[:2], tmp_path / "h.json", "hpdv3", folder)
    rows = json.loads((tmp_path / "h.json").read_text())
    assert [(r["model1"], r["model2"]) for r in rows] == [("old@r2", "new@r2"), ("new@r2", "old@r2")]
    assert rows[0]["path1"] == f"pictures/{judged[0].first.sha256}.png" and (tmp_path / rows[0]["path1"]).exists()


def test_rows_from_elsewhere_come_in_with_what_they_say(folder: ImageFolder, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    entry = {"id": "1", "prompt": "three words", "generations": ["0.png", "1.png", "2.png"], "ranking": [1, 3, 1]}
    (tmp_path / "i.json").write_text(json.dumps([entry]))
    assert [j.outcome for j in read(tmp_path / "i.json", "imagereward")] == ["first", "tie", "second"]
    (tmp_path / "h.json").write_text(json.dumps([{
        "path1": "0.png", "path2": "1.png", "prompt": "p", "choice_dist": [7, 2], "confidence": 0.7, "model1": "m",
        "model2": "n"}]))  # fmt: skip
    found = read(tmp_path / "h.json", "hpdv3")[0]
    assert (found.outcome, found.votes, found.first.provenance.model) == ("first", (7, 2, 0), "m")
    assert found.first.provenance.seed == -1  # not known, and said so
    task = {"data": {"prompt": "p", "left": "0.png", "right": "1.png"}, "annotations": [
        {"result": [{"type": "pairwise", "from_name": "x", "to_name": "y", "value": {"selected": "right"}}]},
        {"was_cancelled": True, "result": []},
    ]}  # fmt: skip
    (tmp_path / "l.json").write_text(json.dumps([task]))
    assert [j.outcome for j in read(tmp_path / "l.json", "label-studio")] == ["second"]


def test_malformed_rows_are_named_by_line_and_nothing_is_imported(
    judged: list[Judgement], folder: ImageFolder, tmp_path: Path
) -> None:
    out = tmp_path / "j.jsonl"
    write(judged, out, "jsonl", folder)
    lines = out.read_text(encoding="utf-8").splitlines()
    wrong = [json.loads(line) for line in lines[:4]]
    wrong[0]["outcome"] = "left"
    del wrong[1]["second"]
    wrong[2]["first"]["sha256"] = "0" * 64
    wrong[3]["strength"] = 9
    bad = [*(json.dumps(row) for row in wrong), "{not json", *lines[5:]]
    out.write_text("\n".join(bad) + "\n", encoding="utf-8")
    with pytest.raises(Malformed) as raised:
        read(out, "jsonl", into=ImageFolder(tmp_path / "again"))
    assert [number for number, _ in raised.value.problems] == [1, 2, 3, 4, 5]
    for text in ("line 1: outcome is 'left'", "line 2: the field 'second' is missing", "line 3", "another image",
                 "line 4: strength is 9", "line 5: not JSON"):  # fmt: skip
        assert text in str(raised.value)
    assert not (tmp_path / "again").exists()


def test_a_hostile_picture_is_refused(judged: list[Judgement], folder: ImageFolder, tmp_path: Path) -> None:
    out = tmp_path / "j.jsonl"
    write(judged[:2], out, "jsonl", folder)
    first = tmp_path / "pictures" / f"{judged[0].first.sha256}.png"
    first.write_bytes(b"<svg onload=alert(1)>")
    with pytest.raises(Malformed, match="not a readable image"):
        read(out, "jsonl")
    first.unlink()
    with pytest.raises(Malformed, match="is not there"):
        read(out, "jsonl")


def test_an_import_is_one_transaction_and_exports_again(store: Store, judged: list[Judgement], tmp_path: Path) -> None:
    folder = ImageFolder(tmp_path / "pictures-of-the-store")
    out = tmp_path / "out" / "file.jsonl"
    write(judged, out, "jsonl", folder)
    found = read(out, "jsonl", into=store.images)
    made = importing.store_judgements(store, store.operator, "again", found, "file.jsonl")
    back = of_answers(store, store.operator, made.id)
    key = {(j.prompt.id, j.at): j for j in judged}
    for j in back:
        want = key[j.prompt.id, j.at]
        if j.first.sha256 != want.first.sha256:  # the store has its own order
            flip = {"first": "second", "second": "first"}
            axes = {name: flip.get(value, value) for name, value in want.axes.items()}
            outcome = flip.get(want.outcome, want.outcome)
            want = dataclasses.replace(want, outcome=outcome, first=want.second, second=want.first, axes=axes)
        assert same(dataclasses.replace(j, annotator=want.annotator, votes=want.votes), want)
    assert len(back) == 10 and {j.outcome for j in back} >= {"tie", "both_good", "both_bad"}
    with pytest.raises(ValueError, match="already"):
        importing.store_judgements(store, store.operator, "again", found, "file.jsonl")
    with pytest.raises(ValueError, match="judged these two images before"):
        importing.store_judgements(store, store.operator, "double", [*found, found[0]], "file.jsonl")
    count = store.read(lambda db: db.execute(select(func.count()).select_from(schema.answer)).scalar_one())
    assert count == 10 and [c.name for c in campaigns.listed(store, store.operator)] == ["again"]
    assert len(of_items(store, store.operator, made.id)) == 10


def test_the_datasets_package_loads_every_format(judged: list[Judgement], folder: ImageFolder, tmp_path: Path) -> None:
    import datasets

    for kind, f in FORMATS.items():
        out = tmp_path / kind / f"file.{f.container}"
        done = write(judged, out, kind, folder, ties="drop")
        loader = "parquet" if f.container == "parquet" else "json"
        table = datasets.load_dataset(loader, data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
        assert len(table) == (done.rows * 2 if kind == "kto" else done.rows)
        if kind in ("pickapic", "diffusion-dpo"):  # as the scripts open them
            assert Image.open(io.BytesIO(table[0]["jpg_0"])).convert("RGB").size == (12, 8)


def test_trl_takes_its_formats_for_what_they_are(judged: list[Judgement], folder: ImageFolder, tmp_path: Path) -> None:
    from trl import data_utils

    write(judged, tmp_path / "t.jsonl", "trl", folder, ties="drop")
    write(judged, tmp_path / "k.jsonl", "kto", folder, ties="drop")
    preference, unpaired = (
        json.loads((tmp_path / n).read_text("utf-8").splitlines()[0]) for n in ("t.jsonl", "k.jsonl")
    )
    assert data_utils.is_conversational(preference) and data_utils.is_conversational(unpaired)
    assert {"prompt", "chosen", "rejected"} <= set(preference) and type(unpaired["label"]) is bool
    assert preference["chosen"] != preference["rejected"]


def test_a_store_opens_for_the_file_names_of_this_test(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a b%c", tmp_path / "p")
    assert store.operator == 1
    store.close()
