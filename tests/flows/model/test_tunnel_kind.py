"""Which kind of tunnel port a bridge uses, by its datapath and the address of the sensor."""

from __future__ import annotations

from dataclasses import replace

import pytest
from netaddr import IPAddress

from flows.model import (
    TUNNEL_KEYS,
    Collector,
    CollectorId,
    Datapath,
    Delivery,
    Dpid,
    Ofport,
    PortId,
    TenantName,
    TunnelKind,
    World,
    tunnel_kinds,
)

S1, S2 = Dpid(1), Dpid(2)
FOUR, SIX = IPAddress("192.0.2.9"), IPAddress("fd00:9::9")
FAMILIES_APART = {Delivery.GRE, Delivery.ERSPAN2, Delivery.ERSPAN3}


def collector(delivery: Delivery, *addresses: IPAddress) -> Collector:
    return Collector(
        CollectorId("soc"), "soc", TenantName("red"), addresses, delivery=delivery, key=7
    )


@pytest.mark.parametrize("delivery", TUNNEL_KEYS)
def test_in_the_kernel_gre_and_erspan_have_one_port_for_each_family(delivery: Delivery) -> None:
    four = tunnel_kinds(collector(delivery, FOUR), Datapath.KERNEL)
    six = tunnel_kinds(collector(delivery, SIX), Datapath.KERNEL)
    assert {kind.value for kind in four} == {delivery.value}, "ports keep their mark at an upgrade"
    assert four.isdisjoint(six) == (delivery in FAMILIES_APART)
    assert tunnel_kinds(collector(delivery, FOUR, SIX), Datapath.KERNEL) == four | six


@pytest.mark.parametrize("datapath", [Datapath.USERSPACE, None])
@pytest.mark.parametrize("delivery", TUNNEL_KEYS)
def test_elsewhere_one_port_carries_both_families(
    delivery: Delivery, datapath: Datapath | None
) -> None:
    kinds = tunnel_kinds(collector(delivery, FOUR, SIX), datapath)
    assert {kind.value for kind in kinds} == {delivery.value}


def test_tap_ports_need_no_tunnel_port() -> None:
    ids = Collector(CollectorId("ids"), "ids", TenantName("red"), (PortId("tap"),))
    assert tunnel_kinds(ids, Datapath.KERNEL) == frozenset()


def test_each_kind_is_for_one_delivery_and_has_a_name_that_operators_know() -> None:
    assert {kind.delivery for kind in TunnelKind} == set(TUNNEL_KEYS)
    assert str(TunnelKind.GRE) == "gre"
    assert str(TunnelKind.ERSPAN2_OVER_IPV6) == "erspan2 over IPv6"


def test_copies_leave_by_the_port_of_their_family() -> None:
    of = World(
        tunnels={
            (S1, TunnelKind.GRE): Ofport(31),
            (S1, TunnelKind.GRE_OVER_IPV6): Ofport(36),
            (S2, TunnelKind.GRE): Ofport(41),
        },
        datapaths={S1: Datapath.KERNEL, S2: Datapath.USERSPACE},
    )
    assert [of.tunnel_to(S1, Delivery.GRE, each) for each in (FOUR, SIX)] == [31, 36]
    assert [of.tunnel_to(S2, Delivery.GRE, each) for each in (FOUR, SIX)] == [41, 41]
    alone = replace(of, tunnels={(S1, TunnelKind.GRE): Ofport(31)})
    assert alone.tunnel_to(S1, Delivery.GRE, SIX) is None, "the kernel would drop these copies"
    assert alone.has_tunnel(S1, collector(Delivery.GRE, FOUR, SIX))
    assert not alone.has_tunnel(S1, collector(Delivery.GRE, SIX))


def test_ports_go_on_while_no_database_reports_their_bridge() -> None:
    """As after a restart of the controller: flows that are right are left alone."""
    of = World(
        tunnels={
            (S1, TunnelKind.GRE): Ofport(31),
            (S1, TunnelKind.GRE_OVER_IPV6): Ofport(36),
            (S2, TunnelKind.GRE): Ofport(41),
        }
    )
    known = replace(of, datapaths={S1: Datapath.KERNEL, S2: Datapath.USERSPACE})
    for here in (S1, S2):
        for address in (FOUR, SIX):
            before = known.tunnel_to(here, Delivery.GRE, address)
            assert of.tunnel_to(here, Delivery.GRE, address) == before
