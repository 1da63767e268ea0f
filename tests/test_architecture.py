"""The house keeps its shape: floors, sizes, names, no side effects of imports. What is not enforced here decays."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "preference_data": set(),
    "base_model": set(),
    "rewards": {"preference_data"},
    "alignment": {"preference_data", "base_model", "rewards"},
    "experiments": {"preference_data", "base_model", "rewards", "alignment"},
    "dashboards": {
        "preference_data",
        "experiments.record.record",
        "experiments.record.results",
    },
}
"""What each floor may import of ours. `rewards` further: prompts and pixels only, and the readers of their files."""
ROOMS = (
    "record", "report", "tracking", "progress", "images", "experiment", "configs", "overrides", "evaluation",
    "preferences", "reward_models", "rewriting", "planning", "producers", "training", "curation", "quickstart",
    "speedrun", "studies", "resume", "settings", "commands", "cli", "benchmarks",
)  # fmt: skip
"""The rooms of `experiments`, each of which may import those before it."""
LIBRARY = ("preference_data", "base_model", "rewards", "alignment")
TORCH_FREE = (
    "preference_data", "dashboards", "experiments.record", "experiments.report", "experiments.tracking",
    "experiments.cli", "experiments.commands", "experiments.preferences.run_campaigns",
    "experiments.preferences.manage_accounts",
)  # fmt: skip
HEAVY = {"torch", "paddleocr", "paddlex", "diffusers", "transformers", "deepspeed", "onnxruntime", "matplotlib", "cv2"}
MAX_FILE, MAX_FUNCTION, MAX_STORY = 400, 60, 900
MAX_TEST_FILE, MAX_TEST_FUNCTION = 700, 90
MAX_FOLDER = 15
TWINS = {
    "accounts", "campaigns", "released", "autoencoders", "pairs",  # a command and the module that it calls
    "mmdit", "vae", "ocr", "plan", "exchange", "glyph",  # a benchmark and what it times
    "imagereward",  # a published reward, and the format of the data set of the same paper
}  # fmt: skip
"""File names that may stand in two folders."""
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MODULES = [module_name(path) for path in SOURCES]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path, top_level: bool = False) -> Iterator[str]:
    """Modules a file imports, anywhere or only when it is itself imported."""
    for node in executed(tree(path)) if top_level else ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if is_module(inner) else str(node.module)


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run on import: everything outside of functions and of `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from executed(child)


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def is_within(module: str, names: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def test_floors() -> None:
    wrong = []
    for path in SOURCES:
        floor = path.relative_to(ROOT).parts[0]
        for module in imports(path):
            top = module.split(".")[0]
            if top == "tests" or (top in FLOORS and top != floor and not is_within(module, FLOORS[floor])):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong, wrong


def test_rooms_of_experiments() -> None:
    wrong = []
    for path in (path for path in SOURCES if path.relative_to(ROOT).parts[0] == "experiments"):
        own = module_name(path).split(".")
        for module in imports(path):
            there = module.split(".")
            inside = len(own) > 1 and len(there) > 1 and there[0] == "experiments"
            if inside and ROOMS.index(there[1]) > ROOMS.index(own[1]):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong, wrong


def import_graph() -> dict[str, set[str]]:
    return {module_name(path): {m for m in imports(path, top_level=True) if m in MODULES} for path in SOURCES}


def test_imports_go_round_in_no_circle() -> None:
    graph, done = import_graph(), set()
    while free := {name for name in graph if name not in done and graph[name] <= done}:
        done |= free
    assert set(graph) == done, f"each of these imports another of them: {sorted(set(graph) - done)}"


def test_folders_stay_small_and_names_are_said_once() -> None:
    """At most fifteen files in a folder; the same file name twice only where both are about the same thing."""
    folders: dict[Path, int] = {}
    names: dict[str, list[str]] = {}
    for path in SOURCES + TESTS:
        if path.name not in ("__init__.py", "__main__.py", "conftest.py"):
            folders[path.parent] = folders.get(path.parent, 0) + 1
            names.setdefault(path.stem, []).append(path.relative_to(ROOT).as_posix())
    crowded = {str(folder.relative_to(ROOT)): count for folder, count in folders.items() if count > MAX_FOLDER}
    assert not crowded, crowded
    twice = {name: paths for name, paths in names.items() if len(paths) > 1 and name not in TWINS}
    assert not twice, f"say which is which in the name: {twice}"


def test_rewards_see_prompts_and_pixels_only() -> None:
    used = {name for path in SOURCES if module_name(path).startswith("rewards") for name in imports(path)}
    assert {n for n in used if n.startswith("preference_data")} <= {
        "preference_data.records", "preference_data.comparisons",
        "preference_data.statistics.shares", "preference_data.statistics.score_intervals",
        "preference_data.image_files", "preference_data.line_files", "preference_data.spelling",
        "preference_data.pixels", "preference_data.texts.normalised_text",
    }  # fmt: skip


def test_libraries_do_not_write_logs_or_read_the_command_line() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in SOURCES
        for module in imports(path)
        if path.relative_to(ROOT).parts[0] in LIBRARY and module.split(".")[0] in {"tyro", "argparse", "tqdm"}
    ]
    printing = [
        f"{path.relative_to(ROOT)} prints"
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] in LIBRARY
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong + printing, wrong + printing


def test_alignment_touches_no_disk() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] == "alignment"
        for name in imports(path)
        if name.split(".")[0] in {"pathlib", "os", "io", "json", "logging", "tempfile", "shutil", "sqlite3"}
    ]
    assert not wrong, wrong


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    allowed = {"torch"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {module} when it is imported"
        for path in SOURCES
        for module in imports(path, top_level=True)
        if module.split(".")[0] in HEAVY - allowed
    ]
    assert not wrong, wrong


def test_torch_free_modules_do_not_load_torch() -> None:
    names = [name for name in MODULES if is_within(name, set(TORCH_FREE))]
    code = (
        f"import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(name)\n"
        f"    found = {HEAVY!r} & set(sys.modules)\n    assert not found, (name, found)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_every_module_can_be_imported_alone_and_leaves_no_file(tmp_path: Path) -> None:
    """Each in a fork of one process without any of ours, so that no module leans on what another loaded."""
    code = f"""
import importlib, os, sys
import numpy, torch, tqdm, tyro, psutil, PIL.Image, safetensors.torch
for name in {MODULES!r}:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(name, repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(tmp_path.iterdir()), "importing must not write files"


def test_files_and_functions_stay_small() -> None:
    wrong = []
    for paths, most, longest in ((SOURCES, MAX_FILE, MAX_FUNCTION), (TESTS, MAX_TEST_FILE, MAX_TEST_FUNCTION)):
        for path in paths:
            if lines(path) > most:
                wrong.append(f"{path.relative_to(ROOT)} has {lines(path)} lines")
            for function in functions(path):
                length = (function.end_lineno or 0) - function.lineno + 1
                if length > longest:
                    wrong.append(f"{path.relative_to(ROOT)}: {function.name} has {length} lines")
    assert not wrong, wrong


def test_what_the_loss_of_grpo_rests_on_can_be_read_in_one_sitting() -> None:
    """Everything that must be right for the loss to be: also where rewards come in, and how images are sampled."""
    names = ("base_model/flow.py", "base_model/sample.py", "alignment/trajectory.py", "alignment/groups.py",
             "alignment/advantages.py", "alignment/grpo.py")  # fmt: skip
    assert sum(lines(ROOT / name) for name in names) < MAX_STORY, {name: lines(ROOT / name) for name in names}


def test_latents_become_pixels_in_one_place() -> None:
    """Whoever decodes and rounds by hand soon does so in other chunks or through other noise levels."""
    decoding = re.compile(r"model\.decode\(.*round\(\)\.byte\(\)")
    places = [path.relative_to(ROOT).as_posix() for path in SOURCES if decoding.search(path.read_text())]
    assert places == ["base_model/sample.py"], places
    hashes = [path.relative_to(ROOT).as_posix() for path in SOURCES if "repr(pixels.shape)" in path.read_text()]
    assert hashes == ["preference_data/pixels.py"], hashes


def test_no_drawer_for_everything() -> None:
    wrong = [str(p.relative_to(ROOT)) for p in SOURCES + TESTS if p.stem in FORBIDDEN_NAMES]
    assert not wrong, f"name a file after its concept, or move its functions to their only caller: {wrong}"


def test_no_keyword_rivers() -> None:
    card, planning = ROOT / "experiments" / "benchmarks" / "card", ROOT / "experiments" / "planning"
    # what stands in for any function of torch takes anything
    stand_ins = {*card.glob("*.py"), planning / "card.py", planning / "torch_patches.py"}
    wrong = [
        f"{path.relative_to(ROOT)}: {function.name}"
        for path in SOURCES
        for function in functions(path)
        if function.args.kwarg is not None and path not in stand_ins
    ]
    assert not wrong, f"**kwargs hide what a function takes; name its arguments: {wrong}"


def test_variants_are_functions_not_strings() -> None:
    """An algorithm that compares a setting with a text has a fork inside it; pass the variant in as a function."""
    wrong = []
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] not in ("alignment", "base_model"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute):
                texts = [c for c in node.comparators if isinstance(c, ast.Constant) and isinstance(c.value, str)]
                owner = ast.unparse(node.left.value)
                if texts and owner.split(".")[0] in ("cfg", "config", "self.cfg", "settings"):
                    wrong.append(f"{path.relative_to(ROOT)} line {node.lineno}: {ast.unparse(node)}")
    assert not wrong, wrong


@cache
def attributes_read() -> frozenset[str]:
    """Every name after a dot that is read in our code, or inside the braces of a page's template."""
    code = {
        node.attr
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    templates = " ".join(path.read_text() for path in (ROOT / "experiments" / "report" / "templates").glob("*.html"))
    braces = " ".join(re.findall(r"\{[{%].*?[%}]\}", templates, re.DOTALL))
    return frozenset(code | set(re.findall(r"""(?:\.|attribute=")([a-z_]+)""", braces)))


def config_classes() -> list[type]:
    """The dataclasses that settings are made of: algorithms, data, optimizers, rewards, models, commands."""
    found = {}
    for name in MODULES:
        if name.split(".")[0] in (*LIBRARY, "experiments"):
            module = importlib.import_module(name)
            for kind in vars(module).values():
                if inspect.isclass(kind) and dataclasses.is_dataclass(kind) and kind.__module__ == name:
                    found[f"{name}.{kind.__qualname__}"] = kind
    return list(found.values())


def test_every_setting_is_read_somewhere() -> None:
    wrong = [
        f"{kind.__module__}.{kind.__qualname__}.{field.name}"
        for kind in config_classes()
        for field in dataclasses.fields(kind)
        if field.name not in attributes_read()
        if not kind.__module__.startswith("preference_data")  # facts on record, not settings
        if kind.__name__ != "Filters"  # in_order reads all of them
    ]
    assert not wrong, f"a setting that nothing reads misleads whoever sets it: {wrong}"


def test_settings_cannot_change_after_they_are_made() -> None:
    wrong = [k.__qualname__ for k in config_classes() if not k.__dataclass_params__.frozen]  # type: ignore[attr-defined]
    assert not wrong, f"dataclasses at boundaries are frozen: {wrong}"


def test_annotations_are_lazy_and_modules_say_what_they_are() -> None:
    for path in SOURCES + TESTS:
        if not path.read_text(encoding="utf-8").strip():
            continue
        body = tree(path).body
        if path in SOURCES and path.name != "__init__.py":
            assert ast.get_docstring(tree(path)), f"{path.relative_to(ROOT)} does not say what it is"
        code = [n for n in body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
        future = code and isinstance(code[0], ast.ImportFrom) and code[0].module == "__future__"
        assert not code or future, f"{path.relative_to(ROOT)} lacks `from __future__ import annotations`"


@pytest.mark.parametrize("path", ["base_model/flow.py", "base_model/interface.py", "alignment/trajectory.py",
                                  "alignment/grpo.py", "experiments/training/runner.py"])  # fmt: skip
def test_readme_names_the_five_files_to_read_first(path: str) -> None:
    assert (ROOT / path).exists() and path in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tree_of_the_readme_has_a_row_for_every_folder() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    folders = {path.parent.relative_to(ROOT).as_posix() for path in SOURCES}
    missing = [folder for folder in sorted(folders) if folder.count("/") < 2 and f"]({folder})" not in readme]
    assert not missing, missing
