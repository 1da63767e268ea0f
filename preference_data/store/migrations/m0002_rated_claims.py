"""A campaign remembers when the closeness of its items was last worked out: close ratings had been drawn as uniform."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer

revision = "0002"
down_revision = "0001"
COMMENT = "claims when the closeness of its items was worked out; NULL = never"


def upgrade() -> None:
    op.add_column("campaign", Column("rated_claims", Integer, comment=COMMENT))
