"""What the reward `glyph` sees: sound characters against broken ones, on faces, characters and damage it has not seen.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.glyph --weights runs/glyph runs/glyph_1

Folders are those of `glyphlab train-glyph`; kinds of damage that a folder did not learn are measured as left out. Areas
under the curve are of sound against broken, each half of the crops, with 95 % intervals by characters:

    same faces          faces and characters of training, crops of another seed
    face NAME           each face that is in no training; `--chinese-faces FILE.ttf` adds files, since no installed
                        package has a Chinese face that differs from those of training
    other characters    Chinese characters that are in no training
    kind NAME           one kind of damage alone, on faces of training; "left out" where it was not learned
    read right          of the same faces' crops, those that PP-OCRv6 reads right, beside the likelihood it gives the
                        character
    below, above        true renderings below 0.5; blank, half and solid crops above 0.5. Half an F may be a narrow F:
                        a half that is as like a whole character of some face of training as 95 % of sound crops are is
                        that character, and "above_other_half" counts the others alone
    in words            the same of words of two to six characters: the characters below 0.5, and of words with one half
                        those halves above 0.5, beside what the same characters score without their neighbours
    word                milliseconds of the processor for a word of five letters, image to score

`--gallery FILE.png` writes the crops with the lowest and the highest scores, with what they should be and the map.
Prints a table, then one JSON line.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image, ImageDraw

from base_model.data.glyphs.crops import BLANK, HALF, SOLID, Source, crop
from base_model.data.glyphs.damage import KINDS
from base_model.data.glyphs.shapes import BARS, LANGUAGES, TRAINING, UNSEEN, Cut, alphabet, cuts, rendered
from base_model.data.glyphs.texture import CLEAN
from base_model.data.rendered_text import render, scene
from base_model.data.writing.faces import Face, font, own_face, undrawable
from experiments.record.whole_files import write_png
from experiments.reward_models.glyph_examples import Labelled, References, all_references, fitted, made
from experiments.reward_models.glyph_levels import shapes_of
from experiments.reward_models.train_glyph import scores
from preference_data.records import Prompt
from preference_data.statistics.score_intervals import auc
from rewards.glyph.glyph import Glyph, GlyphModel, content_of, read
from rewards.glyph.locate import Locator
from rewards.text.ocr_likelihood import ctc_likelihood
from rewards.text.reading.read_page import as_line
from rewards.text.recognisers import V6, OnnxRecogniser, decode, find_weights

SEED = 20_000
OTHER_HALF = "other_half"
"""a half that is no whole character in any face"""
AS_SOUND, SOUND_CROPS = 0.95, 800
"""share of so many sound crops that are as like a face"""


@dataclass(frozen=True)
class Benchmark:
    """Which networks, and how many crops."""

    weights: tuple[Path, ...]
    """folders of `glyphlab train-glyph`"""
    chinese_faces: tuple[Path, ...] = ()
    """files of Chinese faces that were in no training"""
    crops: int = 1000
    """of each row"""
    words: int = 60
    """of the last row"""
    only: str = ""
    """a regular expression: rows whose names it matches, and no words or readings; "" = all"""
    gallery: Path | None = None
    """PNG of the lowest and highest scored crops of the first folder"""

    def __post_init__(self) -> None:
        if not self.weights or self.crops < 50 or self.words < 3:
            raise ValueError(
                f"weights={self.weights}, crops={self.crops}, words={self.words}: name a folder, and at least 50 and 3"
            )


def sets(benchmark: Benchmark) -> dict[str, Source]:
    """The crops of each row, by its name."""
    results: dict[str, Source] = {}
    for language in LANGUAGES:
        faces = tuple((language, face) for face in TRAINING[language])
        results[f"{language}, same faces"] = Source(faces, sound=0.5, empty=0.0, seed=SEED)
        unseen = [*UNSEEN[language]]
        if language != "en":
            unseen += [own_face(path, language) for path in benchmark.chinese_faces]
        for face in unseen:
            results[f"{language}, face {face.name}"] = Source(((language, face),), sound=0.5, empty=0.0, seed=SEED + 1)
        if language != "en":
            characters = ((language, alphabet(language, held_out=True)),)
            results[f"{language}, other characters"] = Source(faces, characters, sound=0.5, empty=0.0, seed=SEED + 2)
        for kind in KINDS:
            results[f"{language}, kind {kind}"] = replace(results[f"{language}, same faces"], kinds=(kind,))
        every = faces + tuple((language, face) for face in unseen)
        results[f"{language}, true renderings"] = Source(
            every, sound=1.0, empty=0.0, conditions=CLEAN, seed=SEED + 3
        )  # fmt: skip
        shaped = ((language, shapes_of(language)),)
        results[f"{language}, empty"] = Source(faces, shaped, sound=0.0, empty=1.0, seed=SEED + 4)
    return results


def out_of_focus(crop_ZZ: np.ndarray) -> np.ndarray:
    """float32 [ZZ]: a crop in 8 bits, blurred, without its mean and of length 1."""
    import cv2

    level_ZZ = cv2.GaussianBlur(crop_ZZ.astype(np.float32), (0, 0), 1.2)
    level_ZZ -= level_ZZ.mean()
    result: np.ndarray = (level_ZZ / max(float(np.linalg.norm(level_ZZ)), 1e-6)).ravel()
    return result


def likeness_to_faces(labelled: Labelled, faces: Sequence[Face]) -> np.ndarray:
    """Cosine [N] of each crop to its character in the face that is nearest, at the best of shifts by a pixel."""
    shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    whole: dict[str, np.ndarray] = {}
    for character in dict.fromkeys(labelled.characters):
        upright = [fitted(rendered(cut, character)) for cut in cuts(faces) if not undrawable(cut.face, character)]
        moved = [np.roll(each, shift, (0, 1)) for each in upright for shift in shifts]
        whole[character] = np.stack([out_of_focus(each) for each in moved])
    pairs = zip(labelled.examples.crop_NZZ, labelled.characters, strict=True)
    return np.array([(whole[character] @ out_of_focus(crop_ZZ)).max() for crop_ZZ, character in pairs])


def whole_somewhere(source: Source, labelled: Labelled, table: References) -> np.ndarray:
    """Whether crops [N] of a source are as like their character in a face of it as ``AS_SOUND`` of sound ones are."""
    faces = [face for _, face in source.faces]
    sound = made(replace(source, sound=1.0, empty=0.0), SOUND_CROPS, table)
    least = np.quantile(likeness_to_faces(sound, faces), 1 - AS_SOUND)
    result: np.ndarray = likeness_to_faces(labelled, faces) >= least
    return result


def measured(name: str, model: GlyphModel, labelled: Labelled, whole_somewhere_N: np.ndarray) -> dict[str, Any]:
    """The numbers of a row; `whole_somewhere_N` says which empty crops are their character in another face."""
    value_N, sound_N = scores(model, labelled), labelled.examples.sound_N
    if name.endswith("true renderings"):
        return {"below": float((value_N < 0.5).mean()), "count": len(value_N), "least": float(value_N.min())}
    if name.endswith("empty"):
        kinds = np.array(labelled.kinds)
        blank = (labelled.examples.crop_NZZ == 0).all((1, 2))  # the reward gives these 0 and asks no network
        value_N = np.where(blank, 0.0, value_N)
        of = {kind: kinds == kind for kind in (BLANK, HALF, SOLID)}
        of[OTHER_HALF] = of[HALF] & ~whole_somewhere_N
        return {f"above_{kind}": float((value_N[chosen_N] > 0.5).mean()) for kind, chosen_N in of.items()} | {
            f"count_{kind}": int(chosen_N.sum()) for kind, chosen_N in of.items()
        }
    area = auc(value_N, sound_N, labelled.examples.character_N)
    return {"auc": area.value, "low": area.low, "high": area.high, "count": len(value_N)}


def read_right(model: GlyphModel, source: Source, count: int, table: References) -> dict[str, Any]:
    """Areas of the network and of the recogniser's likelihood, on the crops that it reads right."""
    recogniser = OnnxRecogniser(find_weights(V6))
    classes = {character: k for k, character in enumerate(recogniser.characters)}
    labelled = made(source, count, table)
    value_N = scores(model, labelled)
    likelihood_N, right_N = np.zeros(count), np.zeros(count, bool)
    for i in range(count):
        each = crop(source, i)
        probabilities_LK = recogniser.probabilities(as_line(each.image_HW3))
        same = {each.character, each.character.lower(), each.character.upper()}
        likelihood_N[i] = ctc_likelihood(probabilities_LK, [[classes[c] for c in same if c in classes]])
        right_N[i] = decode(probabilities_LK, recogniser.characters).text.strip() in same
    sound_N, cluster_N = labelled.examples.sound_N, labelled.examples.character_N
    areas = {name: auc(v[right_N], sound_N[right_N], cluster_N[right_N]).value for name, v in
             (("auc", value_N), ("likelihood_auc", likelihood_N))}  # fmt: skip
    return {**areas, "count": int(right_N.sum()), "broken_read_right": float(right_N[~sound_N].mean())}


def word_milliseconds(folder: Path, words: int) -> dict[str, float]:
    """Median time of the processor for a word, and the share of true words whose worst letter is below 0.5."""
    scorer = Glyph(folder).load()
    times, values = [], []
    for i in range(words):
        each = scene(np.random.default_rng((SEED, i)), 5)
        prompt, image = Prompt.from_text(f'"{each.word}"'), render(each)[None]
        start = time.process_time()
        values.append(float(scorer([prompt], image).value_B[0]))
        times.append(1000 * (time.process_time() - start))
    return {"milliseconds": float(np.median(times)), "words_below": float(np.mean(np.array(values) < 0.5))}


def line(cut: Cut, text: str, size: int, rng: np.random.Generator, half: int | None) -> np.ndarray:
    """uint8 [H, W, 3]: a text in a face, of whose character ``half`` a half is left out; blurred, with grain."""
    import cv2

    type_face = font(cut.face, cut.weight, size)
    page_HW = np.zeros((2 * size, 40 + round(1.2 * sum(map(type_face.getlength, text)))), np.float32)
    x = 20.0
    for i, character in enumerate(text):
        image = Image.new("L", page_HW.shape[::-1])
        ImageDraw.Draw(image).text((x, 1.4 * size), character, fill=255, font=type_face, anchor="ls")
        ink_HW = np.asarray(image, np.float32).copy()
        if i == half:
            (top, bottom), (left, right) = (np.flatnonzero(ink_HW.max(axis) > 127)[[0, -1]] for axis in (1, 0))
            y, x_half = (top + bottom + 1) // 2, (left + right + 1) // 2
            ink_HW[(np.s_[:, x_half:], np.s_[:, :x_half], np.s_[y:], np.s_[:y])[rng.integers(4)]] = 0
        page_HW = np.maximum(page_HW, ink_HW)
        x += type_face.getlength(character) * rng.uniform(1.0, 1.15)
    ground_3, ink_3 = rng.integers(180, 256, 3), rng.integers(0, 80, 3)
    image_HW3 = ground_3 + (ink_3 - ground_3) * (page_HW[..., None] / 255) + rng.normal(0, 3, (*page_HW.shape, 3))
    return np.clip(cv2.GaussianBlur(image_HW3, (0, 0), rng.uniform(0.2, 0.9)), 0, 255).astype(np.uint8)


def in_words(model: GlyphModel, language: str, faces: Sequence[Face], words: int, halves: bool) -> dict[str, Any]:
    """Of words in faces: how many whole characters score below 0.5, or how many halves above it."""
    locator, characters, every = Locator("onnxruntime"), alphabet(language), cuts(faces)
    count, wrong, alone = 0, 0, 0
    for i in range(words):
        rng = np.random.default_rng((SEED, i))
        cut = every[rng.integers(len(every))]
        text = "".join(rng.choice(list(characters), rng.integers(2, 7)))
        text = (text.upper(), text.lower(), text)[rng.integers(3)]
        halvable = [k for k, each in enumerate(text) if each not in BARS]
        if not halvable or any(undrawable(cut.face, each) for each in text):
            continue
        half = int(rng.choice(halvable)) if halves else None
        image_HW3 = line(cut, text, int(rng.integers(18, 48)), rng, half)
        cells = [cell for word in locator.words(image_HW3, [text], frozenset(model.references)) for cell in word]
        chosen = [half] if half is not None else list(range(len(text)))
        value_N = model.score_cells(cells)[chosen]
        single_N = np.concatenate([model.score_cells([cells[k]]) for k in chosen])
        count += len(chosen)
        wrong += int(((value_N > 0.5) == halves).sum())
        alone += int(((single_N > 0.5) == halves).sum())
    return {"count": count, "wrong": wrong, "without_neighbours": alone}


def words_rows(model: GlyphModel, words: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and numbers of each row of ``in_words``."""
    for split, of_language in (("same faces", TRAINING), ("unseen faces", UNSEEN)):
        for language, faces in of_language.items():
            for kind in ("whole", "halves") if faces else ():
                yield (
                    f"{language}, in words, {split}, {kind}",
                    in_words(model, language, faces, words, kind == "halves"),
                )


def gallery(model: GlyphModel, labelled: Labelled, across: int = 24) -> np.ndarray:
    """uint8 [3, H, W]: lowest and highest scored, of sound and of broken characters; crop, reference and map."""
    examples = labelled.examples
    value_N = scores(model, labelled)
    rows = []
    for sound in (True, False):
        of = np.flatnonzero(examples.sound_N == sound)
        order = of[np.argsort(value_N[of])]
        for chosen in (order[:across], order[-across:]):
            crops = list(examples.crop_NZZ[chosen])
            map_N = model.maps(crops, [labelled.characters[i] for i in chosen])
            cells = [
                np.concatenate([x, examples.references_C2ZZ[examples.character_N[i], 0],
                                np.kron(np.rint(m * 255).astype(np.uint8), np.ones((4, 4), np.uint8))])
                for x, i, m in zip(crops, chosen, map_N, strict=True)
            ]  # fmt: skip
            rows.append(np.pad(np.concatenate(cells, 1), ((0, 8), (0, 0)), constant_values=128))
    page = np.kron(np.concatenate(rows), np.ones((2, 2), np.uint8))
    return np.stack([page] * 3)


def main(benchmark: Benchmark) -> None:
    """Measure, print and end with one JSON line."""
    table, results = all_references(), {}
    models = {folder: read(folder)[1] for folder in benchmark.weights}
    learned = {folder: content_of(folder)["kinds"] for folder in benchmark.weights}
    chosen = {name: source for name, source in sets(benchmark).items() if re.search(benchmark.only, name)}
    for name, source in chosen.items():
        labelled = made(source, benchmark.crops, table)
        whole_N = np.ones(benchmark.crops, bool)
        if name.endswith("empty"):
            whole_N = whole_somewhere(source, labelled, table)
        for folder, model in models.items():
            kind = name.rpartition(" kind ")[2]
            shown = f"{name}, left out" if kind in KINDS and kind not in learned[folder] else name
            results[f"{folder.name}: {shown}"] = row = measured(name, model, labelled, whole_N)
            print(f"{folder.name}: {shown}", {k: round(v, 3) for k, v in row.items()}, flush=True)
        if benchmark.gallery and name == "zh-Hans, same faces":
            write_png(benchmark.gallery, gallery(models[benchmark.weights[0]], labelled))
    for folder, model in models.items() if not benchmark.only else ():
        for language in LANGUAGES:
            source = Source(tuple((language, f) for f in TRAINING[language]), sound=0.5, empty=0.0, seed=SEED)
            row = read_right(model, source, benchmark.crops, table)
            results[f"{folder.name}: {language}, read right"] = row
            print(f"{folder.name}: {language}, read right", {k: round(v, 3) for k, v in row.items()}, flush=True)
        for shown, row in words_rows(model, benchmark.crops // 2):
            results[f"{folder.name}: {shown}"] = row
            print(f"{folder.name}: {shown}", row, flush=True)
        results[f"{folder.name}: word"] = row = word_milliseconds(folder, benchmark.words)
        print(f"{folder.name}: word", {k: round(v, 3) for k, v in row.items()}, flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
