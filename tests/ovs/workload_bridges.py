"""One or two bridges with workloads, tap ports and an underlay, for tests of copies."""

from __future__ import annotations

from dataclasses import replace

from netaddr import IPAddress

from controller.southbound.openflow import open_management
from flows.compile import Program
from flows.model import (
    METERS,
    Balance,
    Collector,
    CollectorId,
    Delivery,
    Dpid,
    Numbers,
    Ofport,
    PortId,
    TenantName,
    World,
)
from flows.plan import plan
from flows.resolve import ResolvedWorld
from tests import frames
from tests.flows.hand_made import S1, S2, at, vm
from tests.ovs.lab import Lab, ofctl, purge_cache
from tests.ovs.segmenters import add_segmenters
from tests.ovs.underlay import Underlay

WEB, DB, APP = 0x020000000001, 0x020000000002, 0x020000000003
RED = TenantName("red")
POOL = tuple(PortId(f"ids-{n}") for n in range(4))
FULL = 1514
"""Bytes of the longest frame of a network with an MTU of 1500."""


def udp(src: int, dst: int, sport: int, dport: int, size: int = 60, fragment: int = 0) -> bytes:
    """A datagram between the workloads with these addresses, padded to ``size`` bytes."""
    ips = {WEB: "10.0.0.1", DB: "10.0.0.2", APP: "10.0.0.3"}
    body = frames.udp(sport, dport, bytes(size - 42))
    return frames.ethernet(
        dst, src, 0x0800, frames.ipv4(ips[src], ips[dst], 17, body, fragment, ident=sport)
    )


def soc(*addresses: str, name: str = "soc", **options: object) -> Collector:
    """A collector of remote sensors."""
    far = tuple(IPAddress(address) for address in addresses or ("192.0.2.9",))
    values = {"delivery": Delivery.VXLAN, "key": 7001} | options
    return Collector(CollectorId(name), name, RED, far, **values)  # type: ignore[arg-type]


def pool(balance: Balance = Balance.CONNECTION) -> Collector:
    """A collector of four tap ports."""
    return Collector(CollectorId("pool"), "pool", RED, POOL, balance=balance)


def extended(of: World, *collectors: Collector, **changes: object) -> World:
    """A hand-made world with more collectors, and with numbers for them and for meters."""
    every = (*of.collectors, *collectors)
    numbers = Numbers(
        of.numbers.network, of.numbers.port, of.numbers.session, of.numbers.tag,
        of.numbers.filter,
        {collector.id: n for n, collector in enumerate(every, 1)},
        {session.id: METERS.start + n for n, session in enumerate(of.sessions)},
    )  # fmt: skip
    return replace(of, collectors=every, numbers=numbers, **changes)  # type: ignore[arg-type]


class WorkloadBridges:
    """One or two linked bridges with ports for workloads and tap ports, and an underlay.

    On the kernel datapath each has a segmenting pair.
    """

    def __init__(self, lab: Lab, bridges: int = 1) -> None:
        self.lab, self.names = lab, {}
        for number, dpid in enumerate((S1, S2)[:bridges]):
            self.names[dpid] = lab.add_bridge(f"d{number}", dpid)
            lab.add_ports(self.names[dpid], range(1, 8))
        if bridges == 2:
            lab.link("d0", 21, "d1", 22)
        self.underlay = Underlay(lab)
        self.tunnels = {
            key: Ofport(ofport)
            for dpid, name in self.names.items()
            for key, ofport in self.underlay.add_tunnels(name, dpid).items()
        }
        self.segmenters = add_segmenters(lab, self.names)
        lab.install_markers()

    def install(self, of: World) -> None:
        """Install a world on every bridge."""
        resolved = ResolvedWorld(replace(of, segmenters=self.segmenters))
        for dpid, name in self.names.items():
            program = Program(dpid)
            program.has_meters = True
            wanted = program.update(resolved).put
            ofctl("del-meters", name)
            for meter in program.meters.values():
                ofctl("add-meter", name, str(meter))
            with open_management(name) as switch:
                switch.match_first_fragments()
                assert switch.apply(plan(wanted, switch.our_flows())) == ()
        purge_cache()

    def send(
        self, dpid: Dpid, ofport: int, *sent: bytes, at_once: bool = False
    ) -> dict[tuple[int, int], list[bytes]]:
        """The frames that come out at each port of each bridge."""
        name = self.names[dpid]
        (end,) = [e for e in self.lab.endpoints if (e.bridge, e.ofport) == (name, ofport)]
        dpid_of = {name: dpid for dpid, name in self.names.items()}
        got = self.lab.exchange([(end, frame) for frame in sent], at_once=at_once)
        return {(dpid_of[end.bridge], end.ofport): seen for end, seen in got.items() if seen}


PAIR = (vm("web", at(S1, 1), WEB), vm("db", at(S1, 2), DB))
