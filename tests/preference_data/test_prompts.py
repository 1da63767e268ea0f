from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from preference_data.prompts import PromptSet


def numbered(count: int, seed: int = 0) -> PromptSet:
    return PromptSet.from_texts((f'draw "{i}"' for i in range(count)), seed)


def test_a_batch_follows_from_seed_step_and_size() -> None:
    first, again = numbered(10, seed=4), numbered(10, seed=4)
    later = [again.batch(step, 3) for step in (7, 0, 31, 7)]  # any order, any history
    assert later == [first.batch(step, 3) for step in (7, 0, 31, 7)]
    assert later[0] != later[1]
    assert [numbered(10, seed=5).batch(step, 3) for step in range(5)] != [first.batch(step, 3) for step in range(5)]


def test_the_order_is_the_same_on_every_machine() -> None:
    assert [prompt.spans[0] for prompt in numbered(6, seed=1).batch(2, 3)] == ["3", "0", "2"]


@pytest.mark.parametrize("size", [1, 3, 4, 7, 10])
def test_prompts_are_distinct_within_a_batch_and_even_over_epochs(size: int) -> None:
    prompts = numbered(10)
    seen: Counter[str] = Counter()
    per_epoch = 10 // size
    for step in range(per_epoch * 200):
        batch = prompts.batch(step, size)
        assert len(batch) == size and len({prompt.id for prompt in batch}) == size
        seen.update(prompt.id for prompt in batch)
        if (step + 1) % per_epoch == 0 and 10 % size == 0:
            assert len(set(seen.values())) == 1  # whole epochs use every prompt equally often
    share = per_epoch * size / 10 * 200  # the mean; leftovers are drawn anew each epoch
    assert len(seen) == 10 and all(abs(count - share) < 0.25 * share for count in seen.values())


def test_epochs_have_different_orders() -> None:
    prompts = numbered(10)
    assert len({tuple(p.id for p in prompts.batch(step, 10)) for step in range(5)}) == 5


def test_a_batch_larger_than_the_set_repeats_evenly() -> None:
    counts = Counter(prompt.id for prompt in numbered(4).batch(3, 10))
    assert sorted(counts.values()) == [2, 2, 3, 3]


def test_a_set_reads_text_and_json_lines(tmp_path: Path) -> None:
    prompts = PromptSet.from_texts(['say "A"', "\u5199\u300c\u5f00\u300d"])
    (tmp_path / "p.jsonl").write_text(prompts.to_jsonl(), encoding="utf-8")
    (tmp_path / "p.txt").write_text('say "A"\n\n\u5199\u300c\u5f00\u300d\n', encoding="utf-8")
    for name in ("p.jsonl", "p.txt"):
        assert list(PromptSet.load(tmp_path / name)) == list(prompts)


def test_errors_say_what_and_where(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(PromptSet.from_texts(["a cat"]).to_jsonl() + '{"id": "x"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 2: Prompt lacks text, spans"):
        PromptSet.load(path)
    with pytest.raises(ValueError, match="twice"):
        PromptSet.from_texts(["a cat", "a cat"])
    with pytest.raises(ValueError, match="empty"):
        PromptSet([])
    for step, size in [(-1, 2), (0, 0)]:
        with pytest.raises(ValueError, match="step"):
            numbered(3).batch(step, size)


def test_a_set_is_a_sequence() -> None:
    prompts = numbered(5)
    assert len(prompts) == 5 and prompts[4].spans == ("4",) and [p.spans[0] for p in prompts[1:3]] == ["1", "2"]
