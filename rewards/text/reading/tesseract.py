"""Tesseract as a page reader: an LSTM of another family and other training data than PaddleOCR's, so a judge whose
agreement means more. Slower (0.2 s a small image) and weaker on short words; installed by the system, not by pip.

Source: Smith 2007; the program's own manual page for the TSV output.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
from itertools import groupby

import numpy as np
from PIL import Image

from rewards.text.reading.matching import Line

LANGUAGES = ("eng", "chi_sim")
INSTALL = "make system, or: apt-get install tesseract-ocr tesseract-ocr-chi-sim"
ENLARGE = 400  # pixels: a shorter side below it is enlarged to about this, since letters should be some 30 pixels high
BORDER = 20  # pixels of ground put around; text that touches the border is not found


class TesseractPage:
    """The ``tesseract`` program, called for each image; ``least_confidence`` as elsewhere, by line."""

    def __init__(self, least_confidence: float, seconds: float = 60.0) -> None:
        program = shutil.which("tesseract")
        if program is None:
            raise FileNotFoundError(f"the engine 'tesseract' needs the program of that name; {INSTALL}")
        self._program = program
        self._least = least_confidence
        self._seconds = seconds
        listed = subprocess.run([program, "--list-langs"], capture_output=True, text=True, check=True).stdout.split()
        missing = [language for language in LANGUAGES if language not in listed]
        if missing:
            raise FileNotFoundError(f"tesseract has no data for {', '.join(missing)}; {INSTALL}")
        shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
        self.name = f"tesseract/{shown[1]}-{'+'.join(LANGUAGES)}"

    def read(self, image_HW3: np.ndarray) -> list[Line]:
        """The program's error (subprocess.CalledProcessError, TimeoutExpired) is raised: no text is not a failure."""
        image = Image.fromarray(np.ascontiguousarray(_framed(image_HW3)))
        scale = max(ENLARGE / min(image.size), 1.0)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        png = io.BytesIO()
        image.save(png, "PNG", compress_level=1)
        command = [self._program, "stdin", "stdout", "-l", "+".join(LANGUAGES), "--psm", "11", "tsv"]
        done = subprocess.run(
            command, input=png.getvalue(), capture_output=True, check=True, timeout=self._seconds,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )  # fmt: skip
        return [line for line in lines(done.stdout.decode("utf-8")) if line.confidence >= self._least]


def _framed(image_HW3: np.ndarray) -> np.ndarray:
    return np.pad(image_HW3, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge")


def lines(table: str) -> list[Line]:
    """The lines of the program's TSV: words are level 5, confidences are percent, -1 where there is no word."""
    rows = csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE)
    words = [row for row in rows if row["level"] == "5" and row["text"].strip()]
    results = []
    for _, group in groupby(words, key=lambda row: (row["block_num"], row["par_num"], row["line_num"])):
        parts = list(group)
        confidence = float(np.mean([float(row["conf"]) for row in parts])) / 100.0
        results.append(Line(" ".join(row["text"] for row in parts), min(max(confidence, 0.0), 1.0)))
    return results
