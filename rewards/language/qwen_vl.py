"""A Qwen-VL model (Qwen2-VL, Qwen2.5-VL) with what goes around it: images to patches, a question to tokens.

The processor class of transformers is not used: it needs torchvision, for videos. Its two traps are kept out here: a
prompt must not hold the model's own special tokens, which would add images or end the turn; and without
``mm_token_type_ids`` transformers 5 gives image tokens the positions of text, silently.

Wang et al. 2024 (Qwen2-VL), Bai et al. 2025 (Qwen2.5-VL). Shapes: HW3 8-bit pixels, L tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rewards.image_scorer import Unjudged
from rewards.language.read_answer import LEAST_MASS, add_up, spellings
from rewards.published.open_clip_import import declare_operators
from rewards.scores import View

if TYPE_CHECKING:
    from torch import Tensor

FACTOR = 28  # pixels of a side that become one token: patches of 14, merged 2 x 2
IMAGE_TOKEN = "<|image_pad|>"
CLASSES = ("qwen2_vl", "qwen2_5_vl")
"""Models of this layout, by the names of transformers."""
LANGUAGE_LAYERS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""What an adapter goes to: the language model, as those who fine-tune Qwen2.5-VL do; the eye stays as it is."""


def seen_size(height: int, width: int, least: int, most: int) -> tuple[int, int]:
    """(height, width) in pixels that such a model sees: multiples of 28, area between ``least`` and ``most``."""
    h, w = max(round(height / FACTOR), 1) * FACTOR, max(round(width / FACTOR), 1) * FACTOR
    if h * w > most:
        shrink = math.sqrt(height * width / most)
        h = max(math.floor(height / shrink / FACTOR), 1) * FACTOR
        w = max(math.floor(width / shrink / FACTOR), 1) * FACTOR
    elif h * w < least:
        grow = math.sqrt(least / (height * width))
        h, w = math.ceil(height * grow / FACTOR) * FACTOR, math.ceil(width * grow / FACTOR) * FACTOR
    return h, w


def sees(height: int, width: int, least: int, most: int) -> View:
    return View(1.0, *seen_size(height, width, least, most), "all of it, sides rounded to multiples of 28")


def float_kind(dtype: str) -> Any:
    """torch's floating-point type of that name. ValueError for anything else."""
    import torch

    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in kinds:
        raise ValueError(f"dtype is {dtype!r}; choose one of {', '.join(kinds)}")
    return kinds[dtype]


class QwenInputs:
    """Tokenizer and image processor of a folder or hub name; ``least`` and ``most`` bound an image's area."""

    def __init__(self, weights: Path | str, least: int, most: int) -> None:
        declare_operators()
        from transformers import AutoConfig, AutoTokenizer, Qwen2VLImageProcessorPil

        local = isinstance(weights, Path)
        size = {"shortest_edge": least, "longest_edge": most}
        try:
            self._processor = Qwen2VLImageProcessorPil.from_pretrained(weights, size=size, local_files_only=local)
            tokenizer: Any = AutoTokenizer.from_pretrained(weights, local_files_only=local)
        except ValueError as error:  # of JSON that is cut short, with no word about the file
            raise ValueError(
                f"the tokenizer or the image processor of {weights} cannot be read: {error}; fetch its files again"
            ) from error
        self.tokenizer = tokenizer
        self.image_token = int(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) or 0)
        wanted = getattr(AutoConfig.from_pretrained(weights, local_files_only=local), "image_token_id", None)
        if wanted != self.image_token:
            raise ValueError(
                f"{weights} is not a Qwen2-VL or Qwen2.5-VL model, or its tokenizer.json is not its own or is missing: "
                f"{IMAGE_TOKEN} is token {self.image_token} of the tokenizer and {wanted} of config.json; fetch its "
                "files again, or serve another model and ask it with 'server'"
            )
        if not tokenizer.chat_template:
            raise ValueError(
                f"the tokenizer of {weights} has no chat template, by which a question becomes a turn: take the "
                "model's instruct version, or put its chat_template.jinja into the folder"
            )

    @property
    def _commands(self) -> set[str]:
        """The model's own tokens, which no text from outside may hold."""
        return set(self.tokenizer.all_special_tokens) | set(self.tokenizer.get_added_vocab())

    def without_commands(self, text: str) -> str:
        """A text without the model's own tokens, also where one appears as another one goes."""
        before = ""
        while text != before:
            before = text
            for token in self._commands:
                text = text.replace(token, "")
        return text

    def check(self, text: str, images_HW3: Sequence[np.ndarray]) -> None:
        """``Unjudged`` "special_token" for a text from outside that holds one of the model's own tokens, "shape" for an
        image more than 200 times as long as wide, which the model cannot take."""
        if held := [token for token in self._commands if token in text]:
            raise Unjudged("special_token", f"the prompt holds {held[0]!r}, which the model reads as a command")
        if any(max(p.shape[:2]) > 200 * min(p.shape[:2]) for p in images_HW3):
            raise Unjudged("shape", "an image is more than 200 times as long as wide")

    def __call__(
        self, question: str, images_HW3: Sequence[np.ndarray], device: str, later: Sequence[str] = ()
    ) -> dict[str, Any]:
        """A model's inputs: the images in order, then the question, then the start of the answer; a batch of one.

        ``later`` holds what was said after the question: the model's answer, the next question, and so on in turns.
        """
        import torch

        content = [*({"type": "image"} for _ in images_HW3), {"type": "text", "text": question}]
        turns = [{"role": "user", "content": content}]
        for role, words in zip(itertools.cycle(("assistant", "user")), later, strict=False):
            turns.append({"role": role, "content": [{"type": "text", "text": words}]})
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        seen = self._processor(images=list(images_HW3), return_tensors="pt")
        before, *after = text.split(IMAGE_TOKEN)
        counts = (seen["image_grid_thw"].prod(1) // 4).tolist()
        text = before + "".join(IMAGE_TOKEN * n + rest for n, rest in zip(counts, after, strict=True))
        ids = torch.tensor([self.tokenizer(text, add_special_tokens=False).input_ids])
        inputs = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == self.image_token).int(),
            "pixel_values": seen["pixel_values"],
            "image_grid_thw": seen["image_grid_thw"],
        }
        return {name: tensor.to(device) for name, tensor in inputs.items()}

    def together(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The inputs of several batches of one as one batch, padded before the text, where no answer is added."""
        import torch

        longest = max(row["input_ids"].shape[1] for row in rows)
        padding = {"input_ids": self.tokenizer.pad_token_id, "attention_mask": 0, "mm_token_type_ids": 0}
        batch = {name: torch.cat([row[name] for row in rows]) for name in ("pixel_values", "image_grid_thw")}
        for name, value in padding.items():
            pads = [(longest - row[name].shape[1], 0) for row in rows]
            batch[name] = torch.cat(
                [torch.nn.functional.pad(row[name], pad, value=value) for row, pad in zip(rows, pads, strict=True)]
            )
        return batch


def require_qwen_vl(weights: Path | str, setting: str, remedy: str) -> None:
    """Raises ValueError, with nothing loaded, for a folder or hub name of another kind of model."""
    from transformers import AutoConfig

    local = isinstance(weights, Path)
    if isinstance(weights, Path) and not (weights / "config.json").is_file():
        raise ValueError(f"{setting} is {weights}, where no config.json is: it holds no model; {remedy}")
    kind = AutoConfig.from_pretrained(weights, local_files_only=local).model_type
    if kind not in CLASSES:
        raise ValueError(f"{setting} {weights} is a {kind} model, not a {' or '.join(CLASSES)} one; {remedy}")


@dataclass(frozen=True)
class AnswerTokens:
    """The tokens that answer a question: ``texts`` by id, of those that spell one of ``words`` or begin one."""

    words: tuple[str, ...]
    texts: dict[int, str]


class QwenVl:
    """A whole model that answers one question about images with the probabilities of words."""

    def __init__(self, weights: Path | str, device: str, dtype: str, least: int, most: int) -> None:

        declare_operators()
        from transformers import AutoModelForImageTextToText

        kind = float_kind(dtype)
        self._inputs = QwenInputs(weights, least, most)
        model: Any = AutoModelForImageTextToText.from_pretrained(
            weights, dtype=kind, local_files_only=isinstance(weights, Path)
        )
        self.model = model.to(device).eval()
        self._device = device
        self.name = f"transformers/{Path(weights).name}"

    def tokens_of(self, words: Sequence[str]) -> AnswerTokens:
        """The tokens that spell one of the words, or only begin one. ValueError naming a word that is no single token
        in any spelling: its probability could not be seen."""
        texts: dict[int, str] = {}
        for word in words:
            for form in spellings(word):
                for end in range(len(form), 0, -1):
                    for text in (form[:end], " " + form[:end]):
                        ids = self._inputs.tokenizer(text, add_special_tokens=False).input_ids
                        if len(ids) == 1:
                            texts.setdefault(int(ids[0]), text)
        single = {text.strip() for text in texts.values()}
        for word in words:
            if single.isdisjoint(spellings(word)):
                raise ValueError(
                    f"the tokenizer of {self.name} writes the answer {word!r} in pieces in every spelling, so its "
                    "probability cannot be read from one token; ask a model that has it as one token, or reading=json"
                )
        return AnswerTokens(tuple(words), texts)

    def odds(
        self, question: str, images_HW3: Sequence[np.ndarray], tokens: AnswerTokens, least: float = LEAST_MASS
    ) -> dict[str, float]:
        """Word -> probability of its spellings as the first token of the answer, over the whole vocabulary.

        ``Unjudged`` "split_word" as ``answers.add_up`` says."""
        import torch

        self._inputs.check(question, images_HW3)
        with torch.inference_mode():
            model = self.model(**self._inputs(question, images_HW3, self._device), logits_to_keep=1, use_cache=False)
            p_V = model.logits[0, -1].double().softmax(-1).cpu()
        return add_up([(text, float(p_V[token])) for token, text in tokens.texts.items()], tokens.words, least)

    def answers(
        self, question: str, images_HW3: Sequence[np.ndarray], later: Sequence[Sequence[str]], longest: int
    ) -> list[tuple[str, bool]]:
        """The likeliest answer about each image, token by token, and whether it ended within ``longest`` tokens.

        ``later`` holds what was said about each after the question, as `QwenInputs` takes it; the model's own tokens in
        it are left out. All images are answered in one batch. ``Unjudged`` as `odds`.
        """
        import torch

        rows = []
        for image, turns in zip(images_HW3, later, strict=True):
            self._inputs.check(question, [image])
            plain = [self._inputs.without_commands(each) for each in turns]
            rows.append(self._inputs(question, [image], self._device, plain))
        batch, words = self._inputs.together(rows), self._inputs.tokenizer
        ends = self.model.generation_config.eos_token_id or []
        ends = {words.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        with torch.inference_mode():
            ids = self.model.generate(
                **batch, max_new_tokens=longest, do_sample=False, temperature=None, top_p=None, top_k=None,
                eos_token_id=sorted(ends), pad_token_id=words.pad_token_id,
            )  # fmt: skip
        new = ids[:, batch["input_ids"].shape[1] :].tolist()
        return [(words.decode(row, skip_special_tokens=True).strip(), not ends.isdisjoint(row)) for row in new]

    def hidden(self, question: str, images_HW3: Sequence[np.ndarray]) -> Tensor:
        """float32 [D]: the last hidden state behind the question, where the answer begins. ``Unjudged`` as `odds`."""
        self._inputs.check(question, images_HW3)
        outputs = self.model.model(**self._inputs(question, images_HW3, self._device), use_cache=False)
        state: Tensor = outputs.last_hidden_state[0, -1].float()
        return state
