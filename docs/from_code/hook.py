"""Joins the pages that are made from the code to the site. MkDocs calls the functions that begin with `on_`.

The reference is made at every build and is never written into docs/, so that it cannot be older than the code.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
sys.path[:0] = [str(each) for each in (ROOT, DOCS) if str(each) not in sys.path]

from from_code import api, commands, experiments_by_name, links, names, settings  # noqa: E402

MAKERS = (commands, experiments_by_name, settings, names, api)
SECTIONS = ("commands", "experiments", "python")
"""Parts of the reference that have a page for each name."""


def reference() -> dict[str, str]:
    """Return the Markdown of every page that is made from the code, by its path in docs/."""
    return {f"reference/{file}": text for maker in MAKERS for file, text in maker.pages()}


def on_config(config: Any) -> Any:
    """Put the pages of the reference into the menu."""
    made = reference()
    config["extra"]["made"] = made
    single = [file for file in made if file.count("/") == 1]
    menu: list[Any] = [*single]
    for section in SECTIONS:
        menu.append({section.capitalize(): [file for file in made if file.startswith(f"reference/{section}/")]})
    for entry in config["nav"]:
        if "Reference" in entry:
            entry["Reference"] = [*entry["Reference"], *menu]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the reference, and the files outside of docs/ that some page links to."""
    from mkdocs.structure.files import File, InclusionLevel

    made: dict[str, str] = config["extra"].pop("made")
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    written = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for place, found in links.brought_in(written, ROOT).items():
        content = {"content": found} if isinstance(found, str) else {"abs_src_path": str(found)}
        files.append(File.generated(config, place, **content, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links that leave docs/ lead to the site's own copy."""
    if page.file.src_uri.startswith(f"{links.ROOM}/"):
        return markdown
    return links.redirected(page.file.src_uri, markdown, ROOT)
