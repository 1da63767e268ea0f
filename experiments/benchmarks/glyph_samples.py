"""The reward `glyph` on nano's own samples, beside their distance to the true rendering.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.glyph_samples --weights runs/glyph --stages
         runs/repair/sft runs/repair/grpo
         ... --weights runs/seed0 runs/seed1 --stages runs/ocr_glyph0 runs/ocr_glyph1 --against runs/ocr0 runs/ocr1

In nano a full caption fixes the image, so a letter's error needs no eyes: it is the difference of its cell from the
rendered one, both as ink from 0 to 1, blurred by 0.7 pixels, at the best of shifts by a pixel, as a share of the ink.
Below 0.03 it is taken as sound, above 0.10 as broken. The error also counts a letter of the wrong size, so it is
imperfect. Every model samples the same held-out English captions from the same noise, without guidance.

    letters   areas under the curve of sound against broken, by letters, of the network and of the recogniser's
              likelihood of the cell, among all and among words that both engines read right ("spelt"); of the lowest 24
              of either, the share that are broken, of "spelt" with the 95 % interval and beside all such letters
    words     shares that either engine reads right, the mean of the words' worst letters by the network, and the mean
              error
    beside    differences of --stages from --against, in their order, with 95 % intervals over prompts; "spelt": of the
              words that both engines read right in both; pooled: the mean over the pairs of each prompt

Every folder of --weights judges the same samples. `--gallery FILE.png` writes the lowest 24 "spelt" letters of all
stages by the first: what was written above what should be. Prints tables, then one JSON line.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from base_model.data.rendered_text import CELL, COLOURS, Scene, above, first_cell, glyph, render
from base_model.generate import generate_chunks, prompted
from base_model.sample import Sampler
from experiments.evaluation.evaluate import fixed_noise
from experiments.evaluation.found_model import find_model
from experiments.evaluation.prompts_of_plan import make_scenes
from experiments.experiment import PromptPlan
from experiments.record.intervals import paired_ci
from experiments.record.whole_files import write_png
from preference_data.campaign.quality.reliability import wilson
from preference_data.records import Prompt
from preference_data.statistics.score_intervals import auc
from rewards.glyph.glyph import GlyphModel, read
from rewards.glyph.ink_frame import levels
from rewards.glyph.locate import Cell
from rewards.parse import named_reward
from rewards.text.ocr_likelihood import ctc_likelihood
from rewards.text.reading.read_page import as_line
from rewards.text.recognisers import V6, OnnxRecogniser, find_weights

SIZES = {"small": 16, "medium": 19, "large": 22}
SOUND, BROKEN, SEED = 0.03, 0.10, 141
WORDS = ("ocr", "gold", "glyph", "error")


@dataclass(frozen=True)
class Benchmark:
    """Which network, and which models."""

    weights: tuple[Path, ...]
    """networks that judge, each by itself"""
    stages: tuple[Path, ...]
    """runs with a nano model"""
    against: tuple[Path, ...] = ()
    """as many runs, each beside the one of stages"""
    prompts: int = 96
    steps: int = 10
    gallery: Path | None = None

    def __post_init__(self) -> None:
        if (
            not self.stages
            or not self.weights
            or self.prompts < 2
            or (self.against and len(self.against) != len(self.stages))
        ):
            raise ValueError(
                f"{len(self.weights)} networks, {len(self.stages)} stages against {len(self.against)} on "
                f"{self.prompts} prompts: name a network, a run beside each other run, and 2 prompts or more"
            )


@dataclass(frozen=True)
class Letter:
    """A letter of a word: its cell and the rendered one as uint8 [H, W, 3], and its error."""

    letter: str
    cell_HW3: np.ndarray
    true_HW3: np.ndarray
    error: float


@dataclass(frozen=True)
class Sampled:
    """What a model wrote, by one judge: numbers by word [P], (word, error, glyph, likelihood, letter) by letter [N, 5],
    and the letters."""

    word: dict[str, np.ndarray]
    letter_N5: np.ndarray
    letters: list[Letter]


def letters(scene: Scene, image_HW3: np.ndarray) -> list[Letter]:
    """The letters of an image of a scene."""
    truth_HW3, results = render(scene).transpose(1, 2, 0), []
    for i, letter in enumerate(scene.word):
        mask = glyph(letter, scene.face, SIZES[scene.size])
        top, left = above(scene, mask.height), (first_cell(scene) + i) * CELL
        rows = slice(max(top - 2, 0), top + mask.height + 2)
        cell_HW3 = np.ascontiguousarray(image_HW3[rows, left : left + CELL])
        true_HW3 = truth_HW3[rows, left : left + CELL]
        far = error(cell_HW3, true_HW3, COLOURS[scene.background])
        results.append(Letter(letter, cell_HW3, true_HW3, far))
    return results


def sampled(
    run: Path, scenes: list[Scene], models: list[GlyphModel], engines: Engines, steps: int
) -> list[Sampled]:  # fmt: skip
    """Let a run's model write the scenes, and measure what it wrote by each judge."""
    flow = find_model(str(run)).load("cpu")
    noise = fixed_noise(flow, len(scenes), SEED)
    requested = prompted(flow, [scene.caption for scene in scenes], 1.0)
    chunks = [images for _, _, images in generate_chunks(flow, requested, noise, Sampler(steps=steps))]
    images_P3HW = np.concatenate(chunks)
    prompts = [Prompt.from_text(scene.caption) for scene in scenes]
    read = {name: reader(prompts, images_P3HW).parts["exact"] for name, reader in engines.readers.items()}
    of = [letters(scene, image.transpose(1, 2, 0)) for scene, image in zip(scenes, images_P3HW, strict=True)]
    every = [each for word in of for each in word]
    likelihood_N = [engines.likelihood(each) for each in every]
    starts = np.cumsum([0, *map(len, of[:-1])])
    results = []
    for model in models:
        value_N = np.concatenate([  # by itself: the cells of a word are cut at different heights
            model.score_cells([Cell(each.letter, levels(each.cell_HW3), i) for i, each in enumerate(every[start:stop])])
            for start, stop in itertools.pairwise([*range(0, len(every), 64), len(every)])
        ])  # fmt: skip
        far_N = np.array([each.error for each in every])
        word_N = np.repeat(np.arange(len(of)), [len(each) for each in of])
        rows = (word_N, far_N, value_N, likelihood_N, [ord(each.letter) for each in every])
        means = {"glyph": np.minimum.reduceat(value_N, starts), "error": np.add.reduceat(far_N, starts)}
        means["error"] = means["error"] / np.bincount(word_N)
        results.append(Sampled(read | means, np.stack(rows, 1), every))
    return results


class Engines:
    """The reward's recogniser and the gold one."""

    def __init__(self) -> None:
        self.readers = {"ocr": named_reward("ocr").load(), "gold": named_reward("ocr_judge").load()}
        self._recogniser = OnnxRecogniser(find_weights(V6))
        self._classes = {character: k for k, character in enumerate(self._recogniser.characters)}

    def likelihood(self, each: Letter) -> float:
        """What the recogniser gives the letter in its cell."""
        edge = np.pad(each.cell_HW3, ((6, 6), (6, 6), (0, 0)), mode="edge")
        same = [[self._classes[c] for c in (each.letter, each.letter.lower()) if c in self._classes]]
        return ctc_likelihood(self._recogniser.probabilities(as_line(edge)), same)


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


def summary(sampled: Sampled) -> dict[str, float]:
    """Means by word, and areas of the network and of the recogniser's likelihood by letter."""
    word_N, far_N, value_N, likelihood_N, letter_N = sampled.letter_N5.T
    clear = (far_N < SOUND) | (far_N > BROKEN)
    sound = far_N[clear] < SOUND
    spelt_N = ((sampled.word["ocr"] == 1) & (sampled.word["gold"] == 1))[word_N.astype(int)]
    result = {name: float(values.mean()) for name, values in sampled.word.items()} | {
        "letters": float(len(far_N)), "error_median": float(np.median(far_N)), "sound": float(sound.sum()),
        "broken": float((~sound).sum()), "lowest_24": _broken(far_N, value_N),
        "lowest_24_spelt": _broken(far_N[spelt_N], value_N[spelt_N]),
        "letters_spelt": float(spelt_N.sum()), "broken_spelt": float((far_N[spelt_N] > BROKEN).mean()),
    }  # fmt: skip
    counted = wilson(round(24 * result["lowest_24_spelt"]), 24)
    result |= {"lowest_24_spelt_low": counted.low, "lowest_24_spelt_high": counted.high}
    for shown, of_N in (("", clear), ("_spelt", clear & spelt_N)):
        sound = far_N[of_N] < SOUND
        if 0 < sound.sum() < len(sound):
            area = auc(value_N[of_N], sound, letter_N[of_N])
            result |= {f"auc{shown}": area.value, f"low{shown}": area.low, f"high{shown}": area.high}
            result[f"likelihood_auc{shown}"] = auc(likelihood_N[of_N], sound, letter_N[of_N]).value
    return result


def gallery(sampled: Sampled) -> np.ndarray:
    """uint8 [3, H, W]: the lowest 24 letters of words that both engines read right, above what should be."""
    import cv2

    word_N, far_N, value_N, *_ = sampled.letter_N5.T
    spelt_N = np.flatnonzero(((sampled.word["ocr"] == 1) & (sampled.word["gold"] == 1))[word_N.astype(int)])
    columns = []
    for i in spelt_N[np.argsort(value_N[spelt_N], kind="stable")[:24]]:
        each = sampled.letters[i]
        pair = [cv2.resize(cell, (64, 96), interpolation=cv2.INTER_NEAREST) for cell in (each.cell_HW3, each.true_HW3)]
        mark = np.full((8, 64, 3), 255 if far_N[i] > BROKEN else 0, np.uint8)
        columns.append(np.pad(np.concatenate([*pair, mark]), ((0, 0), (0, 6), (0, 0)), constant_values=128))
    return np.concatenate(columns, 1).transpose(2, 0, 1)


def _broken(far_N: np.ndarray, value_N: np.ndarray) -> float:
    """Of the 24 letters with the lowest scores, the share that are broken."""
    return float((far_N[np.argsort(value_N, kind="stable")[:24]] > BROKEN).mean())


def differences(pairs: list[tuple[Sampled, Sampled]]) -> dict[str, list[float]]:
    """(mean, low, high, prompts) of each number's difference, each prompt's the mean over the pairs."""
    right = [np.all([each.word[e] == 1 for each in pair for e in ("ocr", "gold")], axis=0) for pair in pairs]
    results = {}
    for name in WORDS:
        both = np.array([[other.word[name], mine.word[name]] for mine, other in pairs])
        for shown, chosen in ((name, np.ones_like(right)), (f"{name}, spelt", np.array(right))):
            count_P = chosen.sum(axis=0)
            before_P, after_P = (both * chosen[:, None]).sum(axis=0) / np.where(count_P, count_P, np.nan)
            results[shown] = [*paired_ci(before_P, after_P, 0), float((count_P > 0).sum())]
    return results


def main(benchmark: Benchmark) -> None:
    """Measure, print and end with one JSON line."""
    models = [read(folder)[1] for folder in benchmark.weights]
    engines = Engines()
    scenes = make_scenes(PromptPlan(count=benchmark.prompts, seed=SEED, heldout=True))
    results: dict[str, object] = {}
    runs = (*benchmark.stages, *benchmark.against)
    every = {run: sampled(run, scenes, models, engines, benchmark.steps) for run in runs}
    for k, folder in enumerate(benchmark.weights):
        results[str(folder)] = _judged(benchmark, {run: each[k] for run, each in every.items()}, len(scenes))
    if benchmark.gallery:
        write_png(benchmark.gallery, gallery(_together([every[run][0] for run in runs], len(scenes))))
    print(json.dumps(results))


def _together(every: list[Sampled], prompts: int) -> Sampled:
    numbers = [each.letter_N5 + np.eye(5)[0] * prompts * i for i, each in enumerate(every)]
    word = {name: np.concatenate([each.word[name] for each in every]) for name in WORDS}
    return Sampled(word, np.concatenate(numbers), [letter for each in every for letter in each.letters])


def _judged(benchmark: Benchmark, by_run: dict[Path, Sampled], prompts: int) -> dict[str, object]:
    """Print and return the tables of one judge."""
    results: dict[str, object] = {}
    for run, each in [*by_run.items(), ("all", _together(list(by_run.values()), prompts))]:
        results[str(run)] = row = summary(each)
        print(run, {k: round(v, 3) for k, v in row.items()}, flush=True)
    against = zip(benchmark.stages, benchmark.against, strict=bool(benchmark.against))
    pairs = [(by_run[a], by_run[b]) for a, b in against]
    compared = {str(run): [pair] for run, pair in zip(benchmark.stages, pairs, strict=False)}
    for shown, chosen in (compared | {"pooled": pairs}).items() if pairs else ():
        results[f"{shown} beside"] = table = differences(chosen)
        print(f"{shown} beside", {k: [round(v, 3) for v in each] for k, each in table.items()}, flush=True)
    return results


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
