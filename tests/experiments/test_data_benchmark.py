"""What the benchmark of data counts: labels by size and face, characters by language, bytes in a fresh process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from base_model.data.writing.corpora import standard_set
from base_model.data.writing.faces import LANGUAGES
from experiments.benchmarks import data
from experiments.benchmarks.data import Benchmark, coverage, labels, same_bytes
from experiments.benchmarks.encoding import data_producers
from experiments.images.label_check import Checked


def test_lines_are_counted_by_kind_and_from_16_pixels_on() -> None:
    lines = [
        Checked("open", "open", "Inter", "en", "pure", 20), Checked("open", "0pen", "Lora", "en", "pure", 12),
        Checked("open", "xpen", "Kalam", "en", "complex/menu", 16),
        Checked("가", "나", "Noto Sans KR", "ko", "pure", 20),
    ]  # fmt: skip
    numbers = labels(lines)
    assert (numbers["pure_lines"], numbers["pure_exact"]) == (2, 0.5) and numbers["complex_likeness"] == 0.75
    assert "compositional_exact" not in numbers and numbers["korean_exact"] == 0.0
    assert (numbers["from_16_lines"], numbers["from_16_exact"]) == (2, 0.5)
    assert (numbers["printed_from_16_lines"], numbers["printed_from_16_likeness"]) == (1, 1.0)


def test_characters_are_counted_and_the_rarest_named(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = coverage(Benchmark(coverage=600))
    assert numbers.keys() == set(LANGUAGES)
    for language, counts in numbers.items():
        assert counts["characters"] == len(standard_set(language)) and len(counts["rarest"]) == 10
        assert set(counts["rarest"]) <= set(standard_set(language))
    assert numbers["en"]["never"] == 0 < numbers["ja"]["never"] and min(numbers["ja"]["rarest"].values()) == 0
    assert "ja        3168 characters" in capsys.readouterr().out


@pytest.mark.slow
def test_images_are_the_same_in_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process writes in the order of the languages that there are; in another order there are other bytes."""
    assert same_bytes(Benchmark(images=4, same=5, size=256))["same_bytes"]
    monkeypatch.setattr(data, "LANGUAGES", LANGUAGES[::-1])
    assert not same_bytes(Benchmark(images=1, same=1, size=256))["same_bytes"]


def test_what_producers_gain_is_one_number_with_the_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    times = iter([(0.5, 0.0, 0.6), (0.4, 0.1, 0.45)])
    monkeypatch.setattr(data_producers, "trained", lambda *given: next(times))
    numbers = json.loads(json.dumps(data_producers.loop_or_producers(1)))
    assert numbers["speedup"] == pytest.approx(0.6 / 0.45, abs=1e-3)
    assert numbers["speedup_on_free_cores"] == 1.25 and numbers["load_before"] >= 0
