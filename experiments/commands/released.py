"""Commands about released checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from experiments.commands.arguments import Out, RunFolder


@dataclass(frozen=True)
class Edit:
    """Edit one to three images by an instruction.

    Example: glyphlab edit Qwen/Qwen-Image-Edit-2511 --image a.png --image b.png "put the hat of a on the cat of b"
    """

    base: Annotated[Positional[str], arg(metavar="BASE")]
    """released editing checkpoint, a folder or a name on the hub, or the folder of a run that began from one"""
    instruction: Annotated[Positional[str], arg(metavar="INSTRUCTION")]
    """what should change"""
    image: Annotated[UseAppendAction[tuple[Path, ...]], arg(metavar="PATH")] = ()
    """an image; give it again for a second and a third"""
    out: Out = Path("edit.png")
    """the edit's file (PNG)"""
    seed: int = 0
    """of the starting noise: the same seed makes the same edit"""
    guidance: float = 4.0
    """weight of the instruction; 1 = as trained, at half the time"""
    steps: int = 40
    """steps from noise to image"""
    side: int = 1024
    """the edit has as many pixels as a square of this side, in the shape of the last image"""
    device: str = ""
    """cpu or cuda; the GPU where there is one, when not given"""

    def run(self) -> int:
        from base_model.sample import Sampler
        from experiments.evaluation.sample_released import edit_to_file

        sampler = Sampler(self.steps, self.guidance)
        print(
            edit_to_file(self.base, self.image, self.instruction, self.seed, self.out, sampler, self.side, self.device)
        )
        return 0


@dataclass(frozen=True)
class Export:
    """Write the model of a run that began from a released checkpoint as such a checkpoint, for diffusers.

    Of a run of train_vae, that is the checkpoint with the autoencoder that was trained.

    Example: glyphlab export runs/nano_sft exported
    """

    run_folder: RunFolder
    """folder of a finished run"""
    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """new folder to write"""
    only_lora: bool = False
    """write only the adapter that the run learned, as a LoRA file for `load_lora_weights`"""

    def run(self) -> int:
        from experiments.evaluation.sample_released import export_lora, export_run

        print((export_lora if self.only_lora else export_run)(self.run_folder, self.folder))
        return 0


@dataclass(frozen=True)
class ImportLora:
    """Make a run of a released checkpoint with a LoRA file: to sample, edit, or train on.

    Example: glyphlab import-lora pytorch_lora_weights.safetensors --base Qwen/Qwen-Image -o runs/lora
    """

    file: Annotated[Positional[Path], arg(metavar="FILE")]
    """a LoRA of the transformer, or a folder with one, in diffusers' names or, where diffusers is installed, those of
    trainers it knows"""
    base: Annotated[str, arg(metavar="BASE")]
    """the released checkpoint that it was trained on, a folder or a name on the hub"""
    out: Out
    """the run's folder"""

    def run(self) -> int:
        from experiments.evaluation.sample_released import import_lora

        print(import_lora(self.file, self.base, self.out))
        return 0
