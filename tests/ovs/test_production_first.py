"""Copies do not affect production on real Open vSwitch, because actions guard against it."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.model import (
    CollectorId,
    Filter,
    FilterId,
    Oversize,
    PortRange,
    Rate,
    RateUnit,
    Rule,
    RuleMatch,
    Session,
    TunnelKind,
    Verdict,
    World,
)
from flows.plan import counts_made
from tests.flows.hand_made import S1, S2, Plugged, at, cable, tap, watch, world
from tests.ovs.lab import Lab, ofctl, ofproto_trace, purge_cache
from tests.ovs.workload_bridges import (
    DB,
    FULL,
    PAIR,
    POOL,
    RED,
    WEB,
    WorkloadBridges,
    extended,
    pool,
    soc,
    udp,
)

INNER = 1500 - 36
"""Longest frame that fits the underlay in a production tunnel, in bytes."""
TO_53 = RuleMatch(protocol=17, destination_port=(PortRange(53, 53),))
LONG_ONES = Filter(FilterId("long"), "long", RED, egress=(Rule(1, Verdict.ACCEPT, TO_53),))
"""Payload that identifies the long frames of a burst."""
LOW = Rate(RateUnit.PPS, 20)
PAIRS = 10


@pytest.fixture
def bridges(lab: Lab) -> Iterator[WorkloadBridges]:
    yield WorkloadBridges(lab)


def share_uplink(bridges: WorkloadBridges) -> None:
    """Send production over the uplink of copies: what db receives is forwarded to a peer, too."""
    peer = bridges.tunnels[S1, TunnelKind.GENEVE]
    onward = f"set_field:100->tun_id,set_field:192.0.2.10->tun_dst,output:{peer}"
    rest = "load:1->NXM_NX_REG4[0..2],resubmit(,40),resubmit(,41)"
    ofctl(
        "add-flow", bridges.names[S1],
        f"table=0,priority=65000,in_port=1,dl_type=0x0800,actions=output:2,clone({onward}),"
        f"load:1->NXM_NX_REG1[],load:1->NXM_NX_REG2[],{rest}",
    )  # fmt: skip
    purge_cache()


def burst() -> list[bytes]:
    """Long frames, each followed by a short one.

    Open vSwitch sends up to 32 packets to a port at once, and one that the port refuses takes
    those behind it with it. There are so few that the short frames are behind the first copy.
    """
    long = [udp(WEB, DB, n, 53, INNER) for n in range(PAIRS)]
    short = [udp(WEB, DB, n, 9, 100) for n in range(PAIRS, 2 * PAIRS)]
    return [frame for pair in zip(long, short, strict=True) for frame in pair]


def on_uplink(bridges: WorkloadBridges, sent: list[bytes]) -> tuple[Counter[bytes], list[int]]:
    """Production that arrives over the uplink, and the lengths of the outer packets of copies."""
    here = bridges.send(S1, 1, *sent, at_once=True)[S1, 2]
    for length in (INNER, 100):  # Open vSwitch keeps the order of packets of one megaflow
        alike = [frame for frame in sent if len(frame) == length]
        assert [f for f in here if len(f) == length] == alike, "production on the bridge"
    arrived = bridges.underlay.arrived()
    copies = [carried.packet_bytes for carried in arrived if carried.key == 7001]
    return Counter(carried.frame for carried in arrived if carried.key == 100), copies


def of_web(**options: object) -> World:
    """A session that copies the long frames of web."""
    session = watch("s", "web", to="soc", wanted=LONG_ONES)
    return extended(world(*PAIR, LONG_ONES, session), soc(**options))


@pytest.mark.parametrize("tag", [None, 7])
def test_full_size_copies_on_the_uplink_of_production_lose_none_of_it(
    bridges: WorkloadBridges, tag: int | None
) -> None:
    options = {} if tag is None else {"tenant_tag": tag}
    bridges.install(replace(of_web(**options), tunnels=bridges.tunnels))
    share_uplink(bridges)
    sent = burst()

    production, copies = on_uplink(bridges, sent)

    assert production == Counter(sent)
    assert copies == [1500] * PAIRS


def test_the_test_of_the_guard_sees_what_happens_without_it(bridges: WorkloadBridges) -> None:
    """A declared MTU that is 4 bytes too large: copies make production frames get lost."""
    unguarded = of_web(tenant_tag=7)
    bridges.install(replace(unguarded, tunnels=bridges.tunnels, underlay_mtu=1504))
    share_uplink(bridges)
    sent = burst()
    for caching in ("upcalls", "megaflows"):
        production, copies = on_uplink(bridges, sent)
        assert production.total() <= len(sent) - PAIRS, caching
        assert copies == [], caching


def several(*sessions: Session) -> tuple[Session, ...]:
    """These sessions, and a last one without limits."""
    return (*sessions, watch("z", "web", to="ids-0"))


def to(name: str, collector: str, **limits: object) -> Session:
    return replace(watch(name, "web", to="ids-0"), collector=CollectorId(collector), **limits)  # type: ignore[arg-type]


CAPPED = to("a", "ids-0", max_rate=LOW)
CASES = {
    "cap": several(CAPPED),
    "cut": several(to("a", "ids-0", packet_length=64)),
    "cap and cut": several(CAPPED, to("b", "ids-0", packet_length=64)),
    "cap, pool": several(to("a", "pool", max_rate=LOW)),
    "cap, tunnel": several(to("a", "soc", max_rate=LOW)),
    "skip": several(to("a", "soc", oversize=Oversize.SKIP)),
    "far": several(to("a", "far"), to("b", "far", max_rate=LOW)),
    "far, skip": several(to("a", "far", oversize=Oversize.SKIP)),
}


@pytest.mark.parametrize("is_bridge_capped", [False, True], ids=["free", "bridge capped"])
@pytest.mark.parametrize("case", CASES)
def test_what_copies_cannot_undo_is_done_on_a_packet_apart(
    lab: Lab, case: str, is_bridge_capped: bool
) -> None:
    """Datapath actions: nothing drops or truncates the packet before the other outputs.

    The last copy may be made without a clone, as nothing follows it.
    """
    bridges = WorkloadBridges(lab, bridges=2)
    taps: list[Plugged] = [tap(str(name), at(S1, 3 + n)) for n, name in enumerate(POOL)]
    link = cable(at(S1, 21), at(S2, 22))
    of = world(*PAIR, *taps, tap("far", at(S2, 3)), link, *CASES[case])
    narrow = {"link_mtu": 1000, "bridge_rate": LOW if is_bridge_capped else None}
    bridges.install(extended(of, soc(), pool(), tunnels=bridges.tunnels, **narrow))
    for frame in (udp(WEB, DB, 1, 2, 500), udp(WEB, DB, 1, 3, FULL)):
        text = ofproto_trace(bridges.names[S1], 1, frame)
        done = apart(text.rpartition("Datapath actions: ")[2].strip())
        assert done[0] == dp_port(2), f"production first: {done}"
        counting = counting_meters(text)
        marring = [
            n
            for n, what in enumerate(done)
            if what.startswith(("meter", "trunc")) and what not in counting
        ]
        last = done[marring[0] :] if marring else []
        served = [what for what in last if what.isdigit() or what.startswith(("check", "clone"))]
        assert len(served) <= 1, f"what follows {last[0]} is not one copy: {done}"
        assert not marring or is_bridge_capped, f"a session without limits comes last: {done}"
        assert bridges.send(S1, 1, frame)[S1, 2] == [frame]


def apart(actions: str) -> list[str]:
    """Top-level datapath actions; nested actions are part of the outer ones."""
    found, depth = [""], 0
    for letter in actions:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return found


def counting_meters(trace: str) -> set[str]:
    """The meters that count copies and drop nothing, as the data path calls them.

    A trace names the meters of OpenFlow in the order in which they become those of the data path.
    """
    asked = [int(number) for number in re.findall(r"meter:(\d+)", trace)]
    done = re.findall(r"meter\(\d+\)", trace.rpartition("Datapath actions: ")[2])
    assert len(asked) == len(done), trace
    return {name for number, name in zip(asked, done, strict=True) if counts_made(number)}


def test_the_actions_of_a_data_path_are_told_apart() -> None:
    text = "3,clone(meter(1),check_pkt_len(size=9,gt(5),le(clone(trunc(9),4)))),meter(2),7"
    assert apart(text) == ["3", text[2:-11], "meter(2)", "7"]


def dp_port(ofport: int) -> str:
    """The datapath port number of a port."""
    command = ["ovs-appctl", "dpif/show"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(rf"d0-eth{ofport} {ofport}/(\d+):", shown)
    assert found is not None, shown
    return found[1]
