"""Compare rewards on a file of answers: score the images, probe the rewards, and write one page, JSON and CSV.

OUT/comparison.html   for people: one file, nothing to fetch
OUT/comparison.json   the same numbers, for the dashboard and for programs
OUT/comparison.csv    every estimate with its interval, one a line
OUT/scores.csv        every image's scores
OUT/scores.sqlite     what need not be scored again
"""

from __future__ import annotations

import hashlib
import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from experiments.record.environment import environment
from experiments.record.leftovers import removed_on_error
from experiments.record.whole_files import read_png, write_bytes, write_json
from experiments.report.comparison_page import page
from experiments.reward_models.comparison_plan import ComparisonPlan
from experiments.reward_models.people_side import leaderboard, people
from experiments.reward_models.score_book import BOOK, facts, is_anything_judged, key_of, score
from experiments.reward_models.train_reward import check_those_here, path_of_image, perceptual_hashes
from preference_data.comparisons import Comparison, load
from preference_data.image_files import read_source
from preference_data.line_files import read_csv
from rewards.comparison.checks import probes, visible_share
from rewards.comparison.checks.hygiene import Seen
from rewards.comparison.compare import Measured, compare
from rewards.comparison.score_table import Pairwise, PromptImage, build, images_of, pairs_of
from rewards.learned.reward import HELD_OUT, trained_in, trained_on, training_of
from rewards.parse import named_rewards
from rewards.scores import Reward, Scorer
from rewards.serving.cache import ScoreFile, identity

Say = Callable[[str], None]
WIDE = (144, 256)
"""Height and width of the rendered images by which it is found which part of a wide image a reward sees."""


NO_REWARD = "there is no reward to compare; name some with --rewards, --scores or --judged"


def compare_rewards(plan: ComparisonPlan, say: Say = lambda line: None) -> list[str]:
    """Do it all; what to tell the user. Raises ValueError or FileNotFoundError as its parts.

    Where it fails before an image was judged, it leaves no folder.
    """
    if not (plan.rewards or plan.scores or plan.judged):
        raise ValueError(NO_REWARD)
    with removed_on_error(plan.out, lambda out: not is_anything_judged(out / BOOK)):
        return _compare_rewards(plan, say)


def _compare_rewards(plan: ComparisonPlan, say: Say) -> list[str]:
    start = time.perf_counter()
    comparisons = load(plan.pairs)
    rewards = named_rewards(plan.rewards) if plan.rewards else {}
    seen = {n: _training(r) for n, r in rewards.items() if trained_in(r)}
    comparisons = unseen(plan, comparisons, rewards, say)
    images = images_of(comparisons)
    for source in {source for c in comparisons for source in c.prompt.sources} if rewards else ():
        read_source(source)  # before a reward is opened
    shown = [i for c in comparisons for i in (c.left, c.right)]
    if not rewards:
        check_those_here(plan.pairs.parent, shown)  # given scores need no images, but facts and the page show them
    checks = perceptual_hashes(plan.pairs.parent, shown) if rewards else {}

    def find(image: PromptImage) -> Path:
        return path_of_image(plan.pairs.parent, image.image)

    require_weights(rewards)
    scores: dict[str, np.ndarray] = {}
    measured: dict[str, list[dict[str, Any]]] = {"probes": [], "sight": [], "legibility": [], "cost": []}
    with ScoreFile(plan.out / BOOK) as book:
        for name, reward in rewards.items():
            opened = Opened.of(name, reward)
            known_keys = book.known(opened.reward)
            say(_to_do(name, sum(key_of(p) not in known_keys for p in images), len(images)))
            scores[name] = _measure(book, name, reward, opened, images, find, plan, measured)
            del opened  # before the next is loaded
        if plan.scores:
            scores |= read_scores(plan.scores, images)
        known = _facts(book, images, find)
    pairwise = read_scorers(plan.judged, comparisons) if plan.judged else {}
    if len(scores) + len(pairwise) == 0:
        raise ValueError(NO_REWARD)
    if twice := set(scores) & set(pairwise):
        raise ValueError(f"{min(twice)!r} is a reward of single images and a judge of pairs; rename one")
    table = build(comparisons, scores, pairwise)
    report = compare(
        comparisons, table,
        Measured(measured["probes"], measured["sight"], measured["legibility"], measured["cost"], known, seen, checks,
                 frozenset(n for n, r in rewards.items() if getattr(r, "for_judging", False))),
        plan.gold, plan.seed,
    )  # fmt: skip
    report["agreement"], report["leaderboard"] = people(comparisons), leaderboard(table)
    report["about"] = about(plan, comparisons, time.perf_counter() - start)
    write(plan.out, report, table.score_RP, table.rewards, images, plan.pairs.parent)
    return lines(report, plan.out, time.perf_counter() - start)


def _training(reward: Reward) -> Seen:
    """What all reward models and judges inside a reward have seen."""
    all_seen = [training_of(folder) for folder in trained_in(reward)]
    checks = [s.perceptual_hashes for s in all_seen if s.perceptual_hashes is not None]
    return Seen(
        frozenset().union(*(s.prompts for s in all_seen)), frozenset().union(*(s.images for s in all_seen)),
        frozenset().union(*(s.words for s in all_seen)), np.concatenate(checks) if checks else None,
    )  # fmt: skip


def unseen(
    plan: ComparisonPlan, comparisons: list[Comparison], rewards: Mapping[str, Reward], say: Say
) -> list[Comparison]:  # fmt: skip
    """The answers that no reward was trained on, where one was trained on this file; all of them otherwise."""
    files = [plan.held_out] if plan.held_out else []
    if not files:
        ids = {c.prompt.id for c in comparisons}
        models = {folder for r in rewards.values() for folder in trained_in(r)}
        files = [m / HELD_OUT for m in sorted(models) if (m / HELD_OUT).exists() and trained_on(m)[0] & ids]
    remaining = comparisons
    for file in files:
        held = {_question(c) for c in load(file)}
        some = [c for c in remaining if _question(c) in held]
        if not any(c.outcome in ("left", "right") for c in some):
            if plan.held_out:
                raise ValueError(f"{file} holds no decided answer about the pairs of {plan.pairs}")
            say(f"{file} has no decided answer of {plan.pairs.name} that is left: compared on what was trained on")
            return comparisons
        remaining = some
        say(f"compared on the {len(remaining)} of {len(comparisons)} answers that {file} held out of training")
    return remaining


def _question(c: Comparison) -> tuple[str, frozenset[str]]:
    return c.prompt.id, frozenset((c.left.sha256, c.right.sha256))


def require_weights(rewards: Mapping[str, Reward]) -> None:
    """Load every reward but the first, which is loaded next anyway: what lacks its weights costs no scoring by others.

    Each is let go before the next, because two large judges may not fit beside each other. Raises as `load` does.
    """
    for reward in list(rewards.values())[1:]:
        reward.load()


@dataclass(frozen=True)
class Opened:
    """A reward that is loaded."""

    scorer: Scorer
    seconds: float
    """that loading took"""
    reward: str
    """under which its scores are remembered"""

    @classmethod
    def of(cls, name: str, reward: Reward) -> Opened:
        """Load it. Raises as its `load`."""
        start = time.perf_counter()
        scorer = reward.load()
        return cls(scorer, time.perf_counter() - start, f"{identity(name, reward)} {scorer.name}")


def _to_do(name: str, new: int, count: int) -> str:
    if new == 0:
        return f"{name}: the scores of all {count} images are known already"
    return f"{name}: judging {new} images" + (f"; {count - new} are known already" if new < count else "")


def _measure(
    book: ScoreFile, name: str, reward: Reward, opened: Opened, images: Sequence[PromptImage],
    find: Callable[[PromptImage], Path], plan: ComparisonPlan, measured: dict[str, list[dict[str, Any]]],
) -> np.ndarray:  # fmt: skip
    """Scores [P] of a reward; its probes, sight and cost are added to `measured`."""
    scorer, person, loading = opened.scorer, opened.reward, opened.seconds
    value_P, causes = score(book, person, scorer, images, find)
    single, batched = book.times(person)
    view = reward.sees(images[0].image.height, images[0].image.width)
    measured["cost"].append({
        "reward": name, "scorer": scorer.name, "load_seconds": loading, "not_judged": int(np.isnan(value_P).sum()),
        "causes": causes, "of": len(images), "ms_p50": _quantile(single, 0.5), "ms_p95": _quantile(single, 0.95),
        "ms_batched": float(np.mean(batched)) if batched else float("nan"), "says_it_sees": view.share,
        "view": f"{view.how}, {view.height} x {view.width}",
    })  # fmt: skip
    if plan.probe_images:
        some = _sample(images, plan.probe_images, plan.seed)
        what = [person, [p.image.sha256 for p in some], [p.prompt.text for p in some], plan.seed]
        results = book.note(["probes 1", *what], lambda: probe(scorer, some, find, plan.seed))
        for section, result in results.items():
            if result:
                measured[section].append({"reward": name, **result})
    return value_P


def probe(
    scorer: Scorer, some: Sequence[PromptImage], find: Callable[[PromptImage], Path], seed: int
) -> dict[str, Any]:
    """Everything that has to be asked of the loaded reward itself."""
    own = [read_png(find(p)) for p in some]
    wide = [probes.rendered_word(word, k, WIDE, 30) for k, word in enumerate(probes.WORDS[:3])]
    return {
        "probes": {"rows": probes.run(scorer, [p.prompt for p in some], own, seed)},
        "sight": visible_share.sight(scorer, [p for p, _ in wide], [image for _, image in wide], seed),
        "legibility": visible_share.legibility(scorer),
    }


def _sample(images: Sequence[PromptImage], count: int, seed: int) -> list[PromptImage]:
    """Images of different prompts, as far as there are enough."""
    order = np.random.default_rng(seed).permutation(len(images))
    first: dict[str, PromptImage] = {}
    for i in order:
        first.setdefault(images[i].prompt.id, images[i])
    chosen = list(first.values())[:count]
    return chosen + [images[i] for i in order if images[i] not in chosen][: count - len(chosen)]


def _facts(
    book: ScoreFile, images: Sequence[PromptImage], find: Callable[[PromptImage], Path]
) -> dict[str, np.ndarray]:
    """Facts about the pixels; {} when the images are not here, which a file of scores does not need."""
    try:
        return facts(book, images, find)
    except FileNotFoundError:
        return {}


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share)) if values else float("nan")


def read_scores(path: Path, images: Sequence[PromptImage]) -> dict[str, np.ndarray]:
    """Scores made elsewhere: a header with sha256, perhaps prompt_id, and rewards. An empty cell is "not judged".

    ValueError with the line number when a cell is no number, or when not a single image is known.
    """
    table: dict[str, dict[tuple[str, str], float]] = {}
    header, rows = read_csv(path)
    names = [n for n in header if n not in ("sha256", "prompt_id", "prompt", "picture")]
    if "sha256" not in header or not names:
        raise ValueError(f"{path} has the columns {header}; it needs sha256 and one a reward")
    lines: dict[tuple[str, str], int] = {}
    for number, row in rows:
        key = row["sha256"].strip(), row.get("prompt_id", "").strip()
        if lines.setdefault(key, number) != number:
            raise ValueError(f"{path} line {number}: {key[0]} has scores in line {lines[key]} already; keep one")
        for name in names:
            table.setdefault(name, {})[key] = _score(row[name].strip(), f"{path} line {number}: {name}")
    scores = {}
    for name, values in table.items():
        keys = [(p.image.sha256, p.prompt.id) for p in images]
        scores[name] = np.array([values.get(k, values.get((k[0], ""), float("nan"))) for k in keys])
        if np.isnan(scores[name]).all():
            raise ValueError(f"{path} has no score of {name} for any of the {len(images)} images")
    return scores


def _score(cell: str, where: str) -> float:
    """The number in a cell; NaN, "not judged", when it is empty or says so. Raises ValueError for any other."""
    try:
        value = float(cell) if cell else float("nan")
    except ValueError as error:
        raise ValueError(f"{where} is {cell!r}, no number") from error
    if math.isinf(value):
        raise ValueError(f"{where} is {cell!r}; a score is finite, and an empty cell says that there is none")
    return value


def read_scorers(path: Path, comparisons: Sequence[Comparison]) -> dict[str, Pairwise]:
    """Judges of pairs by name: their answers about the pairs of `comparisons`, both ways round. Others are ignored."""
    index = {(p.prompt.id, p.image.sha256): i for i, p in enumerate(images_of(comparisons))}
    number = {pair: n for n, pair in enumerate(pairs_of(comparisons))}
    table: dict[str, np.ndarray] = {}
    for c in load(path):
        left, right = index.get((c.prompt.id, c.left.sha256), -1), index.get((c.prompt.id, c.right.sha256), -1)
        turned = (left, right) not in number
        n = number.get((right, left) if turned else (left, right))
        if n is None:
            continue
        p = c.label[0] + c.label[1] / 2
        rows = table.setdefault(c.annotator, np.full((2, len(number)), np.nan))
        rows[int(turned), n] = 1 - p if turned else p
    if not table:
        raise ValueError(f"{path} judges none of the {len(number)} pairs")
    return {name: Pairwise(rows[0], rows[1]) for name, rows in table.items()}


def about(plan: ComparisonPlan, comparisons: Sequence[Comparison], seconds: float) -> dict[str, Any]:
    """What a reader needs to make the report again."""
    return {
        "made": time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC", "seconds": seconds,
        "command": shlex.join(["glyphlab", *sys.argv[1:]]), "pairs": plan.pairs.name, "gold": plan.gold,
        "pairs_sha256": hashlib.sha256(plan.pairs.read_bytes()).hexdigest(), "environment": environment(),
        "annotators": len({c.annotator for c in comparisons}), "pictures": str(plan.pairs.resolve().parent),
    }  # fmt: skip


def write(
    out: Path, report: Mapping[str, Any], score_RP: np.ndarray, names: Sequence[str], images: Sequence[PromptImage],
    folder: Path,
) -> None:  # fmt: skip
    """The four files, each whole or not at all; the page last."""
    write_json(out / "comparison.json", report)
    estimates = [(section, *row) for section, content in report.items() for row in _estimates(content, "", "")]
    listed = pandas.DataFrame(estimates, columns=["section", "reward", "what", "value", "low", "high", "n"])
    write_bytes(out / "comparison.csv", listed.astype({"n": "Int64"}).to_csv(index=False).encode())
    named = zip(images, score_RP.T, strict=True)
    rows = [(one.image.sha256, one.prompt.id, one.prompt.text, *score_R) for one, score_R in named]
    table = pandas.DataFrame(rows, columns=["sha256", "prompt_id", "prompt", *names])
    write_bytes(out / "scores.csv", table.to_csv(index=False).encode())
    write_bytes(out / "comparison.html", page(report, folder).encode())


def _estimates(value: Any, reward: str, what: str) -> list[tuple[Any, ...]]:
    """Reward, what, value, low, high, n: everything below `value` with the keys of an estimate, by its names."""
    if isinstance(value, Mapping):
        if {"value", "low", "high"} <= set(value):
            return [(reward, what, *(value.get(name) for name in ("value", "low", "high", "n")))]
        reward = str(value.get("reward") or value.get("annotator") or value.get("better") or reward)
        label = next((str(value[k]) for k in ("slice", "covariate", "worse", "n") if k in value and k != "reward"), "")
        what = "/".join(filter(None, (what, label)))
        return [e for k, v in value.items() for e in _estimates(v, reward, "/".join(filter(None, (what, str(k)))))]
    if isinstance(value, list):
        return [e for v in value for e in _estimates(v, reward, what)]
    return []


def lines(report: Mapping[str, Any], out: Path, seconds: float) -> list[str]:
    """The first page as text."""
    results = [str(report["advice"]["answer"]), ""]
    for r in report["accuracy"]["rewards"]:
        e = r["accuracy"]
        results.append(
            f"{r['reward']}: right in {e['value']:.3f} ({e['low']:.3f} to {e['high']:.3f}) of {e['n']} pairs"
        )
    for r in report["advice"]["rewards"]:
        results += [f"  {r['reward']} {f['text']}" for f in r["findings"] if f["severity"] != "note"]
    return [
        *results,
        "",
        f"written in {seconds:.0f} s: {out / 'comparison.html'}, comparison.json, comparison.csv, scores.csv",
    ]
