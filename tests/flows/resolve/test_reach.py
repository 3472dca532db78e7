"""What is known of the hops of copies: obstacles, limits, and what cannot be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from netaddr import IPAddress

from flows.compile import Program, copy_paths
from flows.model import (
    Collector,
    CollectorId,
    Delivery,
    Direction,
    Down,
    Dpid,
    Hop,
    Ofport,
    Oversize,
    Placement,
    PortId,
    Route,
    RouteState,
    Sensor,
    SessionId,
    Setting,
    TenantName,
    World,
)
from flows.resolve import FAR_WEIGHT, ResolvedSession, ResolvedWorld, sensor_notes
from flows.resolve.capacity import weight
from tests.flows.hand_made import S1, S2, at, cable, packet, received, tap, vm, watch, world

WEB = vm("web", at(S1, 1), 0x020000000001)
DB = vm("db", at(S1, 2), 0x020000000002)
IDS, SOC = tap("ids", at(S1, 9)), tap("soc", at(S1, 10))
FRAME = packet(0x020000000002, 0x020000000001)
VM_HOP = Hop("s1", "eth", mtu=1500, longest=1500)
FAR = IPAddress("192.0.2.9")
NO_SETTINGS: frozenset[Setting] = frozenset()


def of_web(**more: object) -> World:
    return replace(world(WEB, DB, IDS, watch("s", "web", to="ids")), **more)  # type: ignore[arg-type]


def hops(at_tap: Hop, at_web: Hop = VM_HOP, at_db: Hop = VM_HOP) -> Mapping[Placement, Hop]:
    return {at(S1, 1): at_web, at(S1, 2): at_db, at(S1, 9): at_tap}


def resolved_session(of: World) -> ResolvedSession:
    return ResolvedWorld(of).sessions[SessionId("s")]


def with_settings(*settings: Setting) -> Hop:
    return replace(VM_HOP, settings=frozenset(settings))


@pytest.mark.parametrize("setting", [Setting.NO_FORWARD, Setting.NOT_FORWARDING])
def test_no_copy_is_sent_to_a_tap_port_that_forwards_nothing(setting: Setting) -> None:
    of = of_web(hops=hops(with_settings(setting)))
    found = resolved_session(of)
    assert found.is_served
    assert "tap port 'ids' receives nothing" in " ".join(found.missing)
    assert received(of, "web", FRAME) == {"db": 1}
    assert list(copy_paths(S1, ResolvedWorld(of), found)) == []
    assert received(of_web(hops=hops(VM_HOP)), "web", FRAME) == {"db": 1, "ids": 1}
    assert list(sensor_notes(of.collectors[0], of)) == list(found.missing)


def test_what_nobody_can_get_is_counted_by_a_meter_of_its_own() -> None:
    program = Program(S1)
    program.has_meters = True
    program.update(ResolvedWorld(of_web(hops=hops(VM_HOP))))
    counting = [*program.meters]
    program.update(ResolvedWorld(of_web(hops=hops(with_settings(Setting.NO_FORWARD)))))
    assert program.meters.keys() - counting == {(1 << 23) + 1}


@pytest.mark.parametrize(
    ("at_tap", "at_web", "words"),
    [
        ((), (Setting.NO_RECEIVE,), "what port 'web' sends is dropped and not copied"),
        ((), (Setting.NO_FORWARD,), "port 'web' receives nothing"),
        ((), (Setting.NOT_FORWARDING,), "port 'web' sends and receives nothing"),
        ((Setting.RESTORING,), (), "waits for a restore of flows"),
    ],
)
def test_a_setting_that_stops_some_copies_is_missing_with_its_remedy(
    at_tap: tuple[Setting, ...], at_web: tuple[Setting, ...], words: str
) -> None:
    of = of_web(hops=hops(with_settings(*at_tap), with_settings(*at_web)))
    missing = " ".join(resolved_session(of).missing)
    assert words in missing
    assert "run `ovs-" in missing


def test_protected_ports_stop_no_copies() -> None:
    protected = with_settings(Setting.PROTECTED)
    assert resolved_session(of_web(hops=hops(protected, protected))).missing == ()


def test_no_forward_at_a_watched_port_matters_to_what_it_receives_only() -> None:
    of = of_web(hops=hops(VM_HOP, with_settings(Setting.NO_FORWARD)))
    of = replace(of, sessions=(replace(of.sessions[0], direction=Direction.EGRESS),))
    assert resolved_session(of).missing == ()


def test_what_no_database_reports_is_unknown_and_not_missing() -> None:
    unseen = Hop("s1", "eth9", is_reported=False)
    found = resolved_session(of_web(hops=hops(unseen, unseen)))
    assert found.missing == ()
    [sentence] = found.unknown
    assert sentence.startswith("unknown: no database that knows bridge 's1' is reached")
    found = resolved_session(of_web(hops=hops(Hop("s1", "eth9"))))
    assert "the MTU of tap port 'ids' is not reported" in " ".join(found.unknown)


@pytest.mark.parametrize(
    ("mtu", "longest", "tag", "limit"),
    [
        (1500, 1500, None, None),
        (1500, 1500, 7, 1514),
        (1504, 1500, 7, None),
        (1500, 9000, None, 1514),
        (9000, 9000, None, None),
        (1500, None, None, 1514),
        (None, 9000, 7, None),
        (65521, None, None, 65535),
        (65522, None, None, None),
        (65535, 65536, 7, None),
        (65536, None, None, None),
    ],
)
def test_copies_are_limited_to_what_the_device_of_a_tap_port_sends(
    mtu: int | None, longest: int | None, tag: int | None, limit: int | None
) -> None:
    source = replace(VM_HOP, longest=longest)
    of = of_web(hops=hops(replace(VM_HOP, mtu=mtu), source, source))
    if tag is not None:
        of = replace(of, collectors=(replace(of.collectors[0], tenant_tag=tag),))
    resolved = ResolvedWorld(of)
    session = resolved.sessions[SessionId("s")]
    assert resolved.limit_of(session.session) == resolved.limit_at(S1, session.session) == limit
    assert weight(session, None) == 1 + FAR_WEIGHT * (limit is not None)


def test_a_long_frame_is_not_copied_where_it_does_not_fit_and_the_session_skips_it() -> None:
    big = replace(VM_HOP, mtu=9000, longest=9000)
    of = of_web(hops=hops(VM_HOP, big, big))
    of = replace(of, sessions=(replace(of.sessions[0], oversize=Oversize.SKIP),))
    long = packet(0x020000000002, 0x020000000001, bytes(3000))
    assert received(of, "web", FRAME, long) == {"db": 2, "ids": 1}


def test_a_neighbour_with_a_larger_mtu_brings_the_guard_while_sessions_follow() -> None:
    before = ResolvedWorld(of_web(hops=hops(VM_HOP)))
    big = replace(VM_HOP, mtu=9000, longest=9000)
    old = before.world
    new = old.with_reachability(
        old.tunnels, old.down, hops(VM_HOP, at_db=big), old.routes, old.datapaths, old.segmenters
    )
    after = ResolvedWorld(new, before)
    assert after.changed_since(before, S1) == {SessionId("s")}
    assert after.limit_of(after.sessions[SessionId("s")].session) == 1514


def test_a_link_with_a_smaller_mtu_than_declared_limits_copies() -> None:
    far = tap("far", at(S2, 3))
    link = cable(at(S1, 21), at(S2, 22))
    of = world(WEB, DB, far, link, watch("s", "web", to="far"))
    resolved = ResolvedWorld(of)
    assert resolved.limit_of(of.sessions[0]) == 1518
    narrow = replace(of, hops={at(S1, 21): Hop("s1", "l", mtu=1400)})
    assert ResolvedWorld(narrow).limit_of(of.sessions[0]) == 1400 + 14
    closed = Hop("s1", "l", mtu=1600, settings=frozenset([Setting.NO_FORWARD]))
    missing = resolved_session(replace(of, hops={at(S1, 21): closed})).missing
    assert "the link at 'l' of bridge 's1' carries no copies" in " ".join(missing)


def is_counted_as_lost(of: World, at_bridge: Dpid = S1) -> bool:
    """Whether a bridge counts the copies of session 1 as those that no sensor can get."""
    program = Program(at_bridge)
    program.has_meters = True
    program.update(ResolvedWorld(of))
    return (1 << 23) + 1 in program.meters


def pooled(*down: Down) -> World:
    """web with a pool of ids and soc, of which some are down."""
    of = world(WEB, DB, IDS, SOC, watch("s", "web", to="ids"))
    both = replace(of.collectors[0], sensors=(PortId("ids"), PortId("soc")))
    numbers = replace(of.numbers, collector={both.id: 1})
    return replace(of, collectors=(both, *of.collectors[1:]), numbers=numbers, down=frozenset(down))


def open_sensors(of: World) -> list[Sensor]:
    found = resolved_session(of)
    return [path.sensor for path in copy_paths(S1, ResolvedWorld(of), found)]


IDS_DOWN, SOC_DOWN = PortId("ids"), PortId("soc")
IDS_SILENT, SOC_SILENT = (CollectorId("ids"), IDS_DOWN), (CollectorId("ids"), SOC_DOWN)


def test_copies_for_a_tap_port_without_a_link_are_counted_as_lost() -> None:
    of = of_web(down=frozenset([IDS_DOWN]))
    assert resolved_session(of).missing == ("sensor 'ids' is down",)
    assert received(of, "web", FRAME) == {"db": 1}
    assert is_counted_as_lost(of)
    assert open_sensors(of) == []
    assert not is_counted_as_lost(of_web())


def test_copies_for_a_sensor_whose_probe_fails_are_sent_and_the_status_says_what_they_are() -> None:
    of = of_web(down=frozenset([IDS_SILENT]))
    assert received(of, "web", FRAME) == {"db": 1, "ids": 1}
    assert not is_counted_as_lost(of)
    [missing] = resolved_session(of).missing
    assert missing == (
        "sensor 'ids' is down: its probe fails, so nobody knows whether it gets the copies that "
        "are sent to it and counted"
    )


@pytest.mark.parametrize(
    ("down", "gets", "missing"),
    [
        ((IDS_DOWN,), ["soc"], ("sensor 'ids' is down",)),
        ((IDS_DOWN, SOC_DOWN), [], ("sensor 'ids' is down", "sensor 'soc' is down")),
        ((IDS_SILENT,), ["ids", "soc"], ("sensor 'ids' is down: its probe fails",)),
    ],
)
def test_a_pool_sends_nothing_to_tap_ports_without_a_link(
    down: tuple[Down, ...], gets: list[str], missing: tuple[str, ...]
) -> None:
    of = pooled(*down)
    assert open_sensors(of) == gets
    assert resolved_session(of).missing == missing
    assert is_counted_as_lost(of) == (not gets)


def test_a_pool_whose_only_sensor_with_a_link_is_silent_sends_there() -> None:
    of = pooled(IDS_SILENT, SOC_DOWN)
    assert received(of, "web", FRAME) == {"db": 1, "ids": 1}
    assert "nobody knows" in " ".join(resolved_session(of).missing)


S3 = Dpid(0xC3)
LINK, BEHIND = cable(at(S1, 21), at(S2, 22)), cable(at(S2, 23), at(S3, 24))


def far(**more: object) -> World:
    """web and db on S1, the tap port on S2, and a workload on S3 behind it."""
    tap_port, app = tap("far", at(S2, 3)), vm("app", at(S3, 1), 0x020000000003)
    of = world(WEB, DB, tap_port, app, LINK, BEHIND, watch("s", "web", to="far"))
    return replace(of, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("end", [LINK.a, LINK.b])
def test_copies_over_a_link_that_is_down_are_counted_as_lost(end: Placement) -> None:
    of = far(down=frozenset([end]))
    assert received(of, "web", FRAME) == {"db": 1}
    assert is_counted_as_lost(of)
    [missing] = resolved_session(of).missing
    assert "is down, so copies are lost there" in missing
    assert f"port {end.ofport}" in missing


@pytest.mark.parametrize("end", [BEHIND.a, BEHIND.b])
def test_a_link_that_no_copy_crosses_matters_to_no_session(end: Placement) -> None:
    of = far(down=frozenset([end]))
    assert resolved_session(of).missing == ()
    assert received(of, "web", FRAME) == {"db": 1, "far": 1}


@pytest.mark.parametrize(
    ("end", "setting", "is_lost"),
    [
        (LINK.a, Setting.NO_FORWARD, True),
        (LINK.a, Setting.NO_RECEIVE, False),
        (LINK.b, Setting.NO_FORWARD, False),
        (LINK.b, Setting.NO_RECEIVE, True),
        (LINK.b, Setting.NOT_FORWARDING, True),
    ],
)
def test_a_setting_of_a_link_counts_in_the_direction_of_the_copies(
    end: Placement, setting: Setting, is_lost: bool
) -> None:
    of = far(hops={end: with_settings(setting)})
    assert is_counted_as_lost(of) == bool(resolved_session(of).missing) == is_lost


def test_sessions_over_a_link_follow_when_it_goes_down_and_comes_back() -> None:
    before = ResolvedWorld(far())
    old = before.world
    down = old.with_reachability(
        old.tunnels, frozenset([LINK.a]), old.hops, old.routes, old.datapaths, old.segmenters
    )
    after = ResolvedWorld(down, before)
    assert after.changed_since(before, S1) == {SessionId("s")}
    assert after.sessions[SessionId("s")].missing
    again = ResolvedWorld(
        down.with_reachability(
            old.tunnels, frozenset(), old.hops, old.routes, old.datapaths, old.segmenters
        ),
        after,
    )
    assert again.changed_since(after, S1) == {SessionId("s")}
    assert again.sessions[SessionId("s")].missing == ()


def remote(*routes: tuple[IPAddress, Route]) -> World:
    collector = Collector(
        CollectorId("soc"), "soc", TenantName("red"),
        tuple(address for address, _ in routes) or (FAR,),
        delivery=Delivery.VXLAN, key=7001,
    )  # fmt: skip
    of = world(WEB, DB, watch("s", "web", to="soc"))
    numbers = replace(of.numbers, collector={collector.id: 1})
    return replace(
        of, collectors=(collector,), tunnels={(S1, Delivery.VXLAN): Ofport(30)}, numbers=numbers,
        routes={(S1, address): route for address, route in routes},
        hops={at(S1, 1): VM_HOP, at(S1, 2): VM_HOP},
    )  # fmt: skip


@pytest.mark.parametrize("route", [Route(RouteState.MISSING), Route(RouteState.OFF_BRIDGE, "eth0")])
def test_nothing_is_sent_on_a_way_without_a_route(route: Route) -> None:
    of = remote((FAR, route))
    assert any(why.startswith("no route") for why in resolved_session(of).missing)
    assert list(copy_paths(S1, ResolvedWorld(of), resolved_session(of))) == []


def test_a_pool_uses_the_sensors_that_have_a_route() -> None:
    other = IPAddress("192.0.2.10")
    of = remote((FAR, Route(RouteState.MISSING)), (other, Route(RouteState.FOUND, "under")))
    paths = copy_paths(S1, ResolvedWorld(of), resolved_session(of))
    assert [path.sensor for path in paths] == [other]
    [missing] = resolved_session(of).missing
    assert "192.0.2.9" in missing


def test_a_route_that_is_not_known_and_a_silent_neighbour_are_unknown() -> None:
    for route, words in (
        (Route(why="its host cannot be asked"), "cannot see whether bridge 's1' has a route"),
        (Route(RouteState.FOUND, "under", unresolved="192.0.2.1"), "has answered yet for 192.0.2"),
    ):
        found = resolved_session(remote((FAR, route)))
        assert found.missing == ()
        assert words in " ".join(found.unknown)


def test_a_device_on_the_way_with_a_smaller_mtu_limits_copies_in_tunnels() -> None:
    of = remote((FAR, Route(RouteState.FOUND, "under", mtu=1400)))
    assert ResolvedWorld(of).limit_of(of.sessions[0]) == 1364
    wide = remote((FAR, Route(RouteState.FOUND, "under", mtu=9000)))
    assert ResolvedWorld(wide).limit_of(wide.sessions[0]) == 1464, "only the operator raises it"


def test_a_device_on_the_way_that_sends_less_than_any_tunnel_needs_is_unknown() -> None:
    of = remote((FAR, Route(RouteState.FOUND, "under", mtu=68)))
    assert "'under' of bridge 's1' sends at most 68 bytes" in " ".join(resolved_session(of).unknown)
    assert Program(S1).update(ResolvedWorld(of)).put, "no flow cuts a copy to less than nothing"
    wide = remote((FAR, Route(RouteState.FOUND, "under", mtu=576)))
    assert resolved_session(wide).unknown == ()


def test_where_nothing_can_be_truncated_longer_packets_are_not_copied_and_it_is_said() -> None:
    short, long = FRAME[:60], FRAME + bytes(100)
    patch = Hop("s1", "patch-ids", longest=1500, truncates=False)
    of = of_web(hops=hops(patch))
    assert received(of, "web", short, long) == {"db": 2, "ids": 2}
    [session] = of.sessions
    cut = replace(of, sessions=(replace(session, packet_length=100),))
    assert received(cut, "web", short, long) == {"db": 2, "ids": 1}
    [why] = resolved_session(cut).missing
    assert why.startswith("packets longer than 100 bytes are not copied") and "'patch-ids'" in why
    [path] = copy_paths(S1, ResolvedWorld(cut), resolved_session(cut))
    assert (path.skips, path.arriving(100), path.arriving(101)) == (True, 100, 0)
    veth = replace(cut, hops=hops(VM_HOP))
    [path] = copy_paths(S1, ResolvedWorld(veth), resolved_session(veth))
    assert (path.skips, path.arriving(101), resolved_session(veth).missing) == (False, 100, ())
