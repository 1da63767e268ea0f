"""A campaign from a form: what to compare, what to ask, of how many people."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import streamlit as st

from dashboards.annotate import place, who
from dashboards.annotate.words import say
from dashboards.annotate.words_lead import lead
from experiments import drawn as drawn_pictures
from preference_data import campaigns, gathering
from preference_data.gathering import Drawn
from preference_data.roles import LEAD
from preference_data.settings import AXES, EVIDENCE, POLICIES, CampaignSettings

SOURCES = ("from_run", "from_folders", "from_uploads", "from_disagreement")
UNIFORM_SHARE = 0.2
"""Of work is drawn uniformly whatever policy is chosen, so that estimates can be made unbiased."""
MAX_UPLOADS = 2000


def page() -> None:
    """The form."""
    person, language = who.require(LEAD), who.language()
    st.subheader(lead(language, "create"))
    source = st.segmented_control(lead(language, "source"), SOURCES, default="from_run", required=True,
                                  format_func=lambda s: lead(language, s))  # fmt: skip
    with st.form("campaign"):
        name = st.text_input(lead(language, "name"), max_chars=120)
        given = _what(source, language)
        settings = _settings(source, language)
        sent = st.form_submit_button(lead(language, "make"), type="primary")
    if not sent:
        return
    try:
        count = make(person.id, name, source, given, settings())
    except (ValueError, FileNotFoundError) as error:
        st.error(str(error), icon=":material/error:")
        return
    st.success(lead(language, "made").format(name=name, n=count), icon=":material/check_circle:")


def make(actor: int, name: str, source: str, given: dict[str, Any], settings: CampaignSettings) -> int:
    """Gather the pictures, then make, fill and open the campaign; how many items it has.

    Raises ValueError or FileNotFoundError, before anything is made, when the pictures cannot be gathered.
    """
    store = place.store()
    texts = gathering.prompt_texts(*given["prompts"]) if given["prompts"] else None
    with tempfile.TemporaryDirectory() as scratch:
        found = uploaded(given["uploads"], Path(scratch)) if source == "from_uploads" else gather(source, given)
        weights = disagreements(found) if source == "from_disagreement" else None
        items, read = gathering.items(store.pictures, found, settings.kind, texts, given["limit"], 0, weights)
    made = campaigns.create(store, actor, name, settings)
    campaigns.add_items(store, actor, made.id, items, source=f"{source}: {given['place'] or 'uploads'}"[:250])
    gathering.add_readings(store, actor, read)
    campaigns.set_state(store, actor, made.id, "open")
    return len(items)


def gather(source: str, given: dict[str, Any]) -> list[Drawn]:
    """Pictures of a run or of folders, only below the folder that this server was told to look in."""
    places = [allowed(line.strip()) for line in given["place"].splitlines() if line.strip()]
    if not places:
        raise ValueError("name a folder")
    if source == "from_folders":
        return [one for folder in places for one in gathering.folder(folder)]
    return [one for folder in places for one in drawn_pictures.of_run(folder)]


def allowed(text: str) -> Path:
    """A folder below the runs folder. Raises ValueError for any other: a form must not open every file of a machine."""
    root = place.here().runs.resolve()
    found = (root / text).resolve() if not Path(text).is_absolute() else Path(text).resolve()
    if not found.is_relative_to(root):
        raise ValueError(f"{text} lies outside of {root.name}/, the folder that this server was told to look in")
    if not found.is_dir():
        raise FileNotFoundError(f"there is no folder {text} in {root.name}/")
    return found


def uploaded(files: Sequence[tuple[str, Sequence[Any]]], scratch: Path) -> list[Drawn]:
    """Pictures by maker from uploads, each maker a folder with captions. Names are reduced to their last part."""
    found = []
    for i, (maker, uploads) in enumerate(files):
        if not maker.strip() or not uploads:
            raise ValueError("name both makers and upload pictures of each")
        if len(uploads) > MAX_UPLOADS:
            raise ValueError(f"{len(uploads)} files at once; at most {MAX_UPLOADS} are taken")
        folder = scratch / str(i)
        folder.mkdir()
        for upload in uploads:
            (folder / (PurePath(upload.name).name or "unnamed")).write_bytes(upload.getvalue())
        found += gathering.folder(folder, maker.strip())
    return found


def disagreements(found: Sequence[Drawn]) -> dict[tuple[str, str, str], float]:
    """How far two readers are apart about each pair: who of the two reads it better, by one and by the other.

    With q(picture, reader) the similarity of what was read to what was asked, |(q_a1 - q_b1) - (q_a2 - q_b2)|.
    """
    import difflib

    from preference_data.records import quoted_spans

    def qualities(one: Drawn) -> tuple[float, ...]:
        asked = " ".join(quoted_spans(one.prompt))
        return tuple(difflib.SequenceMatcher(None, asked, text or "").ratio() for _, text in one.readings)

    by_prompt: dict[str, list[Drawn]] = {}
    for one in found:
        by_prompt.setdefault(one.prompt, []).append(one)
    weights = {}
    for prompt, group in by_prompt.items():
        for a in group:
            for b in group:
                qa, qb = qualities(a), qualities(b)
                if a.label < b.label and len(qa) > 1 and len(qb) > 1:
                    weights[prompt, a.label, b.label] = abs((qa[0] - qb[0]) - (qa[1] - qb[1]))
    return weights


def _what(source: str, language: str) -> dict[str, Any]:
    given: dict[str, Any] = {"place": "", "uploads": [], "prompts": None}
    if source == "from_uploads":
        st.caption(lead(language, "uploads_help"))
        for column, side in zip(st.columns(2), "AB", strict=True):
            maker = column.text_input(f"{lead(language, 'uploads_maker')} {side}", max_chars=120, key=f"maker_{side}")
            files = column.file_uploader(f"{lead(language, 'from_uploads')} {side}", accept_multiple_files=True,
                                         type=["png", "jpg", "jpeg", "webp", "txt", "jsonl"], key=f"files_{side}")  # fmt: skip
            given["uploads"].append((maker, files))
    elif source == "from_folders":
        given["place"] = st.text_area(lead(language, "folders"), key="folders")
    else:
        given["place"] = st.text_input(lead(language, "run_folder"), "quickstart", key="run_folder")
    prompts = st.file_uploader(lead(language, "prompt_file"), type=["txt", "jsonl"], key="prompt_file")
    if prompts is not None:
        given["prompts"] = (prompts.getvalue().decode("utf-8", "replace"), prompts.name)
    given["limit"] = st.number_input(lead(language, "limit"), 0, 1_000_000, 200, key="limit")
    return given


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
    repeat = c.number_input(lead(language, "repeat_share"), 0.0, 0.5, 0.05, 0.01)
    axes = st.pills(lead(language, "ask_axes"), AXES, selection_mode="multi", default=["text"],
                    format_func=lambda x: say(language, f"axis_{x}"))  # fmt: skip
    texts = {"en": st.text_area(lead(language, "guidelines_en")), "zh": st.text_area(lead(language, "guidelines_zh"))}
    shares = {"uniform": 1.0} if policy == "uniform" else {"uniform": UNIFORM_SHARE, policy: 1 - UNIFORM_SHARE}
    return lambda: CampaignSettings(
        kind, int(overlap), int(cap), policy=shares, gold_share=0.0, attention_share=0.0, repeat_share=repeat,
        axes=tuple(axes), evidence=shown, guidelines={k: v for k, v in texts.items() if v.strip()},
    )  # fmt: skip
