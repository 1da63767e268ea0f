"""What an import keeps beside the answer: how long it took; and what it leaves out: an entry, not the whole list."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from preference_data.exchange import export, incoming
from preference_data.exchange.export import FORMATS
from preference_data.exchange.incoming import Options
from preference_data.exchange.judgements import of_answers
from preference_data.store.store import Store
from tests.preference_data.exchange.test_imports import chose, parquet, png, problems, stored, task, there, write

__all__ = ["there"]
AT = "2021-03-09T22:16:08.728353Z"


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_seconds_go_through_the_store_and_every_format(there: Path, store: Store, kind: str) -> None:
    stored(store, write(there, [task([chose("left", completed_by=1, created_at=AT, lead_time=12.3456)])]),
           "label-studio")  # fmt: skip
    (kept,) = of_answers(store, store.operator, "c")
    assert kept.seconds == 12.346
    export.write([kept], there / "out" / "f", kind, store.images)
    (back,) = export.read(there / "out" / "f", kind)
    assert (back.seconds, back.at) == (12.346, kept.at)


@pytest.mark.parametrize(("given", "seconds"), [(7, 7.0), (None, None), (0, None), (-1, None), (1e9, None),
                                                ("8", 8.0), ("8 s", None), (True, None),
                                                (0.25, 0.25)])  # fmt: skip
def test_a_lead_time_that_is_none_is_not_known(there: Path, given: Any, seconds: float | None) -> None:
    (found,) = export.read(write(there, [task([chose("left", lead_time=given)])]), "label-studio")
    minimal = {"prompt": "a cat", "left": "p/0.png", "right": "p/1.png", "annotator": 1, "pairwise": "left",
               "lead_time": given}  # fmt: skip
    (bare,) = export.read(write(there, [minimal]), "label-studio")
    assert found.seconds == bare.seconds == seconds


def test_an_export_for_label_studio_tells_others_when_and_how_long(there: Path, store: Store) -> None:
    stored(store, write(there, [task([chose("left", completed_by=1, created_at=AT, lead_time=4.5)])]), "label-studio")
    export.write(of_answers(store, store.operator, "c"), there / "g.json", "label-studio", store.images)
    (row,) = json.loads((there / "g.json").read_text())
    del row["glyphlab"]  # as an edited export has it
    (found,) = export.read(write(there, [row]), "label-studio")
    assert found.seconds == 4.5
    assert found.at == pytest.approx(1615328168.728353, abs=1e-5)


def test_seconds_that_are_none_are_named(there: Path, store: Store) -> None:
    stored(store, write(there, [task([chose("left")])]), "label-studio")
    export.write(of_answers(store, store.operator, "c"), there / "g.jsonl", "jsonl", store.images)
    row = json.loads((there / "g.jsonl").read_text())
    assert row["seconds"] is None
    for wrong in (-1, "4", True, 1e7):
        assert "seconds is" in problems(write(there, [row | {"seconds": wrong}], "w.jsonl"), "jsonl")[1]


@pytest.mark.parametrize("outcome", ["second", "both_good", "both_bad"])
def test_seconds_stay_with_either_row_of_an_unpaired_answer(there: Path, store: Store, outcome: str) -> None:
    """KTO writes an answer as two rows; what it carries comes back once, whichever row says good."""
    stored(store, write(there, [task([chose("left", lead_time=4.5)])]), "label-studio")
    (kept,) = of_answers(store, store.operator, "c")
    export.write([replace(kept, outcome=outcome)], there / "k.jsonl", "kto", store.images)
    assert [json.loads(json.loads(line)["glyphlab"])["seconds"] for line in (there / "k.jsonl").open()] == [4.5, 4.5]
    (back,) = export.read(there / "k.jsonl", "kto")
    assert (back.seconds, back.outcome) == (4.5, outcome)


def test_the_hubs_groups_hold_lists(there: Path) -> None:
    group = {"prompt_id": "1-1", "prompt": "a cat", "classification": "animals", "image_amount_in_total": 3,
             "rank": [2, 1, 2], "overall_rating": [4, 6, 4], "image_text_alignment_rating": [4, 6, 4],
             "fidelity_rating": [4, 6, 4]}  # fmt: skip
    expected = ["second", "tie", "first"]
    named = group | {"image_path": ["p/0.png", "p/1.png", "p/2.png"]}
    assert [j.outcome for j in export.read(write(there, [named]), "imagereward")] == expected
    held = group | {"image": [{"bytes": png(i), "path": None} for i in range(3)]}
    assert [j.outcome for j in export.read(parquet(there, [held]), "imagereward")] == expected
    assert "none of image" in problems(write(there, [group]), "imagereward")[1]
    assert "one rank for each" in problems(write(there, [named | {"rank": [1, 2]}]), "imagereward")[1]


GOOD = {
    "hpdv3": {"path1": "p/0.png", "path2": "p/1.png", "prompt": "a, [cat] }", "choice_dist": [2, 1]},
    "imagereward": {"prompt": "a, [cat] }", "generations": ["p/0.png", "p/1.png"], "ranking": [1, 2]},
    "label-studio": task([chose("left")], {"prompt": "a, [cat] }", "left": "p/0.png", "right": "p/1.png"}),
}


@pytest.mark.parametrize("kind", sorted(GOOD))
@pytest.mark.parametrize("indent", [None, 2])
def test_an_entry_that_is_no_json_value_costs_itself_only(there: Path, kind: str, indent: int | None) -> None:
    good = json.dumps(GOOD[kind], indent=indent)
    wrong = [good.replace("{", '{"x": NaN, ', 1), good.replace("{", '{"x": 1, "x": 2, ', 1),
             good.replace("{", '{"x": "\\ud800", ', 1), good.replace("{", '{"x": 1e999, ', 1)]  # fmt: skip
    file = there / "f.json"
    file.write_text(" [\n" + " ,\n".join([good, *wrong, good]) + "\n]\n")
    assert sorted(problems(file, kind)) == [2, 3, 4, 5]
    assert "NaN" in problems(file, kind)[2]
    assert "'x'" in problems(file, kind)[3]
    assert len(incoming.read(file, kind, None, Options(skip_malformed=True))) == 2
    file.write_text(f"[{wrong[0]}, {good}")  # cut off: nobody can say what is missing
    with pytest.raises(ValueError, match=r"f\.json"):
        incoming.read(file, kind, None, Options(skip_malformed=True))
