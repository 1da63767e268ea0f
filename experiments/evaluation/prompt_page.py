"""The page of an evaluated file of prompts: means, the worst cases first, a grid of images. It needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from experiments.evaluation.prompt_table import known_mean, prompt_columns
from experiments.report.image_grids import Embedded, data_uri
from experiments.report.page import render
from preference_data.image_files import read_image

if TYPE_CHECKING:
    import pandas

PAGE = "prompts.html"
WORST, FIRST, SIDE = 24, 48, 8
"""Prompts shown that did worst by a reward, prompts of the grid, and images of a prompt."""
WIDTH = 192
"""Pixels that an image is wide on the page, at most."""


def thumbnail(path: Path) -> Embedded | None:
    """An image for the page, no wider than `WIDTH` x 2; None where it is not there."""
    if not path.exists():
        return None
    image = Image.fromarray(read_image(path))
    height, width = image.height, image.width
    image.thumbnail((2 * WIDTH, 8 * WIDTH) if width > 2 * WIDTH else image.size)
    uri = data_uri(image, "jpeg" if width > 2 * WIDTH else "png")
    return Embedded(WIDTH, round(height * WIDTH / width), uri)


def shown(rows: pandas.DataFrame, rewards: Sequence[str], folder: Path, value: float) -> dict[str, Any]:
    """A prompt with its images."""
    images = []
    for row in rows.head(SIDE).to_dict("records"):
        read = next((row[f"{name}/read"] for name in rewards if isinstance(row.get(f"{name}/read"), str)), "")
        images.append({"seed": row["seed"], "prompt": row["prompt"], "scores": [(name, row[name]) for name in rewards],
                       "thumbnail": thumbnail(folder / row["image"]), "read": read})  # fmt: skip
    return {"prompt": rows["prompt"].iloc[0], "value": value, "images": images}


def worst_first(table: pandas.DataFrame, reward: str, rewards: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """The prompts with the lowest means of a reward, lowest first; those that it did not judge are left out."""
    key = prompt_columns(table)
    means = table.groupby(key, sort=False)[reward].mean().dropna().sort_values(kind="stable").head(WORST)
    by_prompt = dict(iter(table.sort_values(reward).groupby(key, sort=False)))
    return [shown(by_prompt[prompt], rewards, folder, float(value)) for prompt, value in means.items()]


def write_page(
    folder: Path, name: str, file: Path, table: pandas.DataFrame, means: pandas.DataFrame, rewards: Sequence[str],
    notes: Sequence[str], differences: pandas.DataFrame | None = None, against: str = "",
) -> Path:  # fmt: skip
    """Write the page in `folder` and return its path."""
    groups = [rows for _, rows in table.groupby(prompt_columns(table), sort=False)]
    first = [shown(rows, rewards, folder, float("nan")) for rows in groups[:FIRST]]
    facts = [("Prompts", len(groups)), ("File", file.name), ("Images a prompt", table["seed"].nunique())]
    facts += [(f"Mean of {each}", f"{known_mean(table[each].to_numpy()):.4f} over images") for each in rewards]
    page = render("prompts.html", {
        "title": f"{name}: {file.name}", "name": name, "against": against, "facts": facts, "notes": list(notes),
        "means": means.to_dict("records"), "first": first,
        "differences": [] if differences is None else differences.to_dict("records"),
        "worst": [(each, worst_first(table, each, rewards, folder)) for each in rewards],
    })  # fmt: skip
    target = folder / PAGE
    target.write_text(str(page), encoding="utf-8")
    return target
