"""Every tutorial does what it says, with the commands as they stand and a chain of seconds."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs import tutorials
from tests.fixtures.tiny.tiny_families import save_pipeline
from tests.fixtures.tiny.tiny_vlm import qwen_folder

FIRST = "first-run"
PAGES = sorted(page.stem for page in tutorials.TUTORIALS.glob("*.md"))


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished chain, as the first tutorial leaves it."""
    folder = tmp_path_factory.mktemp("chain")
    line = ["bash", "-c", "glyphlab quickstart"]
    subprocess.run(line, cwd=folder, env=tutorials.environment(folder), check=True, capture_output=True)
    return folder / "runs" / "quickstart"


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_tutorial_runs(name: str, quickstart: Path, tmp_path: Path) -> None:
    shutil.copytree(quickstart, tmp_path / "runs" / "quickstart")
    page = (tutorials.TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    if (hub := "Qwen/Qwen2.5-VL-3B-Instruct") in page:  # a folder of that name wins over the hub
        pytest.importorskip("trl")
        (tmp_path / hub).mkdir(parents=True)
        qwen_folder(tmp_path / hub)
    if (hub := "stabilityai/stable-diffusion-3.5-medium") in page:
        save_pipeline("sd3", tmp_path / hub)
    assert tutorials.run(page, tmp_path)


def test_a_page_is_taken_apart(tmp_path: Path) -> None:
    page = (
        "# A\n\n```text\nnot run\n```\n\n<!-- tested with: --algorithm.steps 2 -->\n```sh\nglyphlab train a\nls\n```\n"
        "<!-- tested with: --rank 0 -->\n```sh\nglyphlab train-judge --pairs a\nglyphlab train-reward\n```\n"
        '\n```python title="own.py"\nX = 1\n```\n\n```python\nfrom own import X\n```\n\n'
        "<!-- a server: not run -->\n```sh\nglyphlab annotate\n```\n"
    )
    lines = list(tutorials.scripts(page, tmp_path))
    assert [line[-1] for line in lines] == [
        "glyphlab train a --algorithm.steps 2\nls\n",
        "glyphlab train-judge --pairs a --rank 0\nglyphlab train-reward\n", str(tmp_path / "block_3.py"),
        "glyphlab annotate --help > /dev/null\n",
    ]  # fmt: skip
    assert (tmp_path / "own.py").read_text() == "X = 1\n"


def test_a_failing_block_fails_the_page(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no-such-file"):
        tutorials.run("```sh\nls no-such-file\necho after\n```\n", tmp_path)


@pytest.mark.parametrize("name", PAGES)
def test_a_tutorial_has_something_to_run(name: str) -> None:
    page = (tutorials.TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    assert {block.language for block in tutorials.blocks(page)} == {"sh", "python"}
    assert page.count("```sh") + page.count("```python") == len(tutorials.blocks(page)), "a block is not recognised"


@pytest.mark.parametrize("name", PAGES)
def test_what_a_tutorial_imports_of_ours_is_there(name: str) -> None:
    page = (tutorials.TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    ours = r"^from ((?:preference_data|base_model|rewards|alignment|experiments)\S*) import (.+)$"
    for module, words in re.findall(ours, page, re.MULTILINE):
        for word in words.split(", "):
            try:
                importlib.import_module(f"{module}.{word}")
            except ModuleNotFoundError:
                assert hasattr(importlib.import_module(module), word), f"{module} has no {word}"
