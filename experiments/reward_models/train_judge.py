"""From a file of answers to a judge of pairs: a vision-language model that learns to answer as people did.

Each answer becomes two questions, one in each order, in the words of a rubric. Prompts and images of the held-out part
are in no other part; a third part, which nobody learns from either, sets the temperature.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from base_model.devices import best_device
from experiments.record.stopped_training import begin, publish, require_same
from experiments.reward_models.judge_plan import JudgePlan
from experiments.reward_models.judge_trainer import Question, require_trl, train_on
from experiments.reward_models.train_reward import opened, seen_by_base, seen_from, seen_in
from preference_data.comparisons import Comparison, connected, load, people_only, split, to_jsonl
from preference_data.records import ImageRef
from rewards.comparison.calibration import fit_temperature
from rewards.comparison.resample import Clusters, Estimate
from rewards.image_scorer import Unjudged
from rewards.language.local_judge import ADVICE, Vlm, check_sources, source_images
from rewards.language.pair_judges import PairJudge
from rewards.language.qwen_vl import QwenInputs, require_qwen_vl
from rewards.language.rubric import Rubric, read_rubric, rubric_path
from rewards.language.trained_judge import JUDGE, RUBRIC, TrainedJudge, read_judge
from rewards.learned.model_card import agreement_with_others
from rewards.learned.reward import HELD_OUT, TRAINED_ON
from rewards.published.published_weights import existing_or_hub

JUDGED, CARD = "judged.jsonl", "model_card.md"
NEEDED = {"spans": "a text in quotation marks", "sources": "images that were edited"}
SAME_SPLIT = "train it further with the --pairs, --held-out and --seed that it was trained with"
YES_OR_NO = ("Yes", "No")
CALIBRATED = 0.1
"""share of the answers that set the temperature"""
Say = Callable[[str], None]


def train_judge(plan: JudgePlan, say: Say = lambda line: None) -> list[str]:
    """Train a judge and write its folder; what to tell the user, which only rank 0 has to say.

    What was stopped goes on from its last checkpoint in `out`/training. Raises ValueError or FileNotFoundError for a
    damaged file, a missing image, too few prompts, a model of another class, or a folder that holds something else.
    """
    require_trl("train-judge")
    plan.check()
    rubric = read_rubric(plan.rubric)
    for way in ("pair", "yes") if plan.single else ("pair",):
        rubric.check(way)
    check_sources(rubric, "")
    if (plan.out / JUDGE).exists():
        return [f"{plan.out} holds a finished judge already; name a new folder with --out to train another"]
    base = existing_or_hub(plan.base, "base", ADVICE)
    comparisons = people_only(load(plan.pairs))
    facts = plan.facts(rubric.digest)
    require_same(plan.out, facts)
    check_base(base, plan, rubric)
    for image in {i.sha256: i for c in comparisons for i in (c.left, c.right)}.values():
        opened(plan.pairs.parent, image)  # damaged files are named before hours of training
    comparisons = askable(comparisons, rubric, QwenInputs(base, *sight(plan).values()), plan, say)
    part = split(comparisons, (1 - plan.held_out - CALIBRATED, CALIBRATED, plan.held_out), plan.settings.seed)
    learned, calibration, held_out = ([c for c, k in zip(comparisons, part, strict=True) if k == n] for n in range(3))
    if not any(c.label[0] != c.label[2] for c in held_out):
        raise ValueError(
            f"not one of the {len(held_out)} answers of {plan.pairs} that are held out says which image is better, so "
            "nothing could be measured: collect more answers, or hold out more with --held-out"
        )
    before = seen_by_base(base, [*calibration, *held_out], SAME_SPLIT)
    untrained = TrainedJudge(rubric.name, rubric.digest, plan.ties, 1.0, **sight(plan))
    questions = questions_of(learned, rubric, untrained, plan)
    if not questions:
        raise ValueError(nothing_to_learn(plan, learned))
    say(f"{len(questions)} questions about {len(learned)} answers; {len(calibration)} set the temperature, "
        f"{len(held_out)} are held out")  # fmt: skip
    start = time.perf_counter()
    work = begin(plan.out, facts)
    model, losses = train_on(questions, base, work, plan.settings)
    if model is None:
        return []
    seconds = time.perf_counter() - start
    untaught = judged(Vlm(plan.base, plan.rubric, least_mass=0.0, **sight(plan)), held_out, plan)
    finished = work / "finished"
    shutil.rmtree(finished, ignore_errors=True)
    save(model, base, finished)
    del model
    shutil.copyfile(rubric_path(plan.rubric), finished / RUBRIC)
    (finished / JUDGE).write_text(untrained.to_json(), encoding="utf-8")
    trained = replace(untrained, temperature=temperature_of(finished, plan, calibration))
    (finished / JUDGE).write_text(trained.to_json(), encoding="utf-8")
    after = judged(Vlm(str(finished)), held_out, plan)
    numbers = {"before": agreement(untaught, held_out), "after": agreement(after, held_out)}
    write_card(finished, plan, trained, numbers, len(learned), seconds, losses)
    write_answers(finished, plan, before + seen_in(learned), held_out, after)
    publish(finished, plan.out, JUDGE)
    shutil.rmtree(work)
    return lines(plan, numbers, seconds)


def check_base(base: Path | str, plan: JudgePlan, rubric: Rubric) -> None:
    """Raises ValueError for a model of another class, and for DPO of a judge that learned another question."""
    require_qwen_vl(base, "--base", ADVICE)
    judge = read_judge(base)
    if plan.settings.method == "dpo" and judge.rubric and (judge.digest, judge.ties) != (rubric.digest, plan.ties):
        raise ValueError(
            f"--base {plan.base} learned to answer the rubric {judge.rubric} {'with' if judge.ties else 'without'} "
            f"--ties, which is another question than {plan.rubric} {'with' if plan.ties else 'without'} --ties: dpo "
            "goes on from the answers that it gives; name its own rubric and its own --ties"
        )


def askable(
    comparisons: Sequence[Comparison], rubric: Rubric, inputs: QwenInputs, plan: JudgePlan, say: Say
) -> list[Comparison]:
    """The answers whose question can be asked of the model, for a judge never answers the others.

    Says how many are left out, and why. Raises ValueError where none is left.
    """
    causes = [why_not(c, rubric, inputs, plan) for c in comparisons]
    left = [c for c, cause in zip(comparisons, causes, strict=True) if not cause]
    if out := [cause for cause in causes if cause]:
        text = f"{len(out)} of {len(causes)} answers of {plan.pairs} cannot be asked about: {out[0]}"
        if not left:
            raise ValueError(f"{text}. Choose another --rubric, or leave them out")
        say(f"{text}; they are left out")
    return left


def why_not(c: Comparison, rubric: Rubric, inputs: QwenInputs, plan: JudgePlan) -> str:
    """Why an answer's question cannot be asked; "" where it can."""
    ways = ("pair", "yes") if plan.single else ("pair",)
    for need in dict.fromkeys(need for way in ways for need in rubric.needs(way)):
        if not getattr(c.prompt, need):
            return f"the rubric {rubric.name} needs {NEEDED.get(need, need)}, and {c.prompt.text!r} has none"
    sizes = [np.broadcast_to(np.uint8(0), (image.height, image.width, 3)) for image in (c.left, c.right)]
    try:
        for way in ways:
            inputs.check(rubric.question(way, c.prompt), sizes)
        source_images(rubric, "", c.prompt)
    except Unjudged as error:
        return str(error)
    return ""


def nothing_to_learn(plan: JudgePlan, comparisons: Sequence[Comparison]) -> str:
    """Why no answer makes a question, and what would help."""
    what = f"nothing can be learned from the answers of {plan.pairs}: "
    if all(c.label[1] == 1.0 for c in comparisons):
        return what + "all say that neither image is better; teach that as an answer of its own with --ties"
    if plan.strengths and not any(c.strength is None or c.strength > 0 for c in comparisons):
        return what + "all have the strength 0; leave out --strengths"
    return what + "their annotators agree no better than by chance; trust them alike with --no-annotators"


def questions_of(
    comparisons: Sequence[Comparison], rubric: Rubric, judge: TrainedJudge, plan: JudgePlan
) -> list[Question]:
    """Both orders of every answer, in the words of the rubric; weights have the mean 1.

    With `plan.single` also the question about each of its images, whose answer is Yes for the preferred one and No for
    the other; half of either for a tie.
    """
    trust = reliability(comparisons) if plan.annotators else {}
    questions: list[Question] = []
    for c in comparisons:
        weight = trust.get(c.annotator, 1.0) * ((c.strength or 1.0) if plan.strengths else 1.0)
        text = judge.question(rubric, c.prompt)
        left, right = (partial(pixels, plan.pairs.parent, image) for image in (c.left, c.right))
        sources = [partial(source, rubric, c, i) for i in range(len(source_images(rubric, "", c.prompt)))]
        answers = (judge.words[0], judge.words[-1] if judge.ties else "", judge.words[1])
        known = [word for word in answers if word]
        for shares, shown in ((c.label, (left, right)), (c.label[::-1], (right, left))):
            for answer, share in zip(answers, shares, strict=True):
                if share > 0 and answer:
                    questions.append(Question(text, (*sources, *shown), answer, weight * share, rest(answer, known)))
        for image, share in ((left, c.label[0]), (right, c.label[2])) if plan.single else ():
            yes = share + c.label[1] / 2.0
            for answer, part in zip(YES_OR_NO, (yes, 1.0 - yes), strict=True):
                if part > 0:
                    single, others = rubric.question("yes", c.prompt), rest(answer, YES_OR_NO)
                    questions.append(Question(single, (*sources, image), answer, weight * part, others))
    mean = float(np.mean([q.weight for q in questions])) if questions else 1.0
    return [replace(q, weight=q.weight / mean) for q in questions if q.weight > 0]


def rest(answer: str, words: Sequence[str]) -> tuple[str, ...]:
    """The words that an answer is not."""
    return tuple(word for word in words if word != answer)


def source(rubric: Rubric, c: Comparison, index: int) -> np.ndarray:
    """uint8 [H, W, 3] of one of the images that were edited."""
    return source_images(rubric, "", c.prompt)[index]


def pixels(folder: Path, image: ImageRef) -> np.ndarray:
    """uint8 [H, W, 3]."""
    return opened(folder, image).transpose(1, 2, 0)


def reliability(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """annotator -> weight from 0 to 1: how much more often than by chance the others agree, 1 where nobody overlaps.

    (1)  w = max(0, 2 (agreeing + 1) / (compared + 2) - 1)
    """
    return {
        person: max(0.0, 2.0 * (agree + 1) / (of + 2) - 1.0) if of else 1.0
        for person, (agree, of) in agreement_with_others(comparisons).items()
    }


def sight(plan: JudgePlan) -> dict[str, Any]:
    """Settings of `Vlm` that make it see what was seen in training."""
    return {"least_pixels": plan.settings.least_pixels, "most_pixels": plan.settings.most_pixels}


def judged(settings: Vlm, comparisons: Sequence[Comparison], plan: JudgePlan) -> np.ndarray:
    """[N, 2]: P(left is better) when the left one is shown first, and when it is shown second; NaN: not judged."""
    judge: PairJudge = settings.load_pairs(best_device())
    rows: dict[tuple[str, str, str], tuple[float, float]] = {}
    for c in comparisons:
        key = (c.prompt.id, c.left.sha256, c.right.sha256)
        if key not in rows:
            left, right = (opened(plan.pairs.parent, image)[None] / np.float32(255.0) for image in (c.left, c.right))
            answer = judge([c.prompt], left, right)
            p, lean = float(answer.a_better_B[0]), float(answer.lean_B[0])
            rows[key] = (p + lean, p - lean)
    return np.array([rows[c.prompt.id, c.left.sha256, c.right.sha256] for c in comparisons]).reshape(-1, 2)


def agreement(p_N2: np.ndarray, comparisons: Sequence[Comparison]) -> Estimate:
    """How often the mean over both orders prefers what people preferred, of decided answers, by prompts and images."""
    side_N = np.array([c.label[0] - c.label[2] for c in comparisons])
    gap_N = p_N2.mean(1) - 0.5
    right_N = np.where(gap_N == 0, 0.5, (np.sign(gap_N) == np.sign(side_N)).astype(float))
    weight_N = np.where(np.isnan(gap_N), 0.0, np.abs(side_N))
    numbers = {name: i for i, name in enumerate(dict.fromkeys(connected(comparisons)))}
    islands = np.array([numbers[name] for name in connected(comparisons)])
    return Clusters(islands, seed=0).estimate(right_N, weight_N)


def temperature_of(folder: Path, plan: JudgePlan, comparisons: Sequence[Comparison]) -> float:
    """T of the judge in a folder, whose temperature is 1 so far; 1 where no answer decides."""
    p_N = judged(Vlm(str(folder)), comparisons, plan).mean(1)
    share_N = np.array([c.label[0] + c.label[1] / 2.0 for c in comparisons])
    weight_N = np.where(np.isnan(p_N), 0.0, np.array([c.label[0] + c.label[2] for c in comparisons]))
    if not weight_N.sum() > 0:
        return 1.0
    p_N = np.clip(np.nan_to_num(p_N, nan=0.5), 1e-6, 1 - 1e-6)
    return fit_temperature(np.log(p_N / (1 - p_N)), share_N, weight_N)


def save(model: Any, base: Path | str, out: Path) -> None:
    """Write the model with tokenizer and image processor, as `vlm` and any server read it."""
    from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

    local = isinstance(base, Path)
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(base, local_files_only=local).save_pretrained(out)
    Qwen2VLImageProcessorPil.from_pretrained(base, local_files_only=local).save_pretrained(out)


def write_answers(
    folder: Path, plan: JudgePlan, seen: str, held_out: Sequence[Comparison], p_N2: np.ndarray
) -> None:  # fmt: skip
    """What it has seen, what it has not seen, and what it says about that in both orders."""
    rest = [seen_from(plan.out, plan.pairs.parent, c) for c in held_out]
    (folder / TRAINED_ON).write_text(seen, encoding="utf-8")
    (folder / HELD_OUT).write_text(to_jsonl(rest), encoding="utf-8")
    name = f"machine:{plan.out.name}"
    answers: dict[tuple[str, str, str], list[Comparison]] = {}
    for c, (first, second) in zip(rest, p_N2.tolist(), strict=True):
        if not math.isnan(first + second):
            plain = replace(c, annotator=name, strength=None, reading_shown=None)
            turned = replace(plain, left=c.right, right=c.left)
            both = [as_answer(plain, first), as_answer(turned, 1.0 - second)]
            answers[c.prompt.id, c.left.sha256, c.right.sha256] = both
    (folder / JUDGED).write_text(to_jsonl([c for two in answers.values() for c in two]), encoding="utf-8")


def as_answer(c: Comparison, p: float) -> Comparison:
    """The answer P(left is better) = p."""
    return replace(c, outcome="left" if p > 0.5 else "right", shares=(p, 0.0, 1.0 - p))


def write_card(
    folder: Path, plan: JudgePlan, judge: TrainedJudge, numbers: dict[str, Estimate], answers: int, seconds: float,
    losses: Sequence[float],
) -> None:  # fmt: skip
    """The judge's numbers, for people and for programs."""
    digest = hashlib.sha256(plan.pairs.read_bytes()).hexdigest()[:16]
    table = {name: {"value": e.value, "low": e.low, "high": e.high, "n": e.n} for name, e in numbers.items()}
    more = {
        "method": plan.settings.method,
        "base": plan.base,
        "answers": f"{plan.pairs.name}, sha256 {digest}",
        "held_out": table,
        "losses": list(losses),
    }
    (folder / JUDGE).write_text(judge.to_json(more), encoding="utf-8")
    rows = [f"| {name} training | {interval(e)} | {e.n} |" for name, e in numbers.items()]
    text = [
        "# Model card", "",
        f"- a judge of pairs, trained from {plan.base} by {plan.settings.method} on {answers} answers of "
        f"{plan.pairs.name} in {seconds:.0f} s",
        f"- asked in the words of the rubric `{judge.rubric}`, in both orders"
        + (", and may answer that neither is better" if judge.ties else ""),
        f"- temperature {judge.temperature:.3f}, fitted on answers that it did not learn from", "",
        "| agreement with people, decided answers that were held out | 95 % interval | answers |", "|---|---|---:|",
        *rows, "",
        f"Use: `vlm:weights={plan.out}`. It has learned these annotators' taste on these prompts and models; on others "
        "it is a guess.", "",
    ]  # fmt: skip
    (folder / CARD).write_text("\n".join(text), encoding="utf-8")


def interval(e: Estimate) -> str:
    """A number with its interval."""
    return f"{e.value:.3f} ({e.low:.3f} to {e.high:.3f})"


def lines(plan: JudgePlan, numbers: dict[str, Estimate], seconds: float) -> list[str]:
    """The result, as a person reads it."""
    silent = "it answers no held-out question with one of its words: train longer (--epochs), or faster (--rate)"
    return [
        *([] if numbers["after"].n else [silent]),
        f"held out: agrees with people in {interval(numbers['after'])} of {numbers['after'].n} decided answers; before "
        f"training in {interval(numbers['before'])}",
        f"written: {plan.out}, after {seconds:.0f} s of training (use it as vlm:weights={plan.out})",
        f"beside others: glyphlab compare-rewards --pairs {plan.pairs} --held-out {plan.out / HELD_OUT} "
        f"--judged {plan.out / JUDGED} --rewards ocr",
    ]
