"""The verification of a session with beacons, as values: what to send, and what was sent."""

from __future__ import annotations

from dataclasses import dataclass

from flows.model import Dpid, NetworkId, Sensor


@dataclass(frozen=True, slots=True)
class Check:
    """A request: ``count`` beacons of ``length`` bytes on each copy path, or to one sensor only.

    ``run`` is a 64-bit number that all of them carry. ``may_be_cut`` allows a length that exceeds
    the MTU of the path.
    """

    run: int
    count: int
    length: int
    sensor: Sensor | None = None
    may_be_cut: bool = False


@dataclass(frozen=True, slots=True)
class PathChecked:
    """The beacons that one bridge sent to one sensor (network None: for all networks).

    ``counted`` are the packets that the copying flow has counted meanwhile, real copies included.
    ``tag`` and ``length`` are those that should arrive; length 0 means that nothing should.
    """

    dpid: Dpid
    bridge: str
    sensor: Sensor
    position: int
    network: NetworkId | None
    network_number: int
    tag: int | None
    length: int
    sent: int
    counted: int


@dataclass(frozen=True, slots=True)
class PortWitness:
    """The transmit counter of the port to these sensors meanwhile, real copies included."""

    bridge: str
    sensors: tuple[Sensor, ...]
    wanted: int
    sent: int


@dataclass(frozen=True, slots=True)
class Verification:
    """The beacons that were sent to verify a session, and the counters of the switches meanwhile.

    ``ways`` has one entry for each copy path. ``left_out`` says in sentences what was not checked.
    """

    run: int
    ways: tuple[PathChecked, ...]
    witnesses: tuple[PortWitness, ...] = ()
    left_out: tuple[str, ...] = ()
