"""The transactional store: prompts, images, scores, campaigns and answers in one database and one folder of images.

SQLite with a write-ahead log by default (one file, nothing to install), PostgreSQL for a team:

    Store.open(Path("annotations"))                              annotations/store.sqlite, annotations/pictures/
    Store.open("postgresql://me@host/db", pictures=Path("p"))

Opening brings the schema up to date. Every change is one transaction, `store.write(work)`, which is tried again when
the database asks for it; what it raises undoes all of it. On SQLite a write begins with BEGIN IMMEDIATE, and a process
writes one transaction at a time, so that nobody waits in a crowd for the file's lock.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from preference_data.store import schema
from preference_data.store.image_store import ImageFolder

T = TypeVar("T")

ATTEMPTS = 5
"""Times a transaction is tried when the database says that it met another one."""

BUSY_MS = 60_000
"""How long SQLite waits for another process's transaction."""

RETRY_STATES = ("40001", "40P01")
"""PostgreSQL: serialization failure, deadlock."""

OPERATOR = "operator"
"""The account of whoever runs commands on the machine that holds the store; nobody can log in as it."""
REMEDIES = {
    "SQLITE_FULL": "free space on its disk",
    "SQLITE_IOERR": "look whether its disk is full, gone or failing",
    "SQLITE_READONLY": "let its file and folder be written, or name another with --store",
    "SQLITE_CANTOPEN": "let its folder be written, or name another with --store",
    "SQLITE_BUSY": "another process has kept it locked; end that one, or try again",
    "SQLITE_CORRUPT": "its file is damaged; put back a copy of it",
    "SQLITE_NOTADB": "its file is no database; put back a copy of it, or name another with --store",
}
"""What to do, by how the name of SQLite's error begins."""


class Store:
    """An open database with its folder of images. `clock` gives seconds since 1970; tests set it, and `random`."""

    def __init__(
        self, engine: Engine, images: ImageFolder, clock: Callable[[], float] = time.time,
        chance: random.Random | None = None,
    ) -> None:  # fmt: skip
        self.engine = engine
        self.images = images
        self.clock = clock
        self.chance = chance or secrets.SystemRandom()
        self._writing: contextlib.AbstractContextManager = (
            threading.Lock() if engine.dialect.name == "sqlite" else contextlib.nullcontext()
        )
        # PostgreSQL would else show every statement of a transaction another moment; SQLite shows one anyhow
        self._reading: dict[str, Any] = (
            {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            if engine.dialect.name == "postgresql"
            else {}
        )

    @classmethod
    def open(
        cls, path: str | Path, images: Path | None = None, clock: Callable[[], float] = time.time,
        chance: random.Random | None = None,
    ) -> Store:  # fmt: skip
        """The store at a folder or at a postgresql:// URL, made when it is not there, its schema brought up to date.

        Raises ValueError for another kind of database, a URL without a folder for the images, or a store that a newer
        version of this program made.
        """
        from preference_data.store.migrations import upgrade

        if "://" not in str(path):
            folder = Path(path)
            folder.mkdir(parents=True, exist_ok=True)
            store = cls(connect(URL.create("sqlite", database=str(folder / "store.sqlite"))),
                        ImageFolder(images or folder / "pictures"), clock, chance)  # fmt: skip
        else:
            url = make_url(str(path))
            if url.get_backend_name() != "postgresql":
                raise ValueError(f"{url.get_backend_name()} is not a database for the store; name a folder (SQLite) or "
                                 "postgresql://user@host/database")  # fmt: skip
            if images is None:
                raise ValueError(f"the store {url.render_as_string()} needs a folder for its images; name one")
            store = cls(connect(url.set(drivername="postgresql+psycopg")), ImageFolder(images), clock, chance)
        store.write(upgrade)
        store.write(lambda db: _operator(db, store.clock()))
        return store

    def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, done as one transaction: all of it or nothing.

        Raises OSError with the remedy where the database cannot be written, as on a full disk.
        """
        for attempt in range(ATTEMPTS):
            try:
                with self._writing, self.engine.connect().execution_options(write=True) as db, db.begin():
                    return work(db)
            except (OperationalError, DBAPIError, sqlite3.Error) as error:
                if attempt + 1 == ATTEMPTS or not _again(error):
                    if remedy := _remedy(error):
                        raise OSError(
                            f"the store {self.engine.url.render_as_string()} cannot be written, and nothing of this "
                            f"was kept ({getattr(error, 'orig', error)}): {remedy}"
                        ) from error
                    raise
                time.sleep(0.01 * 2**attempt * random.random())
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one moment of the database and changes nothing."""
        with self.engine.connect().execution_options(**self._reading) as db, db.begin():
            yield db

    def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, given what `reading` sees."""
        with self.reading() as db:
            return work(db)

    @property
    def operator(self) -> int:
        """The account id of whoever runs commands on this machine."""
        return int(self.read(lambda db: db.execute(
            select(schema.account.c.id).where(schema.account.c.name == OPERATOR)).scalar_one()))  # fmt: skip

    def close(self) -> None:
        """Closes the connections to the database."""
        self.engine.dispose()


def exists(path: str | Path) -> bool:
    """Whether a store was made there, without making one. Raises ValueError as `Store.open` for another database."""
    if "://" not in str(path):
        return (Path(path) / "store.sqlite").is_file()
    url = make_url(str(path))
    if url.get_backend_name() != "postgresql":
        raise ValueError(f"{url.get_backend_name()} is not a database for the store; name a folder (SQLite) or "
                         "postgresql://user@host/database")  # fmt: skip
    engine = create_engine(url.set(drivername="postgresql+psycopg"))
    try:
        return inspect(engine).has_table("alembic_version")
    finally:
        engine.dispose()


def connect(url: URL) -> Engine:
    """An engine whose transactions begin as the store needs them."""
    if url.get_backend_name() == "postgresql":
        return create_engine(url, pool_size=8, max_overflow=24, pool_pre_ping=True)
    engine = create_engine(url, pool_size=16, max_overflow=64, connect_args={"timeout": BUSY_MS / 1000})

    @event.listens_for(engine, "connect")
    def _(raw: Any, record: Any) -> None:
        raw.isolation_level = None  # the driver then begins nothing by itself; `begin` below does
        for pragma in ("busy_timeout = 60000", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _(db: Connection) -> None:
        # a transaction that reads first and writes later would fail when somebody wrote in between
        db.exec_driver_sql("BEGIN IMMEDIATE" if db.get_execution_options().get("write") else "BEGIN")

    return engine


def insert_new(db: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows that are not there yet, by any unique key."""
    if rows:
        make = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
        db.execute(make(table).on_conflict_do_nothing(), list(rows))


def insert_if_new(db: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row unless it is there, by any unique key; whether it was inserted."""
    make = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
    # what is returned, and not the row count, which PostgreSQL's driver leaves at -1 here
    requested = make(table).values(**row).on_conflict_do_nothing().returning(*table.primary_key)
    return db.execute(requested).first() is not None


def insert(db: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Insert a row; its id."""
    made = db.execute(table.insert().values(**values)).inserted_primary_key
    assert made is not None
    return int(made[0])


def record(
    db: Connection, at: float, account: int, action: str, subject: str,
    old: Mapping[str, Any] | None = None, new: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Add an audit event: who did what to what. `old` and `new` are JSON objects."""
    db.execute(
        schema.audit.insert().values(at=at, account_id=account, action=action, subject=subject, old=old, new=new)
    )


def _operator(db: Connection, at: float) -> None:
    """The operator's account, once; together with the key that hashes names in the log of failed logins."""
    insert_new(db, schema.account, [
        {"name": OPERATOR, "pseudonym": f"p{secrets.token_hex(5)}", "role": "admin", "language": "en", "active": True,
         "session": 0, "created_at": at}
    ])  # fmt: skip
    insert_new(db, schema.secret, [{"name": "names", "value": secrets.token_hex(32)}])


def _again(error: DBAPIError | sqlite3.Error) -> bool:
    """Whether the transaction only met another one."""
    cause = getattr(error, "orig", error)
    return getattr(cause, "sqlstate", None) in RETRY_STATES or "database is locked" in str(cause)


def _remedy(error: DBAPIError | sqlite3.Error) -> str:
    """What to do about an error of SQLite that comes from its file; "" for one that comes from a statement."""
    name = getattr(getattr(error, "orig", error), "sqlite_errorname", None) or ""
    return next((remedy for kind, remedy in REMEDIES.items() if name.startswith(kind)), "")
