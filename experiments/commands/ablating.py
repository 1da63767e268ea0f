"""Commands that evaluate edits, and that compare arms which differ in one setting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg, subcommand

from experiments.commands.arguments import RUNS, Out, RunFolder, tell


@dataclass(frozen=True)
class EvaluateEdits:
    """Evaluate the edits of a run on held-out words: OCR of the new word, PSNR outside and inside of what is edited.

    Beside it: the input copied, the model that the run began from on the target's caption, and the autoencoder.

    Example: glyphlab evaluate-edits runs/nano_edit
    """

    run_folder: RunFolder
    """folder of a finished run with edits in its data, such as nano_edit"""

    def run(self) -> int:
        from experiments.studies.ablations import evaluate_run

        return tell(evaluate_run(self.run_folder))


@dataclass(frozen=True)
class Editing:
    """Dual encoding of the edited image against its halves: semantic only, autoencoder only.

    Example: glyphlab ablate editing --parent runs/nano_pretrain -o runs/ablate_editing
    """

    parent: Annotated[Path, arg(metavar="PATH")]
    """folder of a finished T2I run, which every arm starts from"""
    out: Out = RUNS / "ablate_editing"
    """folder of the arms' runs and of table.md"""

    def run(self) -> int:
        from experiments.record.leftovers import removed_on_error
        from experiments.studies.ablations import ablate_editing

        with removed_on_error(self.out):
            lines = ablate_editing(self.parent, self.out)
        return tell(lines)


@dataclass(frozen=True)
class Positions:
    """MSRoPE against plain 2-D RoPE with text on row 0 and against text after the flattened image.

    Example: glyphlab ablate positions -o runs/ablate_positions
    """

    out: Out = RUNS / "ablate_positions"
    """folder of the arms' runs and of table.md"""

    def run(self) -> int:
        from experiments.record.leftovers import removed_on_error
        from experiments.studies.ablations import ablate_positions

        with removed_on_error(self.out):
            lines = ablate_positions(self.out)
        return tell(lines)


@dataclass(frozen=True)
class Ablate:
    """Train arms that differ in one setting, evaluate them on the same held-out set, and print a table."""

    what: Annotated[Editing, subcommand("editing")] | Annotated[Positions, subcommand("positions")]

    def run(self) -> int:
        return self.what.run()


@dataclass(frozen=True)
class Curriculum:
    """Train nano from nothing by a curriculum, without one, by its stages all at once and backwards, and compare.

    Equal updates, the same held-out words, several seeds. It goes on where it was interrupted.

    Example: glyphlab study curriculum -o runs/curriculum
    """

    out: Out = RUNS / "curriculum"
    """folder of the runs, of table.md and of sweep.html"""
    updates: int = 280
    """of every run"""
    seeds: str = "0,1,2"
    """of the weights and the noise, with commas between them"""

    def run(self) -> int:
        from experiments.record.leftovers import removed_on_error
        from experiments.studies.orders import compare_orders

        with removed_on_error(self.out):
            print(compare_orders(self.out, self.updates, self.seeds))
        return 0


@dataclass(frozen=True)
class Repair:
    """What noisy captions did to a pretrained model, repaired by DPO and GRPO from prompts alone and by clean images.

    About ten minutes on two cores without a GPU. Run again, it goes on where it was interrupted.

    Example: glyphlab study repair
    """

    out: Out = RUNS / "repair"
    """the run's folder"""

    def run(self) -> int:
        from experiments.evaluation.outcome import already_finished
        from experiments.quickstart.repair import repair
        from experiments.record.leftovers import removed_on_error

        before = already_finished(self.out)
        with removed_on_error(self.out):
            report = repair(self.out)
        return tell([*before, f"report: {report}"])


@dataclass(frozen=True)
class Study:
    """Run what answers one question, and write what came out."""

    what: Annotated[Curriculum, subcommand("curriculum")] | Annotated[Repair, subcommand("repair")]

    def run(self) -> int:
        return self.what.run()
