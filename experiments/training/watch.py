"""Looks at the held-out prompts of a run while it trains, compares them with the start, and acts on alarms.

A look samples the same prompts (own_prompts.py says which) from the same noise, measures the images
(rewards/image_measures.py) and what is read in them, asks the trained and the held-out rewards, and applies the rules
of alignment/monitoring/monitors.py. It leaves a line in monitors.jsonl, and for every alarm the images that changed
most beside those of the start:

    {"step": 24, "trained": 0.71, "gold/ocr_judge": 0.52, ..., "alarms": [{"rule": ..., "pictures": [...]}]}

Everything is a function of the weights and the plan, so a run that was interrupted sees what it would have seen.

Of several ranks all sample the same images, because a network that is cut among them can only be asked by all together;
rank 0 alone loads the judges, measures and writes, and says which rules were broken, so that all go on alike.

Shapes: K images of a prompt, P prompts, S latent tokens, C channels, 3HW pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alignment.grpo import Grpo
from alignment.monitoring.monitors import Alarm, alarms, departure, mean, of_clip, rules
from base_model.engine.engine import Engine
from base_model.generate import CHUNK, at_once, generate_chunks, prompted
from base_model.interface import ConditionImages, FlowModel
from base_model.policy_model import PolicyModel
from experiments.evaluation.evaluate import fixed_noise
from experiments.experiment import Experiment, MonitorPlan
from experiments.record.record import EVIDENCE, RunRecord, read_metrics, read_monitors
from experiments.record.whole_files import write_png
from experiments.training.ranks import of_rank_0
from preference_data.image_files import source_readers
from preference_data.pixels import to_float
from preference_data.records import Prompt
from rewards import image_measures
from rewards.parse import named_reward, single_rewards
from rewards.scores import Reads, Scorer
from rewards.serving.workers import ScorerPool
from rewards.text.ocr import ned_score
from rewards.text.reading.detector import Detector
from rewards.text.recognisers import V6_DETECTION, find_weights

START = -1
"""The step of the line that says how it was before the first update."""
LOOP_METRICS = ("ratio_gap_first", "clip_share", "groups_without_spread")
"""Metrics of the loop that rules read."""


def reading_scorer(name: str) -> Reads:
    """The loaded reward of that name. Raises ValueError when it does not read."""
    scorer = named_reward(name).load()
    if not isinstance(scorer, Reads):
        raise ValueError(f"monitors.readers: the reward {name!r} cannot say what it reads; choose ocr or ocr_judge")
    return scorer


class Watch:
    """The watch over one run. `pool` judges by the trained reward; without one it is loaded here.

    Raises ValueError when the plan cannot be followed: the algorithm has no beta to raise, or a gold reward is the
    trained one.
    """

    def __init__(self, experiment: Experiment, plan: MonitorPlan, prompts: Sequence[Prompt], model: PolicyModel,
                 record: RunRecord, pool: ScorerPool | None, engine: Engine | None = None) -> None:  # fmt: skip
        check(experiment, plan)
        self._plan, self._model, self._record, self._engine = plan, model, record, engine
        self._measures = engine is None or engine.rank == 0
        self._total = experiment.algorithm.steps
        self._pool = pool
        self._prompts, self._sampler = list(prompts), plan.sampler or model.sampler
        self._first = f"gold/{plan.readers[1]}"
        self._start: dict[str, np.ndarray] | None = None
        if self._measures:
            self._trained: Scorer = pool or named_reward(experiment.reward).load()
            self._readers = [reading_scorer(name) for name in plan.readers]
            self._gold = {f"gold/{name}": named_reward(name).load() for name in plan.gold}
            self._detector = Detector(find_weights(V6_DETECTION)) if plan.text_boxes else None
            clip = getattr(experiment.algorithm, "clip", Grpo.clip)  # loops without ratios have none
            self._table = of_clip(rules([self._first, *self._gold]), clip)

    def begin(self) -> None:
        """Look at the start, and note it unless it is noted. The model's reference must be frozen, or switched off."""
        with self._model.reference() as start:
            self._start, _, _, _ = self._measure(start)
        self._start |= {"drift": np.zeros(len(self._prompts)), "velocity_norm": np.ones(len(self._prompts))}
        if self._measures and not read_monitors(self._record.folder):
            self._record.check(START, {**{name: mean(values) for name, values in self._start.items()}, "alarms": []})
        self._agree([])  # no rank goes on to read what was seen before it stands there

    def due(self, step: int) -> bool:
        """Whether to look after update `step`."""
        return (step + 1) % self._plan.every == 0 or step + 1 == self._total

    def check(self, step: int, experiment: Experiment) -> Experiment | None:
        """Look after update `step`; the experiment to go on with, None to stop. The weights to judge are loaded."""
        assert self._start is not None, "begin() comes first"
        now, x0, images, read = self._measure(self._model)
        now |= self._departure(x0)
        raised, loop = self._alarms(step, now) if self._measures else ([], {})
        # on other ranks than 0 the worst images are all that is known of an alarm
        worst = self._agree([list(alarm.worst[: self._plan.evidence]) for alarm in raised])
        after = after_alarm(experiment, self._plan) if worst else experiment
        best = self._highest_check(step, now)
        after = None if best else after
        starts = [self._samples_at_start(rows) for rows in worst]
        if self._measures:
            line: dict[str, Any] = {name: mean(values) for name, values in {**now, **loop}.items()}
            line["alarms"] = [
                self._evidence(step, alarm, images, before, read) for alarm, before in zip(raised, starts, strict=True)
            ]
            if after is None:
                line["stopped"] = True
            if best:
                line["not_risen_since"] = best[0]
            elif after is not experiment and after is not None:
                line["beta"] = after.algorithm.beta  # type: ignore[union-attr]
            self._record.check(step, line)
        if self._pool:
            self._pool.meter.drain()  # looking is none of training's cost
        return after

    def _agree(self, worst: list[list[int]]) -> list[list[int]]:
        """Rank 0's list of alarms, on all ranks."""
        agreed: list[list[int]] = of_rank_0(self._engine, worst) if self._engine else worst
        return agreed

    def _highest_check(self, step: int, now: dict[str, np.ndarray]) -> list[int]:
        """[update of the look with the highest first gold reward] where that is `patience` looks ago or more; [] where
        training goes on. The same on all ranks."""
        if not self._plan.patience:
            return []
        best: list[list[int]] = []
        if self._measures:
            checks = [(line["step"], line.get(self._first)) for line in read_monitors(self._record.folder)]
            checks = [(at, value) for at, value in checks if at < step] + [(step, mean(now[self._first]))]
            best = [stalled([math.nan if x is None else x for _, x in checks], [at for at, _ in checks], self._plan)]
        return self._agree(best)[0]

    def _alarms(self, step: int, now: dict[str, np.ndarray]) -> tuple[list[Alarm], dict[str, np.ndarray]]:
        """The rules that are broken, and the metrics of the loop since the last look that some of them read."""
        assert self._start is not None
        looked = self._record.folder
        last = max((line["step"] for line in read_monitors(looked)), default=START)
        recent = [line for line in read_metrics(looked) if last < (line["step"] or 0) <= step]
        loop = {f"loop/{name}": column(recent, name) for name in LOOP_METRICS if any(name in line for line in recent)}
        return alarms(self._table, self._start, {**now, **loop}), loop

    def _samples_at_start(self, rows: Sequence[int]) -> np.ndarray | None:
        """How the images of these prompts began; None of none."""
        if not rows:
            return None
        with self._model.reference() as start:
            return self._sample(start, rows, 0)[1]

    def _sample(self, model: FlowModel, rows: Sequence[int], copy: int) -> tuple[Tensor, np.ndarray]:
        """Latents [P S C] and uint8 images [P 3 H W] of those prompts, from their noise."""
        noise = fixed_noise(model, len(self._prompts), self._plan.seed, copy)[list(rows)]
        texts, shown = shown_texts(model, [self._prompts[row] for row in rows])
        requested = prompted(model, texts, self._sampler.guidance, shown)
        _, latents, images = zip(*generate_chunks(model, requested, noise, self._sampler), strict=True)
        return torch.cat(latents), np.concatenate(images)

    def _departure(self, x0_PSC: Tensor) -> dict[str, np.ndarray]:
        """(M3) and (M4) of every prompt."""
        eps = fixed_noise(self._model, len(x0_PSC), self._plan.seed + 1)
        parts = []
        batch = at_once(eps.shape[1], CHUNK)
        for rows in (slice(i, i + batch) for i in range(0, len(x0_PSC), batch)):
            cond = self._model.encode_text(*shown_texts(self._model, self._prompts[rows]))
            parts.append(departure(self._model, x0_PSC[rows], eps[rows], cond))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _measure(self, model: FlowModel) -> tuple[dict[str, np.ndarray], Tensor, np.ndarray, list[str]]:
        """What rules read of images, [P] each; the first copy's latents and images; and what the second engine
        read in them."""
        rows, samples, results = range(len(self._prompts)), [], []
        for copy in range(self._plan.copies):
            x0, images = self._sample(model, rows, copy)
            one, theirs = self._score(images) if self._measures else ({}, [])
            samples.append((x0, images, theirs))
            results.append(one)
        now = {name: known_mean(np.stack([one[name] for one in results])) for name in results[0]}
        if self._measures:
            now["diversity"] = image_measures.diversity(np.stack([images for _, images, _ in samples]))
        return now, *samples[0]

    def _score(self, images: np.ndarray) -> tuple[dict[str, np.ndarray], list[str]]:
        """What is measured of one image a prompt, [P] each, and what the second engine reads in them."""
        judged = self._pool.submit(self._prompts, images) if self._pool else None
        theirs, ours = (reader.texts(to_float(images)) for reader in (self._readers[1], self._readers[0]))
        scores = judged.result() if judged else self._trained(self._prompts, to_float(images))
        one = {"trained": scores.value_B, "unjudged": np.isnan(scores.value_B).astype(np.float64)}
        one |= self._texts(ours, theirs) | image_measures.measure_images(images)
        one |= {name: scorer(self._prompts, to_float(images)).value_B for name, scorer in self._gold.items()}
        if self._detector:
            one["text_area"] = np.array([image_measures.boxed_area(self._detector, image) for image in images])
        return one, list(theirs)

    def _texts(self, ours: Sequence[str], theirs: Sequence[str]) -> dict[str, np.ndarray]:
        """What can be said of two engines' readings, [P] each; NaN where the prompt asks for no text, or one of them
        lacks its characters."""
        known = [
            bool(prompt.spans) and all(getattr(reader, "can_write", lambda _: True)(prompt) for reader in self._readers)
            for prompt in self._prompts
        ]
        targets = [" ".join(prompt.spans) for prompt in self._prompts]
        rows = [
            {
                self._first: ned_score(target, their),
                f"read/{self._plan.readers[0]}": ned_score(target, our),
                "disagreement": image_measures.disagreement(target, our, their),
                "duplicate_text": image_measures.duplicate_text(target, our),
                "extra_text": image_measures.extra_text(target, our),
            }
            for target, our, their in zip(targets, ours, theirs, strict=True)
        ]
        return {name: np.where(known, np.array([row[name] for row in rows]), np.nan) for name in rows[0]}

    def _evidence(
        self, step: int, alarm: Alarm, images: np.ndarray, before: np.ndarray | None, read: Sequence[str]
    ) -> dict[str, Any]:
        """The alarm for monitors.jsonl, with the images that changed most and how they began."""
        rows = alarm.worst[: self._plan.evidence]
        evidence, slug = [], "".join(c if c.isalnum() else "_" for c in alarm.rule.name)
        if before is not None:
            for i, row in enumerate(rows):
                names = [f"step_{step:06d}_{slug}_{i:02d}{end}.png" for end in ("", "_start")]
                for name, image in zip(names, (images[row], before[i]), strict=True):
                    write_png(self._record.folder / EVIDENCE / name, image)
                evidence.append({"picture": names[0], "start": names[1], "caption": self._prompts[row].text,
                                 "reading": read[row]})  # fmt: skip
        rule = alarm.rule
        return {"rule": rule.name, "change": alarm.change, "error": alarm.error, "threshold": rule.threshold,
                "unit": rule.unit, "reason": rule.reason, "pictures": evidence}  # fmt: skip


def shown_texts(model: FlowModel, prompts: Sequence[Prompt]) -> tuple[list[str], ConditionImages]:
    """The texts of prompts, and the images that they ask to edit."""
    return [p.text for p in prompts], model.read_images(source_readers(p.sources for p in prompts))[:]


def check(experiment: Experiment, plan: MonitorPlan) -> None:
    """Raises ValueError when the plan does not fit the experiment."""
    if plan.on_alarm == "raise_beta" and held_closer(experiment.algorithm, plan) is None:
        kind = type(experiment.algorithm).__name__
        raise ValueError(f"monitors.on_alarm=raise_beta: {kind} has no KL weight to raise; choose report or stop")
    if held_in := set(single_rewards(experiment.reward)) & {plan.readers[1], *plan.gold}:
        raise ValueError(f"monitors: {held_in.pop()!r} is what is trained on, so it cannot be a held-out reward too")


def stalled(gold: Sequence[float], steps: Sequence[int], plan: MonitorPlan) -> list[int]:
    """[update of the highest look] where none of the last `patience` looks is above it, else []; NaN is below all."""
    values = np.where(np.isnan(gold), -np.inf, gold)
    best = int(np.argmax(values))
    return [steps[best]] if np.isfinite(values[best]) and len(values) - 1 - best >= plan.patience > 0 else []


def after_alarm(experiment: Experiment, plan: MonitorPlan) -> Experiment | None:
    """Returns the experiment to go on with after an alarm; None where training ends."""
    if plan.on_alarm == "stop":
        return None
    cfg = held_closer(experiment.algorithm, plan) if plan.on_alarm == "raise_beta" else None
    return replace(experiment, algorithm=cfg) if cfg else experiment


def held_closer(cfg: Any, plan: MonitorPlan) -> Any:
    """Returns the algorithm's settings with more weight on the distance to the reference; None where it weighs none."""
    beta = getattr(cfg, "beta", None)
    if beta is None:
        return None
    raised = replace(cfg, beta=beta * plan.beta_factor if beta > 0.0 else plan.beta_first)
    return raised if raised.needs_reference else None  # AWM's holds the policy to its own average


def in_force(experiment: Experiment, record: RunRecord) -> Experiment | None:
    """The experiment as the alarms so far have left it; None when one of them ended it."""
    for line in read_monitors(record.folder):
        if line.get("stopped"):
            return None
        if "beta" in line:
            experiment = replace(experiment, algorithm=replace(experiment.algorithm, beta=line["beta"]))
    return experiment


def column(lines: Sequence[dict[str, float | None]], name: str) -> np.ndarray:
    """A metric of some lines, null as NaN; lines without it are left out."""
    return np.array([math.nan if line[name] is None else line[name] for line in lines if name in line], np.float64)


def known_mean(values_KP: np.ndarray) -> np.ndarray:
    """[P] mean over what is not NaN; NaN where nothing is."""
    known = (~np.isnan(values_KP)).sum(0)
    total = np.nansum(values_KP, axis=0)
    result: np.ndarray = np.where(known > 0, total / np.maximum(known, 1), np.nan)
    return result
