"""Retrieves images of a weak category from those at hand, by their captions or by a reward, and names it as theirs.

    (1)  by captions: likeness = weights of the query's words that an image's captions have, by those of all its words;
         weight = log((1 + N) / (1 + images whose captions have the word)), so that a word that all have weighs nothing
    (2)  by a reward: likeness = the reward's score of the image for the query, measured once and stored
    (3)  of several queries the one that the image is most like counts
    (4)  the `most` images of the largest likeness, none below `least`, have the category from then on

Words are compared as they are written, without their endings. Rendered pages and edits keep their category.

Source: "keyword and image retrieval" for weak categories, stage 6 of the Qwen-Image technical report, section 3.2.
Legend: N images.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.curation.filters.rules import Columns
from experiments.curation.measures.caption_facts import tokens


@dataclass(frozen=True)
class Retrieval:
    """Which images to look for, and how many; off without queries."""

    queries: tuple[str, ...] = ()
    """what such images show, such as a neon sign|a shop at night, or prompts that a model fails; () = off"""
    category: str = ""
    """what their category is called; "" = the first query"""
    reward: str = ""
    """one that compares an image with a text, as for `glyphlab score`; "" compares the words of captions"""
    least: float = 0.5
    """smallest likeness: a share from 0 to 1 by captions, else in the scale of the reward"""
    most: int = 1000
    """largest number of images"""

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"most={self.most} must be at least 1")
        if not all(map(tokens, map(folded, self.queries))):
            raise ValueError(f"queries={'|'.join(self.queries)} must each have a word, and be joined by one |")

    @property
    def name(self) -> str:
        """The category's name."""
        return self.category or self.queries[0]


def folded(text: str) -> str:
    """A text without differences of case and width."""
    return unicodedata.normalize("NFKC", text).casefold()


def likeness_of_captions(texts: Sequence[str], queries: Sequence[str]) -> np.ndarray:
    """[N] (1) and (3) of the folded captions of each image; 0 where there are none."""
    wanted = [{*tokens(folded(query))} for query in queries]
    known = set().union(*wanted)
    have = [known.intersection(tokens(text)) for text in texts]
    counts = Counter(word for own in have for word in own)
    weights = {word: float(np.log((1 + len(texts)) / (1 + counts[word]))) for word in known}
    totals = [sum(weights[word] for word in sorted(query)) for query in wanted]
    return np.array([
        max(sum(weights[word] for word in sorted(query & own)) / total if total else 0.0
            for query, total in zip(wanted, totals, strict=True))
        for own in have
    ])  # fmt: skip


def retrieved(columns: Columns, alive: np.ndarray, settings: Retrieval) -> dict[str, np.ndarray]:
    """(4) among the images that are left: `likeness`, and `category` with that of the retrieved ones; {} when off."""
    if not settings.queries:
        return {}
    pool = alive & columns["alone"] & ~columns["rendered"]
    likeness = columns["likeness"] if settings.reward else likeness_of_captions(columns["texts"], settings.queries)
    likeness = np.where(pool, likeness, np.nan)
    rows = np.flatnonzero(likeness >= settings.least)
    order = np.lexsort((columns["id"][rows].astype(str), -likeness[rows]))
    category = columns["category"].copy()
    category[rows[order][: settings.most]] = settings.name
    return {"likeness": likeness, "category": category}


def summary(columns: Columns, settings: Retrieval) -> list[str]:
    """A line that says how many images were retrieved, and how like they are; [] when off."""
    if not settings.queries:
        return []
    likeness = columns["likeness"]
    own = likeness[(columns["category"] == settings.name) & (likeness >= settings.least)]
    spread = f", with a likeness of {own.min():.3g} to {own.max():.3g}" if len(own) else ""
    best = "" if len(own) or not np.isfinite(likeness).any() else f"; the likest has {np.nanmax(likeness):.3g}"
    return [f"{len(own):,} images are retrieved as {settings.name!r}{spread}{best}"]
