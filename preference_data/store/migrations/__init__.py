"""Brings a store's schema up to date, inside one transaction.

An empty database gets the tables of preference_data/store/schema.py and the number of the newest revision. A database
with tables runs the revisions that it lacks: one file each in this folder, run by alembic.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from preference_data.store.schema import metadata

LOCK = 0x676C79
"""PostgreSQL's advisory lock that keeps two processes from migrating at once; SQLite's write lock does it there."""


def upgrade(db: Connection) -> None:
    """Makes the tables or runs the revisions that `db` lacks. Raises ValueError when a newer version made them."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    if db.dialect.name == "postgresql":
        db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("version_locations", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    context = MigrationContext.configure(db)
    at = context.get_current_revision()
    if at is None:
        metadata.create_all(db)
        context.stamp(scripts, "head")
        return
    if at not in known:
        raise ValueError(f"the store has schema {at}, which this version does not know; update the program")
    if at == scripts.get_current_head():
        return

    def steps(revision: Any, context: Any) -> Any:
        return scripts._upgrade_revs("head", revision)

    with EnvironmentContext(config, scripts, fn=steps) as environment:
        environment.configure(connection=db, target_metadata=metadata, transactional_ddl=True)
        environment.run_migrations()
