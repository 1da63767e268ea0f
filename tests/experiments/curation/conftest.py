"""A folder with a sinner and a twin for each filter, and the set that is made of it; once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.curation import curated_folder
from experiments.curation.curated_folder import curate
from experiments.curation.measures import body_detector
from tests.experiments.curation.images_to_curate import as_png, photograph, write_images_to_curate

NAMES = ("coffee", "chelsea", "rocket", "coins")
"""of `photographs`"""
MISSING = ("never_installed", "weights.onnx", "pip install --no-deps never_installed")


@pytest.fixture(autouse=True)
def without_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of the detector of bodies: an image costs it 25 ms, and only its own tests need them."""
    monkeypatch.setattr(body_detector, "SOURCE", MISSING)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder, and what drops each of its images."""
    folder = tmp_path_factory.mktemp("curation") / "images"
    return folder, write_images_to_curate(folder)


@pytest.fixture(scope="session")
def made(images: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in shards of four."""
    out = tmp_path_factory.mktemp("sets") / "made"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curated_folder, "SHARD", 4)
        patch.setattr(body_detector, "SOURCE", MISSING)
        list(curate([str(images[0])], out, ["reading=no"]))
    return out


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Photographs with a caption each."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.png").write_bytes(as_png(photograph(name)))
        (folder / f"{name}.txt").write_text("from the source")
    return folder
