"""A store with real pictures and a campaign, and pages as a person of it sees them, for the tests of the pages."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboards.annotate import place
from preference_data import accounts, campaigns, facts
from preference_data.campaigns import Item
from preference_data.facts import Line, Reading
from preference_data.records import ImageRef, Prompt, Provenance
from preference_data.settings import CampaignSettings
from preference_data.store import Store

MAIN = str(Path(__file__).parents[2] / "dashboards" / "annotate" / "main.py")
PASSWORD = "correct horse battery"
ROLES = {"ann": "annotator", "bob": "annotator", "judy": "adjudicator", "lea": "researcher", "root": "admin"}
PLAIN = CampaignSettings(overlap=1, cap=2, gold_share=0.0, repeat_share=0.0, attention_share=0.0, axes=("text",))
SECRETS = ("secretmodel", "otherbrand", "r3v1s10n", "runs/hidden", "4711", "hiddenfile")
"""Words of the provenance that no payload may hold before the answer."""


def picture(store: Store, number: int, model: str, size: int = 48) -> ImageRef:
    """A picture of its own colours, whose file carried metadata that would give it away."""
    pixels = np.random.default_rng(number).integers(0, 255, (size, size, 3), dtype=np.uint8)
    from PIL.PngImagePlugin import PngInfo

    told = PngInfo()
    told.add_text("parameters", f"{model} seed {4711 + number}")
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", pnginfo=told)
    sha, width, height = store.pictures.add(content.getvalue())
    made = Provenance(model, "r3v1s10n", 4711, 8, 1.0, "runs/hidden", number)
    return ImageRef(sha, f"runs/hidden/hiddenfile_{number}.png", width, height, made)


def fill(store: Store, prompts: list[str], settings: CampaignSettings = PLAIN, name: str = "words", size: int = 48,
         per_item: int = 2) -> int:  # fmt: skip
    """An open campaign of these prompts with readings of its pictures; its id."""
    items, read = [], []
    for i, text in enumerate(prompts):
        refs = tuple(
            picture(store, 10 * i + j, ("secretmodel", "otherbrand")[j % 2] + ("" if j < 2 else str(j)), size)
            for j in range(per_item)
        )
        items.append(Item(Prompt.from_text(text), refs))
        read += [Reading(r.sha256, "ocr", "WORD", (Line("WORD", (0, 0, 20, 10), 0.9),)) for r in refs]
    made = campaigns.create(store, store.operator, name, settings)
    campaigns.add_items(store, store.operator, made.id, items, source="test")
    campaigns.set_state(store, store.operator, made.id, "open")
    store.write(lambda db: facts.add_readings(db, read, 0.0))
    return made.id


def staffed(folder: Path, passwords: bool = False) -> Store:
    """A store with one account for every role, served from here on. Passwords cost a tenth of a second each."""
    store = Store.open(folder, chance=random.Random(0))
    for name, role in ROLES.items():
        if passwords:
            accounts.create(store, store.operator, name, role, PASSWORD)
        else:
            accounts.create(store, store.operator, name, role, identity=("test", name))
    place.use(store, runs=folder / "runs")
    return store


def open_pages(store: Store, name: str, language: str = "en", page: str = "") -> Any:
    """The pages as that person opens them, already signed in; `page` is the one of that address."""
    who = store.read(lambda db: accounts.by_name(db, name))
    at = AppTest.from_file(MAIN, default_timeout=600)
    at.session_state["who"] = (who.id, who.session)
    at.session_state["language"] = language
    at.run()
    return at


def button(at: Any, start: str) -> Any:
    """The button whose key begins so."""
    return next(b for b in at.button if b.key.startswith(start))


def texts(at: Any) -> list[str]:
    """Everything that is shown as plain text."""
    return [t.value for t in at.text]
