"""What an import says stays with it: the votes behind an imported outcome, and where its images are said to be from.

The votes of HPDv3 had become one vote, and an image that was known already had kept the provenance of its first file.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Column

revision = "0003"
down_revision = "0002"
VOTES = "[first, second, neither], canonical: votes that were counted elsewhere; NULL = one answer"
MADE = "provenance, where this campaign was told another one than the picture's record has"


def upgrade() -> None:
    op.add_column("assignment", Column("votes", JSON(none_as_null=True), comment=VOTES))
    op.add_column("item_picture", Column("made", JSON(none_as_null=True), comment=MADE))
