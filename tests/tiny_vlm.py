"""A tiny random Qwen2.5-VL with its own tokenizer and chat template, written into a folder."""

from __future__ import annotations

from collections.abc import Sequence
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


_MERGES = """
e n, o r, l e, Ġ p, Ġ f, e s, Ġ b, e l, en t, Ġ n, e x, a d, Ġ g, c e, o d, Ġ A, Ġ y, Ġ e, Ġ P, i r, n t, Ġ B, Ġ F,
Ġ N, Ġ E, Ġ G, Ġ ex, el l, l l, Ġg o, Ġ Y, E x, L E, O R, Ġn o, E N, a ir, ĠE x, o od, E S, Ġgo od, A D, EN T, P O,
O D, C E, a i, n o, Ġf a, ĠN o, o o, E L, N o, I R, l en, Ġp o, E X, g o, Ġex c, F A, f a, c el, Ġb ad, ĠE X, L L, b
a, p o, ĠN O, c ell, ĠG o, N T, Ġf air, el le, B A, ĠY es, ĠG ood, Ġpo or, x c, Ġexc ell, N O, y e, Ġexcell ent, Y
es, y es, Ġy es, o or, G o, ĠB ad, ĠG O, Ġb a, ĠP O, ĠP o, b ad, Y ES, ĠY ES, ĠB a, ĠF air, ĠF A, G ood, A I, G O,
ell en, B ad, ĠF a, g ood, EL L, Ġy e, O O, Ex cel, ĠEx cel, ĠGO OD, Ġexc el, cell ent, LE N, ĠY e, P o, ĠB A, ĠEx
cellent, X C, ĠEx c, ex c, ex cel, f air, CE L, Ex c, ĠP oor, F a, ĠB AD, Ex cellent, ĠEx cell, B AD, O OD, x ce, A
IR, B a, Y E, F air, g oo, CE LL, l le, GO OD, ĠY E, Ġgo o, ll en, Ġp oo, P oor, Y e, Ġex ce
"""
QWEN_MERGES = tuple(tuple(pair.split()) for pair in _MERGES.split(","))
"""Of Qwen's own merges those inside the answer words, in their order: " excellent" and "Excellent" are one token,
"excellent" is "ex" and "cellent", and "poor" is "po" and "or"."""


def whole_words() -> list[tuple[str, str]]:
    """Merges that make each of ``WORDS`` one token."""
    merges = [(word[: end - 1], word[end - 1]) for word in WORDS for end in range(2, len(word) + 1)]
    return list(dict.fromkeys(merges))


def tokenizer(folder: Path, merges: Sequence[tuple[str, ...]] | None = None) -> int:
    """Bytes, and merges; without any, those of ``whole_words``. Returns the size of the vocabulary."""
    from transformers import Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    merges = whole_words() if merges is None else list(merges)
    vocabulary = [*bytes_to_unicode().values(), *("".join(pair) for pair in merges)]
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


def qwen_folder(folder: Path, kind: str = "qwen2_5_vl", merges: Sequence[tuple[str, ...]] | None = None) -> Path:
    from transformers import (
        AutoTokenizer,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessorPil,
    )

    size = tokenizer(folder, merges)
    made = AutoTokenizer.from_pretrained(folder)
    ids = {token: made.convert_tokens_to_ids(token) for token in SPECIAL}
    classes = {"qwen2_5_vl": Qwen2_5_VLForConditionalGeneration, "qwen2_vl": Qwen2VLForConditionalGeneration}
    model = scatter(classes[kind](config(kind, size, ids)), seed=2, scale=0.3)
    model.save_pretrained(folder)
    Qwen2VLImageProcessorPil().save_pretrained(folder)
    return folder
