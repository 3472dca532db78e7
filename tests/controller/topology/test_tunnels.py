"""Tunnel ports: which count, which are needed, and what people hear when one is missing."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from controller.southbound.ovsdb import (
    InterfaceRow,
    OvsdbSnapshot,
    TunnelDemand,
    TunnelKey,
    tunnel_name,
    tunnel_options,
    tunnel_type,
)
from controller.southbound.ovsdb.rows import BridgeRow
from controller.store import BridgeRecord, InterfaceRecord
from controller.topology import TunnelPorts
from controller.topology.placements import PlacementsSnapshot
from controller.topology.tunnels import find_tunnels
from flows.model import Dpid, Ofport, TunnelKind

S1, S2 = Dpid(1), Dpid(2)
VXLAN, GRE = TunnelKind.VXLAN, TunnelKind.GRE
NAME = tunnel_name(S1, VXLAN)


def record(*interfaces: tuple[str, int], dpid: Dpid = S1) -> BridgeRecord:
    return BridgeRecord(dpid, f"s{dpid}", tuple(InterfaceRecord(n, None, o) for n, o in interfaces))


MADE = InterfaceRow(S1, "s1", NAME, ofport=Ofport(9), tunnel=VXLAN)


def said(*rows: InterfaceRow, bridges: tuple[Dpid, ...] = (S1,)) -> OvsdbSnapshot:
    return OvsdbSnapshot(tuple(BridgeRow(dpid, f"s{dpid}") for dpid in bridges), rows)


def test_a_port_that_we_made_counts_where_openflow_has_it() -> None:
    assert find_tunnels([record((NAME, 9), ("eth1", 1))], said(MADE)) == {(S1, VXLAN): 9}
    assert find_tunnels([record(("eth1", 1))], said(MADE)) == {}


@pytest.mark.parametrize(
    "row",
    [
        replace(MADE, tunnel=None),
        replace(MADE, tunnel=GRE),
        replace(MADE, is_altered=True),
        replace(MADE, error="File exists"),
        replace(MADE, dpid=S2),
    ],
    ids=["not ours", "another kind", "altered", "failed", "of another bridge"],
)
def test_a_port_with_that_name_alone_is_not_used(row: InterfaceRow) -> None:
    assert find_tunnels([record((NAME, 9))], said(row)) == {}


def test_while_no_database_speaks_of_the_bridge_the_name_counts() -> None:
    assert find_tunnels([record((NAME, 9))], OvsdbSnapshot()) == {(S1, VXLAN): 9}
    assert find_tunnels([record((NAME, 9), dpid=S2)], OvsdbSnapshot()) == {}, "of another bridge"


@dataclass
class Maker:
    """A database that makes a port when it is told to."""

    known: OvsdbSnapshot = field(default_factory=said)
    problems: dict[TunnelKey, str] = field(default_factory=dict)
    wishes: Mapping[Dpid, TunnelDemand] = field(default_factory=dict)
    asked: threading.Event = field(default_factory=threading.Event)

    def want_tunnels(self, wishes: Mapping[Dpid, TunnelDemand]) -> None:
        self.wishes = wishes
        self.asked.set()

    def tunnel_problems(self) -> Mapping[TunnelKey, str]:
        return self.problems

    def snapshot(self) -> OvsdbSnapshot:
        return self.known


class Keeping:
    """Tunnel ports, their database, and the placements that are seen."""

    def __init__(self) -> None:
        self.maker, self.placements = Maker(), PlacementsSnapshot()
        self.ports = TunnelPorts(self.maker, lambda: self.placements, self.maker.snapshot)

    def want(self) -> None:
        """Bridge S1 needs a port for VXLAN."""
        self.ports.want({S1: TunnelDemand(frozenset([VXLAN]))})

    def made(self) -> None:
        """The port is there now."""
        self.maker.known = said(MADE)
        self.placements = PlacementsSnapshot(records=(record((NAME, 9)),))


def test_whoever_asks_waits_until_the_port_is_there() -> None:
    keeping = Keeping()

    def make() -> None:
        assert keeping.maker.asked.wait(20)
        keeping.made()
        assert keeping.ports.refresh()

    making = threading.Thread(target=make)
    making.start()
    keeping.want()
    assert keeping.ports.wait_made(frozenset(TunnelKind), 20)
    making.join()
    assert keeping.ports.tunnels == {(S1, VXLAN): 9}
    assert not keeping.ports.refresh(), "nothing is new"
    assert not keeping.ports.wait_made(frozenset(TunnelKind), 20), "nothing has come: it was there"


@pytest.mark.parametrize("why", ["refused", "failed", "unknown"])
def test_nobody_waits_for_a_port_that_does_not_come(why: str) -> None:
    keeping = Keeping()
    match why:
        case "refused":
            keeping.maker.problems[S1, VXLAN] = "no"
        case "failed":
            keeping.maker.known = said(replace(MADE, ofport=None, error="File exists"))
        case _:
            keeping.maker.known = said(bridges=())
    keeping.want()
    assert not keeping.ports.wait_made(frozenset(TunnelKind), 600)


def test_a_port_of_another_kind_is_not_waited_for() -> None:
    keeping = Keeping()
    keeping.want()

    assert not keeping.ports.wait_made(frozenset([GRE]), 600)
    assert not keeping.ports.wait_made(frozenset([VXLAN]), 0.1), "this one is being made"


def test_what_is_missing_is_said_with_what_to_do() -> None:
    keeping = Keeping()

    def why() -> str:
        return keeping.ports.why_missing(S1, VXLAN, "s1")

    assert why() == "the tunnel port for vxlan of bridge s1 is being made"
    keeping.maker.known = said(replace(MADE, ofport=None, error="File exists"))
    assert "File exists" in why()
    assert "another program of its host" in why()
    keeping.maker.known = said(bridges=(S2,))
    assert why().endswith("name that of its host in `remotes` of [ovsdb]")
    keeping.maker.problems[S1, VXLAN] = "the database refused it"
    assert why() == "the database refused it"


def test_a_kernel_without_ipv6_tunnels_is_said() -> None:
    keeping, kind = Keeping(), TunnelKind.GRE_OVER_IPV6
    row = replace(MADE, tunnel=kind, ofport=None, error="could not add network device")
    keeping.maker.known = said(row)
    why = keeping.ports.why_missing(S1, kind, "s1")
    assert f"the tunnel port {row.name!r} for gre over IPv6 of bridge s1" in why
    assert "kernel has the module ip6_gre" in why


def test_ports_are_called_as_ever_and_those_for_ipv6_otherwise() -> None:
    """Another name, type or option would replace the ports of running bridges at an upgrade."""
    dpid = Dpid(0x51)
    ports = {kind: (tunnel_name(dpid, kind), tunnel_type(kind)) for kind in TunnelKind}
    assert ports == {
        TunnelKind.VXLAN: ("cv29", "vxlan"),
        TunnelKind.GRE: ("cg29", "gre"),
        TunnelKind.ERSPAN2: ("ce29", "erspan"),
        TunnelKind.ERSPAN3: ("cf29", "erspan"),
        TunnelKind.GENEVE: ("cn29", "geneve"),
        TunnelKind.GRE_OVER_IPV6: ("ch29", "ip6gre"),
        TunnelKind.ERSPAN2_OVER_IPV6: ("ci29", "ip6erspan"),
        TunnelKind.ERSPAN3_OVER_IPV6: ("cj29", "ip6erspan"),
    }
    assert tunnel_options(dpid, TunnelKind.ERSPAN3) == {
        "remote_ip": "flow", "out_key": "flow", "in_key": "13413413137206150803",
        "erspan_ver": "2", "erspan_dir": "0", "erspan_hwid": "0",
    }  # fmt: skip


def test_a_name_is_as_long_as_linux_wants_it() -> None:
    assert {len(tunnel_name(Dpid((1 << 64) - 1), kind)) for kind in TunnelKind} == {15}
