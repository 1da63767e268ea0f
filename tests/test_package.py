"""What is built and installed is whole: no file that is read when it runs stays behind, and no test comes along."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from rewards.weight_packages import FOLDER

ROOT = Path(__file__).parents[1]
FLOORS = ("alignment", "base_model", "dashboards", "experiments", "preference_data", "rewards")
STAYS = "experiments/reports/"
"""What is read by people, on the repository's pages."""


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The files that a wheel of this checkout would hold, as setuptools works them out."""
    from setuptools import Distribution

    monkeypatch.chdir(ROOT)
    distribution = Distribution({"script_name": "setup.py"})
    distribution.parse_config_files()
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    modules = {Path(each[-1]).as_posix() for each in command.find_all_modules()}
    data = {f"{source}/{name}" for _, source, _, names in command.data_files for name in names}
    yield modules | data


def files_of_the_floors() -> set[str]:
    """What an installed package needs."""
    there = (path for floor in FLOORS for path in (ROOT / floor).rglob("*") if path.is_file())
    names = {path.relative_to(ROOT).as_posix() for path in there if "__pycache__" not in path.parts}
    return {name for name in names if not name.startswith(STAYS)}


def test_every_file_of_the_floors_is_packed_and_nothing_else(packed: set[str]) -> None:
    ours = files_of_the_floors()
    assert len(ours) > 200
    assert not ours - packed, "left behind: package-data of pyproject.toml, or a folder without __init__.py"
    assert not {name.split("/")[0] for name in packed} - set(FLOORS)


def without_checkout() -> dict[str, str]:
    """The environment without PYTHONPATH, by which pip would find the package in a checkout and install nothing."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@dataclass(frozen=True)
class Installed:
    """The wheel in an environment of its own, and somebody's folder to work in."""

    wheel: Path
    bin: Path
    work: Path

    def environment(self) -> dict[str, str]:
        """No path to this checkout."""
        return without_checkout() | {"OMP_NUM_THREADS": "1"}

    def glyphlab(self, *words: object) -> str:
        """What a command prints that ends well."""
        line = [str(self.bin / "glyphlab"), *map(str, words)]
        done = subprocess.run(line, cwd=self.work, env=self.environment(), capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built as it would be published, through an sdist, and installed beside packages that others call as ours."""
    place = tmp_path_factory.mktemp("package")
    source = place / "source"
    for name in FLOORS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    line = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place / "dist"), str(source)]
    built = subprocess.run(line, capture_output=True, text=True, cwd=place)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (place / "dist").glob("*.whl")
    assert list((place / "dist").glob("*.tar.gz"))

    environment = place / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    # what is installed here, without its .pth files: an editable install of this checkout is one of those
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    if FOLDER.is_dir():
        (environment / FOLDER.name).symlink_to(FOLDER)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(environment / "bin" / "python")]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True, env=without_checkout())

    work = place / "work"
    for name in FLOORS:
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text(f"raise RuntimeError('somebody else's {name} was imported')\n")
    return Installed(wheel, environment / "bin", work)


@pytest.mark.slow
def test_the_wheel_holds_every_file_and_no_test(installed: Installed) -> None:
    names = {name for name in zipfile.ZipFile(installed.wheel).namelist() if ".dist-info/" not in name}
    assert names == files_of_the_floors()


@pytest.mark.slow
def test_commands_run_among_packages_of_the_same_names(installed: Installed) -> None:
    assert "About 14 minutes" in " ".join(installed.glyphlab("quickstart", "--help").split())
    assert installed.glyphlab("--version").split()[0] == "glyphlab"
    assert "nano_grpo " in installed.glyphlab("list", "experiments")
    few = ("--algorithm.steps", 1, "--algorithm.batch", 4, "--algorithm.micro", 4)  # latents come from a second process
    assert "nano_pretrain is finished" in installed.glyphlab(
        "train", "nano_pretrain", "-o", "run", "--no-evaluate", *few
    )
    installed.glyphlab("sample", "run", "the word GLYPH in red on white", "--steps", 2, "-o", "images/a.png")
    with Image.open(installed.work / "images" / "a.png") as image:
        assert np.asarray(image).shape == (32, 96, 3)
    (installed.work / "images" / "a.txt").write_text("the word GLYPH in red on white")
    for reward in ("ocr", "ocr_likelihood", "brisque"):
        assert "over 1 " in installed.glyphlab("score", "images", "--reward", reward)
    pairs = installed.glyphlab("pairs", "from-scores", "run", "-o", "pairs", "--count", 2, "--group", 2)  # a worker
    assert "pairs.jsonl" in pairs


@pytest.mark.slow
def test_the_data_extra_is_whole_with_one_opencv(installed: Installed, tmp_path: Path) -> None:
    """Installed by itself from a registry, nothing of it is broken."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    line = [*pip, "install", "-q", "-c", str(ROOT / "constraints-cpu.txt"), f"{installed.wheel}[data]"]
    subprocess.run(line, check=True, env=without_checkout())
    checked = subprocess.run([*pip, "check"], capture_output=True, text=True, env=without_checkout())
    assert checked.returncode == 0, checked.stdout
    names = subprocess.check_output([*pip, "list", "--format=freeze"], text=True, env=without_checkout())
    packages = {name.partition("==")[0].lower() for name in names.split()}
    assert {name for name in packages if "opencv" in name} == {"opencv-contrib-python"}
    assert not {"torch", "torchvision", "onnxruntime"} & packages


@pytest.mark.slow
def test_the_annotation_pages_open_among_packages_of_the_same_names(installed: Installed) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [str(installed.bin / "glyphlab"), "annotate", "--run-folder", "none", "--port", str(port)]
    server = subprocess.Popen(line, cwd=installed.work, env=installed.environment(), stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120.0
        while time.monotonic() < deadline and server.poll() is None:
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/health").text == "ok"
                return
            except httpx.TransportError:
                time.sleep(0.3)
        pytest.fail(f"no page in two minutes; the server's status is {server.poll()}")
    finally:
        server.kill()
        server.wait()
