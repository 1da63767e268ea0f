"""Scores and preferences outside of training: a folder of pictures under a reward, machine-made pairs, what is in them.

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.files import read_png, write_bytes, write_json
from preference_data import pairs as preferences
from preference_data.records import Prompt
from rewards.metering import measured
from rewards.named import named_reward
from rewards.scores import Reads, Scorer, Scores, View, to_float
from rewards.sizes import in_order

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
CAPTIONS = "captions.jsonl"


@dataclass(frozen=True)
class Captioned:
    """A picture and what it should show."""

    picture: Path
    prompt: Prompt


def read_captions(folder: Path) -> list[Captioned]:
    """The pictures of a folder and their prompts, by name.

    A prompt stands in captions.jsonl, {"picture": "a.png", "prompt": "..."} a line, or in a.txt beside a.png. Raises
    FileNotFoundError when the folder or a listed picture is missing, ValueError when there is no picture, a picture has
    no prompt, or a line is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    listed = dict(_listed(folder / CAPTIONS)) if (folder / CAPTIONS).exists() else {}
    if missing := [name for name in listed if not (folder / name).exists()]:
        raise FileNotFoundError(f"{folder / CAPTIONS} names {missing[0]!r}, which is not in {folder}")
    found = sorted({folder / name for name in listed} | {p for p in folder.iterdir() if p.suffix.lower() in PICTURES})
    if not found:
        raise ValueError(f"{folder} holds no pictures ({', '.join(PICTURES)})")
    captioned = []
    for picture in found:
        beside = picture.with_suffix(".txt")
        text = listed.get(str(picture.relative_to(folder)), "") or (
            beside.read_text("utf-8") if beside.exists() else ""
        )
        if not text.strip():
            raise ValueError(f"{picture} has no prompt; put it into {beside.name} or a line of {CAPTIONS}")
        captioned.append(Captioned(picture, Prompt.from_text(" ".join(text.split()))))
    return captioned


def _listed(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            yield str(row["picture"]), str(row["prompt"])
        except (ValueError, KeyError, TypeError) as error:
            example = '{"picture": "a.png", "prompt": "the word A in red"}'
            raise ValueError(f"{path} line {number} is not like {example}: {error!r}") from error


def score(captioned: Sequence[Captioned], scorer: Scorer) -> tuple[Scores, list[str]]:
    """Scores and, where the scorer reads text, what it read ("" where it does not), in the order of the pictures.

    Pictures may differ in size; those of one size are judged together, and few are in memory at a time."""
    places: list[list[int]] = []
    parts: list[Scores] = []
    readings = [""] * len(captioned)
    sizes = [picture_size(item.picture) for item in captioned]
    by_size = sorted(range(len(captioned)), key=sizes.__getitem__)
    for _, group in itertools.groupby(by_size, key=sizes.__getitem__):
        while some := list(itertools.islice(group, 64)):
            images = to_float(np.stack([read_png(captioned[i].picture) for i in some]))
            places.append(some)
            parts.append(measured(scorer, [captioned[i].prompt for i in some], images))
            for i, text in zip(some, scorer.texts(images) if isinstance(scorer, Reads) else [], strict=False):
                readings[i] = text
    return in_order(places, parts), readings


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) from the file's head. ValueError when it is no picture."""
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except OSError as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error


def score_folder(folder: Path, reward: str, out: Path) -> list[str]:
    """Score every picture and write `out`/scores.csv and scores.json; the table as lines. Raises as `read_captions`."""
    settings = named_reward(reward)
    captioned = read_captions(folder)
    scorer = settings.load()
    scores, readings = score(captioned, scorer)
    rows = [
        {
            "picture": str(item.picture.relative_to(folder)), "prompt": item.prompt.text,
            "score": float(scores.value_B[i]), **{name: float(part[i]) for name, part in scores.parts.items()},
            "read": readings[i],
        }
        for i, item in enumerate(captioned)
    ]  # fmt: skip
    judged = scores.value_B[~np.isnan(scores.value_B)]
    mean = float(judged.mean()) if len(judged) else math.nan
    view = settings.sees(*picture_size(captioned[0].picture))
    content = {
        "reward": scorer.name, "range": settings.range, "mean": mean, "unjudged": dict(scores.unjudged),
        "spent": dict(scores.spent), "sees": asdict(view),
    }  # fmt: skip
    write_json(out / "scores.json", {**content, "rows": rows})
    write_bytes(out / "scores.csv", as_csv(rows).encode())
    total = total_lines(scorer.name, scores, mean, view)
    return [*score_lines(rows), *total, f"written: {out / 'scores.csv'}, scores.json"]


def as_csv(rows: Sequence[dict[str, object]]) -> str:
    """A header and a line a row; NaN is an empty cell, never 0."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value != value else value for name, value in row.items()} for row in rows)
    return text.getvalue()


def score_lines(rows: Sequence[dict[str, object]]) -> Iterator[str]:
    """The table a person reads."""
    width = max(len(str(row["picture"])) for row in rows)
    yield f"{'picture':{width}}   score  read / prompt"
    for row in rows:
        value = row["score"]
        shown = "  none" if value != value else f"{value:6.3f}"
        read = f"{row['read']!r} for " if row["read"] else ""
        yield f"{row['picture']:{width}}  {shown}  {read}{row['prompt']}"


def total_lines(name: str, scores: Scores, mean: float, view: View) -> Iterator[str]:
    missing = int(np.isnan(scores.value_B).sum())
    causes = ", ".join(f"{count} {cause}" for cause, count in scores.unjudged.items())
    yield f"mean {mean:.3f} over {len(scores.value_B) - missing} pictures ({name})"
    if missing:
        yield f"{missing} could not be judged and count nowhere: {causes}"
    asked = "".join(
        f", {amount:g} {what}" for what, amount in scores.spent.items() if what not in ("pictures", "seconds")
    )
    yield f"{1000 * scores.spent['seconds'] / len(scores.value_B):.1f} ms a picture{asked}"
    yield f"it sees {view.share:.0%} of the first picture, at {view.width}x{view.height} pixels: {view.how}"


def pairs_from_run(run: Path, out: Path, reward: str, count: int, group: int, min_margin: float, seed: int) -> Path:
    """Draw `group` pictures of each of `count` training prompts with a run's model and keep best and worst of each.

    Writes `out`/pairs.jsonl with its pictures, and returns its path; it is kept when it is there.
    """
    from base_model.weights import load_model
    from experiments.experiment import PairPlan, PromptPlan
    from experiments.preferences import make_pairs
    from experiments.progress import Progress
    from experiments.sampling import model_folder
    from rewards.workers import ScorerPool

    settings = named_reward(reward)
    plan = PairPlan(PromptPlan(count, seed), group=group, min_margin=min_margin, seed=seed)
    model = load_model(model_folder(run))
    with ScorerPool(settings, workers=1) as pool:
        return make_pairs(model, plan, out, pool, Progress({}))


def pairs_lines(file: Path, count: int = 5) -> list[str]:
    """What is in a file of pairs, as lines of text, with `count` of them."""
    pairs = preferences.load(file)
    sources = Counter(pair.source for pair in pairs)
    margins = sorted(pair.margin for pair in pairs if pair.margin is not None)
    lines = [f"{file}: pairs: {len(pairs)}, prompts: {len({p.prompt.id for p in pairs})}"]
    lines += [f"decided by {source}: {number}" for source, number in sources.most_common()]
    if margins:
        middle = margins[len(margins) // 2]
        lines.append(f"margin: {margins[0]:.3f} to {margins[-1]:.3f}, half of them above {middle:.3f}")
    for pair in pairs[:count]:
        by = "" if pair.margin is None else f" by {pair.margin:.3f}"
        lines.append(f"{pair.prompt.text}: {pair.chosen.path} beats {pair.rejected.path}{by}")
    return lines
