"""From short prompts to a rewriter of prompts for one image model: fine-tuned on examples, then taught by a reward.

Whoever shares a text with a held-out prompt is held out too. The held-out prompts are sampled as they are, completed by
rule, rewritten after fine-tuning and after GRPO, from the same noise, so that differences are paired.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from base_model.data.rendered_text import complete
from base_model.sample import Sampler
from experiments.evaluation.found_model import find_model, fingerprint
from experiments.evaluation.prompt_files import RequestedPrompt
from experiments.evaluation.score_prompts import check_needs
from experiments.record.intervals import bootstrap_ci, in_brackets, paired_ci
from experiments.record.stopped_training import WORK, begin, publish, require_same
from experiments.reward_models.judge_trainer import require_trl
from experiments.rewriting.held_out_prompts import own_examples, split
from experiments.rewriting.rewrite_reward import RewriteScorer, lowest, readable
from experiments.rewriting.rewriter import (
    INSTRUCTION,
    REWRITER,
    Rewrite,
    RewriterCard,
    Rules,
    tokenizer_of,
    with_fallback,
    written,
)  # fmt: skip
from experiments.rewriting.rewriter_plan import RewriterPlan
from experiments.rewriting.rewriter_trainer import (
    DONE,
    MODEL,
    Example,
    RewardFunction,
    Say,
    fine_tune,
    opened_model,
    reinforce,
)  # fmt: skip
from experiments.rewriting.short_prompts import examples_of
from preference_data.records import Prompt
from rewards.language.qwen_vl import float_kind
from rewards.parse import named_reward
from rewards.published.published_weights import existing_or_hub
from rewards.serving.workers import ScorerPool

ADVICE = "name a causal language model, a folder or a hub name such as Qwen/Qwen2.5-0.5B-Instruct"
REWRITES, CARD = "rewrites.jsonl", "model_card.md"
RESTARTS = 2
TRIED = 4
"""Prompts whose images are judged before anything is trained."""


def rules_of(plan: RewriterPlan) -> Rules:
    """What its rewrites must keep."""
    return Rules(plan.longest, plan.most_tokens)


def instruction_of(plan: RewriterPlan) -> str:
    """What is put before a prompt."""
    return INSTRUCTION if plan.instruction is None else plan.instruction


def train_rewriter(plan: RewriterPlan, say: Say = lambda line: None) -> list[str]:
    """Train a rewriter and write its folder; what to tell the user, which only rank 0 has to say.

    What was stopped goes on from its last checkpoint in `out`/training. Raises ValueError or FileNotFoundError for
    files, models, rewards and settings that cannot be used, before anything is trained.
    """
    require_trl("train-rewriter")
    float_kind(plan.settings.dtype)
    plan.check()
    if (plan.out / REWRITER).exists():
        return [f"{plan.out} holds a finished rewriter already; name a new folder with --out to train another"]
    base = existing_or_hub(plan.base, "base", ADVICE)
    prompts, held_out = split(plan)
    reward = named_reward(plan.reward)
    notes = check_needs({plan.reward: reward}, [RequestedPrompt(p) for p in (*prompts, *held_out)])
    examples = own_examples(plan.examples, rules_of(plan), held_out, say) if plan.examples else examples_of(
        prompts, rules_of(plan), plan.varied, plan.settings.seed, plan.by_rule
    )  # fmt: skip
    source = find_model(plan.model, plan.stage, plan.size, prompts[0].text)
    facts = plan.facts(fingerprint(source.folder))
    require_same(plan.out, facts)
    check_base(base)
    tokenizer = tokenizer_of(base)
    say(f"{len(examples)} examples of {len(prompts)} prompts; {len(held_out)} prompts are held out")
    for note in notes if examples else [*notes, "no prompt has a completion by rule: nothing to fine-tune on"]:
        say(note)
    start = time.perf_counter()
    sampler = Sampler(
        source.sampler.steps if plan.steps is None else plan.steps,
        source.sampler.guidance if plan.guidance is None else plan.guidance,
    )
    with ScorerPool(reward, plan.workers, restarts=RESTARTS) as pool:
        model = source.load(size=plan.size)
        scorer = RewriteScorer(model, sampler, pool, reward, plan.settings.seed, plan.images)
        require_judged(scorer, prompts, plan.reward)
        begin(plan.out, facts)
        tuned, learned = train_stages(plan, base, tokenizer, examples, prompts, scorer, say)
        if rank():
            return []
        seconds = time.perf_counter() - start
        results = measure(plan, scorer, tokenizer, held_out, {"fine-tuned": tuned, "GRPO": learned})
    write_folder(plan, learned, results, {
        "base": plan.base, "image_model": plan.model, "stage": plan.stage, "model": facts["model"],
        "reward": plan.reward, "sampler": asdict(sampler), "seconds": seconds, "settings": asdict(plan.settings),
        "examples": len(examples), "prompts": len(prompts), "losses": done(plan, "sft"), "rewards": done(plan, "grpo"),
    })  # fmt: skip
    return lines(plan, results)


def rank() -> int:
    """This process's rank, as its launcher says."""
    return int(os.environ.get("RANK", "0"))


def check_base(base: Path | str) -> None:
    """Raises ValueError for a model that does not continue a text."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    config = AutoConfig.from_pretrained(base, local_files_only=isinstance(base, Path))
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"--base {base} is a {config.model_type} model, which continues no text; {ADVICE}")


def require_judged(scorer: RewriteScorer, prompts: Sequence[Prompt], reward: str) -> None:
    """Raises ValueError where the reward judges no image of the first prompts, completed by rule: it teaches nothing.

    Prompts that the image model cannot read are passed over.
    """
    able = [i for i, prompt in enumerate(prompts) if not readable(scorer.model, complete(prompt.text))][:TRIED]
    values = scorer.values([prompts[i] for i in able], [complete(prompts[i].text) for i in able], able, 0)
    if len(able) and np.isnan(values).all():
        raise ValueError(
            f"the reward {reward} judges none of the images of {len(able)} prompts, such as {prompts[able[0]].text!r}, "
            "so it would teach nothing: the log above may say why; choose another with --reward"
        )


def train_stages(
    plan: RewriterPlan, base: Path | str, tokenizer: Any, examples: Sequence[Example], prompts: Sequence[Prompt],
    scorer: RewriteScorer, say: Say,
) -> tuple[Path | str, Path | str]:  # fmt: skip
    """The models after fine-tuning and after GRPO. A stage that is finished is not trained again."""
    sft, grpo = (plan.out / WORK / name for name in ("sft", "grpo"))
    if examples and plan.settings.epochs and not (sft / DONE).exists():
        fine_tune(examples, base, tokenizer, sft, plan.settings, instruction_of(plan), say)
    tuned = sft / MODEL if (sft / DONE).exists() else base
    if plan.settings.updates and not (grpo / DONE).exists():
        reward = reward_function(scorer, prompts, rules_of(plan), tokenizer)
        texts = [prompt.text for prompt in prompts]
        most = plan.most_tokens
        reinforce(texts, reward, tuned, tokenizer, grpo, plan.settings, instruction_of(plan), most, say)
    return tuned, grpo / MODEL if (grpo / DONE).exists() else tuned


def reward_function(scorer: RewriteScorer, learned: Sequence[Prompt], rules: Rules, tokenizer: Any) -> RewardFunction:
    """Rewards of rewrites as TRL asks for them."""

    def image_reward(
        prompts: Any, completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], row: Sequence[int],
        trainer_state: Any, log_extra: Any, log_metric: Callable[[str, float], None],
    ) -> list[float | None]:  # fmt: skip
        texts = [str(completion[0]["content"]).strip() for completion in completions]
        requests = [learned[i] for i in row]
        faults = [
            rules.fault(prompt, text, tokenizer.eos_token_id in ids) or readable(scorer.model, text)
            for prompt, text, ids in zip(requests, texts, completion_ids, strict=True)
        ]
        values = scorer.ruled(requests, texts, row, faults, trainer_state.global_step)
        log_metric("within_rules", float(np.mean([not fault for fault in faults])))
        return [None if np.isnan(value) else float(value) for value in values]

    return image_reward


@dataclass(frozen=True)
class Results:
    """What held-out prompts became, and what that was worth."""

    prompts: Sequence[Prompt]
    rewrites: dict[str, list[Rewrite]]
    values: dict[str, np.ndarray]
    """[P] of each way; NaN: not judged"""
    lowest: float
    """reward of a rewrite that breaks a rule, where the completion by rule does not take its place"""

    def own(self, way: str) -> np.ndarray:
        """[P]: the values of what was written, with the lowest one for what was not used."""
        refused = np.array([bool(each.fault) for each in self.rewrites[way]])
        return np.where(refused, self.lowest, self.values[way])

    def intervals(self) -> dict[str, dict[str, Any]]:
        """Mean reward of each way with its interval, and how many of its rewrites kept the rules."""
        return {
            way: {
                "mean": float(np.nanmean(values)) if not np.isnan(values).all() else None,
                "interval": list(bootstrap_ci(values, seed=0)),
                "judged": int((~np.isnan(values)).sum()),
                "within_rules": float(np.mean([not each.fault for each in self.rewrites[way]])),
                "without_fallback": float(np.nanmean(self.own(way))) if not np.isnan(values).all() else None,
            }
            for way, values in self.values.items()
        }

    def differences(self) -> dict[str, dict[str, Any]]:
        """How far GRPO is above each other way, paired by prompt; with and without what takes a refused one's place."""
        results = {}
        for way in list(self.values)[:-1]:
            delta, low, high = paired_ci(self.values[way], self.values["GRPO"], seed=0)
            own, own_low, own_high = paired_ci(self.own(way), self.own("GRPO"), seed=0)
            results[way] = {
                "difference": delta, "interval": [low, high],
                "without_fallback": {"difference": own, "interval": [own_low, own_high]},
            }  # fmt: skip
        return results


def measure(
    plan: RewriterPlan, scorer: RewriteScorer, tokenizer: Any, held_out: Sequence[Prompt], models: dict[str, Path | str]
) -> Results:
    """Sample and score held-out prompts in every way, each from the same noise."""
    rewrites = {
        "as it is": [Rewrite(prompt.text, prompt.text) for prompt in held_out],
        "completed by rule": [Rewrite(complete(p.text), complete(p.text)) for p in held_out],
    }
    for way, weights in models.items():
        model = opened_model(weights, plan.settings).to(scorer.model.device).eval()
        own = written(model, tokenizer, held_out, instruction_of(plan), rules_of(plan))
        rewrites[way] = [
            unreadable(scorer, prompt, each) for prompt, each in zip(
                held_out, with_fallback(held_out, own, rules_of(plan)), strict=True
            )
        ]  # fmt: skip
        del model
    fixed = replace(scorer, seed=scorer.seed + 1, images=plan.seeds)
    values = {}
    for way, texts in rewrites.items():
        able = [i for i, each in enumerate(texts) if not readable(scorer.model, each.text)]
        values[way] = np.full(len(held_out), np.nan)
        values[way][able] = fixed.values([held_out[i] for i in able], [texts[i].text for i in able], able, 0)
    every = np.concatenate(list(values.values()))
    return Results(held_out, rewrites, values, lowest(scorer.reward, every))


def unreadable(scorer: RewriteScorer, prompt: Prompt, own: Rewrite) -> Rewrite:
    """The completion by rule in the place of a rewrite that the image model cannot read."""
    reason = "" if own.fault else readable(scorer.model, own.text)
    return Rewrite(complete(prompt.text), own.own, reason) if reason else own


def done(plan: RewriterPlan, stage: str) -> list[float]:
    """The loss or reward of every update of a stage; [] where it was left out."""
    path = plan.out / WORK / stage / DONE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def write_folder(plan: RewriterPlan, weights: Path | str, results: Results, training: dict[str, Any]) -> None:
    """Write the folder: the model, what it was trained on and how good it is."""
    folder = plan.out / WORK / "finished"
    shutil.rmtree(folder, ignore_errors=True)
    model = opened_model(weights, plan.settings)
    model.save_pretrained(folder)
    tokenizer_of(weights).save_pretrained(folder)
    rows = [
        {
            "prompt": prompt.text, "spans": list(prompt.spans),
            **{way: {"text": each[i].text, "own": each[i].own, "fault": each[i].fault,
                     "value": None if np.isnan(v := results.values[way][i]) else float(v)}
               for way, each in results.rewrites.items()},
        }
        for i, prompt in enumerate(results.prompts)
    ]  # fmt: skip
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / REWRITES).write_text(text, encoding="utf-8")
    card = ["# Model card", "", *card_lines(plan, results, training)]
    (folder / CARD).write_text("\n".join(card) + "\n", encoding="utf-8")
    numbers = {"held_out": results.intervals(), "grpo_above": results.differences()}
    content = RewriterCard(instruction_of(plan), rules_of(plan)).to_json({**training, **numbers})
    (folder / REWRITER).write_text(content, encoding="utf-8")
    publish(folder, plan.out, REWRITER)
    shutil.rmtree(plan.out / WORK)


def card_lines(plan: RewriterPlan, results: Results, training: dict[str, Any]) -> list[str]:
    """The model card, for people."""
    rows = [
        f"| {way} | {number(e['mean'])} {in_brackets(*e['interval'], '.3f')} | {e['judged']} | "
        f"{e['within_rules']:.0%} | {number(e['without_fallback'])} |"
        for way, e in results.intervals().items()
    ]
    above = [f"| {way} | {signed(d)} | {signed(d['without_fallback'])} |" for way, d in results.differences().items()]
    return [
        f"- rewrites short prompts for {plan.model}{plan.stage and '/' + plan.stage}; trained from {plan.base} in "
        f"{training['seconds']:.0f} s",
        *[f"- fine-tuned for {plan.settings.epochs:g} epochs of {training['examples']} examples"] * bool(
            training["losses"]
        ),
        *[f"- taught by the reward `{plan.reward}` with {plan.settings.updates} updates of GRPO on "
          f"{training['prompts']} prompts"] * bool(training["rewards"]),
        f"- a rewrite has at most {plan.longest} characters, quotes the same texts as the prompt, and keeps the "
        f"words {', '.join(rules_of(plan).keep) or '(none)'}; one that does not is never used",
        "", f"| held-out prompts ({len(results.prompts)}) | mean reward, 95 % interval | judged | rewrites "
        "within the rules | mean reward where others count as the lowest |", "|---|---|---:|---:|---:|", *rows, "",
        "| GRPO above | mean difference, 95 % interval, paired by prompt | where others count as the lowest |",
        "|---|---|---|", *above, "",
        f"Use: `glyphlab sample {plan.model} --rewriter {plan.out} PROMPT`. It has learned what this reward likes "
        "about this image model; for others it is a guess.",
    ]  # fmt: skip


def number(value: float | None) -> str:
    """A mean in a table."""
    return "not judged" if value is None else f"{value:.3f}"


def signed(difference: dict[str, Any]) -> str:
    """A difference with its interval."""
    if math.isnan(difference["difference"]):
        return "not enough judged by both"
    return f"{difference['difference']:+.3f} {in_brackets(*difference['interval'], '+.3f')}"


def lines(plan: RewriterPlan, results: Results) -> list[str]:
    """The result, as a person reads it."""
    texts = [
        f"{way}: {number(e['mean'])} {in_brackets(*e['interval'], '.3f')} of {e['judged']} judged, "
        f"{e['within_rules']:.0%} within the rules"
        for way, e in results.intervals().items()
    ]
    for way, d in results.differences().items():
        texts.append(
            f"GRPO above {way}: {signed(d)}; rewrites alone, without a fallback: {signed(d['without_fallback'])}"
        )
    return [*texts, f"written: {plan.out} (use it as glyphlab sample {plan.model} --rewriter {plan.out} PROMPT)"]
