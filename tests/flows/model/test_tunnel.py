"""How much of a path a tunnel leaves to the copy, by arithmetic that a person can check."""

from __future__ import annotations

from dataclasses import replace

import pytest
from netaddr import IPAddress

from flows.model import (
    TUNNEL_KEYS,
    Collector,
    CollectorId,
    Delivery,
    PortId,
    Session,
    SessionId,
    Source,
    cut_length,
    path_limit,
)
from flows.model.names import TenantName as Tenant

FOUR, SIX = IPAddress("192.0.2.9"), IPAddress("fd00:9::9")
SESSION = Session(
    SessionId("s"), "s", Tenant("red"), Source((PortId("web"),)), CollectorId("soc")
)  # fmt: skip


def far(delivery: Delivery, path_mtu: int | None = None) -> Collector:
    key = TUNNEL_KEYS[delivery].start
    return Collector(
        CollectorId("soc"), "soc", Tenant("red"), (FOUR,), delivery=delivery, key=key,
        path_mtu=path_mtu,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("delivery", "over_ipv4", "over_ipv6"),
    [
        (Delivery.VXLAN, 1500 - 20 - 8 - 8, 1500 - 40 - 8 - 8),
        (Delivery.GRE, 1500 - 20 - 4 - 4, 1500 - 40 - 4 - 4),
        (Delivery.ERSPAN2, 1500 - 20 - 8 - 8, 1500 - 40 - 8 - 8),
        (Delivery.ERSPAN3, 1500 - 20 - 8 - 12, 1500 - 40 - 8 - 12),
        (Delivery.GENEVE, 1500 - 20 - 8 - 8, 1500 - 40 - 8 - 8),
    ],
)
def test_a_copy_and_its_headers_fill_the_path(
    delivery: Delivery, over_ipv4: int, over_ipv6: int
) -> None:
    assert path_limit(far(delivery), FOUR, 1500, is_tagged=False) == over_ipv4
    assert path_limit(far(delivery), SIX, 1500, is_tagged=False) == over_ipv6
    assert path_limit(far(delivery), FOUR, 1500, is_tagged=True) == over_ipv4 - 4


def test_a_tenant_may_lower_what_the_hosts_carry_and_never_raise_it() -> None:
    assert path_limit(far(Delivery.VXLAN, 1400), FOUR, 1500, is_tagged=False) == 1400 - 36
    assert path_limit(far(Delivery.VXLAN, 9000), FOUR, 1500, is_tagged=False) == 1500 - 36


def test_the_shortest_limit_counts() -> None:
    assert cut_length(SESSION, None) is None
    assert cut_length(SESSION, 1464) == 1464
    assert cut_length(replace(SESSION, packet_length=100), 1464) == 100
    assert cut_length(replace(SESSION, packet_length=9000), 1464) == 1464
