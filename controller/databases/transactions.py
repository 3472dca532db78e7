"""The transactions (RFC 7047, 4.1.3) that we make, and what their results mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.databases.checks import clean
from controller.databases.columns import MARK, Row
from controller.databases.errors import BadPeer
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
    gone = [_uuid(ours[name][0]) for name in request["remove"] if name in ours]
    new = [["named-uuid", f"port{number}"] for number in range(len(added))]
    mutations = [("delete", gone), ("insert", new)]
    changes = [["ports", mutator, ["set", refs]] for mutator, refs in mutations if refs]
    if changes:
        operations.append(
            {"op": "mutate", "table": "Bridge", "where": _is(bridge), "mutations": changes}
        )
    if operations:
        operations.append(_comment("ports through which copies go to remote sensors"))
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


def _bridge(replica: Replica, bridge: str) -> Row:
    row = replica.tables["Bridge"].get(bridge)
    if row is None:
        raise CannotWrite("the database has no such bridge any more")
    return row


def _is(uuid: str) -> list[Any]:
    return [["_uuid", "==", _uuid(uuid)]]


def _uuid(uuid: str) -> list[str]:
    return ["uuid", uuid]


def _map(values: Mapping[str, str]) -> list[Any]:
    return ["map", [[key, value] for key, value in values.items()]]


def _comment(text: str) -> Operation:
    return {"op": "comment", "comment": f"cloudtap: {text}"}
