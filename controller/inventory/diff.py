"""What an edit of an inventory would change: objects, production of workloads, sources of sessions.

It asks the same questions as the brake, so it knows beforehand whether the file would wait for
`cloudtap inventory accept`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum

from controller.inventory.brake import Loss, loss
from controller.inventory.port_lines import shown_mac
from controller.inventory.values import DeclaredBridge, Inventory, LinkHint, PortHint
from controller.process import Yielder
from flows.errors import CloudtapError
from flows.model import (
    Collector,
    CollectorId,
    NetworkId,
    Port,
    PortId,
    PortKind,
    Session,
    check_session,
    is_watched,
)


class Effect(Enum):
    """What an edit takes away, from nothing to so much that it would wait."""

    NONE = "none"
    """Nothing changes."""
    HARMLESS = "harmless"
    """Something changes, and nothing is taken away from workloads or sessions."""
    TAKES = "takes"
    """Workloads lose production, links vanish, or sessions lose sources, sensors or their leave."""
    HELD = "held"
    """So much vanishes that the file is not used before `cloudtap inventory accept`."""


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """Objects of one kind that are added, removed, and changed (each with what changes)."""

    added: Sequence[str] = ()
    removed: Sequence[str] = ()
    changed: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class CutOff:
    """A port that loses what it has now; ``is_running``: it is on a bridge now, as far as known."""

    port: str
    reason: str
    is_running: bool


@dataclass(frozen=True, slots=True)
class SourceChange:
    """A session whose sources or sensors change; ``refused`` says why it may not go on at all."""

    session: str
    gains: Sequence[str] = ()
    loses: Sequence[str] = ()
    sensors_lost: Sequence[str] = ()
    refused: str = ""

    @property
    def takes(self) -> bool:
        """Whether something is taken away from it."""
        return bool(self.loses or self.sensors_lost or self.refused)


@dataclass(frozen=True, slots=True)
class InventoryDiff:
    """What changes when one inventory takes the place of another.

    ``held`` is a sentence if the file would wait for `cloudtap inventory accept`. ``sessions`` is
    None if they are not known.
    """

    tenants: ObjectChange = ObjectChange()
    networks: ObjectChange = ObjectChange()
    ports: ObjectChange = ObjectChange()
    links: ObjectChange = ObjectChange()
    bridges: ObjectChange = ObjectChange()
    cut_off: Sequence[CutOff] = ()
    sessions: Sequence[SourceChange] | None = None
    held: str = ""

    @property
    def effect(self) -> Effect:
        """The worst of what would happen."""
        if self.held:
            return Effect.HELD
        if self.cut_off or self.links.removed or any(s.takes for s in self.sessions or ()):
            return Effect.TAKES
        kinds = (self.tenants, self.networks, self.ports, self.links, self.bridges)
        return Effect.HARMLESS if any(kinds) or self.sessions else Effect.NONE


@dataclass(frozen=True, slots=True)
class Wanted:
    """The sessions that are to be looked at, with all collectors."""

    sessions: Sequence[Session] = ()
    collectors: Mapping[CollectorId, Collector] = field(default_factory=dict)


def inventory_diff(
    before: Inventory,
    after: Inventory,
    *,
    running: Collection[PortId],
    vanish_limit: float,
    wanted: Wanted | None = None,
) -> InventoryDiff:
    """What changes when ``after`` takes the place of ``before``.

    ``running`` are the ports that are on a bridge. ``vanish_limit`` is the share (0..1) of ports or
    links beyond which a file is held. ``wanted`` is None if the sessions are not known.
    """
    lost = loss(before, after, running)
    old, new = _ports(before), _ports(after)
    changed = list(_changed(before, after, old, new))
    return InventoryDiff(
        _changes({t: t for t in before.tenants}, {t: t for t in after.tenants}),
        _changes(_networks(before), _networks(after)),
        _port_changes(before, after, old, new),
        _changes(_links(before), _links(after)),
        _changes(_bridges(before), _bridges(after)),
        [CutOff(_name(p), _why(p, new.get(p.id), after), p.id in running) for p in lost.ports],
        None if wanted is None else list(_sessions(wanted, changed, old, new)),
        _held(lost, vanish_limit),
    )


def _held(lost: Loss, vanish_limit: float) -> str:
    if not lost.exceeds(vanish_limit):
        return ""
    return (
        f"{lost} are missing or changed, more than {vanish_limit:.0%}: the file is not used before "
        "`cloudtap inventory accept`"
    )


def as_values(diff: InventoryDiff, most: int) -> dict[str, object]:
    """A diff as plain values for JSON: of each list the first ``most``, and the number of all."""

    def listed(items: Sequence[object]) -> dict[str, object]:
        return {"first": list(items[:most]), "count": len(items)}

    def changes(change: ObjectChange) -> dict[str, object]:
        return {
            "added": listed(change.added),
            "removed": listed(change.removed),
            "changed": listed(change.changed),
        }

    sessions = None
    if diff.sessions is not None:
        shown = [
            {
                "session": one.session,
                "gains": listed(one.gains),
                "loses": listed(one.loses),
                "sensors_lost": listed(one.sensors_lost),
                "refused": one.refused,
            }
            for one in diff.sessions[:most]
        ]
        sessions = {"first": shown, "count": len(diff.sessions)}
    return {
        "effect": diff.effect.value,
        "held": diff.held,
        "tenants": changes(diff.tenants),
        "networks": changes(diff.networks),
        "ports": changes(diff.ports),
        "links": changes(diff.links),
        "bridges": changes(diff.bridges),
        "cut_off": listed([asdict(one) for one in diff.cut_off]),
        "sessions": sessions,
    }


# --- objects ------------------------------------------------------------------------------------


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> ObjectChange:
    """Changes of objects, by what identifies them; the values are what is shown of them."""
    return ObjectChange(
        [shown for key, shown in after.items() if key not in before],
        [shown for key, shown in before.items() if key not in after],
        [f"{shown} -> {after[k]}" for k, shown in before.items() if after.get(k, shown) != shown],
    )


def _networks(inventory: Inventory) -> dict[str, str]:
    return {network.id: f"{network.tenant}/{network.name}" for network in inventory.networks}


def _links(inventory: Inventory) -> dict[str, str]:
    def key(link: LinkHint) -> str:
        ends = sorted(f"{end.bridge}/{end.interface}" for end in (link.a, link.b))
        return " - ".join(ends)

    return {key(link): key(link) for link in inventory.links}


def _bridges(inventory: Inventory) -> dict[str, str]:
    def shown(bridge: DeclaredBridge) -> str:
        names = ("name", "host", "certificate", "database")
        words = [f"{n} {getattr(bridge, n)}" for n in names if getattr(bridge, n) is not None]
        return " ".join([f"{bridge.dpid:#x}", *([f"({', '.join(words)})"] if words else [])])

    return {f"{bridge.dpid:x}": shown(bridge) for bridge in inventory.bridges}


def _ports(inventory: Inventory) -> dict[PortId, Port]:
    return {port.id: port for port in inventory.ports}


def _port_changes(
    before: Inventory,
    after: Inventory,
    old: Mapping[PortId, Port],
    new: Mapping[PortId, Port],
) -> ObjectChange:
    networks_before, networks_after = _network_names(before), _network_names(after)
    yielder, changed = Yielder(), list[str]()
    for key, port in old.items():
        yielder.pause()
        if key not in new:
            continue
        was = _fields(port, before.hints.get(key), networks_before)
        now = _fields(new[key], after.hints.get(key), networks_after)
        words = [f"{name} {was[name]} -> {now[name]}" for name in was if was[name] != now[name]]
        if words:
            changed.append(f"{_name(port)}: {', '.join(words)}")
    return ObjectChange(
        [_name(port) for key, port in new.items() if key not in old],
        [_name(port) for key, port in old.items() if key not in new],
        changed,
    )


def _network_names(inventory: Inventory) -> dict[NetworkId, str]:
    return {network.id: network.name for network in inventory.networks}


def _fields(port: Port, hint: PortHint | None, networks: Mapping[NetworkId, str]) -> dict[str, str]:
    """The values of a port as the inventory has them; a dash for those that are not there."""
    network = "" if port.network is None else networks.get(port.network, port.network)
    found = {
        "name": port.name,
        "tenant": port.tenant,
        "kind": port.kind.value,
        "network": network,
        "mac": "" if port.mac is None else shown_mac(port.mac),
        "ips": " ".join(map(str, port.ips)),
        "anti_spoofing": "true" if port.is_protected else "false",
        "labels": " ".join(f"{key}={value}" for key, value in port.labels),
        "bridge": (hint and hint.bridge) or "",
        "interface": (hint and hint.interface) or "",
    }
    return {name: value or "-" for name, value in found.items()}


def _changed(
    before: Inventory,
    after: Inventory,
    old: Mapping[PortId, Port],
    new: Mapping[PortId, Port],
) -> Iterator[PortId]:
    yielder = Yielder()
    for port in old.keys() | new.keys():
        yielder.pause()
        if old.get(port) != new.get(port) or before.hints.get(port) != after.hints.get(port):
            yield port


def _name(port: Port) -> str:
    return f"{port.tenant}/{port.name}"


# --- what is taken away ---------------------------------------------------------------------------


def _why(before: Port, after: Port | None, inventory: Inventory) -> str:
    """Why a port loses what it has; the order of the questions is that of their weight."""
    is_tap = before.kind is PortKind.TAP
    if after is None:
        return "is declared no more: " + ("it gets no copies" if is_tap else "it is cut off")
    if before.kind is not after.kind:
        return (
            "is a workload now: it gets no copies" if is_tap else "is a tap port now: it is cut off"
        )
    if before.tenant != after.tenant:
        return f"belongs to tenant {after.tenant} now"
    if before.network != after.network:
        name = _network_names(inventory).get(after.network or NetworkId(""), "")
        return f"is in network {name} now: it reaches ports of that one only"
    if before.mac != after.mac:
        mac = "none" if after.mac is None else shown_mac(after.mac)
        return f"has another MAC address now: {mac}"
    if before.is_protected != after.is_protected or before.ips != after.ips:
        only = ", ".join(map(str, after.ips)) or "any"
        return f"may send with its own MAC address, and with IP address {only} only"
    return "has another interface now, or none: it stays where it is only by its iface-id"


def _sessions(
    wanted: Wanted,
    changed: Collection[PortId],
    old: Mapping[PortId, Port],
    new: Mapping[PortId, Port],
) -> Iterator[SourceChange]:
    """The sessions that change; whether a session watches a port depends on that port alone."""
    yielder = Yielder()
    for session in wanted.sessions:
        yielder.pause()
        was = {p for p in changed if p in old and _may_watch(session, old[p])}
        now = {p for p in changed if p in new and _may_watch(session, new[p])}
        collector = wanted.collectors.get(session.collector)
        sensors = () if collector is None else collector.tap_ports
        found = SourceChange(
            f"{session.tenant}/{session.name}",
            sorted(_name(new[p]) for p in now - was),
            sorted(_name(old[p]) for p in was - now),
            sorted(_name(old[p]) for p in sensors if _is_sensor(session, old, p)
                   and not _is_sensor(session, new, p)),
            _refused(session, new, wanted) if not _refused(session, old, wanted) else "",
        )  # fmt: skip
        if found.gains or found.takes:
            yield found


def _may_watch(session: Session, port: Port) -> bool:
    is_workload = port.kind is PortKind.VM and port.tenant == session.tenant
    return is_workload and is_watched(session, port)


def _is_sensor(session: Session, ports: Mapping[PortId, Port], port: PortId) -> bool:
    found = ports.get(port)
    return found is not None and found.kind is PortKind.TAP and found.tenant == session.tenant


def _refused(session: Session, ports: Mapping[PortId, Port], wanted: Wanted) -> str:
    try:
        check_session(session, ports, wanted.collectors)
    except CloudtapError as refusal:
        return str(refusal)
    return ""
