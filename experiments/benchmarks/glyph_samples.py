"""The reward `glyph` on nano's own samples, beside their distance to the true rendering.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.glyph_samples --weights runs/glyph --stages
         runs/repair/sft runs/repair/grpo

In nano a caption fixes the image, so a letter's error needs no eyes: it is the difference of its cell from the rendered
one, both as ink from 0 to 1, blurred by 0.7 pixels, at the best of shifts by a pixel, as a share of the ink. Below
0.03 it is taken as sound, above 0.10 as broken. The error also counts a letter of the wrong size, so it is imperfect.
Images are those that a run's evaluation keeps. Areas under the curve are of sound against broken, by letters.

Prints a table, then one JSON line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from base_model.data.rendered_text import CELL, COLOURS, Scene, above, first_cell, glyph, render
from experiments.record.whole_files import read_png
from preference_data.statistics.score_intervals import auc
from rewards.glyph.glyph import read
from rewards.glyph.ink_frame import framed, levels
from rewards.text.ocr_likelihood import ctc_likelihood
from rewards.text.reading.read_page import as_line
from rewards.text.recognisers import V6, OnnxRecogniser, find_weights

CAPTION = re.compile(r'the word "(\w+)" in (\w+) (\w+), (\w+), (\w+) (\w+), on (\w+)')
SIZES = {"small": 16, "medium": 19, "large": 22}
SOUND, BROKEN = 0.03, 0.10


@dataclass(frozen=True)
class Benchmark:
    """Which network, and the stages of a quickstart."""

    weights: Path
    stages: tuple[Path, ...]


def letters(stage: Path) -> list[tuple[str, str, np.ndarray, float]]:
    """(letter, evaluation, its cell as uint8 [H, W, 3], its error) of the images that a stage's evaluation keeps."""
    results = []
    for file in sorted((stage / "evaluation").glob("*guided.json")):
        for row in json.loads(file.read_text())["rows"]:
            match = CAPTION.search(row["prompt"])
            if not match or not row.get("picture") or not (file.parent / row["picture"]).exists():
                continue
            word, ink, face, size, upper, column, ground = match.groups()
            scene = Scene(word, "", face, size, ink, ground, upper, column)
            image_HW3 = read_png(file.parent / row["picture"]).transpose(1, 2, 0)
            truth_HW3 = render(scene).transpose(1, 2, 0)
            for i, letter in enumerate(word):
                mask = glyph(letter, face, SIZES[size])
                top, left = above(scene, mask.height), (first_cell(scene) + i) * CELL
                rows = slice(max(top - 2, 0), top + mask.height + 2)
                cell_HW3 = np.ascontiguousarray(image_HW3[rows, left : left + CELL])
                true_HW3 = truth_HW3[rows, left : left + CELL]
                results.append((letter, file.stem, cell_HW3, error(cell_HW3, true_HW3, COLOURS[ground])))
    return results


def error(cell_HW3: np.ndarray, true_HW3: np.ndarray, ground: tuple[int, int, int]) -> float:
    """How far a cell is from the rendered one, as a share of the ink; 1 where it is blank."""
    import cv2

    ground_3 = np.array(ground, np.float32)
    level_HW, true_HW = levels(cell_HW3, ground_3), levels(true_HW3, ground_3)
    if level_HW is None or true_HW is None:
        return 1.0
    a_HW, b_HW = (cv2.GaussianBlur(each, (0, 0), 0.7) for each in (level_HW, true_HW))
    shifted = [np.roll(a_HW, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return float(min(((each - b_HW) ** 2).sum() for each in shifted) / max((b_HW**2).sum(), 1e-6))


def main(benchmark: Benchmark) -> None:
    """Measure, print and end with one JSON line."""
    _, model = read(benchmark.weights)
    recogniser = OnnxRecogniser(find_weights(V6))
    classes = {character: k for k, character in enumerate(recogniser.characters)}
    results, pooled = {}, []
    for stage in benchmark.stages:
        rows = []
        for letter, _, cell_HW3, far in letters(stage):
            crop_ZZ = framed(cell_HW3)
            value = 0.0 if crop_ZZ is None else float(model.score([crop_ZZ], [letter])[0][0])
            edge = np.pad(cell_HW3, ((6, 6), (6, 6), (0, 0)), mode="edge")
            same = [[classes[c] for c in (letter, letter.lower()) if c in classes]]
            rows.append((far, value, ctc_likelihood(recogniser.probabilities(as_line(edge)), same), ord(letter)))
        pooled += rows
        results[stage.name] = row = summary(np.array(rows))
        print(stage.name, {k: round(v, 3) for k, v in row.items()}, flush=True)
    results["all"] = summary(np.array(pooled))
    print("all", {k: round(v, 3) for k, v in results["all"].items()})
    print(json.dumps({name: {k: v for k, v in row.items() if np.isfinite(v)} for name, row in results.items()}))


def summary(row_N4: np.ndarray) -> dict[str, float]:
    """Means, and areas of the network and of the recogniser's likelihood, of (error, score, likelihood, letter)."""
    if not len(row_N4):
        raise ValueError("no images were kept in these stages; name stages of a finished quickstart")
    far_N, value_N, likelihood_N, letter_N = row_N4.T
    clear = (far_N < SOUND) | (far_N > BROKEN)
    sound = far_N[clear] < SOUND
    area = auc(value_N[clear], sound, letter_N[clear])
    lowest = np.argsort(value_N)[:24]
    return {
        "letters": float(len(far_N)), "error_median": float(np.median(far_N)), "glyph_mean": float(value_N.mean()),
        "sound": float(sound.sum()), "broken": float((~sound).sum()), "auc": area.value, "low": area.low,
        "high": area.high, "likelihood_auc": auc(likelihood_N[clear], sound, letter_N[clear]).value,
        "lowest_24_broken": float((far_N[lowest] > BROKEN).mean()),
    }  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
