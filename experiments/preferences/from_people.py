"""Preferences that people gave, put where training looks for them: pairs.jsonl, or comparisons.jsonl for algorithms
that know ties, the pictures, and their latents if kept.

Latents are kept beside the pictures that `glyphlab campaign create --prompts` draws (see
experiments/preferences/from_scores.py why they matter); other pictures are encoded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from alignment.kto import Kto
from alignment.tied_dpo import TiedDpo
from experiments.experiment import Experiment
from experiments.preferences.from_scores import LATENTS
from experiments.preferences.load_answers import COMPARISONS
from experiments.preferences.run_campaigns import open_store, write_pairs
from experiments.record.whole_files import write_bytes
from preference_data import comparisons
from preference_data import pairs as preferences
from preference_data.comparisons import Comparison
from preference_data.exchange import judgements
from preference_data.line_files import existing
from preference_data.records import ImageRef, PreferencePair

FROM_STORE = "store:"
KEPT = "latents"
"""Folder of latents in the store's folder of pictures: SHA256.safetensors with one tensor, x0."""


def install(experiment: Experiment, source: str, place: str, folder: Path) -> Path:
    """`folder`/pairs.jsonl with its pictures, from a file or from "store:CAMPAIGN"; kept when it is there.

    Raises ValueError when the experiment is not DPO or nothing is decided, FileNotFoundError for a missing file.
    """
    if experiment.algorithm.learns_from != "pairs":
        raise ValueError(f"{experiment.name} does not learn from pairs; choose a DPO experiment such as nano_dpo")
    if isinstance(experiment.algorithm, TiedDpo | Kto):
        return install_answers(source, place, folder)
    target = folder / "pairs.jsonl"
    if target.exists():
        return target
    if source.startswith(FROM_STORE):
        store = open_store(place, Path("pictures") if "://" in place else None)
        try:
            fresh = write_pairs(store, source.removeprefix(FROM_STORE), folder / ".fresh")
            found, latents = preferences.load(fresh), store.pictures.root / KEPT
        finally:
            store.close()
            shutil.rmtree(folder / ".fresh", ignore_errors=True)
    else:
        found, latents = preferences.load(Path(source)), Path(source).parent / KEPT
        found = [_beside(pair, Path(source).parent) for pair in found]
    if not found:
        raise ValueError(f"{source} holds no pair")
    refs = {ref.sha256: ref for pair in found for ref in (pair.chosen, pair.rejected)}
    for ref in refs.values():
        _copy(ref, folder)
    _keep_latents(latents, list(refs), folder)
    preferences.save([_moved(pair) for pair in found], target)
    return target


def install_answers(source: str, place: str, folder: Path) -> Path:
    """`folder`/comparisons.jsonl with its pictures, ties included: of a campaign, or a file of comparisons or pairs."""
    target = folder / COMPARISONS
    if target.exists():
        return target
    if source.startswith(FROM_STORE):
        store, name = open_store(place, Path("pictures") if "://" in place else None), source.removeprefix(FROM_STORE)
        try:
            said = judgements.of_items(store, store.operator, name)
            found, latents = judgements.compared(said, f"human:{name}"), store.pictures.root / KEPT
        finally:
            store.close()
    else:
        found, latents = comparisons.load(Path(source)), Path(source).parent / KEPT
        found = [_at(one, lambda ref: str(Path(source).parent / ref.path)) for one in found]
    if not found:
        raise ValueError(f"{source} holds no answer")
    refs = {ref.sha256: ref for one in found for ref in (one.left, one.right)}
    for ref in refs.values():
        _copy(ref, folder)
    _keep_latents(latents, list(refs), folder)
    moved = [_at(one, lambda ref: f"pictures/{ref.sha256}.png") for one in found]
    write_bytes(target, comparisons.to_jsonl(moved).encode())
    return target


def _at(one: Comparison, path: Callable[[ImageRef], str]) -> Comparison:
    """With other paths of its pictures."""
    return replace(one, left=replace(one.left, path=path(one.left)), right=replace(one.right, path=path(one.right)))


def keep_latent(root: Path, sha256: str, x0: object) -> None:
    """Remember what a picture was decoded from."""
    from safetensors.torch import save_file

    (root / KEPT).mkdir(parents=True, exist_ok=True)
    save_file({"x0": x0}, root / KEPT / f"{sha256}.safetensors")  # type: ignore[dict-item]


def _keep_latents(kept: Path, hashes: list[str], folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    found = {sha: load_file(kept / f"{sha}.safetensors")["x0"] for sha in hashes
             if (kept / f"{sha}.safetensors").exists()}  # fmt: skip
    if found:
        save_file(found, folder / LATENTS)


def _copy(ref: ImageRef, folder: Path) -> None:
    try:
        source = existing(Path(ref.path))
    except FileNotFoundError:
        raise FileNotFoundError(f"the picture {ref.path} of a pair is not there") from None
    place = folder / "pictures" / f"{ref.sha256}.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f".{place.name}")
    shutil.copyfile(source, fresh)
    os.replace(fresh, place)


def _moved(pair: PreferencePair) -> PreferencePair:
    """With the paths that the pictures have in the run's folder."""
    return replace(pair, chosen=replace(pair.chosen, path=f"pictures/{pair.chosen.sha256}.png"),
                   rejected=replace(pair.rejected, path=f"pictures/{pair.rejected.sha256}.png"))  # fmt: skip


def _beside(pair: PreferencePair, folder: Path) -> PreferencePair:
    """With paths that are not relative to the file any more."""
    return replace(pair, chosen=replace(pair.chosen, path=str(folder / pair.chosen.path)),
                   rejected=replace(pair.rejected, path=str(folder / pair.rejected.path)))  # fmt: skip
