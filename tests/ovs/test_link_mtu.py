"""Copies too long for a link between bridges, on real Open vSwitch: no production is lost.

One frame longer than the MTU of the link makes Open vSwitch drop the other frames of its
burst, so no copy may be one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from controller.southbound.openflow import open_management
from flows.compile import Program
from flows.model import LINK_MTU, CollectorId, Direction, Dpid, Oversize, World, link_limit
from flows.plan import counts_long, plan
from flows.resolve import ResolvedWorld
from tests import frames
from tests.datapath import segmenters
from tests.flows.hand_made import S1, S2, at, cable, tap, vm, watch, world
from tests.ovs.lab import Lab, ofctl, purge_cache
from tests.ovs.segmenters import add_segmenters

WEB, DB, APP, BESIDE = 0x020000000001, 0x020000000002, 0x020000000003, 0x020000000004
JUMBO, LONG = 9000, 2000
"""Longest frame of workloads, and the frame length of which a burst fits all receive buffers."""
NAMES: dict[Dpid, str] = {S1: "j1", S2: "j2"}
PORTS = (
    vm("web", at(S1, 1), WEB), vm("db", at(S1, 2), DB), tap("near", at(S1, 3)),
    vm("app", at(S2, 1), APP), vm("beside", at(S2, 2), BESIDE), tap("far", at(S2, 3)),
)  # fmt: skip
LINK = cable(at(S1, 21), at(S2, 22))
OF_WEB = watch("s", "web", to="far", direction=Direction.EGRESS)
LONGEST = link_limit(LINK_MTU)


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Two bridges with jumbo frames between workloads, and a link with a usual MTU.

    Linux allows a frame with an 802.1Q tag to exceed the MTU by the tag.
    """
    with Lab() as lab:
        for dpid, name in NAMES.items():
            lab.add_bridge(name, dpid)
            lab.add_ports(name, (1, 2, 3), mtu=JUMBO)
        lab.link("j1", 21, "j2", 22, mtu=LINK_MTU - 4)
        add_segmenters(lab, NAMES)
        lab.install_markers()
        yield lab


def install(of: World) -> dict[Dpid, Program]:
    resolved, programs = ResolvedWorld(replace(of, segmenters=segmenters(NAMES))), {}
    for dpid, name in NAMES.items():
        programs[dpid] = Program(dpid)
        programs[dpid].has_meters = True
        programs[dpid].update(resolved)
        ofctl("del-meters", name)
        for meter in programs[dpid].meters.values():
            ofctl("add-meter", name, str(meter))
        with open_management(name) as switch:
            wanted = programs[dpid].flows
            assert switch.apply(plan(wanted, switch.our_flows())) == ()
    purge_cache()
    return programs


def udp(dst: int, size: int, serial: int, src: int = WEB) -> bytes:
    body = frames.udp(1024 + serial, 53, bytes(size - 42))
    return frames.ethernet(dst, src, 0x0800, frames.ipv4("10.0.0.1", "10.0.0.2", 17, body))


def exchange(lab: Lab, sent: list[bytes], sender: int = S1) -> dict[str, list[bytes]]:
    """The frames that arrive at each port when web, or app on the other bridge, sends frames."""
    (end,) = [e for e in lab.endpoints if (e.bridge, e.ofport) == (NAMES[sender], 1)]
    for frame in sent:
        end.send(frame)
    lab.install_markers()  # markers may be lost, too: repeats them
    lab.flush()
    ports = {(NAMES[p.place.dpid], p.place.ofport): p.port.id for p in PORTS}
    return {ports[e.bridge, e.ofport]: got for e in lab.endpoints if (got := e.receive_all())}


def burst() -> tuple[list[bytes], list[bytes]]:
    """Jumbo frames between neighbours, and production over the link."""
    return [udp(DB, LONG, n) for n in range(8)], [udp(APP, 400, 100 + n) for n in range(24)]


def mixed(long: list[bytes], short: list[bytes]) -> list[bytes]:
    """Three short frames after each long one."""
    return [frame for n, one in enumerate(long) for frame in (one, *short[3 * n : 3 * n + 3])]


@pytest.mark.parametrize("oversize", Oversize)
def test_copies_that_fit_no_link_cost_the_production_on_it_nothing(
    lab: Lab, oversize: Oversize
) -> None:
    programs = install(world(*PORTS, LINK, replace(OF_WEB, oversize=oversize)))
    long, short = burst()

    got = exchange(lab, mixed(long, short))

    assert got["app"] == short, "production over the link"
    assert got["db"] == long, "production of neighbours"
    copies = [frame[:LONGEST] for frame in long] if oversize is Oversize.TRUNCATE else []
    assert Counter(got["far"]) == Counter(copies + short)
    (meter,) = (number for number in programs[S1].meters if counts_long(number))
    assert f"packet_in_count:{len(long)} " in ofctl("meter-stats", "j1", f"meter={meter}")


def test_the_test_of_the_guard_sees_what_happens_without_it(lab: Lab) -> None:
    """A link with a declared MTU that it does not have: production is lost on it.

    How much depends on the batches of Open vSwitch, so sometimes nothing is.
    """
    install(replace(world(*PORTS, LINK, OF_WEB), link_mtu=JUMBO + 100))
    long, short = burst()
    arrived: list[int] = []
    while len(arrived) < 20 and set(arrived) <= {len(short)}:
        got = exchange(lab, mixed(long, short))
        assert got["db"] == long, "what crosses no link"
        arrived.append(len(got.get("app", [])))
    assert arrived[-1] < len(short), "production over the link"


def test_the_longest_copy_that_fits_a_link_goes_whole_and_no_longer_one(lab: Lab) -> None:
    install(world(*PORTS, LINK, OF_WEB))
    fits, over = udp(DB, LONGEST, 1), udp(DB, LONGEST + 1, 2)

    assert exchange(lab, [fits, over]) == {"db": [fits, over], "far": [fits, over[:LONGEST]]}


def test_a_copy_that_crosses_no_link_is_whole_whatever_links_carry(lab: Lab) -> None:
    install(world(*PORTS, LINK, replace(OF_WEB, collector=CollectorId("near"))))
    jumbo = udp(DB, LONG, 1)

    assert exchange(lab, [jumbo]) == {"db": [jumbo], "near": [jumbo]}


def test_the_bridge_of_the_tap_port_copies_whole_what_the_others_cut(lab: Lab) -> None:
    """Each bridge makes copies for one session."""
    install(world(*PORTS, LINK, watch("s", "web", "app", to="near", direction=Direction.EGRESS)))
    here, there = udp(DB, LONG, 1), udp(BESIDE, LONG, 2, src=APP)

    assert exchange(lab, [here]) == {"db": [here], "near": [here]}
    assert exchange(lab, [there], S2) == {"beside": [there], "near": [there[:LONGEST]]}
