"""An answer says whether what a machine read had been shown, and an account whether its password was given to it.

Of answers from before nobody knows: theirs is NULL, which is neither yes nor no.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, Double

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column(
        "assignment", Column("read_at", Double, comment="when what a machine read was first sent; NULL = never")
    )
    op.add_column("answer", Column("reading_shown", Boolean, comment="what a machine read had been sent before it"))
    op.add_column("account", Column("one_time", Boolean, comment="its password was given to it, and must be changed"))
