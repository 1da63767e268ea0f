"""The gallery of a reward comparison: pairs on which rewards oppose people or each other, with their images
inside."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from experiments.report.reward_charts import known
from preference_data.image_files import read_image
from preference_data.line_files import first_existing

SHOWN = 24
"""Pairs on the page; the dashboard has more."""
MOST = 320
"""Pixels of the longer side of an embedded image; smaller ones stay as they are."""


def gallery(report: Mapping[str, Any], folder: Path) -> str:
    """Renders a figure for each pair."""
    items = report["gallery"]
    if not items:
        return ""
    note = (
        '<p class="note">People’s choice has a green frame. Gaps are in units of each reward’s own typical gap, '
        "above 0 for "
        "the left image. These pairs go to annotators again with the dashboard’s Rewards page.</p>"
    )
    return note + f'<div class="pairs">{"".join(figure(item, folder) for item in items[:SHOWN])}</div>'


def figure(item: Mapping[str, Any], folder: Path) -> str:
    left, tie, right = item["votes"]
    rows = []
    for name, r in item["rewards"].items():
        gap = known(r["gap"])
        side = "not judged" if not math.isfinite(gap) else "left" if gap > 0 else "right" if gap < 0 else "equal"
        against = item["people"] != 0 and math.isfinite(gap) and gap * item["people"] < 0
        shown = f"{gap:+.1f}".replace("-", "−") if math.isfinite(gap) else "–"
        rows.append(
            f'<tr><td>{escape(name)}</td><td class="{"wrong" if against else ""}">{side}</td><td '
            f'class="n">{shown}</td></tr>'
        )
    asks = f"asks for {', '.join(escape(s) for s in item['spans'])} · " if item["spans"] else ""
    edited = "".join(
        thumbnail(folder, source["path"], source["sha256"], "source image", False)
        for source in item.get("record", {}).get("prompt", {}).get("sources", [])
    )
    images = "".join(
        thumbnail(folder, item[f"{side}_path"], item[side], f"{side} image", won)
        for side, won in (("left", item["people"] > 0), ("right", item["people"] < 0))
    )
    return (
        f"<figure><figcaption><b>{escape(item['prompt'])}</b><br>{asks}{escape(item['why'])} · people: {left:g} left, "
        f"{tie:g} tie, {right:g} right</figcaption>"
        + (f'<div class="two">{edited}</div>' if edited else "")
        + f'<div class="two">{images}</div>'
        f"<table>{''.join(rows)}</table></figure>"
    )


def thumbnail(folder: Path, path: str, sha256: str, alt: str, won: bool) -> str:
    """The image as a data URI, at most `MOST` pixels; a note where it cannot be read."""
    try:
        small = Image.fromarray(read_image(first_existing(folder / path, folder / "pictures" / f"{sha256}.png")))
    except FileNotFoundError:
        return f'<span class="unknown">{alt} is not here</span>'
    except (OSError, ValueError):
        return f'<span class="unknown">{alt} cannot be read</span>'
    small.thumbnail((MOST, MOST))
    file = io.BytesIO()
    lossless = small.width * small.height < 20_000
    small.save(file, format="PNG") if lossless else small.save(file, format="JPEG", quality=88)
    kind = "png" if lossless else "jpeg"
    data = base64.b64encode(file.getvalue()).decode()
    chosen = ' class="won"' if won else ""
    words = f"{alt}{', preferred by people' if won else ''}"
    return f'<img{chosen} loading="lazy" decoding="async" alt="{words}" src="data:image/{kind};base64,{data}">'
