"""Prompts of vision-language encoders where no image is shown: a tokenizer does, and torchvision is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def text_processor(folder: Path) -> Any:
    """Make what does for prompts without images what Qwen3-VL's processor does, from the processor's own folder."""
    from transformers import AutoTokenizer, Qwen3VLProcessor

    class TextProcessor(Qwen3VLProcessor):  # a pipeline takes nothing else
        def __init__(self, tokenizer: Any) -> None:
            self.tokenizer = tokenizer

        def __call__(self, text: list[str], padding: bool, padding_side: str, return_tensors: str) -> Any:
            return self.tokenizer(text, padding=padding, padding_side=padding_side, return_tensors=return_tensors)

        def apply_chat_template(self, conversation: list[Any], tokenize: bool, return_dict: bool) -> list[Any]:  # type: ignore[override]
            """Return the tokens of a batch that holds one conversation."""
            return [self.tokenizer.apply_chat_template(conversation, tokenize=tokenize, return_dict=return_dict)]

        def save_pretrained(self, save_directory: str, push_to_hub: bool = False) -> None:  # type: ignore[override]
            """Write the tokenizer, which is all there is."""
            self.tokenizer.save_pretrained(save_directory)

    return TextProcessor(AutoTokenizer.from_pretrained(folder))
