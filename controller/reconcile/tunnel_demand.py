"""Which tunnel ports bridges need for their sessions, and which ones nothing uses any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from controller.reconcile.bridge.writer import BridgeWriter
from controller.reconcile.snapshot import Snapshot
from controller.southbound.ovsdb.tunnel_port import KINDS, TunnelWish
from controller.status.values import SessionStatus, State
from flows.model.session import Delivery, Dpid, SessionId
from flows.model.source import watched_by


class Tunnelling(Protocol):
    """Who has tunnel ports made."""

    def wake(self) -> None:
        """Something may be needed, or not be needed any more."""
        ...

    def prepare(self, timeout_s: float) -> bool:
        """Have made what is needed now; returns when it is there, or known not to come.

        True when something has come meanwhile.
        """
        ...

    def why_missing(self, dpid: Dpid, kind: Delivery, bridge: str) -> str:
        """Why a bridge has no port for a kind of tunnel, and what to do."""
        ...


class NoTunnels(Tunnelling):
    """Nobody makes tunnel ports."""

    def wake(self) -> None:
        """There is nobody to wake."""

    def prepare(self, timeout_s: float) -> bool:
        """Nothing comes."""
        return False

    def why_missing(self, dpid: Dpid, kind: Delivery, bridge: str) -> str:
        """Why a bridge has no port for a kind of tunnel."""
        return f"nobody makes the tunnel port for {kind.value} of bridge {bridge}"


def tunnel_wishes(snapshot: Snapshot, writers: Iterable[BridgeWriter]) -> dict[Dpid, TunnelWish]:
    """What each bridge of ours needs for this version of the world.

    A kind that no session uses is unwanted once the bridge has let go of its last flows.
    """
    wanted = frozenset(wanted_kinds(snapshot))
    unwanted = frozenset(KINDS) - wanted
    return {
        writer.dpid: TunnelWish(
            wanted, unwanted if writer.has_verified(snapshot.version) else frozenset()
        )
        for writer in writers
        if writer.is_greeted
    }


def wanted_kinds(snapshot: Snapshot) -> set[Delivery]:
    """The kinds of tunnel that some enabled session uses."""
    world = snapshot.survey.world
    kind_by_collector = {c.id: c.delivery for c in world.collectors if c.is_tunnelled}
    if not kind_by_collector:
        return set()
    used = {session.collector for session in world.sessions if session.enabled}
    return {kind for collector, kind in kind_by_collector.items() if collector in used}


def with_tunnels(
    status: SessionStatus,
    snapshot: Snapshot,
    session: SessionId,
    tunnels: Tunnelling,
    name: Callable[[Dpid], str],
) -> SessionStatus:
    """The standing of a session, and why bridges of its sources have no port for its tunnel."""
    if status.state not in (State.PENDING, State.DEGRADED):
        return status
    missing = missing_tunnels(snapshot, session)
    why = [tunnels.why_missing(dpid, kind, name(dpid)) for dpid, kind in missing]
    return replace(status, reasons=tuple(dict.fromkeys((*status.reasons, *why))))


def missing_tunnels(snapshot: Snapshot, session: SessionId) -> Iterator[tuple[Dpid, Delivery]]:
    """The bridges of a session's source ports that have no port for its tunnel."""
    world = snapshot.survey.world
    wanted = world.session_by_id.get(session)
    collector = world.collector_by_id.get(wanted.collector) if wanted else None
    if wanted is None or collector is None or not collector.is_tunnelled or not wanted.enabled:
        return
    placed = (world.placements.get(port.id) for port in watched_by(wanted, world.workloads))
    for dpid in sorted({place.dpid for place in placed if place is not None}):
        if (dpid, collector.delivery) not in world.tunnels:
            yield dpid, collector.delivery
