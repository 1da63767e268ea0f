"""Signed tokens: who is logged in, as a cookie that scripts cannot read and that names nobody.

    purpose . account . session . expiry . HMAC-SHA256

A session is ended by raising the account's session number (a changed password or role, an administrator's click), so a
stolen cookie dies with it. `enter` tickets live a minute and are only good for getting the cookie.
"""

from __future__ import annotations

import hashlib
import hmac

COOKIE = "glyphlab_session"
HOURS = 12
ENTER_SECONDS = 60


def sign(key: bytes, purpose: str, account: int, session: int, expires: float) -> str:
    """A token for an account's session, good until `expires` (seconds since 1970)."""
    text = f"{purpose}.{account}.{session}.{int(expires)}"
    return f"{text}.{hmac.new(key, text.encode(), hashlib.sha256).hexdigest()}"


def read(key: bytes, purpose: str, token: str, now: float) -> tuple[int, int] | None:
    """(account, session) of a token that is genuine, for this purpose and not expired; else None."""
    text, _, mark = token.rpartition(".")
    good = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(mark.encode("utf-8", "replace"), good.encode()):
        return None
    answer, account, session, expires = text.split(".")
    return (int(account), int(session)) if answer == purpose and now < int(expires) else None
