"""Notes in Markdown as safe HTML: raw HTML is shown as text, and nothing is loaded from anywhere.

Links are kept only to http(s) and mail addresses and to anchors in the page; the page's own look needs code without
<code> and tables that scroll.
"""

from __future__ import annotations

import re
from html import escape

from markupsafe import Markup

_LINK = re.compile(r"(?:https?://|mailto:|#)\S+")


def render(text: str, level: int = 3) -> Markup:
    """Markdown (CommonMark with tables) as HTML; its topmost headings become h`level`."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    parser.validateLink = lambda url: bool(_LINK.fullmatch(url))
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(level + int(token.tag[1]) - 1, 6)}"
    rules = parser.renderer.rules
    rules["fence"] = rules["code_block"] = lambda tokens, i, *_: f"<pre>{escape(tokens[i].content.rstrip())}</pre>\n"
    rules["table_open"] = lambda *_: '<div class="scroll"><table>\n'
    rules["table_close"] = lambda *_: "</table></div>\n"
    return Markup(parser.renderer.render(tokens, parser.options, {}).strip())
