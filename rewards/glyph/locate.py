"""Where the characters of a prompt's texts stand in an image, each with its ink.

A single line on a plain ground whose letters do not touch is cut at its gaps, as a board of cells is. Otherwise lines
are detected and read, and the wanted text is aligned with what the recogniser saw, whether it read it or not: its
columns are looked up for the best path that spells the text,

    (1)  cost_l(c) = log max_k p_lk - log p_lc          of column l for a character or the blank, at most CLIP
    (2)  path = argmin sum_l cost_l(pi_l)               over paths that collapse to the text; the rest is free

so that a broken character is found between its neighbours although the recogniser reads another there. Neighbours are
parted where the ink between them is least.

Legend: HW3 an image, HW its pixels, L columns of the recogniser, N characters of a text.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preference_data.texts.normalised_text import is_wide
from rewards.glyph.ink_frame import INK, levels
from rewards.text.reading.detector import Detector, cut_out, in_reading_order, is_tall
from rewards.text.reading.ink import border, ground_of, text_crop
from rewards.text.reading.read_page import as_line
from rewards.text.recognisers import V4, V4_DETECTION, V6, V6_DETECTION, WIDTH_STEP, OnnxRecogniser, find_weights

ENGINES = ("onnxruntime", "onnxruntime_v4")
CLIP = 8.0
"""nats"""
HOPELESS = 0.85
"""of CLIP: a text whose characters cost more on average stands nowhere"""
PLAIN = 0.95
"""of the border in one colour: a plain ground"""
TALL = 0.45
"""of the highest run of inked rows: what is lower is a dot or an accent"""
GROWN = 0.12
"""of a detected box's height, that is added to both ends of it"""
LEVEL = 0.03
"""slope up to which a detected line is taken as level"""
MIDDLE = 0.05
"""of a line's height: ink that a cut may cross rather than lie beside one neighbour instead of between both"""
SPECK = 0.3
"""of a line's height: what is lower and touches the upper or lower edge belongs to another line"""
ALIKE = ("O0o", "Il1|", "Ss5", "Zz2", "Cc", "Vv", "Ww", "Xx", "Uu", "Kk", "Pp")


@dataclass(frozen=True)
class Cell:
    """A character and the ink where it should stand; None where it stands nowhere."""

    character: str
    level_HW: np.ndarray | None
    line: int = 0
    """cells of one line have its height"""


@dataclass(frozen=True)
class _Line:
    """A line: its ink, and what the recogniser saw."""

    level_HW: np.ndarray
    probabilities_LK: np.ndarray
    step: float
    """pixels of the ink a column"""


class Locator:
    """A detector and a recogniser, opened when the first image needs them."""

    def __init__(self, engine: str) -> None:
        v4 = engine == "onnxruntime_v4"
        self._recogniser = OnnxRecogniser(find_weights(V4 if v4 else V6))
        self._detector = Detector(find_weights(V4_DETECTION if v4 else V6_DETECTION))
        self._classes = {character: k for k, character in enumerate(self._recogniser.characters)}

    def words(self, image_HW3: np.ndarray, texts: Sequence[str], known: frozenset[str]) -> list[list[Cell]]:
        """The words of all texts, each with those of its characters that are in ``known``."""
        wanted = [[c for c in text if not c.isspace()] for text in texts]
        alone = single_line(image_HW3, wanted)
        cells = at_gaps(alone, wanted[0]) if alone is not None and len(wanted) == 1 else None
        if cells is None:
            cells = self._read(image_HW3, alone, wanted)
        words: list[list[Cell]] = []
        for text, of_text in zip(texts, cells, strict=True):
            rest = iter(of_text)
            word: list[Cell] = []
            for character in text:
                cell = None if character.isspace() else next(rest)
                if cell is not None and character in known:
                    word.append(cell)
                elif not character.isalnum() and word:  # a blank or punctuation ends a word
                    words.append(word)
                    word = []
            words.append(word)
        return [word for word in words if word]

    def _read(
        self, image_HW3: np.ndarray, alone: np.ndarray | None, wanted: Sequence[Sequence[str]]
    ) -> list[list[Cell]]:
        lines = [line for crop in self._crops(image_HW3, alone) if (line := self._line(crop)) is not None]
        none = [[Cell(c, None) for c in text] for text in wanted]
        if not lines:
            return none
        cost_LK, first_of = joined(lines)
        columns: list[list[int] | None] = [None] * len(wanted)
        for i in sorted(range(len(wanted)), key=lambda i: -len(wanted[i])):
            columns[i] = align(cost_LK, [self._equal(c) for c in wanted[i]], (0, self._classes.get(" ", 0)))
            if columns[i]:
                cost_LK[min(columns[i] or []) : max(columns[i] or []) + 1] = CLIP  # no two texts in the same columns
        every = sorted(column for each in columns if each for column in each)
        edges = [_edges(line, every, start) for line, start in zip(lines, first_of, strict=True)]
        return [
            [_cell(c, column, lines, first_of, edges) for c, column in zip(text, each, strict=True)] if each else empty
            for text, each, empty in zip(wanted, columns, none, strict=True)
        ]

    def _crops(self, image_HW3: np.ndarray, alone: np.ndarray | None) -> list[np.ndarray]:
        if alone is not None:
            return [alone]
        boxes = in_reading_order(self._detector.find(image_HW3))
        crops = [_upright(image_HW3, box) for box in boxes]
        return [np.ascontiguousarray(np.rot90(crop)) if is_tall(crop) and _is_turned(crop) else crop for crop in crops]

    def _line(self, crop_HW3: np.ndarray) -> _Line | None:
        level_HW = levels(crop_HW3)
        if level_HW is None:
            return None
        scaled = as_line(crop_HW3)
        probabilities_LK = self._recogniser.probabilities(scaled)
        step = WIDTH_STEP * crop_HW3.shape[1] / scaled.shape[1]
        return _Line(_without_specks(level_HW), probabilities_LK, step)

    def _equal(self, character: str) -> list[int]:
        """The classes that count as a character: its cases, and what has its shape."""
        alike = {character, *next((group for group in ALIKE if character in group), "")}
        if character.isascii():
            alike |= {character.lower(), character.upper()}
        return [self._classes[c] for c in sorted(alike) if c in self._classes]


def single_line(image_HW3: np.ndarray, wanted: Sequence[Sequence[str]]) -> np.ndarray | None:
    """The crop of an image that is one line on a plain ground; None for any other.

    What has blank rows between parts of about one height is two lines, unless a character or two are wanted that stand
    as wide as they would on one: then the parts are strokes, as in a Chinese two.
    """
    ground_3 = ground_of(image_HW3)
    if (np.abs(border(image_HW3) - ground_3).max(axis=1) < 32).mean() < PLAIN:
        return None
    crop_HW3 = text_crop(image_HW3)
    level_HW = None if crop_HW3 is None else levels(crop_HW3, ground_3)
    if crop_HW3 is None or level_HW is None:
        return None
    high = [stop - start for start, stop in _runs(level_HW.max(axis=1) > INK)]
    tall = [each for each in high if each > TALL * max(high)]
    widths = [1.0 if is_wide(c) else 0.5 for text in wanted for c in text]
    height, width = crop_HW3.shape[:2]
    upright = len(widths) > 1 and height > 2.5 * width
    if not high or upright or (len(tall) > 1 and (len(widths) > 2 or width < 0.5 * sum(widths) * height)):
        return None
    return crop_HW3


def at_gaps(crop_HW3: np.ndarray, wanted: Sequence[str]) -> list[list[Cell]] | None:
    """The cells of a line whose inked runs of columns are as many as its letters; None where they are not.

    Wide characters are made of parts with gaps between them, so only one alone is taken this way."""
    if len(wanted) > 1 and any(is_wide(c) for c in wanted):
        return None
    level_HW = levels(crop_HW3)
    if level_HW is None:
        return None
    ink_W = (level_HW > INK).sum(axis=0) >= 1
    runs = [(0, len(ink_W))] if len(wanted) == 1 else _runs(ink_W)
    if len(runs) != len(wanted):
        return None
    middles = [(before[1] + after[0]) // 2 for before, after in itertools.pairwise(runs)]  # faint edges stay whole
    ends = list(itertools.pairwise([0, *middles, level_HW.shape[1]]))
    return [[Cell(c, _part(level_HW, a, b)) for c, (a, b) in zip(wanted, ends, strict=True)]]


def _runs(on_W: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of each run of True."""
    change = np.flatnonzero(np.diff(np.concatenate([[0], on_W.astype(np.int8), [0]])))
    return list(zip(change[::2].tolist(), change[1::2].tolist(), strict=True))


def joined(lines: Sequence[_Line]) -> tuple[np.ndarray, list[int]]:
    """(1) of all lines one after the other, each followed by a column of nothing, and the column each begins at."""
    parts, first_of, start = [], [], 0
    for line in lines:
        p_LK = np.maximum(line.probabilities_LK, 1e-9)
        between_1K = np.full((1, p_LK.shape[1]), CLIP)
        between_1K[0, 0] = 0.0
        parts += [np.minimum(np.log(p_LK.max(1, keepdims=True)) - np.log(p_LK), CLIP), between_1K]
        first_of.append(start)
        start += len(p_LK) + 1
    return np.concatenate(parts), first_of


def align(cost_LK: np.ndarray, target: Sequence[Sequence[int]], blank: Sequence[int]) -> list[int] | None:
    """(2): the column of each character of a text; None where there are too few columns, or it stands nowhere.

    ``target``: the classes that each character may be, () for one that the recogniser does not have."""
    N, L = len(target), len(cost_LK)
    if not N or L < N:
        return None
    states_LS = np.empty((L, 2 * N - 1))  # first character, blank, second character, ...
    states_LS[:, 1::2] = cost_LK[:, list(blank)].min(axis=1)[:, None]
    for i, classes in enumerate(target):
        states_LS[:, 2 * i] = cost_LK[:, list(classes)].min(axis=1) if len(classes) else CLIP
    skip = np.zeros(2 * N - 1, dtype=bool)  # from a character to the next one, where they differ
    skip[2::2] = [set(a).isdisjoint(b) or not a for a, b in zip(target[1:], target[:-1], strict=True)]
    total_S = np.full(2 * N - 1, np.inf)
    back_LS = np.zeros((L, 2 * N - 1), dtype=np.int8)
    best, end = np.inf, -1
    for column in range(L):
        options_3S = np.full((3, 2 * N - 1), np.inf)
        options_3S[0] = total_S
        options_3S[1, 1:] = total_S[:-1]
        options_3S[2, 2:] = np.where(skip[2:], total_S[:-2], np.inf)
        options_3S[1, 0] = 0.0  # it may begin at any column
        back_LS[column] = options_3S.argmin(axis=0)
        total_S = options_3S.min(axis=0) + states_LS[column]
        if total_S[-1] < best - 1e-9:
            best, end = float(total_S[-1]), column
    if end < 0 or best >= HOPELESS * CLIP * N:
        return None
    return _traced(states_LS, back_LS, end)


def _traced(states_LS: np.ndarray, back_LS: np.ndarray, end: int) -> list[int]:
    """The surest column of each character on the best path that ends in a column."""
    state = states_LS.shape[1] - 1
    column = end
    columns: dict[int, int] = {}
    while column >= 0:
        if state % 2 == 0:
            i = state // 2
            if i not in columns or states_LS[column, state] < states_LS[columns[i], state]:
                columns[i] = column
        step = int(back_LS[column, state])
        if state == 0 and step == 1:
            break
        state -= step
        column -= 1
    return [columns[i] for i in range(len(columns))]


def _edges(line: _Line, every: Sequence[int], start: int) -> dict[int, tuple[int, int]]:
    """Column -> (left, right) in pixels of the ink, for each column of a text in a line."""
    best_L = line.probabilities_LK.argmax(axis=1)
    own = [column - start for column in every if 0 <= column - start < len(best_L)]
    if not own:
        return {}
    fired = np.flatnonzero((best_L != 0) & (best_L != np.concatenate(([0], best_L[:-1]))))
    others = [int(column) for column in fired if column < min(own) - 1 or column > max(own) + 1]
    centres = sorted({*own, *others})
    cuts = _cuts(line.level_HW, [(c + 0.5) * line.step for c in centres])
    return {start + c: (cuts[i], cuts[i + 1]) for i, c in enumerate(centres) if c in own}


def _cuts(level_HW: np.ndarray, centres: Sequence[float]) -> list[int]:
    """The columns that part characters, from 0 to the line's width, by where the recogniser saw each."""
    height, width = level_HW.shape
    profile_W = level_HW.sum(axis=0)
    halves = [min(max(round((a + b) / 2), 1), width - 1) for a, b in itertools.pairwise(centres)]
    cuts = [0]
    for (left, right), half in zip(itertools.pairwise(centres), halves, strict=True):
        x = np.arange(max(round(left), 1), min(round(right) + 1, width))
        cost = profile_W[x] + MIDDLE * height * np.abs(x - half) / max(right - left, 1.0)
        cuts.append(max(int(x[np.argmin(cost)]) if len(x) else half, cuts[-1]))
    cuts.append(width)
    for i in range(1, len(centres)):  # two that touch have their gap beyond one of them
        if profile_W[cuts[i] : cuts[i + 1]].max(initial=0.0) < INK:
            cuts[i] = max(halves[i - 1], cuts[i - 1])
    return cuts


def _cell(
    character: str, column: int, lines: Sequence[_Line], first_of: Sequence[int],
    edges: Sequence[dict[int, tuple[int, int]]],
) -> Cell:  # fmt: skip
    number = int(np.searchsorted(first_of, column, side="right")) - 1
    if column not in edges[number]:
        return Cell(character, None)
    left, right = edges[number][column]
    return Cell(character, _part(lines[number].level_HW, left, right), number)


def _part(level_HW: np.ndarray, left: int, right: int) -> np.ndarray:
    """Columns of a line with two of ground on each side."""
    import cv2

    return cv2.copyMakeBorder(level_HW[:, left : max(right, left + 1)], 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(0.0,))


def _without_specks(level_HW: np.ndarray) -> np.ndarray:
    """The ink of a line without what reaches in from the lines above and below."""
    import cv2

    count, label_HW, stats, _ = cv2.connectedComponentsWithStats((level_HW > INK / 2).astype(np.uint8))
    height = level_HW.shape[0]
    tops, heights = stats[:, cv2.CC_STAT_TOP], stats[:, cv2.CC_STAT_HEIGHT]
    stray = ((tops == 0) | (tops + heights == height)) & (heights < SPECK * height)
    stray[0] = False
    if count < 2 or not stray.any():
        return level_HW
    return np.where(stray[label_HW], 0.0, level_HW).astype(np.float32)


def _upright(image_HW3: np.ndarray, corners_42: np.ndarray) -> np.ndarray:
    """What stands in a detected box with a little around it; as it is, without a new sampling, where the box is level.

    A detector's box may cut into the first letter or be off by a degree, and either would look like damage."""
    height = float(np.linalg.norm(corners_42[3] - corners_42[0]))
    side = corners_42[1] - corners_42[0]
    across = side / max(float(np.linalg.norm(side)), 1e-6) * GROWN * height
    grown_42 = corners_42 + np.stack([-across, across, across, -across])
    if abs(float(side[1])) > LEVEL * abs(float(side[0])):
        return cut_out(image_HW3, grown_42)
    left, top = np.floor(grown_42.min(axis=0)).astype(int).clip(0)
    right, bottom = np.ceil(grown_42.max(axis=0)).astype(int) + 1
    return np.ascontiguousarray(image_HW3[top:bottom, left:right])


def _is_turned(crop_HW3: np.ndarray) -> bool:
    """Whether a tall crop holds a turned line: single letters such as I have no gap between their columns of ink."""
    level_HW = levels(crop_HW3)
    return level_HW is not None and len(_runs(level_HW.max(axis=1) > INK)) > 1
