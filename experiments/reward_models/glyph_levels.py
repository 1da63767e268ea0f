"""How the scores of a trained glyph network are read, from characters in faces of training, of another seed.

    halved   by character: how much like a half of its references it looks in the face that looks most so
             (rewards/glyph/wholeness.py); the foot of a narrow L is half that of a wide one
    like     by character: how little like its references it looks in the face that looks least so, as an open g
    shift    by language: the logit at which blank, half and solid crops end, so that 0.5 lies there; it only raises
             scores, since where halves pass 0.5 for a whole letter of another face, no level parts them
             (one by character would take a third of true r and E, and nine in ten of n, u, J and L)
    box      by character: where its references stand in a line

Legend: C characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from base_model.data.glyphs.crops import Source
from base_model.data.glyphs.shapes import BARS, LANGUAGES, alphabet, cuts, rendered
from base_model.data.writing.faces import Face, undrawable
from experiments.reward_models.glyph_examples import References, fitted, made
from rewards.glyph.glyph import GlyphModel
from rewards.glyph.wholeness import Levels, compared, template

EMPTY_CROPS = 10_000
"""blank, half and solid crops of each language"""
PASSING = 5e-4
"""share of them that is left above 0.5 where the network's own 0.5 leaves fewer"""
SEED = 30_000


def shapes_of(language: str) -> str:
    """The characters of a language whose halves are not the character once more."""
    return "".join(c for c in alphabet(language) if c not in BARS)


def bounds(faces: Sequence[tuple[str, Face]], table: References) -> Levels:
    """Halved and like, 0 and 1 for characters that are in no training and no bars; no shift."""
    index, result = table.index(), Levels.none(len(table.characters))
    for language in dict.fromkeys(each for each, _ in faces):
        chosen = cuts([face for each, face in faces if each == language])
        own = {c for c, i in index.items() if LANGUAGES[table.language_C[i]] == language}
        for character in sorted(own & ({*alphabet(language)} | BARS)):
            of = template(table.image_C2ZZ[index[character]])
            crops = [fitted(rendered(cut, character)) for cut in chosen if not undrawable(cut.face, character)]
            like_N, halved_N, _ = compared(crops, [of] * len(crops))
            result.like_C[index[character]] = like_N.min(initial=1.0)
            result.halved_C[index[character]] = halved_N.max(initial=0.0)
    return result


def levels(model: GlyphModel, faces: Sequence[tuple[str, Face]], table: References, seed: int) -> Levels:
    """The levels of a network that has none yet, from the faces that it learned from."""
    result = replace(bounds(faces, table), network_C=model.levels.network_C)
    gated = GlyphModel(model.networks, table.characters, table.image_C2ZZ, result)
    shift_C = np.zeros(len(table.characters), np.float32)
    for language in dict.fromkeys(each for each, _ in faces):
        of_language = tuple((each, face) for each, face in faces if each == language)
        shown = ((language, shapes_of(language)),)
        empty = made(Source(of_language, shown, sound=0.0, empty=1.0, seed=SEED + seed), EMPTY_CROPS, table)
        crops = list(empty.examples.crop_NZZ)
        value_N = gated.score(crops, empty.characters) * gated.whole(crops, empty.characters)
        top = float(np.clip(np.quantile(value_N, 1 - PASSING), 1e-3, 0.5))
        shift_C[table.language_C == LANGUAGES.index(language)] = np.log1p(-top) - np.log(top)
    return replace(result, shift_C=shift_C, box_C23=table.box_C23)
