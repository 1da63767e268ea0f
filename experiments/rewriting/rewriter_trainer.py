"""The part of training a rewriter that is TRL's: fine-tuning on examples, then GRPO over groups of rewrites.

    (1)  L_sft  = - mean log P(rewrite | prompt)                     over the tokens of the rewrites of examples
    (2)  A_i    = (r_i - mean_group r) / (std_group r + 1e-4)        r_i: `rewrite_reward`, eq. (1); NaN left out
    (3)  L_grpo = - mean min(rho A, clip(rho) A) + beta KL           over the tokens of the rewrites that were sampled

Both stages write checkpoints into their own folder and go on from the last one. Each leaves a whole model there, so
that what GRPO adds to fine-tuning can be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.record.whole_files import write_json
from experiments.reward_models.judge_trainer import adapter, common_arguments, last_checkpoint, learning_dtype
from experiments.rewriting.rewriter import conversation
from experiments.rewriting.rewriter_plan import RewriterSettings

LAYERS = "all-linear"
"""What an adapter goes to."""
MODEL, DONE = "model", "done.json"
"""What a finished stage leaves in its folder."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Example:
    """A prompt and how it should be rewritten."""

    prompt: str
    rewrite: str


RewardFunction = Callable[..., list[float | None]]
"""rewards of `completions`, whose prompts have the numbers `row`, at the update `trainer_state.global_step`; None = not
judged"""


def opened_model(weights: Path | str, settings: RewriterSettings) -> Any:
    """The language model."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        weights, local_files_only=isinstance(weights, Path), dtype=learning_dtype(settings)
    )


def fine_tune(
    examples: Sequence[Example], weights: Path | str, tokenizer: Any, folder: Path, settings: RewriterSettings,
    instruction: str, say: Say,
) -> None:  # fmt: skip
    """Minimise (1); `folder` then has the model, and the loss of every update."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [*examples, *examples[: -len(examples) % settings.sft_batch]]  # every update is whole
    updates = max(1, round(settings.epochs * len(rows) / settings.sft_batch))
    config = SFTConfig(
        **common_arguments(folder, settings), max_steps=updates, learning_rate=settings.sft_rate, disable_tqdm=True,
        lr_scheduler_type="linear", warmup_steps=max(1, updates // 20), max_length=None, completion_only_loss=True,
        gradient_accumulation_steps=settings.micros(settings.sft_batch, f"sft_batch={settings.sft_batch}"),
    )  # fmt: skip
    data = Dataset.from_dict({
        "prompt": [conversation(row.prompt, instruction) for row in rows],
        "completion": [[{"role": "assistant", "content": row.rewrite}] for row in rows],
    })  # fmt: skip
    trainer = SFTTrainer(
        opened_model(weights, settings), args=config, train_dataset=data, processing_class=tokenizer,
        peft_config=adapter(settings, LAYERS, "CAUSAL_LM"),
    )  # fmt: skip
    finished(trainer, tokenizer, folder, settings, "loss", say)


def reinforce(
    prompts: Sequence[str], reward: RewardFunction, weights: Path | str, tokenizer: Any, folder: Path,
    settings: RewriterSettings, instruction: str, most_tokens: int, say: Say,
) -> None:  # fmt: skip
    """Minimise (3) with (2); `folder` then has the model, and the mean reward of every update."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    config = GRPOConfig(
        **common_arguments(folder, settings), max_steps=settings.updates, learning_rate=settings.rate,
        lr_scheduler_type="constant_with_warmup", warmup_steps=max(1, settings.updates // 20), beta=settings.beta,
        num_generations=settings.group, max_completion_length=most_tokens, temperature=settings.temperature,
        top_k=0, top_p=1.0, remove_unused_columns=False, use_vllm=False, disable_tqdm=True,
        gradient_accumulation_steps=settings.micros(
            settings.batch * settings.group, f"batch={settings.batch} times group={settings.group}"
        ),
    )  # fmt: skip
    data = Dataset.from_dict({
        "prompt": [conversation(prompt, instruction) for prompt in prompts], "row": list(range(len(prompts))),
    })  # fmt: skip
    trainer = GRPOTrainer(
        opened_model(weights, settings), reward_funcs=reward, args=config, train_dataset=data,
        processing_class=tokenizer, peft_config=adapter(settings, LAYERS, "CAUSAL_LM"),
    )  # fmt: skip
    finished(trainer, tokenizer, folder, settings, "reward", say)


def with_lines(trainer: Any, column: str, say: Say) -> Callable[[dict[str, float], float | None], None]:
    """A trainer's `log` that says a column about twenty times a stage, on the first rank."""
    log = trainer.log

    def log_and_say(logs: dict[str, float], start_time: float | None = None) -> None:
        step, steps = trainer.state.global_step, trainer.state.max_steps
        if trainer.is_world_process_zero() and column in logs and step % max(1, steps // 20) == 0:
            say(f"{column} at update {step} of {steps}: {float(logs[column]):.4g}")
        log(logs, start_time)

    return log_and_say


def finished(trainer: Any, tokenizer: Any, folder: Path, settings: RewriterSettings, column: str, say: Say) -> None:
    """Train from the last checkpoint of a folder on, and leave the whole model and a column of the log there."""
    from transformers import PrinterCallback, ProgressCallback

    last = last_checkpoint(folder)
    for printing in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printing)
    trainer.log = with_lines(trainer, column, say)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    if trainer.is_world_process_zero():
        model: Any = trainer.accelerator.unwrap_model(trainer.model)
        whole = model.merge_and_unload() if settings.rank else model
        whole.save_pretrained(folder / MODEL)
        tokenizer.save_pretrained(folder / MODEL)
        write_json(folder / DONE, [float(row[column]) for row in trainer.state.log_history if column in row])
    trainer.accelerator.wait_for_everyone()
