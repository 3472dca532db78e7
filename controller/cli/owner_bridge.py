"""The bridges of a host as its database has them: whose they are, and what on them is ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from controller.cli.client import Failure, Values
from controller.cli.vsctl import read_tables
from controller.databases import MARK, MIRROR_MARK, TAPS
from flows.model import Dpid

TARGET = "tcp:127.0.0.1:6653"
"""Where a controller on this host listens by default."""

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Open_vSwitch": ("external_ids",),
    "Bridge": (
        *("_uuid", "name", "datapath_id", "datapath_type", "fail_mode", "protocols", "ports"),
        *("mirrors", "controller", "external_ids", "other_config"),
    ),
    "Port": ("_uuid", "name", "interfaces", "external_ids"),
    "Interface": ("_uuid", "name", "external_ids"),
    "Mirror": ("_uuid", "name", "external_ids"),
    "Controller": ("_uuid", "target"),
}


@dataclass(frozen=True, slots=True)
class HostBridges:
    """The tables of one database, at one moment: rows by uuid."""

    tables: Mapping[str, Mapping[str, Values]]

    def is_known(self, bridge: str) -> bool:
        """Whether there is a bridge of this name."""
        return any(row["name"] == bridge for row in self.tables["Bridge"].values())

    def bridge(self, name: str) -> Values:
        """The row of a bridge.

        Raises:
            Failure: there is none of this name.
        """
        rows = self.tables["Bridge"].values()
        for row in rows:
            if row["name"] == name:
                return row
        others = ", ".join(sorted(row["name"] for row in rows)) or "none"
        raise Failure(f"there is no bridge {name!r}; the bridges of this host: {others}")

    def dpid(self, bridge: str) -> Dpid:
        """The datapath id of a bridge.

        Raises:
            Failure: it has none.
        """
        try:
            return Dpid(int(str(self.bridge(bridge)["datapath_id"]), 16))
        except ValueError as error:
            raise Failure(
                f"bridge {bridge!r} has no datapath id yet: is ovs-vswitchd up?"
            ) from error

    def datapath_type(self, bridge: str) -> str:
        """That of a bridge, as it is written."""
        return str(self.bridge(bridge)["datapath_type"])

    def targets(self, bridge: str) -> tuple[str, ...]:
        """The targets of its controllers."""
        rows = (
            self.tables["Controller"].get(uuid) for uuid in _set(self.bridge(bridge), "controller")
        )
        return tuple(sorted(str(row["target"]) for row in rows if row is not None))

    def tap_bridges(self, owner: str) -> list[Values]:
        """The tap bridges of an owner's bridge: at most one, unless somebody has copied a mark."""
        rows = self.tables["Bridge"].values()
        found = [row for row in rows if row["external_ids"].get(TAPS) == owner]
        return sorted(found, key=lambda row: str(row["name"]))

    def is_ovn(self, bridge: str) -> bool:
        """Whether OVN writes the flows of a bridge (ovn-controller(8): ovn-remote, ovn-bridge)."""
        for row in self.tables["Open_vSwitch"].values():
            ids = row["external_ids"]
            if "ovn-remote" in ids and ids.get("ovn-bridge", "br-int") == bridge:
                return True
        return False

    def who_is_called(self, name: str) -> str:
        """What has a name, with its article; empty if nothing has it."""
        for table in ("Bridge", "Port", "Interface"):
            if any(row["name"] == name for row in self.tables[table].values()):
                return f"{'an' if table == 'Interface' else 'a'} {table.lower()}"
        return ""

    def ports(self, bridge: Values) -> Iterator[Values]:
        """The rows of the ports of a bridge."""
        rows = (self.tables["Port"].get(uuid) for uuid in _set(bridge, "ports"))
        return (row for row in rows if row is not None)

    def mirrors(self, bridge: Values) -> Iterator[Values]:
        """The rows of its Mirrors."""
        rows = (self.tables["Mirror"].get(uuid) for uuid in _set(bridge, "mirrors"))
        return (row for row in rows if row is not None)

    def mark(self, port: Values, key: str) -> str | None:
        """The value of a mark that a port and all its interfaces have, or the port alone."""
        if key in port["external_ids"]:
            return str(port["external_ids"][key])
        rows = [self.tables["Interface"].get(uuid) for uuid in _set(port, "interfaces")]
        marks = {None if row is None else row["external_ids"].get(key) for row in rows}
        return marks.pop() if len(marks) == 1 else None


@dataclass(frozen=True, slots=True)
class Detachment:
    """All of ours that has to do with one owner's bridge.

    ``mirrors`` and ``patches`` are pairs of the row of a bridge and what is on it. Ports of tap
    bridges go with the bridge: ``inner_patches`` are ours, ``foreign_ports`` names of all others.
    """

    taps: tuple[Values, ...]
    mirrors: tuple[tuple[Values, Values], ...]
    patches: tuple[tuple[Values, Values], ...]
    inner_patches: tuple[Values, ...]
    foreign_ports: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.taps or self.mirrors or self.patches)

    def commands(self) -> list[str]:
        """Commands of ovs-vsctl that remove it; Open vSwitch deletes rows that nothing refers to.

        Each row is named by its uuid: two Mirrors may have one name.
        """
        words: list[str] = []
        for column, pairs in (("mirrors", self.mirrors), ("ports", self.patches)):
            for bridge, row in pairs:
                words += ["--", "remove", "Bridge", bridge["_uuid"], column, row["_uuid"]]
        for tap in self.taps:
            words += ["--", "remove", "Open_vSwitch", ".", "bridges", tap["_uuid"]]
        return words

    def rows(self) -> Iterator[tuple[str, Values]]:
        """The table and the identity of each row that would go."""
        for bridge, row in self.mirrors:
            yield "Mirror", {"name": row["name"], "bridge": bridge["name"], "_uuid": row["_uuid"]}
        for bridge, row in self.patches:
            yield "Port", {"name": row["name"], "bridge": bridge["name"], "_uuid": row["_uuid"]}
        for row in self.inner_patches:
            yield "Port", {"name": row["name"], "_uuid": row["_uuid"]}
        for name in self.foreign_ports:
            yield "Port", {"name": name, "made_by": "somebody else"}
        for tap in self.taps:
            yield "Bridge", {"name": tap["name"], "_uuid": tap["_uuid"]}


def read_host_bridges(vsctl: Sequence[str]) -> HostBridges:
    """What the database has of its bridges.

    Raises:
        Failure: it cannot be read.
    """
    tables = read_tables(vsctl, _COLUMNS)
    return HostBridges(
        {table: {str(row.get("_uuid", "")): row for row in rows} for table, rows in tables.items()}
    )


def check_may_be_tapped(host: HostBridges, bridge: str, targets: Sequence[str]) -> None:
    """Whether a bridge is somebody else's.

    Raises:
        Failure: there is no such bridge, or it is ours.
    """
    _check_is_no_tap_bridge(host.bridge(bridge))
    ours = sorted(set(targets) & set(host.targets(bridge)))
    if ours:
        raise Failure(
            f"bridge {bridge!r} has the controller {ours[0]}, so cloudtap owns it: sessions copy "
            "its frames without attaching it"
        )


def find_detachment(host: HostBridges, bridge: str) -> Detachment:
    """What is to be removed to detach a bridge, also one of which a part is gone already.

    Raises:
        Failure: there is neither a bridge of this name, nor a tap bridge of it; or it is one.
    """
    taps = host.tap_bridges(bridge)
    owner = None if taps and not host.is_known(bridge) else host.bridge(bridge)
    if owner is not None:
        _check_is_no_tap_bridge(owner)
    mirrors = [
        (owner, row)
        for row in (() if owner is None else host.mirrors(owner))
        if owner is not None and MIRROR_MARK in row["external_ids"]
    ]
    patches = [] if owner is None else [(owner, row) for row in _patches(host, owner)]
    names = {row["external_ids"][MIRROR_MARK] for _, row in mirrors}
    names |= {host.mark(row, MIRROR_MARK) for _, row in patches}
    gone = {tap["_uuid"] for tap in taps} | ({owner["_uuid"]} if owner else set())
    for other in host.tables["Bridge"].values():  # peers on a tap bridge whose mark is lost
        if other["_uuid"] not in gone:
            ours = (row for row in _patches(host, other) if host.mark(row, MIRROR_MARK) in names)
            patches += [(other, row) for row in ours]
    inner = [row for tap in taps for row in _patches(host, tap)]
    foreign = [
        str(row["name"])
        for tap in taps
        for row in host.ports(tap)
        if row["name"] != tap["name"]
        and host.mark(row, MIRROR_MARK) is None
        and host.mark(row, MARK) is None
    ]
    return Detachment(
        tuple(taps), tuple(mirrors), tuple(patches), tuple(inner), tuple(sorted(foreign))
    )


def _check_is_no_tap_bridge(row: Values) -> None:
    owner = row["external_ids"].get(TAPS)
    if owner is not None:
        raise Failure(
            f"bridge {row['name']!r} is itself the tap bridge of {owner!r}: name that one"
        )


def _patches(host: HostBridges, bridge: Values) -> list[Values]:
    """The ports of a bridge that are ends of patches to or from Mirrors of ours."""
    return [row for row in host.ports(bridge) if host.mark(row, MIRROR_MARK) is not None]


def _set(row: Values, column: str) -> list[str]:
    """The elements of a set; a set of one element may come as that one."""
    value = row[column]
    return value if isinstance(value, list) else [str(value)]
