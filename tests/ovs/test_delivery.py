"""Tunnelled, truncated, capped and balanced copies on real Open vSwitch: no production is lost."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.model import (
    METERS,
    Balance,
    Delivery,
    Filter,
    FilterId,
    Oversize,
    Rate,
    RateUnit,
    Rule,
    Verdict,
)
from flows.resolve import FILTERED_WEIGHT, SESSIONS_PER_NETWORK, STAGED_WEIGHT, ResolvedWorld
from tests import frames
from tests.flows.hand_made import S1, S2, at, cable, tap, vm, watch, world
from tests.ovs.datapath import IS_KERNEL
from tests.ovs.lab import Lab, ofctl, ofproto_trace
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


@pytest.fixture
def bridges(lab: Lab) -> Iterator[WorkloadBridges]:
    yield WorkloadBridges(lab)


def test_a_copy_that_does_not_fit_its_path_is_cut_and_production_is_whole(
    bridges: WorkloadBridges,
) -> None:
    of = extended(world(*PAIR, watch("s", "web", to="soc")), soc(), tunnels=bridges.tunnels)
    bridges.install(of)
    fits, full = udp(WEB, DB, 1, 2, 1464), udp(WEB, DB, 1, 3, FULL)
    over = udp(WEB, DB, 1, 4, 1465)

    got = bridges.send(S1, 1, fits, over, full)

    assert got == {(S1, 2): [fits, over, full]}
    arrived = bridges.underlay.arrived()
    assert [c.frame for c in arrived] == [fits, over[:1464], full[:1464]]
    assert [c.packet_bytes for c in arrived] == [1500] * 3


def test_a_copy_that_does_not_fit_its_path_is_left_out_where_the_session_says_so(
    bridges: WorkloadBridges,
) -> None:
    session = replace(watch("s", "web", to="soc"), oversize=Oversize.SKIP)
    bridges.install(extended(world(*PAIR, session), soc(), tunnels=bridges.tunnels))
    fits, full = udp(WEB, DB, 1, 2, 1464), udp(WEB, DB, 1, 3, FULL)

    assert bridges.send(S1, 1, full, fits) == {(S1, 2): [full, fits]}
    assert [c.frame for c in bridges.underlay.arrived()] == [fits]


@pytest.mark.parametrize("oversize", Oversize)
def test_padding_behind_a_packet_does_not_get_past_the_guard(
    bridges: WorkloadBridges, oversize: Oversize
) -> None:
    """The check of the userspace datapath leaves it out, and the output would contain it."""
    session = replace(watch("s", "web", to="soc"), oversize=oversize)
    bridges.install(extended(world(*PAIR, session), soc(), tunnels=bridges.tunnels))
    padded = frames.pad(udp(WEB, DB, 1, 2), FULL)

    assert bridges.send(S1, 1, padded) == {(S1, 2): [padded]}
    arrived = [(each.frame, each.packet_bytes) for each in bridges.underlay.arrived()]
    # the check of the kernel counts it: the frame is one that does not fit
    is_skipped = IS_KERNEL and oversize is Oversize.SKIP
    assert arrived == ([] if is_skipped else [(padded[:1464], 1500)])


def test_padding_behind_a_packet_is_cut_with_it(bridges: WorkloadBridges) -> None:
    session = replace(watch("s", "web", to="ids"), packet_length=100)
    bridges.install(extended(world(*PAIR, tap("ids", at(S1, 3)), session)))
    padded = frames.pad(udp(WEB, DB, 1, 2), FULL)

    assert bridges.send(S1, 1, padded) == {(S1, 2): [padded], (S1, 3): [padded[:100]]}


@pytest.mark.parametrize("unit", list(RateUnit))
def test_a_cap_sheds_copies_and_never_production(bridges: WorkloadBridges, unit: RateUnit) -> None:
    capped = replace(watch("capped", "web", to="ids"), max_rate=Rate(unit, 20))
    free = watch("free", "web", to="ids-2")
    of = world(*PAIR, tap("ids", at(S1, 3)), tap("ids-2", at(S1, 4)), capped, free)
    bridges.install(extended(of))
    burst = [udp(WEB, DB, n, 2, 1000) for n in range(1, 401)]

    got = bridges.send(S1, 1, *burst)

    assert got[S1, 2] == burst, "production"
    assert got[S1, 4] == burst, "the copies of another session"
    allowed = len(got[S1, 3])
    assert 10 <= allowed <= 100, "ten times as many are wanted as the cap lets through"
    assert set(got[S1, 3]) <= set(burst)
    assert shed(bridges.names[S1], METERS.start) == len(burst) - allowed


def test_the_cap_of_a_bridge_counts_all_sessions_together(bridges: WorkloadBridges) -> None:
    sessions = [watch(f"s{n}", "web", to=f"ids-{n}") for n in (3, 4)]
    taps = [tap(f"ids-{n}", at(S1, n)) for n in (3, 4)]
    of = extended(world(*PAIR, *taps, *sessions), bridge_rate=Rate(RateUnit.PPS, 20))
    bridges.install(of)
    burst = [udp(WEB, DB, n, 2) for n in range(1, 301)]

    got = bridges.send(S1, 1, *burst)

    assert got[S1, 2] == burst
    allowed = len(got.get((S1, 3), [])) + len(got.get((S1, 4), []))
    assert 10 <= allowed <= 100
    assert shed(bridges.names[S1], METERS.stop) == 2 * len(burst) - allowed


def shed(bridge: str, meter: int) -> int:
    """How many packets a meter has dropped."""
    text = ofctl("meter-stats", bridge, f"meter={meter}")
    found = re.search(r"bands:\s*0: packet_count:(\d+)", text)
    assert found is not None, text
    return int(found[1])


def conversations(count: int) -> list[tuple[bytes, bytes]]:
    """Both directions of UDP flows between web and db, each with its own ports."""
    return [
        (udp(WEB, DB, 1024 + n, 53, 80 + n % 7), udp(DB, WEB, 53, 1024 + n, 80 + n % 5))
        for n in range(count)
    ]


POOLED = (*(tap(str(name), at(S1, 3 + n)) for n, name in enumerate(POOL)),)


def sensor_by_frame(got: dict[tuple[int, int], list[bytes]], dpid: int = S1) -> dict[bytes, int]:
    """The sensor at which each copy arrived; checks that none arrived twice."""
    found: dict[bytes, int] = {}
    for n in range(len(POOL)):
        for frame in got.get((dpid, 3 + n), []):
            assert frame not in found, "one sensor alone gets a packet"
            found[frame] = n
    return found


def test_both_directions_of_a_connection_reach_one_sensor_of_a_pool(
    bridges: WorkloadBridges,
) -> None:
    of = extended(world(*PAIR, *POOLED, watch("s", "web", to="pool")), pool())
    bridges.install(of)
    talks = conversations(200)
    found = sensor_by_frame(bridges.send(S1, 1, *(there for there, _ in talks)))
    back = sensor_by_frame(bridges.send(S1, 2, *(back for _, back in talks)))
    assert [found[there] for there, _ in talks] == [back[reply] for _, reply in talks]
    share = Counter(found.values())
    assert set(share) == {0, 1, 2, 3}
    assert max(share.values()) < 2 * len(talks) / len(POOL)


def test_a_lost_sensor_moves_its_share_alone_and_gets_it_back(bridges: WorkloadBridges) -> None:
    whole = extended(world(*PAIR, *POOLED, watch("s", "web", to="pool")), pool())
    frames_sent = [there for there, _ in conversations(200)]
    bridges.install(whole)
    before = sensor_by_frame(bridges.send(S1, 1, *frames_sent))
    bridges.install(replace(whole, down=frozenset({POOL[1]})))
    during = sensor_by_frame(bridges.send(S1, 1, *frames_sent))
    bridges.install(whole)
    after = sensor_by_frame(bridges.send(S1, 1, *frames_sent))
    assert before == after
    moved = {frame for frame in frames_sent if before[frame] != during[frame]}
    assert moved == {frame for frame in frames_sent if before[frame] == 1}
    assert 1 not in during.values()


def test_every_bridge_chooses_the_same_sensor(lab: Lab) -> None:
    bridges = WorkloadBridges(lab, bridges=2)
    pair = (vm("web", at(S1, 1), WEB), vm("db", at(S2, 1), DB))
    of = world(*pair, *POOLED, cable(at(S1, 21), at(S2, 22)), watch("s", "web", "db", to="pool"))
    bridges.install(extended(of, pool()))
    talks = conversations(60)
    found = sensor_by_frame(bridges.send(S1, 1, *(there for there, _ in talks)))
    back = sensor_by_frame(bridges.send(S2, 1, *(back for _, back in talks)))
    assert [found[there] for there, _ in talks] == [back[reply] for _, reply in talks]


@pytest.mark.parametrize("balance", list(Balance))
def test_fragments_reach_the_sensor_of_their_connection_when_hosts_decide(
    bridges: WorkloadBridges, balance: Balance
) -> None:
    of = extended(world(*PAIR, *POOLED, watch("s", "web", to="pool")), pool(balance))
    bridges.install(of)
    whole = [udp(WEB, DB, 1024 + n, 53, 90) for n in range(60)]
    first = [udp(WEB, DB, 1024 + n, 53, 100, 0x2000) for n in range(60)]
    later = [udp(WEB, DB, 1024 + n, 53, 100, 0x0008) for n in range(60)]
    found = sensor_by_frame(bridges.send(S1, 1, *whole, *first, *later))
    # Open vSwitch parses ports of no fragment, not even of the first one
    assert [found[frame] for frame in first] == [found[frame] for frame in later]
    together = [found[a] == found[b] for a, b in zip(whole, later, strict=True)]
    assert all(together) is (balance is Balance.HOSTS)


def test_remote_sensors_share_a_pool_too(bridges: WorkloadBridges) -> None:
    far = soc("192.0.2.9", "192.0.2.10", "fd00:9::9", delivery=Delivery.GRE, key=77)
    bridges.install(
        extended(world(*PAIR, watch("s", "web", to="soc")), far, tunnels=bridges.tunnels)
    )
    talks = conversations(100)
    bridges.send(S1, 1, *(there for there, _ in talks))
    there = {c.frame: c.address for c in bridges.underlay.arrived()}
    bridges.send(S1, 2, *(back for _, back in talks))
    back = {c.frame: c.address for c in bridges.underlay.arrived()}
    assert [there[a] for a, _ in talks] == [back[b] for _, b in talks]
    assert set(there.values()) == {"192.0.2.9", "192.0.2.10", "fd00:9::9"}


def test_a_network_full_of_the_dearest_sessions_has_its_production(
    bridges: WorkloadBridges,
) -> None:
    """Filters with both directions, and copies with a meter, a length check and a group."""
    hears = Filter(FilterId("hears"), "hears", RED, ingress=(Rule(1, Verdict.ACCEPT),))
    count = SESSIONS_PER_NETWORK // (FILTERED_WEIGHT + STAGED_WEIGHT)
    plenty = Rate(RateUnit.PPS, 1_000_000)
    dear = [
        replace(
            watch(f"s{n}", "web", "db", to="soc", wanted=hears), max_rate=plenty, packet_length=64
        )
        for n in range(count)
    ]
    far = soc("192.0.2.9", "192.0.2.10")
    of = extended(world(*PAIR, hears, *dear), far, tunnels=bridges.tunnels, bridge_rate=plenty)
    assert len(ResolvedWorld(of).served) == count
    bridges.install(of)
    for frame in (udp(WEB, DB, 1, 2, 64), udp(WEB, DB, 1, 2, 500)):
        assert bridges.send(S1, 1, frame) == {(S1, 2): [frame]}
        assert [c.frame for c in bridges.underlay.arrived()] == [frame[:64]] * count
    assert "over max" not in ofproto_trace(bridges.names[S1], 1, udp(WEB, DB, 1, 2, 500))
