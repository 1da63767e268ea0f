"""Accounts from the command line, as the operator of the machine. Passwords are asked for or read, never options."""

from __future__ import annotations

import csv
import getpass
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from preference_data.campaign import privacy
from preference_data.line_files import read_csv
from preference_data.store import accounts
from preference_data.store.roles import role_word, stored_role
from preference_data.store.store import Store


def ask_password() -> str:
    """Ask twice, unseen; where standard input is no terminal, its first line is the password.

    Raises ValueError when the two differ, or there is nothing to read.
    """
    if not sys.stdin.isatty():
        line = sys.stdin.readline().rstrip("\r\n")
        if not line:
            raise ValueError("there is no terminal to ask for the password in, and standard input holds none; run the "
                             "command in a terminal, or write: glyphlab account ... < FILE")  # fmt: skip
        return line
    try:
        first = getpass.getpass("password: ")
        again = getpass.getpass("once more: ")
    except EOFError:
        raise ValueError("no password was given") from None
    if again != first:
        raise ValueError("the two passwords differ")
    return first


def named_role(word: str) -> str:
    """The stored role that a word names; says so on standard error when it is the old word for a lead.

    Raises ValueError for what is no role.
    """
    role = stored_role(word)
    if word != role_word(role):
        print(f"warning: the role {word} is called {role_word(role)} now; write {role_word(role)}", file=sys.stderr)
    return role


def add(store: Store, name: str, role: str, issuer: str, subject: str) -> list[str]:
    """Make an account, with a password that is asked for or with an OIDC identity."""
    role, identity = named_role(role), (issuer, subject) if issuer or subject else None
    accounts.check_new(store, store.operator, name)
    made = accounts.create(store, store.operator, name, role, None if identity else ask_password(), identity=identity)
    return [f"account {made.name}: {role_word(made.role)}, pseudonym {made.pseudonym}"]


def people(file: Path, out: Path) -> list[tuple[str, str]]:
    """(name, stored role) of every line of a CSV file.

    Raises ValueError with the line of what is wrong, or when `out` is there already.
    """
    if out.exists():
        raise ValueError(f"{out} is there already; passwords go into a new file")
    header, rows = read_csv(file)
    if "name" not in header or set(header) - {"name", "role"}:
        raise ValueError(f"{file} has the columns {header}; it needs name, and may have role")
    results: list[tuple[str, str]] = []
    for number, row in rows:
        name, role = row["name"].strip(), (row.get("role") or "annotator").strip()
        try:
            accounts.check_name(name)
            role = named_role(role)
            if name in dict(results):
                raise ValueError(f"{name!r} stands in the file twice")
        except ValueError as error:
            raise ValueError(f"{file} line {number}: {error}") from error
        results.append((name, role))
    if not results:
        raise ValueError(f"{file} names nobody")
    return results


def add_many(store: Store, results: Sequence[tuple[str, str]], out: Path) -> list[str]:
    """Make accounts with passwords of their own, all or none, and write the passwords to a file of mode 600."""
    for name, _ in results:
        accounts.check_new(store, store.operator, name)
    made = [(name, role, secrets.token_urlsafe(12)) for name, role in results]
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("name", "role", "password"), *((n, role_word(r), p) for n, r, p in made)])
    for name, role, password in made:
        accounts.create(store, store.operator, name, role, password)
    return [f"{len(made)} accounts made; their passwords are in {out}: hand them out, then delete it"]


def change(store: Store, name: str, role: str | None, password: bool, active: bool | None) -> list[str]:
    """Change an account."""
    role = None if role is None else named_role(role)
    store.read(lambda db: accounts.by_name(db, name))
    accounts.change(store, store.operator, name, role, ask_password() if password else None, active)
    return [f"account {name}: changed, its sessions are ended"]


def lines(store: Store) -> list[str]:
    """All accounts, one a line."""
    rows = accounts.listed(store, store.operator)
    return [
        f"{a.id:4} {role_word(a.role):11} {a.pseudonym:12} {a.name}{'' if a.active else ' (closed)'}" for a in rows
    ] or ["no account yet"]


def forget(store: Store, name: str, answers: bool) -> list[str]:
    """Delete an account."""
    removed = privacy.delete_account(store, store.operator, name, answers)
    return [f"account {name}: deleted" + (f", with {removed} answers" if answers else "; the answers stay")]


def retain(store: Store, days: float) -> list[str]:
    """Forget what is older than some days."""
    gone = privacy.retain(store, store.operator, days)
    return [f"removed: {gone.drafts} drafts, {gone.attempts} failed log-ins, {gone.events} events, "
            f"{gone.rationales} typed words"]  # fmt: skip
