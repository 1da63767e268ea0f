"""Commands that sample and write images, and that choose among them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from experiments.commands.arguments import MaybeOut, Out, RunFolder, tell

if TYPE_CHECKING:
    from experiments.evaluation.prompt_files import PromptRewriter


@dataclass(frozen=True)
class Sample:
    """Sample images of a prompt from the model of a run, or from a released checkpoint.

    Example: glyphlab sample runs/quickstart "the word GLYPH in red on white" --seed 7 -o out.png

    Example: glyphlab sample --base Qwen/Qwen-Image "a shop sign that says GLYPH" --size 1328 1328

    Example: glyphlab sample runs/quickstart --prompts prompts.txt --count 4 -o images
    """

    words: Annotated[Positional[tuple[str, ...]], arg(metavar="[RUN] PROMPT", help_behavior_hint="(required)")]
    """folder of a finished run (not with --base), and what the image should show, in words like those of the training
    captions"""
    base: Annotated[str, arg(metavar="BASE")] = ""
    """released checkpoint, a folder or a name on the hub, or the folder of a run that began from one"""
    out: Out = Path("sample.png")
    """the image's file (PNG)"""
    seed: int = 0
    """of the starting noise: the same seed gives the same image"""
    guidance: float | None = None
    """weight of the prompt: 1 = as trained, more follows the prompt more closely at twice the time; when not given,
    2 for a small preset and what its authors use for a released checkpoint"""
    steps: int | None = None
    """steps from noise to image; more are finer and slower; when not given, 10 for a small preset and what
    its authors use for a released checkpoint"""
    count: int = 1
    """images, from different noise, one below the other"""
    stage: str = ""
    """of a run with several stages, the one whose model is sampled, such as sft; the last aligned one when not given"""
    size: tuple[int, int] | None = None
    """with --base: height and width in pixels, multiples of 16; what the checkpoint is for when not given. A run
    is sampled in the size it was trained on"""
    device: str = ""
    """with --base: cpu or cuda; the GPU where there is one, when not given"""

    prompts: Annotated[Path | None, arg(metavar="FILE")] = None
    """instead of a prompt, a file of them, .txt, .jsonl or .csv: `count` images of each are kept in the folder -o"""
    rewriter: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """a folder of `train-rewriter`, which puts short prompts as the model samples them best"""

    def run(self) -> int:
        if self.prompts is not None:
            return self.sample_file(self.prompts)
        if len(self.words) != (1 if self.base else 2):
            raise ValueError(
                "name a run and a prompt: glyphlab sample RUN PROMPT, or glyphlab sample --base BASE PROMPT"
            )
        print(self.sample_base() if self.base else self.sample_run())
        return 0

    def sample_file(self, prompts: Path) -> int:
        """Sample a file of prompts with a run or a released checkpoint."""
        if len(self.words) != (0 if self.base else 1):
            raise ValueError(
                "with --prompts name one model and no prompt: glyphlab sample RUN --prompts FILE -o FOLDER, or "
                "glyphlab sample --base BASE --prompts FILE -o FOLDER"
            )
        if self.out == Path("sample.png"):
            raise ValueError("name a folder for the images: glyphlab sample ... --prompts FILE -o FOLDER")
        from experiments.evaluation.evaluate_file import Request, sample_file
        from experiments.evaluation.score_prompts import share_of_launcher

        request = Request(
            prompts, self.count, self.seed, self.steps, self.guidance, self.size, self.device,
            rewriter_of(self.rewriter),
        )  # fmt: skip
        return tell(sample_file(self.base or self.words[0], request, self.out, self.stage, share_of_launcher()))

    def sample_base(self) -> Path:
        from experiments.evaluation.sample_released import sample_released

        prompt = rewritten(self.rewriter, self.words[0])
        return sample_released(
            self.base, prompt, self.seed, self.out, self.guidance, self.steps, self.count, self.size, self.device
        )

    def sample_run(self) -> Path:
        from experiments.evaluation.sample_run import sample_to_file

        run, prompt = self.words
        if self.size:
            raise ValueError(
                f"--size {self.size[0]} {self.size[1]}: a run is sampled in the size it was trained on; "
                "leave --size out, or name a released checkpoint with --base"
            )
        prompt = rewritten(self.rewriter, prompt)
        return sample_to_file(Path(run), prompt, self.seed, self.out, self.guidance, self.steps, self.count, self.stage)


def rewriter_of(folder: Path | None) -> PromptRewriter | None:
    """The rewriter of a folder, which must hold one; None without a folder."""
    if folder is None:
        return None
    from experiments.evaluation.prompt_files import PromptRewriter
    from experiments.rewriting.rewriter import read_card, rewrite

    read_card(folder)
    return PromptRewriter(folder, lambda prompts: [each.text for each in rewrite(folder, prompts)])


def rewritten(folder: Path | None, prompt: str) -> str:
    """The prompt as the rewriter of a folder puts it, which is said on stderr; as it is without a folder."""
    if folder is None or not prompt.strip():
        return prompt
    from experiments.rewriting.rewriter import rewrite
    from preference_data.records import Prompt

    result = rewrite(folder, [Prompt.from_text(prompt)])[0]
    if result.fault:
        print(f"the rewrite is not used, {result.fault}: {result.own}", file=sys.stderr)
    print(f"rewritten as: {result.text}", file=sys.stderr)
    return result.text


@dataclass(frozen=True)
class Write:
    """Write images of text by rule, with captions in English and Chinese and a box for every line and character.

    The folder can be trained on with --data.folder. Run again, the command goes on where it was interrupted; a larger
    --count adds images.

    Example: glyphlab write -o written --languages en,zh --count 200

    Example: glyphlab write -o written --kinds pure,compositional,complex --photos photographs --count 1000
    """

    out: Annotated[Path, arg(aliases=["-o"])]
    """folder of the images; new, or one that this command began"""
    kinds: Annotated[tuple[str, ...], arg(metavar="KIND[,KIND ...]")] = ("pure",)
    """pure: a paragraph on a clean ground; compositional: text on things in photographs; complex: slides, posters,
    tickets, menus and pages. In equal shares; one named twice is written twice as often"""
    languages: Annotated[tuple[str, ...], arg(metavar="LANGUAGE[,LANGUAGE ...]")] = ("en",)
    """en, zh (or zh-Hans), zh-Hant, ja, ko, in equal shares"""
    count: int = 100
    """images"""
    size: tuple[int, int] = (512, 512)
    """height and width in pixels"""
    photos: Annotated[tuple[str, ...], arg(metavar="FOLDER")] = ()
    """folders of photographs that text is put into; a caption beside one is used"""
    texts: Annotated[str, arg(metavar="FOLDER")] = ""
    """folder of your own texts: en.txt, zh-Hans.txt and so on, a paragraph a line; the built-in vocabulary when not
    given"""
    fonts: Annotated[str, arg(metavar="FOLDER")] = ""
    """folder of your own type faces, in folders named after their language: en, zh-Hans and so on. They take the place
    of the installed ones, except in documents"""
    length: tuple[int, int] = (8, 160)
    """fewest and most letters of a paragraph; half as many Chinese, Japanese or Korean characters"""
    rare: float = 0.1
    """share of pure images that go through the characters of a language's standard set, so that all appear"""
    seed: int = 0
    """of everything that is drawn by lot: image i is a function of the seed and i"""
    processes: int = 1
    """that write at once; the bytes are the same for any number"""
    ray: str = ""
    """address of a Ray cluster that writes in place of this machine; local begins one here; needs glyphlab[ray]"""
    check: int = 0
    """images, from the first on, whose lines are read back by the OCR engine when all are written"""

    def run(self) -> int:
        from base_model.data.writing.written_image import Writing
        from experiments.images.written_folder import Request, read_back, write_folder

        kinds, languages = (
            tuple(part for text in texts for part in text.split(",") if part) for texts in (self.kinds, self.languages)
        )
        plan = Writing(self.seed, kinds, languages, self.size, self.length, self.rare)
        for line in write_folder(
            Request(plan, self.count, self.photos, self.texts, self.fonts), self.out, self.processes, self.ray
        ):
            print(line, flush=True)
        return tell(read_back(self.out, self.check) if self.check else ())


@dataclass(frozen=True)
class Curate:
    """Measure the images of a folder, drop what is not worth learning from, and write a set to train on.

    Run again, the command goes on where it was interrupted; with other thresholds it cuts the set anew from what was
    measured.

    Example: glyphlab curate photographs -o set

    Example: glyphlab curate set --set clarity.least=40 resolution.least=128

    Example: glyphlab curate set --report

    Example: glyphlab curate set --set captioner.weights=/models/Qwen2.5-VL-7B-Instruct

    Example: glyphlab curate set --lineage photographs/coffee.png
    """

    images: Annotated[Positional[tuple[str, ...]], arg(metavar="IMAGES | SET", help_behavior_hint="(required)")]
    """folders, tables or archives of images, with -o; or a set that this command made"""
    out: MaybeOut = None
    """folder of the set; new, or one that this command began"""
    set: Annotated[tuple[str, ...], arg(metavar="FILTER.THRESHOLD=VALUE")] = ()
    """thresholds that differ from those of the set, or from the defaults; `glyphlab list filters` shows them; and who
    writes captions: captioner.weights=FOLDER, a Qwen-VL model, or captioner.url=URL captioner.model=NAME, a server"""
    column: str = ""
    """column of the captions in tables; text, caption, captions or prompt when not given"""
    processes: int = 0
    """that measure at once; the bytes are the same for any number; one a core when not given"""
    report: bool = False
    """write SET/report.html: counts, drops, histograms, and images on both sides of each threshold"""

    lineage: Annotated[str, arg(metavar="IMAGE")] = ""
    """show where an image of the set, or one that was dropped, comes from, with every number: a file of the set or the
    source, or its sha256"""
    ray: str = ""
    """address of a Ray cluster that measures in place of this machine; local begins one here; needs glyphlab[ray]"""

    def run(self) -> int:
        from experiments.curation.curated_folder import curate, is_set
        from experiments.curation.curation_report import write_report
        from experiments.curation.lineage import lineage

        if not self.images:
            raise ValueError("name a folder of images and a set: glyphlab curate IMAGES -o SET")
        out = self.out or Path(self.images[0])
        if self.out is None and (len(self.images) > 1 or not is_set(out)):
            raise ValueError(
                f"{', '.join(self.images)} is not a set; name a folder for one: glyphlab curate IMAGES -o SET"
            )
        if self.lineage:
            return tell(lineage(out, self.lineage))
        sources = self.images if self.out else ()
        for line in curate(sources, out, self.set, self.column, self.processes or cores(), self.ray):
            print(line, flush=True)
        if self.report:
            print(f"report: {write_report(out)}")
        return 0


@dataclass(frozen=True)
class Lineage:
    """Show where the images come from that one update of a run learned from, or everything about one of them.

    Of a curated set that is source, licence, sha256 and every filter's number; of written and rendered images seed and
    index.

    Example: glyphlab lineage runs/nano_sft 12

    Example: glyphlab lineage runs/nano_sft 12 3
    """

    run_folder: RunFolder
    """a run that learned from images"""
    update: Positional[int]
    """counted from 0"""
    sample: Positional[int | None] = None
    """one of its samples, counted from 0 over all ranks; all of them, shortly, when not given"""
    ranks: int = 1
    """processes of that run"""

    def run(self) -> int:
        from experiments.curation.lineage import batch

        return tell(batch(self.run_folder, self.update, self.sample, self.ranks))


def cores() -> int:
    """How many cores this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
