"""The first schema: where the revisions begin. A new store is made from preference_data/store/schema.py instead."""

from __future__ import annotations

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Changes nothing: whoever stands at no revision has no tables yet."""
