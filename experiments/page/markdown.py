"""The little of Markdown that notes need, as safe HTML: headings, paragraphs, lists, tables, code, links, emphasis.

Everything is escaped first; links are kept only to http(s) and mail addresses and to places in the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

_HEADING = re.compile(r"(#{1,4})\s+(.*)")
_ITEM = re.compile(r"(\s*)(?:[-*+]|(\d+)[.)])\s+(.*)")
_RULE = re.compile(r"\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*")
_SPANS = (
    (re.compile(r"\*\*(.+?)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"(?<![\w*])[*_](?![\s*_])(.+?)(?<![\s*_])[*_](?!\w)"), r"<em>\1</em>"),
    (re.compile(r"\[([^\]]+)\]\(((?:https?://|mailto:|#)[^)\s]+)\)"), r'<a href="\2">\1</a>'),
)


def inline(text: str) -> str:
    """One line's emphasis, code and links; everything else is escaped."""
    parts = re.split(r"(`[^`]+`)", text)
    done = []
    for part in parts:
        if len(part) > 2 and part.startswith("`") and part.endswith("`"):
            done.append(f"<code>{escape(part[1:-1])}</code>")
            continue
        safe = escape(part)
        for pattern, replacement in _SPANS:
            safe = pattern.sub(replacement, safe)
        done.append(safe)
    return "".join(done)


def render(text: str, level: int = 3) -> str:
    """Markdown as HTML; its topmost headings become h`level`."""
    return "\n".join(_blocks(text.replace("\r\n", "\n").split("\n"), level))


def _blocks(lines: list[str], level: int) -> Iterator[str]:
    i = 0
    while i < len(lines):
        line = lines[i]
        if not line.strip():
            i += 1
        elif line.lstrip().startswith("```"):
            end = next((j for j in range(i + 1, len(lines)) if lines[j].lstrip().startswith("```")), len(lines))
            yield f"<pre>{escape(chr(10).join(lines[i + 1 : end]))}</pre>"
            i = end + 1
        elif match := _HEADING.match(line):
            depth = min(level + len(match[1]) - 1, 6)
            yield f"<h{depth}>{inline(match[2])}</h{depth}>"
            i += 1
        elif i + 1 < len(lines) and "|" in line and _RULE.fullmatch(lines[i + 1]):
            end = next((j for j in range(i + 2, len(lines)) if "|" not in lines[j]), len(lines))
            yield _table(lines[i], lines[i + 2 : end])
            i = end
        else:
            end = i + 1
            if match := _ITEM.match(line):
                while end < len(lines) and lines[end].strip():
                    end += 1
                yield _list(lines[i:end], "ol" if match[2] else "ul")
            else:
                while end < len(lines) and lines[end].strip() and not _starts_block(lines[end]):
                    end += 1
                yield f"<p>{inline(' '.join(part.strip() for part in lines[i:end]))}</p>"
            i = end


def _starts_block(line: str) -> bool:
    return bool(_HEADING.match(line) or _ITEM.match(line)) or line.lstrip().startswith("```")


def _list(lines: list[str], tag: str) -> str:
    """Items with their continuation lines; nesting is flattened."""
    items: list[str] = []
    for line in lines:
        if match := _ITEM.match(line):
            items.append(match[3])
        else:
            items[-1] += " " + line.strip()
    return f"<{tag}>{''.join(f'<li>{inline(item)}</li>' for item in items)}</{tag}>"


def _table(head: str, rows: list[str]) -> str:
    def cells(line: str, tag: str) -> str:
        return "".join(f"<{tag}>{inline(cell.strip())}</{tag}>" for cell in line.strip().strip("|").split("|"))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells(head, "th")}</tr></thead><tbody>{body}</tbody></table></div>'
