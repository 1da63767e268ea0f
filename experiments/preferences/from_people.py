"""Preferences that people gave, put where training looks for them: pairs.jsonl, or comparisons.jsonl for algorithms
that know ties, the images, and their latents if kept.

Latents are kept beside the images that `glyphlab campaign create --prompts` samples (see
experiments/preferences/from_scores.py why they matter); other images are encoded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file

from experiments.experiment import Experiment
from experiments.preferences.from_images import read_images, reads
from experiments.preferences.from_scores import LATENTS, PAIRS, with_own_sources
from experiments.preferences.load_answers import COMPARISONS
from experiments.preferences.run_campaigns import decided_pairs, open_store
from experiments.record.whole_files import write_bytes
from preference_data import comparisons, pairs
from preference_data.comparisons import Comparison, to_jsonl
from preference_data.exchange import judgements
from preference_data.line_files import existing
from preference_data.records import ImageRef, PreferencePair

Answer = Comparison | PreferencePair

FROM_STORE = "store:"
LATENTS_FOLDER = "latents"
"""Folder of latents in the store's folder of images: SHA256.safetensors with one tensor, x0."""


def install(experiment: Experiment, sources: Sequence[str], location: str, folder: Path) -> Path:
    """Write `folder`/pairs.jsonl, or comparisons.jsonl where ties are known, and the images: of a file, of
    "store:CAMPAIGN", or of folders and tables of images (from_images.py). What is there is kept.

    Raises ValueError when the experiment learns from no pairs or nothing is decided, FileNotFoundError for a missing
    file.
    """
    if experiment.algorithm.learns_from != "pairs":
        raise ValueError(f"{experiment.name} does not learn from pairs; choose one such as dpo or nano_dpo")
    ties = experiment.algorithm.reads != "pairs"
    target = folder / (COMPARISONS if ties else PAIRS)
    if target.exists():
        return target
    answers: Sequence[Answer]
    if not sources[0].startswith(FROM_STORE) and reads(sources):
        answers, latents = read_images(sources, folder, ties), folder / LATENTS_FOLDER
    else:
        answers, latents = (of_store if sources[0].startswith(FROM_STORE) else of_file)(sources[0], location, ties)
    if not answers:
        raise ValueError(f"{', '.join(sources)} holds no {'answer' if ties else 'pair'}")
    refs = {ref.sha256: ref for one in answers for ref in sides(one)}
    for ref in refs.values():
        _copy(ref, folder)
    answers = [replace(one, prompt=with_own_sources(one.prompt, folder)) for one in answers]
    _keep_latents(latents, list(refs), folder)
    write_bytes(target, to_jsonl([moved(one, lambda ref: f"pictures/{ref.sha256}.png") for one in answers]).encode())
    return target


def of_store(source: str, location: str, ties: bool) -> tuple[Sequence[Answer], Path]:
    """Read the answers of "store:CAMPAIGN", and say the folder of the latents of its images."""
    store, name = open_store(location, Path("pictures") if "://" in location else None), source.removeprefix(FROM_STORE)
    try:
        latents = store.images.root / LATENTS_FOLDER
        if not ties:
            return decided_pairs(store, name), latents
        return judgements.compared(judgements.of_items(store, store.operator, name), f"human:{name}"), latents
    finally:
        store.close()


def of_file(source: str, _: str, ties: bool) -> tuple[Sequence[Answer], Path]:
    """Read the answers of a file, with paths from here, and say the folder of latents beside it."""
    file = Path(source)
    answers: Sequence[Answer] = comparisons.load(file) if ties else pairs.load(file)
    here = [replace(one, prompt=one.prompt.located(file.parent)) for one in answers]
    return [moved(one, lambda ref: str(file.parent / ref.path)) for one in here], file.parent / LATENTS_FOLDER


def sides(one: Answer) -> tuple[ImageRef, ImageRef]:
    """Return both images of an answer."""
    return (one.chosen, one.rejected) if isinstance(one, PreferencePair) else (one.left, one.right)


def moved(one: Answer, path: Callable[[ImageRef], str]) -> Answer:
    """Give an answer other paths of its images."""
    first, second = (replace(ref, path=path(ref)) for ref in sides(one))
    if isinstance(one, PreferencePair):
        return replace(one, chosen=first, rejected=second)
    return replace(one, left=first, right=second)


def keep_latent(root: Path, sha256: str, x0: object) -> None:
    """Remember what an image was decoded from."""
    (root / LATENTS_FOLDER).mkdir(parents=True, exist_ok=True)
    save_file({"x0": x0}, root / LATENTS_FOLDER / f"{sha256}.safetensors")  # type: ignore[dict-item]


def _keep_latents(path: Path, hashes: list[str], folder: Path) -> None:
    table = {sha: load_file(path / f"{sha}.safetensors")["x0"] for sha in hashes
             if (path / f"{sha}.safetensors").exists()}  # fmt: skip
    if table:
        save_file(table, folder / LATENTS)


def _copy(ref: ImageRef, folder: Path) -> None:
    try:
        source = existing(Path(ref.path))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"a pair names an image that is not there: {ref.path}; put it back, or export the pairs again"
        ) from None
    path = folder / "pictures" / f"{ref.sha256}.png"
    if source == path:  # it was put there as it was read
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}")
    shutil.copyfile(source, fresh)
    os.replace(fresh, path)
