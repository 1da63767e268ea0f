"""A campaign from a form: what to compare, what to ask, of how many people."""

from __future__ import annotations

import math
import random
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import streamlit as st

from dashboards.annotate import current_user, served_store
from dashboards.annotate.lead.lead_words import lead
from dashboards.annotate.translation import translated
from dashboards.annotate.words import say
from preference_data.campaign import campaigns, checks, sources
from preference_data.campaign.campaign_settings import AXES, EVIDENCE, POLICIES, CampaignSettings
from preference_data.campaign.campaigns import Item
from preference_data.captions import CAPTIONS
from preference_data.line_files import json_lines, text_lines
from preference_data.prompts import PromptSet
from preference_data.sentences import Sentence
from preference_data.store.roles import LEAD

SOURCES = ("from_run", "from_folders", "from_uploads", "from_disagreement")
UNIFORM_SHARE = 0.2
"""Of work is drawn uniformly whatever policy is chosen, so that estimates can be made unbiased."""
UPLOADS = ["png", "jpg", "jpeg", "webp", "txt", "jsonl"]
MAX_UPLOADS = 2000
PER_PROMPT = 10
"""Pairs of one prompt at most."""


def page() -> None:
    """Shows the form that makes a campaign."""
    person, language = current_user.require(LEAD), current_user.language()
    st.subheader(lead(language, "create"))
    source = st.segmented_control(lead(language, "source"), SOURCES, default="from_run", required=True,
                                  format_func=lambda s: lead(language, s))  # fmt: skip
    with st.form("campaign"):
        name = st.text_input(lead(language, "name"), max_chars=120)
        what = _what(source, language)
        settings = _settings(source, language)
        sent = st.form_submit_button(lead(language, "make"), type="primary")
    if not sent:
        return
    try:
        count = make(person.id, name, source, what, settings())
    except (ValueError, FileNotFoundError) as error:
        st.error(translated(language, error), icon=":material/error:")
        return
    st.success(lead(language, "made").format(name=name, n=count), icon=":material/check_circle:")


def make(actor: int, name: str, source: str, form: dict[str, Any], settings: CampaignSettings) -> int:
    """Gather the images, then make, fill and open the campaign; how many items it has, checks left out.

    Raises ValueError or FileNotFoundError, before anything is made, when the images cannot be gathered.
    """
    store = served_store.store()
    with tempfile.TemporaryDirectory() as scratch:
        items = gather(source, form, Path(scratch), settings.kind)
    if form["prompts"]:
        wanted = prompt_texts(*form["prompts"])
        items = [item for item in items if item.prompt.text in wanted]
    if 0 < form["limit"] < len(items):
        items = random.Random(0).sample(items, form["limit"])
    if settings.kind == "best_worst":
        items = all_at_once(items)
    if not items:
        raise ValueError(Sentence("nothing is left to compare; are these the prompts that the images show?"))
    if form.get("gold") and settings.kind != "pair":
        raise ValueError(Sentence("items with a known answer compare two images; leave the file out for more images"))
    known = checks.gold(allowed(form["gold"]), store.images) if form.get("gold") else []
    known += checks.attention(items, store.images, settings.attention_share)
    where = f"{source}: {form['place'] or 'uploads'}"[:250]
    campaigns.create_filled(store, actor, name, settings, [*known, *items], where)
    return len(items)


def gather(source: str, form: dict[str, Any], scratch: Path, kind: str = "pair") -> list[Item]:
    """Pairs from folders and runs below the folder that this server was told to look in, or from uploads.

    Pairs whose images are shown all at once, of kind best_worst, are every two folders' at least: none is left out.
    """
    images = served_store.store().images

    def compared(folders: list[Path]) -> list[Item]:
        every = math.comb(len(folders), 2) if kind == "best_worst" else 0
        return sources.from_folders(folders, images, max(PER_PROMPT, every))

    if source == "from_uploads":
        return compared(uploaded(form["uploads"], scratch))
    indices = [allowed(line.strip()) for _, line in text_lines(form["place"])]
    if not indices:
        raise ValueError(Sentence("name a folder or a file"))
    if source == "from_disagreement":
        return [item for file in indices for item in sources.from_disagreements(file, images)]
    if source == "from_run":
        indices = [stage for run in indices for stage in stages(run)]
    return compared(indices)


def stages(run: Path) -> list[Path]:
    """The folders of a run that kept images: its stages, or itself. Raises ValueError when there are none."""
    folders = [folder for folder in sorted(run.iterdir()) if sources.is_run(folder)] if run.is_dir() else []
    if sources.is_run(run):
        folders.append(run)
    if not folders:
        raise ValueError(Sentence("{run} kept no samples; is it the folder of a run?", {"run": run.name}))
    return folders


def all_at_once(items: Sequence[Item]) -> list[Item]:
    """One item a prompt with all its images, out of pairs."""
    by_prompt: dict[str, dict[str, tuple[Any, str]]] = {}
    for item in items:
        for image, label in zip(item.images, item.labels, strict=True):
            by_prompt.setdefault(item.prompt.id, {})[image.sha256] = (image, label)
    prompts = {item.prompt.id: item.prompt for item in items}
    return [
        Item(prompts[key], tuple(p for p, _ in there.values()), labels=tuple(name for _, name in there.values()))
        for key, there in by_prompt.items()
    ]


def prompt_texts(content: bytes, name: str) -> set[str]:
    """The prompts of a file: one a line, or JSON objects in NAME.jsonl. Raises ValueError naming the line."""
    return {p.text for p in PromptSet.decode(content, name)}


def allowed(text: str) -> Path:
    """A path below the runs folder. Raises ValueError for any other: a form must not open every file of a machine."""
    root = served_store.here().runs.resolve()
    path = (root / text).resolve() if not Path(text).is_absolute() else Path(text).resolve()
    if not path.is_relative_to(root):
        raise ValueError(Sentence("{text} lies outside of {root}/, the folder that this server was told to look in",
                                  {"text": text, "root": root.name}))  # fmt: skip
    if not path.exists():
        raise FileNotFoundError(Sentence("there is no {text} in {root}/", {"text": text, "root": root.name}))
    return path


def uploaded(files: Sequence[tuple[str, Sequence[Any]]], scratch: Path) -> list[Path]:
    """A folder for each maker with what was uploaded. Names are reduced to their last part.

    Raises ValueError without makers or images, for too many files, and for captions that point out of the folder.
    """
    results = []
    for maker, uploads in files:
        name = re.sub(r"[^\w .@-]", "_", maker.strip()).strip(". ")
        if not name or not uploads:
            raise ValueError(Sentence("name both makers and upload images of each"))
        if len(uploads) > MAX_UPLOADS:
            raise ValueError(Sentence("{n} files at once; at most {most} are taken",
                                      {"n": len(uploads), "most": MAX_UPLOADS}))  # fmt: skip
        folder = scratch / name
        if folder.exists():
            raise ValueError(Sentence("both makers are called {name!r}", {"name": name}))
        folder.mkdir()
        for upload in uploads:
            plain = PurePath(upload.name.replace("\\", "/")).name or "unnamed"
            content = upload.getvalue()
            if plain == CAPTIONS:
                _check_captions(content)
            (folder / plain).write_bytes(content)
        results.append(folder)
    return results


def _check_captions(content: bytes) -> None:
    for number, row in json_lines(content, CAPTIONS):
        if not isinstance(row, dict):
            continue  # what is missing is told when the folder is read
        sources = row.get("sources")
        for name in (row.get("picture"), *(sources if isinstance(sources, list) else [sources])):
            if isinstance(name, str) and PurePath(name).name != name:
                raise ValueError(f"{CAPTIONS} line {number}: {name!r} is not a plain file name; leave folders out")


def _what(source: str, language: str) -> dict[str, Any]:
    form: dict[str, Any] = {"place": "", "uploads": [], "prompts": None}
    if source == "from_uploads":
        st.caption(lead(language, "uploads_help"))
        for column, side in zip(st.columns(2), "AB", strict=True):
            maker = column.text_input(f"{lead(language, 'uploads_maker')} {side}", max_chars=120, key=f"maker_{side}")
            files = column.file_uploader(f"{lead(language, 'from_uploads')} {side}", accept_multiple_files=True,
                                         type=UPLOADS, key=f"files_{side}")  # fmt: skip
            form["uploads"].append((maker, files))
    elif source == "from_folders":
        form["place"] = st.text_area(lead(language, "folders"), key="folders")
    elif source == "from_disagreement":
        form["place"] = st.text_input(lead(language, "disagreement_file"), key="disagreement_file")
    else:
        form["place"] = st.text_input(lead(language, "run_folder"), "quickstart", key="run_folder")
    prompts = st.file_uploader(lead(language, "prompt_file"), type=["txt", "jsonl"], key="prompt_file")
    if prompts is not None:
        form["prompts"] = (prompts.getvalue(), prompts.name)
    form["gold"] = st.text_input(lead(language, "gold_file"), key="gold_file").strip()
    form["limit"] = st.number_input(lead(language, "limit"), 0, 1_000_000, 200, key="limit")
    return form


def _settings(source: str, language: str) -> Any:
    """A function that makes the settings, so that a mistake in them is reported when the form is sent."""
    a, b, c = st.columns(3)
    kind = a.selectbox(lead(language, "kind"), ("pair", "best_worst"), format_func=lambda k: lead(language, k))
    overlap = b.number_input(lead(language, "overlap"), 1, 50, 2)
    cap = c.number_input(lead(language, "cap"), 1, 50, 3)
    policies = POLICIES if source == "from_disagreement" else POLICIES[:3]
    policy = a.selectbox(lead(language, "policy"), policies, len(policies) - 1 if source == "from_disagreement" else 0,
                         format_func=lambda p: lead(language, p))  # fmt: skip
    shown = b.selectbox(lead(language, "show_evidence"), EVIDENCE, format_func=lambda e: lead(language, e))
    repeat = c.number_input(lead(language, "repeat_share"), 0.0, 0.3, 0.05, 0.01)
    gold = a.number_input(lead(language, "gold_share"), 0.0, 0.3, 0.05, 0.01)
    attention = b.number_input(lead(language, "attention_share"), 0.0, 0.3, 0.02, 0.01)
    axes = st.pills(lead(language, "ask_axes"), AXES, selection_mode="multi", default=["text"],
                    format_func=lambda x: say(language, f"axis_{x}"))  # fmt: skip
    texts = {"en": st.text_area(lead(language, "guidelines_en")), "zh": st.text_area(lead(language, "guidelines_zh"))}
    shares = {"uniform": 1.0} if policy == "uniform" else {"uniform": UNIFORM_SHARE, policy: 1 - UNIFORM_SHARE}
    return lambda: CampaignSettings(
        kind, int(overlap), int(cap), policy=shares, gold_share=gold, attention_share=attention,
        repeat_share=repeat, axes=tuple(axes), evidence=shown, guidelines={k: v for k, v in texts.items() if v.strip()},
    )  # fmt: skip
