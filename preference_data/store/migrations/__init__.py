"""Brings a store's schema up to date: one file a revision in this folder, run by alembic inside one transaction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from preference_data.store.schema import metadata

LOCK = 0x676C79
"""PostgreSQL's advisory lock that keeps two processes from migrating at once; SQLite's write lock does it there."""


def upgrade(db: Connection, target: str = "head") -> None:
    """Run the revisions that `db` lacks. Raises ValueError when a newer version of this program made it."""
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
    at = MigrationContext.configure(db).get_current_revision()
    if at is not None and at not in known:
        raise ValueError(f"the store has schema {at}, which this version does not know; update the program")
    if target == "head" and at == scripts.get_current_head():
        return

    def steps(revision: Any, context: Any) -> Any:
        return scripts._upgrade_revs(target, revision)

    with EnvironmentContext(config, scripts, fn=steps) as environment:
        environment.configure(connection=db, target_metadata=metadata, transactional_ddl=True)
        environment.run_migrations()
