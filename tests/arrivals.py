"""What must come out of the bridges for a packet, and where: the contract, as frames to compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from flows.semantics.meaning import Learned, copied_frame, meaning, sensors_of
from flows.model.session import Delivery, PortId, PortKind, Sensor, Session
from flows.explain.trace import Emission, Trace
from flows.model.world import Placement, World
from tests.random_worlds import Sent


class Remote(NamedTuple):
    """A remote sensor as its tunnel names it."""

    delivery: Delivery
    address: str
    key: int


Where = Placement | Remote
"""A port of a bridge, or a remote sensor."""
Frames = Counter[tuple[Where, bytes]]


class Arrivals:
    """One world's places; sensors among which a pool may choose count as one place.

    So do those that count as one in a world ``beside`` it.
    """

    def __init__(self, world: World, beside: World | None = None) -> None:
        self.world = world
        self._one_of: dict[Where, Where] = {}
        for each in (world, beside or world):
            for session in each.sessions:
                if session.collector in each.collector_by_id:
                    for sender in each.workloads:
                        if sender.id in each.placements:
                            sensors = sensors_of(session, sender, each)
                            self._join([self._at(session, sensor, each) for sensor in sensors])

    def expected(self, sent: Sent, learned: Learned) -> tuple[Frames, int, Learned]:
        """The frames that must come out, how many are copies, and what bridges learn."""
        if sent.sender.kind is PortKind.TAP:
            return Counter(), 0, learned
        world = self.world
        means = meaning(sent.frame, sent.sender, world, learned)
        ends = [self.place(world.placements[port]) for port in means.receivers]
        out: Frames = Counter((end, sent.frame) for end in ends)
        for session in world.sessions:
            if session.id in means.copies:
                sensor = min(sensors_of(session, sent.sender, world), key=str)
                copy = copied_frame(
                    sent.frame, session, sent.sender, means.makers[session.id], world
                )
                out[self.place(self._at(session, sensor, world)), copy] += 1
        return out, len(means.copies), means.learned

    def delivered(self, frames: Frames) -> Frames:
        """Those of the frames that are at workloads: production."""
        world = self.world
        placed = [p for p in world.workloads if p.id in world.placements]
        at = {self.place(world.placements[p.id]) for p in placed}
        return Counter({(place, f): n for (place, f), n in frames.items() if place in at})

    def place(self, where: Where) -> Where:
        """The place that a place counts as."""
        while (other := self._one_of.get(where, where)) != where:
            where = other
        return where

    def seen(self, trace: Trace) -> Frames:
        """What came out by the interpreter."""
        return Counter((self.place(self._where(e)), e.frame) for e in trace.emissions)

    def _where(self, emission: Emission) -> Where:
        delivery = self._tunnels.get(emission.place)
        if delivery is None:
            return emission.place
        assert emission.key is not None, "a tunnel has a key"
        return Remote(delivery, str(emission.remote), emission.key)

    @property
    def _tunnels(self) -> Mapping[Placement, Delivery]:
        tunnels = self.world.tunnels.items()
        return {Placement(dpid, ofport): delivery for (dpid, delivery), ofport in tunnels}

    def _at(self, session: Session, sensor: Sensor, world: World) -> Where:
        collector = world.collector_by_id[session.collector]
        if collector.is_tunnelled:
            assert collector.key is not None, "a tunnel has a key"
            return Remote(collector.delivery, str(sensor), collector.key)
        return world.placements[PortId(str(sensor))]

    def _join(self, places: list[Where]) -> None:
        roots = {self.place(where) for where in places}
        for root in roots:
            self._one_of[root] = min(roots, key=repr)
