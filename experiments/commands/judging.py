"""Commands that judge models and pictures, and tell what they found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from experiments.commands.arguments import MaybeOut, RunFolder


@dataclass(frozen=True)
class Evaluate:
    """Judge the model of a run on held-out prompts at fixed noise, with and without guidance, by two OCR engines;
    its report.html then shows what was found.

    Example: glyphlab evaluate runs/nano_sft
    """

    run_folder: RunFolder
    """folder of a finished run"""

    def run(self) -> int:
        from experiments.record.results import evaluation_lines, read_stage
        from experiments.report.report import refresh
        from experiments.training.launch import evaluate_run

        files = evaluate_run(self.run_folder)
        judged = files[0].parents[1]
        for line in evaluation_lines(read_stage(judged, {})):
            print(line)
        print(f"written: {', '.join(str(file) for file in (*files, *refresh(judged)))}")
        return 0


@dataclass(frozen=True)
class Report:
    """Write the report of a run as one page, report.html; of several runs, also a page that compares them.

    Example: glyphlab report runs/nano_sft runs/nano_control -o comparison.html
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)")]
    """folders of runs, finished or not"""
    out: MaybeOut = None
    """the comparison's file; comparison.html beside the first run when not given"""

    def run(self) -> int:
        from experiments.report.report import write_comparison, write_report

        if not self.runs:
            raise ValueError("name at least one run folder, e.g. glyphlab report runs/quickstart")
        for folder in self.runs:
            print(write_report(folder))
        if len(self.runs) > 1:
            print(write_comparison(self.runs, self.out))
        return 0


@dataclass(frozen=True)
class Score:
    """Score a folder of pictures with a reward; prints a table and writes scores.csv and scores.json.

    A picture's prompt is in captions.jsonl, {"picture": "a.png", "prompt": "..."} a line, or in a.txt beside a.png.

    Example: glyphlab score pictures --reward ocr
    """

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """holds the pictures: png, jpg, webp"""
    reward: str = "ocr"
    """a reward, its settings or a mixture: ocr, ocr:engine=paddleocr, 0.7*ocr+0.3*ocr_judge"""
    out: MaybeOut = None
    """folder for scores.csv and scores.json; the pictures' folder when not given"""

    def run(self) -> int:
        from experiments.reward_models.score_folder import score_folder

        for line in score_folder(self.folder, self.reward, self.out or self.folder):
            print(line)
        return 0


@dataclass(frozen=True)
class Doctor:
    """Check a run for what would make its numbers wrong; exit status 1 when a check fails.

    Example: glyphlab doctor runs/quickstart
    """

    run_folder: RunFolder
    """folder of a finished run"""

    def run(self) -> int:
        from experiments.evaluation.doctor import doctor

        checks = doctor(self.run_folder)
        for check in checks:
            print(f"{'ok    ' if check.passed else 'FAILED'}  {check.name}: {check.detail}")
        failed = sum(not check.passed for check in checks)
        print(f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed")
        return 1 if failed else 0
