"""Transactions of the store: a read is one moment, a write is all or nothing, on both databases."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import Connection, func, select

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


def test_inserting_says_whether_it_did(store: Store) -> None:
    row = {"name": "k", "value": "v"}
    said = [store.write(lambda db: insert_if_new(db, schema.secret, row)) for _ in range(2)]
    assert said == [True, False]
