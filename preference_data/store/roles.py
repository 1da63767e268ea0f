"""Who may do what. Every function of the service asks here, in its own transaction, before it reads or writes anything.

An account is named by its id. Its role is read from the database each time, so that what an administrator takes away is
gone at the next click, whatever a page or a session still believes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, select

from preference_data.store.schema import ROLES
from preference_data.store.schema import account as accounts
from preference_data.store.store import Store

ANNOTATE = ("annotator", "adjudicator", "researcher", "admin")
ADJUDICATE = ("adjudicator", "admin")
LEAD = ("researcher", "admin")
"""May create campaigns, see everybody's answers and export them."""
ADMINISTER = ("admin",)
WORDS = ("annotator", "adjudicator", "lead", "admin")
"""What people call the roles of `schema.ROLES`, in its order; stores call the lead "researcher"."""


class Forbidden(PermissionError):
    """The account may not do this. A page shows that something is not there, not what it would have been."""


@dataclass(frozen=True)
class Account:
    """Whoever is logged in. `session` changes when the account's sessions are ended."""

    id: int
    name: str
    role: str
    pseudonym: str
    language: str
    session: int
    active: bool = True
    one_time: bool = False
    """its password was given to it: until it is changed, nothing else can be done with the account"""


def role_word(role: str) -> str:
    """What people call a stored role."""
    return WORDS[ROLES.index(role)]


def stored_role(word: str) -> str:
    """The stored role of a word, or of itself. Raises ValueError for what is neither."""
    if word not in (*WORDS, *ROLES):
        raise ValueError(f"role is {word!r}; choose one of {', '.join(WORDS)}")
    return ROLES[WORDS.index(word)] if word in WORDS else word


def authorise(db: Connection, account: int, roles: tuple[str, ...]) -> Account:
    """The account, when it is active and has one of the roles. Raises Forbidden otherwise."""
    row = db.execute(select(accounts).where(accounts.c.id == account)).one_or_none()
    if row is None or not row.active or row.name is None:
        raise Forbidden(f"account {account} does not exist or was closed; log in again")
    if row.role not in roles:
        raise Forbidden(
            f"the role {role_word(row.role)} may not do this; it takes {' or '.join(map(role_word, roles))}"
        )
    return Account(row.id, row.name, row.role, row.pseudonym, row.language, row.session, True, bool(row.one_time))


@contextmanager
def reading(store: Store, account: int, roles: tuple[str, ...]) -> Iterator[Connection]:
    """What `Store.reading` gives, for an account that `authorise` lets pass."""
    with store.reading() as db:
        authorise(db, account, roles)
        yield db
