"""Which store this process serves, and who may come in. Set once, before the first page is asked for."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from preference_data.store import schema
from preference_data.store.store import Store, insert_new


@dataclass(frozen=True)
class ServedStore:
    """A store with what its pages need. `runs`: where a lead's forms look for runs and folders of images."""

    store: Store
    runs: Path = Path("runs")
    new_role: str | None = None
    """of an identity that an OIDC provider vouches for and nobody knows yet; None lets nobody in"""
    base: str = ""
    """path under which a proxy shows the pages, as in "/annotate"; "" for none"""
    key: bytes = field(default=b"", repr=False)
    """signs session cookies; kept in the store, so that a restart signs nobody out"""


_here: list[ServedStore] = []


def use(store: Store, runs: Path = Path("runs"), new_role: str | None = None, base: str = "") -> ServedStore:
    """Serve this store from here on. Raises ValueError when `base` is no path."""
    base = base_path(base)
    insert = {"name": "cookies", "value": secrets.token_hex(32)}
    store.write(lambda db: insert_new(db, schema.secret, [insert]))
    query = select(schema.secret.c.value).where(schema.secret.c.name == "cookies")
    key = store.read(lambda db: str(db.execute(query).scalar_one()))
    _here[:] = [ServedStore(store, Path(runs), new_role, base, bytes.fromhex(key))]
    return _here[0]


def base_path(text: str) -> str:
    """A base path with a slash before it and none behind it; "" for none. Raises ValueError when it is no path."""
    path = text.strip("/")
    parts = path.split("/") if path else []
    if not all(re.fullmatch(r"[A-Za-z0-9._~-]+", part) and part not in (".", "..") for part in parts):
        raise ValueError(f"the base path is {text!r}; give a path of letters, digits, - and _, such as /annotate")
    return f"/{path}" if path else ""


def here() -> ServedStore:
    """The place in use. Raises RuntimeError before `use`."""
    if not _here:
        raise RuntimeError("no store is served; start the pages with `glyphlab annotate`")
    return _here[0]


def store() -> Store:
    """Returns the store that is served."""
    return here().store
