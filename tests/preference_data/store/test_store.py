"""Transactions of the store: a read is one moment, a write is all or nothing, on both databases."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import OperationalError

from preference_data.store import accounts, schema
from preference_data.store.store import Store, insert_if_new, record
from tests.fixtures.desk import person


def test_a_read_sees_one_moment(store: Store) -> None:
    def work(db: Connection) -> tuple[int, int]:
        asked = select(func.count()).select_from(schema.account)
        before = db.execute(asked).scalar_one()
        other = threading.Thread(target=person, args=(store, "ada"))  # commits while this one reads
        other.start()
        other.join()
        return before, db.execute(asked).scalar_one()

    assert store.read(work) == (1, 1)
    assert store.read(lambda db: accounts.by_name(db, "ada")).role == "annotator"


def test_a_write_is_all_or_nothing(store: Store) -> None:
    def work(db: Connection) -> None:
        record(db, 1.0, 1, "test", "nothing")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        store.write(work)
    asked = select(func.count()).where(schema.audit.c.action == "test")
    assert store.read(lambda db: db.execute(asked).scalar_one()) == 0


def test_a_full_disk_and_a_damaged_file_are_said_with_the_remedy(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "one")

    def fill(db: Connection) -> None:
        db.exec_driver_sql("PRAGMA max_page_count = 1")
        db.exec_driver_sql("CREATE TABLE large AS SELECT zeroblob(1000000) AS content")

    with pytest.raises(OSError, match=r"store\.sqlite cannot be written, and nothing .*full\): free space"):
        store.write(fill)
    with pytest.raises(OperationalError, match="no such table"):  # a fault of ours stays one
        store.write(lambda db: db.exec_driver_sql("DELETE FROM no_table"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "store.sqlite").write_bytes(b"no database " * 100)
    with pytest.raises(OSError, match="is no database; put back a copy"):
        Store.open(tmp_path / "other")


def test_inserting_says_whether_it_did(store: Store) -> None:
    row = {"name": "k", "value": "v"}
    said = [store.write(lambda db: insert_if_new(db, schema.secret, row)) for _ in range(2)]
    assert said == [True, False]
