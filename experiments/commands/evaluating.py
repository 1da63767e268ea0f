"""Commands that evaluate models, score images, and report what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from experiments.commands.arguments import MaybeOut, RunFolder, tell
from experiments.commands.sampling import rewriter_of


@dataclass(frozen=True)
class Evaluate:
    """Evaluate the model of a run on held-out prompts at fixed noise, with and without guidance, by two OCR engines;
    its report.html then shows what was found. With --prompts: any model on any prompts, by any rewards.

    Run again, it goes on where it was interrupted, and scores with further rewards or seeds what is there.

    Example: glyphlab evaluate runs/nano_sft

    Example: glyphlab evaluate runs/quickstart --stage nft --prompts prompts.txt --rewards ocr_page,brisque --seeds 4
    """

    run_folder: Annotated[Positional[Path], arg(name="run", metavar="RUN_OR_CHECKPOINT")]
    """folder of a finished run; with --prompts also a released checkpoint, a folder or a name on the hub"""
    prompts: Annotated[Path | None, arg(metavar="FILE")] = None
    """a file of prompts: .txt with one a line, .jsonl or .csv with a column prompt, and category, language or length"""
    rewards: Annotated[str, arg(metavar="NAME,NAME")] = ""
    """with --prompts: what scores the images, as in ocr_page,brisque; ocr_page when not given"""
    seeds: int | None = None
    """with --prompts: images of each prompt, from different noise; 1 when not given"""
    benchmark: str = ""
    """with --prompts: a benchmark whose metrics are reported too, by its own rule and by a stricter one: cvtg_2k,
    long_text, one_ig or chinese_word"""
    against: Annotated[str, arg(metavar="RUN_OR_CHECKPOINT")] = ""
    """with --prompts: another model, which samples the same prompts from the same noise and is compared with; a stage
    of a chain by its folder, such as runs/quickstart/pretrain"""
    stage: str = ""
    """with --prompts: of a run with several stages, the one whose model is evaluated, such as sft; the last aligned one
    when not given"""
    steps: int | None = None
    """with --prompts: steps from noise to image; when not given 10, and what its authors use for a checkpoint"""
    guidance: float | None = None
    """with --prompts: weight of the prompt; when not given 2, and what its authors use for a checkpoint"""
    size: tuple[int, int] | None = None
    """with --prompts, of a released checkpoint or a run that began from one: height and width in pixels; what it is for
    when not given"""
    device: str = ""
    """with --prompts: cpu or cuda; the GPU where there is one, when not given"""
    rewriter: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """with --prompts: a folder of `train-rewriter`, whose rewrites are sampled; scored as what was asked for"""
    out: MaybeOut = None
    """with --prompts: folder for images, tables and page; in the run's evaluation/ when not given"""

    def run(self) -> int:
        if self.prompts is not None:
            return self.evaluate_file(self.prompts)
        needs_prompts = (
            "rewards", "seeds", "benchmark", "against", "stage", "steps", "guidance", "size", "device", "rewriter",
            "out",
        )  # fmt: skip
        needless = [name for name in needs_prompts if getattr(self, name) not in (None, "")]
        if needless:
            raise ValueError(f"--{needless[0]} is for a file of prompts; name one with --prompts FILE")
        from experiments.record.results import evaluation_lines, read_stage
        from experiments.report.report import refresh
        from experiments.training.launch import evaluate_run

        files = evaluate_run(self.run_folder)
        stage = files[0].parents[1]
        for line in evaluation_lines(read_stage(stage, {})):
            print(line)
        print(f"written: {', '.join(str(file) for file in (*files, *refresh(stage)))}")
        return 0

    def evaluate_file(self, prompts: Path) -> int:
        """Evaluate on a file of prompts."""
        from experiments.evaluation.evaluate_file import Request, evaluate_file
        from experiments.evaluation.score_prompts import share_of_launcher

        seeds = 1 if self.seeds is None else self.seeds
        rewriter = rewriter_of(self.rewriter)
        request = Request(
            prompts, seeds, 0, self.steps, self.guidance, self.size, self.device, rewriter, self.benchmark
        )
        name, rewards = str(self.run_folder), self.rewards or "ocr_page"
        return tell(evaluate_file(name, request, rewards, self.out, self.stage, self.against, share_of_launcher()))


@dataclass(frozen=True)
class Report:
    """Write the report of a run as one page, report.html; of several runs, also a page that compares them.

    Example: glyphlab report runs/nano_sft runs/nano_control -o comparison.html
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)")]
    """folders of runs, finished or not"""
    out: MaybeOut = None
    """the page's file, of several runs the comparison's; when not given report.html in the run's folder, of several
    comparison.html beside the first"""

    def run(self) -> int:
        from experiments.report.report import write_comparison, write_report

        if not self.runs:
            raise ValueError("name at least one run folder, e.g. glyphlab report runs/quickstart")
        several = len(self.runs) > 1
        for folder in self.runs:
            print(write_report(folder, None if several else self.out))
        if several:
            print(write_comparison(self.runs, self.out))
        return 0


@dataclass(frozen=True)
class Score:
    """Score a folder of images with a reward; prints a table and writes scores.csv and scores.json.

    An image's prompt is in captions.jsonl, {"picture": "a.png", "prompt": "..."} a line, or in a.txt beside a.png.

    Example: glyphlab score images --reward ocr
    """

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """holds the images: png, jpg, webp"""
    reward: str = "ocr"
    """a reward, its settings or a mixture: ocr, ocr:engine=paddleocr, 0.7*ocr+0.3*ocr_judge"""
    out: MaybeOut = None
    """folder for scores.csv and scores.json; the images' folder when not given"""

    def run(self) -> int:
        from experiments.reward_models.score_folder import score_folder

        return tell(score_folder(self.folder, self.reward, self.out or self.folder))


@dataclass(frozen=True)
class Doctor:
    """Check a run for what would make its numbers wrong; exit status 1 when a check fails.

    Example: glyphlab doctor runs/quickstart
    """

    run_folder: RunFolder
    """folder of a finished run"""

    def run(self) -> int:
        from experiments.record.record import read_run

        read_run(self.run_folder)  # what is not there is said before torch is imported
        from experiments.evaluation.doctor import doctor

        checks = doctor(self.run_folder)
        for check in checks:
            print(f"{'ok    ' if check.passed else 'FAILED'}  {check.name}: {check.detail}")
        failed = sum(not check.passed for check in checks)
        print(f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed")
        return 1 if failed else 0
