"""The reward `glyph` on nano's own samples, beside their distance to the true rendering.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.glyph_samples --weights runs/glyph --stages
         runs/repair/sft runs/repair/grpo
         ... --weights runs/seed1 --stages runs/ocr_glyph0 runs/ocr_glyph1 --against runs/ocr0 runs/ocr1

In nano a full caption fixes the image, so a letter's error needs no eyes: it is the difference of its cell from the
rendered one, both as ink from 0 to 1, blurred by 0.7 pixels, at the best of shifts by a pixel, as a share of the ink.
Below 0.03 it is taken as sound, above 0.10 as broken. The error also counts a letter of the wrong size, so it is
imperfect. Every model samples the same held-out English captions from the same noise, without guidance.

    letters   areas under the curve of sound against broken, by letters, of the network and of the recogniser's
              likelihood of the cell; how many of the lowest 24 are broken, among all and among words that both engines
              read right
    words     shares that either engine reads right, the mean of the words' worst letters by the network, and the mean
              error
    beside    differences of --stages from --against, in their order, with 95 % intervals over prompts; "spelt": of the
              words that both engines read right in both; pooled: the mean over the pairs of each prompt

Prints tables, then one JSON line.
"""

from __future__ import annotations

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
from preference_data.records import Prompt
from preference_data.statistics.score_intervals import auc
from rewards.glyph.glyph import GlyphModel, read
from rewards.glyph.ink_frame import framed, levels
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

    weights: Path
    stages: tuple[Path, ...]
    """runs with a nano model"""
    against: tuple[Path, ...] = ()
    """as many runs, each beside the one of stages"""
    prompts: int = 96
    steps: int = 10

    def __post_init__(self) -> None:
        if not self.stages or self.prompts < 2 or (self.against and len(self.against) != len(self.stages)):
            raise ValueError(
                f"{len(self.stages)} stages against {len(self.against)} on {self.prompts} prompts: name a run "
                "beside each other run, and 2 prompts or more"
            )


@dataclass(frozen=True)
class Letter:
    """A letter of a word: its cell as uint8 [H, W, 3] and its error."""

    letter: str
    cell_HW3: np.ndarray
    error: float


@dataclass(frozen=True)
class Sampled:
    """What a model wrote: numbers by word [P], and (word, error, glyph, likelihood, letter) by letter [N, 5]."""

    word: dict[str, np.ndarray]
    letter_N5: np.ndarray


def letters(scene: Scene, image_HW3: np.ndarray) -> list[Letter]:
    """The letters of an image of a scene."""
    truth_HW3, results = render(scene).transpose(1, 2, 0), []
    for i, letter in enumerate(scene.word):
        mask = glyph(letter, scene.face, SIZES[scene.size])
        top, left = above(scene, mask.height), (first_cell(scene) + i) * CELL
        rows = slice(max(top - 2, 0), top + mask.height + 2)
        cell_HW3 = np.ascontiguousarray(image_HW3[rows, left : left + CELL])
        far = error(cell_HW3, truth_HW3[rows, left : left + CELL], COLOURS[scene.background])
        results.append(Letter(letter, cell_HW3, far))
    return results


def sampled(run: Path, scenes: list[Scene], model: GlyphModel, engines: Engines, steps: int) -> Sampled:
    """Let a run's model write the scenes, and measure what it wrote."""
    flow = find_model(str(run)).load("cpu")
    noise = fixed_noise(flow, len(scenes), SEED)
    requested = prompted(flow, [scene.caption for scene in scenes], 1.0)
    chunks = [images for _, _, images in generate_chunks(flow, requested, noise, Sampler(steps=steps))]
    images_P3HW = np.concatenate(chunks)
    prompts = [Prompt.from_text(scene.caption) for scene in scenes]
    word = {name: reader(prompts, images_P3HW).parts["exact"] for name, reader in engines.readers.items()}
    rows: list[tuple[float, ...]] = []
    for i, (scene, image_3HW) in enumerate(zip(scenes, images_P3HW, strict=True)):
        for each in letters(scene, image_3HW.transpose(1, 2, 0)):
            crop_ZZ = framed(each.cell_HW3)
            value = 0.0 if crop_ZZ is None else float(model.score([crop_ZZ], [each.letter])[0][0])
            rows.append((i, each.error, value, engines.likelihood(each), ord(each.letter)))
    letter_N5 = np.array(rows)
    of = [letter_N5[letter_N5[:, 0] == i] for i in range(len(scenes))]
    word |= {
        "glyph": np.array([each[:, 2].min() for each in of]),
        "error": np.array([each[:, 1].mean() for each in of]),
    }
    return Sampled(word, letter_N5)


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
        "broken_spelt": float((far_N[spelt_N] > BROKEN).mean()),
    }  # fmt: skip
    if 0 < sound.sum() < len(sound):
        area = auc(value_N[clear], sound, letter_N[clear])
        result |= {"auc": area.value, "low": area.low, "high": area.high}
        result["likelihood_auc"] = auc(likelihood_N[clear], sound, letter_N[clear]).value
    return result


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
    _, model = read(benchmark.weights)
    engines = Engines()
    scenes = make_scenes(PromptPlan(count=benchmark.prompts, seed=SEED, heldout=True))
    results: dict[str, object] = {}
    by_run = {run: sampled(run, scenes, model, engines, benchmark.steps)
             for run in (*benchmark.stages, *benchmark.against)}  # fmt: skip
    every = Sampled({name: np.concatenate([each.word[name] for each in by_run.values()]) for name in WORDS},
                    np.concatenate([each.letter_N5 + np.eye(5)[0] * len(scenes) * i
                                    for i, each in enumerate(by_run.values())]))  # fmt: skip
    for run, each in [*by_run.items(), ("all", every)]:
        results[str(run)] = row = summary(each)
        print(run, {k: round(v, 3) for k, v in row.items()}, flush=True)
    pairs = [
        (by_run[a], by_run[b]) for a, b in zip(benchmark.stages, benchmark.against, strict=bool(benchmark.against))
    ]
    compared = {str(run): [pair] for run, pair in zip(benchmark.stages, pairs, strict=False)}
    for shown, chosen in (compared | {"pooled": pairs}).items() if pairs else ():
        results[f"{shown} beside"] = table = differences(chosen)
        print(f"{shown} beside", {k: [round(v, 3) for v in each] for k, each in table.items()}, flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
