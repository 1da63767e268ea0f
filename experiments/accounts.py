"""Accounts from the command line, as the operator of the machine. Passwords are asked for, never options."""

from __future__ import annotations

import getpass

from preference_data import accounts, privacy
from preference_data.store import Store


def ask_password() -> str:
    """Twice, unseen. Raises ValueError when the two differ."""
    first = getpass.getpass("password: ")
    if getpass.getpass("once more: ") != first:
        raise ValueError("the two passwords differ")
    return first


def add(store: Store, name: str, role: str, issuer: str, subject: str) -> list[str]:
    """Make an account, with a password that is asked for or with an OIDC identity."""
    identity = (issuer, subject) if issuer or subject else None
    made = accounts.create(store, store.operator, name, role, None if identity else ask_password(), identity=identity)
    return [f"account {made.name}: {made.role}, pseudonym {made.pseudonym}"]


def change(store: Store, name: str, role: str | None, password: bool, active: bool | None) -> list[str]:
    """Change an account."""
    accounts.change(store, store.operator, name, role, ask_password() if password else None, active)
    return [f"account {name}: changed, its sessions are ended"]


def lines(store: Store) -> list[str]:
    """All accounts, one a line."""
    found = accounts.listed(store, store.operator)
    return [f"{a.id:4} {a.role:11} {a.pseudonym:12} {a.name}{'' if a.active else ' (closed)'}" for a in found] or [
        "no account yet"
    ]


def forget(store: Store, name: str, answers: bool) -> list[str]:
    """Delete an account."""
    removed = privacy.delete_account(store, store.operator, name, answers)
    return [f"account {name}: deleted" + (f", with {removed} answers" if answers else "; the answers stay")]


def retain(store: Store, days: float) -> list[str]:
    """Forget what is older than some days."""
    gone = privacy.retain(store, store.operator, days)
    return [f"removed: {gone.drafts} drafts, {gone.attempts} failed log-ins, {gone.events} events, "
            f"{gone.rationales} typed words"]  # fmt: skip
