"""Which prompts a rewriter learns from and which it is measured on: no text that an image must show is in both."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments.evaluation.prompt_files import read_prompt_file
from experiments.rewriting.rewriter import Rules, capitals, capitals_of
from experiments.rewriting.rewriter_plan import RewriterPlan
from experiments.rewriting.rewriter_trainer import Example, Say
from experiments.rewriting.short_prompts import read_examples, short_prompts
from preference_data.comparisons import islands
from preference_data.records import Prompt, quoted_spans


def split(plan: RewriterPlan) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts that are learned from, and those held out; no text that an image must show is in both."""
    seed = plan.settings.seed
    if plan.prompts is None:
        held_out = max(2, round(plan.count * plan.held_out))
        return short_prompts(plan.count, seed), short_prompts(held_out, seed, heldout=True)
    prompts = [each.prompt for each in read_prompt_file(plan.prompts)]
    if edits := [prompt.text for prompt in prompts if prompt.sources]:
        raise ValueError(f"{plan.prompts}: a rewriter does not see images, and this is an edit of one: {edits[0]}")
    unique = list({p.text: p for p in prompts}.values())
    names = islands([f"prompt:{p.text}", *(f"text:{text}" for text in texts_of(p))] for p in unique)
    island = dict(zip((p.text for p in unique), names, strict=True))
    sizes = Counter(island.values())
    order = sorted(sizes, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    room, chosen = max(2, round(len(unique) * plan.held_out)), set()
    for key in order:
        if sizes[key] <= room:
            chosen.add(key)
            room -= sizes[key]
    parts = [p for p in unique if island[p.text] not in chosen], [p for p in unique if island[p.text] in chosen]
    if len(parts[0]) < plan.settings.batch or len(parts[1]) < 2:
        raise ValueError(
            f"{plan.prompts} has {len(unique)} different prompts in {len(sizes)} groups that share a text, and "
            f"{len(parts[1])} of them are held out; at least {plan.settings.batch} to learn from and 2 to be held out "
            "are needed: give more prompts, a smaller --batch or another --held-out"
        )
    return parts


def texts_of(prompt: Prompt) -> tuple[str, ...]:
    """The texts that an image of a prompt must show: those it quotes, else its words in capitals."""
    return prompt.spans or tuple(capitals(prompt))


def own_examples(file: Path, rules: Rules, held_out: Sequence[Prompt], say: Say) -> list[Example]:
    """The examples of a file, without those that must show a text of a held-out prompt.

    Raises ValueError as `read_examples`, and where none is left.
    """
    examples = read_examples(file, rules)
    prompts, texts = {p.text for p in held_out}, {text for p in held_out for text in texts_of(p)}
    left = [
        each for each in examples
        if each.prompt not in prompts and texts.isdisjoint([*quoted_spans(each.rewrite), *capitals_of(each.rewrite)])
    ]  # fmt: skip
    if not left:
        raise ValueError(
            f"all {len(examples)} examples of {file} show texts of held-out prompts; give others, or hold out fewer "
            "prompts with --held-out"
        )
    if len(left) < len(examples):
        say(f"{len(examples) - len(left)} examples of {file} show a text of a held-out prompt; they are left out")
    return left
