"""The reference is made from the code: whatever has a name has a page, and says what it is."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import subprocess
import sys
import typing
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

import pytest
from from_code import api, commands, experiments_by_name, links, names, settings

import experiments.commands
import experiments.configs
from experiments.cli import COMMANDS, inner_commands
from experiments.commands import listing
from experiments.configs import CONFIGS
from experiments.experiment import Experiment
from experiments.record.metric_table import METRICS, explained
from rewards.reward_table import REWARDS

ROOT = Path(__file__).parents[2]
WRITTEN = sorted(page for page in (ROOT / "docs").rglob("*.md"))
CASES = ("Run:", "Takes:", "Expect:")
EVASIVE = re.compile(r"Takes: +see (the|experiments)|Expect: +(see|the same)")
LOADED = re.compile(
    r'<(?:script|img|iframe)[^>]+src="?(https?:[^" >]+)'
    r'|<link[^>]+rel="?stylesheet"?[^>]+href="?(https?:[^" >]+)'
)


def test_every_command_has_a_page_with_its_help() -> None:
    pages = dict(commands.pages())
    for name in COMMANDS:
        page = pages[f"commands/{name}.md"]
        assert f"usage: glyphlab {name}" in page, name
        for inner in inner_commands(COMMANDS[name]):
            assert f"usage: glyphlab {name} {inner}" in page, (name, inner)
    assert all(len(commands.summary(command)) > 20 for command in COMMANDS.values())


def test_no_command_and_no_experiment_is_forgotten() -> None:
    """A class that runs is one of the commands or stands within one; an experiment of a config file has its name."""
    hints = [each for kind in COMMANDS.values() for each in typing.get_type_hints(kind).values()]
    within = {each for hint in hints for each in typing.get_args(hint)} | set(COMMANDS.values())
    running = {
        kind for file in modules(experiments.commands) for kind in vars(file).values()
        if isinstance(kind, type) and kind.__module__ == file.__name__ and hasattr(kind, "run")
    }  # fmt: skip
    assert running <= within, running - within
    named = {
        value.name for file in modules(experiments.configs)
        for value in [*vars(file).values(), *getattr(file, "configs", ())] if isinstance(value, Experiment)
    }  # fmt: skip
    assert named - set(CONFIGS) == {"nano_positions"}, "`ablate positions` trains it; others have a name"


def modules(package: ModuleType) -> list[ModuleType]:
    """The modules of a package, imported."""
    return [importlib.import_module(f"{package.__name__}.{each.name}") for each in iter_modules(package.__path__)]


def test_a_command_without_a_sentence_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True)
    class Silent:
        pass

    monkeypatch.setitem(COMMANDS, "silent", Silent)
    with pytest.raises(AssertionError):
        test_every_command_has_a_page_with_its_help()


def test_every_option_of_a_command_is_explained() -> None:
    silent = []
    for name, command in COMMANDS.items():
        silent += [f"{name}: {field}" for field, text in own_texts(command).items() if not text]
    assert not silent, silent


def own_texts(command: type) -> dict[str, str]:
    """Options of a command, with what the class says of each; those of settings that it takes whole are its own."""
    if inner_commands(command):
        return {}
    texts, hints = settings.field_texts(command), typing.get_type_hints(command)
    explained = {}
    for each in dataclasses.fields(command):
        whole = dataclasses.is_dataclass(hints[each.name])
        explained |= own_texts(hints[each.name]) if whole else {each.name: texts[each.name]}
    return explained


def test_every_command_occurs_in_a_page_that_somebody_wrote() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *WRITTEN])
    assert not [name for name in COMMANDS if f"glyphlab {name}" not in text]


def test_every_experiment_has_a_page_with_a_header_that_is_complete() -> None:
    pages, about = dict(experiments_by_name.pages()), listing.experiments()
    for name, header in experiments_by_name.headers().items():
        assert f"# {name}" in pages[f"experiments/{name}.md"] and about[name], name
        assert all(part in header for part in CASES), f"{name}: how is it run, how long does it take, what comes out?"
        assert not EVASIVE.search(header), f"{name}: say a number of a real run in its header, or: not run"
    assert set(about) >= set(CONFIGS)


def test_every_setting_is_explained() -> None:
    kinds = settings.classes()
    assert {"Experiment", "Grpo", "OptimConfig", "Sampler", "PromptPlan"} <= {kind.__name__ for kind in kinds}
    silent = [
        f"{kind.__name__}.{field.name}"
        for kind in kinds
        for field in dataclasses.fields(kind)
        if not settings.field_texts(kind)[field.name]
    ]
    assert not silent, silent


def test_a_setting_says_what_stands_below_it_or_beside_it_in_parents_too() -> None:
    texts = settings.field_texts(CONFIGS["nano_grpo"].algorithm.__class__)
    assert texts["group"] == "images a prompt (G)" or "prompt" in texts["group"]
    assert "Callable" not in str(settings.classes())


def test_every_reward_format_and_benchmark_has_its_section() -> None:
    pages = dict(names.pages())
    assert all(f"## {name}\n" in pages["rewards.md"] for name in REWARDS)
    assert all(f"## {name}\n" in pages["formats.md"] for name in listing.formats())
    assert all(f"## {name}\n" in pages["benchmarks.md"] for name in listing.benchmarks())
    assert "metrics.jsonl" in pages["run-folder.md"]
    assert all(f"`{name}`" in pages["metrics.md"] for name in METRICS)


def test_a_metric_is_found_by_its_pattern() -> None:
    spread = explained("zero_spread/ocr", METRICS)
    assert spread and "told none of them apart" in spread.meaning
    assert explained("ratio/step_3", METRICS) and not explained("ratios", METRICS)
    assert explained("part/learned:runs/reward", METRICS) is METRICS["part/NAME"]


def test_pages_of_python_name_every_module_of_the_library_floors() -> None:
    text = "\n".join(page for _, page in api.pages())
    assert "::: alignment.grpo\n" in text and "::: base_model.flow\n" in text and "::: experiments.record" in text
    assert "migrations" not in text


def test_links_that_leave_docs_lead_to_the_sites_own_copy() -> None:
    text = "see [it](../../alignment/grpo.py#L3), [us](../index.md) and [there](https://example.org/a.py)"
    led = links.redirected("explanation/a.md", text, ROOT)
    assert led == "see [it](../source/alignment/grpo.py.md#L3), [us](../index.md) and [there](https://example.org/a.py)"
    found = links.brought_in({"explanation/a.md": text}, ROOT)
    assert list(found) == ["source/alignment/grpo.py.md"] and "```python" in str(found["source/alignment/grpo.py.md"])


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *WRITTEN], ids=lambda page: page.stem)
def test_every_link_leads_somewhere_in_a_checkout_too(page: Path) -> None:
    """The reference is there after `make docs` alone, so that no page may link to it."""
    dead = [
        link["target"]
        for link in links.LINK.finditer(page.read_text(encoding="utf-8"))
        if not (page.parent / link["target"]).exists()
    ]
    assert not dead, dead


def test_every_page_stands_once_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    listed = re.findall(r"[\w/-]+\.md", menu)
    assert sorted(listed) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in WRITTEN)


def test_the_index_leads_to_every_page_that_answers_a_question() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    linked = {link["target"] for link in links.LINK.finditer(index)}
    for folder in ("tutorial", "how-to"):
        assert {f"{folder}/{page.name}" for page in (ROOT / "docs" / folder).glob("*.md")} <= linked
    assert "explanation/glossary.md" in linked


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    for name in COMMANDS:
        assert (tmp_path / "site" / "reference" / "commands" / f"{name}.html").exists()
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = LOADED.findall(page.read_text(encoding="utf-8"))
        assert not loaded, (page, loaded)
