"""Which Mirrors of an owner's bridge a session needs, and which of those that are made serve it.

Open vSwitch copies a packet once for each Mirror, however many of its ports the packet passes. So a
session has one Mirror for all its ports of a bridge wherever that can be. Where that leaves too
many for a bridge, some sessions share one: see flows/resolve/mirror_room.py.
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
WORKLOADS_NAMED_MAX = 8
"""How many ports a sentence names."""


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
    BY_ADDRESS = "those from or to the MAC addresses of its ports"

    @property
    def asks_both_lists(self) -> bool:
        """Whether both lists of rules are asked about each packet."""
        return self in (Taken.BOTH, Taken.EGRESS_ALONE, Taken.INGRESS_ALONE)


@dataclass(frozen=True, slots=True)
class MirrorClaim:
    """What a session wants of ports of an owner's bridge whose networks VLANs tell apart.

    ``keys`` are Mirrors of its own for it: one, or three. ``is_told``: the inventory knows the
    MAC addresses of all these ports.
    """

    dpid: Dpid
    ports: frozenset[tuple[OwnerPort, NetworkId]]
    keys: tuple[tuple[Taken, MirrorKey], ...]
    is_told: bool

    @property
    def selected(self) -> MirrorKey:
        """All that it wants, in one Mirror."""
        return union_of(key for _, key in self.keys)


@dataclass(frozen=True, slots=True)
class MirrorUse:
    """A Mirror that a session needs on the bridge of an owner, and the one that serves it now.

    ``dpid`` is the tap bridge. ``taken`` are the packets that the session takes from it. ``made``
    is the Mirror that is wanted, or as long as that is not made one that serves meanwhile: the one
    that copies most of its ports and no others, or one that several share; None: there is none.
    ``own`` is what the session itself wants of the Mirror. ``is_refused``: the owner's bridge has
    no room for the Mirror.
    """

    dpid: Dpid
    wanted: MirrorKey
    taken: Taken
    made: MirrorKey | None
    own: MirrorKey
    is_refused: bool = False

    @property
    def is_by_address(self) -> bool:
        """Whether the Mirror that serves it copies more, of which it takes its part by address."""
        return self.taken is Taken.BY_ADDRESS

    def wants(self, row: str) -> bool:
        """Whether something of a port is wanted."""
        return row in self.own.sources or row in self.own.targets

    def covers(self, row: str) -> bool:
        """Whether what serves it now copies all that is wanted of a port."""
        made = self.made or NO_MIRROR
        both = zip(self.own, made, strict=True)
        return all(row in has or row not in wants for wants, has in both)

    def serves(self, row: str) -> bool:
        """Whether what serves it now copies something of a port."""
        return self.made is not None and (row in self.made.sources or row in self.made.targets)


def mirror_claims(session: Session, ports: Sequence[Port], world: World) -> tuple[MirrorClaim, ...]:
    """What a session wants of these placed ports, as far as they are on bridges of others."""
    here: dict[Dpid, list[Port]] = {}
    for port in ports:
        if owner_port(port.id, world) is not None:
            here.setdefault(world.placements[port.id].dpid, []).append(port)
    found: list[MirrorClaim] = []
    for dpid, at_bridge in sorted(here.items()):
        found += _claims_at(dpid, session, at_bridge, world)
    return tuple(found)


def own_uses(claim: MirrorClaim, attachment: Attachment) -> tuple[MirrorUse, ...]:
    """The use of Mirrors of its own."""
    return tuple(
        MirrorUse(claim.dpid, key, taken, _best(key, attachment), own=key)
        for taken, key in claim.keys
    )


def union_of(keys: Iterable[MirrorKey]) -> MirrorKey:
    """A Mirror that selects all that some others select."""
    those = list(keys)
    return MirrorKey(
        NO_ROWS.union(*(key.sources for key in those)),
        NO_ROWS.union(*(key.targets for key in those)),
    )


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
        if not port.mac and any(use.is_by_address for use in here):
            found[port] = _untold_sentence(port), False
        elif not all(use.covers(known.row) for use in here):
            why = f"there is no Mirror yet for all that should be copied of port {port.name!r}"
            found[port] = why, any(use.serves(known.row) for use in here)
    return found


def told_by_address(
    ports: Iterable[Port], uses: Iterable[MirrorUse], world: World
) -> Mapping[Port, MirrorUse]:
    """The ports whose packets a session takes by address from a Mirror that copies more."""
    shared, found = [use for use in uses if use.is_by_address and use.made], dict[Port, MirrorUse]()
    for port in ports if shared else ():
        known = owner_port(port.id, world)
        for use in shared:
            is_here = known is not None and world.placements[port.id].dpid == use.dpid
            if known is not None and is_here and use.wants(known.row):
                found.setdefault(port, use)
    return found


def address_doubts(ports: Iterable[Port], uses: Iterable[MirrorUse], world: World) -> Iterator[str]:
    """What is not known of copies that are taken by address, even if nobody forges one."""
    told = told_by_address(ports, uses, world)
    if told:
        yield (
            f"packets of {_listed(told)} come from a Mirror that sessions share, as their bridge "
            "has no room for more, and are told by MAC address: one for a watched port that the "
            "bridge drops on the way may be copied, one that it floods to a watched port with "
            "another address may not, and broadcast and multicast count as received by every port"
        )


def address_troubles(
    ports: Iterable[Port], uses: Iterable[MirrorUse], world: World
) -> Iterator[str]:
    """What makes copies that are taken by address wrong: addresses that are not those of a port."""
    told = told_by_address(ports, uses, world)
    for network in dict.fromkeys(port.network for port in told if port.network is not None):
        watched = [port for port in told if port.network == network]
        members = world.members_by_network.get(network, ())
        open_ones = [port for port in members if not port.is_protected]
        if open_ones:
            yield (
                f"packets of {_listed(watched)} are told by MAC address, which "
                f"{_listed(open_ones)} of the same network may forge: others may be copied as "
                "theirs, and theirs be missing"
            )


def _listed(ports: Iterable[Port]) -> str:
    """Some ports by name, the first ones if they are many."""
    names = sorted(repr(port.name) for port in ports)
    more = len(names) - WORKLOADS_NAMED_MAX
    said = ", ".join(names[:WORKLOADS_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
    return f"port {said}" if len(names) == 1 else f"ports {said}"


def _untold_sentence(port: Port) -> str:
    return (
        f"the bridge of port {port.name!r} has no room for another Mirror, and from one that "
        "sessions share packets are told by MAC address, which the inventory does not say: add "
        "`mac` to the port, or watch the same ports in fewer sessions"
    )


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
    return vlans_of(known[row] for row in sorted(rows))


@dataclass(frozen=True, slots=True)
class Vlans:
    """The network of each VLAN whose tag is not the workload's, and that of all other frames.

    ``other`` is None where no other frames are expected.
    """

    tagged: Mapping[int, NetworkId]
    other: NetworkId | None = None


def vlans_of(ports: Iterable[tuple[OwnerPort, NetworkId]]) -> Vlans | None:
    """The network of each VLAN of some ports; None if two have the same."""
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


def _claims_at(
    dpid: Dpid, session: Session, ports: Iterable[Port], world: World
) -> Iterator[MirrorClaim]:
    sides = _sides(session, world)
    told = {known.row for port in ports if port.mac and (known := owner_port(port.id, world))}
    for members in _groups(ports, world):
        rows = frozenset(known.row for known, _ in members)
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
            continue
        yield MirrorClaim(dpid, members, tuple(wanted.items()), is_told=rows <= told)


def _groups(ports: Iterable[Port], world: World) -> list[frozenset[tuple[OwnerPort, NetworkId]]]:
    """Some ports with their networks, in as few groups as VLANs tell the networks apart.

    Each network is in one group: whatever passes between its ports is copied once.
    """
    by_network: dict[NetworkId, list[tuple[OwnerPort, NetworkId]]] = {}
    for port in ports:
        found = owner_port(port.id, world)
        assert found is not None and port.network is not None, "a workload on a bridge of others"
        by_network.setdefault(port.network, []).append((found, port.network))
    groups: list[list[tuple[OwnerPort, NetworkId]]] = []
    for members in by_network.values():
        group = next((g for g in groups if vlans_of([*g, *members]) is not None), None)
        if group is None:
            groups.append(group := [])
        group += members
    return [frozenset(group) for group in groups]


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
    return max(made, key=reach_of, default=None)


def reach_of(key: MirrorKey) -> tuple[int, list[str], list[str]]:
    """How much a Mirror copies, to choose the one that copies most."""
    return len(key.sources) + len(key.targets), sorted(key.sources), sorted(key.targets)


def _is_part(key: MirrorKey, wanted: MirrorKey) -> bool:
    """Whether a Mirror copies some of what is wanted in the same directions, and nothing else.

    So no Mirror serves a session twice: those of one direction are for what only that list accepts.
    """
    sides = list(zip(key, wanted, strict=True))
    return key != NO_MIRROR and all(
        has <= wants and bool(has) == bool(wants) for has, wants in sides
    )
