"""Which tunnel ports bridges of both datapaths need."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from netaddr import IPAddress

from controller.reconcile.tunnel_demand import tunnel_demand, wanted_kinds
from controller.southbound.ovsdb import TunnelDemand
from flows.model import (
    Collector,
    CollectorId,
    Datapath,
    Delivery,
    TenantName,
    TunnelKind,
)
from tests.flows.hand_made import S1, S2, at, vm, watch, world

FOUR, SIX = IPAddress("192.0.2.9"), IPAddress("fd00:9::9")
PLAIN = frozenset({TunnelKind.GRE})
BOTH = frozenset({TunnelKind.GRE, TunnelKind.GRE_OVER_IPV6})


def soc(*addresses: IPAddress) -> Collector:
    return Collector(
        CollectorId("soc"), "soc", TenantName("red"), addresses, delivery=Delivery.GRE, key=7
    )


def snapshot(*addresses: IPAddress, enabled: bool = True) -> Any:
    """A world with a session that copies to these; S1 has the kernel's datapath, S2 the other."""
    of = world(vm("web", at(S1, 1), 1), watch("s", "web", to="soc", enabled=enabled))
    datapaths = {S1: Datapath.KERNEL, S2: Datapath.USERSPACE}
    of = replace(of, collectors=(soc(*addresses),), datapaths=datapaths)
    return SimpleNamespace(resolved=SimpleNamespace(world=of), version=3)


def writers(*, is_confirmed: bool = True) -> list[Any]:
    return [
        SimpleNamespace(dpid=dpid, is_adopted=True, has_confirmed=lambda _: is_confirmed)
        for dpid in (S1, S2)
    ]


def test_ports_are_made_for_the_families_that_sensors_have() -> None:
    for addresses, kernel in (
        ((FOUR,), PLAIN),
        ((SIX,), BOTH - PLAIN),
        ((FOUR, SIX), BOTH),
    ):
        found = tunnel_demand(snapshot(*addresses), writers())
        assert {dpid: demand.wanted for dpid, demand in found.items()} == {S1: kernel, S2: PLAIN}
        assert all(demand.unwanted == {*TunnelKind} - demand.wanted for demand in found.values())


def test_a_port_that_flows_may_still_use_stays() -> None:
    found = tunnel_demand(snapshot(SIX), writers(is_confirmed=False))
    assert found[S1] == TunnelDemand(BOTH - PLAIN, frozenset())


def test_ports_that_a_change_needs_are_made_before_it() -> None:
    found = tunnel_demand(snapshot(FOUR), writers(), {soc(FOUR, SIX)})
    assert (found[S1].wanted, found[S2].wanted) == (BOTH, PLAIN)


def test_what_no_enabled_session_uses_is_not_made() -> None:
    found = tunnel_demand(snapshot(FOUR, SIX, enabled=False), writers())
    assert {demand.wanted for demand in found.values()} == {frozenset()}


def test_ports_of_both_datapaths_are_waited_for() -> None:
    assert wanted_kinds(snapshot(SIX)) == BOTH
    assert wanted_kinds(snapshot(FOUR)) == PLAIN
