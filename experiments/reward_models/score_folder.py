"""Scores and preferences outside of training: a folder of images under a reward, machine-made pairs, what is in them.

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas

from experiments.record.whole_files import read_png, require_folder, write_bytes, write_json
from preference_data import pairs as preferences
from preference_data.captions import CAPTIONS, captioned_prompts
from preference_data.image_files import SUFFIXES, image_size, read_image
from preference_data.line_files import is_hidden
from preference_data.pixels import to_float
from preference_data.records import Prompt
from rewards.parse import named_reward
from rewards.scores import Scorer, Scores, View
from rewards.serving.metering import measured
from rewards.serving.mixed_sizes import in_order

NAMED = 10
"""Images that cannot be read of which an error gives the names."""
COLUMNS = ("picture", "prompt", "score", "read")
"""What a row says beside the parts; a part of such a name is written as part/NAME."""


def check_images(items: Sequence[tuple[Path, Prompt]]) -> None:
    """Decode every image, which takes milliseconds each, before a reward is opened, which can take minutes.

    Raises ValueError naming the first that cannot be read, what is wrong with it, and the others."""
    broken: list[tuple[Path, str]] = []
    for path, _ in items:
        try:
            read_image(path)
        except (OSError, ValueError) as error:
            broken.append((path, str(error)))
    if not broken:
        return
    others = ", ".join(path.name for path, _ in broken[1:NAMED]) + (", ..." if len(broken) > NAMED else "")
    more = f"; {len(broken) - 1} more of {len(items)} images cannot be read: {others}" if others else ""
    raise ValueError(f"{broken[0][1]}{more}")


def score(items: Sequence[tuple[Path, Prompt]], scorer: Scorer) -> tuple[Scores, list[str]]:
    """Scores and, where the scorer reads text, what it read ("" where it does not), in the order of the images.

    Images may differ in size; those of one size are scored together, and few are in memory at a time. Each is scored
    once. What could not be read is NaN, and the others keep their scores."""
    indices: list[list[int]] = []
    parts: list[Scores] = []
    readings = [""] * len(items)
    sizes = [image_size(path) for path, _ in items]
    by_size = sorted(range(len(items)), key=sizes.__getitem__)
    for _, group in itertools.groupby(by_size, key=sizes.__getitem__):
        while some := list(itertools.islice(group, 64)):
            images = to_float(np.stack([read_png(items[i][0]) for i in some]))
            indices.append(some)
            parts.append(measured(scorer, [items[i][1] for i in some], images))
            for i, text in zip(some, parts[-1].read, strict=False):
                readings[i] = text
    return in_order(indices, parts), readings


def score_folder(folder: Path, reward: str, out: Path) -> list[str]:
    """Score every image and write `out`/scores.csv and scores.json; the table as lines.

    Folder, prompts and images are looked at before the reward is opened. Raises as `captioned_prompts` and
    `check_images`.
    """
    settings = named_reward(reward)
    items = captioned_prompts(folder)
    require_folder(out)
    check_images(items)
    scorer = settings.load()
    scores, readings = score(items, scorer)
    parts = {f"part/{name}" if name in COLUMNS else name: part for name, part in scores.parts.items()}
    rows = [
        {
            "picture": os.path.relpath(path, folder), "prompt": prompt.text,
            "score": float(scores.value_B[i]), **{name: float(part[i]) for name, part in parts.items()},
            "read": readings[i],
        }
        for i, (path, prompt) in enumerate(items)
    ]  # fmt: skip
    judged = scores.value_B[~np.isnan(scores.value_B)]
    mean = float(judged.mean()) if len(judged) else math.nan
    view = settings.sees(*image_size(items[0][0]))
    content = {
        "reward": scorer.name, "range": settings.range, "mean": mean, "unjudged": dict(scores.unjudged),
        "spent": dict(scores.spent), "sees": asdict(view),
    }  # fmt: skip
    write_json(out / "scores.json", {**content, "rows": rows})
    write_bytes(out / "scores.csv", pandas.DataFrame(rows).to_csv(index=False).encode())  # NaN is an empty cell
    total = [*total_lines(scorer.name, scores, mean, view), *unscored_lines(folder, items)]
    return [*score_lines(rows), *total, f"written: {out / 'scores.csv'}, scores.json"]


def unscored_lines(folder: Path, items: Sequence[tuple[Path, Prompt]]) -> Iterator[str]:
    """What to tell of images in folders inside the folder, which only captions.jsonl can name."""
    scored = {path for path, _ in items}
    inside = [path for path in sorted(folder.glob("*/**/*")) if path.suffix.lower() in SUFFIXES]
    if missing := [path for path in inside if path not in scored and not is_hidden(path)]:
        yield (
            f"{len(missing)} images in folders inside {folder} are not scored, such as {missing[0]}: name them in "
            f"{CAPTIONS}, or score their folder"
        )


def score_lines(rows: Sequence[dict[str, object]]) -> Iterator[str]:
    """The table a person reads."""
    width = max(len(str(row["picture"])) for row in rows)
    yield f"{'image':{width}}   score  read / prompt"
    for row in rows:
        value = row["score"]
        shown = "  none" if value != value else f"{value:6.3f}"
        read = f"{row['read']!r} for " if row["read"] else ""
        yield f"{row['picture']:{width}}  {shown}  {read}{row['prompt']}"


def total_lines(name: str, scores: Scores, mean: float, view: View) -> Iterator[str]:
    missing = int(np.isnan(scores.value_B).sum())
    causes = ", ".join(f"{count} {cause}" for cause, count in scores.unjudged.items())
    yield f"mean {mean:.3f} over {len(scores.value_B) - missing} images ({name})"
    if missing:
        yield f"{missing} could not be judged and count nowhere: {causes}"
    requested = "".join(
        f", {amount:g} {what}" for what, amount in scores.spent.items() if what not in ("pictures", "seconds")
    )
    yield f"{1000 * scores.spent['seconds'] / len(scores.value_B):.1f} ms an image{requested}"
    yield f"it sees {view.share:.0%} of the first image, at {view.width}x{view.height} pixels: {view.how}"


def pairs_from_run(run: Path, out: Path, reward: str, count: int, group: int, min_margin: float, seed: int) -> Path:
    """Sample `group` images of each of `count` training prompts with a run's model and keep best and worst of each.

    Writes `out`/pairs.jsonl with its images, and returns its path; it is kept when it is there.
    """
    from base_model.devices import best_device
    from base_model.files.weights import load_model
    from experiments.evaluation.sample_run import model_folder
    from experiments.experiment import PairPlan, PromptPlan
    from experiments.preferences.from_scores import make_pairs
    from experiments.progress import Progress
    from rewards.serving.workers import ScorerPool

    settings = named_reward(reward)
    plan = PairPlan(PromptPlan(count, seed), group=group, min_margin=min_margin, seed=seed)
    model = load_model(model_folder(run), best_device())
    with ScorerPool(settings, workers=1) as pool:
        return make_pairs(model, plan, out, pool, Progress({}), origin=str(run.resolve()))


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
