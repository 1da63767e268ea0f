"""A reward that sees broken characters: a folder that `glyphlab train-glyph` wrote.

    FOLDER/glyph.json            what it is: format, settings, what it learned from, the card's numbers
    FOLDER/weights.safetensors   the networks, one a language
    FOLDER/references.npz        what every character should look like, in two faces, and how its scores are read; no
                                 face is needed to score
    FOLDER/model_card.md

    (1)  score = s(logit + shift of the character), at most half of that where the crop can be no whole character, or
                 its ink does not stand in the line as the character does
    (2)  word = min over its characters of the score
    (3)  value = mean over the words of the prompt's texts

The smallest counts, since the mean of a word hides one broken letter. A character without ink, or that stands nowhere,
scores 0; wholeness.py has the gate for halves and blots, line_fit.py for halves that are
whole in another face. Characters without a reference (punctuation, other scripts)
are not judged.

Shapes: B samples, 3HW pixels, N characters.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from unicodedata import east_asian_width

import numpy as np

from preference_data.records import Prompt, visible
from rewards.glyph.ink_frame import SIDE, as_bytes, cut_out, frame_about, ink_box
from rewards.glyph.line_fit import stand_in_line
from rewards.glyph.locate import ENGINES, Cell, Locator
from rewards.glyph.wholeness import CAP, Levels, Template, are_whole, template
from rewards.scores import Row, Scores, View, score_each

if TYPE_CHECKING:
    from torch import Tensor

    from rewards.glyph.glyph_network import GlyphNetwork

CONTENT, WEIGHTS, REFERENCES = "glyph.json", "weights.safetensors", "references.npz"
FORMAT, ONE_NETWORK = 4, 3
"""what is written, and what is read too: format 3 has one network for all languages"""
TABLES = ("halved", "like", "shift", "boxes", "network")
"""what a folder has of ``Levels``, in their order"""
PARTS = ("glyph", "glyph_mean", "worst", "letters", "missing")
SCRIPT = "script"
MOST = 0.5
"""share of a prompt's characters that have no reference, from which an image is not judged"""


class GlyphModel:
    """Loaded networks, one a language, with their references."""

    def __init__(
        self, networks: Sequence[GlyphNetwork], characters: str, image_C2ZZ: np.ndarray, levels: Levels | None = None,
        device: str = "cpu",
    ) -> None:  # fmt: skip
        import torch

        layout = torch.channels_last  # a tenth faster for a few crops
        self.networks: list[GlyphNetwork] = [
            each.eval().to(device).to(memory_format=layout)  # type: ignore[call-overload]
            for each in networks
        ]
        self.references = {character: image_C2ZZ[i] for i, character in enumerate(characters)}
        self.levels = levels or Levels.none(len(characters))
        self._row = {character: i for i, character in enumerate(characters)}
        self._templates: dict[str, Template] = {}
        self._device = device

    def score(self, crops: Sequence[np.ndarray], characters: Sequence[str]) -> np.ndarray:
        """Scores (1) [N] in [0, 1] of crops [Z, Z]: what ``ink_frame`` cuts out, in bytes.

        KeyError for a character without reference."""
        import torch

        shift_N = torch.from_numpy(self.levels.shift_C[[self._row[character] for character in characters]])
        logit_N = self._seen(crops, characters)[0].double().cpu() + shift_N
        score_N: np.ndarray = logit_N.sigmoid().numpy()
        score_N[~self.whole(crops, characters)] *= CAP
        return score_N

    def maps(self, crops: Sequence[np.ndarray], characters: Sequence[str]) -> np.ndarray:
        """Where each crop is broken, [N, M, M] in [0, 1]. KeyError as ``score``."""
        result: np.ndarray = self._seen(crops, characters)[1].double().sigmoid().cpu().numpy()
        return result

    def _seen(self, crops: Sequence[np.ndarray], characters: Sequence[str]) -> tuple[Tensor, Tensor]:
        import torch

        from rewards.glyph.glyph_network import CELLS, as_input

        crop_NZZ = torch.from_numpy(np.stack(crops))
        references_N2ZZ = torch.from_numpy(np.stack([self.references[character] for character in characters]))
        x_N3ZZ = as_input(crop_NZZ, references_N2ZZ).to(self._device)
        network_N = self.levels.network_C[[self._row[character] for character in characters]]
        several = set(network_N.tolist())
        with torch.inference_mode():
            if len(several) == 1:
                result: tuple[Tensor, Tensor] = self.networks[several.pop()](x_N3ZZ)
                return result
            logit_N, map_NMM = x_N3ZZ.new_empty(len(x_N3ZZ)), x_N3ZZ.new_empty(len(x_N3ZZ), CELLS, CELLS)
            for k in several:
                rows = torch.from_numpy(np.flatnonzero(network_N == k))
                logit_N[rows], map_NMM[rows] = self.networks[k](x_N3ZZ[rows])
        return logit_N, map_NMM

    def whole(self, crops: Sequence[np.ndarray], characters: Sequence[str]) -> np.ndarray:
        """Whether each crop can be a whole character, bool [N]."""
        for character in set(characters) - self._templates.keys():
            square = east_asian_width(character) == "W"
            self._templates[character] = template(self.references[character], square)
        rows = [self._row[character] for character in characters]
        of = [self._templates[character] for character in characters]
        return are_whole(crops, of, self.levels.like_C[rows], self.levels.halved_C[rows])

    def score_cells(self, cells: Sequence[Cell]) -> np.ndarray:
        """Scores [N] of located characters of a word; 0 where there is no ink."""
        crops, boxes = [], {}
        for i, cell in enumerate(cells):
            box = None if cell.level_HW is None else ink_box(cell.level_HW)
            if cell.level_HW is not None and box is not None:
                crops.append(as_bytes(cut_out(cell.level_HW, frame_about(box))))
                boxes[i] = box
        result = np.zeros(len(cells))
        if boxes:
            result[list(boxes)] = self.score(crops, [cells[i].character for i in boxes])
        for line in {cells[i].line for i in boxes}:
            rows = [i for i in boxes if cells[i].line == line]
            reference_N23 = self.levels.box_C23[[self._row[cells[i].character] for i in rows]]
            result[rows] *= np.where(stand_in_line(np.array([boxes[i] for i in rows]), reference_N23), 1.0, CAP)
        return result


class GlyphScorer:
    """A loaded network and what finds its characters. ``name`` has the hash of the weights."""

    def __init__(self, name: str, model: GlyphModel, locator: Locator) -> None:
        self.name = name
        self.model = model
        self._locator = locator

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """Value in [0, 1]: (3). Parts: the value, the mean over all characters, the worst of them, how many are judged
        and the share of those that stand nowhere.

        NaN: as ``obstacles``, "script" (half of the text or more has no references) and "engine" (it raised)."""
        return score_each(self.name, self._score, prompts, images_B3HW, ("spans",), PARTS)

    def _score(self, prompt: Prompt, image_HW3: np.ndarray) -> Row:
        texts = [visible(span) for span in prompt.spans]
        wanted = [c for text in texts for c in text if c.isalnum()]
        known = [c for c in wanted if c in self.model.references]
        if not known or len(known) <= (1 - MOST) * len(wanted):
            return SCRIPT
        words = [word for word in self._locator.words(image_HW3, texts, frozenset(self.model.references)) if word]
        scores = [self.model.score_cells(word) for word in words]
        every = np.concatenate(scores)
        missing = float(np.mean([cell.level_HW is None for word in words for cell in word]))
        return {
            "glyph": float(np.mean([each.min() for each in scores])), "glyph_mean": float(every.mean()),
            "worst": float(every.min()), "letters": float(len(every)), "missing": missing,
        }  # fmt: skip


@dataclass(frozen=True)
class Glyph:
    """Sees broken characters, also where a recogniser guesses them right; range [0, 1], 1 = all of them are sound.

    weights: the folder that `glyphlab train-glyph` wrote. engine: what finds the lines and characters of the prompt's
    texts, "onnxruntime" (PP-OCRv6_small) or "onnxruntime_v4" (PP-OCRv4). It says nothing about what is read: a sound
    character in the wrong place scores as no character at all, but what else stands in the image costs nothing. Use it
    in a mixture with a reward that reads, and train on differences between images of one prompt, since its level
    differs from face to face.
    """

    version: ClassVar[int] = 5
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ("spans",)

    weights: Path
    engine: str = "onnxruntime"

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"engine is {self.engine!r}; choose one of {', '.join(ENGINES)}")

    def sees(self, height: int, width: int) -> View:
        return View(1.0, height, width, f"all of it, to find characters; each is scaled to {SIDE} pixels")

    def load(self, device: str = "cpu") -> GlyphScorer:
        """Open the folder and the engine. FileNotFoundError when it is none, ValueError when it is damaged."""
        name, model = read(Path(self.weights), device)
        return GlyphScorer(f"{name}:{self.engine}", model, Locator(self.engine))


def read(folder: Path, device: str = "cpu") -> tuple[str, GlyphModel]:
    """The name and the network of a folder. Errors as ``Glyph.load``."""
    import torch
    from safetensors.torch import load

    from rewards.glyph.glyph_network import GlyphNetwork, folded

    content = content_of(folder)
    try:
        raw = (folder / WEIGHTS).read_bytes()
        weights = load(raw)
        if content["format"] == ONE_NETWORK:
            weights = {f"0.{name}": each for name, each in weights.items()}
        networks = [GlyphNetwork(content["width"]) for _ in {name.partition(".")[0] for name in weights}]
        torch.nn.ModuleList(networks).load_state_dict(weights)
        with np.load(folder / REFERENCES, allow_pickle=False) as table:
            characters, image_C2ZZ = str(table["characters"]), np.asarray(table["images"])
            stored = [np.asarray(table[name]) for name in TABLES if name in table]
        levels = Levels(*(stored if len(stored) == len(TABLES) else [*stored, np.zeros(len(characters), np.int64)]))
        if image_C2ZZ.shape != (len(characters), 2, SIDE, SIDE) or image_C2ZZ.dtype != np.uint8:
            raise ValueError(f"{len(characters)} references are {image_C2ZZ.dtype} {image_C2ZZ.shape}")
        if any(len(each) != len(characters) for each in vars(levels).values()):
            raise ValueError(f"{len(characters)} references have {len(levels.shift_C)} levels")
        if not set(levels.network_C.tolist()) <= set(range(len(networks))):
            raise ValueError(f"characters are seen by networks that are none of its {len(networks)}")
        assert all(torch.isfinite(each).all() for each in weights.values()), "weights are not finite"
    except Exception as error:
        raise ValueError(f"the network of {folder} is damaged ({error}); train it again") from error
    digest = hashlib.sha256(raw + b"".join(each.tobytes() for each in (image_C2ZZ, *stored))).hexdigest()[:12]
    return f"glyph:{digest}", GlyphModel([folded(each) for each in networks], characters, image_C2ZZ, levels, device)


def content_of(folder: Path) -> dict[str, Any]:
    """What glyph.json says. FileNotFoundError when there is none, ValueError when it is damaged or of another
    format."""
    path = folder / CONTENT
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no glyph network; make one with: glyphlab train-glyph -o {folder}")
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); train it again") from error
    if content.get("format") not in (FORMAT, ONE_NETWORK):
        raise ValueError(
            f"{folder} has format {content.get('format')!r}, this version reads {ONE_NETWORK} and {FORMAT}; "
            "train it again"
        )
    return content


def as_files(
    networks: Sequence[GlyphNetwork], width: int, characters: str, image_C2ZZ: np.ndarray, levels: Levels,
    facts: Mapping[str, Any],
) -> dict[str, bytes]:  # fmt: skip
    """The files of trained networks, by name; ``facts`` are further things to keep."""
    from safetensors.torch import save

    table = io.BytesIO()
    stored = dict(zip(TABLES, vars(levels).values(), strict=True))
    np.savez_compressed(table, characters=np.array(characters), images=image_C2ZZ, **stored)
    weights = {
        f"{k}.{name}": each.contiguous()
        for k, network in enumerate(networks)
        for name, each in network.state_dict().items()
    }
    text = json.dumps({"format": FORMAT, "width": width, **facts}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return {WEIGHTS: save(weights), REFERENCES: table.getvalue(), CONTENT: text.encode()}
