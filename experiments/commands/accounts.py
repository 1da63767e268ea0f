"""Commands about the accounts of annotators, and about what is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg, subcommand

from experiments.commands.campaigns import StoreLocation

Name = Annotated[Positional[str], arg(metavar="NAME")]
Role = Annotated[str, arg(metavar="{annotator,adjudicator,lead,admin}")]


@dataclass(frozen=True)
class Add(StoreLocation):
    """Make an account; asks for its password, or reads it from standard input where nobody can be asked.

    Example: glyphlab account add ada --role annotator
    """

    name: Name
    """what they log in with"""
    role: Role = "annotator"
    """annotator, adjudicator (decides where annotators disagree), lead (of campaigns) or admin"""
    issuer: str = ""
    """of an OpenID Connect log-in instead of a password: the provider (iss)"""
    subject: str = ""
    """and who it is there (sub)"""

    def run(self) -> int:
        from experiments.preferences.manage_accounts import add

        return self.show(lambda store: add(store, self.name, self.role, self.issuer, self.subject), make=True)


@dataclass(frozen=True)
class AddMany(StoreLocation):
    """Make an account for every line of a CSV file with the columns name and, if wanted, role; all of them or none.

    Each gets a password of its own, and they are written into a file that nobody else may read.

    Example: glyphlab account add-many people.csv -o passwords.csv
    """

    file: Annotated[Positional[Path], arg(metavar="FILE")]
    """who gets an account"""
    out: Annotated[Path, arg(aliases=["-o"])]
    """where the names and passwords go: a new file; hand them out, then delete it"""

    def run(self) -> int:
        from experiments.preferences.manage_accounts import add_many, people

        lines = people(self.file, self.out)
        return self.show(lambda store: add_many(store, lines, self.out), make=True)


@dataclass(frozen=True)
class Change(StoreLocation):
    """Change an account's role or password, or let nobody in with it; its sessions end.

    Example: glyphlab account change ada --role adjudicator
    """

    name: Name
    """the account"""
    role: Role | None = None
    """its new role"""
    password: bool = False
    """ask for a new password"""
    active: bool | None = None
    """--no-active closes the account, --active opens it again"""

    def run(self) -> int:
        from experiments.preferences.manage_accounts import change

        return self.show(lambda store: change(store, self.name, self.role, self.password, self.active))


@dataclass(frozen=True)
class ListAccounts(StoreLocation):
    """List the accounts of a store with their roles and pseudonyms.

    Example: glyphlab account list
    """

    def run(self) -> int:
        from experiments.preferences.manage_accounts import lines

        return self.show(lines)


@dataclass(frozen=True)
class Delete(StoreLocation):
    """Forget who somebody is; their answers stay under a pseudonym, or go too.

    Example: glyphlab account delete ada
    """

    name: Name
    """the account"""
    answers: bool = False
    """remove their answers as well; the items are open again"""

    def run(self) -> int:
        from experiments.preferences.manage_accounts import forget

        return self.show(lambda store: forget(store, self.name, self.answers))


@dataclass(frozen=True)
class Retain(StoreLocation):
    """Remove drafts, failed log-ins, audit events and typed words that are older than some days.

    Example: glyphlab account retain --days 180
    """

    days: float
    """what is older goes; answers and images stay"""

    def run(self) -> int:
        from experiments.preferences.manage_accounts import retain

        return self.show(lambda store: retain(store, self.days))


@dataclass(frozen=True)
class Accounts:
    """Make, change, list and delete accounts, and forget what is old."""

    action: (
        Annotated[Add, subcommand("add")]
        | Annotated[AddMany, subcommand("add-many")]
        | Annotated[Change, subcommand("change")]
        | Annotated[ListAccounts, subcommand("list")]
        | Annotated[Delete, subcommand("delete")]
        | Annotated[Retain, subcommand("retain")]
    )

    def run(self) -> int:
        return self.action.run()
