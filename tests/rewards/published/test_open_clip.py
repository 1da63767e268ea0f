"""open_clip: the import beside a torch of another build, and our scores against its own pipeline."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rewards.published import open_clip_import
from rewards.published.open_clip_import import INSTALL, SIDE_FOLDER

ROOT = Path(__file__).parents[3]
here = importlib.util.find_spec("open_clip") is not None or (SIDE_FOLDER / "open_clip").is_dir()
needs_open_clip = pytest.mark.skipif(not here, reason=f"open_clip is not installed; run: {INSTALL}")


def run(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """Another Python process in the repository, so that torchvision stays out of this one."""
    paths = os.pathsep.join(part for part in (path, os.environ.get("PYTHONPATH", "")) if part)
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@needs_open_clip
def test_rewards_equal_open_clip_s_own_pipeline(tmp_path: Path) -> None:
    done = run("-m", "tests.fixtures.processes.open_clip_story", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    spreads = {name: value for name, value in found.items() if name.endswith(" values")}
    differences = {name: value for name, value in found.items() if name not in spreads}
    assert set(differences) == {"hpsv2", "clipscore", "laion_aesthetic", "crop", "pad", "text_share"}
    assert max(differences.values()) < 1e-4, differences
    assert min(spreads.values()) > 0.01, spreads  # equal because computed alike, not because all scores are one


@pytest.mark.slow
@needs_open_clip
def test_the_import_works_whatever_torchvision_was_built_for() -> None:
    code = """
from rewards.published.open_clip_import import open_clip
open_clip()
import torch, torchvision, transformers
from torchvision.transforms import functional
assert functional.resize(torch.zeros(3, 8, 8), [4, 4]).shape == (3, 4, 4)
from transformers import CLIPImageProcessor, Qwen2VLImageProcessor
CLIPImageProcessor(), Qwen2VLImageProcessor()
open_clip()
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_listing_rewards_leaves_torchvision_out() -> None:
    heavy = "{'torchvision', 'open_clip', 'torch', 'transformers'}"
    code = f"import rewards.reward_table, sys; assert not {heavy} & set(sys.modules)"
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_a_missing_open_clip_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(open_clip_import, "SIDE_FOLDER", tmp_path / "nowhere")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"open_clip, which is missing; run: pip install --no-deps --target"):
        open_clip_import.open_clip()


def test_a_broken_torchvision_is_a_clear_message(tmp_path: Path) -> None:
    for package in ("open_clip", "torchvision"):
        (tmp_path / package).mkdir()
        text = "raise RuntimeError('operator torchvision::other does not exist')"
        (tmp_path / package / "__init__.py").write_text(text if package == "torchvision" else "import torchvision")
    done = run("-c", "from rewards.published.open_clip_import import open_clip; open_clip()", path=str(tmp_path))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: open_clip could not be imported: operator torchvision::other does not exist")
    assert "take the pair from one index" in last and "--target" in last
