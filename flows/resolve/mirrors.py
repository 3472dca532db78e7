"""Which Mirrors of an owner's bridge a session needs, and which of those that are made serve it.

Open vSwitch copies a packet once for each Mirror, however many of its ports the packet passes. So a
session has one Mirror for all its ports of a bridge wherever that can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from flows.model import (
    ALL,
    Attachment,
    Direction,
    Dpid,
    Filter,
    MirrorKey,
    NetworkId,
    OwnerPort,
    Port,
    PortId,
    Session,
    World,
)

NO_ROWS: frozenset[str] = frozenset()
NO_MIRROR = MirrorKey(NO_ROWS, NO_ROWS)


class Taken(Enum):
    """Which packets a session takes from a Mirror, by its two lists of rules.

    Where these differ, a Mirror of both directions cannot tell which one decides. So each of three
    Mirrors gives other packets: none is copied twice, whoever has sent it.
    """

    EGRESS = "those that the rules for what is sent accept"
    INGRESS = "those that the rules for what is received accept"
    BOTH = "those that both accept"
    EGRESS_ALONE = "those that only the rules for what is sent accept"
    INGRESS_ALONE = "those that only the rules for what is received accept"

    @property
    def asks_both_lists(self) -> bool:
        """Whether both lists of rules are asked about each packet."""
        return self not in (Taken.EGRESS, Taken.INGRESS)


@dataclass(frozen=True, slots=True)
class MirrorUse:
    """A Mirror that a session needs on the bridge of an owner, and the one that serves it now.

    ``dpid`` is the tap bridge. ``taken`` are the packets that the session takes from it. ``made``
    is the Mirror that is wanted, or as long as that is not made the one that copies most of its
    ports and no others; None: there is none.
    """

    dpid: Dpid
    wanted: MirrorKey
    taken: Taken
    made: MirrorKey | None = None

    def wants(self, row: str) -> bool:
        """Whether something of a port is wanted."""
        return row in self.wanted.sources or row in self.wanted.targets

    def covers(self, row: str) -> bool:
        """Whether what serves it now copies all that is wanted of a port."""
        made = self.made or NO_MIRROR
        both = zip(self.wanted, made, strict=True)
        return all(row in has or row not in wants for wants, has in both)

    def serves(self, row: str) -> bool:
        """Whether what serves it now copies something of a port."""
        return self.made is not None and (row in self.made.sources or row in self.made.targets)


def mirror_uses(session: Session, ports: Sequence[Port], world: World) -> tuple[MirrorUse, ...]:
    """What a session needs for these placed ports, as far as they are on bridges of others."""
    here: dict[Dpid, list[Port]] = {}
    for port in ports:
        if owner_port(port.id, world) is not None:
            here.setdefault(world.placements[port.id].dpid, []).append(port)
    found: list[MirrorUse] = []
    for dpid, at_bridge in sorted(here.items()):
        found += _uses_at(dpid, session, at_bridge, world)
    return tuple(found)


def uncovered_ports(
    ports: Iterable[Port], uses: Sequence[MirrorUse], world: World
) -> Mapping[Port, tuple[str, bool]]:
    """The ports on bridges of others of which something is not copied yet: a sentence for each,
    and whether something else of them is copied.
    """
    found: dict[Port, tuple[str, bool]] = {}
    for port in ports:
        place, known = world.placements[port.id], owner_port(port.id, world)
        if place.owner and known is None:
            why = f"the database of its host does not say how port {port.name!r} is connected"
            found[port] = why, False
        if known is None:
            continue
        here = [use for use in uses if use.dpid == place.dpid and use.wants(known.row)]
        if not all(use.covers(known.row) for use in here):
            why = f"there is no Mirror yet for all that should be copied of port {port.name!r}"
            found[port] = why, any(use.serves(known.row) for use in here)
    return found


def owner_port(port: PortId, world: World) -> OwnerPort | None:
    """A port on a bridge of somebody else as its database has it; None if there is no such."""
    place = world.placements.get(port)
    attachment = None if place is None else world.attachments.get(place.dpid)
    if place is None or attachment is None or place.owner != attachment.owner:
        return None
    return attachment.ports.get(place.ofport)


def networks_of(key: MirrorKey, dpid: Dpid, ports: Iterable[Port], world: World) -> Vlans | None:
    """The network of each VLAN in the copies of a Mirror; None if that cannot be told.

    ``ports`` are the workloads there. It cannot be told if the Mirror selects another port, or if
    two networks have the same VLAN.
    """
    known = {
        found.row: (found, port.network)
        for port in ports
        if (found := owner_port(port.id, world)) is not None and port.network is not None
    }
    rows = key.sources | key.targets
    if not rows or not rows <= known.keys():
        return None
    return _vlans(known[row] for row in sorted(rows))


@dataclass(frozen=True, slots=True)
class Vlans:
    """The network of each VLAN whose tag is not the workload's, and that of all other frames.

    ``other`` is None where no other frames are expected.
    """

    tagged: Mapping[int, NetworkId]
    other: NetworkId | None = None


def _vlans(ports: Iterable[tuple[OwnerPort, NetworkId]]) -> Vlans | None:
    tagged: dict[int, NetworkId] = {}
    others: set[NetworkId] = set()
    for port, network in ports:
        if port.vlan is not None and tagged.setdefault(port.vlan, network) != network:
            return None
        if port.is_trunk:
            others.add(network)
    if not others:
        return Vlans(tagged)
    if len(others) > 1 or set(tagged.values()) - others:
        return None
    return Vlans(tagged, *others)


def _uses_at(
    dpid: Dpid, session: Session, ports: Iterable[Port], world: World
) -> Iterator[MirrorUse]:
    attachment, sides = world.attachments[dpid], _sides(session, world)
    for rows in _groups(ports, world):
        both, sent, got = MirrorKey(rows, rows), MirrorKey(rows, NO_ROWS), MirrorKey(NO_ROWS, rows)
        wanted: Mapping[Taken, MirrorKey]
        if sides == {Direction.EGRESS}:
            wanted = {Taken.EGRESS: sent}
        elif sides == {Direction.INGRESS}:
            wanted = {Taken.INGRESS: got}
        elif sides and _has_equal_rules(session, world):
            wanted = {Taken.EGRESS: both}
        elif sides:
            alone = {Taken.EGRESS_ALONE: sent, Taken.INGRESS_ALONE: got}
            wanted = {Taken.BOTH: both, **alone}
        else:
            wanted = {}
        for taken, key in wanted.items():
            yield MirrorUse(dpid, key, taken, _best(key, attachment))


def _groups(ports: Iterable[Port], world: World) -> list[frozenset[str]]:
    """The Port rows of some ports, in as few groups as VLANs tell their networks apart.

    Each network is in one group: whatever passes between its ports is copied once.
    """
    by_network: dict[NetworkId, list[tuple[OwnerPort, NetworkId]]] = {}
    for port in ports:
        found = owner_port(port.id, world)
        assert found is not None and port.network is not None, "a workload on a bridge of others"
        by_network.setdefault(port.network, []).append((found, port.network))
    groups: list[list[tuple[OwnerPort, NetworkId]]] = []
    for members in by_network.values():
        group = next((g for g in groups if _vlans([*g, *members]) is not None), None)
        if group is None:
            groups.append(group := [])
        group += members
    return [frozenset(port.row for port, _ in group) for group in groups]


def _sides(session: Session, world: World) -> set[Direction]:
    """The directions in which a session may copy packets: a list without rules rejects all."""
    wanted, found = world.filter_by_id.get(session.filter), set[Direction]()
    if session.direction.is_egress and (wanted is None or wanted.egress):
        found.add(Direction.EGRESS)
    if session.direction.is_ingress and (wanted is None or wanted.ingress):
        found.add(Direction.INGRESS)
    return found


def _has_equal_rules(session: Session, world: World) -> bool:
    """Whether the same rules decide about what a workload sends and what it gets."""
    wanted: Filter | None = world.filter_by_id.get(session.filter)
    return session.filter == ALL or (wanted is not None and wanted.ingress == wanted.egress)


def _best(wanted: MirrorKey, attachment: Attachment) -> MirrorKey | None:
    """The Mirror that copies most of what is wanted, and nothing else."""
    made = (key for key in attachment.mirrors if _is_part(key, wanted))
    return max(made, key=_reach, default=None)


def _reach(key: MirrorKey) -> tuple[int, list[str], list[str]]:
    return len(key.sources) + len(key.targets), sorted(key.sources), sorted(key.targets)


def _is_part(key: MirrorKey, wanted: MirrorKey) -> bool:
    """Whether a Mirror copies some of what is wanted in the same directions, and nothing else.

    So no Mirror serves a session twice: those of one direction are for what only that list accepts.
    """
    sides = list(zip(key, wanted, strict=True))
    return key != NO_MIRROR and all(
        has <= wants and bool(has) == bool(wants) for has, wants in sides
    )
