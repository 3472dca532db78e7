"""What the reconciler asks of the rest: of the store, of the topology, and of datapaths."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Protocol

from netaddr import IPAddress

from controller.southbound import SettlingBridge
from controller.southbound.ovsdb import InterfaceRow, MirrorDemand, TunnelDemand
from controller.status import Measure
from controller.store import DesiredState, Limits
from flows.model import (
    Attachment,
    CollectorId,
    CopyWay,
    Datapath,
    Down,
    Dpid,
    Hop,
    Link,
    MirrorKey,
    Names,
    Numbers,
    Ofport,
    Placement,
    PortId,
    Route,
    Segmenter,
    Sensor,
    SessionId,
    TunnelKind,
)
from flows.openflow import PacketCount

Parts = tuple[PacketCount, PacketCount]
CountKey = tuple[SessionId, Dpid, str]
"""A session, a bridge, and what was counted (see Measure)."""
Counts = Mapping[CountKey, Parts]


class ContestedPlaces(Protocol):
    """Who decides where ports are that several places claim."""

    def move(self, port: PortId, place: Placement) -> None:
        """A port was heard at a place that claims it, and no longer where it was."""
        ...


class InstalledSessions(Protocol):
    """Who remembers which bridge may be making copies of which session."""

    def add(self, dpid: Dpid, sessions: Iterable[int]) -> None:
        """These sessions may be on a bridge from now on, beside those that are."""
        ...

    def replace(self, dpid: Dpid, sessions: Iterable[int]) -> None:
        """A bridge makes copies of these sessions alone."""
        ...

    def holders(self, session: int) -> frozenset[Dpid]:
        """The bridges that may be making copies of a session."""
        ...

    def bridges(self) -> frozenset[Dpid]:
        """The bridges that may be making copies of any session."""
        ...

    def sessions_by_bridge(self) -> Mapping[Dpid, frozenset[int]]:
        """The sessions that each bridge may be making copies of."""
        ...


class Telling(Protocol):
    """Who knows what cannot be told to bridges; see Untold."""

    def unheard(self) -> frozenset[int]:
        """Those of bridges that have not called since the start, while that is to be expected."""
        ...

    def untold(self) -> frozenset[int]:
        """The sessions that bridges may be making copies of which cannot be told anything now."""
        ...

    def known_ways(self) -> Mapping[Dpid, frozenset[CopyWay]]:
        """The ways of copies over bridges that cannot be given others now, as far as known."""
        ...


class AllTold(Telling):
    """Every bridge was told everything."""

    def unheard(self) -> frozenset[int]:
        """None."""
        return frozenset()

    def untold(self) -> frozenset[int]:
        """None."""
        return frozenset()

    def known_ways(self) -> Mapping[Dpid, frozenset[CopyWay]]:
        """Every bridge gets what it needs."""
        return {}


class Deletions(Protocol):
    """The store's record of sessions that are being deleted."""

    def finish_deletions(
        self, sessions: Iterable[SessionId], counts: Mapping[SessionId, Mapping[str, object]]
    ) -> None:
        """No bridge has a flow of these sessions any more; ``counts`` is for the audit."""
        ...


class KnownBridges(Protocol):
    """Every bridge that is, or was, known; kept over restarts."""

    def bridge_names(self) -> dict[Dpid, str]:
        """Their names."""
        ...

    def undeclared(self) -> Mapping[Dpid, tuple[str, ...]]:
        """The interfaces that are in no inventory, on bridges with ports that are."""
        ...

    def unopened(self) -> Sequence[InterfaceRow]:
        """The interfaces of known bridges that Open vSwitch could not create or open."""
        ...

    def row_of(self, dpid: Dpid, interface: str) -> InterfaceRow | None:
        """What the database of a bridge says of one interface; None if it says nothing."""
        ...

    def looked_for(self, ports: Iterable[PortId]) -> Mapping[PortId, str]:
        """Why each of these ports is on no bridge, a sentence that says what was looked for."""
        ...

    def bridge_name(self, dpid: Dpid) -> str:
        """The name of one bridge; its datapath id where no name is known."""
        ...

    def hosts_of(self, dpid: Dpid) -> tuple[str, ...]:
        """The names of the host of a bridge."""
        ...

    def replaced(self) -> Mapping[Dpid, Dpid]:
        """Datapath ids that no bridge has any more, and those that their bridges have instead."""
        ...

    def store_moves(self, moves: Mapping[Dpid, Dpid], counts: Counts) -> None:
        """Bridges have other datapath ids, all of these at once: what is stored goes along.

        ``counts`` are stored in place of all counts of these ids.

        Raises:
            CloudtapError: it cannot be stored; then nothing was changed.
        """
        ...

    def retire(self, old: Dpid, new: Dpid) -> None:
        """A datapath id that no bridge has any more is forgotten; nothing if one has it again.

        Raises:
            CloudtapError: it cannot be stored; then nothing was changed.
        """
        ...

    def strangers(self) -> frozenset[Dpid]:
        """The bridges that have connected, and on which nothing of ours is or was placed."""
        ...

    def drop_stranger(self, dpid: Dpid) -> bool:
        """Forget such a bridge; False if something of ours was placed on it."""
        ...

    def forget(self, dpid: Dpid, who: str, counts: Counts) -> None:
        """Forget where the ports of a bridge were, and which sessions it may be copying.

        ``counts``, all that it has counted, are stored: nobody else knows them any more.

        Raises:
            CloudtapError: it cannot be stored; then nothing was forgotten.
        """
        ...


class Doubting(Protocol):
    """Who knows what is not certain, because several peers claim it."""

    def of_bridge(self, dpid: Dpid) -> tuple[str, ...]:
        """Who else claims to be a bridge, or to speak for it; a sentence each."""
        ...

    def of_ports(self) -> Mapping[PortId, str]:
        """Why it is not certain where ports are, a sentence for each of them."""
        ...


class NoDoubts(Doubting):
    """Nobody claims what others have."""

    def of_bridge(self, dpid: Dpid) -> tuple[str, ...]:
        """Nobody."""
        return ()

    def of_ports(self) -> Mapping[PortId, str]:
        """Every place is certain."""
        return {}


class Tunnelling(Protocol):
    """The tunnel ports of bridges: those that there are, and those that are being made."""

    @property
    def tunnels(self) -> Mapping[tuple[Dpid, TunnelKind], Ofport]:
        """The tunnel ports that can be used, as of the last ``refresh``."""
        ...

    def refresh(self) -> bool:
        """Take in what placements and databases report now; whether other ports are there."""
        ...

    def want(self, demand: Mapping[Dpid, TunnelDemand]) -> None:
        """Have these ports made, and those that are not needed removed, from now on."""
        ...

    def wait_made(self, kinds: Set[TunnelKind], timeout_s: float) -> bool:
        """Block until every wanted port of these kinds is there, or known not to come.

        True if a port has come.
        """
        ...

    def why_missing(self, dpid: Dpid, kind: TunnelKind, bridge: str) -> str:
        """Why a bridge has no port for a kind of tunnel, and what to do."""
        ...


class Mirroring(Protocol):
    """Who makes Mirrors on the bridges of others."""

    def want_mirrors(self, demands: Mapping[Dpid, MirrorDemand]) -> None:
        """Keep the Mirrors for these tap bridges as demanded, from now on."""
        ...

    def mirror_problems(self) -> Mapping[tuple[Dpid, MirrorKey], str]:
        """Why Mirrors could not be made, a sentence each."""
        ...


class NoMirrors(Mirroring):
    """No bridge of somebody else is tapped."""

    _nothing: Mapping[tuple[Dpid, MirrorKey], str] = MappingProxyType({})

    def want_mirrors(self, demands: Mapping[Dpid, MirrorDemand]) -> None:
        """Nothing is made."""

    def mirror_problems(self) -> Mapping[tuple[Dpid, MirrorKey], str]:
        """None."""
        return self._nothing


class NoTunnels(Tunnelling):
    """Without databases: nobody makes tunnel ports."""

    tunnels: Mapping[tuple[Dpid, TunnelKind], Ofport] = MappingProxyType({})

    def refresh(self) -> bool:
        """Nothing changes."""
        return False

    def want(self, demand: Mapping[Dpid, TunnelDemand]) -> None:
        """Nothing is made."""

    def wait_made(self, kinds: Set[TunnelKind], timeout_s: float) -> bool:
        """Nothing comes."""
        return False

    def why_missing(self, dpid: Dpid, kind: TunnelKind, bridge: str) -> str:
        """Why a bridge has no port for a kind of tunnel."""
        return f"nobody makes the tunnel port for {kind} of bridge {bridge}"


class SensorStates(Protocol):
    """Which sensors do not receive, and which links between bridges carry nothing."""

    def down(self, probes: Mapping[tuple[CollectorId, Sensor], str]) -> frozenset[Down]:
        """What is down now, sensors and ends of links; these addresses are probed from now on."""
        ...

    def hops(self) -> Mapping[Placement, Hop]:
        """What is known of every port; the same value again until something else is known."""
        ...

    def datapaths(self) -> Mapping[Dpid, Datapath]:
        """The datapaths of the bridges of which they are known; the same value until it changes."""
        ...

    def segmenters(self) -> Mapping[Dpid, Segmenter]:
        """The segmenting pairs of bridges; the same value until it changes."""
        ...

    def links_down(self) -> frozenset[Placement]:
        """The ports whose link is down, whatever they are for."""
        ...


class Routing(Protocol):
    """Who knows the routes from bridges to remote sensors."""

    def watch(self, addresses: Iterable[IPAddress]) -> Mapping[tuple[Dpid, IPAddress], Route]:
        """The routes to these addresses; they are looked up from now on."""
        ...


class NoRoutes(Routing):
    """Nobody looks: nothing is known of routes."""

    _nothing: Mapping[tuple[Dpid, IPAddress], Route] = MappingProxyType({})

    def watch(self, addresses: Iterable[IPAddress]) -> Mapping[tuple[Dpid, IPAddress], Route]:
        """Nothing is known."""
        return self._nothing


class NoSensorStates(SensorStates):
    """Nobody looks: every sensor counts as receiving."""

    _nothing: Mapping[Placement, Hop] = MappingProxyType({})
    _no_datapaths: Mapping[Dpid, Datapath] = MappingProxyType({})
    _no_segmenters: Mapping[Dpid, Segmenter] = MappingProxyType({})

    def down(self, probes: Mapping[tuple[CollectorId, Sensor], str]) -> frozenset[Down]:
        """No sensor is known to be down."""
        return frozenset()

    def hops(self) -> Mapping[Placement, Hop]:
        """Nothing is known of ports."""
        return self._nothing

    def datapaths(self) -> Mapping[Dpid, Datapath]:
        """Nothing is known of bridges."""
        return self._no_datapaths

    def segmenters(self) -> Mapping[Dpid, Segmenter]:
        """Nothing is known of bridges."""
        return self._no_segmenters

    def links_down(self) -> frozenset[Placement]:
        """No link is known to be down."""
        return frozenset()


class BridgeNotes(Protocol):
    """What the databases of bridges say of them, and what cannot be seen without one."""

    def troubles_of(self, dpid: Dpid, name: str) -> Iterable[str]:
        """What keeps a bridge from working, a sentence each."""
        ...

    def unknowns_of(self, dpid: Dpid, name: str) -> Iterable[str]:
        """What cannot be seen of a bridge, a sentence each."""
        ...

    def stale(self) -> Mapping[Dpid, str]:
        """The bridges whose database has reported and does not now, each with its database."""
        ...


class NoNotes(BridgeNotes):
    """Nobody looks at databases."""

    def troubles_of(self, dpid: Dpid, name: str) -> Iterable[str]:
        """Nothing is known."""
        return ()

    def unknowns_of(self, dpid: Dpid, name: str) -> Iterable[str]:
        """Nobody would know."""
        return ()

    def stale(self) -> Mapping[Dpid, str]:
        """None has reported."""
        return {}


class Revalidating(Protocol):
    """Waits until datapaths follow their flow tables."""

    def wait_settled(self, bridges: Sequence[SettlingBridge], timeout_s: float) -> bool:
        """Block until no cached flow (megaflow) of these bridges outlives its flow; if known."""
        ...


class LimitStore(Protocol):
    """What the store keeps of sessions with limits."""

    def stop(self, session: SessionId, reason: str, limits: Limits) -> None:
        """A session reached one of these limits."""
        ...

    def counts(self) -> Counts:
        """What was written down last."""
        ...

    def keep_counts(self, counts: Counts) -> None:
        """Write down what was counted."""
        ...


class Counting(Protocol):
    """The copies that bridges have counted of each session."""

    def count_copies(self, sessions: Iterable[int]) -> None:
        """Ask the bridges that may have copied for these sessions how much it was."""
        ...

    def copies_of(self, session: int) -> PacketCount:
        """All copies of a session, as far as they were counted."""
        ...

    def parts(
        self, sessions: Container[int]
    ) -> Mapping[tuple[int, Dpid, Measure], tuple[PacketCount, PacketCount]]:
        """What some sessions have counted, by session, bridge and measure: what was before the
        switch began at 0, and its report.
        """
        ...

    def parts_on(
        self, dpid: Dpid, sessions: Container[int]
    ) -> Mapping[tuple[int, Measure], tuple[PacketCount, PacketCount]]:
        """The same of some sessions on one bridge, by session and measure."""
        ...

    def take_unkept(self) -> Iterator[tuple[Dpid, frozenset[int]]]:
        """By bridge, the sessions whose counts only this process may have; each is told once."""
        ...

    def storing(self) -> AbstractContextManager[object]:
        """Whoever stores counts does so inside, one at a time."""
        ...

    def unstored(self) -> Sequence[Mapping[Dpid, Dpid]]:
        """The moves of bridges to other datapath ids that the store does not know of yet."""
        ...

    def take_rewritten(self) -> Set[Dpid]:
        """The ids of moves that were stored since the last call, with all counts."""
        ...

    def restore_copies(
        self, dpid: Dpid, measure: Measure, session: int, before: PacketCount, last: PacketCount
    ) -> None:
        """What an earlier controller has counted."""
        ...


class DesiredStateSource(Protocol):
    """What a snapshot takes from the store."""

    def desired(self) -> DesiredState:
        """What tenants want now, all of one moment."""
        ...

    def numbers_for(self, names: Names) -> Numbers:
        """The numbers of these names; new names get new numbers."""
        ...

    def numbered(self) -> Numbers:
        """Everything that has a number."""
        ...

    def changed_between(self, before: int, now: int) -> Set[SessionId] | None:
        """The sessions that may differ in what was wanted at two moments; None: any may."""
        ...

    def release_all_but(self, used: Numbers) -> None:
        """All other numbers may be given to others."""
        ...

    def release_keys(self, last_held: int) -> None:
        """Tunnel keys that had been given up in this desired state may be given to others."""
        ...


class PlacementsView(Protocol):
    """Where ports and links are, at one moment."""

    @property
    def placements(self) -> Mapping[PortId, Placement]:
        """The place of each port that has one."""
        ...

    @property
    def links(self) -> tuple[Link, ...]:
        """The links whose two ends are known."""
        ...

    @property
    def contests(self) -> Mapping[PortId, tuple[Placement, ...]]:
        """The places that claim a port beside the one where it is, if it is anywhere."""
        ...

    @property
    def attachments(self) -> Mapping[Dpid, Attachment]:
        """The bridges of others, by the tap bridge of each; the same value until one changes.

        They are part of this moment: the port that has a number now may not be the one that had it
        when a workload was placed there.
        """
        ...
