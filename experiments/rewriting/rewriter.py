"""A language model that rewrites short prompts, and the rules that a rewrite must keep to be used.

    FOLDER/rewriter.json      how it is asked, the rules, and the numbers of its training
    FOLDER/rewrites.jsonl     what it makes of prompts that it did not learn from, beside the other ways
    FOLDER/model_card.md
    FOLDER/...                the language model and its tokenizer, as transformers write them

A rewrite that breaks a rule is not used: the prompt is then completed by rule (`rendered_text.complete`) or stays as it
is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from base_model.data.rendered_text import COLOURS, COLUMNS, FACES, LIKE, ROWS, SIZES, complete
from preference_data.records import Prompt, quoted_spans

REWRITER = "rewriter.json"
FORMAT = 1
INSTRUCTION = (
    "Rewrite this short prompt for a text-to-image model as one full description. Keep every text in quotation marks "
    "as it is.\n"
)
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}Short: {{ m.content }}\nFull:\n{% else %}{{ m.content }}"
    "{{ eos_token }}{% endif %}{% endfor %}"
)
"""How a language model is asked whose tokenizer brings no chat template. A line break ends the question, because a
space would become one token with the first word of the answer."""
NAMED_WORDS = tuple(sorted({*COLOURS, *FACES, *SIZES, *ROWS, *COLUMNS}))
"""Colours, sizes and the like, which a rewrite may add and must not take away."""
AT_ONCE = 32
"""Prompts that are rewritten together."""


@dataclass(frozen=True)
class Rules:
    """What a rewrite must keep."""

    longest: int = 400
    """characters"""
    most_tokens: int = 96
    """tokens that the language model may write"""
    keep: tuple[str, ...] = NAMED_WORDS
    """words that a rewrite has where the prompt has them"""

    def __post_init__(self) -> None:
        if min(self.longest, self.most_tokens) < 1:
            raise ValueError(f"longest={self.longest}, most_tokens={self.most_tokens}: both must be at least 1")

    def fault(self, prompt: Prompt, rewrite: str, finished: bool = True) -> str:
        """Why a rewrite may not be used; "" where it may."""
        if not rewrite.strip():
            return "it is empty"
        if not finished:
            return f"it does not end within {self.most_tokens} tokens"
        if len(rewrite) > self.longest:
            return f"it has more than {self.longest} characters"
        if "\n" in rewrite.strip():
            return "it has several lines"
        quoted, wanted = sorted(quoted_spans(rewrite)), capitals(prompt)
        if prompt.spans and quoted != sorted(prompt.spans):
            return f"it quotes {', '.join(quoted) or 'nothing'} instead of {', '.join(prompt.spans)}"
        if not prompt.spans and (set(quoted) - set(wanted) or not set(wanted) <= set(capitals_of(rewrite))):
            return f"it does not keep the text {', '.join(wanted)}" if wanted else f"it adds {', '.join(quoted)}"
        lost = sorted(set(self._named(prompt.text)) - set(self._named(rewrite)))
        return f"it leaves out {', '.join(lost)}" if lost else ""

    def _named(self, text: str) -> list[str]:
        words = [LIKE.get(word, word) for word in re.findall(r"[^\W\d_]+", text.lower())]
        return [word for word in words if word in self.keep]


def capitals(prompt: Prompt) -> list[str]:
    """The words in capitals of a prompt, which may be texts that it does not quote; "I" and "A" are none."""
    return [word for word in capitals_of(prompt.text) if word not in ("I", "A")]


def capitals_of(text: str) -> list[str]:
    """Words in capitals."""
    return [word for word in re.findall(r"[^\W_]+", text) if word.isupper()]


@dataclass(frozen=True)
class Rewrite:
    """A prompt as an image model is given it."""

    text: str
    """the rewrite, or what takes its place"""
    own: str
    """what the language model wrote"""
    fault: str = ""
    """why that is not used; "" where it is"""


def conversation(prompt: str, instruction: str) -> list[dict[str, str]]:
    """How a prompt is put to a language model."""
    return [{"role": "user", "content": f"{instruction}{prompt}"}]


def tokenizer_of(weights: Path | str) -> Any:
    """The tokenizer of a language model; with a padding token and a chat template also where it brings none."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(weights, local_files_only=isinstance(weights, Path))
    if tokenizer.eos_token is None:
        raise ValueError(f"the tokenizer of {weights} has no token that ends a text; choose another language model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not tokenizer.chat_template:
        tokenizer.chat_template = TEMPLATE
    tokenizer.padding_side = "left"
    return tokenizer


def written(
    model: Any, tokenizer: Any, prompts: Sequence[Prompt], instruction: str, rules: Rules
) -> list[tuple[str, bool]]:
    """The likeliest rewrite of each prompt as the model writes it, and whether it came to an end."""
    import torch

    results: list[tuple[str, bool]] = []
    for first in range(0, len(prompts), AT_ONCE):
        queries = [conversation(prompt.text, instruction) for prompt in prompts[first : first + AT_ONCE]]
        inputs = tokenizer.apply_chat_template(
            queries, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        ).to(model.device)
        with torch.no_grad():
            ids = model.generate(
                **inputs, max_new_tokens=rules.most_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )  # fmt: skip
        for row in ids[:, inputs["input_ids"].shape[1] :].tolist():
            results.append((tokenizer.decode(row, skip_special_tokens=True).strip(), tokenizer.eos_token_id in row))
    return results


def with_fallback(prompts: Sequence[Prompt], own: Sequence[tuple[str, bool]], rules: Rules) -> list[Rewrite]:
    """What is used of what a model wrote."""
    faults = [rules.fault(prompt, text, finished) for prompt, (text, finished) in zip(prompts, own, strict=True)]
    return [
        Rewrite(complete(prompt.text) if fault else text, text, fault)
        for prompt, (text, _), fault in zip(prompts, own, faults, strict=True)
    ]


@dataclass(frozen=True)
class RewriterCard:
    """How a rewriter is asked, as its folder says."""

    instruction: str
    rules: Rules

    def to_json(self, training: dict[str, Any]) -> str:
        """The text of `REWRITER`."""
        return json.dumps({"format": FORMAT, **asdict(self), **training}, indent=1, ensure_ascii=False) + "\n"


def read_card(folder: Path) -> RewriterCard:
    """How the rewriter of a folder is asked. ValueError where it holds none, or a damaged one."""
    path = folder / REWRITER
    if not path.is_file():
        raise ValueError(f"there is no rewriter in {folder}; make one with glyphlab train-rewriter -o {folder}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rules = {**content["rules"], "keep": tuple(content["rules"]["keep"])}
        card = RewriterCard(content["instruction"], Rules(**rules))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): train the rewriter again") from error
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} is of format {content.get('format')}, and this is {FORMAT}: train the rewriter again")
    return card


def rewrite(folder: Path, prompts: Sequence[Prompt], device: str = "") -> list[Rewrite]:
    """The prompts as the rewriter of a folder puts them. ValueError as `read_card`, also for prompts about images."""
    card = read_card(folder)
    if edits := [prompt.text for prompt in prompts if prompt.sources]:
        raise ValueError(f"the rewriter does not see images, and this is an instruction to edit one: {edits[0]}")
    from transformers import AutoModelForCausalLM

    from base_model.devices import best_device

    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer = tokenizer_of(folder)
    own = written(model.to(best_device(device)).eval(), tokenizer, prompts, card.instruction, card.rules)
    return with_fallback(prompts, own, card.rules)
