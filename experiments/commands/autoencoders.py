"""Commands about autoencoders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from experiments.commands.arguments import MaybeOut, tell


@dataclass(frozen=True)
class EvaluateVae:
    """PSNR and SSIM of autoencoders on photographs and on small English and Chinese text; several beside one another.

    Example: glyphlab evaluate-vae runs/nano_decoder runs/text_decoder
    """

    vae: Annotated[Positional[tuple[Path, ...]], arg(metavar="VAE [VAE ...]")] = ()
    """vae.safetensors, a run's folder, or that of a released checkpoint of any family; Glyphlab's own when none is
    given"""
    pages: int = 12
    """pages of text of every language and size"""
    side: int = 128
    """height and width of the squares cut from photographs, in pixels"""
    out: MaybeOut = None
    """file for every image's numbers (JSON)"""

    def run(self) -> int:
        from experiments.evaluation.autoencoders import evaluate

        return tell(evaluate(self.vae, self.pages, self.side, self.out))


@dataclass(frozen=True)
class ExportVae:
    """Write an autoencoder in the released layout: its image path, and the video path of the one it came from.

    Example: glyphlab export-vae runs/text_decoder --base Qwen-Image -o exported/vae
    """

    vae: Annotated[Positional[Path], arg(metavar="VAE")]
    """vae.safetensors, or a run's folder"""
    base: Annotated[Path, arg(metavar="DIR")]
    """released checkpoint, or its vae folder, that training began from"""
    out: Annotated[Path, arg(aliases=["-o"])]
    """new folder to write"""

    def run(self) -> int:
        from experiments.evaluation.autoencoders import export_autoencoder

        print(export_autoencoder(self.vae, self.base, self.out))
        return 0
