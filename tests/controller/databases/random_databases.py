"""Databases as an ovsdb-server may have them, random changes, and how the protocol tells them."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any
from uuid import UUID

Tables = dict[str, dict[str, dict[str, Any]]]
"""Rows by table and uuid; values as OVSDB has them in JSON, sets and maps as Python ones."""

EMPTY: dict[str, dict[str, Any]] = {
    "Open_vSwitch": {
        "bridges": frozenset(),
        "external_ids": {},
        "other_config": {},
        "ovs_version": frozenset(),
    },
    "Bridge": {
        "name": "",
        "datapath_id": frozenset(),
        "datapath_type": "",
        "external_ids": {},
        "fail_mode": frozenset(),
        "mirrors": frozenset(),
        "ports": frozenset(),
    },
    "Port": {
        "name": "",
        "external_ids": {},
        "interfaces": frozenset(),
        "protected": False,
        "qos": frozenset(),
        "rstp_status": {},
        "status": {},
        "tag": frozenset(),
        "trunks": frozenset(),
        "vlan_mode": frozenset(),
    },
    "Mirror": {
        "name": "",
        "external_ids": {},
        "output_port": frozenset(),
        "output_vlan": frozenset(),
        "select_all": False,
        "select_dst_port": frozenset(),
        "select_src_port": frozenset(),
        "select_vlan": frozenset(),
        "snaplen": frozenset(),
    },
    "QoS": {"type": "", "other_config": {}, "queues": {}},
    "Queue": {"other_config": {}},
    "Interface": {
        "name": "",
        "ofport": frozenset(),
        "external_ids": {},
        "type": "",
        "options": {},
        "error": frozenset(),
        "ifindex": frozenset(),
        "link_speed": frozenset(),
        "link_state": frozenset(),
        "mtu": frozenset(),
        "status": {},
    },
}
REFERENCES = {"bridges", "ports", "interfaces", "mirrors", "select_dst_port", "select_src_port"}
"""Columns that are sets of uuids."""
NUMBERS = {"trunks", "select_vlan"}
"""Columns that are sets of integers."""
MIRROR, PEER = "ctm0123456789ab", "ctp0123456789ab"
"""The names of the Mirror of ours, and of its patch ports."""


def uuid_of(number: int) -> str:
    """The uuid number so-and-so."""
    return str(UUID(int=number))


class RandomDatabase:
    """A database that changes at random, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tables: Tables = {table: {} for table in EMPTY}
        self._last = 0
        self.tables["Open_vSwitch"][self.new()] = {
            **EMPTY["Open_vSwitch"],
            "ovs_version": frozenset(["3.1.0"]),
        }

    def new(self) -> str:
        """A fresh uuid."""
        self._last += 1
        return uuid_of(self._last)

    def change(self) -> None:
        """One random transaction."""
        kinds = [self.add_bridge, self.add_port, self.add_port, self.add_port, self.remove_port]
        kinds += [self.touch, self.touch, self.touch, self.touch, self.move_port]
        kinds += [self.touch_port, self.touch_port, self.touch_qos]
        kinds += [self.add_mirror, self.touch_mirror, self.touch_mirror, self.touch_mirror]
        kinds += [self.remove_bridge] if self.random.random() < 0.3 else []
        for _ in range(self.random.randint(1, 4)):
            self.random.choice(kinds)()

    def add_bridge(self) -> None:
        """A bridge without ports."""
        uuid = self.new()
        self.tables["Bridge"][uuid] = {
            **EMPTY["Bridge"],
            "name": f"br{self._last}",
            "datapath_id": frozenset([f"{self._last:016x}"]),
        }
        self._refer("Open_vSwitch", "bridges", add=uuid)

    def remove_bridge(self) -> None:
        """A bridge with its ports and Mirrors."""
        if not (bridge := self._any("Bridge")):
            return
        for mirror in self.tables["Bridge"][bridge]["mirrors"]:
            del self.tables["Mirror"][mirror]
        for port in self.tables["Bridge"][bridge]["ports"]:
            self._delete_port(port)
        del self.tables["Bridge"][bridge]
        self._refer("Open_vSwitch", "bridges", remove=bridge)

    def add_port(self) -> None:
        """A port with an interface."""
        if bridge := self._any("Bridge"):
            self.add_ports(bridge, 1)

    def add_ports(self, bridge: str, count: int) -> None:
        """So many ports of a bridge, with an interface each."""
        row = self.tables["Bridge"][bridge]
        row["ports"] |= {self._make_port() for _ in range(count)}

    def _make_port(self) -> str:
        port, interface = self.new(), self.new()
        name = f"tap{self._last}"
        self.tables["Interface"][interface] = {
            **EMPTY["Interface"],
            "name": name,
            "ofport": frozenset([self._last]),
            "external_ids": {"iface-id": f"port {self._last}", "other": "x"},
        }
        self.tables["Port"][port] = {
            **EMPTY["Port"], "name": name, "interfaces": frozenset([interface])
        }  # fmt: skip
        return port

    def remove_port(self) -> None:
        """A port with its interface."""
        bridge, port = self._any_port()
        if bridge is not None:
            ports = self.tables["Bridge"][bridge]["ports"]
            self.tables["Bridge"][bridge]["ports"] = ports - {port}
            self._delete_port(port)

    def move_port(self) -> None:
        """A port from one bridge to another."""
        bridge, port = self._any_port()
        other = self._any("Bridge")
        if bridge is not None and other is not None:
            for row, ports in ((bridge, frozenset()), (other, frozenset([port]))):
                rest = self.tables["Bridge"][row]["ports"] - {port}
                self.tables["Bridge"][row]["ports"] = rest | ports

    def touch(self) -> None:
        """Some column of some interface or bridge."""
        if interface := self._any("Interface"):
            self._last += 1
            row = self.tables["Interface"][interface]
            choice = self.random.choice
            changes: list[tuple[str, Any]] = [
                ("link_state", frozenset([choice(["up", "down"])])),
                ("error", choice([frozenset(), frozenset(["no such device"])])),
                ("ofport", choice([frozenset(), frozenset([-1]), frozenset([self._last])])),
                ("external_ids", {"iface-id": choice(["a" * 300, "b\n", f"vm {self._last}"])}),
                ("external_ids", {}),
                ("external_ids", {"cloudtap-tunnel": "vxlan", "attached-mac": "02:00:00:00:00:01"}),
                ("options", {choice("abc"): choice("xyz")}),
                ("type", choice(["", "vxlan"])),
                ("mtu", frozenset([choice([1400, 1500, 9000])])),
                ("ifindex", frozenset([choice([7, 8])])),
                ("link_speed", frozenset([choice([10**7, 10**10])])),
                ("status", {"driver_name": choice(["veth", "tun", "e1000e"]), "other": "x"}),
            ]
            name, value = choice(changes)
            row[name] = value
        if (bridge := self._any("Bridge")) and self.random.random() < 0.3:
            values = [frozenset(["secure"]), frozenset(["standalone"]), frozenset()]
            self.tables["Bridge"][bridge]["fail_mode"] = self.random.choice(values)
            if self.random.random() < 0.3:
                self._last += 1
                dpid = self.random.choice([f"{self._last:016x}", "-1", "xyz"])
                self.tables["Bridge"][bridge]["datapath_id"] = frozenset([dpid])

    def touch_port(self) -> None:
        """Some column of some port."""
        if port := self._any("Port"):
            row, choice = self.tables["Port"][port], self.random.choice
            qos = self._any("QoS")
            changes: list[tuple[str, Any]] = [
                ("protected", choice([True, False])),
                ("qos", frozenset([qos]) if qos and choice([True, True, False]) else frozenset()),
                ("status", choice([{}, {"stp_state": choice(["blocking", "forwarding"])}])),
                ("rstp_status", choice([{}, {"rstp_port_state": "Discarding"}])),
                ("tag", choice([frozenset(), frozenset([7])])),
                ("vlan_mode", choice([frozenset(), frozenset(["native-untagged"])])),
            ]
            name, value = choice(changes)
            row[name] = value

    def touch_qos(self) -> None:
        """A QoS or a queue that is new, or changes."""
        choice = self.random.choice
        rates = choice([{}, {"max-rate": str(choice([10**6, 10**7]))}])
        queue, qos = self._any("Queue"), self._any("QoS")
        if queue is None or choice([True, False, False]):
            self.tables["Queue"][self.new()] = {"other_config": rates}
        elif qos is None or choice([True, False, False]):
            queues = choice([{}, {0: queue}, {1: queue}, {0: queue, 1: queue}])
            row = {"type": "linux-htb", "other_config": rates, "queues": queues}
            self.tables["QoS"][choice([self.new(), qos or self.new()])] = row
        else:
            self.tables["Queue"][queue]["other_config"] = rates

    def add_mirror(self) -> None:
        """The Mirror of ours with its patch, unless it exists; or one of somebody else."""
        owner, tap, (_, port) = self._any("Bridge"), self._any("Bridge"), self._any_port()
        if owner is None or tap is None or not port:
            return
        there = {row["name"] for row in self.tables["Interface"].values()}
        if owner == tap or there & {MIRROR, PEER}:
            self._make_mirror(owner, "other", port, {})
        else:
            self.attach(owner, tap, port)

    def attach(self, owner: str, tap: str, port: str) -> None:
        """The Mirror of ours on one bridge, which copies from a port, and its patch to another."""
        rows = self.tables["Bridge"]
        rows[tap]["external_ids"] = {"cloudtap-taps": rows[owner]["name"]}
        ends = {name: self._make_port() for name in (MIRROR, PEER)}
        for (name, end), bridge in zip(ends.items(), (owner, tap), strict=True):
            (interface,) = self.tables["Port"][end]["interfaces"]
            mark = {"cloudtap-mirror": MIRROR}
            self.tables["Port"][end] |= {"name": name, "external_ids": mark}
            peer = {MIRROR: PEER, PEER: MIRROR}[name]
            values = {"type": "patch", "options": {"peer": peer}}
            self.tables["Interface"][interface] |= {"name": name, "external_ids": mark, **values}
            rows[bridge]["ports"] |= {end}
        self.tables["Port"][ends[MIRROR]]["trunks"] = frozenset([4095])
        self._make_mirror(owner, MIRROR, port, {"cloudtap-mirror": MIRROR}, ends[MIRROR])

    def _make_mirror(
        self, bridge: str, name: str, port: str, mark: dict[str, str], output: str = ""
    ) -> None:
        uuid = self.new()
        self.tables["Mirror"][uuid] = {
            **EMPTY["Mirror"],
            "name": name,
            "external_ids": mark,
            "select_src_port": frozenset([port]),
            "output_port": frozenset([output] if output else []),
        }
        self.tables["Bridge"][bridge]["mirrors"] |= {uuid}

    def touch_mirror(self) -> None:
        """Some value of a Mirror, or of what it depends on, as we make it or as we do not."""
        choice = self.random.choice
        mirror, (_, port) = self._any("Mirror"), self._any_port()
        ours = {
            (table, row["name"]): row
            for table in ("Bridge", "Port", "Interface")
            for row in self.tables[table].values()
            if row["name"] in (MIRROR, PEER) or row.get("external_ids", {}).get("cloudtap-taps")
        }
        if mirror is not None and port and choice([True, False]):
            row = self.tables["Mirror"][mirror]
            changes: list[tuple[str, Any]] = [
                ("select_all", choice([True, False, False])),
                ("select_dst_port", choice([frozenset(), frozenset([port])])),
                ("select_vlan", choice([frozenset(), frozenset([1, 2])])),
                ("snaplen", choice([frozenset(), frozenset([64])])),
                ("external_ids", choice([{}, {"cloudtap-mirror": MIRROR}])),
            ]
            name, value = choice(changes)
            row[name] = value
        elif ours:
            (table, name), row = choice(list(ours.items()))
            mark, other = {"cloudtap-mirror": MIRROR}, {"cloudtap-mirror": "ctmffffffffffff"}
            options = choice([{"peer": {MIRROR: PEER}.get(name, MIRROR)}, {"peer": "other"}])
            owners = [bridge["name"] for bridge in self.tables["Bridge"].values()]
            values: dict[str, list[tuple[str, Any]]] = {
                "Bridge": [("external_ids", choice([{}, {"cloudtap-taps": choice(owners)}]))],
                "Port": [
                    ("trunks", frozenset(choice([[4095], [4095], [1, 4095], []]))),
                    ("tag", frozenset()),
                    ("vlan_mode", frozenset()),
                    ("external_ids", choice([mark, mark, {}, other])),
                ],
                "Interface": [
                    ("external_ids", choice([mark, mark, {}, other])),
                    ("type", choice(["patch", "patch", ""])),
                    ("options", options),
                ],
            }
            column, value = choice(values[table])
            row[column] = value

    def copy(self) -> Tables:
        """The tables now."""
        return copy.deepcopy(self.tables)

    def _any(self, table: str) -> str | None:
        rows = list(self.tables[table])
        return self.random.choice(rows) if rows else None

    def _any_port(self) -> tuple[str | None, str]:
        found = [(b, p) for b, row in self.tables["Bridge"].items() for p in sorted(row["ports"])]
        return self.random.choice(found) if found else (None, "")

    def _delete_port(self, port: str) -> None:
        for mirror in self.tables["Mirror"].values():  # their references are weak
            for column in ("output_port", "select_dst_port", "select_src_port"):
                mirror[column] -= {port}
        for interface in self.tables["Port"].pop(port)["interfaces"]:
            del self.tables["Interface"][interface]

    def _refer(self, table: str, column: str, *, add: str = "", remove: str = "") -> None:
        (row,) = self.tables[table].values()
        row[column] = (row[column] | {add} if add else row[column]) - {remove}


def to_json(column: str, value: Any) -> Any:
    """A value as RFC 7047 writes it."""
    if column == "queues":
        return ["map", [[k, ["uuid", v]] for k, v in value.items()]]
    if isinstance(value, dict):
        return ["map", [[k, v] for k, v in value.items()]]
    if isinstance(value, frozenset):
        is_reference = column in REFERENCES or column in ("qos", "output_port")
        elements = [["uuid", e] if is_reference else e for e in sorted(value, key=str)]
        return elements[0] if len(elements) == 1 else ["set", elements]
    return value


def row_to_json(row: dict[str, Any], *, with_defaults: bool) -> dict[str, Any]:
    """A row; ``update2`` leaves out default values."""
    return {
        name: to_json(name, value)
        for name, value in row.items()
        if with_defaults or value not in ("", 0, frozenset(), {})
    }


def updates(before: Tables, after: Tables) -> dict[str, Any]:
    """What an ovsdb-server sends for ``monitor``: ``update``."""
    found: dict[str, Any] = {}
    for table, uuid, old, new in _differences(before, after):
        row: dict[str, Any] = {}
        if old is not None:
            row["old"] = row_to_json(old, with_defaults=True)
        if new is not None:
            row["new"] = row_to_json(new, with_defaults=True)
        found.setdefault(table, {})[uuid] = row
    return found


def updates2(before: Tables, after: Tables) -> dict[str, Any]:
    """What an ovsdb-server sends for ``monitor_cond``: ``update2``."""
    found: dict[str, Any] = {}
    for table, uuid, old, new in _differences(before, after):
        if new is None:
            row: dict[str, Any] = {"delete": None}
        elif old is None:
            row = {"insert": row_to_json(new, with_defaults=False)}
        else:
            row = {"modify": dict(_modify(old, new))}
        found.setdefault(table, {})[uuid] = row
    return found


def initial2(tables: Tables) -> dict[str, Any]:
    """The first answer to ``monitor_cond``."""
    return {
        table: {
            uuid: {"initial": row_to_json(row, with_defaults=False)} for uuid, row in rows.items()
        }
        for table, rows in tables.items()
        if rows
    }


def _modify(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in new.items():
        before = old[name]
        if value == before:
            continue
        if name in REFERENCES:
            value = value ^ before
            yield name, ["set", [["uuid", e] for e in sorted(value)]]
        elif name in NUMBERS:
            yield name, ["set", sorted(value ^ before)]
        elif isinstance(value, dict):
            keys = [k for k in before | value if before.get(k) != value.get(k)]
            # a key that is gone comes with its old value
            yield name, to_json(name, {k: value.get(k, before.get(k)) for k in keys})
        else:
            yield name, to_json(name, value)


def _differences(
    before: Tables, after: Tables
) -> Iterator[tuple[str, str, dict[str, Any] | None, dict[str, Any] | None]]:
    for table in EMPTY:
        for uuid in before[table].keys() | after[table].keys():
            old, new = before[table].get(uuid), after[table].get(uuid)
            if old != new:
                yield table, uuid, old, new
