"""A tiny random Qwen2.5-VL with its own tokenizer and chat template, written into a folder."""

from __future__ import annotations

from pathlib import Path

from tests.tiny_judges import scatter

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
           "<|video_pad|>")  # fmt: skip
TEMPLATE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% for c in m.content %}{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2-VL's template for one turn of pictures and text."""
WORDS = ("Yes", "No", "excellent", "good", "fair", "poor", "bad", "A", "B")


def tokenizer(folder: Path) -> int:
    """Bytes, and merges that make each of ``WORDS`` one token. Returns the size of the vocabulary."""
    from transformers import Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    vocabulary = list(bytes_to_unicode().values())
    merges = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if (pair := (word[: end - 1], word[end - 1])) not in merges:
                merges.append(pair)
                vocabulary.append(word[:end])
    made = Qwen2Tokenizer(
        vocab={token: i for i, token in enumerate(dict.fromkeys(vocabulary))},
        merges=merges,
        additional_special_tokens=list(SPECIAL[1:]),
        pad_token=SPECIAL[0],
        eos_token="<|im_end|>",
    )
    made.chat_template = TEMPLATE
    made.save_pretrained(folder)
    return len(made)


def config(kind: str, size: int, ids: dict[str, int]) -> object:
    """``kind`` is "qwen2_5_vl" or "qwen2_vl"; widths of 32, two layers."""
    from transformers import Qwen2_5_VLConfig, Qwen2VLConfig

    text = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": size, "max_position_embeddings": 4096, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
    }  # fmt: skip
    shared = {
        "text_config": text, "image_token_id": ids["<|image_pad|>"], "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"],
    }  # fmt: skip
    if kind == "qwen2_vl":
        vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
        return Qwen2VLConfig(vision_config=vision, **shared)
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
        "window_size": 56, "fullatt_block_indexes": [1],
    }  # fmt: skip
    return Qwen2_5_VLConfig(vision_config=vision, **shared)


def qwen_folder(folder: Path, kind: str = "qwen2_5_vl") -> Path:
    from transformers import (
        AutoTokenizer,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessorPil,
    )

    size = tokenizer(folder)
    made = AutoTokenizer.from_pretrained(folder)
    ids = {token: made.convert_tokens_to_ids(token) for token in SPECIAL}
    classes = {"qwen2_5_vl": Qwen2_5_VLForConditionalGeneration, "qwen2_vl": Qwen2VLForConditionalGeneration}
    model = scatter(classes[kind](config(kind, size, ids)), seed=2, scale=0.3)
    model.save_pretrained(folder)
    Qwen2VLImageProcessorPil().save_pretrained(folder)
    return folder
