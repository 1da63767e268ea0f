"""What the tables of a report hold: a common scale, what was judged, sessions, and the facts of an environment."""

from __future__ import annotations

import math
from typing import Any

from experiments.record.record import Run
from experiments.record.results import Result
from experiments.report.page_words import setting, title

MEASURES = {"exact": "Exact", "judge": "Gold 1 − NED", "guided": "Guided 1 − NED"}
"""Further measures of a paired difference and their column heads."""


def scale(result: Result, paired: bool) -> tuple[float, float]:
    """A common axis for the intervals of a table; that of differences holds 0, that of stages ends near 0 and 1."""
    intervals = [p.measures["ned"] for p in result.paired] if paired else [
        e.ned for stage in result.evaluated for e in stage.evaluations
    ]  # fmt: skip
    known = [x for i in intervals for x in (i.value, i.low, i.high) if math.isfinite(x)] or [0.0, 1.0]
    low, high = min(known + [0.0] * paired), max(known + [0.0] * paired)
    air = max((high - low) * 0.08, 0.01)
    return (low - air, high + air) if paired else (max(low - air, -0.02), min(high + air, 1.02))


def judged(result: Result) -> tuple[str, str]:
    """Returns how many prompts there are, and says which of them could not be judged."""
    counts = {e.prompts for stage in result.evaluated for e in stage.evaluations}
    missing = [
        f"{title(stage.name)}, {setting(e.setting).lower()}: {e.unjudged}"
        for stage in result.evaluated for e in stage.evaluations if e.unjudged
    ]  # fmt: skip
    what = f"could not be judged and count nowhere: {'; '.join(missing)}" if missing else "could all be judged"
    return " or ".join(str(count) for count in sorted(counts)), what


def further_measures(result: Result) -> dict[str, str]:
    """The further measures that a paired difference of the run has, with their column heads."""
    return {name: head for name, head in MEASURES.items() if any(name in p.measures for p in result.paired)}


def sessions(run: Run) -> str:
    """How often a run was started, and how it fared."""
    if len(run.sessions) < 2:
        return "" if run.status == "finished" else run.status
    breaks = sum(s.get("status") != "finished" for s in run.sessions)
    return f"{len(run.sessions)}, interrupted {'once' if breaks == 1 else f'{breaks} times'}"


def facts(run: Run) -> dict[str, Any]:
    """Everything a number may depend on."""
    env, git = run.environment, run.git or {}
    threads = ", ".join(f"{name}={value}" for name, value in env.get("threads", {}).items())
    return {
        "Started": run.started, "Finished": run.finished or run.status,
        "Git revision": git.get("revision", "unknown") + (", with uncommitted changes" if git.get("dirty") else ""),
        "Processor": f"{env.get('processor', 'unknown')}, {env.get('cpus', '?')} logical CPUs",
        "System": env.get("platform", "unknown"), "Python": env.get("python", "unknown"),
        "Packages": ", ".join(f"{name} {version}" for name, version in env.get("packages", {}).items()),
        "Thread settings": threads or "none in the environment",
    }  # fmt: skip
