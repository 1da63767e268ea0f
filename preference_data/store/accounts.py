"""Accounts: local ones with argon2id, or identities of an OpenID Connect provider; roles; log-in with a rate limit.

No address is stored anywhere. The log of failed log-ins keeps a keyed hash of the name that was typed, long enough to
count the failures of the last minutes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Row, delete, func, select, update

from preference_data.sentences import Sentence
from preference_data.spelling import unknown
from preference_data.store import schema
from preference_data.store.roles import ADMINISTER, ANNOTATE, Account, Forbidden, authorise, reading, stored_role
from preference_data.store.store import OPERATOR, Store, insert_if_new, insert_new, record

WINDOW = 15 * 60.0
"""Seconds over which failed log-ins are counted."""
MAX_FAILURES = 5
"""Failures for one name in the window, after which it has to wait."""
MAX_FAILURES_ALL = 200
"""Failures for all names together: somebody is guessing names."""
MIN_PASSWORD, MAX_PASSWORD = 10, 256

_hasher = PasswordHasher()
_nobody = _hasher.hash("a password that nobody has")


class TooManyAttempts(Forbidden):
    """Log-in has to wait; the message says how long."""


def create(
    store: Store, actor: int, name: str, role: str, password: str | None = None, language: str = "en",
    identity: tuple[str, str] | None = None, one_time: bool = False,
) -> Account:  # fmt: skip
    """A new account, by an administrator, with a password or with an OIDC `identity` (issuer, subject).

    `one_time`: the password is only for the first log-in, and the pages then ask for another.
    Raises ValueError when the name is taken, the password too short, or there is neither password nor identity.
    """
    role = stored_role(role)
    check_name(name)
    if (password is None) == (identity is None):
        raise ValueError("an account has either a password or an identity of an OIDC provider")
    row = {
        "name": name, "pseudonym": f"p{secrets.token_hex(5)}", "role": role, "language": language, "active": True,
        "session": 0, "created_at": store.clock(), "one_time": one_time,
        "password": None if password is None else hashed(password),
        "issuer": identity[0] if identity else None, "subject": identity[1] if identity else None,
    }  # fmt: skip

    def work(db: Connection) -> Account:
        authorise(db, actor, ADMINISTER)
        if not insert_if_new(db, schema.account, row):
            raise ValueError(Sentence("there is an account {name!r} (or with this identity) already", {"name": name}))
        made = by_name(db, name)
        record(db, store.clock(), actor, "account.create", f"account:{made.id}", new={"role": role})
        return authorise(db, made.id, ANNOTATE)

    return store.write(work)


def check_name(name: str) -> None:
    """Raises ValueError when nobody can be called so."""
    if not name.strip() or len(name) > 120 or not name.isprintable():
        raise ValueError(Sentence("the name {name!r} must have 1 to 120 printable characters", {"name": name}))


def check_new(store: Store, actor: int, name: str) -> None:
    """Raises ValueError when an administrator cannot make an account of that name, before a password is asked for."""
    check_name(name)
    with reading(store, actor, ADMINISTER) as db:
        if db.execute(select(schema.account.c.id).where(schema.account.c.name == name)).first():
            raise ValueError(Sentence("there is an account {name!r} (or with this identity) already", {"name": name}))


def hashed(password: str) -> str:
    """The argon2id hash of a password. Raises ValueError when it is too short or too long."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise ValueError(f"the password has {len(password)} characters; it needs {MIN_PASSWORD} to {MAX_PASSWORD}")
    return _hasher.hash(password)


def log_in(store: Store, name: str, password: str) -> Account:
    """The account of that name and password. Raises Forbidden, in the same words and time whichever is wrong.

    Raises TooManyAttempts after 5 failures for one name, or 200 for all names, within a quarter of an hour.
    """
    mark, now = store.read(lambda db: _mark(db, name)), store.clock()
    store.read(lambda db: _check_rate(db, mark, now))
    row = store.read(lambda db: db.execute(select(schema.account).where(schema.account.c.name == name)).first())
    if not _fits(row, password):
        store.write(lambda db: _failed(db, mark, now))
        raise Forbidden("the name or the password is wrong")
    assert row is not None

    def work(db: Connection) -> Account:
        db.execute(delete(schema.attempt).where(schema.attempt.c.name_hash == mark))
        fresh = {"password": _hasher.hash(password)} if _hasher.check_needs_rehash(row.password) else {}
        db.execute(update(schema.account).where(schema.account.c.id == row.id).values(seen_at=now, **fresh))
        return authorise(db, row.id, ANNOTATE)

    return store.write(work)


def log_in_oidc(
    store: Store, issuer: str, subject: str, name: str, language: str = "en", new_role: str | None = None
) -> Account:
    """The account of an identity that an OIDC provider vouched for (`st.user`: iss, sub).

    A new identity gets an account with `new_role`, or none: then it raises Forbidden, and an administrator has to make
    the account. Raises ValueError without issuer or subject.
    """
    if not issuer or not subject:
        raise ValueError("an OIDC identity needs its issuer (iss) and subject (sub)")
    if new_role not in (None, "annotator"):
        raise ValueError(f"a new identity becomes an annotator or nothing, not {new_role!r}; raise its role afterwards")
    table = schema.account

    def work(db: Connection) -> Account:
        person = (table.c.issuer == issuer, table.c.subject == subject)
        row = db.execute(select(table).where(*person)).first()
        if row is None:
            if new_role is None:
                raise Forbidden("no account belongs to this log-in; ask an administrator for one")
            insert_new(db, table, [{
                "name": _free_name(db, name or subject), "pseudonym": f"p{secrets.token_hex(5)}", "role": new_role,
                "language": language, "active": True, "session": 0, "created_at": store.clock(), "issuer": issuer,
                "subject": subject,
            }])  # fmt: skip
            row = db.execute(select(table).where(*person)).one()
            record(db, store.clock(), row.id, "account.create", f"account:{row.id}", new={"role": new_role})
        db.execute(update(table).where(table.c.id == row.id).values(seen_at=store.clock()))
        return authorise(db, row.id, ANNOTATE)

    return store.write(work)


def current(store: Store, account: int, session: int) -> Account:
    """Whoever a page believes is logged in, looked up anew. Raises Forbidden when the session was ended."""
    with store.reading() as db:
        account_row = authorise(db, account, ANNOTATE)
        if account_row.session != session:
            raise Forbidden("this session was ended; log in again")
        return account_row


def listed(store: Store, actor: int) -> list[Account]:
    """All accounts that were not deleted, closed ones too, for an administrator; the operator's is left out."""
    with reading(store, actor, ADMINISTER) as db:
        rows = db.execute(
            select(schema.account).where(schema.account.c.name.is_not(None)).order_by(schema.account.c.id)
        )
        return [
            Account(r.id, r.name, r.role, r.pseudonym, r.language, r.session, r.active)
            for r in rows
            if r.name != OPERATOR
        ]


def change(
    store: Store, actor: int, name: str, role: str | None = None, password: str | None = None,
    active: bool | None = None, language: str | None = None, one_time: bool = False,
) -> None:  # fmt: skip
    """Change an account, by an administrator, and end its sessions when its role, password or activity changed.

    Anybody may change their own password and language. A password that was `one_time` must become another one, or
    ValueError is raised.
    """
    role = None if role is None else stored_role(role)
    values = {"role": role, "active": active, "language": language,
              "password": None if password is None else hashed(password)}  # fmt: skip
    changed: dict[str, Any] = {key: value for key, value in values.items() if value is not None}

    def work(db: Connection) -> None:
        own = authorise(db, actor, ANNOTATE)
        row = by_name(db, name)
        if own.id != row.id or role is not None or active is not None:
            authorise(db, actor, ADMINISTER)
        if password is not None:
            if row.one_time and not one_time and _fits(row, password):
                raise ValueError("this is the one-time password; choose another")
            changed["one_time"] = one_time
        if row.name == OPERATOR:
            raise ValueError("the operator's account belongs to this machine and cannot be changed")
        ends = {"session": row.session + 1} if set(changed) - {"language"} else {}
        db.execute(update(schema.account).where(schema.account.c.id == row.id).values(**changed, **ends))
        visible_changes = {k: v for k, v in changed.items() if k not in ("password", "one_time")} | (
            {"password": "changed"} if password else {}
        )
        record(db, store.clock(), actor, "account.change", f"account:{row.id}", {"role": row.role}, visible_changes)

    store.write(work)


def by_name(db: Connection, name: str) -> Row:
    """The row of an account. Raises ValueError when there is none."""
    row = db.execute(select(schema.account).where(schema.account.c.name == name)).first()
    if row is None:
        known = db.execute(select(schema.account.c.name)).scalars()
        raise ValueError(unknown("account", name, known, "glyphlab account list"))
    return row


def _fits(row: Row | None, password: str) -> bool:
    """Takes as long for a name that does not exist as for a wrong password."""
    usable = row is not None and row.active and row.password is not None
    try:
        return _hasher.verify(row.password if row is not None and usable else _nobody, password) and usable
    except (VerificationError, InvalidHashError):
        return False


def _mark(db: Connection, name: str) -> str:
    key = db.execute(select(schema.secret.c.value).where(schema.secret.c.name == "names")).scalar_one()
    return hmac.new(key.encode(), name.casefold().encode(), hashlib.sha256).hexdigest()


def _check_rate(db: Connection, mark: str, now: float) -> None:
    table = schema.attempt
    since = table.c.at > now - WINDOW
    failures = db.execute(select(func.count(), func.min(table.c.at)).where(table.c.name_hash == mark, since)).one()
    everybody = db.execute(select(func.count(), func.min(table.c.at)).where(since)).one()
    for (count, first), most in ((failures, MAX_FAILURES), (everybody, MAX_FAILURES_ALL)):
        if count >= most:
            minutes = max(round((first + WINDOW - now) / 60), 1)
            raise TooManyAttempts(f"too many failed log-ins; try again in {minutes} minutes")


def _failed(db: Connection, mark: str, now: float) -> None:
    db.execute(delete(schema.attempt).where(schema.attempt.c.at <= now - WINDOW))
    db.execute(schema.attempt.insert().values(name_hash=mark, at=now))


def _free_name(db: Connection, wanted: str) -> str:
    """`wanted`, or with a number behind it when another account has that name."""
    base, name, number = wanted[:100], wanted[:100], 1
    while db.execute(select(schema.account.c.id).where(schema.account.c.name == name)).first():
        number += 1
        name = f"{base} {number}"
    return name
