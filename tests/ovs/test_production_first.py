"""What copies do to production on real Open vSwitch: nothing, as long as they are guarded."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.model.filter import Filter, PortRange, Rule, RuleMatch, Verdict
from flows.model.session import CollectorId, Delivery, FilterId, Oversize, Rate, RateUnit, Session
from flows.model.world import World
from tests.flows.hand_made import S1, S2, Plugged, at, cable, tap, watch, world
from tests.ovs.lab import Lab, ofctl, ofproto_trace, purge_cache
from tests.ovs.site import DB, FULL, PAIR, POOL, RED, WEB, Site, extended, pool, soc, udp

INNER = 1500 - 36
"""Bytes of the longest frame that fits the underlay, in a tunnel of production."""
TO_53 = RuleMatch(protocol=17, destination_port=(PortRange(53, 53),))
LONG_ONES = Filter(FilterId("long"), "long", RED, egress=(Rule(1, Verdict.ACCEPT, TO_53),))
"""What the long frames of a burst are known by."""
LOW = Rate(RateUnit.PPS, 20)


@pytest.fixture
def site(lab: Lab) -> Iterator[Site]:
    yield Site(lab)


def share_uplink(site: Site) -> None:
    """Let production leave by the uplink of copies: what db receives goes on to a peer, too."""
    peer = site.tunnels[S1, Delivery.GENEVE]
    onward = f"set_field:100->tun_id,set_field:192.0.2.10->tun_dst,output:{peer}"
    rest = "load:1->NXM_NX_REG4[0..2],resubmit(,40),resubmit(,41)"
    ofctl(
        "add-flow", site.names[S1],
        f"table=0,priority=65000,in_port=1,dl_type=0x0800,actions=output:2,clone({onward}),"
        f"load:1->NXM_NX_REG1[],load:1->NXM_NX_REG2[],{rest}",
    )  # fmt: skip
    purge_cache()


def burst() -> list[bytes]:
    """Long frames, each followed by a short one."""
    long = [udp(WEB, DB, n, 53, INNER) for n in range(1, 31)]
    short = [udp(WEB, DB, n, 9, 100) for n in range(31, 61)]
    return [frame for pair in zip(long, short, strict=True) for frame in pair]


def on_uplink(site: Site, sent: list[bytes]) -> tuple[Counter[bytes], list[int]]:
    """What of production arrives behind the uplink, and the lengths of outer packets of copies."""
    here = site.send(S1, 1, *sent)[S1, 2]
    for length in (INNER, 100):  # Open vSwitch keeps the order of packets that take one path
        alike = [frame for frame in sent if len(frame) == length]
        assert [f for f in here if len(f) == length] == alike, "production on the bridge"
    arrived = site.underlay.arrived()
    copies = [carried.packet_bytes for carried in arrived if carried.key == 7001]
    return Counter(carried.frame for carried in arrived if carried.key == 100), copies


def of_web(**options: object) -> World:
    """A session that copies the long frames of web."""
    session = watch("s", "web", to="soc", wanted=LONG_ONES)
    return extended(world(*PAIR, LONG_ONES, session), soc(**options))


@pytest.mark.parametrize("tag", [None, 7])
def test_full_size_copies_on_the_uplink_of_production_lose_none_of_it(
    site: Site, tag: int | None
) -> None:
    options = {} if tag is None else {"tenant_tag": tag}
    site.install(replace(of_web(**options), tunnels=site.tunnels))
    share_uplink(site)
    sent = burst()

    production, copies = on_uplink(site, sent)

    assert production == Counter(sent)
    assert copies == [1500] * 30


def test_the_test_of_the_guard_sees_what_happens_without_it(site: Site) -> None:
    """Hosts that are said to carry 4 bytes more than they do: copies take production with them.

    How much depends on what Open vSwitch takes into one burst, so now and then nothing is lost.
    """
    unguarded = of_web(tenant_tag=7)
    site.install(replace(unguarded, tunnels=site.tunnels, underlay_mtu=1504))
    share_uplink(site)
    sent, arrived = burst(), list[int]()
    while len(arrived) < 20 and set(arrived) <= {len(sent)}:
        production, copies = on_uplink(site, sent)
        assert len(copies) < 30, "copies"
        arrived.append(production.total())
    assert arrived[-1] < len(sent), "production"


def several(*sessions: Session) -> tuple[Session, ...]:
    """These sessions, and a last one that nothing limits."""
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
    """What Open vSwitch makes of the action lists: nothing drops or cuts before others are served.

    The last copy may be made in line, as nothing follows it.
    """
    site = Site(lab, bridges=2)
    taps: list[Plugged] = [tap(str(name), at(S1, 3 + n)) for n, name in enumerate(POOL)]
    link = cable(at(S1, 21), at(S2, 22))
    of = world(*PAIR, *taps, tap("far", at(S2, 3)), link, *CASES[case])
    narrow = {"link_mtu": 1000, "bridge_rate": LOW if is_bridge_capped else None}
    site.install(extended(of, soc(), pool(), tunnels=site.tunnels, **narrow))
    for frame in (udp(WEB, DB, 1, 2, 500), udp(WEB, DB, 1, 3, FULL)):
        text = ofproto_trace(site.names[S1], 1, frame)
        done = apart(text.rpartition("Datapath actions: ")[2].strip())
        assert done[0] == dp_port(2), f"production first: {done}"
        marring = [n for n, what in enumerate(done) if what.startswith(("meter", "trunc"))]
        last = done[marring[0] :] if marring else []
        served = [what for what in last if what.isdigit() or what.startswith(("check", "clone"))]
        assert len(served) <= 1, f"what follows {last[0]} is not one copy: {done}"
        assert not marring or is_bridge_capped, f"a session without limits comes last: {done}"
        assert site.send(S1, 1, frame)[S1, 2] == [frame]


def apart(actions: str) -> list[str]:
    """Actions of the data path one by one; those that stand in others are part of these."""
    found, depth = [""], 0
    for letter in actions:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return found


def test_the_actions_of_a_data_path_are_told_apart() -> None:
    text = "3,clone(meter(1),check_pkt_len(size=9,gt(5),le(clone(trunc(9),4)))),meter(2),7"
    assert apart(text) == ["3", text[2:-11], "meter(2)", "7"]


def dp_port(ofport: int) -> str:
    """The data path's own number of a port."""
    command = ["ovs-appctl", "dpif/show"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(rf"d0-eth{ofport} {ofport}/(\d+):", shown)
    assert found is not None, shown
    return found[1]
