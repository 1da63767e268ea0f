"""The reward `glyph` on nano's own samples, beside their distance to the true rendering.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.glyph_samples --weights runs/glyph --stages
         runs/repair/sft runs/repair/grpo
         ... --weights runs/seed0 runs/seed1 --stages runs/ocr_glyph0 runs/ocr_glyph1 --against runs/ocr0 runs/ocr1

In nano a full caption fixes the image, so a letter's error needs no eyes: it is the difference of its cell from the
rendered one, both as ink from 0 to 1, blurred by 0.7 pixels, at the best of shifts by a pixel, as a share of the ink.
Below 0.03 it is taken as sound, above 0.10 as broken. That error also counts a sound letter of another size or place.
So there is a second one beside it, "fitted": what is left once the letter has been moved, scaled and slanted onto the
rendered one (`cv2.findTransformECC`, affine, within MOST of a pixel and SCALES), or the first where that finds nothing
better; below 0.02 is sound, above 0.06 broken. Every model samples the same held-out English captions from the same
noise, without guidance.

    letters   areas under the curve of sound against broken, by letters, of the network and of the recogniser's
              likelihood of the cell, among all and among words that both engines read right ("spelt"); of the lowest 24
              of either, the share that are broken, of "spelt" with the 95 % interval and beside all such letters; the
              same by the fitted error
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
FITTED_SOUND, FITTED_BROKEN = 0.02, 0.06
SCALES, MOST = (0.75, 1.33), 4.0
"""of a fit: scales in any direction, and pixels that the middle may move in either"""
EDGE = 5
"""pixels above and below a letter's cell that a fit may use"""
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
    """A letter of a word: its cell and the rendered one as uint8 [H, W, 3], and its errors."""

    letter: str
    cell_HW3: np.ndarray
    true_HW3: np.ndarray
    error: float
    fitted: float


@dataclass(frozen=True)
class Sampled:
    """What a model wrote, by one judge: numbers by word [P], (word, error, glyph, likelihood, letter, fitted error) by
    letter [N, 6], and the letters."""

    word: dict[str, np.ndarray]
    letter_N6: np.ndarray
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
        ground = COLOURS[scene.background]
        far = error(cell_HW3, true_HW3, ground)
        rows = slice(max(rows.start - EDGE, 0), rows.stop + EDGE)
        pair = [each[rows, left : left + CELL] for each in (image_HW3, truth_HW3)]
        results.append(Letter(letter, cell_HW3, true_HW3, far, min(far, fitted_error(*pair, ground))))
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
        names_N, fitted_N = [ord(each.letter) for each in every], [each.fitted for each in every]
        rows = (word_N, far_N, value_N, likelihood_N, names_N, fitted_N)
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


def fitted_error(cell_HW3: np.ndarray, true_HW3: np.ndarray, ground: tuple[int, int, int]) -> float:
    """How far a letter is from the rendered one once it has been fitted onto it, as a share of the ink; 1 where it is
    blank or no fit within the bounds is found."""
    import cv2

    ground_3 = np.array(ground, np.float32)
    level_HW, true_HW = levels(cell_HW3, ground_3), levels(true_HW3, ground_3)
    if level_HW is None or true_HW is None:
        return 1.0
    a_HW, b_HW = (cv2.GaussianBlur(np.pad(each, 4), (0, 0), 0.7) for each in (level_HW, true_HW))
    matrix_23 = np.eye(2, 3, dtype=np.float32)
    try:
        for motion in (cv2.MOTION_TRANSLATION, cv2.MOTION_AFFINE):
            stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-4)
            _, matrix_23 = cv2.findTransformECC(b_HW, a_HW, matrix_23, motion, stop, None, 1)
    except cv2.error:  # it does not converge
        return 1.0
    scale_2 = np.linalg.svd(matrix_23[:, :2], compute_uv=False)
    middle_2 = np.array(b_HW.shape[::-1]) / 2
    if scale_2.min() < SCALES[0] or scale_2.max() > SCALES[1]:
        return 1.0
    if np.abs(matrix_23 @ [*middle_2, 1] - middle_2).max() > MOST:
        return 1.0
    fitted_HW = cv2.warpAffine(a_HW, matrix_23, b_HW.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return float(((fitted_HW - b_HW) ** 2).sum() / max((b_HW**2).sum(), 1e-6))


def summary(sampled: Sampled) -> dict[str, float]:
    """Means by word, and areas of the network and of the recogniser's likelihood by letter."""
    word_N, far_N, value_N, likelihood_N, letter_N, fitted_N = sampled.letter_N6.T
    spelt_N = ((sampled.word["ocr"] == 1) & (sampled.word["gold"] == 1))[word_N.astype(int)]
    result = {name: float(values.mean()) for name, values in sampled.word.items()}
    result |= {
        "letters": float(len(far_N)),
        "letters_spelt": float(spelt_N.sum()),
        "error_median": float(np.median(far_N)),
    }
    truths = (("", far_N < SOUND, far_N > BROKEN), ("fitted_", fitted_N < FITTED_SOUND, fitted_N > FITTED_BROKEN))
    for truth, sound_N, broken_N in truths:
        for shown, of_N in (("", np.ones_like(spelt_N)), ("_spelt", spelt_N)):
            lowest = np.flatnonzero(of_N)[np.argsort(value_N[of_N], kind="stable")[:24]]
            counts = {
                "sound": sound_N[of_N].sum(),
                "broken": broken_N[of_N].sum(),
                "lowest_24": broken_N[lowest].mean(),
            }
            result |= {f"{truth}{name}{shown}": float(value) for name, value in counts.items()}
            clear_N = of_N & (sound_N | broken_N)
            if 0 < sound_N[clear_N].sum() < clear_N.sum():
                area = auc(value_N[clear_N], sound_N[clear_N], letter_N[clear_N])
                low = {"auc": area.value, "low": area.low, "high": area.high}
                low["likelihood_auc"] = auc(likelihood_N[clear_N], sound_N[clear_N], letter_N[clear_N]).value
                result |= {f"{truth}{name}{shown}": value for name, value in low.items()}
        counted = wilson(round(24 * result[f"{truth}lowest_24_spelt"]), 24)
        result |= {f"{truth}lowest_24_spelt_low": counted.low, f"{truth}lowest_24_spelt_high": counted.high}
    return result


def gallery(sampled: Sampled) -> np.ndarray:
    """uint8 [3, H, W]: the lowest 24 letters of words that both engines read right, above what should be."""
    import cv2

    word_N, far_N, value_N, _, _, fitted_N = sampled.letter_N6.T
    spelt_N = np.flatnonzero(((sampled.word["ocr"] == 1) & (sampled.word["gold"] == 1))[word_N.astype(int)])
    columns = []
    for i in spelt_N[np.argsort(value_N[spelt_N], kind="stable")[:24]]:
        each = sampled.letters[i]
        pair = [cv2.resize(cell, (64, 96), interpolation=cv2.INTER_NEAREST) for cell in (each.cell_HW3, each.true_HW3)]
        broken = (far_N[i] > BROKEN, fitted_N[i] > FITTED_BROKEN)
        marks = [np.full((8, 64, 3), 255 * each, np.uint8) for each in broken]
        columns.append(np.pad(np.concatenate([*pair, *marks]), ((0, 0), (0, 6), (0, 0)), constant_values=128))
    return np.concatenate(columns, 1).transpose(2, 0, 1)


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
    numbers = [each.letter_N6 + np.eye(6)[0] * prompts * i for i, each in enumerate(every)]
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
