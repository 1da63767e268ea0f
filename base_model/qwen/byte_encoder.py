"""A byte-level text encoder for presets too small for a language model.

It is frozen and has no weights, as the 7B encoder of the real model is frozen: bytes go in, vectors come out, and the
network's own `txt_in` learns what they mean. Character-aware encoders spell where subword encoders do not
(Liu et al., arXiv:2212.10562), so

- a byte to be *drawn* (a capital letter) becomes one token: which byte, how many came before it in its word, how many
  follow;
- a Chinese character or a kana becomes one token as well: a fixed random code, and the same two places;
- a lower-case word becomes one token: a fixed random code of its bytes and their places, the same for the same word.

Quotes, commas and other punctuation are separators. Shapes: B samples, L text tokens, D = `WIDTH`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from base_model.interface import ConditionImages

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_LETTERS = 12
"""Longest spelled word; also the length of the two place codes."""
CODE = 96
"""Dimensions of the code of a lower-case word."""
WIDTH = CODE + len(LETTERS) + 2 * MAX_LETTERS + 1
MAX_TOKENS = 64
CHARACTERS = "\u3041-\u3096\u30a1-\u30fa\u30fc\u4e00-\u9fff"
"""kana and Chinese characters"""
TOKEN = re.compile(rf"[A-Z]+|[a-z]+|[{CHARACTERS}]+")
SPELLED = 4.0
"""What marks a letter or a place: about the norm of a word's code, spread over three entries."""
SEPARATORS = " \t\n,.;:!?'\"“”‘’「」()-"


@functools.cache
def word_code(word: str) -> Tensor:
    """[CODE] unit-variance code: the sum of a fixed random vector for each (byte, place), so no vocabulary is kept."""
    total = torch.zeros(CODE)
    for index, byte in enumerate(word.encode()):
        total += torch.randn(CODE, generator=torch.Generator().manual_seed(1009 * index + byte))
    return total / total.std()


@functools.cache
def character_code(character: str) -> Tensor:
    """[CODE] unit-variance code of such a character, of its own: those of its bytes would be alike among many."""
    return torch.randn(CODE, generator=torch.Generator().manual_seed(1_000_003 + ord(character)))


def token_vectors(text: str) -> Tensor:
    """[L, WIDTH] for one prompt. Raises ValueError naming the characters that have no code, or a word too long."""
    unknown = sorted({c for c in text if not (c in SEPARATORS or TOKEN.fullmatch(c))})
    if unknown:
        raise ValueError(
            f"this preset cannot know the characters {' '.join(map(repr, unknown))} in the prompt {text!r}: "
            "it writes A to Z, Chinese characters and kana, and reads lower-case English; use those, or a preset with "
            "a language model"
        )
    rows = []
    for token in TOKEN.findall(text):
        if token.islower():
            rows.append(torch.cat([word_code(token), torch.zeros(WIDTH - CODE)]))
            continue
        if len(token) > MAX_LETTERS:
            raise ValueError(f"the word {token!r} has {len(token)} letters; this preset writes at most {MAX_LETTERS}")
        for i, letter in enumerate(token):
            row = torch.zeros(WIDTH)
            row[CODE + len(LETTERS) + i] = row[CODE + len(LETTERS) + MAX_LETTERS + len(token) - 1 - i] = SPELLED
            if letter in LETTERS:
                row[CODE + LETTERS.index(letter)] = SPELLED
            else:
                row[:CODE] = character_code(letter)
            rows.append(row)
    if len(rows) > MAX_TOKENS:
        raise ValueError(f"the prompt has {len(rows)} tokens, this preset reads at most {MAX_TOKENS}: {text[:80]!r}")
    # A last token that is always there, so that an empty prompt (the unconditional one) is not an empty sequence.
    end = torch.zeros(WIDTH)
    end[-1] = 8.0
    return torch.stack([*rows, end])


def encode(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Prompts to (text_BLD float32, mask_BL bool), right-padded with zeros."""
    return padded([token_vectors(text) for text in texts])


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Token vectors [L, WIDTH] of every prompt to (text_BLD, mask_BL), right-padded with zeros."""
    text_BLD = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return text_BLD, torch.arange(text_BLD.shape[1])[None] < lengths[:, None]


class ByteEncoder:
    """Bytes alone: it sees no images, which then reach the network as latents only. `sight.CoarseEncoder` does."""

    nothing = ""

    def encode(self, texts: Sequence[str], images: ConditionImages = ()) -> tuple[Tensor, Tensor]:
        return encode(texts)

    def check(self, text: str, images: int = 0) -> None:
        """See `TextEncoder.check`."""
        token_vectors(text)

    def fitted(self, images: ConditionImages) -> ConditionImages:
        """Returns the images as they are."""
        return images
