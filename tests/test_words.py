"""Names in product code are the field's terms: a word of the table below has a plain one that is to be used instead.

Messages, docstrings, help texts, documents and pages say image as well.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
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
    "judge_read": "key of evaluation files",
    "unjudged_pictures": "key of pairs_summary.json", "Draw": "of Pillow", "walk_revisions": "of Alembic",
    "walk": "of the standard library: trees of syntax, folders",
    "PackageNotFoundError": "of the standard library",
}  # fmt: skip
"""Attributes that stay, because files or libraries have them."""
JUDGES = (
    "rewards/language/", "rewards/comparison/", "rewards/text/ocr_likelihood.py",
    "experiments/reward_models/train_judge.py", "experiments/reward_models/judge_trainer.py",
    "experiments/reward_models/judge_plan.py",
    "experiments/commands/reward_models.py",
)  # fmt: skip
"""Where a judge is what design calls one: a vision-language model that is asked."""
LEFT: set[tuple[str, str]] = {
    ("experiments/studies/watched_runs.py", "pictures"),
}
"""(file, name) of names that wait for a better one; take away, never add."""

PICTURE = re.compile(r"""(?<![\w`./{<-])(?!(?<=["'])pictures?["'])pictures?(?![\w`/=}>-]|\.\w|\(\))""", re.I)
"""the word in a sentence: not in a path, an option or code, nor alone between quotes, where it is a key"""
SHOWN = ("*.md", "*.html", "*.jinja", "*.svg", "*.toml", "Makefile")
"""documents and pages"""
PICTURES = {
    "base_model/qwen/prompt_templates.py": "Qwen-Image-Edit's own template numbers what it sees as `Picture 1:`",
    "base_model/data/edits.py": "an instruction that models were trained on",
    "preference_data/exchange/formats/trl.py": "questions in files that were exported before",
    "preference_data/store/schema.py": "comments of columns, as the first migration made them",
    "preference_data/store/migrations/": "comments of columns in databases that exist",
    "dashboards/annotate/lead/lead_words.py": "names the key of captions.jsonl",
    "rewards/language/": "questions that judges were measured with",
    "experiments/reports/": "reports are dated and stay as they were written",
}  # fmt: skip
"""Files, or folders, whose texts keep the word, and why."""


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


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of what a file says: of code its strings of several words and its comments, else every line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(re.sub(r"`[^`]*`|{[{%].*?[%}]}", "", text).splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if tokenize.tok_name[token.type] in ("STRING", "FSTRING_MIDDLE", "COMMENT") and re.search(
            r"\S\s+\S", token.string
        ):
            yield token.start[0], token.string


def shown_files() -> Iterator[Path]:
    for floor in (*FLOORS, "docs"):
        for pattern in ("*.py", *SHOWN):
            yield from (ROOT / floor).rglob(pattern)
    yield from (path for pattern in SHOWN for path in ROOT.glob(pattern))


def test_texts_say_image() -> None:
    wrong = []
    for path in shown_files():
        file = path.relative_to(ROOT).as_posix()
        if not file.startswith(tuple(PICTURES)):
            wrong += [f"{file} line {line}: {text[:80]}" for line, text in sentences(path) if PICTURE.search(text)]
    assert not wrong, "\n".join(wrong)


OTHER = re.compile(r"\b(draws?|drawn(?! by\s+lot)|drawing|judg(?:e|es|ed|ing))\b", re.I)
"""words that say something else: lots are drawn, and a judge is a vision-language model that is asked"""


def test_help_texts_say_sample_render_score_and_evaluate() -> None:
    wrong = []
    for path in (*sorted((ROOT / "experiments" / "commands").glob("*.py")), ROOT / "experiments" / "experiment.py"):
        if not (file := path.relative_to(ROOT).as_posix()).startswith(JUDGES):
            wrong += [f"{file} line {line}: {text}" for line, text in sentences(path) if OTHER.search(text)]
    assert not wrong, "\n".join(wrong)


def test_texts_that_keep_the_word_are_there() -> None:
    for file, reason in PICTURES.items():
        paths = [ROOT / file] if file.endswith(".py") else sorted((ROOT / file).rglob("*.*"))
        assert any("icture" in path.read_text("utf-8", "ignore") for path in paths), f"{file}: {reason}; take it out"


def test_the_search_of_texts_can_fail(tmp_path: Path) -> None:
    said = {
        'x = f"{n} pictures are there"': True, '"""Pictures of a prompt."""': True, "y = 1  # one picture a line": True,
        'raise ValueError("no picture at all")': True, 'row["picture"]': False,
        '"see pictures/a.png, `picture` too"': False,
        """'the key "picture" of it'""": False, '"with --pictures, no more"': False,
    }  # fmt: skip
    for i, (code, expected) in enumerate(said.items()):
        path = tmp_path / f"{i}.py"
        path.write_text(code + "\n", encoding="utf-8")
        assert any(PICTURE.search(text) for _, text in sentences(path)) == expected, code
