"""Released folders made once for all tests of a process: making them imports diffusers and transformers, which is slow.
Nobody writes into them; copy what is to be changed."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def skipping_without_diffusers() -> Iterator[None]:
    """Skip a test that needs diffusers, which is not among the packages that everybody installs."""
    try:
        yield
    except (ModuleNotFoundError, ValueError) as error:
        missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if isinstance(missing, ModuleNotFoundError) and str(missing.name).partition(".")[0] == "diffusers":
            pytest.skip("diffusers is not installed")
        raise


pytest_runtest_call = pytest.hookimpl(wrapper=True)(skipping_without_diffusers)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Every test and its fixtures draw the same numbers, whichever tests its process ran before."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    yield from skipping_without_diffusers()


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """A page run by AppTest stays behind as the main module, which processes started later would import."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before


def made(tmp_path_factory: pytest.TempPathFactory, name: str, *settings: object) -> Path:
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from tests.fixtures.tiny.tiny_released import make

    return make(tmp_path_factory.mktemp("released") / name, *settings)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def t2i(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image checkpoint in several shards."""
    return made(tmp_path_factory, "t2i", "QwenImagePipeline", False, 2, "400KB")


@pytest.fixture(scope="session")
def edit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An editing checkpoint of the first kind."""
    return made(tmp_path_factory, "edit", "QwenImageEditPipeline")


@pytest.fixture(scope="session", params=[False, True], ids=["2509", "2511"])
def plus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An editing checkpoint of the second kind, without and with zero_cond_t."""
    return made(tmp_path_factory, "plus", "QwenImageEditPlusPipeline", request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file goes first, so that one of two processes does not end with it alone."""
    items.sort(key=lambda item: "test_quickstart" not in item.nodeid)
