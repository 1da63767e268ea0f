"""Packages of which only files are read: they are found beside the installed ones, and never installed among them."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from experiments.curation.measures import body_detector
from experiments.record.environment import environment
from rewards import weight_packages
from rewards.published import brisque
from rewards.text.recognisers import V4, V6, find_weights
from rewards.weight_packages import package_folder

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text().replace("\\\n", " ")


def test_a_package_is_read_where_it_is_installed_or_else_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_packages, "FOLDER", tmp_path)
    for name in ("numpy", "never_installed"):
        (tmp_path / name).mkdir()
    assert package_folder("numpy") != tmp_path / "numpy"
    assert package_folder("never_installed") == tmp_path / "never_installed"
    assert package_folder("never_heard_of") is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    inside = tmp_path / V6[0] / V6[1]
    inside.parent.mkdir(parents=True)
    inside.write_bytes(b"weights")
    assert find_weights(V6) == inside


def test_the_record_of_a_run_names_their_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment()["packages"]
    monkeypatch.setattr(weight_packages, "FOLDER", tmp_path)
    for name in ("rapidocr_onnxruntime", "numpy"):
        (tmp_path / f"{name}-0.0.7.dist-info").mkdir()
        (tmp_path / f"{name}-0.0.7.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 0.0.7\n")
    assert environment()["packages"]["numpy"] == before["numpy"]  # type: ignore[index]
    monkeypatch.setattr("sys.path", [path for path in sys.path if "site-packages" not in path])
    assert environment()["packages"]["rapidocr-onnxruntime"] == "0.0.7"  # type: ignore[index]
    monkeypatch.undo()
    assert environment()["packages"] == before
    assert {"rapidocr", "rapidocr-onnxruntime"} <= set(before)  # type: ignore[call-overload]


def test_make_puts_the_named_versions_into_the_folder_and_installs_none_without_what_it_needs() -> None:
    lines = [line.strip() for line in MAKEFILE.splitlines() if "pip install" in line and "--no-deps" in line]
    (weights,) = (line for line in lines if f"--target $(VENV)/{weight_packages.FOLDER.name} " in line)
    pins = set(re.findall(r"\S+==\S+", weights))
    assert pins == {install.split()[-1] for install in (V6[2], V4[2], brisque.INSTALL, body_detector.SOURCE[2])}
    # what is left lies among the packages that `pip check` looks at
    installed = [pin for line in lines if "--target" not in line for pin in re.findall(r"(\S+)==\S+", line)]
    assert installed == ["opencv-contrib-python"]
