"""Our CLIP rewards and open_clip's own pipeline on the same pictures: prints the largest differences as JSON.

Run in a process of its own (``python -m tests.open_clip_story FOLDER``): open_clip brings torchvision, and with
torchvision on the path other libraries of the test process would choose other image processors.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from preference_data.records import Prompt
from rewards.aesthetic import LaionAesthetic
from rewards.clip import ClipScore, HpsV21
from rewards.framing import CENTRE_CROP, PAD_LONGEST
from rewards.open_clip_import import open_clip
from tests.tiny_judges import aesthetic_head, as_batch, photographs, scatter

SIZE = 32
CAPTIONS = ("an astronaut", 'the word "CAT" in red', "咖啡 and coffee", "a rocket " * 60, "x")
CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def hps_transform(library: Any) -> Callable[[Image.Image], torch.Tensor]:
    """HPSv2's as published: to float, resize by the longer side, pad with black, normalise; all by torchvision."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as tv

    def transform(picture: Image.Image) -> torch.Tensor:
        x = tv.to_tensor(picture)
        scale = SIZE / max(x.shape[1:])
        height, width = (round(side * scale) for side in x.shape[1:])
        x = tv.resize(x, [height, width], InterpolationMode.BICUBIC)
        h, w = SIZE - height, SIZE - width
        x = tv.pad(x, [w // 2, h // 2, w - w // 2, h - h // 2], fill=0)
        return tv.normalize(x, library.OPENAI_DATASET_MEAN, library.OPENAI_DATASET_STD)

    return transform


def main(folder: Path) -> dict[str, float]:
    library = open_clip()
    (folder / "configs").mkdir()
    (folder / "configs" / "tiny.json").write_text(json.dumps(CONFIG), "utf-8")
    library.add_model_config(folder / "configs")
    model = scatter(library.create_model("tiny"))
    model.logit_scale.data.fill_(4.6)
    file = folder / "tiny.pt"
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, file)
    head = aesthetic_head(folder / "head.pth", 16)
    crop = library.image_transform(SIZE, is_train=False)
    pad, tokenize = hps_transform(library), library.get_tokenizer("tiny")
    settings = {"weights": str(file), "architecture": "tiny", "size": SIZE}
    hps, clip = HpsV21(**settings).load(), ClipScore(**settings).load()
    laion = LaionAesthetic(head=str(folder / "head.pth"), **settings).load()
    found: dict[str, list[float]] = {}
    with torch.inference_mode():
        for text, picture in zip(CAPTIONS, photographs(), strict=True):
            image, prompt = Image.fromarray(picture), [Prompt.from_text(text)]
            cropped, padded = (model.encode_image(t(image)[None], normalize=True) for t in (crop, pad))
            expected = {
                "hpsv2": padded @ model.encode_text(tokenize([text]), normalize=True).T,
                "clipscore": 2.5
                * (cropped @ model.encode_text(tokenize(["A photo depicts " + text]), normalize=True).T),
                "laion_aesthetic": head(cropped),
            }
            ours = {"hpsv2": hps, "clipscore": clip, "laion_aesthetic": laion}
            for name, scorer in ours.items():
                scores = scorer(prompt, as_batch(picture))
                value = float(2.5 * scores.parts["cosine"][0] if name == "clipscore" else scores.value_B[0])
                found.setdefault(name, []).append(abs(value - float(expected[name])))
                found.setdefault(f"{name} values", []).append(value)
            for name, framing, transform in (("crop", CENTRE_CROP, crop), ("pad", PAD_LONGEST, pad)):
                mean, std = (
                    np.array(x).reshape(3, 1, 1) for x in (library.OPENAI_DATASET_MEAN, library.OPENAI_DATASET_STD)
                )
                squares = (framing.frame(picture, SIZE)[0] - mean) / std
                found.setdefault(name, []).append(float(np.abs(squares - transform(image).numpy()).max()))
            tokens = [min(1.0, 77 / (2 + len(tokenize.encode(text))))]
            found.setdefault("text_share", []).append(
                abs(hps(prompt, as_batch(picture)).parts["text_share"][0] - tokens[0])
            )
    spread = {name: max(v) - min(v) for name, v in found.items() if name.endswith(" values")}
    return {**{name: max(v) for name, v in found.items() if not name.endswith(" values")}, **spread}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
