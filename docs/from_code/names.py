"""Makes the pages of what else has a name: rewards, formats of preferences, benchmarks, metrics, and run folders."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

from experiments.commands import listing
from experiments.record import record
from experiments.record.metric_table import METRICS, MONITORED, Metric
from from_code.markdown import block, page, table
from from_code.settings import section
from preference_data.exchange.formats.table import FORMATS
from rewards.reward_table import REWARDS


def needs(reward: type) -> str:
    """Return the fields of a prompt that a reward needs, where its class alone says so."""
    fields = getattr(reward, "needs", ())
    return (", ".join(fields) or "none") if isinstance(fields, tuple) else "as its settings say"


def reward_page() -> str:
    """Return the page of rewards: what each measures, its range, what it needs, its settings."""
    rows = (
        (f"[`{name}`](#{name})", (kind.__doc__ or "").strip().split("\n")[0], needs(kind))
        for name, kind in REWARDS.items()
    )
    use = block('glyphlab score FOLDER --reward NAME\nglyphlab score FOLDER --reward "NAME:setting=value"', "sh")
    head = ("reward", "measures", "fields of the prompt that it needs")
    return page("Rewards", use, table(head, rows), *(section(kind, name) for name, kind in REWARDS.items()))


def format_page() -> str:
    """Return the page of the formats in which preferences are read and written."""
    sections = (
        f"## {name}\n\n{kind.about}\n\n{block(inspect.getdoc(importlib.import_module(kind.__module__)) or '')}"
        for name, kind in FORMATS.items()
    )
    use = block(
        "glyphlab pairs import FILE CAMPAIGN --format NAME\nglyphlab pairs export CAMPAIGN -o FILE --format NAME", "sh"
    )
    return page("File formats of preferences", use, *sections)


def benchmark_page() -> str:
    """Return the page of the measurements of speed."""
    names = listing.benchmarks()
    modules = {name: importlib.import_module(f"experiments.benchmarks.{name}") for name in names}
    sections = (f"## {name}\n\n{block(inspect.getdoc(module) or '')}" for name, module in modules.items())
    return page("Benchmarks of speed", *sections)


def metric_rows(metrics: dict[str, Metric]) -> str:
    """Lay out metrics in a table."""
    return table(("name", "meaning", "logged by"), ((f"`{name}`", m.meaning, m.by) for name, m in metrics.items()))


def metric_page() -> str:
    """Return the page of every name in metrics.jsonl and monitors.jsonl."""
    about = "A name in capitals stands for any: `part/NAME` is `part/ocr` in a run that is rewarded by `ocr`."
    return page(
        "Metrics", about, "## metrics.jsonl, a line an update", metric_rows(METRICS),
        "## monitors.jsonl, a line a look at held-out prompts", metric_rows(MONITORED),
    )  # fmt: skip


def run_page() -> str:
    """Return the page of the run folder."""
    return page("The run folder", block(inspect.getdoc(record) or ""), "[Metrics](metrics.md) has the names in it.")


def pages() -> Iterator[tuple[str, str]]:
    """Yield (file, Markdown) of each of these pages."""
    yield "rewards.md", reward_page()
    yield "metrics.md", metric_page()
    yield "run-folder.md", run_page()
    yield "formats.md", format_page()
    yield "benchmarks.md", benchmark_page()
