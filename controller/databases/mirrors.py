"""The Mirrors of bridges: which are ours, what they select, and whether somebody has altered one.

Ours copies what some ports of a bridge of somebody else send and get to one end of a patch; the
other end is on a tap bridge. A row is ours if it has our mark.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping

from controller.databases.columns import TAPS, Row
from controller.databases.program import Record
from controller.databases.records import MIRROR_NAME, mirror_mark, strings
from controller.databases.references import Referrers, only, refer, refs

PEER_NAME = "ctp"
"""How the name of the other end of the patch begins; the digits are those of the Mirror."""
OURS_MAX = 64
"""The most Mirrors of ours on one bridge that are reported; Open vSwitch makes 32 in all."""
SELECTED_MAX = 1 << 14
"""The most ports that are reported as selected by the Mirrors of one bridge together."""
NO_VLAN = frozenset(["4095"])
"""The trunks of our patch ports: no frame has this VLAN, so that only the Mirror sends to them."""
_END = re.compile(f"({MIRROR_NAME}|{PEER_NAME})[0-9a-f]{{12}}", re.ASCII)


def peer_name(mirror: str) -> str:
    """The name of the port on the tap bridge at which the copies of a Mirror of ours arrive."""
    return PEER_NAME + mirror.removeprefix(MIRROR_NAME)


class MirrorIndex:
    """Reads the Mirrors of bridges, and finds the bridges for which a changed row matters.

    ``tables`` and the other values are those of the replica, which keeps them as they are now:
    ``ports`` and ``interfaces`` are the uuids of those of each name.
    """

    def __init__(
        self,
        tables: Mapping[str, Mapping[str, Row]],
        *,
        ports: Mapping[str, set[str]],
        interfaces: Mapping[str, set[str]],
        bridges_of_port: Referrers,
        ports_of_interface: Referrers,
    ) -> None:
        self._tables, self._ports, self._interfaces = tables, ports, interfaces
        self._bridges_of_port, self._ports_of_interface = bridges_of_port, ports_of_interface
        self._bridges_of_mirror: Referrers = defaultdict(set)
        self._mirrors_of_port: Referrers = defaultdict(set)

    def note(self, table: str, uuid: str, old: Row | None, new: Row | None) -> set[str]:
        """Take a row that has changed; the bridges whose Mirrors it may alter, besides itself."""
        if table == "Mirror":
            refer(self._mirrors_of_port, uuid, old, new, "output_port")
            return set(self._bridges_of_mirror.get(uuid, ()))
        found: set[str] = set()
        if table == "Bridge":
            refer(self._bridges_of_mirror, uuid, old, new, "mirrors")
            before, after = refs(old, "ports"), refs(new, "ports")
            is_other = old is None or new is None or old["external_ids"] != new["external_ids"]
            for port in before | after if is_other else before ^ after:
                for interface in refs(self._tables["Port"].get(port), "interfaces"):
                    found |= self._by_name(self._tables["Interface"].get(interface))
        elif table == "Port":
            found |= self._sending_to(uuid)
            for interface in refs(old, "interfaces") | refs(new, "interfaces"):
                found |= self._by_name(self._tables["Interface"].get(interface))
        elif table == "Interface":
            found |= self._by_name(old) | self._by_name(new)
            for port in self._ports_of_interface.get(uuid, ()):
                found |= self._sending_to(port)
        return found

    def read(self, uuid: str, bridge: Row) -> Record:
        """What is reported of the Mirrors of a bridge: ours, and how many others there are.

        ``tap`` of a Mirror is the uuid of the tap bridge that it sends to, empty if it is altered.
        """
        there = refs(bridge, "mirrors")
        rows = {mirror: self._tables["Mirror"].get(mirror) for mirror in there}
        names = sorted((mirror_mark(row), m) for m, row in rows.items() if row and mirror_mark(row))
        count = Counter(name for name, _ in names)
        ours, left = [], SELECTED_MAX
        for name, mirror in names[:OURS_MAX]:
            row = rows[mirror]
            assert row is not None
            sources, targets = refs(row, "select_src_port"), refs(row, "select_dst_port")
            if len(sources) + len(targets) > left:
                sources = targets = frozenset()
                tap = ""
            else:
                tap = self._tap(uuid, bridge, name, row) if count[name] == 1 else ""
            left -= len(sources) + len(targets)
            ours.append(_record(name, sources, targets, tap))
        return {"mirrors": ours, "other_mirrors": len(there) - len(ours)}

    def _tap(self, uuid: str, bridge: Row, name: str, row: Row) -> str:
        """The tap bridge that a Mirror sends to; empty if it is not as we make it."""
        out = self._end(name, peer_name(name), name)
        tap = only(self._bridges_of_port, self._end(peer_name(name), name, name))
        port, tap_bridge = self._tables["Port"].get(out), self._tables["Bridge"].get(tap)
        if port is None or tap_bridge is None or tap == uuid:
            return ""
        is_as_made = (
            row["name"] == name
            and row["output_port"] == out
            and not row["select_all"]
            and not row["select_vlan"]
            and row["output_vlan"] is None
            and row["snaplen"] is None
            and out in refs(bridge, "ports")
            and port["name"] == name
            and mirror_mark(port) == name
            and port["trunks"] == NO_VLAN
            and port["tag"] is None
            and port["vlan_mode"] in (None, "trunk")
            and strings(tap_bridge, "external_ids").get(TAPS) == bridge["name"]
        )
        return tap if is_as_made else ""

    def _end(self, name: str, peer: str, mirror: str) -> str:
        """The port of that name if it is an end of the patch of a Mirror of ours, or empty."""
        interface = only(self._interfaces, name)
        port = only(self._ports_of_interface, interface)
        row, port_row = self._tables["Interface"].get(interface), self._tables["Port"].get(port)
        is_end = (
            row is not None
            and row["type"] == "patch"
            and row["options"] == {"peer": peer}
            and mirror_mark(row) == mirror
            and len(refs(port_row, "interfaces")) == 1
        )
        return port if is_end else ""

    def _sending_to(self, port: str) -> set[str]:
        """The bridges with a Mirror that sends to a port."""
        mirrors = self._mirrors_of_port.get(port, ())
        return {bridge for m in mirrors for bridge in self._bridges_of_mirror.get(m, ())}

    def _by_name(self, row: Row | None) -> set[str]:
        """The bridges with a Mirror to whose patch an interface of this name belongs."""
        name = "" if row is None else str(row["name"])
        if not _END.fullmatch(name):
            return set()
        ports = self._ports.get(MIRROR_NAME + name[len(MIRROR_NAME) :], ())
        return {bridge for port in ports for bridge in self._sending_to(port)}


def _record(name: str, sources: frozenset[str], targets: frozenset[str], tap: str) -> Record:
    return {"name": name, "sources": sorted(sources), "targets": sorted(targets), "tap": tap}
