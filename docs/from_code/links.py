"""Brings files outside of docs/ that pages link to into the site, so that they open without network."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from from_code.markdown import block, page, table

LINK = re.compile(r"(?P<before>\]\()(?P<target>[^)\s#:]+)(?P<after>(?:#[^)\s]*)?\))")
"""A link of Markdown to a file, with or without a place in it; not an address."""
ROOM = "source"
"""Folder of the site for what lies elsewhere in the repository."""
LANGUAGES = {
    ".py": "python",
    ".toml": "toml",
    ".jsonl": "json",
    ".json": "json",
    ".sh": "sh",
    ".js": "js",
    ".css": "css",
}


def outside(file: str, target: str) -> str:
    """Return the path from the repository's root, where a link of docs/`file` leaves docs/; "" where it stays."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(file), target))
    return "" if path.startswith("docs/") or path.startswith("..") else path


def site_file(path: str, root: Path) -> str:
    """Return where the site has a file or folder of the repository."""
    if (root / path).is_dir():
        return f"{ROOM}/{path}/index.md" if path != "." else f"{ROOM}/index.md"
    return f"{ROOM}/{path}" if path.endswith((".md", ".png", ".svg", ".html")) else f"{ROOM}/{path}.md"


def redirected(file: str, text: str, root: Path, origin: str = "") -> str:
    """Let the links of a page that leave docs/ lead to where the site has those files.

    `file` is the page's path in the site; `origin` is where its text stands in the repository, from docs/.
    """

    def lead(link: re.Match[str]) -> str:
        path = outside(origin or file, link["target"])
        inside = posixpath.normpath(posixpath.join("docs", posixpath.dirname(origin or file), link["target"]))
        if path and (root / path).exists():
            to = site_file(path, root)
        elif origin and inside.startswith("docs/"):
            to = inside.removeprefix("docs/")
        else:
            return link[0]
        return f"{link['before']}{posixpath.relpath(to, posixpath.dirname(file) or '.')}{link['after']}"

    return LINK.sub(lead, text)


def brought_in(texts: Mapping[str, str], root: Path) -> dict[str, str | Path]:
    """Return, for all that pages link to outside of docs/, site file -> Markdown, or the file where it is an image.

    `texts` has the pages by their path. What a page that is brought in links to is brought in as well.
    """
    found: dict[str, str | Path] = {}
    waiting = [path for file, text in texts.items() for path in linked(file, text)]
    while waiting:
        path = waiting.pop()
        place, source = site_file(path, root), root / path
        if place in found or not source.exists():
            continue
        if source.is_dir():
            found[place] = folder_page(path, source)
        elif source.suffix in (".png", ".svg", ".html"):
            found[place] = source
        elif source.suffix == ".md":
            origin = posixpath.relpath(path, "docs")
            text = source.read_text(encoding="utf-8")
            found[place] = redirected(place, text, root, origin)
            waiting += linked(origin, text)
        else:
            code = block(source.read_text(encoding="utf-8"), LANGUAGES.get(source.suffix, "text"))
            found[place] = page(path, code)
    return found


def linked(file: str, text: str) -> Iterable[str]:
    """Yield the paths outside of docs/ that the text of docs/`file` links to."""
    return filter(None, (outside(file, link["target"]) for link in LINK.finditer(text)))


def folder_page(path: str, folder: Path) -> str:
    """Return a page that lists the files of a folder, with the first line of what each says about itself."""
    names = sorted(each.name for each in os.scandir(folder) if each.is_file() and not each.name.startswith("."))
    rows = ((f"`{name}`", first_line(folder / name)) for name in names)
    return page(f"{path}/", table(("file", "what it is"), rows))


def first_line(file: Path) -> str:
    """Return the first line of a module's docstring, or the title of a page."""
    if file.suffix not in (".py", ".md"):
        return ""
    lines = file.read_text(encoding="utf-8").split("\n")
    return lines[0].strip('"# ')
