"""Qwen2.5-VL as the frozen text encoder of the released checkpoints.

The vectors are the language model's last hidden states *after* its final norm, those of the template's head dropped
(`prompt_templates.py`). Image tokens get their row and column in the encoder's own rotary positions (M-RoPE), as when
the editing models were trained. Transformers 5 needs to be told which tokens are an image's, and diffusers up to 0.42
does not do so, so that its editing pipelines number them in one line there (diffusers issue 14194): we follow the
training.

The encoder is read when it is first needed, can be let go (`unload`), and is never needed for what is in the cache.

Shapes: B samples, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from base_model.files.shards import is_finite
from base_model.interface import ConditionImages
from base_model.qwen.embedding_cache import EmbeddingCache, encoder_identity, entry_name
from base_model.qwen.prompt_templates import Task, added_tokens, check_text, to_pil

LONGEST = 1024
"""tokens of a prompt, the end of the template included, images not: what the released tokenizer call keeps"""
PAD = "<|image_pad|>"


class VisionLanguageEncoder:
    """The `TextEncoder` of a released folder. Its unconditional prompt is a space, in the same template."""

    nothing = " "

    def __init__(
        self, folder: Path, task: Task, device: str = "cpu", dtype: torch.dtype | None = None, cache: Path | None = None
    ) -> None:
        """`dtype` None: as stored. `cache`: a folder that may not exist yet; None: nothing is kept."""
        self.folder, self.task, self.device, self.dtype = folder, task, device, dtype
        self._cache = EmbeddingCache(cache) if cache else None
        self._identity: str | None = None
        self._closed = False
        self._model: Any = None
        self._tokenizer: Any = None

    def encode(self, texts: Sequence[str], images: ConditionImages = ()) -> tuple[Tensor, Tensor]:
        """See `TextEncoder.encode`. Raises ValueError for a prompt that is too long, or images that do not fit."""
        shown = list(images) if any(images) else [()] * len(texts)
        prompts = [self.task.prompt(text, len(own)) for text, own in zip(texts, shown, strict=True)]
        for text in texts:
            check_text(text, self._added)
        if self._cache is None:
            return padded(self._run(prompts, shown))
        if self._identity is None:
            parts = [self.folder / name for name in ("text_encoder", "tokenizer", "processor")]
            self._identity = encoder_identity(parts, str(self.dtype))
        keys = [entry_name(self._identity, prompt, own) for prompt, own in zip(prompts, shown, strict=True)]
        table = {key: self._cache.read(key) for key in dict.fromkeys(keys)}
        new = {key: i for i, key in reversed(list(enumerate(keys))) if table[key] is None}
        if new:
            rows = sorted(new.values())
            self._require_open([texts[i] for i in rows])
            for i, text_LD in zip(rows, self._run([prompts[i] for i in rows], [shown[i] for i in rows]), strict=True):
                self._cache.write(keys[i], text_LD, prompts[i])
                table[keys[i]] = text_LD.cpu()
        return padded([known for key in keys if (known := table[key]) is not None])

    def check(self, text: str, images: int = 0) -> None:
        """See `TextEncoder.check`: by the tokenizer alone."""
        check_text(text, self._added)
        prompt = self.task.prompt(text, images)
        tokens = self._own_tokenizer(prompt.replace(PAD, ""))
        self._check_lengths([len(tokens.input_ids)], [prompt])

    def fitted(self, images: ConditionImages) -> ConditionImages:
        """See `TextEncoder.fitted`."""
        return [[self.task.fitted(image) for image in own] for own in images]

    @cached_property
    def _added(self) -> list[str]:
        """What this folder's tokenizer takes for tokens of its own, beside the usual ones."""
        return sorted(added_tokens(self.folder / "tokenizer"))

    @property
    def loaded(self) -> bool:
        """Whether the language model is in memory."""
        return self._model is not None

    def unload(self) -> None:
        """Free the language model's memory; the next prompt that is not in the cache reads it again."""
        self._model = None
        if self.device != "cpu":
            torch.cuda.empty_cache()

    def encode_ahead(self, texts: Sequence[str], images: ConditionImages = (), chunk: int = 64) -> None:
        """Put the vectors of texts, with their images, into the cache, a chunk at a time; none is kept in memory."""
        for i in range(0, len(texts), chunk):
            self.encode(texts[i : i + chunk], images[i : i + chunk])

    def close(self) -> None:
        """Let the language model go for good: from here on a prompt that is not in the cache is an error.

        Without a cache nothing would be left to answer from, and the model stays.
        """
        if self._cache is not None:
            self.unload()
            self._closed = True

    def _require_open(self, texts: Sequence[str]) -> None:
        if self._closed:
            raise ValueError(
                f"the prompt {texts[0]!r} was not encoded before training began, and the language model was let go to "
                "free its memory: name every prompt in the experiment's prompts, pairs, data or monitors"
            )

    @torch.no_grad()
    def _run(self, prompts: Sequence[str], shown: ConditionImages) -> list[Tensor]:
        """The vectors [L, D] of every conversation, all in one batch."""
        if self._model is None:
            self._load()
        seen = [to_pil(self.task.seen(image)) for own in shown for image in own]
        view = self._processor(images=seen, return_tensors="pt").to(self.device) if seen else {}
        grids = view["image_grid_thw"] if seen else torch.zeros(0, 3)
        merged = self._processor.merge_size**2 if seen else 1
        counts = iter((grids.prod(-1) // merged).tolist())
        parts = [prompt.split(PAD) for prompt in prompts]
        texts = [first + "".join(PAD * int(next(counts)) + rest for rest in others) for first, *others in parts]
        tokens = self._tokenizer(texts, padding=True, padding_side="right", return_tensors="pt").to(self.device)
        is_image = tokens.input_ids == self._tokenizer.convert_tokens_to_ids(PAD)
        self._check_lengths((tokens.attention_mask.bool() & ~is_image).sum(1).tolist(), prompts)
        # The model below the head: logits over 150,000 words would be computed for nothing.
        hidden_BLD = self._model.model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=view.get("pixel_values"),
            image_grid_thw=view.get("image_grid_thw"), mm_token_type_ids=token_types(is_image),
        ).last_hidden_state  # fmt: skip
        lengths = tokens.attention_mask.sum(1).tolist()
        return [row[self.task.dropped : length] for row, length in zip(hidden_BLD, lengths, strict=True)]

    def _check_lengths(self, lengths: Sequence[int], prompts: Sequence[str]) -> None:
        for length, prompt in zip(lengths, prompts, strict=True):
            if length - self.task.dropped > LONGEST:
                text = prompt.split("<|im_start|>user\n", 1)[1]
                raise ValueError(
                    f"the prompt has {length - self.task.dropped} tokens, the model reads at most {LONGEST}: shorten "
                    f"it ({text[:60]!r}...)"
                )

    @cached_property
    def _own_tokenizer(self) -> Any:
        """The folder's tokenizer. Raises ValueError when it is damaged."""
        from transformers import Qwen2Tokenizer

        try:
            return Qwen2Tokenizer.from_pretrained(self.folder / "tokenizer", local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: object) -> ValueError:
        return ValueError(
            f"cannot read the text encoder of {self.folder} (text_encoder/, tokenizer/ or processor/): {error}; fetch "
            "the checkpoint again"
        )

    def _load(self) -> None:
        """Read tokenizer, image processor and language model. Raises ValueError when the folder is damaged."""
        from safetensors import SafetensorError
        from transformers import Qwen2_5_VLForConditionalGeneration
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        self._tokenizer = self._own_tokenizer
        try:
            if self.task.most_images:
                # Pillow's, in 8 bits: it needs no torchvision and gives the same numbers everywhere.
                self._processor = Qwen2VLImageProcessorPil.from_pretrained(
                    self.folder / "processor", local_files_only=True
                )
            kind: Any = Qwen2_5_VLForConditionalGeneration
            model, facts = kind.from_pretrained(
                self.folder / "text_encoder", dtype=self.dtype or "auto", local_files_only=True,
                output_loading_info=True,
            )  # fmt: skip
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise self._damaged(error) from error
        if lost := sorted(name for name in facts["missing_keys"] if not name.startswith("lm_head")):
            raise self._damaged(f"it lacks {len(lost)} weights, first {lost[0]}")
        if odd := next((name for name, p in model.named_parameters() if not is_finite(p.detach())), ""):
            raise self._damaged(f"{odd} holds numbers that are not finite")
        self._model = model.to(self.device).eval().requires_grad_(False)


def token_types(is_image_BL: Tensor) -> Tensor:
    """1 for an image's token, 0 for text, as transformers' processors say it."""
    return is_image_BL.int()


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(text_BLD, mask_BL bool): zeros behind the shorter ones."""
    lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
    text_BLD = pad_sequence(list(rows), batch_first=True)
    return text_BLD, torch.arange(text_BLD.shape[1], device=text_BLD.device)[None] < lengths[:, None]
