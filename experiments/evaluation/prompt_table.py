"""Scores of prompts as a table, their means with intervals, and how two models differ. Imports no torch.

The images of one prompt are one unit, whatever their seeds: an interval is over prompts, each of them with the mean of
its images. An image that could not be judged (NaN) counts nowhere. Shapes: P prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.evaluation.prompt_files import RequestedPrompt
from experiments.evaluation.scored_images import ScoredImages, number
from experiments.record.intervals import bootstrap_ci, in_brackets, paired_ci
from experiments.record.whole_files import write_bytes
from rewards.text.benchmark_metrics import measured
from rewards.text.ocr_page import BETWEEN_LINES

if TYPE_CHECKING:
    import pandas

SLICES = ("category", "language", "length", "text_length", "size", "face", "script", "em")
MEANS = ("reward", "by", "slice", "prompts", "images", "unjudged", "mean", "low", "high")
DIFFERENCES = ("reward", "by", "slice", "prompts", "images", "difference", "low", "high")
"""Columns of the two tables, also where there is no reward."""
WIDTH = 34
"""Of the column with the names of slices."""


def score_table(images: ScoredImages, rewards: Sequence[str]) -> pandas.DataFrame:
    """A row an image: its prompt and slices, and of each reward NAME the value, NAME/PART of its parts, NAME/read."""
    import pandas

    edits = any(each.prompt.sources for each in images.requests)
    slices = [name for name in SLICES if any(each.of(name) for each in images.requests)]
    rows = []
    for point in images.points:
        requested = images.requests[point.index]
        row: dict[str, Any] = {"prompt_index": point.index, "seed": point.seed, "prompt": requested.prompt.text,
                               **({"sources": sources_of(requested)} if edits else {}),
                               **{name: requested.of(name) for name in slices},
                               "image": f"images/{point.image}"}  # fmt: skip
        for reward in rewards:
            score = images.scores.get((point, reward), {"value": None, "parts": {}})
            row[reward] = number(score["value"])
            row |= {f"{reward}/{part}": number(value) for part, value in score["parts"].items()}
            if "read" in score:
                row[f"{reward}/read"] = score["read"]
        rows.append(row)
    return pandas.DataFrame(rows)


def write_tables(folder: Path, table: pandas.DataFrame, means: pandas.DataFrame) -> list[Path]:
    """Write scores and means as CSV, and the scores as Parquet; the files."""
    files = [folder / name for name in ("scores.csv", "means.csv", "scores.parquet")]
    contents = table.to_csv(index=False).encode(), means.to_csv(index=False).encode(), table.to_parquet(index=False)
    for file, content in zip(files, contents, strict=True):
        write_bytes(file, content)
    return files


def sources_of(requested: RequestedPrompt) -> str:
    """What a prompt asks to edit, as a text that tells images apart."""
    return " ".join(source.sha256[:16] for source in requested.prompt.sources)


def prompt_columns(table: pandas.DataFrame) -> str | list[str]:
    """The columns that tell prompts apart: of edits, the same words about other images are another prompt."""
    return ["prompt", "sources"] if "sources" in table else "prompt"


def by_prompt(table: pandas.DataFrame, column: str) -> np.ndarray:
    """[P] mean of every prompt's judged images; NaN where none was."""
    values: np.ndarray = table.groupby(prompt_columns(table), sort=False)[column].mean().to_numpy(np.float64)
    return values


def sliced(table: pandas.DataFrame) -> Iterator[tuple[str, str, pandas.DataFrame]]:
    """(what is sliced, slice, its rows): all, then every slice of the prompt file. A prompt of several categories is in
    each of them."""
    yield "all", "", table
    for name in SLICES:
        if name in table and table[name].nunique() > 1:
            parts = table[name].map(lambda text: [each for each in text.split(", ") if each])
            for value in sorted({each for row in parts for each in row}):
                yield name, value, table[parts.map(lambda row, value=value: value in row)]


def means_table(table: pandas.DataFrame, rewards: Sequence[str]) -> pandas.DataFrame:
    """A row for each reward and slice: prompts, images, how many were not judged, mean and 95 % interval by prompt."""
    import pandas

    rows = []
    for reward in rewards:
        for name, value, part in sliced(table):
            values = by_prompt(part, reward)
            low, high = bootstrap_ci(values, seed=0)
            rows.append({
                "reward": reward, "by": name, "slice": value, "prompts": int((~np.isnan(values)).sum()),
                "images": len(part), "unjudged": int(part[reward].isna().sum()), "mean": known_mean(values),
                "low": low, "high": high,
            })  # fmt: skip
    return pandas.DataFrame(rows, columns=list(MEANS))


def differences_table(table: pandas.DataFrame, other: pandas.DataFrame, rewards: Sequence[str]) -> pandas.DataFrame:
    """How far `table` is above `other`, image by image of the same prompt and noise, with intervals by prompt.

    An image that one of the two lacks, or that was not judged there, counts nowhere.
    """
    import pandas

    both = table.merge(other, on=["prompt_index", "seed"], suffixes=("", " of the other"))
    rows = []
    for reward in rewards:
        judged = both[both[reward].notna() & both[f"{reward} of the other"].notna()]
        for name, value, part in sliced(judged):
            before, after = by_prompt(part, f"{reward} of the other"), by_prompt(part, reward)
            delta, low, high = known_mean(after - before), *paired_ci(before, after, seed=0)[1:]
            count = part.groupby(prompt_columns(part)).ngroups
            rows.append({"reward": reward, "by": name, "slice": value, "prompts": count,
                         "images": len(part), "difference": delta, "low": low, "high": high})  # fmt: skip
    return pandas.DataFrame(rows, columns=list(DIFFERENCES))


def known_mean(values_P: np.ndarray) -> float:
    """The mean of what is not NaN; NaN where nothing is."""
    known = values_P[~np.isnan(values_P)]
    return float(known.mean()) if len(known) else float("nan")


def benchmark_lines(images: ScoredImages, rewards: Sequence[str], benchmark: str) -> Iterator[str]:
    """Write a benchmark's metrics, by what each of these rewards read, to benchmark.csv; yield a line for each rule."""
    import pandas

    rows = []
    for reward in rewards:
        scores = [(point, images.scores.get((point, reward), {})) for point in images.points]
        readings = [None if row.get("value") is None else row["read"].split(BETWEEN_LINES) for _, row in scores]
        prompts = [images.requests[point.index].prompt for point, _ in scores]
        for rule, metrics in measured(benchmark, prompts, readings).items():
            rows += [(benchmark, reward, rule, metric, value) for metric, value in metrics.items()]
            values = ", ".join(f"{metric} {value:.3f}" for metric, value in metrics.items())
            yield f"{benchmark} ({rule}), read by {reward}: {values}"
    table = pandas.DataFrame(rows, columns=["benchmark", "reward", "rule", "metric", "value"])
    write_bytes(images.folder / "benchmark.csv", table.to_csv(index=False).encode())


def lines(means: pandas.DataFrame, value: str = "mean", form: str = ".3f") -> Iterator[str]:
    """A table of means, or of differences, for a terminal."""
    for reward, rows in means.groupby("reward", sort=False):
        yield f"{str(reward)[:WIDTH]:{WIDTH}}prompts  images  {value} (95 %, by prompt)"
        for row in rows.to_dict("records"):
            label = "all" if row["by"] == "all" else f"{row['by'].replace('_', ' ')} {row['slice']}"
            unjudged = f"  {row['unjudged']} not judged" if row.get("unjudged") else ""
            span = in_brackets(row["low"], row["high"], form)
            counts = f"{row['prompts']:7}{row['images']:8}"
            yield f"  {label[: WIDTH - 3]:{WIDTH - 2}}{counts}  {row[value]:{form}} {span}{unjudged}"
