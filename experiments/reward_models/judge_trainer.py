"""The part of training a judge that is TRL's: a Qwen-VL model, its LoRA, batches of questions, checkpoints, ranks.

    (1)  L = mean_i w_i ( - log P(answer_i | question_i, images_i) ),   answer_i: one token, w_i of mean 1
    (2)  L = mean_i w_i ( - log s( beta (h_i - h_i of the model without its adapter) ) )          Rafailov et al. 2023
         h_i = log P(answer_i) - log P(any other answer)

(1) is fine-tuning, (2) is DPO: its chosen and rejected answers are words in one place, so that a pass gives both. A
question is made by the code that asks it when the judge is used (`rewards.language.qwen_vl`), so training and use see
the same tokens and the same pixels. TRL's trainers have no weights of examples, and its `DPOTrainer` makes a pass for
each answer; (1) or (2) is the `compute_loss` of its `SFTTrainer` here.

Shapes: B questions, L tokens, V words of the vocabulary.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.reward_models.judge_plan import JudgeSettings
from rewards.language.qwen_vl import LANGUAGE_LAYERS, QwenInputs, float_kind

NONE = -1
"""In the place of a token that there is not."""


@dataclass(frozen=True)
class Question:
    """What is asked about images in the order they are shown, what the answer should be, and how much it counts."""

    text: str
    images: tuple[Callable[[], np.ndarray], ...]
    """each opened when it is needed: uint8 [H, W, 3]"""
    answer: str
    weight: float
    others: tuple[str, ...] = ()
    """what else may be answered"""


class Collator:
    """Makes batches of questions: padded on the left, so that every answer follows the last token."""

    def __init__(self, questions: Sequence[Question], inputs: QwenInputs) -> None:
        self._questions, self._inputs = questions, inputs
        words = {word for q in questions for word in (q.answer, *q.others)}
        self._answers = {word: one_token(inputs, word) for word in words}

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, Tensor]:
        """`rows` name questions by their number; the batch has `answer` [B] and `others` [B, 2] (token ids, `NONE`
        where there is none) and `weight` [B] beside."""
        chosen = [self._questions[row["row"]] for row in rows]
        made = [self._inputs(q.text, [opened() for opened in q.images], "cpu") for q in chosen]
        length = max(one["input_ids"].shape[1] for one in made)
        batch: dict[str, Tensor] = {}
        for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
            fill = self._inputs.tokenizer.pad_token_id if name == "input_ids" else 0
            padded = [torch.nn.functional.pad(o[name], (length - o[name].shape[1], 0), value=fill) for o in made]
            batch[name] = torch.cat(padded)
        for name in ("pixel_values", "image_grid_thw"):
            batch[name] = torch.cat([one[name] for one in made])
        batch["answer"] = torch.tensor([self._answers[q.answer] for q in chosen])
        others = [[*(self._answers[word] for word in q.others), NONE, NONE][:2] for q in chosen]
        batch["others"] = torch.tensor(others)
        batch["weight"] = torch.tensor([q.weight for q in chosen])
        return batch


def one_token(inputs: QwenInputs, answer: str) -> int:
    """The token that is an answer. ValueError when the tokenizer writes it in pieces."""
    ids = inputs.tokenizer(answer, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise ValueError(f"the tokenizer writes the answer {answer!r} in {len(ids)} pieces; choose another judge")
    return int(ids[0])


def log_probs(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Any]:
    """Log-probabilities of the first word of the answers to a batch of `Collator`, [B, V]; and the model's outputs."""
    seen = {name: value for name, value in inputs.items() if name not in ("answer", "others", "weight")}
    outputs = model(**seen, logits_to_keep=1, use_cache=False)
    return outputs.logits[:, -1].float().log_softmax(-1), outputs


def answer_loss(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Any]:
    """(1) of a batch, and the model's outputs."""
    log_p_BV, outputs = log_probs(model, inputs)
    each = torch.nn.functional.nll_loss(log_p_BV, inputs["answer"], reduction="none")
    return (each * inputs["weight"].to(each)).mean(), outputs


def log_odds(log_p_BV: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """h of (2), [B]."""
    there = inputs["others"] != NONE
    others = log_p_BV.gather(1, inputs["others"].clamp(min=0)).masked_fill(~there, -torch.inf).logsumexp(1)
    return log_p_BV.gather(1, inputs["answer"][:, None])[:, 0] - others


def preference_loss(model: Any, inputs: dict[str, Tensor], beta: float, without_adapter: Any) -> tuple[Tensor, Any]:
    """(2) of a batch, and the model's outputs; `without_adapter()` is a context in which the model has none."""
    with torch.no_grad(), without_adapter():
        reference = log_odds(log_probs(model, inputs)[0], inputs)
    log_p_BV, outputs = log_probs(model, inputs)
    each = -torch.nn.functional.logsigmoid(beta * (log_odds(log_p_BV, inputs) - reference))
    return (each * inputs["weight"].to(each)).mean(), outputs


def require_trl(command: str) -> None:
    """Raises ValueError that says what to install."""
    if missing := [name for name in ("trl", "datasets", "peft") if importlib.util.find_spec(name) is None]:
        needs = "TRL, datasets and peft: pip install 'glyphlab[judges-train]'"
        raise ValueError(f"{command} needs {needs} (there is no {', '.join(missing)})")


def common_arguments(folder: Path, settings: Any) -> dict[str, Any]:
    """What TRL is told of any training, whose checkpoints go into a folder."""
    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(folder), "per_device_train_batch_size": settings.micro, "logging_steps": 1,
        "save_strategy": "steps", "save_steps": settings.save_every, "save_total_limit": 2, "seed": settings.seed,
        "report_to": [], "use_cpu": not gpu, "bf16": gpu and settings.dtype == "bfloat16",
        "dataloader_pin_memory": gpu, "gradient_checkpointing": gpu,
    }  # fmt: skip


def adapter(settings: Any, layers: str, task: str | None = None) -> Any:
    """LoRA's settings; None where all weights learn."""
    from peft import LoraConfig

    lora: Any = LoraConfig
    rank, alpha = settings.rank, settings.alpha
    return lora(r=rank, lora_alpha=alpha, target_modules=layers, task_type=task) if rank else None


def learning_dtype(settings: Any) -> torch.dtype:
    """Weights that learn are float32: in bfloat16 small updates would be rounded away."""
    return float_kind(settings.dtype if torch.cuda.is_available() and settings.rank else "float32")


def last_checkpoint(folder: Path) -> Path | None:
    """The newest one that TRL left in a folder."""
    return max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def trainer_class(settings: JudgeSettings) -> Any:
    """TRL's trainer on (1) or (2)."""
    from trl import SFTTrainer

    class AnswerTrainer(SFTTrainer):
        """SFT on (1), or (2)."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if settings.method == "sft":
                loss, outputs = answer_loss(model, inputs)
            else:
                adapter = self.accelerator.unwrap_model(model)
                loss, outputs = preference_loss(model, inputs, settings.beta, adapter.disable_adapter)
            return (loss, outputs) if return_outputs else loss

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            # transformers' own does not know the names that it saves a whole Qwen2.5-VL under: it warns, and goes on
            # from the weights that training began with. `opened_model` reads them
            if settings.rank:
                super()._load_from_checkpoint(resume_from_checkpoint, model)

    return AnswerTrainer


def opened_model(weights: Path | str, last: Path | None, settings: JudgeSettings) -> Any:
    """The model that learns: as it was in the last checkpoint where all weights learn, else as it is released."""
    from transformers import AutoModelForImageTextToText

    source = last if last and not settings.rank else weights
    return AutoModelForImageTextToText.from_pretrained(
        source, local_files_only=isinstance(source, Path), dtype=learning_dtype(settings)
    )


def arguments(work: Path, settings: JudgeSettings, questions: int) -> Any:
    """What TRL is told. Raises ValueError when the processes cannot share a batch evenly."""
    from trl import SFTConfig

    share = settings.micro * world_size()
    if settings.batch % share:
        raise ValueError(
            f"batch={settings.batch} is not a multiple of micro={settings.micro} times {world_size()} ranks; choose "
            f"--batch {-(-settings.batch // share) * share}"
        )
    updates = round(settings.epochs * questions // settings.batch)
    return SFTConfig(
        **common_arguments(work, settings), num_train_epochs=settings.epochs,
        gradient_accumulation_steps=settings.batch // share, learning_rate=settings.rate, lr_scheduler_type="linear",
        warmup_steps=max(1, updates // 20), max_length=None, remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip


def train_on(
    questions: Sequence[Question], weights: Path | str, work: Path, settings: JudgeSettings
) -> tuple[Any, list[float]]:
    """The model after training, an adapter merged, on rank 0, None on the others; and the loss of every update.

    `work` holds checkpoints. A training that was stopped goes on from its last one there.
    """
    require_trl("train-judge")
    from datasets import Dataset

    # every update is whole, whatever the number of ranks: what is added counts nothing
    questions = [*questions, *[replace(questions[0], weight=0.0)] * (-len(questions) % settings.batch)]
    inputs = QwenInputs(weights, settings.least_pixels, settings.most_pixels)
    last, lora = last_checkpoint(work), adapter(settings, LANGUAGE_LAYERS)
    trainer = trainer_class(settings)(
        opened_model(weights, last, settings), args=arguments(work, settings, len(questions)),
        train_dataset=Dataset.from_dict({"row": list(range(len(questions)))}),
        data_collator=Collator(questions, inputs), processing_class=inputs.tokenizer, peft_config=lora,
    )  # fmt: skip
    trainer.model_accepts_loss_kwargs = False  # (1) is a mean, which passes of one size may be averaged of
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    losses = [float(row["loss"]) for row in trainer.state.log_history if "loss" in row]
    if not trainer.is_world_process_zero():
        return None, losses
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    return (trained.merge_and_unload() if lora else trained), losses


def world_size() -> int:
    """How many processes train together, by what their launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))
