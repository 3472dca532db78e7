"""What the Open vSwitch databases say about bridges and interfaces, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from netaddr import EUI, AddrFormatError

from controller.southbound.ovsdb.tunnel_port import marked, tunnel_options, tunnel_type
from flows.model.session import OFPORT_MAX, Delivery, Dpid, Ofport


@dataclass(frozen=True, slots=True, order=True)
class BridgeRow:
    """One bridge; an empty ``fail_mode`` means standalone: without us it forwards everything."""

    dpid: Dpid
    name: str
    fail_mode: str = ""
    datapath_type: str = ""


@dataclass(frozen=True, slots=True)
class InterfaceRow:
    """One interface of a bridge; ``ofport`` is None until Open vSwitch has given it a number.

    ``tunnel`` is the delivery of a tunnel port of ours, ``is_altered`` whether somebody gave that
    other settings. ``is_up`` is None while the state of its link was never told. ``error`` says why
    Open vSwitch could not make the interface.
    """

    dpid: Dpid
    bridge: str
    name: str
    iface_id: str | None = None
    attached_mac: EUI | None = None
    ofport: Ofport | None = None
    tunnel: Delivery | None = None
    is_altered: bool = False
    is_up: bool | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class OvsdbSnapshot:
    """All that the databases said last; ``userspace_tso`` spoils copies where it is True."""

    bridges: tuple[BridgeRow, ...] = ()
    interfaces: tuple[InterfaceRow, ...] = ()
    userspace_tso: bool = False

    def changed_since(self, before: OvsdbSnapshot) -> frozenset[Dpid]:
        """The bridges of which this one says something else than ``before``."""
        changed = {row.dpid for row in set(self.bridges) ^ set(before.bridges)}
        changed |= {row.dpid for row in set(self.interfaces) ^ set(before.interfaces)}
        if self.userspace_tso != before.userspace_tso:
            changed |= {row.dpid for row in self.bridges}
        return frozenset(changed)


def merge(snapshots: Iterable[OvsdbSnapshot]) -> OvsdbSnapshot:
    """The snapshots of several databases as one."""
    parts = list(snapshots)
    return OvsdbSnapshot(
        tuple(sorted(row for part in parts for row in part.bridges)),
        tuple(row for part in parts for row in part.interfaces),
        any(part.userspace_tso for part in parts),
    )


def read_rows(
    tables: Any, dpid_by_row: dict[UUID, Dpid], link_by_row: dict[UUID, bool]
) -> OvsdbSnapshot:
    """The snapshot of one database from the tables of its IDL replica.

    ``dpid_by_row`` and ``link_by_row`` are kept from call to call: ovsdb-server forgets datapath
    ids and states of links when it restarts (the columns are ephemeral), and ovs-vswitchd tells
    them again only after a while.
    """
    _note_links(tables["Interface"].rows, link_by_row)
    bridge_rows = tables["Bridge"].rows
    for row in bridge_rows.values():
        if row.datapath_id:
            dpid_by_row[row.uuid] = Dpid(int(row.datapath_id[0], 16))
    for gone in dpid_by_row.keys() - bridge_rows.keys():
        del dpid_by_row[gone]
    bridges: list[BridgeRow] = []
    interfaces: list[InterfaceRow] = []
    for uuid, dpid in dpid_by_row.items():
        row = bridge_rows[uuid]
        fail_mode = row.fail_mode[0] if row.fail_mode else ""
        bridges.append(BridgeRow(dpid, row.name, fail_mode, row.datapath_type))
        found = (interface for port in row.ports for interface in port.interfaces)
        interfaces += [_interface(bridges[-1], i, link_by_row.get(i.uuid)) for i in found]
    settings = [row.other_config for row in tables["Open_vSwitch"].rows.values()]
    tso = any(config.get("userspace-tso-enable") == "true" for config in settings)
    interfaces.sort(key=lambda row: (row.dpid, row.name))
    return OvsdbSnapshot(tuple(sorted(bridges)), tuple(interfaces), tso)


def _interface(bridge: BridgeRow, row: Any, is_up: bool | None) -> InterfaceRow:
    number = row.ofport[0] if row.ofport else 0
    tunnel = marked(row.external_ids)
    return InterfaceRow(
        bridge.dpid,
        bridge.name,
        row.name,
        row.external_ids.get("iface-id") or None,
        _mac(row.external_ids.get("attached-mac", "")),
        Ofport(number) if 1 <= number <= OFPORT_MAX else None,
        tunnel,
        tunnel is not None and not _is_as_made(bridge.dpid, tunnel, row),
        is_up,
        row.error[0] if row.error else "",
    )


def _is_as_made(dpid: Dpid, kind: Delivery, row: Any) -> bool:
    """Whether a tunnel port has the type and the options that we gave it."""
    return bool(row.type == tunnel_type(kind) and row.options == tunnel_options(dpid, kind))


def _note_links(rows: Any, link_by_row: dict[UUID, bool]) -> None:
    for row in rows.values():
        if row.link_state:
            link_by_row[row.uuid] = row.link_state[0] == "up"
    for gone in link_by_row.keys() - rows.keys():
        del link_by_row[gone]


def _mac(text: str) -> EUI | None:
    try:
        return EUI(text, version=48)
    except (AddrFormatError, ValueError):
        return None
