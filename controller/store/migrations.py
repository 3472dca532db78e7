"""Migrations: from each older schema to the current one, step by step."""

from __future__ import annotations

import json
from collections.abc import Mapping

from netaddr import IPAddress
from sqlalchemy import Connection, insert, inspect, select, update

from controller.store import tables
from controller.store.content_check import reading_rows
from controller.store.held_keys import hold
from flows.model import KINDS_OF_TENANTS, Delivery, KeyUse, TenantName, key_space


def upgrade(connection: Connection, version: int) -> None:
    """Migrate a database of an older ``version`` to SCHEMA_VERSION, as part of one transaction."""
    if version < 2:
        _add_installed_sessions(connection)
    if version < 3:
        _add_filters_and_limits(connection)
    if version < 4:
        _add_modes(connection)
    if version < 5:
        _add_tunnels_pools_and_caps(connection)
    if version < 6:
        _add_measures(connection)
    if version < 7:
        _add_identities(connection)
    if version < 8:
        _add_tenants_of_keys(connection)
    if version < 9:
        _add_tenants_of_link_tags(connection)
    if version < 10:
        _hold_given_up_keys(connection)
    if version < 11:
        _add_tenants_of_numbers(connection)
    connection.execute(update(tables.schema).values(version=tables.SCHEMA_VERSION))


def _add_installed_sessions(connection: Connection) -> None:
    """To version 2. Nothing is known of what is installed: each bridge may have every session."""
    tables.installed_sessions.create(connection)
    every = tables.bridges.join(tables.numbers, tables.numbers.c.kind == "session")
    numbers = select(tables.bridges.c.dpid, tables.numbers.c.number).select_from(every)
    connection.execute(
        insert(tables.installed_sessions).from_select(["bridge", "session"], numbers)
    )


def _add_filters_and_limits(connection: Connection) -> None:
    """To version 3. Collectors have no tag and sessions no filter: their copies do not change."""
    tables.filters.create(connection)
    for statement in (
        "CREATE TABLE counts (session VARCHAR NOT NULL REFERENCES sessions (id) "
        "ON DELETE CASCADE, bridge VARCHAR NOT NULL, before_packets INTEGER NOT NULL, "
        "before_bytes INTEGER NOT NULL, last_packets INTEGER NOT NULL, "
        "last_bytes INTEGER NOT NULL, PRIMARY KEY (session, bridge))",
        "ALTER TABLE collectors ADD COLUMN tenant_tag VARCHAR",
        "ALTER TABLE sessions ADD COLUMN source_kind VARCHAR NOT NULL DEFAULT 'port'",
        "ALTER TABLE sessions ADD COLUMN filter VARCHAR REFERENCES filters (id)",
        "ALTER TABLE sessions ADD COLUMN packet_length INTEGER",
        "ALTER TABLE sessions ADD COLUMN expires_at VARCHAR",
        "ALTER TABLE sessions ADD COLUMN max_packets INTEGER",
        "ALTER TABLE sessions ADD COLUMN max_bytes INTEGER",
        "ALTER TABLE sessions ADD COLUMN from_packets INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE sessions ADD COLUMN from_bytes INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE sessions ADD COLUMN stopped VARCHAR",
        "CREATE INDEX ix_sessions_filter ON sessions (filter)",
        "ALTER TABLE session_sources RENAME COLUMN port TO item",
        "ALTER TABLE session_sources ADD COLUMN value VARCHAR",
    ):
        connection.exec_driver_sql(statement)


def _add_modes(connection: Connection) -> None:
    """To version 4. Existing sessions are in mode `copy`."""
    for statement in (
        "ALTER TABLE sessions ADD COLUMN mode VARCHAR NOT NULL DEFAULT 'copy'",
        "CREATE UNIQUE INDEX exclusive_numbers ON sessions (tenant, number) "
        "WHERE mode = 'exclusive' AND NOT deleting",
    ):
        connection.exec_driver_sql(statement)


def _add_tunnels_pools_and_caps(connection: Connection) -> None:
    """To version 5. Collectors have one tap port, sessions no rate cap: copies do not change."""
    tables.sensors.create(connection)
    for statement in (
        "INSERT INTO sensors (collector, position, item) SELECT id, 0, sensor FROM collectors",
        "ALTER TABLE collectors DROP COLUMN sensor",
        "ALTER TABLE collectors ADD COLUMN delivery VARCHAR NOT NULL DEFAULT 'port'",
        "ALTER TABLE collectors ADD COLUMN key INTEGER",
        "ALTER TABLE collectors ADD COLUMN balance VARCHAR NOT NULL DEFAULT 'connection'",
        "ALTER TABLE collectors ADD COLUMN path_mtu INTEGER",
        "ALTER TABLE sessions ADD COLUMN oversize VARCHAR NOT NULL DEFAULT 'truncate'",
        "ALTER TABLE sessions ADD COLUMN rate_unit VARCHAR",
        "ALTER TABLE sessions ADD COLUMN rate INTEGER",
    ):
        connection.exec_driver_sql(statement)


def _add_measures(connection: Connection) -> None:
    """To version 6. The counters so far are of the measure `wanted`."""
    connection.exec_driver_sql("ALTER TABLE counts RENAME TO old_counts")
    tables.counts.create(connection)
    for statement in (
        "INSERT INTO counts SELECT session, bridge, 'wanted', before_packets, before_bytes, "
        "last_packets, last_bytes FROM old_counts",
        "DROP TABLE old_counts",
    ):
        connection.exec_driver_sql(statement)


def _add_identities(connection: Connection) -> None:
    """To version 7. Who speaks for a bridge is who is seen next; ports stay where they are."""
    tables.speakers.create(connection, checkfirst=True)
    tables.places.create(connection, checkfirst=True)
    connection.exec_driver_sql(
        "INSERT OR IGNORE INTO places SELECT 'port ' || iface_id, bridge, interface "
        "FROM placements WHERE iface_id IS NOT NULL GROUP BY iface_id HAVING COUNT(*) = 1"
    )


def _add_tenants_of_keys(connection: Connection) -> None:
    """To version 8. Keys of requests whose object is gone have no tenant; they expire in a day."""
    connection.exec_driver_sql("ALTER TABLE once ADD COLUMN tenant VARCHAR NOT NULL DEFAULT ''")
    for table in ("sessions", "collectors", "filters"):
        connection.exec_driver_sql(
            f"UPDATE once SET tenant = {table}.tenant FROM {table} "
            f"WHERE {table}.id = once.object_id"
        )
    connection.exec_driver_sql("CREATE INDEX keys_by_tenant ON once (tenant, at)")


def _add_tenants_of_link_tags(connection: Connection) -> None:
    """To version 9. The link tags of a tap port are those of the tenant that has copies sent there;
    if two tenants have, they are nobody's, and each gets new ones. Those of ports that no collector
    names, of networks and of workloads are left to the inventory (see Store.give_tenants).
    """
    users = (
        "FROM sensors JOIN collectors ON collectors.id = sensors.collector "
        "WHERE collectors.delivery = 'port' "
        "AND sensors.item = substr(numbers.key, instr(numbers.key, ':') + 1)"
    )
    connection.exec_driver_sql(
        "UPDATE numbers SET key = (SELECT CASE count(DISTINCT collectors.tenant) WHEN 1 "
        f"THEN min(collectors.tenant) ELSE '' END {users}) || '/' || key "
        "WHERE kind = 'tag' AND (key LIKE 'tap:%' OR key LIKE 'tap-%') "
        f"AND EXISTS (SELECT 1 {users})"
    )


def _hold_given_up_keys(connection: Connection) -> None:
    """To version 10. It is not known what bridges that are away still send with: every tunnel key
    at an address that a collector ever had, by the audit log, is held for its tenant once.
    """
    tables.held_keys.create(connection, checkfirst=True)
    columns = tables.audit.c
    query = select(columns.id, columns.tenant, columns.detail).filter_by(kind="collector")
    known: dict[str, dict[str, object]] = {}
    uses: set[KeyUse] = set()
    with reading_rows("the audit log"):
        for key, tenant, detail in connection.execute(query.order_by(columns.number)):
            values = known.setdefault(key, {})
            values |= json.loads(detail)
            uses |= _key_uses(TenantName(tenant), values)
    hold(connection, uses)


def _add_tenants_of_numbers(connection: Connection) -> None:
    """To version 11. A number counts for the tenant of what has, or had, it: that of what is gone
    is in the audit log, or not known.
    """
    columns = inspect(connection).get_columns(tables.numbers.name)
    if "tenant" not in {column["name"] for column in columns}:
        connection.exec_driver_sql(
            "ALTER TABLE numbers ADD COLUMN tenant VARCHAR NOT NULL DEFAULT ''"
        )
    gone = tables.audit.c
    known = {row.id: row.tenant for row in connection.execute(select(gone.id, gone.tenant))}
    for table in (tables.sessions, tables.filters, tables.collectors):
        rows = connection.execute(select(table.c.id, table.c.tenant))
        known |= {row.id: row.tenant for row in rows}
    given = select(tables.numbers.c.key).where(tables.numbers.c.kind.not_in(KINDS_OF_TENANTS))
    found = {key for key in connection.execute(given).scalars() if key in known}
    for key in sorted(found):
        row = update(tables.numbers).filter_by(key=key)
        row = row.where(tables.numbers.c.kind.not_in(KINDS_OF_TENANTS))
        connection.execute(row.values(tenant=known[key]))


def _key_uses(tenant: TenantName, values: Mapping[str, object]) -> set[KeyUse]:
    """The key at each address of a collector with these values in the audit log."""
    delivery = Delivery(values.get("delivery", Delivery.PORT.value))
    key, sensors = values.get("key"), values.get("sensors")
    if delivery is Delivery.PORT or not isinstance(key, int) or not isinstance(sensors, list):
        return set()
    space = key_space(delivery)
    return {KeyUse(tenant, space, key, IPAddress(sensor)) for sensor in sensors}
