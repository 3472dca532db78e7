"""Reads the bridges of one database once, with their interfaces and what is set on their ports.

For a look at a host, also where no controller runs. What comes is bounded as everything that
databases send.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any

from controller.databases.checks import check_name, clean, read_iface_id, read_mac
from controller.databases.columns import MARK, PAIR_MARK, Kind, Row, WatchedColumn, decode
from controller.databases.errors import BadPeer, BadValue
from controller.databases.framing import JsonSplitter
from controller.databases.program import Record
from controller.databases.records import strings
from controller.databases.remote import BUFFER, TlsFiles, connect, explain
from controller.databases.transactions import DATABASE_NAME

READ_WITHIN_S = 10.0
"""How long a database may take to answer, in seconds."""
TYPES_OF_TUNNELS = frozenset(
    [
        "bareudp",
        "erspan",
        "geneve",
        "gre",
        "gtpu",
        "ip6erspan",
        "ip6gre",
        "lisp",
        "srv6",
        "stt",
        "vxlan",
    ]
)
"""The interface types of tunnels (ovs-vswitchd.conf.db(5))."""

_TEXT, _MAYBE_TEXT = WatchedColumn(Kind.STRING), WatchedColumn(Kind.OPTIONAL_STRING)
_ROWS, _MAP = WatchedColumn(Kind.ROWS), WatchedColumn(Kind.STRINGS)
_ROW = WatchedColumn(Kind.OPTIONAL_ROW)
READ: Mapping[str, Mapping[str, WatchedColumn]] = {
    "Bridge": {"name": _TEXT, "ports": _ROWS, "mirrors": _ROWS},
    "Port": {
        "name": _TEXT,
        "interfaces": _ROWS,
        "tag": WatchedColumn(Kind.OPTIONAL_INTEGER),
        "vlan_mode": _MAYBE_TEXT,
    },
    "Interface": {
        "name": _TEXT,
        "type": _TEXT,
        "ofport": WatchedColumn(Kind.OPTIONAL_INTEGER),
        "external_ids": _MAP,
        "options": _MAP,
        "status": _MAP,
        "mac_in_use": _MAYBE_TEXT,
        "error": _MAYBE_TEXT,
    },
    "Mirror": {"output_port": _ROW},
}
"""What is read. ``trunks`` of Port is read besides, and only whether it is empty."""

Tables = dict[str, dict[str, Row]]


class CannotRead(Exception):
    """A database cannot be read; a sentence says why, and what to do."""


def read_bridges(remote: str, tls: TlsFiles | None = None) -> dict[str, list[Record]]:
    """The interfaces of each bridge of a database, by the name of the bridge.

    A record has ``name``, ``type``, ``ofport``, ``iface_id``, ``mac`` (that of the workload, if it
    is known), ``peer`` (of a patch port), ``driver``, ``error``, ``tag``, and whether it
    ``is_trunk``, ``is_bonded``, ``is_tunnel``, ``is_ours`` (for tunnels or a segmenting pair) and
    ``gets_copies`` of a Mirror. The interface of the bridge itself is left out.

    Raises:
        CannotRead: it is not reachable, or not an Open vSwitch database.
    """
    try:
        answer = asyncio.run(_ask(remote, tls))
        return _bridges(_tables(answer))
    except BadPeer as problem:
        raise CannotRead(f"{remote} is not used: {problem}") from problem
    except OSError as problem:
        raise CannotRead(explain(remote, problem)) from problem


async def _ask(remote: str, tls: TlsFiles | None) -> list[Any]:
    """The results of one `transact` that selects all rows."""
    reader, writer = await connect(remote, None if tls is None else tls.renewed())
    try:
        asked = [
            {"op": "select", "table": table, "where": [], "columns": ["_uuid", *columns]}
            for table, columns in READ.items()
        ]
        asked[list(READ).index("Port")]["columns"].append("trunks")  # type: ignore[attr-defined]
        params = [DATABASE_NAME, *asked]
        writer.write(json.dumps({"method": "transact", "params": params, "id": 0}).encode())
        splitter = JsonSplitter()
        async with asyncio.timeout(READ_WITHIN_S):
            while chunk := await reader.read(BUFFER):
                for message in splitter.feed(chunk):
                    if message.get("id") == 0 and "method" not in message:
                        return _result(message)
        raise ConnectionResetError
    finally:
        writer.transport.abort()


def _result(message: Mapping[str, Any]) -> list[Any]:
    error, result = message.get("error"), message.get("result")
    if error is not None:
        raise BadPeer(f"it refuses to be read ({clean(json.dumps(error))})")
    if not isinstance(result, list) or len(result) != len(READ):
        raise BadPeer("it did not send what was asked for")
    return result


def _tables(results: list[Any]) -> Tables:
    found: Tables = {}
    for (table, columns), result in zip(READ.items(), results, strict=True):
        rows = result.get("rows") if isinstance(result, dict) else None
        if not isinstance(rows, list):
            raise BadPeer(f"it did not send the rows of {table} ({clean(json.dumps(result))})")
        found[table] = {}
        for each in rows:
            if not isinstance(each, dict) or not {"_uuid", *columns} <= each.keys():
                raise BadPeer(f"it sent a row of {table} without the columns that were asked for")
            row: Row = {name: decode(column, each[name]) for name, column in columns.items()}
            if table == "Port":
                row["trunks"] = each.get("trunks") != ["set", []]
            found[table][str(decode(_ROW, each["_uuid"]))] = row
    return found


def _bridges(tables: Tables) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for bridge in tables["Bridge"].values():
        name = clean(str(bridge["name"]))
        outputs = {
            str(tables["Mirror"].get(uuid, {}).get("output_port"))
            for uuid in _uuids(bridge["mirrors"])
        }
        records = found.setdefault(name, [])
        for uuid in _uuids(bridge["ports"]):
            port = tables["Port"].get(uuid)
            if port is None:
                continue
            for interface in _interfaces(port, tables):
                if interface["name"] != name:
                    records.append({**interface, "gets_copies": uuid in outputs})
        records.sort(key=lambda record: (record["ofport"] or 1 << 16, record["name"]))
    return found


def _interfaces(port: Row, tables: Tables) -> Iterable[Record]:
    uuids = [uuid for uuid in _uuids(port["interfaces"]) if uuid in tables["Interface"]]
    for row in (tables["Interface"][uuid] for uuid in uuids):
        external_ids, kind = strings(row, "external_ids"), str(row["type"])
        try:
            name, iface_id = check_name(str(row["name"])), read_iface_id(external_ids)
        except BadValue as problem:
            raise BadPeer(f"an interface cannot be used: {problem}") from problem
        mac = read_mac(external_ids)
        if mac is None and kind == "internal":  # the device is the workload's own
            mac = read_mac({"attached-mac": str(row["mac_in_use"] or "")})
        yield {
            "name": name,
            "type": kind,
            "ofport": row["ofport"],
            "iface_id": iface_id,
            "mac": mac,
            "peer": clean(strings(row, "options").get("peer")) if kind == "patch" else "",
            "driver": clean(strings(row, "status").get("driver_name")),
            "error": clean(str(row["error"] or "")),
            "tag": port["tag"],
            "is_trunk": bool(port["trunks"])
            or str(port["vlan_mode"] or "").startswith(("trunk", "native", "dot1q")),
            "is_bonded": len(uuids) > 1,
            "is_tunnel": kind in TYPES_OF_TUNNELS,
            "is_ours": not {MARK, PAIR_MARK}.isdisjoint(external_ids),
        }


def _uuids(value: object) -> Iterable[str]:
    return sorted(value) if isinstance(value, frozenset) else ()
