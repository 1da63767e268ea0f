"""The pictures that a run drew for its evaluations, as pictures to compare: one maker a stage."""

from __future__ import annotations

from pathlib import Path

from experiments.results import MAIN, read_result
from preference_data.gathering import UNKNOWN, Drawn
from preference_data.records import Provenance


def of_run(folder: Path, setting: str = MAIN) -> list[Drawn]:
    """Evaluation pictures of every stage in one setting, with what both readers made of them.

    Seed is the place of the prompt in the evaluation: its noise follows from it. Raises FileNotFoundError when it is no
    run folder, ValueError when the run kept no such pictures.
    """
    result = read_result(folder)
    found = []
    for stage in result.evaluated:
        evaluation = stage.evaluation(setting)
        last = max((int(row.get("step") or 0) for row in stage.run.metrics), default=UNKNOWN)
        for place, row in enumerate(evaluation.rows if evaluation else ()):
            if row.picture is not None and row.picture.exists():
                made = Provenance(f"{result.name}/{stage.name}", setting, place, UNKNOWN, UNKNOWN, str(stage.run.folder),
                                  last)  # fmt: skip
                found.append(Drawn(row.prompt, row.picture, made, stage.name,
                                   (("reward", row.read), ("judge", row.judge_read))))  # fmt: skip
    if not found:
        raise ValueError(f"{folder} kept no pictures of its evaluation ({setting}); nothing can be compared")
    return found
