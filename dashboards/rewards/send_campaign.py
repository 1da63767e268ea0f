"""Disagreements become a campaign: the images go into the store, the pairs into a blind campaign that starts at
once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dashboards.rewards.comparison_rows import Disagreement, file_of
from preference_data.campaign import campaigns
from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.campaigns import Item
from preference_data.records import ImageRef
from preference_data.store.image_store import keep_sources
from preference_data.store.store import Store

SETTINGS = CampaignSettings(policy={"uniform": 0.3, "reward_disagreement": 0.7}, gold_share=0.0, attention_share=0.0)
"""Pairs on which rewards are furthest apart come first, with a uniform share so that estimates stay unbiased."""


def send(store: Store, actor: int, name: str, rows: Sequence[Disagreement], folder: Path) -> tuple[int, bool]:
    """(pairs added, made anew): put the pairs into the campaign of that name, which is made and opened when there is
    none.

    Raises ValueError without a pair, when an image is missing, or when it is not the one that the report compared.
    """
    if not rows:
        raise ValueError("no pair is chosen; choose at least one")
    items = [
        Item(
            keep_sources(row.prompt.located(folder), store.images),
            (_stored(store, row.left, folder), _stored(store, row.right, folder)),
            disagreement=row.distance,
        )
        for row in rows
    ]
    there = {c.name for c in campaigns.listed(store, actor)}
    if name not in there:
        return campaigns.create_filled(store, actor, name, SETTINGS, items, "reward comparison")[1], True
    added = campaigns.add_items(store, actor, name, items, source="reward comparison")
    campaigns.set_state(store, actor, name, "open")
    return added, False


def _stored(store: Store, image: ImageRef, folder: Path) -> ImageRef:
    """The image's record, its file copied into the store."""
    path = file_of(folder, image)
    if path is None:
        raise ValueError(
            f"the image {image.sha256[:12]} of the report is not below {folder}; name the folder that it was made in"
        )
    sha256, width, height = store.images.add(path.read_bytes(), path.name)
    if sha256 != image.sha256:
        raise ValueError(f"{path} has changed since the rewards were compared; compare again")
    return replace(image, width=width, height=height)
