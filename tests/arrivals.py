"""The frames that must come out of the bridges for a packet, by the contract, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from flows.explain.trace import Emission, Trace
from flows.model import (
    Delivery,
    Placement,
    PortId,
    PortKind,
    Sensor,
    Session,
    SessionId,
    World,
)
from flows.semantics import LearnedAddresses, copied_frame, meaning
from flows.semantics.meaning import Meaning, sensors_of
from tests.generators.random_worlds import Sent


class Remote(NamedTuple):
    """A remote sensor as its tunnel names it."""

    delivery: Delivery
    address: str
    key: int


Where = Placement | Remote
"""A port of a bridge, or a remote sensor."""
Frames = Counter[tuple[Where, bytes]]


class Arrivals:
    """Expected frames of one world; the sensors of a pool count as one place.

    Sensors that are one place in the world ``beside`` it are one place here, too.
    """

    def __init__(self, world: World, beside: World | None = None) -> None:
        self.world = world
        self._one_of: dict[Where, Where] = {}
        for each in (world, beside or world):
            for session in each.sessions:
                collector = each.collector_by_id.get(session.collector)
                if collector is not None and len(collector.sensors) > 1:
                    for sender in each.workloads:
                        if sender.id in each.placements:
                            for maker in each.dpids:
                                sensors = sensors_of(session, sender, each, maker)
                                self._join([self._at(session, s, each) for s in sensors])

    def expected(
        self, sent: Sent, learned: LearnedAddresses
    ) -> tuple[Frames, int, LearnedAddresses]:
        """The frames that must come out, how many are copies, and what bridges learn."""
        if sent.sender.kind is PortKind.TAP:
            return Counter(), 0, learned
        world = self.world
        expected = meaning(sent.frame, sent.sender, world, learned)
        ends = [self.place(world.placements[port]) for port in expected.receivers]
        out: Frames = Counter((end, sent.frame) for end in ends)
        out.update(self._copies(sent, expected).values())
        return out, len(expected.copies), expected.learned

    def copies(self, sent: Sent) -> Mapping[SessionId, Where]:
        """Where the copy of each session that wants one must come out; nothing was learned yet."""
        if sent.sender.kind is PortKind.TAP:
            return {}
        expected = meaning(sent.frame, sent.sender, self.world, {})
        return {key: where for key, (where, _) in self._copies(sent, expected).items()}

    def _copies(self, sent: Sent, expected: Meaning) -> Mapping[SessionId, tuple[Where, bytes]]:
        world, found = self.world, dict[SessionId, tuple[Where, bytes]]()
        for session in world.sessions:
            if session.id in expected.copies:
                maker = expected.makers[session.id]
                sensor = min(sensors_of(session, sent.sender, world, maker), key=str)
                copy = copied_frame(sent.frame, session, sent.sender, maker, world)
                found[session.id] = self.place(self._at(session, sensor, world)), copy
        return found

    def delivered(self, frames: Frames) -> Frames:
        """The frames at workloads, which are production."""
        world = self.world
        placed = [p for p in world.workloads if p.id in world.placements]
        at = {self.place(world.placements[p.id]) for p in placed}
        return Counter({(place, f): n for (place, f), n in frames.items() if place in at})

    def place(self, where: Where) -> Where:
        """The place that represents ``where``."""
        while (other := self._one_of.get(where, where)) != where:
            where = other
        return where

    def sensors_of(self, session: Session) -> set[Where]:
        """The places of the sensors of a session's collector."""
        collector, world = self.world.collector_by_id[session.collector], self.world
        there = [s for s in collector.sensors if collector.is_tunnelled or s in world.placements]
        return {self.place(self._at(session, sensor, world)) for sensor in there}

    def seen(self, trace: Trace) -> Frames:
        """The frames that came out in a trace of the interpreter."""
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
        return {Placement(dpid, ofport): kind.delivery for (dpid, kind), ofport in tunnels}

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
