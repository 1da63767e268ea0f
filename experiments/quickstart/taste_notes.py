"""The sentence that stands first in a quickstart's report, and what a reader should know before believing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.configs import nano_taste
from experiments.quickstart.taste_summary import LANGUAGES
from experiments.record.whole_files import write_bytes
from experiments.report.page_words import title

Row = dict[str, Any]


def headline(result: Row) -> str:
    """What alignment bought and what it cost, in one sentence."""
    start, end = result["stages"]["pretrain"], result["stages"]["nft"]
    words, strings = (f"{start[each]['open']['exact']:.0%} to {end[each]['open']['exact']:.0%}" for each in LANGUAGES)
    return (
        f"Simulated people answered “left or right?” {nano_taste.ANSWERS} times about the model's own images, and "
        f"nobody said what they like: after alignment others prefer the new image in {share(end, 'win')} of cases, "
        f"English words that are right went from {words} and Chinese strings from {strings}; the price is "
        f"variety, {start['diversity']:.3f} to {end['diversity']:.3f}. An ink that a prompt names is obeyed in "
        f"{start['obeyed']['ink']:.1%} of cases before and {end['obeyed']['ink']:.1%} after."
    )


def share(row: Row, name: str) -> str:
    """A share with its interval."""
    low, high = row[f"{name}_ci"]
    return f"{row[name]:.2f} ({low:.2f} to {high:.2f})"


def taste_table(result: Row) -> list[str]:
    """Prompts that leave the look open: who is preferred, and what is right."""
    lines = [
        "| open prompts | wins over the start | taste | English exact | gold | Chinese exact | gold | variety |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["stages"].items():
        cells = [f"{share(row[each]['open'], key)}" for each in LANGUAGES for key in ("exact", "gold_exact")]
        likes = [share(row, "win"), f"{row['utility']:.3f}"]
        lines.append(f"| {' | '.join([title(name), *likes, *cells])} | {row['diversity']:.3f} |")
    for name, row in result["without_training"].items():
        both = f"{share(row, 'exact')}, both languages | {share(row, 'gold_exact')} | | "
        lines.append(f"| no training: {name} | {share(row, 'win')} | {row['utility']:.3f} | {both}| |")
    return lines


def caption_table(result: Row) -> list[str]:
    """Prompts that say everything: what is right, and what is obeyed."""
    lines = [
        "| full captions | English exact | gold | guided | Chinese exact | gold | guided | ink kept | ground kept |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["stages"].items():
        cells = []
        for each in LANGUAGES:
            own, guided = row[each]["captions"], row[each].get("captions_guided")
            cells += [share(own, "exact"), share(own, "gold_exact"), f"{guided['exact']:.3f}" if guided else ""]
        cells += [f"{row['obeyed'][part]:.3f}" for part in ("ink", "ground")]
        lines.append(f"| {title(name)} | {' | '.join(cells)} |")
    return lines


def alarms(folder: Path) -> str:
    """Which rules the run on taste alone broke."""
    file = folder / "nft_taste" / "monitors.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    broken = dict.fromkeys(alarm["rule"] for line in lines for alarm in line.get("alarms", ()))
    return f"It broke: {', '.join(broken)}." if broken else "None of the monitors' rules was broken."


def write_notes(folder: Path) -> None:
    """Write `folder`/notes.md from the summary, and the summary's headline."""
    result = json.loads((folder / "summary.json").read_text())
    stages, plain = result["stages"], result["without_training"]
    alone, stated = stages["nft_taste"], plain["saying it"]
    rendered = result["renderings"]
    confirmed = ", ".join(f"{name.replace('_', ', ')} {value:.2f}" for name, value in result["confirmed"].items())
    text = f"""
**The people are simulated.** Their taste was: {result["taste"]}.
It is a function of pixels, and in no word of a prompt. {nano_taste.PEOPLE} of them answered, with noise, and
{nano_taste.VOTERS} others judge without it. To answer yourself: `glyphlab annotate --run-folder {folder}`; what you
decide trains the same reward by the same commands (docs/tutorial/first-run.md).

{chr(10).join(taste_table(result))}

{chr(10).join(caption_table(result))}

- **Judgements decide what was left open.** NFT learned from OCR and from the reward that was trained on the answers,
  each normalised in its group, and was pulled towards its start under guidance. The same NFT on OCR alone wins
  {share(stages["nft_ocr"], "win")}, and the answers are credited with no more than the difference. DPO on the same
  answers wins {share(stages["dpo"], "win")}. Fine-tuning on the {nano_taste.ANSWERS} images that were preferred wins
  {share(stages["chosen"], "win")}: images show how a word is drawn, not which one is better. Images repair what is
  wrong: that story has a command of its own, `glyphlab study repair`.
- **Who can say it needs no alignment.** With the taste in the prompt the pretrained model wins {share(stated, "win")}
  and writes {share(stated, "exact")} right. Guidance wins {share(plain["guidance"], "win")}.
- **The reward alone** pays for the taste and not for letters. NFT on it without OCR wins
  {share(alone, "win")} and writes {share(alone["english"]["open"], "exact")} of the words and
  {share(alone["chinese"]["open"], "exact")} of the strings right (gold {alone["english"]["open"]["gold_exact"]:.3f} and
  {alone["chinese"]["open"]["gold_exact"]:.3f}). {alarms(folder)}
- **The gold engine**, on which nothing is trained, sees these shares of the gain in exact spelling: {confirmed}.
  Of clean renderings of the full captions it reads {rendered["english"]["gold_exact"]:.3f} of the words and
  {rendered["chinese"]["gold_exact"]:.3f} of the strings, the reward's engine {rendered["english"]["exact"]:.3f} and
  {rendered["chinese"]["exact"]:.3f}: no model can be read better.
- **Variety** is the mean distance of two images of an open prompt. What people like is less than everything.
- One seed. Intervals are over prompts, not over runs.
"""
    write_bytes(folder / "notes.md", text.strip().encode())
