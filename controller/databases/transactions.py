"""The transactions (RFC 7047, 4.1.3) that we make, and what their results mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controller.databases.checks import clean
from controller.databases.columns import MARK, MIRROR_MARK, TAPS, Row
from controller.databases.errors import BadPeer, shown
from controller.databases.mirrors import NO_VLAN, peer_name
from controller.databases.records import mirror_mark, strings
from controller.databases.references import refs
from controller.databases.replica import Replica

DATABASE_NAME = "Open_vSwitch"
Operation = dict[str, Any]


class CannotWrite(Exception):
    """A request cannot be carried out; a clause says why."""


def secure(replica: Replica, bridge: str) -> list[Operation]:
    """Set ``fail_mode=secure`` on a bridge, given by its uuid.

    Raises:
        CannotWrite: the database does not have the bridge.
    """
    _bridge(replica, bridge)
    return [
        {"op": "update", "table": "Bridge", "where": _is(bridge), "row": {"fail_mode": "secure"}},
        _comment("a bridge of ours forwards nothing by itself"),
    ]


def change_tunnels(
    replica: Replica, bridge: str, request: Mapping[str, Any]
) -> tuple[list[Operation], list[str]]:
    """Add, repair and remove tunnel ports with our mark on a bridge, given by its uuid.

    Also returns the names that cannot be added, because ports of others have them.

    Raises:
        CannotWrite: the database does not have the bridge.
    """
    row = _bridge(replica, bridge)
    operations: list[Operation] = []
    taken = [port["name"] for port in request["add"] if replica.has_name(port["name"])]
    added = [port for port in request["add"] if port["name"] not in taken]
    for number, port in enumerate(added):
        operations += _add(number, port)
    ours = dict(_ours(replica, row))
    for port in request["repair"]:
        if port["name"] in ours:
            _, interface = ours[port["name"]]
            values = {"type": port["type"], "options": _map(port["options"])}
            operations.append(
                {"op": "update", "table": "Interface", "where": _is(interface), "row": values}
            )
    gone = [ours[name][0] for name in request["remove"] if name in ours]
    operations += _mutate(bridge, ports=(gone, [f"port{number}" for number in range(len(added))]))
    if operations:
        operations.append(_comment("ports through which copies go to remote sensors"))
    return operations, taken


def change_mirrors(
    replica: Replica, request: Mapping[str, Any]
) -> tuple[list[Operation], list[str]]:
    """Add and remove Mirrors with our mark on a bridge of somebody else, with their patches.

    All of one request is carried out, or nothing. What is removed has the names and our mark;
    remains of a Mirror, such as one end of its patch, are removed, too. Also returns the names that
    cannot be added, because ports of others have them.

    Raises:
        CannotWrite: the database does not have the bridges, they are not attached to each other, or
            a port that is to be selected is not on the bridge.
    """
    bridge, tap = _bridge(replica, request["bridge"]), _bridge(replica, request["tap"])
    mirrors = _mirrors_of(replica, bridge)
    new = [each for each in request["add"] if each["name"] not in mirrors.values()]
    taken = [e["name"] for e in new if any(map(replica.has_name, (e["name"], e["peer"])))]
    added = [mirror for mirror in new if mirror["name"] not in taken]
    operations: list[Operation] = []
    if added:
        operations += _expect_attached(request, bridge, tap, added)
    for number, mirror in enumerate(added):
        operations += _add_mirror(number, mirror)
    removed = frozenset(request["remove"])
    numbers = range(len(added))
    operations += _mutate(
        request["bridge"],
        ports=(
            [port for name in removed if (port := _end_of(replica, bridge, name, name))],
            [f"out{number}" for number in numbers],
        ),
        mirrors=(
            [uuid for uuid, name in mirrors.items() if name in removed],
            [f"mirror{number}" for number in numbers],
        ),
    )
    peers = [_end_of(replica, tap, peer_name(name), name) for name in removed]
    operations += _mutate(
        request["tap"],
        ports=([peer for peer in peers if peer], [f"in{number}" for number in numbers]),
    )
    if operations:
        operations.append(_comment("Mirrors that copy to a bridge of ours"))
    return operations, taken


def check_result(result: Any) -> None:
    """Whether a transaction was carried out.

    Raises:
        CannotWrite: the database has refused it.
        BadPeer: that is no result.
    """
    if not isinstance(result, list):
        raise BadPeer("it answered a transaction with what is no list")
    answers = [each for each in result if isinstance(each, dict)]
    for each in answers:
        if each.get("error") == "timed out":  # what was expected, in an operation `wait`, is not so
            raise CannotWrite("its bridges, ports or Mirrors have changed meanwhile")
        if each.get("error"):
            words = (str(each.get(key) or "") for key in ("error", "details"))
            raise CannotWrite(clean(": ".join(filter(None, words))))
    if any(each.get("count") == 0 for each in answers):
        raise CannotWrite("a row has gone meanwhile")


def _add(number: int, port: Mapping[str, Any]) -> list[Operation]:
    name, mark = port["name"], _map({MARK: port["kind"]})
    interface = {
        "name": name,
        "type": port["type"],
        "options": _map(port["options"]),
        "external_ids": mark,
    }
    refs = ["named-uuid", f"interface{number}"]
    row = {"name": name, "interfaces": refs, "external_ids": mark}
    return [
        {"op": "insert", "table": "Interface", "row": interface, "uuid-name": refs[1]},
        {"op": "insert", "table": "Port", "row": row, "uuid-name": f"port{number}"},
    ]


def _ours(replica: Replica, bridge: Row) -> list[tuple[str, tuple[str, str]]]:
    """The ports of a bridge whose interface has our mark: name, uuid of port and interface."""
    found = []
    ports = bridge["ports"]
    assert isinstance(ports, frozenset)
    for interface in replica.marked:
        row = replica.tables["Interface"].get(interface)
        port = replica.port_of(interface)
        if row is not None and port in ports:
            found.append((str(row["name"]), (port, interface)))
    return found


def _mirrors_of(replica: Replica, bridge: Row) -> dict[str, str]:
    """The Mirrors of ours on a bridge: their names by uuid."""
    rows = ((uuid, replica.tables["Mirror"].get(uuid)) for uuid in refs(bridge, "mirrors"))
    return {uuid: mirror_mark(row) for uuid, row in rows if row is not None and mirror_mark(row)}


def _end_of(replica: Replica, bridge: Row, name: str, mirror: str) -> str:
    """The port of a bridge that is the end of that name of the patch of a Mirror of ours."""
    interface = replica.interface_named(name)
    row, port = replica.tables["Interface"].get(interface), replica.port_of(interface)
    is_alone = len(refs(replica.tables["Port"].get(port), "interfaces")) == 1
    is_ours = row is not None and mirror_mark(row) == mirror and is_alone
    return port if is_ours and port in refs(bridge, "ports") else ""


def _expect_attached(
    request: Mapping[str, Any], bridge: Row, tap: Row, added: list[Mapping[str, Any]]
) -> list[Operation]:
    """Refuse, or let the database refuse, Mirrors of bridges that are not as we know them."""
    name, tap_name = str(bridge["name"]), str(tap["name"])
    mark = {TAPS: name}
    if strings(tap, "external_ids") != mark or request["bridge"] == request["tap"]:
        raise CannotWrite(f"bridge {shown(name)} is not attached to {shown(tap_name)} any more")
    selected = frozenset(uuid for each in added for uuid in (*each["sources"], *each["targets"]))
    if not selected <= refs(bridge, "ports"):
        raise CannotWrite(f"a port that is to be copied is not on bridge {shown(name)} any more")
    there = {"name": name, "mirrors": _uuids(refs(bridge, "mirrors"))}
    has_ports = ["ports", "includes", _uuids(selected)]
    has_mark = ["external_ids", "includes", _map(mark)]
    return [
        _wait([*_is(request["bridge"]), has_ports], there),
        _wait([*_is(request["tap"]), has_mark], {"name": tap_name}),
    ]


def _wait(where: list[Any], row: Mapping[str, Any]) -> Operation:
    """Carry out the transaction only if a bridge that meets conditions has these values."""
    return {
        "op": "wait",
        "timeout": 0,
        "table": "Bridge",
        "where": where,
        "columns": list(row),
        "until": "==",
        "rows": [dict(row)],
    }


def _add_mirror(number: int, mirror: Mapping[str, Any]) -> list[Operation]:
    """A Mirror, and both ends of the patch that it sends to; bridges are to refer to them.

    NORMAL of the other bridge floods to each port that is in a VLAN of the frame; the trunks of
    ours are one that no frame has.
    """
    name, peer, mark = mirror["name"], mirror["peer"], _map({MIRROR_MARK: mirror["name"]})
    trunks = ["set", [int(vlan) for vlan in NO_VLAN]]
    row = {
        "name": name,
        "select_src_port": _uuids(mirror["sources"]),
        "select_dst_port": _uuids(mirror["targets"]),
        "output_port": ["named-uuid", f"out{number}"],
        "external_ids": mark,
    }
    return [
        *_patch(f"out{number}", name, peer, {"external_ids": mark, "trunks": trunks}),
        *_patch(f"in{number}", peer, name, {"external_ids": mark}),
        {"op": "insert", "table": "Mirror", "row": row, "uuid-name": f"mirror{number}"},
    ]


def _patch(port: str, name: str, peer: str, values: Mapping[str, Any]) -> list[Operation]:
    options = _map({"peer": peer})
    interface = {"name": name, "type": "patch", "options": options}
    interface |= {"external_ids": values["external_ids"]}
    refs_to_it = ["named-uuid", f"{port}_interface"]
    row = {"name": name, "interfaces": refs_to_it, **values}
    return [
        {"op": "insert", "table": "Interface", "row": interface, "uuid-name": refs_to_it[1]},
        {"op": "insert", "table": "Port", "row": row, "uuid-name": port},
    ]


def _mutate(bridge: str, **columns: tuple[list[str], list[str]]) -> list[Operation]:
    """Remove rows from the columns of a bridge, given by uuid, and add new rows, by their names."""
    mutations: list[Any] = []
    for column, (gone, new) in columns.items():
        if gone:
            mutations.append([column, "delete", _uuids(gone)])
        if new:
            mutations.append([column, "insert", ["set", [["named-uuid", name] for name in new]]])
    if not mutations:
        return []
    return [{"op": "mutate", "table": "Bridge", "where": _is(bridge), "mutations": mutations}]


def _bridge(replica: Replica, bridge: str) -> Row:
    row = replica.tables["Bridge"].get(bridge)
    if row is None:
        raise CannotWrite("the database has no such bridge any more")
    return row


def _is(uuid: str) -> list[Any]:
    return [["_uuid", "==", _uuid(uuid)]]


def _uuid(uuid: str) -> list[str]:
    return ["uuid", uuid]


def _uuids(uuids: Iterable[str]) -> list[Any]:
    return ["set", [_uuid(uuid) for uuid in sorted(uuids)]]


def _map(values: Mapping[str, str]) -> list[Any]:
    return ["map", [[key, value] for key, value in values.items()]]


def _comment(text: str) -> Operation:
    return {"op": "comment", "comment": f"cloudtap: {text}"}
