"""Short prompts as people write them, for the small presets; and the examples that a rewriter is fine-tuned on.

A prompt leaves most things open: size, place, type face, colours. The examples fill them in: once as the completion by
rule does it (`rendered_text.complete`), and several times by lot, as captions of training have it. Fine-tuning thereby
teaches the form of a caption and leaves a choice, which GRPO then makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from base_model.data.rendered_text import COLOURS, DARK, PAPER, choose_word, complete, read_short
from base_model.seeding import numpy_generator
from experiments.evaluation.prompt_files import PROMPT, as_requested
from experiments.rewriting.rewriter import Rules
from experiments.rewriting.rewriter_trainer import Example
from preference_data.line_files import read_json_lines
from preference_data.records import Prompt, prompt_id

FORMS = (
    "make me a {dark} sign that says {word}", "a {light} sign that says {word}", "please write {word}",
    "I need the word {word}", "write {word} in {dark}", "{word} in {dark} letters", "a poster that says {word}",
    "put {word} at the top", "write {word} at the bottom", "give me a {size} sign with {word}",
    "{word} on {light} paper", "show the word {word} on the right", "the word {word} at the top, please",
    "make an image of the word {word} at the bottom", "a label reading {word} in {dark}",
)  # fmt: skip
DARKS = tuple(name for name in DARK if name != "black")
SIZES = ("big", "small", "little", "large")
REWRITES = ("rewrite", "completion", "caption")
"""Columns of a file of examples that say how the prompt should be put."""


def short_prompts(count: int, seed: int, heldout: bool = False) -> list[Prompt]:
    """`count` prompts with distinct words, one of `heldout` or of the others: a pure function of its arguments."""
    prompts: dict[str, Prompt] = {}
    index = 0
    while len(prompts) < count:
        rng = numpy_generator(seed, index, int(heldout), "short prompt")
        word = choose_word(rng, 3, 5, heldout)
        prompts.setdefault(word, short_prompt(word, rng))
        index += 1
    return list(prompts.values())


def short_prompt(word: str, rng: np.random.Generator) -> Prompt:
    """A prompt that asks for a word, in quotation marks or not."""
    form = str(rng.choice(list(FORMS)))
    colours = {"dark": str(rng.choice(list(DARKS))), "light": str(rng.choice(list(PAPER)))}
    shown = f'"{word}"' if rng.random() < 0.5 else word
    text = form.format(word=shown, size=rng.choice(list(SIZES)), **colours)
    assert set(colours.values()) <= set(COLOURS)
    return Prompt(prompt_id(text), text, (word,))


def examples_of(prompts: Sequence[Prompt], rules: Rules, varied: int, seed: int, by_rule: bool = True) -> list[Example]:
    """The completion by rule of each prompt that has one, where it is asked for, and `varied` others."""
    examples = []
    for i, prompt in enumerate(prompts):
        request = read_short(prompt.text)
        if request is None or rules.fault(prompt, complete(prompt.text)):
            continue
        rng = numpy_generator(seed, i, 0, "rewrites by lot")
        rewrites = [*[request.caption] * by_rule, *(request.varied(rng) for _ in range(varied))]
        examples += [Example(prompt.text, each) for each in rewrites]
    order = numpy_generator(seed, 0, 0, "order of examples").permutation(len(examples))
    return [examples[i] for i in order]


def read_examples(path: Path, rules: Rules) -> list[Example]:
    """The examples of a file: an object a line, with "prompt" and "rewrite".

    Raises ValueError naming the line where either is missing, or the rewrite breaks a rule.
    """
    examples = []
    for number, row in read_json_lines(path):
        try:
            prompt = as_requested(row, path.parent).prompt
            rewrite = next((row[name] for name in REWRITES if isinstance(row, Mapping) and name in row), None)
            if not isinstance(rewrite, str):
                raise ValueError(f'it has no "{REWRITES[0]}", the text that "{PROMPT[0]}" should become')
            if fault := rules.fault(prompt, rewrite.strip()):
                raise ValueError(f"the rewrite of {prompt.text!r} cannot be learned from: {fault}")
        except ValueError as error:
            raise ValueError(f"{path} line {number}: {error}") from error
        examples.append(Example(prompt.text, rewrite.strip()))
    if not examples:
        raise ValueError(f'{path} holds no examples; write an object a line, with "prompt" and "rewrite"')
    return examples
