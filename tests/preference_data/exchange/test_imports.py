"""Imports as others write them: who answered, what was counted, what is malformed; a refusal leaves nothing."""

from __future__ import annotations

import io
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from sqlalchemy import func, select

from experiments.preferences.run_campaigns import fields_of, import_lines
from preference_data.campaign import campaigns
from preference_data.campaign.campaigns import Item
from preference_data.exchange import export, importing, incoming
from preference_data.exchange.incoming import Malformed, Options, find_image, problem_lines
from preference_data.exchange.judgements import Judgement, of_answers, of_items, training_pairs
from preference_data.records import ImageRef, Prompt, Provenance, text_id
from preference_data.store import schema
from preference_data.store.image_store import ImageFolder
from preference_data.store.store import Store
from tests.fixtures import desk

CASES = Path(__file__).parents[2] / "fixtures" / "cases" / "imports"


def png(number: int, size: tuple[int, int] = (12, 8), **save: Any) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, format="PNG", **save)
    return out.getvalue()


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder with p/0.png to p/5.png."""
    for number in range(6):
        (tmp_path / "in" / "p").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "p" / f"{number}.png").write_bytes(png(number))
    return tmp_path / "in"


def write(folder: Path, rows: Any, name: str = "f.json") -> Path:
    file = folder / name
    text = "".join(json.dumps(r) + "\n" for r in rows) if name.endswith(".jsonl") else json.dumps(rows)
    file.write_text(text, encoding="utf-8")
    return file


def parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow
    from pyarrow import parquet as pq

    pq.write_table(pyarrow.Table.from_pylist(rows), folder / "f.parquet")
    return folder / "f.parquet"


def problems(file: Path, kind: str, **options: Any) -> dict[int, str]:
    with pytest.raises(Malformed) as raised:
        export.read(file, kind) if not options else incoming.read(file, kind, None, Options(**options))
    return dict(raised.value.problems)


def task(annotations: list[dict[str, Any]], data: dict[str, str] | None = None) -> dict[str, Any]:
    return {"id": 7, "data": data or {"prompt": "a cat", "left": "p/0.png", "right": "p/1.png"},
            "annotations": annotations}  # fmt: skip


def chose(side: str, **more: Any) -> dict[str, Any]:
    return {"result": [{"type": "pairwise", "from_name": "pw", "to_name": "left,right", "value": {"selected": side}}],
            **more}  # fmt: skip


def choices(name: str, *words: str) -> dict[str, Any]:
    return {"type": "choices", "from_name": name, "to_name": "left", "value": {"choices": list(words)}}


def stored(store: Store, file: Path, kind: str, name: str = "c", **options: Any) -> list[str]:
    return import_lines(store, file, kind, name, Options(**options))


# who answered -----------------------------------------------------------------------------------------------------


def test_two_people_of_a_task_are_two_annotators(there: Path, store: Store) -> None:
    shutil.copy(CASES / "ls_two_people.json", there / "f.json")
    found = export.read(there / "f.json", "label-studio")
    assert [(j.annotator, j.outcome) for j in found] == [("1", "first"), ("2", "second")]
    stored(store, there / "f.json", "label-studio")
    asked = select(schema.account.c.name).where(schema.account.c.name.like("c/%"))
    assert set(store.read(lambda db: db.execute(asked).scalars().all())) == {"c/1", "c/2"}
    assert len(of_answers(store, store.operator, "c")) == 2


@pytest.mark.parametrize(
    ("given", "who"),
    [(10, "10"), ({"id": 4, "email": "a@b.c"}, "4"), ({"email": "a@b.c"}, "a@b.c"), (None, ""), ("ada", "ada"),
     ({"id": 0, "email": "z@b.c"}, "0"), ({"id": None, "email": "", "username": "u"}, "u")],
)  # fmt: skip
def test_whoever_completed_an_annotation_is_its_annotator(there: Path, given: Any, who: str) -> None:
    file = write(there, [task([chose("left", completed_by=given, created_at="2021-03-09T22:16:08.728353Z")])])
    (found,) = export.read(file, "label-studio")
    assert found.annotator == who
    assert found.at == datetime(2021, 3, 9, 22, 16, 8, 728353, tzinfo=UTC).timestamp()


def test_annotations_without_an_answer_are_skips(there: Path, store: Store) -> None:
    area = {"type": "textarea", "from_name": "why", "to_name": "left", "value": {"text": ["left"]}}
    tasks = [
        task([{"result": [], "completed_by": 1}, chose("left", completed_by=2)]),
        task([chose("left", was_cancelled=True, completed_by=1)]),
        task([{"result": [area], "completed_by": 3}]),
        task([]),
    ]
    file = write(there, tasks)
    assert [(j.annotator, j.outcome) for j in export.read(file, "label-studio")] == [("2", "first")]
    assert "3 rows judge nothing" in stored(store, file, "label-studio")[1]


def test_which_tag_is_the_answer(there: Path) -> None:
    def outcome(*result: dict[str, Any], **fields: str) -> str:
        file = write(there, [task([{"result": list(result)}])])
        (found,) = incoming.read(file, "label-studio", None, Options(fields=fields))
        return found.outcome

    left = chose("left")["result"][0]
    assert outcome(left, choices("why", "blurry", "hands")) == "first"
    assert outcome(choices("why", "blurry"), left) == "first"
    assert outcome(choices("outcome", "Both good")) == "both_good"
    assert outcome(left, choices("style", "right"), outcome="pw") == "first"
    assert outcome(left, choices("style", "right"), outcome="style") == "second"
    assert outcome({**left, "to_name": "right,left"}) == "second"
    assert outcome({**left, "to_name": "right, left", "value": {"selected": "right"}}) == "first"
    for wrong, said in (
        ([left, choices("style", "right")], "--fields outcome=NAME"),
        ([choices("outcome", "left", "tie")], "left and tie"),
        ([{**left, "value": {"selected": "up"}}], "'up'"), ([choices("why", "blurry")], "no choice of why"),
    ):  # fmt: skip
        assert said in problems(write(there, [task([{"result": wrong}])]), "label-studio")[1]


def test_other_names_of_fields_are_mapped_or_the_message_says_how(there: Path) -> None:
    data = {"caption": "a cat", "image1": "/data/upload/3/p/0.png", "image2": "/data/local-files/?d=p%2F1.png"}
    shutil.copytree(there / "p", there / "upload" / "3" / "p")
    file = write(there, [task([chose("right")], data)])
    assert "--fields prompt=NAME" in problems(file, "label-studio")[1]
    names = {"prompt": "caption", "left": "image1", "right": "image2"}
    (found,) = incoming.read(file, "label-studio", None, Options(fields=names))
    assert (found.outcome, found.prompt.text, found.first.path) == ("second", "a cat", data["image1"])
    assert "'image3'" in problems(file, "label-studio", fields={**names, "right": "image3"})[1]
    hpd = write(there, [{"better": "p/0.png", "worse": "p/1.png", "text": "a cat"}])
    (other,) = incoming.read(
        hpd, "hpdv3", None, Options(fields=fields_of(["path1=better", "path2=worse", "prompt=text"]))
    )
    assert other.first.sha256 == found.first.sha256
    for wrong in ("left", "left=", "=x"):
        with pytest.raises(ValueError, match="OURS=THEIRS"):
            fields_of([wrong])
    with pytest.raises(ValueError, match="once"):
        fields_of(["left=a", "left=b"])


@pytest.mark.parametrize("answer", [{"outcome": "left"}, {"outcome": {"choices": ["left"]}}, {"pairwise": "left"},
                                    {"pw": [{"selected": "left", "type": "Pairwise"}]}])  # fmt: skip
def test_json_min_is_read_too(there: Path, answer: dict[str, Any]) -> None:
    row = {"prompt": "a cat", "left": "p/0.png", "right": "p/1.png", "annotator": 3, "annotation_id": 9, **answer}
    (found,) = export.read(write(there, [row]), "label-studio")
    assert (found.annotator, found.outcome) == ("3", "first")
    set_aside = write(there, [row, {**row, "annotator": 4, "was_cancelled": True}])
    assert [j.annotator for j in export.read(set_aside, "label-studio")] == ["3"]


# what was counted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["h.json", "h.jsonl"])
def test_counts_of_hpdv3_come_out_as_they_went_in(there: Path, store: Store, tmp_path: Path, name: str) -> None:
    rows = [
        {"prompt": "a cat", "path1": f"p/{i}.png", "path2": f"p/{i + 1}.png", "choice_dist": dist, "confidence": None,
         "model1": "m", "model2": "n"}
        for i, dist in ((0, [12, 7]), (1, ["3", "1"]), (2, [5, 5]), (3, None))
    ]  # fmt: skip
    stored(store, write(there, rows, name), "hpdv3")
    for rows_of, kind in ((of_items, "items"), (of_answers, "answers")):
        found = {max(j.votes[:2]): j for j in rows_of(store, store.operator, "c")}
        assert sorted(sum(j.votes) for j in found.values()) == [1, 4, 10, 19], kind
        assert (found[12].outcome, found[12].votes[:2]) in ((("first", (12, 7))), ("second", (7, 12)))
        assert found[5].outcome == "tie" and found[5].votes == (5, 5, 0)
        assert found[12].decided_by == "majority" and found[12].annotator == ""
    (pair,) = [p for p in training_pairs(of_items(store, store.operator, "c"), "x") if p.margin not in (1.0, 0.5)]
    assert pair.margin == pytest.approx(5 / 19) and pair.chosen.provenance.model == "m"
    export.write(of_answers(store, store.operator, "c"), tmp_path / "out" / "h.json", "hpdv3", store.images, "drop")
    again = json.loads((tmp_path / "out" / "h.json").read_text())
    assert sorted(r["choice_dist"] for r in again) == [[1, 0], [3, 1], [12, 7]]
    export.write(of_answers(store, store.operator, "c"), tmp_path / "out" / "j.jsonl", "jsonl", store.images)
    stored(store, tmp_path / "out" / "j.jsonl", "jsonl", "again")
    assert {j.votes for j in of_items(store, store.operator, "again")} == {
        j.votes for j in of_items(store, store.operator, "c")
    }


def test_an_adjudicated_outcome_stays_what_the_adjudicator_said(there: Path, store: Store, tmp_path: Path) -> None:
    found = export.read(write(there, [{"prompt": "a", "path1": "p/0.png", "path2": "p/1.png"}]), "hpdv3",
                          into=store.images)[0]  # fmt: skip
    said = Judgement(found.prompt, found.first, found.second, "first", votes=(1, 2, 0), decided_by="adjudication")
    export.write([said], tmp_path / "o" / "j.jsonl", "jsonl", store.images)
    stored(store, tmp_path / "o" / "j.jsonl", "jsonl")
    (item,) = of_items(store, store.operator, "c")
    (answer,) = of_answers(store, store.operator, "c")
    turned = item.first.sha256 != said.first.sha256
    assert item.outcome == ("second" if turned else "first")
    assert item.votes == ((2, 1, 0) if turned else (1, 2, 0))
    assert item.decided_by == answer.decided_by == "adjudication"


def test_rows_that_contradict_themselves_are_refused(there: Path) -> None:
    base = {"prompt": "a cat", "path1": "p/0.png", "path2": "p/1.png"}
    wrong = [{"choice_dist": [7, 12]}, {"choice_dist": [1]}, {"choice_dist": [-1, 0]}, {"choice_dist": ["a", 1]},
             {"choice_dist": [1.5, 1]}, {"choice_dist": [True, 0]}, {"confidence": 0.3}, {"confidence": "high"},
             {"path2": "p/0.png"}]  # fmt: skip
    found = problems(write(there, [base | w for w in wrong]), "hpdv3")
    assert sorted(found) == list(range(1, len(wrong) + 1)) and "choice_dist is [7, 12]" in found[1]
    good = {"jpg_0": png(0), "jpg_1": png(1), "caption": "a cat", "has_label": True, "user_id": 1,
            "image_0_uid": "u0", "image_1_uid": "u1"}  # fmt: skip
    rows = [{**good, "label_0": 1.0, "label_1": 0.0, "best_image_uid": best} for best in ("u0", "u1", "tie")]
    rows[2]["user_id"] = 2
    assert sorted(problems(parquet(there, rows), "pickapic")) == [2]
    text = {**good, "label_0": 1.0, "label_1": 0.0, "has_label": "False"}
    assert "has_label is 'False'" in problems(parquet(there, [text]), "pickapic")[1]
    rows = [{"jpg_0": png(0), "jpg_1": png(1), "caption": "c", "label_0": 1, "label_1": other} for other in (0, 1)]
    assert sorted(problems(parquet(there, rows), "diffusion-dpo")) == [2]


def test_numbers_may_be_written_as_texts_where_others_wrote_them(there: Path) -> None:
    base = {"prompt": "a cat", "path1": "p/0.png", "path2": "p/1.png"}
    fine = [{"confidence": "0.93"}, {"confidence": " 1 "}, {"choice_dist": ["12.0", "7"], "confidence": "0.63"}]
    found = export.read(write(there, [base | row for row in fine]), "hpdv3")
    assert [(j.outcome, j.votes) for j in found] == [("first", (0, 0, 0)), ("first", (0, 0, 0)), ("first", (12, 7, 0))]
    wrong = [{"confidence": text} for text in ("0.3", "93", "93 %", "nan", "", True)] + [{"choice_dist": ["1.5", "1"]}]
    named = problems(write(there, [base | row for row in wrong]), "hpdv3")
    assert sorted(named) == list(range(1, len(wrong) + 1)) and "between 0.0 and 1.0" in named[2]
    images = {"jpg_0": png(0), "jpg_1": png(1), "caption": "c"}
    rows = [{**images, "label_0": first, "label_1": second} for first, second in (("1.0", "0"), ("0.5", "0.5"))]
    assert [j.outcome for j in export.read(parquet(there, rows), "diffusion-dpo")] == ["first", "tie"]


def test_ranks_are_numbers(there: Path) -> None:
    shutil.copy(CASES / "ir_string_ranks.json", there / "f.json")
    found = export.read(there / "f.json", "imagereward")
    assert [j.outcome for j in found] == ["second", "second", "second"]  # 1 is best, then 9, then 10
    base = {"prompt": "a cat", "generations": ["p/0.png", "p/1.png"]}
    wrong: list[Any] = [["first", "second"], [None, 1], "12", [1], [True, 2], [1.5, 2]]
    assert sorted(problems(write(there, [base | {"ranking": r} for r in wrong]), "imagereward")) == [1, 2, 3, 4, 5, 6]


def test_imagerewarddb_as_on_the_hub(there: Path, store: Store) -> None:
    ranks = [("a", 0, 2), ("b", 3, "1"), ("a", 1, 1), ("a", 2, 2), ("b", 4, "10")]
    rows = [{"prompt_id": g, "prompt": f"prompt {g}", "image_path": f"p/{i}.png", "rank": r, "overall_rating": 5}
            for g, i, r in ranks]  # fmt: skip
    for name in ("f.json", "f.jsonl"):
        found = export.read(write(there, rows, name), "imagereward")
        said = [(j.prompt.text, j.first.path, j.second.path, j.outcome) for j in found]
        assert said == [("prompt a", "p/0.png", "p/1.png", "second"), ("prompt a", "p/0.png", "p/2.png", "tie"),
                        ("prompt a", "p/1.png", "p/2.png", "first"),
                        ("prompt b", "p/3.png", "p/4.png", "first")]  # fmt: skip
    held = [{"prompt_id": g, "prompt": f"prompt {g}", "rank": int(r), "image": {"bytes": png(i), "path": f"{i}.webp"}}
            for g, i, r in sorted(ranks, key=lambda row: row[0])]  # fmt: skip
    found = export.read(parquet(there, held), "imagereward")
    assert [(j.prompt.text, j.outcome) for j in found] == [(t, o) for t, _, _, o in said]
    scattered = [held[0], held[-1], held[1]]
    assert "sort the file" in problems(parquet(there, scattered), "imagereward")[3]
    lone = [{**rows[0], "prompt_id": "z"}, {**rows[2], "prompt": "other"}, *rows[:2]]
    found = problems(write(there, lone), "imagereward")
    assert set(found) == {1, 3, 4} and "has another prompt in row 2" in found[3]
    assert stored(store, write(there, rows), "imagereward")[0].startswith("campaign c: 4 judgements")


@pytest.mark.parametrize("kind", ["hpdv3", "imagereward"])
def test_formats_without_annotators_may_judge_a_pair_twice(there: Path, store: Store, kind: str) -> None:
    rows = {
        "hpdv3": [{"prompt": "a", "path1": "p/0.png", "path2": "p/1.png", "choice_dist": [3, 1]},
                  {"prompt": "a", "path1": "p/1.png", "path2": "p/0.png", "choice_dist": [2, 1]}],
        "imagereward": [{"prompt": "a", "generations": ["p/0.png", "p/1.png"], "ranking": r} for r in ([1, 2], [2, 1])],
    }[kind]  # fmt: skip
    stored(store, write(there, rows), kind)
    answers = of_answers(store, store.operator, "c")
    assert len(answers) == 2 and {j.outcome for j in answers} == {"first", "second"}
    names = store.read(lambda db: db.execute(select(schema.account.c.name)).scalars().all())
    assert {"c/majority", "c/majority 2"} <= set(names)
    if kind == "hpdv3":
        (item,) = of_items(store, store.operator, "c")
        assert sorted(item.votes) == [0, 3, 4]  # 3 + 1 for the image 0, 1 + 2 for the image 1
        assert item.outcome == ("first" if item.votes[0] == 4 else "second")


# what is malformed ------------------------------------------------------------------------------------------------


def pick(i: int, j: int, user: Any = 1, **more: Any) -> dict[str, Any]:
    return {"jpg_0": png(i), "jpg_1": png(j), "caption": "a cat", "has_label": True, "label_0": 1.0, "label_1": 0.0,
            "user_id": user, "created_at": datetime(2023, 1, 2, tzinfo=UTC), **more}  # fmt: skip


def test_malformed_rows_are_all_named_and_left_out_on_demand(there: Path, store: Store) -> None:
    rows = [pick(0, 1), pick(2, 2), pick(1, 0), pick(0, 1, 2), pick(3, 4, jpg_1=b"<svg>"), pick(4, 5, None)]
    file = parquet(there, rows)
    found = problems(file, "pickapic")
    assert sorted(found) == [2, 3, 5]
    assert "itself" in found[2] and "1 judged these two images before, in row 1" in found[3]
    with pytest.raises(Malformed, match="3 rows are malformed, and nothing was imported"):
        stored(store, file, "pickapic")
    assert not store.images.root.exists() and campaigns.listed(store, store.operator) == []
    lines = stored(store, file, "pickapic", skip_malformed=True)
    assert lines[0].startswith("campaign c: 3 judgements") and lines[1] == "3 malformed rows were left out:"
    assert [line.split(":")[0] for line in lines[2:]] == ["  row 2", "  row 3", "  row 5"]
    answers = of_answers(store, store.operator, "c")
    assert len(answers) == 3 and {j.at for j in answers} == {datetime(2023, 1, 2, tzinfo=UTC).timestamp()}
    with pytest.raises(Malformed):
        stored(store, parquet(there, [pick(2, 2)]), "pickapic", "d", skip_malformed=True)


def test_every_malformed_row_has_its_number_in_the_message() -> None:
    lines = problem_lines([(n, "wrong") for n in [*range(1, 31), 40, 50, 51]], "line")
    assert lines[0] == "line 1: wrong" and lines[-1] == "and 13 more in line 21-30, 40, 50-51" and len(lines) == 21


STRANGE = [
    ({"strength": True}, "strength is True"), ({"strength": 6}, "strength is 6"), ({"strength": "3"}, "strength"),
    ({"votes": "abc"}, "votes is 'abc'"), ({"votes": [1, 2]}, "votes"), ({"votes": [1, -1, 0]}, "votes"),
    ({"tags": "typo"}, "tags is 'typo'"), ({"tags": [5]}, "tags"), ({"propensity": 2}, "propensity"),
    ({"propensity": 0}, "propensity"), ({"axes": ["text"]}, "axes is ['text']"),
    ({"axes": {"text": "up"}}, "axis text"),
    ({"at": "yesterday"}, "at is 'yesterday'"), ({"at": 1e300}, "at is"), ({"at": True}, "at is True"),
    ({"annotator": "x" * 300}, "annotator has 300 characters"), ({"annotator": ["a"]}, "annotator is ['a']"),
    ({"annotator": "a\0b"}, "zero character"), ({"rationale": 5}, "rationale is 5"),
    ({"decided_by": "me"}, "decided_by"),
    ({"outcome": 1}, "outcome is 1"), ({"first.width": 9999}, "has the size 12x8"),
    ({"first.width": "12"}, "width is '12'"),
    ({"first.height": True}, "height is True"), ({"first.sha256": 5}, "sha256 is 5"),
    ({"first.provenance.seed": "abc"}, "seed is 'abc'"), ({"first.provenance.seed": 2**70}, "seed"),
    ({"first.provenance.steps": 1.5}, "steps"), ({"first.provenance.model": "m" * 300}, "model has 300 characters"),
    ({"first.provenance.guidance": "x"}, "guidance"), ({"prompt.id": "i" * 65}, "id has 65 characters"),
    ({"prompt.id": 5}, "id is 5"), ({"prompt.spans": "abc"}, "spans is 'abc'"), ({"prompt": "a cat"}, "a cat"),
    ({"prompt.text": "a\0b"}, "zero character"), ({"prompt.language": "l" * 17}, "language"),
    ({"first": "p"}, "first is 'p'"),
    ({"annotator": "", "decided_by": "majority", "votes": [1, 5, 0]}, "by majority"),
]  # fmt: skip


def line_of(there: Path, folder: ImageFolder) -> dict[str, Any]:
    """A row that is right, with its images beside the file."""
    first, second = (
        ImageRef(
            *(lambda s, w, h: (s, f"p/{n}.png", w, h))(*folder.add(png(n))), Provenance("m", "", 1, 1, 1.0, "r", 1)
        )
        for n in (0, 1)
    )
    export.write([Judgement(Prompt.from_text("a cat"), first, second, "first", "ada", strength=3)],
                   there / "one.jsonl", "jsonl", folder)  # fmt: skip
    found: dict[str, Any] = json.loads((there / "one.jsonl").read_text())
    return found


def changed(row: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    made = json.loads(json.dumps(row))
    for path, value in change.items():
        *way, last = path.split(".")
        inner = made
        for step in way:
            inner = inner[step]
        inner[last] = value
    return made


def test_strange_values_are_one_clear_line_each(there: Path, store: Store, tmp_path: Path) -> None:
    """The same on both databases, since neither is asked."""
    good = line_of(there, ImageFolder(tmp_path / "other"))
    rows = [changed(good, change) for change, _ in STRANGE]
    file = write(there, rows, "f.jsonl")
    text = json.dumps(good)
    with file.open("a") as end:
        end.write(text.replace('"strength": 3', '"strength": 3, "strength": 4') + "\n")
        end.write(text.replace('"propensity": null', '"propensity": NaN') + "\n")
        end.write(text.replace("a cat", "a \\ud800 cat") + "\n")
    found = problems(file, "jsonl")
    for number, (change, said) in enumerate(STRANGE, 1):
        assert said in found.get(number, "accepted"), (change, found.get(number))
        assert "\n" not in found[number] and "sqlite" not in found[number].lower()
    last = len(STRANGE)
    assert sorted(found) == list(range(1, last + 4))
    assert (
        "twice" in found[last + 1]
        and "NaN" in found[last + 2]
        and "half of" in found[last + 3].replace("one half", "half")
    )
    rows = [changed(good, change) for change in ({"annotator": 5}, {"annotator": None}, {"annotator": "x" * 119 + "a"},
            {"annotator": "x" * 119 + "b"}, {"votes": [2, 1, 0]}, {"annotator": "ed", "at": 5})]  # fmt: skip
    file.write_text("\ufeff" + "\r\n\r\n".join(json.dumps(row) for row in [*rows, {**good, "annotator": "é"}]), "utf-8")
    stored(store, file, "jsonl", "n" * 100)
    names = store.read(lambda db: db.execute(select(schema.account.c.name)).scalars().all())
    assert len({n for n in names if n.startswith("nn")}) == 7 and max(map(len, names)) <= 120


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [("hpdv3", '{"a":\n1}', "one dict where a list"), ("jsonl", "", "holds no judgement"), ("hpdv3", "[1, 2]", "1"),
     ("pickapic", "PAR1 and nothing", "not a Parquet file"), ("trl", '{"prompt": "a", "chosen": "1", "rejected": "2", '
      '"images": ["p/0.png", "p/1.png"]}', "only conversations"), ("label-studio", '[{"a": 1}]', "JSON or JSON_MIN"),
     ("jsonl", "\xff\xfe", "no "), ("label-studio", '{"data": {}}', "JSON_MIN")],
)  # fmt: skip
def test_files_of_another_kind_are_refused_in_words(there: Path, store: Store, kind: str, text: str, said: str) -> None:
    (there / "f").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=said) as raised:
        stored(store, there / "f", kind)
    assert "object has no attribute" not in str(raised.value) and "subscriptable" not in str(raised.value)


def test_pictures_are_found_by_their_spelling_and_addresses_are_refused(there: Path) -> None:
    (there / "cafe\u0301.png").write_bytes(png(0))
    assert find_image("caf\u00e9.png", there).exists()
    with pytest.raises(ValueError, match="is an address"):
        find_image("https://a.b/c.png", there)
    with pytest.raises(ValueError, match="--root"):
        find_image("nothing.png", there)
    file = write(there, [{"prompt": "a", "path1": "0.png", "path2": "1.png"}])
    assert len(incoming.read(file, "hpdv3", None, Options(root=there / "p"))) == 1
    assert list(problems(file, "hpdv3")) == [1]


# what stays as it was ---------------------------------------------------------------------------------------------


def test_equal_ids_never_move_an_answer(there: Path, store: Store, tmp_path: Path) -> None:
    """Neither between two files, nor inside one, nor into a campaign that is made of prompts."""
    texts = [["a red fox", "a blue whale"], ["a steam train", "a wedding cake"]]
    good = line_of(there, ImageFolder(tmp_path / "other"))
    for name, two in zip("ab", texts, strict=True):
        rows = [changed(good, {"prompt.id": str(i), "prompt.text": text}) for i, text in enumerate(two)]
        stored(store, write(there, rows, "f.jsonl"), "jsonl", name)
    for name, two in zip("ab", texts, strict=True):
        assert {j.prompt.text for j in of_answers(store, store.operator, name)} == set(two)
    assert {j.prompt.id for j in of_items(store, store.operator, "b")} == {text_id(t) for t in texts[1]}
    rows = [changed(good, {"prompt.id": "0", "prompt.text": text}) for text in ("x", "y", "a red fox")]
    stored(store, write(there, rows, "f.jsonl"), "jsonl", "same")
    assert {j.prompt.text for j in of_answers(store, store.operator, "same")} == {"x", "y", "a red fox"}
    item = Item(Prompt("0", "a green dog", ()), desk.pair_item(0).images)
    desk.campaign(store, [item], name="mine")
    rows_of = select(schema.prompt.c.text).join(schema.item, schema.item.c.prompt_id == schema.prompt.c.id)
    mine = campaigns.get(store, store.operator, "mine").id
    assert store.read(lambda db: db.execute(rows_of.where(schema.item.c.campaign_id == mine)).scalar()) == "a green dog"
    forged = changed(good, {"prompt.id": text_id("x"), "prompt.text": "not x"})
    stored(store, write(there, [forged], "f.jsonl"), "jsonl", "forged")
    (found,) = of_answers(store, store.operator, "forged")
    assert (found.prompt.text, found.prompt.id) == ("not x", text_id("not x"))


def test_what_two_files_say_about_a_picture_stays_apart(there: Path, store: Store) -> None:
    row = {"prompt": "a", "path1": "p/0.png", "path2": "p/1.png"}
    for name, models in (("one", ("m", "n")), ("two", ("x", "y"))):
        stored(store, write(there, [row | dict(zip(("model1", "model2"), models, strict=True))]), "hpdv3", name)
    for name, models in (("one", {"m", "n"}), ("two", {"x", "y"})):
        (found,) = of_answers(store, store.operator, name)
        assert {found.first.provenance.model, found.second.provenance.model} == models
        (won,) = training_pairs([found], "x")
        assert won.chosen.provenance.model == sorted(models)[0]


def test_a_refused_import_leaves_no_picture(there: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": "a", "path1": "p/0.png", "path2": "p/1.png"}]
    file = write(there, rows)
    stored(store, file, "hpdv3", "first")
    before = sorted(p.name for p in store.images.root.iterdir())
    assert len(before) == 2
    more = write(there, [*rows, {"prompt": "a", "path1": "p/2.png", "path2": "p/3.png"}], "g.json")

    def kept() -> list[str]:
        return sorted(p.name for p in store.images.root.iterdir())

    with pytest.raises(ValueError, match="already"):
        stored(store, more, "hpdv3", "first")
    with pytest.raises(ValueError, match="1 to 120"):
        stored(store, more, "hpdv3", "n" * 121)
    assert kept() == before
    monkeypatch.setattr(importing, "settle_all", lambda *_: 1 / 0)  # after everything was inserted
    with pytest.raises(ZeroDivisionError):
        stored(store, more, "hpdv3", "second")
    assert kept() == before
    monkeypatch.undo()

    class Late(importing.Staged):
        def publish(self) -> None:
            super().publish()
            assert len(kept()) == 5  # with the folder of what waits
            raise OSError("the disk is full")

    monkeypatch.setattr("experiments.preferences.run_campaigns.Staged", Late)
    with pytest.raises(OSError, match="full"):
        stored(store, more, "hpdv3", "second")
    assert kept() == before
    count = store.read(lambda db: db.execute(select(func.count()).select_from(schema.answer)).scalar_one())
    assert count == 1 and len(campaigns.listed(store, store.operator)) == 1


def test_a_value_that_only_the_database_refuses_is_one_line(there: Path, store: Store) -> None:
    found = export.read(write(there, [{"prompt": "a", "path1": "p/0.png", "path2": "p/1.png"}]), "hpdv3")
    import dataclasses

    odd = dataclasses.replace(found[0], propensity=7.0)
    with pytest.raises(ValueError, match="nothing was stored") as raised:
        importing.store_judgements(store, store.operator, "c", [odd], "f.json")
    assert "\n" not in str(raised.value)


# how images come in ---------------------------------------------------------------------------------------------


def test_plain_png_keeps_its_pixel_data_and_nothing_else(tmp_path: Path) -> None:
    told = PngImagePlugin.PngInfo()
    told.add_text("parameters", "model: secret")
    folder = ImageFolder(tmp_path / "k")
    content = png(1, (40, 30), pnginfo=told, compress_level=9)
    sha, *_ = folder.add(content)
    kept = folder.path(sha).read_bytes()
    data = content[content.index(b"IDAT") :][:200]
    assert b"secret" in content and b"secret" not in kept and data in kept  # not encoded again
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(kept))), np.asarray(Image.open(io.BytesIO(content))))
    upright = PngImagePlugin.PngInfo()
    upright.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta tiff:Orientation="3"></x:xmpmeta>')
    turned = Image.Exif()
    turned[0x0112] = 6
    pixels = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10)
    for image, options in (
        (pixels, {"exif": turned}), (pixels.convert("L"), {}), (pixels.convert("P"), {}),
        (pixels, {"transparency": (0, 10, 20)}),
        (pixels, {"pnginfo": upright}),
        (pixels.convert("RGBA"), {}),
    ):  # fmt: skip
        out = io.BytesIO()
        image.save(out, "PNG", **options)
        sha, width, height = folder.add(out.getvalue() + b"hidden behind the end")
        kept = folder.path(sha).read_bytes()
        shown = np.asarray(Image.open(io.BytesIO(kept)))
        assert shown.shape == (height, width, 3) and b"hidden" not in kept and b"eXIf" not in kept
        from preference_data.pixels import pixel_hash

        assert pixel_hash(shown.transpose(2, 0, 1)) == sha


def test_pictures_are_decoded_once_and_what_waits_is_not_kept_twice(
    there: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from preference_data.store import staging

    count: list[np.ndarray] = []

    def counted(decode):  # type: ignore[no-untyped-def]
        def both(*given: Any) -> np.ndarray | None:
            if (pixels := decode(*given)) is not None:
                count.append(pixels)
            return pixels

        return both

    for name in ("decode_image", "plain_pixels"):
        monkeypatch.setattr(staging, name, counted(getattr(staging, name)))
    rows = [{"prompt": "a", "generations": [f"p/{i}.png" for i in range(6)], "ranking": [1, 2, 3, 4, 5, 6]}]
    stored(store, write(there, rows), "imagereward")
    assert len(count) == 6
    held = [{"prompt_id": "1", "prompt": "b", "rank": i, "image": png(i)} for i in range(6)]
    stored(store, parquet(there, held), "imagereward", "d")
    assert len(count) == 12 and len(list(store.images.root.iterdir())) == 6


def test_a_large_file_needs_the_memory_of_a_few_rows_and_few_statements(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few statements: PostgreSQL may be on another machine, and each is a round trip."""
    import pyarrow
    from sqlalchemy import event

    from experiments.benchmarks.exchange import Benchmark, write_file
    from preference_data.exchange.formats import containers

    monkeypatch.setattr(containers, "BATCH", 2)
    monkeypatch.setattr(incoming.Judgements, "CHUNK", 16)
    write_file(Benchmark(size=128, distinct=4), 600, tmp_path / "large.parquet")
    before, held = pyarrow.total_allocated_bytes(), []
    for _ in containers.rows(tmp_path / "large.parquet", "parquet", []):
        held.append(pyarrow.total_allocated_bytes() - before)
    assert len(held) == 600 and max(held) < (tmp_path / "large.parquet").stat().st_size / 6
    write_file(Benchmark(size=16, distinct=4), 120, tmp_path / "f.parquet")
    statements: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    stored(store, tmp_path / "f.parquet", "pickapic")
    answers = of_answers(store, store.operator, "c")
    assert len(answers) == 120 and len(list(store.images.root.iterdir())) == 240
    accounts = sum("INSERT INTO account" in s for s in statements)
    assert accounts == 120 and len(statements) - 2 * accounts < 60  # of 120 answers in one batch
    read = incoming.read_rows(tmp_path / "f.parquet", "pickapic", None, Options()).judgements
    assert len(read) == 120 and list(read) == list(read)
    assert [j.annotator for j in read] == [str(i) for i in range(120)]
