"""The tables of the state database; a change here needs a new SCHEMA_VERSION and a migration."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

SCHEMA_VERSION = 11
INTEGER_MAX = (1 << 63) - 1
"""Highest integer that SQLite can store."""

metadata = MetaData()

schema = Table("schema", metadata, Column("version", Integer, nullable=False))

collectors = Table(
    "collectors",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("name", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("tenant_tag", String),  # null, "auto", or a number
    Column("delivery", String, nullable=False, server_default="port"),
    Column("key", Integer),
    Column("balance", String, nullable=False, server_default="connection"),
    Column("path_mtu", Integer),
    UniqueConstraint("tenant", "name"),
)

held_keys = Table(
    "held_keys",
    metadata,
    Column("number", Integer, primary_key=True),  # ascending: what is given up again gets a new one
    Column("tenant", String, nullable=False),  # who has given it up
    Column("delivery", String, nullable=False),  # the kind that stands for the space of keys
    Column("key", Integer, nullable=False),
    Column("address", String, nullable=False),
    UniqueConstraint("tenant", "delivery", "key", "address"),
    sqlite_autoincrement=True,
)

sensors = Table(
    "sensors",
    metadata,
    Column("collector", ForeignKey("collectors.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("item", String, nullable=False),  # id of a tap port, or address: as the delivery says
    Column("probe", String),
)

filters = Table(
    "filters",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("name", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("revision", Integer, nullable=False),  # counts changes: parsing rules is slow
    Column("rules", String, nullable=False),
    UniqueConstraint("tenant", "name"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("name", String, nullable=False),
    Column("direction", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("collector", ForeignKey("collectors.id"), nullable=False, index=True),
    Column("created_at", String, nullable=False),
    Column("deleting", Boolean, nullable=False),
    Column("source_kind", String, nullable=False, server_default="port"),
    Column("filter", ForeignKey("filters.id"), index=True),  # null: the built-in `all`
    Column("packet_length", Integer),
    Column("oversize", String, nullable=False, server_default="truncate"),
    Column("rate_unit", String),
    Column("rate", Integer),
    Column("expires_at", String),
    Column("max_packets", Integer),
    Column("max_bytes", Integer),
    Column("from_packets", Integer, nullable=False, server_default="0"),
    Column("from_bytes", Integer, nullable=False, server_default="0"),
    Column("stopped", String),  # the reason, when a limit was reached
    Column("mode", String, nullable=False, server_default="copy"),
)
IS_LIVE = text("NOT deleting")
# a name is free as soon as its session is deleted: its bridge may be disconnected for days
Index(
    "session_names",
    sessions.c.tenant,
    sessions.c.name,
    unique=True,
    sqlite_where=IS_LIVE,
)

IS_EXCLUSIVE = text("mode = 'exclusive' AND NOT deleting")
# two exclusive sessions of one number would have no order
Index(
    "exclusive_numbers",
    sessions.c.tenant,
    sessions.c.number,
    unique=True,
    sqlite_where=IS_EXCLUSIVE,
)

session_sources = Table(
    "session_sources",
    metadata,
    Column("session", ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("item", String, nullable=False),  # id of a port or network, or key of a label
    Column("value", String),  # value of a label
)

counts = Table(
    "counts",
    metadata,
    Column("session", ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("bridge", String, primary_key=True),  # 16 hex digits
    Column("measure", String, primary_key=True),  # copies wanted, truncated, skipped or shed
    Column("before_packets", Integer, nullable=False),
    Column("before_bytes", Integer, nullable=False),
    Column("last_packets", Integer, nullable=False),
    Column("last_bytes", Integer, nullable=False),
)

numbers = Table(
    "numbers",
    metadata,
    Column("kind", String, primary_key=True),
    Column("key", String, primary_key=True),  # TENANT/NAME of what may go to another tenant
    Column("number", Integer, nullable=False),
    # whose it is; empty where the key says it, and where it is not known
    Column("tenant", String, nullable=False, server_default=""),
    UniqueConstraint("kind", "number"),
)

last_numbers = Table(
    "last_numbers",
    metadata,
    Column("kind", String, primary_key=True),
    Column("number", Integer, nullable=False),
)

bridges = Table(
    "bridges",
    metadata,
    Column("dpid", String, primary_key=True),  # 16 hex digits: SQLite's integers are signed
    Column("name", String, nullable=False),
)

speakers = Table(
    "speakers",
    metadata,
    Column("bridge", ForeignKey("bridges.dpid", ondelete="CASCADE"), primary_key=True),
    Column("database", String, nullable=False),  # its target; empty: none has the bridge
    Column("row", String, nullable=False),  # uuid of the Bridge row
    Column("certificate", String),  # the name in the certificate of the host
)

placements = Table(
    "placements",
    metadata,
    Column("bridge", ForeignKey("bridges.dpid", ondelete="CASCADE"), primary_key=True),
    Column("interface", String, primary_key=True),
    Column("iface_id", String),
    Column("ofport", Integer, nullable=False),
)

places = Table(
    "places",
    metadata,
    Column("who", String, primary_key=True),  # "port ID", or "link BRIDGE INTERFACE" for its end
    Column("bridge", String, nullable=False),  # 16 hex digits
    Column("interface", String, nullable=False),
)

installed_sessions = Table(
    "holdings",
    metadata,
    Column("bridge", String, primary_key=True),  # 16 hex digits; may be missing in `bridges`
    Column("session", Integer, primary_key=True),  # its number
)

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", String, nullable=False),
    Column("who", String, nullable=False),
    Column("what", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("tenant", String, nullable=False),
    Column("detail", String, nullable=False),
    sqlite_autoincrement=True,
)

idempotency_keys = Table(
    "once",
    metadata,
    Column("key", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("object_id", String, nullable=False),
    Column("answer", String),
    Column("at", String, nullable=False),
    Column("tenant", String, nullable=False, server_default=""),
    Index("keys_by_tenant", "tenant", "at"),
)


def storable(count: int) -> int:
    """The nearest integer that can be stored: sums of many counters may be larger."""
    return max(-INTEGER_MAX - 1, min(count, INTEGER_MAX))
