"""What a number depended on besides the configuration: command, versions, threads, machine, git revision."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "glyphlab", "torch", "numpy", "pillow", "safetensors", "matplotlib", "onnxruntime", "paddleocr", "rapidocr",
    "rapidocr-onnxruntime", "nudenet", "deepspeed", "diffusers", "transformers",
)  # fmt: skip
"""Whose versions can change a number or an image."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
"""Environment variables that change the order of sums, and with it the last bits."""


def command() -> str:
    """The command of this process as one would type it again."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name and not spec.name.startswith("__"):
        name = spec.name.removesuffix(".__main__")
        return shlex.join(["python", "-m", name, *sys.argv[1:]])
    return shlex.join([Path(sys.argv[0]).name or "python", *sys.argv[1:]])


def environment() -> dict[str, object]:
    """Versions, machine and thread settings. Packages that are not installed are left out."""
    from rewards.weight_packages import FOLDER  # asked here: looking at runs needs no rewards

    versions = {}
    for name in PACKAGES:
        for package in metadata.distributions(name=name, path=[*sys.path, str(FOLDER)]):
            versions.setdefault(name, package.version)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "packages": versions,
        "threads": {name: os.environ[name] for name in THREADS if name in os.environ},
    }


def processor() -> str:
    """The processor's trade name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name") and ":" in line]
    return names[0] if names else platform.processor() or platform.machine()


def revision(root: Path = ROOT) -> dict[str, object] | None:
    """{"revision": commit, "dirty": whether files differ from it}, or None when `root` is not a git checkout's top."""
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "HEAD")
    # an installed copy may lie inside someone else's checkout, whose revision says nothing about ours
    if top is None or commit is None or Path(top).resolve() != root.resolve():
        return None
    return {"revision": commit, "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10.0, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
