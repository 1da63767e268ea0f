"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

RUNS = Path("runs")
RunFolder = Annotated[Positional[Path], arg(name="run", metavar="RUN")]
Out = Annotated[Path, arg(aliases=["-o"])]
MaybeOut = Annotated[Path | None, arg(aliases=["-o"], metavar="PATH")]
