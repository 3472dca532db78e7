"""Tunnel ports are added, repaired and removed in real databases, and nothing else is changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.process import ChangeSignal
from controller.southbound.ovsdb import (
    MARK,
    InterfaceRow,
    OvsdbSnapshot,
    OvsdbWatcher,
    TunnelDemand,
    in_key,
    tunnel_name,
    tunnel_options,
)
from flows.model import Dpid, TunnelKind
from tests.ovs.lab import Lab, vsctl
from tests.ovs.open_vswitch import kill, start_ovsdb_server
from tests.ovs.waiting import wait_for

LOCAL = "unix:/run/openvswitch/db.sock"
ONE, OTHER = Dpid(0x51), Dpid(0xFFFFFFFFFFFFFFFF)
ALL = TunnelDemand(frozenset(TunnelKind))
NONE = TunnelDemand(frozenset(), frozenset(TunnelKind))
VXLAN = TunnelKind.VXLAN


class Nobody:
    """Who does not care."""

    def interfaces_changed(self, snapshot: OvsdbSnapshot) -> None:
        """It is read from the watcher."""


@pytest.fixture
def watcher(lab: Lab) -> Iterator[OvsdbWatcher]:
    lab.add_bridge("s1", dpid=ONE)
    lab.add_bridge("s2", dpid=OTHER)
    watching = OvsdbWatcher([LOCAL], Nobody(), ChangeSignal())
    watching.start()
    yield watching
    watching.stop()


def tunnels(watcher: OvsdbWatcher) -> dict[tuple[Dpid, TunnelKind], InterfaceRow]:
    rows = watcher.snapshot().interfaces
    return {(row.dpid, row.tunnel): row for row in rows if row.tunnel is not None}


def wait_for_tunnels(
    watcher: OvsdbWatcher, count: int
) -> dict[tuple[Dpid, TunnelKind], InterfaceRow]:
    def are_there(seen: dict[tuple[Dpid, TunnelKind], InterfaceRow]) -> bool:
        return len(seen) == count and all(row.ofport for row in seen.values())

    return wait_for(lambda: tunnels(watcher), are_there)


def test_two_bridges_of_one_host_get_a_port_of_each_kind(watcher: OvsdbWatcher) -> None:
    watcher.want_tunnels({ONE: ALL, OTHER: ALL})

    seen = wait_for_tunnels(watcher, 2 * len(TunnelKind))

    assert {(key, row.error, row.is_altered) for key, row in seen.items()} == {
        ((dpid, kind), "", False) for dpid in (ONE, OTHER) for kind in TunnelKind
    }
    assert not watcher.tunnel_problems()


def test_a_port_goes_when_nothing_needs_it_and_only_then(watcher: OvsdbWatcher) -> None:
    watcher.want_tunnels({ONE: ALL, OTHER: ALL})
    wait_for_tunnels(watcher, 2 * len(TunnelKind))

    watcher.want_tunnels({ONE: TunnelDemand(frozenset([VXLAN]), frozenset([TunnelKind.GRE]))})

    seen = wait_for_tunnels(watcher, 2 * len(TunnelKind) - 1)
    assert (ONE, TunnelKind.GRE) not in seen, "all others are left as they are"
    watcher.want_tunnels({ONE: NONE, OTHER: NONE})
    wait_for_tunnels(watcher, 0)


def test_what_somebody_deleted_or_altered_is_mended(watcher: OvsdbWatcher) -> None:
    watcher.want_tunnels({ONE: TunnelDemand(frozenset([VXLAN]))})
    wait_for_tunnels(watcher, 1)
    name = tunnel_name(ONE, VXLAN)

    vsctl("set", "Interface", name, "options:remote_ip=192.0.2.66", "options:key=5")
    (row,) = wait_for(
        lambda: [r for r in tunnels(watcher).values() if not r.is_altered and _options(name)[0]],
        bool,
    )
    assert row.name == name
    vsctl("del-port", "s1", name)
    wait_for_tunnels(watcher, 1)


def _options(name: str) -> tuple[bool, str]:
    text = vsctl("get", "Interface", name, "options")
    return "192.0.2.66" not in text and str(in_key(ONE, VXLAN)) in text, text


def test_a_port_of_that_name_that_is_not_ours_is_left_alone(watcher: OvsdbWatcher) -> None:
    name = tunnel_name(ONE, VXLAN)
    vsctl("add-port", "s2", name, "--", "set", "Interface", name, "type=internal")

    watcher.want_tunnels({ONE: TunnelDemand(frozenset([VXLAN, TunnelKind.GRE]))})

    (why,) = wait_for(watcher.tunnel_problems, bool).values()
    assert f"a port {name!r} is there already and is not ours" in why
    assert vsctl("get", "Interface", name, "type").strip() == "internal"
    wait_for_tunnels(watcher, 1)
    vsctl("del-port", "s2", name)
    wait_for_tunnels(watcher, 2)
    assert not watcher.tunnel_problems()


def test_a_port_of_ours_with_the_name_of_another_bridge_goes(watcher: OvsdbWatcher) -> None:
    stale = tunnel_name(Dpid(0x99), VXLAN)
    vsctl(
        *("add-port", "s1", stale, "--", "set", "Interface", stale, "type=vxlan"),
        *("options:remote_ip=flow", f"external_ids:{MARK}=vxlan"),
    )
    watcher.want_tunnels({ONE: TunnelDemand(frozenset([VXLAN]))})
    wait_for(
        lambda: {row.name for row in tunnels(watcher).values()}, {tunnel_name(ONE, VXLAN)}.__eq__
    )


def test_an_interface_that_cannot_be_made_says_why(lab: Lab, watcher: OvsdbWatcher) -> None:
    options = [f"options:{k}={v}" for k, v in tunnel_options(ONE, VXLAN).items()]
    vsctl("add-port", "s2", "rival", "--", "set", "Interface", "rival", "type=vxlan", *options)

    watcher.want_tunnels({ONE: TunnelDemand(frozenset([VXLAN]))})

    seen = wait_for(lambda: tunnels(watcher), lambda rows: any(r.error for r in rows.values()))
    assert seen[ONE, VXLAN].ofport is None


def test_nothing_changes_when_the_database_comes_back(watcher: OvsdbWatcher) -> None:
    watcher.want_tunnels({ONE: ALL, OTHER: ALL})
    before = wait_for_tunnels(watcher, 2 * len(TunnelKind))
    kill("ovsdb-server")
    wait_for(lambda: str(watcher.statuses()), lambda seen: "UNREACHABLE" in seen)
    start_ovsdb_server()
    wait_for(lambda: str(watcher.statuses()), lambda seen: "SYNCED" in seen)
    assert tunnels(watcher) == before


def test_names_and_keys_differ_between_bridges_and_kinds() -> None:
    dpids = [Dpid(n) for n in (0, 1, 35, 36, 1 << 48, (1 << 64) - 1)]
    names = [tunnel_name(dpid, kind) for dpid in dpids for kind in TunnelKind]
    keys = [in_key(dpid, kind) for dpid in dpids for kind in TunnelKind]
    assert len(set(names)) == len(set(keys)) == len(dpids) * len(TunnelKind)
    assert max(map(len, names)) == 15
    assert all(1 << 63 <= key < 1 << 64 for key in keys), "no packet carries such a key"
