"""The schema grows by revisions: what they make is what the models say, and the first of them never changes."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, insert, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.schema import CreateIndex, CreateTable

from preference_data.store import schema
from preference_data.store.migrations import upgrade
from preference_data.store.store import Store, connect
from tests.preference_data.store import first_schema

FIRST = {"sqlite": "f2d443a520c9f21c", "postgresql": "717d41db7d317ac8"}


def engine(place: str) -> Engine:
    if "://" in place:
        return connect(make_url(place).set(drivername="postgresql+psycopg"))
    Path(place).mkdir(parents=True, exist_ok=True)
    return connect(URL.create("sqlite", database=f"{place}/store.sqlite"))


def write(database: Engine, work: Any) -> Any:
    with database.connect().execution_options(write=True) as db, db.begin():
        return work(db)


def make_first(db: Connection) -> None:
    """The tables of revision 0001, as alembic would have left them."""
    first_schema.metadata.create_all(db)
    db.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    db.execute(text("INSERT INTO alembic_version VALUES ('0001')"))


def revision(db: Connection) -> str:
    return str(db.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def described(db: Connection) -> dict[str, Any]:
    """Everything that a database says about its tables, in no order."""
    look, found = inspect(db), {}
    for name in set(look.get_table_names()) - {"alembic_version"}:
        found[name] = {
            "columns": {(c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(name)},
            "key": look.get_pk_constraint(name)["constrained_columns"],
            "unique": {(u["name"], *u["column_names"]) for u in look.get_unique_constraints(name)},
            "foreign": {(f["name"], *f["constrained_columns"], f["referred_table"], *f["referred_columns"])
                        for f in look.get_foreign_keys(name)},
            "checks": {(c["name"], " ".join(c["sqltext"].split())) for c in look.get_check_constraints(name)},
            "indexes": {(i["name"], *i["column_names"], i["unique"],
                         str({k: str(v) for k, v in i["dialect_options"].items() if "where" in k}))
                        for i in look.get_indexes(name)},
        }  # fmt: skip
    return found


def test_what_the_revisions_make_is_what_the_models_say(place: str) -> None:
    database = engine(place)
    write(database, make_first)
    write(database, upgrade)
    migrated, at = write(database, described), write(database, revision)
    write(database, schema.metadata.drop_all)
    write(database, lambda db: db.execute(text("DROP TABLE alembic_version")))
    write(database, upgrade)
    fresh = write(database, described)
    assert write(database, revision) == at
    database.dispose()
    assert set(migrated) == {t.name for t in schema.metadata.sorted_tables}
    for name, table in fresh.items():
        assert migrated[name] == table, name
    assert sum(len(table["checks"]) for table in fresh.values()) > 15  # they are compared at all


def test_a_store_of_the_first_revision_keeps_everything(place: str) -> None:
    database = engine(place)
    write(database, make_first)
    tables = first_schema.metadata.tables
    person = {"id": 7, "name": "ada", "pseudonym": "p1", "role": "researcher", "language": "en", "active": True,
              "session": 0, "created_at": 1.0}  # fmt: skip
    made = {"id": 3, "name": "old", "kind": "pair", "state": "open", "settings": {"overlap": 1, "cap": 1},
            "created_at": 2.0, "created_by": 7}  # fmt: skip
    write(database, lambda db: db.execute(insert(tables["account"]), [person]))
    write(database, lambda db: db.execute(insert(tables["campaign"]), [made]))
    write(database, upgrade)
    write(database, upgrade)  # again, with nothing to do
    row = write(database, lambda db: db.execute(select(schema.campaign)).one())
    assert (row.id, row.name, row.settings, row.created_by, row.rated_claims) == (3, "old", made["settings"], 7, None)
    database.dispose()


def test_a_store_of_a_newer_program_is_left_alone(place: str, tmp_path: Path) -> None:
    Store.open(place, tmp_path / "pictures").close()
    database = engine(place)
    write(database, lambda db: db.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(ValueError, match=r"9999.*update the program"):
        Store.open(place, tmp_path / "pictures")
    database.dispose()


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()], ids=["sqlite", "postgresql"])
def test_the_first_revision_is_frozen(dialect: Any) -> None:
    file = Path(first_schema.__file__)
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    assert not [n for n in nodes if isinstance(n, ast.ImportFrom) and str(n.module).startswith("preference_data")]
    statements = []
    for table in first_schema.metadata.sorted_tables:
        statements.append(CreateTable(table))
        statements += [CreateIndex(index) for index in sorted(table.indexes, key=lambda i: str(i.name))]
    made = "\n".join(str(statement.compile(dialect=dialect)) for statement in statements)
    found = hashlib.sha256(" ".join(made.split()).encode()).hexdigest()[:16]
    # stores hold these tables already: change them with another revision, not here
    assert found == FIRST[dialect.name]
