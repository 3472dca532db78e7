"""Listens for workloads at places that claim them: so a live migration ends.

A port that has its ``iface-id`` at two places stays at the first. At the others flows count what it
sends, and drop it. Once it sends from one of them, and no longer from the first, it has moved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TypeVar

import structlog

from controller.reconcile.bridge import BridgeWriter
from controller.reconcile.protocols import ContestedPlaces
from controller.reconcile.snapshot import Snapshot
from controller.southbound import SwitchGone
from flows.compile import counted_by
from flows.errors import CloudtapError
from flows.model import Dpid, Placement, Port, PortId, World
from flows.openflow import Match

LISTEN_S = 0.2
"""Interval at which counters are read while any port is claimed at two places, in seconds."""
UNHEARD_S = 0.6
"""A workload that has sent nothing for so long from its first place is not there, in seconds, if it
is heard at another one meanwhile."""
LAG_S = 1.0
"""How late a bridge may count what a workload has sent, in seconds."""
AWAY_S = 30.0
"""How long nobody may be able to listen at the first place before who is heard elsewhere has moved,
in seconds."""
REST_TIMES = 10.0
"""A bridge that fails to answer is not asked for so many times as long as it was waited for: so
that it delays the others by a tenth of the time at most."""
PUSHED_S = 0.05
"""The datapath adds its counters to those of flows so soon after a nudge, in seconds."""

log = structlog.get_logger(__name__)

Spot = tuple[PortId, Placement]
CountByFlow = Mapping[tuple[int, Match], int]
T = TypeVar("T")


class _Look(Enum):
    """What a look at the counter of a workload's frames at one place shows."""

    FIRST = "first"
    """It was never read before."""
    SILENT = "silent"
    HEARD = "heard"
    """It has grown since the look before."""


@dataclass(slots=True)
class _FirstPlace:
    """Since a port was heard elsewhere: when it was heard last where it is, and when anybody could
    listen there last. Both are monotonic, in seconds, and begin with the moment of the first look.
    """

    heard_at: float
    answered_at: float


class Hearing:
    """Decides by counters of flows from where a workload sends; call it again and again.

    ``writers`` returns those of some bridges, as far as they are connected and ours.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        writers: Callable[[Iterable[Dpid]], list[BridgeWriter]],
        places: ContestedPlaces,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshot, self._writers, self._places, self._now = snapshot, writers, places, now
        self._counted: dict[Spot, int] = {}
        self._heard_at: dict[Spot, float] = {}
        self._first: dict[PortId, _FirstPlace] = {}
        self._rests: dict[Dpid, float] = {}
        """Until when bridges that have failed to answer are not asked, in monotonic seconds."""
        self._silent: dict[Dpid, str] = {}
        """What is not known while a bridge does not answer, a sentence each."""

    def __call__(self) -> float:
        """Listen once; returns the seconds until it is due again."""
        world = self._snapshot().resolved.world
        contests = _audible(world)
        self._keep(contests)
        if not contests:
            return LISTEN_S
        concerned = {place.dpid for port in contests for place in _places(world, port)}
        for dpid in self._silent.keys() - concerned:
            del self._silent[dpid]
        claimed = {
            world.port_by_id[port]: places
            for port, places in contests.items()
            if port in world.port_by_id
        }
        self._listen_at_claims(claimed)
        heard = [port for port in claimed if self._newest(port, claimed[port]) is not None]
        silent = self._silent_at_first({port: world.placements.get(port.id) for port in heard})
        for port in silent:
            self._move(port, claimed[port])
        return LISTEN_S

    def silence_of(self, dpid: Dpid) -> tuple[str, ...]:
        """What is not known because a bridge does not answer, a sentence."""
        said = self._silent.get(dpid)
        return () if said is None else (said,)

    def silences(self) -> Mapping[PortId, str]:
        """The workloads that cannot be heard at a place because its bridge does not answer."""
        silent = dict(self._silent)
        if not silent:
            return {}
        world = self._snapshot().resolved.world
        return {
            port: silent[place.dpid]
            for port in _audible(world)
            for place in _places(world, port)
            if place.dpid in silent
        }

    def _listen_at_claims(self, claimed: Mapping[Port, Iterable[Placement]]) -> None:
        """Listen at the places that claim workloads."""
        looks = self._look([(port, place) for port, places in claimed.items() for place in places])
        now = self._now()
        self._heard_at |= {spot: now for spot, look in looks.items() if look is _Look.HEARD}

    def _silent_at_first(self, places: Mapping[Port, Placement | None]) -> list[Port]:
        """Listen where workloads are that were heard elsewhere; those that are not heard there.

        That takes longer where nobody can listen: a bridge that is away, or does not answer, or has
        no flow that counts, says nothing about the workload.
        """
        known = [(port, place) for port, place in places.items() if place is not None]
        if known:
            self._nudge({place.dpid for _, place in known})
        looks, now = self._look(known), self._now()
        silent = []
        for port, place in places.items():
            first = self._first.setdefault(port.id, _FirstPlace(now, now))
            look = None if place is None else looks.get((port.id, place))
            if look is not None:
                first.answered_at = now
            if look in (_Look.FIRST, _Look.HEARD):
                first.heard_at = now
            has_answered = look is not None
            since_s = now - (first.heard_at if has_answered else first.answered_at)
            if since_s >= (UNHEARD_S if has_answered else AWAY_S):
                silent.append(port)
        return silent

    def _look(self, places: Iterable[tuple[Port, Placement]]) -> dict[Spot, _Look]:
        """Read counters; places where nothing can be read are left out."""
        wanted = list(places)
        counts = self._read({place.dpid for _, place in wanted}, wanted)
        looks: dict[Spot, _Look] = {}
        for port, place in wanted:
            spot = port.id, place
            packets = counts.get(place.dpid, {}).get(counted_by(port, place.ofport))
            if packets is None:
                continue
            before = self._counted.get(spot)
            self._counted[spot] = packets
            if before is None:
                looks[spot] = _Look.FIRST
            else:
                looks[spot] = _Look.HEARD if packets > before else _Look.SILENT
        return looks

    def _read(
        self, dpids: Iterable[Dpid], wanted: Iterable[tuple[Port, Placement]]
    ) -> dict[Dpid, CountByFlow]:
        """The counters of some bridges; those that do not report are left out."""
        tables: dict[Dpid, set[int]] = {}
        for port, place in wanted:
            tables.setdefault(place.dpid, set()).add(counted_by(port, place.ofport)[0])

        def read(writer: BridgeWriter) -> CountByFlow:
            return {
                (table, match): packets
                for table in sorted(tables[writer.dpid])
                for match, packets in writer.switch.matched(table).items()
            }

        return self._ask(dpids, read)

    def _nudge(self, dpids: Iterable[Dpid]) -> None:
        """Have some bridges count what their datapaths have forwarded so far."""
        self._ask(dpids, lambda writer: writer.nudge())
        time.sleep(PUSHED_S)

    def _ask(self, dpids: Iterable[Dpid], ask: Callable[[BridgeWriter], T]) -> dict[Dpid, T]:
        """Ask some bridges, one after the other; those that do not answer are left out."""
        found: dict[Dpid, T] = {}
        for writer in self._writers(dpids):
            began = self._now()
            if self._rests.get(writer.dpid, began) > began:
                continue
            self._rests.pop(writer.dpid, None)
            try:
                found[writer.dpid] = ask(writer)
                self._silent.pop(writer.dpid, None)
            except CloudtapError as problem:
                if not isinstance(problem, SwitchGone):  # the status says that it is away
                    self._note_silent(writer, problem)
                now = self._now()
                self._rests[writer.dpid] = now + REST_TIMES * (now - began)
        return found

    def _note_silent(self, writer: BridgeWriter, problem: CloudtapError) -> None:
        if writer.dpid not in self._silent:
            since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            self._silent[writer.dpid] = (
                f"places: where workloads are that are reported at two places, one of them on "
                f"bridge {writer.switch.name}, is not certain since {since} ({problem})"
            )
            log.warning("workloads not heard", bridge=writer.switch.name, reason=str(problem))

    def _newest(self, port: Port, places: Iterable[Placement]) -> Placement | None:
        """The place at which a workload was heard last, if it was heard at any."""
        heard = [place for place in places if (port.id, place) in self._heard_at]
        return max(heard, key=lambda place: self._heard_at[port.id, place], default=None)

    def _move(self, port: Port, places: Iterable[Placement]) -> None:
        """Move a workload to where it was heard last, unless it was heard where it is after that.

        What was heard elsewhere long ago says nothing about where it is now.
        """
        place = self._newest(port, places)
        first = self._first[port.id]
        if place is not None and self._heard_at[port.id, place] >= first.heard_at - LAG_S:
            self._places.move(port.id, place)
            self._forget(port.id)

    def _keep(self, contests: Mapping[PortId, tuple[Placement, ...]]) -> None:
        """Forget what was heard of ports that nobody else claims any more."""
        if not contests:
            self._rests.clear()
            self._silent.clear()
        for key in [key for key in self._heard_at.keys() | self._counted if key[0] not in contests]:
            self._heard_at.pop(key, None)
            self._counted.pop(key, None)
        for port in self._first.keys() - contests.keys():
            del self._first[port]

    def _forget(self, port: PortId) -> None:
        """Begin anew with a port that has moved."""
        for key in [key for key in self._heard_at.keys() | self._counted if key[0] == port]:
            self._heard_at.pop(key, None)
            self._counted.pop(key, None)
        self._first.pop(port, None)


def _audible(world: World) -> Mapping[PortId, tuple[Placement, ...]]:
    """The claims of ports that are on bridges of ours only: nothing counts on those of others."""
    if not world.attachments:
        return world.contests
    claims = world.contests.items()
    return {p: at for p, at in claims if not any(place.owner for place in _places(world, p))}


def _places(world: World, port: PortId) -> Iterator[Placement]:
    """Where a port that several places claim is, and where it may be."""
    if port in world.placements:
        yield world.placements[port]
    yield from world.contests[port]
