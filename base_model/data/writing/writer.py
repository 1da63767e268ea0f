"""From (settings, index) to an image, and nothing else: no image depends on those before it.

Kinds and languages take turns, so that each has its exact share and the n-th image of a kind and language is known.
What cannot be written whole is discarded with its reason, and the next attempt takes another text or face.
"""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from base_model.data.writing.corpora import Corpus, phrase, rare_text
from base_model.data.writing.documents import DOCUMENTS, write_document
from base_model.data.writing.faces import INSTALL, LANGUAGES, Face, faces_of, refused
from base_model.data.writing.paragraphs import write_paragraph
from base_model.data.writing.surfaces import chosen_surface, write_on_surface
from base_model.data.writing.written_image import Photographs, Unwritable, Writing, WrittenImage

ATTEMPTS = 40
NEEDED = {
    "pure": ("fontTools", "cv2"), "compositional": ("fontTools", "cv2"),
    "complex": ("fontTools", "cv2", "typst", "pypdfium2", "faker"),
}  # fmt: skip
"""packages that a kind is made with, beside those of the faces"""


@dataclass(frozen=True)
class Sources:
    """What images are made of, beside the settings."""

    corpora: Mapping[str, Corpus] = field(default_factory=dict)
    """own texts by language; the vocabulary's where there are none"""
    photographs: Photographs | None = None
    faces: Mapping[str, tuple[Face, ...]] = field(default_factory=dict)
    """own faces by language, in place of ours; documents are set in ours all the same"""


def require_installed(plan: Writing) -> None:
    """Raises ValueError naming the packages that the settings need and that are missing."""
    faces = [face.package for language in plan.languages for face in faces_of(language)]
    needed = dict.fromkeys([*(name for kind in plan.kinds for name in NEEDED[kind]), *faces])
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"writing {', '.join(plan.kinds)} images needs {', '.join(missing)}: {INSTALL}")


def lot(seed: int, index: int, attempt: int, purpose: str) -> np.random.Generator:
    """A fresh generator of an address."""
    return np.random.default_rng([seed, index, attempt, zlib.crc32(purpose.encode())])


def turn(plan: Writing, index: int) -> tuple[str, str, int]:
    """The kind and language of an image, and how many of both come before it."""
    pairs = [(kind, language) for kind in plan.kinds for language in plan.languages]
    block, offset = divmod(index, len(pairs))
    order = lot(plan.seed, block, 0, "turns").permutation(len(pairs))
    kind, language = pairs[int(order[offset])]
    earlier = [i for i, pair in enumerate(pairs) if pair == (kind, language)]
    return kind, language, block * len(earlier) + earlier.index(int(order[offset]))


def write(plan: Writing, index: int, sources: Sources) -> tuple[WrittenImage, tuple[Unwritable, ...]]:
    """The image of an index, and what was discarded on the way.

    Raises ValueError when no attempt succeeds, naming the last reason.
    """
    kind, language, ordinal = turn(plan, index)
    discarded: list[Unwritable] = []
    for attempt in range(ATTEMPTS):
        rng = lot(plan.seed, index, attempt, kind)
        try:
            image = WRITERS[kind](plan, rng, language, ordinal if attempt < ATTEMPTS // 2 else None, sources)
        except Unwritable as reason:
            discarded.append(reason)
            continue
        return replace(image, facts={**image.facts, "seed": plan.seed, "index": index}), tuple(discarded)
    raise ValueError(
        f"image {index} ({kind}, {language}, {plan.size[0]}x{plan.size[1]}): none of {ATTEMPTS} texts could be "
        f"written; the last one because of {discarded[-1]}; {discarded[-1].remedy}"
    )


def chosen_face(rng: np.random.Generator, language: str, sources: Sources) -> Face:
    """One of the faces of a language."""
    faces = sources.faces.get(language) or faces_of(language)
    return faces[int(rng.integers(len(faces)))]


def in_face(face: Face, text: str, language: str) -> str:
    """A text as a face writes it. Raises Unwritable when it cannot write all of it."""
    text = text.upper() if face.capitals else text
    if why := refused(face, text, language):
        raise Unwritable(face.name, why.removeprefix(f"{face.name}: "), "name a face that has it, or texts without it")
    return text


def is_rare(plan: Writing, ordinal: int) -> bool:
    """Whether the image shows rare characters: evenly spread, by the share."""
    return int((ordinal + 1) * plan.rare) > int(ordinal * plan.rare)


def write_pure(
    plan: Writing, rng: np.random.Generator, language: str, ordinal: int | None, sources: Sources
) -> WrittenImage:
    """A paragraph on a clean ground."""
    face = chosen_face(rng, language, sources)
    text = text_of_pure(plan, rng, language, ordinal, sources)
    return write_paragraph(rng, in_face(face, text, language), language, face, plan.size)


def text_of_pure(plan: Writing, rng: np.random.Generator, language: str, ordinal: int | None, sources: Sources) -> str:
    """A paragraph, or rare characters where it is their turn."""
    if ordinal is not None and is_rare(plan, ordinal):
        return rare_text(language, plan.seed, int(ordinal * plan.rare))
    return corpus(sources, language).paragraph(rng, plan.length)


def corpus(sources: Sources, language: str) -> Corpus:
    """The paragraphs of a language."""
    return sources.corpora.get(language) or Corpus(language)


def write_compositional(
    plan: Writing, rng: np.random.Generator, language: str, ordinal: int | None, sources: Sources
) -> WrittenImage:
    """A text on a thing in a photograph. Raises ValueError when there are no photographs."""
    if sources.photographs is None:
        raise ValueError("compositional images put text into photographs, and there are none")
    surface, face = chosen_surface(rng), chosen_face(rng, language, sources)
    own = language in sources.corpora
    if surface.texts == "paragraph" or own:
        text = corpus(sources, language).paragraph(rng, plan.length)
    else:
        text = phrase(language, surface.texts, rng)
    text = in_face(face, text, language)
    return write_on_surface(rng, surface, text, language, face, sources.photographs, plan.size)


def write_complex(
    plan: Writing, rng: np.random.Generator, language: str, ordinal: int | None, sources: Sources
) -> WrittenImage:
    """A document of one of the templates, which take turns, in each language from another one on."""
    turns = LANGUAGES.index(language) + (ordinal if ordinal is not None else int(rng.integers(len(DOCUMENTS))))
    name = list(DOCUMENTS)[turns % len(DOCUMENTS)]
    faces = [face for face in faces_of(language) if not face.capitals]
    title = faces[int(rng.integers(len(faces)))]
    plain = [face for face in faces if face.style not in ("script", "display")]
    body = plain[int(rng.integers(len(plain)))]
    return write_document(rng, name, language, (title, body), corpus(sources, language), plan.size, sources.photographs)


WRITERS = {"pure": write_pure, "compositional": write_compositional, "complex": write_complex}
