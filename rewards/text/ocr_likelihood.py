"""How surely the words of a prompt can be read: a reward without steps.

An edit distance moves in steps of a letter, so most images of one prompt score alike and teach nothing. The
recogniser's own probabilities also say how near an image is to the next step. With p_lk its probability of class k in
column l and Y the target of n characters, the probability that it reads Y is a sum over all alignments:

    (1)  P(Y) = sum over paths pi that collapse to Y of prod_l p_l,pi(l)        CTC; Graves et al. 2006, eq. 3, 7, 8
    (2)  likelihood = P(Y)^(1/n)                                                 in [0, 1], the same for any length
    (3)  score = 1/2 (1 - NED) + 1/2 likelihood

Characters that count as equal in (1 - NED) share their probability: case, O and 0, I and 1; and where spaces do not
count they are blanks (see `rewards/text/ocr.py`).
Reading an image twice would double the cost; one pass gives both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from preference_data.records import Prompt
from preference_data.texts.normalised_text import Policy, as_compared, has_digit
from rewards.scores import Scores, score_each
from rewards.text.ocr import OneLine, line, ned_score
from rewards.text.reading.alphabet import MOST, SCRIPT, alphabet_of
from rewards.text.recognisers import V6, OnnxRecogniser, decode, find_weights


def ctc_likelihood(probabilities_LK: np.ndarray, target: Sequence[Sequence[int]], blank: Sequence[int] = (0,)) -> float:
    """(1), (2) for L columns of K classes. Each target character is the set of classes it may be; `blank` are those
    that stand for nothing.

    0 for a target that needs more columns than there are.
    """
    L, n = len(probabilities_LK), len(target)
    blank_L = probabilities_LK[:, list(blank)].sum(1, dtype=np.float64)
    letters_Ln = np.stack([probabilities_LK[:, list(c)].sum(1) for c in target], 1, dtype=np.float64) if n else None
    if letters_Ln is None:
        return float(np.prod(blank_L))
    p = np.empty((L, 2 * n + 1))  # blank, first letter, blank, second letter, ..., blank
    p[:, ::2], p[:, 1::2] = blank_L[:, None], letters_Ln
    skips = np.zeros(2 * n + 1, dtype=bool)  # a letter may follow another without a blank between when they differ
    skips[3::2] = [set(a).isdisjoint(b) for a, b in zip(target[1:], target[:-1], strict=True)]
    alpha = np.zeros(2 * n + 1)
    alpha[:2] = p[0, :2]
    for column in p[1:]:
        before = alpha.copy()
        alpha[1:] += before[:-1]
        alpha[2:] += np.where(skips[2:], before[:-2], 0.0)
        alpha *= column
    return float((alpha[-1] + alpha[-2]) ** (1.0 / n))


class OcrLikelihoodScorer:
    """A loaded engine. ``name`` says which weights."""

    def __init__(self, recogniser: OnnxRecogniser, ignore_case: bool, crop: bool) -> None:
        self._recogniser, self._ignore_case, self._crop = recogniser, ignore_case, crop
        self._alphabet = alphabet_of(recogniser, Policy(case=not ignore_case))
        self._equal: dict[tuple[bool, bool], dict[str, list[int]]] = {}
        self.name = f"ocr_likelihood:{recogniser.name}"

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """Value in [0, 1]: (3). Parts: the value, ``ned_score``, ``exact`` (0 or 1), ``likelihood``, ``unwritable``.
        NaN as ``Ocr``."""
        parts = ("ocr_likelihood", "ned_score", "exact", "likelihood", "unwritable")
        return score_each(self.name, self._score, prompts, images_B3HW, ("spans",), parts)

    def _score(self, prompt: Prompt, image_HW3: np.ndarray) -> Mapping[str, float] | str:
        texts, unwritable = self._alphabet.known_part(prompt.spans)
        if unwritable >= MOST:
            return SCRIPT
        target, line_image = " ".join(text for text in texts if text), line(image_HW3, self._crop)
        row = {"ocr_likelihood": 0.0, "ned_score": 0.0, "exact": 0.0, "likelihood": 0.0, "unwritable": unwritable}
        if line_image is None:
            return row
        probabilities_LK = self._recogniser.probabilities(line_image)
        read = decode(probabilities_LK, self._recogniser.characters).text
        ned = ned_score(target, read, self._ignore_case)
        equal = self._equal_classes(has_digit(target), " " in target)
        letters = as_compared(target, target, self._ignore_case)
        likelihood = ctc_likelihood(probabilities_LK, [equal.get(letter, []) for letter in letters], equal[""])
        value = 0.5 * (ned + likelihood)  # (3)
        return row | {
            "ocr_likelihood": value, "ned_score": ned, "exact": float(ned == 1.0), "likelihood": likelihood
        }  # fmt: skip

    def _equal_classes(self, digits: bool, words: bool) -> dict[str, list[int]]:
        """Character -> the classes that count as it, for targets with or without digits, of one or of several words.

        "" -> the classes that count as nothing.
        """
        if (digits, words) not in self._equal:
            table: dict[str, list[int]] = {}
            for k, character in enumerate(self._recogniser.characters):
                like = as_compared(character, ("1" if digits else "A") + (" A" if words else ""), self._ignore_case)
                table.setdefault(" " if words and character == " " else like, []).append(k)
            self._equal[digits, words] = table
        return self._equal[digits, words]


@dataclass(frozen=True)
class OcrLikelihood(OneLine):
    """How surely PP-OCRv6_small reads the prompt's spans, eq. (3); range [0, 1], 1 = without doubt. Set as `Ocr`."""

    ignore_case: bool = True
    crop: bool = True

    def load(self, device: str = "cpu") -> OcrLikelihoodScorer:
        """Open the engine (0.3 s), on the CPU whatever ``device`` says. Errors as ``Ocr.load``."""
        return OcrLikelihoodScorer(OnnxRecogniser(find_weights(V6)), self.ignore_case, self.crop)
