"""A made-up run folder like that of the quickstart, to test the report: `python -m tests.made_up_run FOLDER`."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

from experiments.intervals import bootstrap_ci, paired_ci
from experiments.record import RunRecord, write_json, write_png
from tests.writing import written

WORDS = ("GLYPH", "BRASS", "MOTOR", "FENCE", "PLUMB", "QUARTZ", "VIVID", "TOWER")
QUALITY = {"pretrain": 0.45, "sft": 0.62, "dpo": 0.70, "grpo": 0.74, "control": 0.66}
CHAIN = ("decoder", *QUALITY)
PAIRS = (("sft", "pretrain"), ("dpo", "sft"), ("grpo", "sft"), ("control", "sft"), ("grpo", "control"))


def misread(word: str, quality: float, random: np.random.Generator) -> str:
    """The word with some letters lost or wrong."""
    letters = [c if random.random() < quality else str(random.choice(list("ABEKLORSTX*")))[:1] for c in word]
    return "".join(letters).replace("*", "")


def row(word: str, quality: float, random: np.random.Generator, noise: float) -> dict[str, object]:
    """One prompt's result; now and then it could not be judged."""
    ned = float(np.clip(quality + noise + 0.05 * random.normal(), 0.0, 1.0))
    read = word if ned > 0.72 else misread(word, 0.6, random)
    judged = random.random() > 0.02
    value = {"ned": 1.0 if read == word else ned, "exact": float(read == word)}
    return {
        "prompt": f'the word {word} in red on white, <b>serif</b>, "small" & low', "target": word,
        "ned": value["ned"] if judged else None, "exact": value["exact"] if judged else None, "read": read,
        "judge_ned": max(value["ned"] - 0.03, 0.0), "judge_exact": value["exact"],
        "judge_read": read if value["exact"] else misread(word, 0.5, random), "picture": "",
    }  # fmt: skip


def metrics(stage: str, step: int, steps: int, random: np.random.Generator) -> dict[str, float]:
    """What a stage of that kind logs."""
    done = step / steps
    found = {"loss": 0.9 * math.exp(-3 * done) + 0.1 + 0.04 * random.normal(), "grad_norm": 1 + random.random(),
             "lr": 2e-3 * min(1.0, 2 * (1 - done))}  # fmt: skip
    if stage == "grpo":
        found |= {"reward": 0.6 + 0.15 * done + 0.06 * random.normal(), "ratio_first": 1.0, "ratio_gap_first": 0.0,
                  "ratio": 1 + 0.01 * random.normal(), "clip_share": 0.02 * random.random(), "window": float(step % 3),
                  "kl": float("nan") if step == 3 else 0.01 * done}  # fmt: skip
    if stage == "dpo":
        found |= {"implicit_accuracy": 0.5 + 0.3 * done + 0.1 * random.normal(), "margin": done}
    if stage == "decoder":
        found |= {"psnr": 20 + 5 * done + 0.3 * random.normal()}
    return found


def evaluate(folder: Path, quality: float, count: int) -> dict[str, dict[str, list]]:
    """Write both evaluations of a stage; the rows by setting."""
    found = {}
    for setting, bonus in (("unguided", 0.0), ("guided", 0.08)):
        random, shared = np.random.default_rng(int(1000 * quality)), np.random.default_rng(5)
        rows = [row(WORDS[i % len(WORDS)], quality + bonus, random, 0.22 * shared.normal()) for i in range(count)]
        for i, one in enumerate(rows[:6]):
            one["prompt"] = f"{one['prompt']}, {i}"
            one["picture"] = f"{setting}_{i:02d}.png"
            picture = written(str(one["read"]) or " ", size=16, ink="darkred", at=(0.2 * (i % 5), 0.25 * (i % 4)))
            write_png(folder / str(one["picture"]), np.clip(picture + 0.1 * random.normal(size=picture.shape), 0, 1))
        for i, one in enumerate(rows[6:]):
            one["prompt"] = f"{one['prompt']}, {6 + i}"
        write_json(folder / f"{setting}.json", {"rows": rows, "diversity": 0.2 - 0.1 * quality})
        found[setting] = rows
    return found


def values(rows: list[dict], name: str) -> np.ndarray:
    return np.array([np.nan if r[name] is None else r[name] for r in rows], dtype=np.float64)


def summarised(rows: list[dict]) -> dict[str, object]:
    exact, ned = values(rows, "exact"), values(rows, "ned")
    return {
        "exact": float(np.nanmean(exact)), "exact_ci": list(bootstrap_ci(exact, 0)),
        "ned_score": float(np.nanmean(ned)), "ned_score_ci": list(bootstrap_ci(ned, 0)),
        "judge_exact": float(np.nanmean(values(rows, "judge_exact"))),
        "judge_ned_score": float(np.nanmean(values(rows, "judge_ned"))), "diversity": 0.15,
    }  # fmt: skip


def compared(before: list[dict], after: list[dict], name: str) -> dict[str, object]:
    delta, low, high = paired_ci(values(before, name), values(after, name), 0)
    return {"delta": delta, "ci": [low, high]}


def make_chain(folder: Path, count: int = 48, steps: int = 300) -> Path:
    """Write the whole run folder; its name is told back."""
    overall = RunRecord.open(folder, {"chain": list(CHAIN)})
    stages, results = {}, {}
    with overall.running():
        for k, name in enumerate(CHAIN):
            record, random = RunRecord.open(folder / name, {"name": name, "steps": steps}), np.random.default_rng(k)
            with record.running():
                for step in range(steps):
                    record.log(step, metrics(name, step, steps, random))
            if name in QUALITY:
                results[name] = evaluate(folder / name / "evaluation", QUALITY[name], count)
                guided, unguided = results[name]["guided"], results[name]["unguided"]
                stages[name] = {**summarised(unguided), "seconds": 10.0, "guided": summarised(guided)}
    paired = {
        f"{a}_vs_{b}": {
            **compared(results[b]["unguided"], results[a]["unguided"], "ned"),
            "exact": compared(results[b]["unguided"], results[a]["unguided"], "exact"),
            "judge": compared(results[b]["unguided"], results[a]["unguided"], "judge_ned"),
            "guided": compared(results[b]["guided"], results[a]["guided"], "ned"),
        }
        for a, b in PAIRS
    }
    total = {"total_seconds": overall.seconds, "peak_memory_mb": 1834.2}
    write_json(folder / "summary.json", {"stages": stages, "paired": paired, **total})
    (folder / "notes.md").write_text(
        "- **Made up.** These numbers come from no model; `tests/made_up_run.py` drew them.\n"
        "- Guidance alone gains more than any training here, at twice the cost of a picture.\n\n"
        "| tried | result |\n|---|---|\n| rate 3e-4 | destroyed the <model> |\n| own best samples | collapse |\n"
    )
    return folder


def make_single(folder: Path, steps: int = 40) -> Path:
    """A run of one stage with samples, and without an evaluation."""
    record = RunRecord.open(folder, {"experiment": {"name": "nano_pretrain"}, "parent": ""})
    with record.running():
        for step in range(steps):
            record.log(step, metrics("pretrain", step, steps, np.random.default_rng(step)))
            if step % 10 == 9:
                pictures = np.stack([written(word, size=16) for word in WORDS[:2]])
                record.samples(step, pictures, [f"the word {word}" for word in WORDS[:2]], [WORDS[0], ""])
    return folder


if __name__ == "__main__":
    from experiments.report import write_report

    print(write_report(make_chain(Path(sys.argv[1]))))
