"""Which characters of a text can be seen. What cannot be seen can neither be drawn nor read, so it is never compared.

Invisible are the Unicode categories Cf (zero-width spaces and joiners, soft hyphens, marks of direction, byte order
marks, tags) and Cc except white space, the variation selectors, and the fillers that fonts leave empty, such as
the braille pattern without dots.

Source: Unicode Standard Annex 44 (categories), Annex 29 and Technical Standard 51 (sequences of emoji).
"""

from __future__ import annotations

import unicodedata

_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\u2800\uffa0")
_JOINERS = frozenset("\u200c\u200d")  # they shape what stands around them: a family of emoji, an Arabic ending


def is_invisible(character: str) -> bool:
    """Whether a character leaves no ink and no space."""
    if " " <= character <= "~":
        return False
    point = ord(character)
    return (
        (unicodedata.category(character) in ("Cf", "Cc") and not character.isspace())
        or 0xFE00 <= point <= 0xFE0F
        or 0xE0100 <= point <= 0xE01EF
        or character in _FILLERS
    )


def shapes(character: str) -> bool:
    """Whether an invisible character changes how its neighbours look: joiners and variation selectors."""
    return character in _JOINERS or 0xFE00 <= ord(character) <= 0xFE0F or 0xE0100 <= ord(character) <= 0xE01EF


def visible(text: str) -> str:
    """The characters of ``text`` that can be seen, and its white space."""
    return text if text.isascii() and text.isprintable() else "".join(c for c in text if not is_invisible(c))


def drawable(text: str) -> str:
    """``text`` as it is to be drawn: joiners and selectors stay where they shape a character, other invisible
    characters and the white space around go; "" when nothing is left to see."""
    selection = "".join(c for c in text if not is_invisible(c) or shapes(c))
    first, last = 0, len(selection)
    while first < last and (selection[first].isspace() or is_invisible(selection[first])):
        first += 1
    while first < last and (selection[last - 1].isspace() or selection[last - 1] in _JOINERS):
        last -= 1
    return selection[first:last] if visible(selection[first:last]).strip() else ""
