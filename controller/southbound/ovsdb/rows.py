"""The bridges and interfaces in Open vSwitch databases, as values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from netaddr import EUI

from controller.databases import Record
from controller.devices import PAIR_MTU, PairEnd, end_of, pair_name
from controller.process import Yielder
from controller.southbound.ovsdb.device import UNKNOWN_DEVICE, Device, read_device
from controller.southbound.ovsdb.tunnel_port import marked, tunnel_options, tunnel_type
from flows.model import (
    OFPORT_MAX,
    Datapath,
    Dpid,
    MirrorKey,
    Offloads,
    Ofport,
    OwnerPort,
    PairState,
    Segmenter,
    TunnelKind,
    datapath_of,
)


@dataclass(frozen=True, slots=True, order=True)
class MirrorRow:
    """A Mirror of ours on an owner's bridge: what it selects now, as uuids of Port rows.

    ``name`` is that of what it selected when it was made (see ``mirror_name``): ports that go leave
    it by themselves. ``tap`` is the tap bridge that it sends to. ``is_altered``: the row, or the
    patch port that it sends to, is not as we make it.
    """

    name: str
    sources: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()
    is_altered: bool = False
    tap: Dpid | None = None

    @property
    def key(self) -> MirrorKey:
        """What it selects."""
        return MirrorKey(self.sources, self.targets)


@dataclass(frozen=True, slots=True, order=True)
class BridgeRow:
    """One bridge; with an empty ``fail_mode`` (standalone) it forwards by itself if we are away.

    ``database`` is the remote that reports it, ``row`` the uuid of its row there, which stays the
    same when its datapath id or its name changes. ``ovs_version`` is that of its host, and
    ``hosts`` are the names that the database has for that host: hostname and system-id.
    ``is_restoring``: its ovs-vswitchd waits for a restore of flows
    (``other_config:flow-restore-wait``). ``taps`` is the name of the bridge of its host from which
    it gets copies, for a tap bridge of ours. ``mirrors`` are those of ours on this bridge, by name;
    ``other_mirrors`` is the number of those of others.
    """

    dpid: Dpid
    name: str
    fail_mode: str = ""
    datapath_type: str = ""
    database: str = ""
    row: str = ""
    ovs_version: str = ""
    hosts: tuple[str, ...] = ()
    is_restoring: bool = False
    taps: str = ""
    mirrors: tuple[MirrorRow, ...] = ()
    other_mirrors: int = 0

    @property
    def is_here(self) -> bool:
        """Whether its database is on this machine."""
        return self.database.startswith("unix:")

    @property
    def is_kernel(self) -> bool:
        """Whether its datapath is that of the kernel."""
        return datapath_of(self.datapath_type) is Datapath.KERNEL


@dataclass(frozen=True, slots=True)
class InterfaceRow:
    """One interface of a bridge; ``ofport`` is None until Open vSwitch has assigned a number.

    ``tunnel`` is the kind of a tunnel port of ours; ``is_altered`` is True if its type or
    options are not those that we set. ``is_up`` is None if ``link_state`` was never set. ``error``
    says why Open vSwitch could not create the interface. ``database`` and ``bridge_row`` are those
    of its BridgeRow. ``pair_end``: it is an end of the segmenting pair of its bridge. ``port`` is
    its Port row. ``mirror`` is the name of the Mirror of ours whose patch port it is an end of.
    """

    dpid: Dpid
    bridge: str
    name: str
    iface_id: str | None = None
    attached_mac: EUI | None = None
    ofport: Ofport | None = None
    tunnel: TunnelKind | None = None
    is_altered: bool = False
    is_up: bool | None = None
    error: str = ""
    database: str = ""
    bridge_row: str = ""
    device: Device = UNKNOWN_DEVICE
    pair_end: PairEnd | None = None
    port: OwnerPort | None = None
    mirror: str = ""


def segmenter_of(rows: Iterable[InterfaceRow]) -> Segmenter | None:
    """The segmenting pair among the interfaces of one bridge, and what the database alone tells of
    its devices; None unless both ends are up.
    """
    ends = {row.pair_end: row for row in rows if row.pair_end is not None and row.is_up}
    if len(ends) < len(PairEnd):
        return None
    out, back = ends[PairEnd.OUT], ends[PairEnd.BACK]
    if out.ofport is None or back.ofport is None or out.ofport == back.ofport:
        return None
    return Segmenter(out.ofport, back.ofport, _pair_state((out.device, back.device)))


def _pair_state(devices: tuple[Device, Device]) -> PairState:
    """What a database tells of the devices of a segmenting pair: what `cloudtap bridge prepare` has
    recorded is of the ends of one veth device, whose peers stay the same.
    """
    recorded = {device.offloads for device in devices}
    if not all(device.is_veth for device in devices):
        return PairState.APART
    if any(device.mtu is not None and device.mtu < PAIR_MTU for device in devices):
        return PairState.SHORT
    if recorded == {Offloads.FINISHED}:
        return PairState.SOUND
    return PairState.OUTDATED if Offloads.OUTDATED in recorded else PairState.FAR


BridgeKey = tuple[Dpid, str, str]
"""A bridge as one database has it: datapath id, remote of the database, uuid of the Bridge row."""
InterfacesByBridge = Mapping[BridgeKey, tuple[InterfaceRow, ...]]


@dataclass(frozen=True, slots=True)
class OvsdbSnapshot:
    """The last known content of the databases; copies may be wrong if ``userspace_tso`` is True.

    ``by_bridge`` has the interfaces of each bridge, as the same object until one of them changes:
    who compares two snapshots looks only at bridges that have changed.
    """

    bridges: tuple[BridgeRow, ...] = ()
    interfaces: tuple[InterfaceRow, ...] = ()
    userspace_tso: bool = False
    by_bridge: InterfacesByBridge = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.interfaces and not self.by_bridge:
            groups: defaultdict[BridgeKey, list[InterfaceRow]] = defaultdict(list)
            for row in self.interfaces:
                groups[row.dpid, row.database, row.bridge_row].append(row)
            by_bridge = {key: tuple(rows) for key, rows in groups.items()}
            object.__setattr__(self, "by_bridge", by_bridge)

    def changed_since(self, before: OvsdbSnapshot) -> frozenset[Dpid]:
        """The bridges whose rows differ from those of ``before``."""
        changed = {row.dpid for row in set(self.bridges) ^ set(before.bridges)}
        for key in self.by_bridge.keys() | before.by_bridge.keys():
            now, then = self.by_bridge.get(key, ()), before.by_bridge.get(key, ())
            if now is not then and set(now) != set(then):
                changed.add(key[0])
        if self.userspace_tso != before.userspace_tso:
            changed |= {row.dpid for row in self.bridges}
        return frozenset(changed)


@dataclass(frozen=True, slots=True)
class DatabaseContent:
    """The rows of one database at one moment.

    ``tunnels`` are our tunnel ports by Bridge row, ``mirror_ends`` the ends of patches of Mirrors
    of ours.
    """

    bridges: tuple[BridgeRow, ...] = ()
    by_bridge: InterfacesByBridge = field(default_factory=dict)
    tunnels: Mapping[str, tuple[InterfaceRow, ...]] = field(default_factory=dict)
    mirror_ends: Mapping[str, tuple[InterfaceRow, ...]] = field(default_factory=dict)
    userspace_tso: bool = False


def merge(contents: Iterable[DatabaseContent]) -> OvsdbSnapshot:
    """One snapshot of several databases."""
    parts = list(contents)
    by_bridge = {key: rows for part in parts for key, rows in part.by_bridge.items()}
    return OvsdbSnapshot(
        tuple(sorted(row for part in parts for row in part.bridges)),
        tuple(chain.from_iterable(by_bridge.values())),
        any(part.userspace_tso for part in parts),
        by_bridge,
    )


Records = Mapping[str, Record | None]
"""Such rows by uuid; None for those that are gone."""


_TapDpids = Mapping[str, Dpid]
"""The datapath ids of tap bridges by the uuids of their rows."""


class DatabaseRows:
    """The rows of one database, kept by what its reports change; for one thread.

    What a report costs is in proportion to the report, and to the bridges whose rows it changes.
    """

    def __init__(self, database: str) -> None:
        self._database = database
        self._settings: Record = {}
        self._records: dict[str, Record] = {}
        self._bridges: dict[str, BridgeRow] = {}
        self._interfaces: dict[str, dict[str, InterfaceRow]] = {}
        self._bridge_by_interface: dict[str, str] = {}
        self._with_mirrors: dict[str, tuple[BridgeRow, _TapDpids, BridgeRow]] = {}
        """The rows of bridges with Mirrors of ours, with what they were made of."""
        self._content = DatabaseContent()

    def take_all(self, bridges: Records, interfaces: Records, settings: Record) -> DatabaseContent:
        """Take all rows anew: those that are not among them are gone."""
        gone = dict.fromkeys(self._records.keys() - bridges.keys())
        lost = dict.fromkeys(self._bridge_by_interface.keys() - interfaces.keys())
        return self.take({**gone, **bridges}, {**lost, **interfaces}, settings)

    def take(
        self, bridges: Records, interfaces: Records, settings: Record | None = None
    ) -> DatabaseContent:
        """Take changed rows; what there is now, the same value again if nothing has changed."""
        yielder = Yielder()
        changed: set[str] = set()
        has_other_tso = False
        before = self._content.userspace_tso
        if settings is not None:
            self._settings = settings
            has_other_tso = self._has_tso() != before
        for uuid in bridges.keys() | (self._records.keys() if settings is not None else set()):
            record = bridges.get(uuid, self._records.get(uuid))
            changed |= self._set_bridge(uuid, record)
        for uuid, record in interfaces.items():
            yielder.pause()
            changed |= self._set_interface(uuid, record)
        if changed or has_other_tso:
            self._content = self._publish(changed)
        return self._content

    def _has_tso(self) -> bool:
        config: Record = self._settings.get("other_config", {})
        return config.get("userspace-tso-enable") == "true"

    def _is_restoring(self) -> bool:
        config: Record = self._settings.get("other_config", {})
        return config.get("flow-restore-wait") == "true"

    def _set_bridge(self, uuid: str, record: Record | None) -> set[str]:
        before = self._bridges.get(uuid)
        if record is None:
            self._records.pop(uuid, None)
            self._bridges.pop(uuid, None)
            self._with_mirrors.pop(uuid, None)
            for interface in self._interfaces.pop(uuid, {}):
                self._bridge_by_interface.pop(interface, None)
            return set() if before is None else {uuid}
        row = BridgeRow(
            Dpid(record["dpid"]),
            record["name"],
            record["fail_mode"],
            record["datapath_type"],
            self._database,
            uuid,
            self._settings.get("ovs_version", ""),
            tuple(self._settings.get("hosts", ())),
            self._is_restoring(),
            record.get("taps", ""),
            other_mirrors=record.get("other_mirrors", 0),
        )
        old_record = self._records.get(uuid, {})
        self._records[uuid], self._bridges[uuid] = record, row
        interfaces = self._interfaces.setdefault(uuid, {})
        if before is not None and (before.dpid, before.name) != (row.dpid, row.name):
            for interface, old in interfaces.items():
                interfaces[interface] = _moved(old, row)
        is_same = row == before and _mirrors(record) == _mirrors(old_record)
        return set() if is_same else {uuid}

    def _set_interface(self, uuid: str, record: Record | None) -> set[str]:
        """Take one interface; the bridges that have changed by it."""
        before = self._bridge_by_interface.get(uuid)
        changed = set()
        if before is not None and (record is None or record["bridge"] != before):
            del self._interfaces[before][uuid], self._bridge_by_interface[uuid]
            changed.add(before)
        if record is not None and record["bridge"] in self._bridges:
            bridge = record["bridge"]
            row = _interface(self._bridges[bridge], record)
            if self._interfaces[bridge].get(uuid) != row:
                self._interfaces[bridge][uuid] = row
                changed.add(bridge)
            self._bridge_by_interface[uuid] = bridge
        return changed

    def _publish(self, changed: set[str]) -> DatabaseContent:
        """The content now; bridges that have not changed keep their tuples."""
        before = {key[2]: rows for key, rows in self._content.by_bridge.items()}
        by_bridge: dict[BridgeKey, tuple[InterfaceRow, ...]] = {}
        tunnels: dict[str, tuple[InterfaceRow, ...]] = {}
        ends: dict[str, tuple[InterfaceRow, ...]] = {}
        bridges = sorted(map(self._add_mirrors, self._bridges.values()))
        for bridge in bridges:
            uuid = bridge.row
            if uuid in changed or uuid not in before:
                rows = tuple(self._interfaces[uuid].values())
                tunnels[uuid] = tuple(row for row in rows if row.tunnel is not None)
                ends[uuid] = tuple(row for row in rows if row.mirror)
            else:
                rows, tunnels[uuid] = before[uuid], self._content.tunnels[uuid]
                ends[uuid] = self._content.mirror_ends[uuid]
            by_bridge[bridge.dpid, self._database, uuid] = rows
        return DatabaseContent(tuple(bridges), by_bridge, tunnels, ends, self._has_tso())

    def _add_mirrors(self, row: BridgeRow) -> BridgeRow:
        """A bridge with its Mirrors; each is named for the tap bridge that it sends to."""
        records = _mirrors(self._records[row.row])
        if not records:
            return row
        taps = {record["tap"]: self._bridges.get(record["tap"]) for record in records}
        dpids = {uuid: tap.dpid for uuid, tap in taps.items() if tap is not None}
        before = self._with_mirrors.get(row.row)
        if before is None or before[0] is not row or before[1] != dpids:
            mirrors = tuple(_mirror(record, dpids.get(record["tap"])) for record in records)
            before = row, dpids, replace(row, mirrors=mirrors)
            self._with_mirrors[row.row] = before
        return before[2]


def _mirrors(record: Record) -> list[Record]:
    found: list[Record] = record.get("mirrors", [])
    return found


def _mirror(record: Record, tap: Dpid | None) -> MirrorRow:
    """A Mirror as it is now: it selects fewer ports than when it was made if some have gone."""
    selected = frozenset(record["sources"]), frozenset(record["targets"])
    return MirrorRow(record["name"], *selected, is_altered=tap is None, tap=tap)


def _moved(row: InterfaceRow, bridge: BridgeRow) -> InterfaceRow:
    """The row of an interface whose bridge has another name or datapath id now."""
    is_altered = row.is_altered or (row.tunnel is not None and row.dpid != bridge.dpid)
    end = row.pair_end
    if end is not None and pair_name(bridge.dpid, end) != row.name:
        end = None
    moved = replace(row, dpid=bridge.dpid, bridge=bridge.name, is_altered=is_altered)
    return replace(moved, pair_end=end)


def _interface(bridge: BridgeRow, record: Record) -> InterfaceRow:
    tunnel: Any = record.get("tunnel")
    number: int | None = record["ofport"]
    kind = None if tunnel is None else marked(tunnel["kind"])
    is_altered = kind is not None and (tunnel["type"], tunnel["options"]) != (
        tunnel_type(kind),
        tunnel_options(bridge.dpid, kind),
    )
    return InterfaceRow(
        bridge.dpid,
        bridge.name,
        record["name"],
        record["iface_id"],
        None if record["mac"] is None else EUI(record["mac"], version=48),
        Ofport(number) if number is not None and number <= OFPORT_MAX else None,
        kind,
        is_altered,
        record["is_up"],
        record["error"],
        bridge.database,
        bridge.row,
        read_device(record.get("device", {})),
        end_of(bridge.dpid, record["name"], record.get("pair_end", "")),
        _port(record.get("port")),
        record.get("mirror", ""),
    )


def _port(record: Record | None) -> OwnerPort | None:
    if record is None:
        return None
    return OwnerPort(record["row"], record["vlan"], record["is_trunk"])
