"""What an engine can write: the characters of its weights, as texts are compared.

An image of a text that the engine has no characters for cannot be judged by it, however right it is: that is NaN with
the cause "script", never 0. Of a text that it can write in part, the rest is judged, and the share that was left out is
said. A letter with an accent that the engine does not know is judged as the letter. Greek letters without the final
sigma are symbols of formulas: an engine that has them reads words of several as the Latin letters that look alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from preference_data.texts.normalised_text import Policy, folded, seen

SCRIPT = "script"
"""why an image is not judged: the engine has no characters for at least `MOST` of the text asked for"""
MOST = 0.5
_LETTERS = re.compile(r"([^\W\d_]+)")
_GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff]")


class Alphabet:
    """The characters that an engine can write; None where they are not known, and then it can write everything."""

    def __init__(self, characters: Sequence[str] | None, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._known: frozenset[str] | None = None
        self._has_formulas = characters is not None and "\u03c2" not in characters
        if characters is not None:
            self._known = frozenset(folded("\n".join(characters), self._policy))

    def can_write(self, character: str) -> bool:
        """Whether a character, or what counts as the same, is one of the engine's."""
        return self._known is None or all(c in self._known for c in folded(character, self._policy).strip())

    def known_part(self, texts: Sequence[str]) -> tuple[tuple[str, ...], float]:
        """The texts without what cannot be written, those left empty included, and the share that was left out.

        A word goes whole where half of it cannot be written: what is left would be no word.
        """
        if self._known is None:
            return tuple(texts), 0.0
        count, lost = 0, 0
        characters = []
        for text in texts:
            words = []
            for word in _LETTERS.split(unicodedata.normalize("NFC", seen(text))):
                greek = _GREEK.findall(word) if self._has_formulas else []
                strange = greek if len(greek) > 1 else []
                plain = ["" if character in strange else self._known_or_bare(character) for character in word]
                missing = sum(character in strange or not self.can_write(character) for character in word)
                gone = 2 * sum(not each for each in plain) >= len(word) > 0
                words.append("" if gone else "".join(plain))
                lost += sum(not c.isspace() for c in word) if gone else missing
                count += sum(not c.isspace() for c in word)
            characters.append("".join(words) if lost else text)
        return tuple(characters), lost / count if count else 0.0

    def _known_or_bare(self, character: str) -> str:
        """A character that can be written, else the letter of an accented one, "" where there is neither."""
        if self.can_write(character):
            return character
        parts = unicodedata.normalize("NFD", character)
        letter, accents = parts[0], parts[1:]
        bare = bool(accents) and all(unicodedata.category(accent) == "Mn" for accent in accents)
        return letter if bare and self.can_write(letter) else ""


EVERYTHING = Alphabet(None)


def alphabet_of(engine: object, policy: Policy | None = None) -> Alphabet:
    """The alphabet of a recogniser or page reader that names its ``characters``; else everything."""
    characters = getattr(engine, "characters", None)
    return EVERYTHING if characters is None else Alphabet(characters, policy)
