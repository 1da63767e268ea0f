"""Names in product code are the field's terms: a word of the table below has a plain one that is to be used instead."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = ("preference_data", "base_model", "rewards", "alignment", "experiments", "dashboards")
BANNED = {
    "picture": "image", "pictures": "images", "draw": "sample or render", "drawn": "samples", "drawing": "sampling",
    "told": "message or metrics", "asked": "query or request", "anchored": "with_kl", "judge": "scorer or gold",
    "judges": "scorers", "meet": "barrier", "walk": "exploration", "few": "batch or chunk", "look": "check or samples",
    "looks": "checks", "wall": "image grid", "hang": "image grid", "spoilt": "corrupted", "aside": "excluded, held out",
    "place": "index, path, cell or slot", "places": "indices or positions", "found": "what it is", "kept": "what it is",
    "given": "what it is", "said": "answer or text", "who": "person or account", "beside": "sidecar or extras",
    "apart": "distance", "acted": "a verb", "eyes": "views",
}  # fmt: skip
"""A word that names do not have, with what they say instead. Texts may use it."""
KEPT = {
    "picture": "key of captions.jsonl, samples.jsonl and evaluation files, and a column of the store",
    "place": "column of the store's items, and a kind of edit in records",
    "judge_ned": "key of evaluation files", "judge_exact": "key of evaluation files",
    "judge_read": "key of evaluation files", "judge_P": "what a sweep reads of `judge_exact`",
    "unjudged_pictures": "key of pairs_summary.json", "Draw": "of Pillow", "walk_revisions": "of Alembic",
    "walk": "of the standard library: trees of syntax, folders",
    "PackageNotFoundError": "of the standard library",
}  # fmt: skip
"""Attributes that stay, because files or libraries have them."""
JUDGES = (
    "rewards/language/", "rewards/comparison/", "rewards/text/ocr_likelihood.py",
    "experiments/reward_models/train_judge.py", "experiments/reward_models/judge_trainer.py",
    "experiments/commands/reward_models.py",
)  # fmt: skip
"""Where a judge is what design calls one: a vision-language model that is asked."""
LEFT: set[tuple[str, str]] = {
    ("experiments/studies/watched_runs.py", "pictures"),
}
"""(file, name) of names that wait for a better one; take away, never add."""


def words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)]


def names(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """(line, name, whether it is an attribute) of all that is defined or used by a name of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name, False
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg, False
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id, isinstance(getattr(node, "parent", None), ast.AnnAssign)
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr, True
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]


def test_no_name_has_a_word_that_the_table_replaces() -> None:
    wrong = []
    for path in sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        for line, name, attribute in names(ast.parse(path.read_text(encoding="utf-8"))):
            allowed = ("judge", "judges") if file.startswith(JUDGES) else ()
            banned = [w for w in words(name) if w in BANNED and w not in allowed]
            if banned and not (attribute and name in KEPT) and (file, name) not in LEFT:
                wrong.append(f"{file} line {line}: {name}; say {BANNED[banned[0]]}")
    assert not wrong, "\n".join(wrong)


def test_names_that_are_left_are_there() -> None:
    for file, name in LEFT:
        assert (ROOT / file).exists(), f"{file} is gone: take it out of LEFT"
        assert name in (ROOT / file).read_text(encoding="utf-8"), f"{name} is gone from {file}: take it out of LEFT"


def test_the_table_of_words_can_fail() -> None:
    code = "def draw(picture):\n    found = picture.walk()\n    return [told for told in found]\nclass Walk: pass\n"
    seen = [name for _, name, _ in names(ast.parse(code)) if any(word in BANNED for word in words(name))]
    assert sorted(seen) == ["Walk", "draw", "found", "picture", "told", "walk"]
