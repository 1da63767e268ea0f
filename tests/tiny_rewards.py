"""Every reward of a model, made of tiny random weights in a folder, and pictures for them to judge."""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from rewards.aesthetic import AestheticV25, LaionAesthetic
from rewards.clip import ClipScore, HpsV21, PickScore
from rewards.hpsv3 import HpsV3
from rewards.imagereward import ImageReward
from rewards.server_judge import ServerJudge
from rewards.vlm import Vlm
from tests.chat_server import MODEL, Said, chat_server, completion, pictures_of
from tests.tiny_files import hpsv3_files, imagereward_files
from tests.tiny_judges import aesthetic_head, as_batch, clip_folder, siglip_folder
from tests.tiny_vlm import qwen_folder


def spoilt_photographs() -> np.ndarray:
    """A part of a photograph, clean and then blurred more and more: (5, 3, 48, 80)."""
    from skimage import data

    clean = Image.fromarray(data.coffee()[100:196, 200:360])
    blurred = [clean.filter(ImageFilter.GaussianBlur(radius)) for radius in (0, 1, 2, 4, 8)]
    return np.concatenate([as_batch(np.asarray(picture)[:48, :80]) for picture in blurred])


def clipscore(folder: Path) -> ClipScore:
    return ClipScore(weights=str(clip_folder(folder)), size=32)


def pickscore(folder: Path) -> PickScore:
    return PickScore(weights=str(clip_folder(folder)), size=32, view="tiles")


def hpsv2(folder: Path) -> HpsV21:
    return HpsV21(weights=str(clip_folder(folder)), size=32)


def laion_aesthetic(folder: Path) -> LaionAesthetic:
    aesthetic_head(folder / "head.pth", 16)
    return LaionAesthetic(weights=str(clip_folder(folder / "clip")), head=str(folder / "head.pth"), size=32)


def aesthetic_v25(folder: Path) -> AestheticV25:
    aesthetic_head(folder / "head.pth", 24, "scoring_head.")
    return AestheticV25(weights=str(siglip_folder(folder / "siglip")), head=str(folder / "head.pth"), size=56)


def hpsv3(folder: Path) -> HpsV3:
    base, _, _ = hpsv3_files(folder)
    return HpsV3(weights=str(folder / "HPSv3.safetensors"), base=str(base))


def imagereward(folder: Path) -> ImageReward:
    imagereward_files(folder)
    return ImageReward(weights=str(folder / "ImageReward.pt"), tokenizer=str(folder / "bert"), size=32)


def vlm(folder: Path) -> Vlm:
    return Vlm(weights=str(qwen_folder(folder)), reading="rating", least_mass=0.0, least_pixels=28 * 28)


def sharpness(request: dict[str, Any]) -> Said:
    """P("Yes") grows with the contrast between neighbouring pixels."""
    grey = pictures_of(request)[0].mean(axis=2)
    p = float(np.clip(np.abs(np.diff(grey, axis=1)).mean() / 20, 0.01, 0.99))
    return completion({"Yes": p, "No": 1 - p})


def served(folder: Path) -> ServerJudge:
    """Behind a server on loopback that ends with the process."""
    stack = ExitStack()
    atexit.register(stack.close)
    chat = stack.enter_context(chat_server(sharpness))
    return ServerJudge(url=chat.url, model=MODEL, pause=0.0)
