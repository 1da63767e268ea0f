"""A store with people, pictures and a campaign, for tests of the annotation service. Times pass when a test says so."""

from __future__ import annotations

import random
from pathlib import Path

from preference_data import accounts, campaigns
from preference_data.campaigns import Item
from preference_data.records import ImageRef, Prompt, Provenance
from preference_data.settings import CampaignSettings
from preference_data.store import Store

PASSWORD = "correct horse battery"
PLAIN = CampaignSettings(gold_share=0.0, repeat_share=0.0, attention_share=0.0)


class Clock:
    """Seconds that pass by hand."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def picture(number: int, model: str = "nano") -> ImageRef:
    made = Provenance(model=model, revision="r1", seed=number, steps=8, guidance=1.0, run="runs/a", step=number)
    return ImageRef(f"{hash_of(number)}", f"pictures/{number}.png", 96, 32, made)


def hash_of(number: int) -> str:
    return f"{random.Random(number).getrandbits(256):064x}"


def pair_item(
    number: int, kind: str = "work", models: tuple[str, str] = ("old", "new"), disagreement: float = 1.0
) -> Item:
    """Two pictures of prompt `number`, by two models; the first of them is expected where an answer is."""
    pictures = (picture(2 * number, models[0]), picture(2 * number + 1, models[1]))
    expected = None if kind == "work" else pictures[0].sha256
    return Item(Prompt.from_text(f'write "W{number}"'), pictures, kind, expected, disagreement=disagreement)


def person(store: Store, name: str, role: str = "annotator") -> int:
    """A new account; its identity instead of a password, because hashing one takes a tenth of a second."""
    return accounts.create(store, store.operator, name, role, identity=("test", name)).id


def open_store(place: str | Path, pictures: Path, clock: Clock | None = None, seed: int | None = 0) -> Store:
    chance = None if seed is None else random.Random(seed)
    return Store.open(place, pictures, clock or Clock(), chance)


def campaign(store: Store, items: list[Item], settings: CampaignSettings = PLAIN, name: str = "c") -> int:
    """An open campaign with these items; its id."""
    made = campaigns.create(store, store.operator, name, settings)
    campaigns.add_items(store, store.operator, made.id, items, source="test")
    campaigns.set_state(store, store.operator, made.id, "open")
    return made.id
