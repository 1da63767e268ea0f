"""The tables of a store of revision 0001, as they were on the day that stores began to hold answers.

Frozen: stores hold these tables, whatever preference_data/store/schema.py says today. A change of the schema is another
revision, and test_migrations compares what all revisions make of these tables with the schema.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

ROLES = ("annotator", "adjudicator", "researcher", "admin")
CAMPAIGN_KINDS = ("pair", "best_worst")
CAMPAIGN_STATES = ("draft", "open", "closed")
ITEM_KINDS = ("work", "gold", "attention")
ITEM_STATES = ("open", "settled", "adjudicate", "adjudicated", "undecided")
ASSIGNMENT_KINDS = ("work", "gold", "attention", "repeat", "adjudication")
ASSIGNMENT_STATES = ("leased", "answered", "skipped", "expired")
CANONICAL = ("first", "second", "tie", "both_good", "both_bad", "ranked", "none_acceptable", "skip", "flag")
SHOWN = ("left", "right", "tie", "both_good", "both_bad", "ranked", "none_acceptable", "skip", "flag")
STAGES = ("answer", "blind", "revealed")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def one_of(column: str, words: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(w) for w in words)})", name=column)


Table(
    "account", metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(120), unique=True, comment="NULL once the account is deleted"),
    Column("pseudonym", String(24), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("password", String(200), comment="argon2id; NULL for OIDC, for the operator and when deleted"),
    Column("issuer", String(255), comment="OIDC"),
    Column("subject", String(255), comment="OIDC"),
    Column("language", String(8), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("session", Integer, nullable=False, comment="raised to end the account's sessions"),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double),
    UniqueConstraint("issuer", "subject"),
    one_of("role", ROLES),
)  # fmt: skip

Table(
    "attempt", metadata,
    Column("id", Integer, primary_key=True),
    Column("name_hash", String(64), nullable=False, comment="keyed hash of the name that was typed; no address"),
    Column("at", Double, nullable=False),
    Index(None, "name_hash", "at"),
    Index(None, "at"),
    comment="failed logins",
)  # fmt: skip

Table(
    "secret", metadata,
    Column("name", String(40), primary_key=True),
    Column("value", String(128), nullable=False),
)  # fmt: skip

Table(
    "prompt", metadata,
    Column("id", String(64), primary_key=True),
    Column("text", Text, nullable=False),
    Column("spans", JSON, nullable=False),
    Column("language", String(16), nullable=False),
    Column("category", JSON, nullable=False),
    Column("source", String(255), nullable=False),
    Column("licence", String(80), nullable=False),
)  # fmt: skip

Table(
    "picture", metadata,
    Column("sha256", String(64), primary_key=True),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("origin", Text, nullable=False, comment="where its file was when it was added"),
    Column("model", String(255), nullable=False),
    Column("revision", String(255), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("guidance", Double, nullable=False),
    Column("run", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    CheckConstraint("length(sha256) = 64 AND width > 0 AND height > 0", name="whole"),
)  # fmt: skip

Table(
    "score", metadata,
    Column("sha256", ForeignKey("picture.sha256"), primary_key=True),
    Column("prompt_id", ForeignKey("prompt.id"), primary_key=True),
    Column("reward", String(80), primary_key=True),
    Column("version", String(120), primary_key=True),
    Column("value", Double, comment="NULL = could not be judged"),
    Column("parts", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
)  # fmt: skip

Table(
    "reading", metadata,
    Column("sha256", ForeignKey("picture.sha256"), primary_key=True),
    Column("engine", String(120), primary_key=True),
    Column("text", Text, comment="NULL = could not be read; '' = no text was found"),
    Column("lines", JSON, nullable=False, comment="[{text, box: [left, top, right, bottom] in pixels, confidence}]"),
    Column("created_at", Double, nullable=False),
)  # fmt: skip

Table(
    "campaign", metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(120), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("settings", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", ForeignKey("account.id"), nullable=False),
    Column("closed_at", Double),
    one_of("kind", CAMPAIGN_KINDS),
    one_of("state", CAMPAIGN_STATES),
)  # fmt: skip

Table(
    "item", metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign_id", ForeignKey("campaign.id"), nullable=False),
    Column("key", String(64), nullable=False, comment="hash of the prompt and the unordered pictures"),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("prompt_id", ForeignKey("prompt.id"), nullable=False),
    Column("reference", ForeignKey("picture.sha256"), comment="what the pictures should be like"),
    Column("first_label", String(255), comment="who made the first picture of a pair, for rating models"),
    Column("second_label", String(255)),
    Column("expected", String(16), comment="canonical answer of a gold item or attention check"),
    Column("expected_best", Integer),
    Column("shuffle", Double, nullable=False, comment="in [0, 1); the order in which work is drawn"),
    Column("uncertainty", Double, nullable=False),
    Column("closeness", Double, nullable=False),
    Column("disagreement", Double, nullable=False),
    Column("overlap", Integer, nullable=False),
    Column("cap", Integer, nullable=False),
    Column("wanted", Integer, nullable=False, comment="answers wanted by now, from overlap up to cap"),
    Column("taken", Integer, nullable=False, comment="live leases + counted answers"),
    Column("answered", Integer, nullable=False),
    Column("skips", Integer, nullable=False),
    Column("flags", Integer, nullable=False),
    Column("outcome", String(16), comment="canonical, once settled or adjudicated"),
    Column("best", Integer, comment="place of the best picture, once settled or adjudicated"),
    UniqueConstraint("campaign_id", "key"),
    one_of("kind", ITEM_KINDS),
    one_of("state", ITEM_STATES),
    one_of("outcome", CANONICAL),
    one_of("expected", CANONICAL),
    CheckConstraint("0 <= answered AND answered <= taken AND taken <= cap", name="within_cap"),
    CheckConstraint("1 <= overlap AND overlap <= wanted AND wanted <= cap", name="wanted_within_cap"),
    Index(None, "campaign_id", "kind", "state", "shuffle"),
)  # fmt: skip

Table(
    "item_picture", metadata,
    Column("item_id", ForeignKey("item.id"), primary_key=True),
    Column("place", Integer, primary_key=True, comment="in canonical order, from 0"),
    Column("sha256", ForeignKey("picture.sha256"), nullable=False),
    Column("label", String(255), nullable=False, comment="who made it, for rating models"),
    Index(None, "sha256"),
)  # fmt: skip

Table(
    "worker", metadata,
    Column("campaign_id", ForeignKey("campaign.id"), primary_key=True),
    Column("account_id", ForeignKey("account.id"), primary_key=True),
    Column("claims", Integer, nullable=False),
    Column("sided", Integer, nullable=False, comment="pairs shown"),
    Column("plain", Integer, nullable=False, comment="of them, with the alphabetically first maker on the left"),
    comment="one annotator in one campaign; locked by a claim",
)  # fmt: skip

Table(
    "assignment", metadata,
    Column("id", Integer, primary_key=True),
    Column("token", String(32), nullable=False, unique=True, comment="all that a browser is told"),
    Column("campaign_id", ForeignKey("campaign.id"), nullable=False),
    Column("item_id", ForeignKey("item.id"), nullable=False),
    Column("account_id", ForeignKey("account.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("slots", JSON, nullable=False, comment="slots[i] = place of the picture shown i-th from the left"),
    Column("swapped", Boolean, comment="of a pair: the second picture was on the left"),
    Column("policy", String(24), nullable=False),
    Column("propensity", Double, comment="probability of having been drawn; NULL for what was not sampled"),
    Column("leased_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("shown_at", Double),
    Column("draft", JSON(none_as_null=True)),
    Column("repeats", ForeignKey("assignment.id"), comment="of a repeat: the first time"),
    Column("counted", Boolean, nullable=False, comment="uses up one of the item's places"),
    Column("answered_at", Double),
    Column("outcome", String(16), comment="canonical"),
    Column("best", Integer),
    Column("worst", Integer),
    Column("strength", Integer),
    Column("duration_ms", Integer),
    Column("correct", Boolean, comment="against the expected answer; NULL where none is expected"),
    UniqueConstraint("item_id", "account_id", "kind"),
    one_of("kind", ASSIGNMENT_KINDS),
    one_of("state", ASSIGNMENT_STATES),
    one_of("outcome", CANONICAL),
    CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity"),
    Index("ix_assignment_live", "campaign_id", "expires_at", sqlite_where=text("state = 'leased'"),
          postgresql_where=text("state = 'leased'")),
    Index(None, "account_id", "campaign_id", "state", "answered_at"),
    Index(None, "campaign_id", "state", "answered_at"),
    Index("ix_assignment_summary", "campaign_id", "kind", "state", "account_id", "outcome", "swapped", "correct",
          "duration_ms"),
    Index(None, "repeats"),
)  # fmt: skip

Table(
    "handle", metadata,
    Column("token", String(32), primary_key=True),
    Column("assignment_id", ForeignKey("assignment.id"), nullable=False),
    Column("slot", Integer, nullable=False, comment="from the left; -1 is the reference"),
    Column("sha256", ForeignKey("picture.sha256"), nullable=False),
    UniqueConstraint("assignment_id", "slot"),
    comment="names for pictures that say nothing about them",
)  # fmt: skip

Table(
    "answer", metadata,
    Column("id", Integer, primary_key=True),
    Column("assignment_id", ForeignKey("assignment.id"), nullable=False),
    Column("revision", Integer, nullable=False, comment="from 0; the greatest counts"),
    Column("revises", ForeignKey("answer.id")),
    Column("key", String(80), nullable=False, unique=True, comment="idempotency key"),
    Column("stage", String(16), nullable=False),
    Column("outcome", String(16), nullable=False, comment="as shown: left, right, ..."),
    Column("best", Integer, comment="slot"),
    Column("worst", Integer, comment="slot"),
    Column("strength", Integer),
    Column("axes", JSON, nullable=False, comment="{axis: left, right, tie or na}"),
    Column("tags", JSON, nullable=False),
    Column("rationale", Text, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("assignment_id", "revision"),
    one_of("outcome", SHOWN),
    one_of("stage", STAGES),
    CheckConstraint("strength BETWEEN 1 AND 5", name="strength"),
    CheckConstraint("duration_ms >= 0", name="duration"),
)  # fmt: skip

Table(
    "audit", metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("account_id", ForeignKey("account.id"), nullable=False),
    Column("action", String(40), nullable=False),
    Column("subject", String(120), nullable=False),
    Column("old", JSON(none_as_null=True)),
    Column("new", JSON(none_as_null=True)),
    Index(None, "at"),
    Index(None, "subject"),
)  # fmt: skip
