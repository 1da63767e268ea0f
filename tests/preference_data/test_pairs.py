from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from preference_data.pairs import best_and_worst, load, save, summary
from preference_data.records import ImageRef, Prompt, Provenance

NAN = float("nan")
PROMPTS = [Prompt.from_text(f'write "{word}"') for word in ("ONE", "TWO", "SIX", "TEN", "ALL", "NIL")]


def picture(p: int, g: int) -> ImageRef:
    made = Provenance(model="nano", revision="r1", seed=g, steps=8, guidance=1.0, run="r", step=0)
    return ImageRef(f"{p:032x}{g:032x}", f"{p}-{g}.png", 96, 32, made)


PICTURES = [[picture(p, g) for g in range(3)] for p in range(6)]
SCORES = [
    [0.2, 0.9, 0.5],  # a pair: 1 over 0
    [0.5, 0.5, 0.5],  # a tie
    [NAN, 0.1, 0.4],  # a pair among the judged: 2 over 1
    [NAN, 0.7, NAN],  # only one judged
    [NAN, NAN, NAN],  # none judged
    [0.9, 0.3, 0.9],  # a pair: the first of the best, 0 over 1
]


def test_best_beats_worst_and_ties_and_nan_teach_nothing() -> None:
    pairs = best_and_worst(PROMPTS, SCORES, PICTURES, source="machine:ocr")
    found = [(pair.prompt.spans[0], pair.chosen, pair.rejected, pair.outcome) for pair in pairs]
    assert found == [
        ("ONE", picture(0, 1), picture(0, 0), "right"),
        ("SIX", picture(2, 2), picture(2, 1), "right"),
        ("NIL", picture(5, 0), picture(5, 1), "left"),
    ]
    assert [pair.margin for pair in pairs] == pytest.approx([0.7, 0.3, 0.6])


def test_a_least_margin_drops_close_pairs() -> None:
    pairs = best_and_worst(PROMPTS, np.array(SCORES), PICTURES, source="machine:ocr", min_margin=0.5)
    assert [pair.prompt.spans[0] for pair in pairs] == ["ONE", "NIL"]
    exact = best_and_worst(PROMPTS[:1], [[0.0, 0.5, 0.25]], PICTURES[:1], source="machine:ocr", min_margin=0.5)
    assert len(exact) == 1  # the least margin itself is enough


def test_second_best_meets_second_worst_and_no_picture_stands_twice() -> None:
    many = [[picture(0, g) for g in range(7)]]
    scores = [[0.2, 0.9, 0.5, NAN, 0.9, 0.5, 0.1]]  # falling: 1, 4, 2, 5, 0, 6; rising: 6, 0, 2, 5, 1, 4
    pairs = best_and_worst(PROMPTS[:1], scores, many, source="ocr", per_prompt=9)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [
        (picture(0, 1), picture(0, 6)), (picture(0, 4), picture(0, 0)),
    ], "the third pair would be a tie"  # fmt: skip
    assert [pair.margin for pair in pairs] == pytest.approx([0.8, 0.7])
    assert best_and_worst(PROMPTS[:1], scores, many, source="ocr", per_prompt=1) == pairs[:1]
    with pytest.raises(ValueError, match="per_prompt is 0"):
        best_and_worst(PROMPTS[:1], scores, many, source="ocr", per_prompt=0)


def test_every_pair_is_marked_as_machine_made() -> None:
    for source in ("ocr", "machine:ocr"):
        pairs = best_and_worst(PROMPTS, SCORES, PICTURES, source=source)
        assert {pair.source for pair in pairs} == {"machine:ocr"} and all(pair.machine_made for pair in pairs)


def test_lengths_must_match() -> None:
    with pytest.raises(ValueError, match="6 prompts, 5 rows"):
        best_and_worst(PROMPTS, SCORES[:5], PICTURES, source="ocr")
    with pytest.raises(ValueError, match="2 scores but 3 images"):
        best_and_worst(PROMPTS, [row[:2] for row in SCORES], PICTURES, source="ocr")
    with pytest.raises(ValueError, match="min_margin"):
        best_and_worst(PROMPTS, SCORES, PICTURES, source="ocr", min_margin=-1.0)


def test_the_summary_counts_every_group_once() -> None:
    counts = summary(SCORES, min_margin=0.5, bins=2)
    assert (counts.groups, counts.pairs, counts.ties, counts.too_close) == (6, 2, 1, 1)
    assert (counts.unjudged_groups, counts.unjudged_pictures) == (2, 6)
    assert counts.pairs + counts.ties + counts.too_close + counts.unjudged_groups == counts.groups
    assert [count for *_, count in counts.margins] == [1, 1]
    assert counts.margins[0][0] == pytest.approx(0.6) and counts.margins[-1][1] == pytest.approx(0.7)
    assert counts.pairs == len(best_and_worst(PROMPTS, SCORES, PICTURES, source="ocr", min_margin=0.5))
    assert summary([[0.5, 0.5]]).margins == ()
    assert summary([[0.0, 1.0], [0.0, 1.0]]).margins == ((1.0, 1.0, 2),)


def test_pairs_survive_the_file(tmp_path: Path) -> None:
    pairs = best_and_worst(PROMPTS, SCORES, PICTURES, source="ocr")
    path = tmp_path / "deep" / "pairs.jsonl"
    save(pairs, path)
    assert load(path) == pairs
    save(pairs[:1], path)
    assert load(path) == pairs[:1]
    assert [entry.name for entry in path.parent.iterdir()] == ["pairs.jsonl"]  # no leftovers


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = best_and_worst(PROMPTS, SCORES, PICTURES, source="ocr")
    path = tmp_path / "pairs.jsonl"
    save(pairs, path)

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        save(pairs[:1], path)
    assert load(path) == pairs
    assert [entry.name for entry in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_marks_and_blank_lines_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    pairs = best_and_worst(PROMPTS, SCORES, PICTURES, source="ocr")
    save(pairs, path)
    path.write_text("\n" + path.read_text("utf-8").replace("\n", "\r\n\r\n"), encoding="utf-8-sig")
    assert load(path) == pairs


@pytest.mark.parametrize("damage", ["{", "[]", '{"prompt": null}', "\\ud83d"])
def test_a_damaged_line_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "pairs.jsonl"
    save(best_and_worst(PROMPTS, SCORES, PICTURES, source="ocr"), path)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], damage, lines[1]]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"pairs\.jsonl line 2: "):
        load(path)


def test_preference_data_never_imports_torch() -> None:
    code = (
        "import sys, preference_data.pairs, preference_data.prompts; "
        "print([name for name in ('torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
