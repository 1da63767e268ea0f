"""The settings of a glyph network, which are the options of `glyphlab train-glyph`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from rewards.glyph.glyph_settings import TrainGlyph


@dataclass(frozen=True)
class GlyphPlan:
    """What a glyph network is trained from, and how."""

    out: Annotated[Path, arg(aliases=["-o"])] = Path("runs/glyph")
    """the network's folder: use it as glyph:weights=FOLDER"""
    languages: str = "en,zh-Hans"
    """what it learns to see: en (letters and digits), zh-Hans, or both"""
    crops: int = 40_000
    """characters that are rendered to learn from, 1.5 ms each; each is seen several times"""
    kinds: str = ""
    """ways of breaking that it learns, such as cut,gap,add; all twelve when empty"""
    faces: str = ""
    """further faces to learn from, as zh-Hans:FILE.ttf,en:FILE.otf"""
    save_every: int = 500
    """updates between checkpoints"""
    settings: Annotated[TrainGlyph, arg(name="")] = field(default_factory=TrainGlyph)

    @property
    def chosen_languages(self) -> tuple[str, ...]:
        """The languages by our names. Raises ValueError for one that is not written."""
        from base_model.data.writing.faces import language_named

        return tuple(language_named(each) for each in self.languages.split(",") if each)

    @property
    def chosen_kinds(self) -> tuple[str, ...]:
        """The ways of breaking, by name."""
        from base_model.data.glyphs.damage import KINDS

        return tuple(each for each in self.kinds.split(",") if each) or tuple(KINDS)

    @property
    def own_faces(self) -> tuple[tuple[str, Path], ...]:
        """(language, file) of the further faces. Raises ValueError for one without a language."""
        from base_model.data.writing.faces import language_named

        named = [each.partition(":") for each in self.faces.split(",") if each]
        if wrong := [head for head, colon, path in named if not colon or not path]:
            raise ValueError(f"--faces {wrong[0]} names no language; write zh-Hans:{wrong[0]} or en:{wrong[0]}")
        return tuple((language_named(head), Path(path)) for head, _, path in named)
