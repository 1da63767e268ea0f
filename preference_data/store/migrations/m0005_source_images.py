"""A prompt may ask to edit images: it names them by the hashes of their pixels, in order.

Prompts of before ask to edit none: theirs is NULL.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Column

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column(
        "prompt",
        Column("sources", JSON(none_as_null=True), comment="pictures that it asks to edit, by sha256; NULL = none"),
    )
