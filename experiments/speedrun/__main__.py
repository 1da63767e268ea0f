"""Runs a task's record, or an attempt of one's own, or shows what was reached."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

from experiments.experiment import Experiment
from experiments.record.environment import revision
from experiments.record.record import write_json
from experiments.speedrun import __doc__ as rules
from experiments.speedrun.entries import ENTRIES
from experiments.speedrun.race import Attempt, run_attempt
from experiments.speedrun.tasks import TASKS, Task

RECORDS = Path(__file__).parent / "records"


def stages_of(task: Task, module: str) -> Sequence[Experiment]:
    """The stages of an attempt: `STAGES` of a module of one's own, or those of the record.

    Raises ValueError when the module has none.
    """
    if not module:
        return ENTRIES[task.name]
    stages = getattr(importlib.import_module(module), "STAGES", None)
    if not stages or not all(isinstance(stage, Experiment) for stage in stages):
        raise ValueError(f"{module} has no STAGES, a tuple of experiments as in experiments/speedrun/entries.py")
    return tuple(stages)


def line(attempt: Attempt) -> str:
    """One attempt in words."""
    low, high = attempt.exact_ci
    parts = " + ".join(f"{seconds:.1f}" for seconds in attempt.stage_seconds.values())
    took = f"{attempt.cpu_seconds:6.1f} CPU s" + (f" ({parts})" if len(attempt.stage_seconds) > 1 else "")
    return (
        f"{attempt.task:8} seed {attempt.seed}: {took}, {attempt.updates} updates, exact "
        f"{attempt.exact:.3f} ({low:.3f} to {high:.3f}), by the other engine {attempt.gold_exact:.3f}: "
        f"{'passed' if attempt.passed else 'NOT passed'}"
    )


def record(task: Task, attempts: Sequence[Attempt]) -> dict[str, object]:
    """What a record's file says."""
    seconds = [attempt.cpu_seconds for attempt in attempts]
    return {
        "task": task.name,
        "cpu_seconds": sum(seconds) / len(seconds),
        "seeds": len(attempts),
        "passed": all(attempt.passed for attempt in attempts) and len(attempts) >= 3,
        "git": revision(),
        "date": date.today().isoformat(),
        "command": f"python -m experiments.speedrun {task.name} --seeds " + " ".join(str(a.seed) for a in attempts),
        "attempts": [asdict(attempt) for attempt in attempts],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.speedrun", description=rules, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", nargs="?", choices=sorted(TASKS), help="what is to be written")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one attempt each")
    parser.add_argument("--train", metavar="MODULE", default="", help="a module whose STAGES are the attempt")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/speedrun"), help="folder of the attempts")
    parser.add_argument("--records", action="store_true", help="show the records and go")
    chosen = parser.parse_args(arguments)
    if chosen.records or not chosen.task:
        for file in sorted(RECORDS.glob("*.json")):
            known = json.loads(file.read_text())
            print(
                f"{known['task']:8} {known['cpu_seconds']:6.1f} CPU s, {known['date']}, {known['git']['revision'][:10]}"
            )
            for each in known["attempts"]:
                print("  " + line(Attempt(**each)))
        return 0
    task = TASKS[chosen.task]
    stages = stages_of(task, chosen.train)
    attempts = []
    for seed in chosen.seeds:
        attempts.append(run_attempt(task, stages, seed, chosen.out / task.name / f"seed_{seed}"))
        print(line(attempts[-1]), flush=True)
    file = chosen.out / task.name / "record.json"
    write_json(file, record(task, attempts))
    print(f"{file}; a record is one of at least three seeds that all passed")
    return 0 if all(attempt.passed for attempt in attempts) else 1


if __name__ == "__main__":
    sys.exit(main())
