"""Our inputs of a Qwen-VL and those of transformers' own processor: prints which are equal, as JSON.

Run in a process of its own (``python -m tests.qwen_story FOLDER``): that processor needs torchvision.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from PIL import Image

from rewards.open_clip_import import open_clip
from rewards.qwen_vl import QwenInputs
from tests.tiny_judges import photographs


def main(folder: Path) -> dict[str, bool]:
    open_clip()  # puts a torchvision on the path that can be imported
    from transformers import AutoTokenizer, Qwen2_5_VLProcessor, Qwen2VLImageProcessorPil, Qwen2VLVideoProcessor

    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = Qwen2VLImageProcessorPil.from_pretrained(folder)
    processor = Qwen2_5_VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(), chat_template=tokenizer.chat_template)
    equal: dict[str, bool] = {}
    for question, pictures in (("is it a cat?", photographs()[:1]), ("which, 咖啡?", photographs()[1:3])):
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        theirs = processor(text=[text], images=[Image.fromarray(p) for p in pictures], return_tensors="pt")
        ours = QwenInputs(folder, 56 * 56, 28 * 28 * 1280)(question, pictures, "cpu")
        assert set(theirs) == set(ours), (set(theirs), set(ours))
        for name, tensor in ours.items():
            same = tensor.shape == theirs[name].shape and torch.allclose(
                tensor.float(), theirs[name].float(), atol=1e-5
            )
            equal[name] = equal.get(name, True) and same
    return equal


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
