"""Commands that draw pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from experiments.commands.arguments import Out, RunFolder


@dataclass(frozen=True)
class Sample:
    """Draw pictures of a prompt with the model of a run.

    Example: glyphlab sample runs/quickstart "the word GLYPH in red on white" --seed 7 -o out.png
    """

    run_folder: RunFolder
    """folder of a finished run"""
    prompt: Annotated[Positional[str], arg(metavar="PROMPT")]
    """what the picture should show, in words like those of the training captions"""
    out: Out = Path("sample.png")
    """the picture's file (PNG)"""
    seed: int = 0
    """of the starting noise: the same seed draws the same picture"""
    guidance: float = 2.0
    """weight of the prompt: 1 = as trained, more follows the prompt more closely at twice the time"""
    steps: int = 10
    """steps from noise to picture; more are finer and slower"""
    count: int = 1
    """pictures, from different noise, one below the other"""
    stage: str = ""
    """of a run with several stages, the one whose model draws, such as sft; the last aligned one when not given"""

    def run(self) -> int:
        from experiments.sampling import draw_to_file

        print(
            draw_to_file(
                self.run_folder, self.prompt, self.seed, self.out, self.guidance, self.steps, self.count, self.stage
            )
        )
        return 0
