"""Who may watch what and deliver where: each refusal names both tenants and a way out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.errors import (
    CrossTenantCollector,
    CrossTenantFilter,
    CrossTenantNetwork,
    CrossTenantSensor,
    CrossTenantSource,
    NotATapPort,
    NotAWorkload,
    Refused,
)
from flows.model import (
    CollectorId,
    Filter,
    FilterId,
    NetworkId,
    PortId,
    Session,
    Source,
    SourceKind,
    TenantName,
    check_collector,
    check_session,
)
from tests.flows.hand_made import S1, at, tap, vm, watch, world

HERE = world(
    vm("web", at(S1, 1), 0x020000000001), tap("ids", at(S1, 2)),
    vm("blue-web", at(S1, 3), 0x020000000001, network="blue-lan"),
    tap("blue-ids", at(S1, 4), "blue"),
)  # fmt: skip
IDS = HERE.collector_by_id[CollectorId("ids")]
RED_FILTER = Filter(FilterId("red-f"), "f", TenantName("red"))
BLUE_FILTER = Filter(FilterId("blue-f"), "f", TenantName("blue"))
FILTERS = {f.id: f for f in (RED_FILTER, BLUE_FILTER)}
BLUE_LAN = Source(kind=SourceKind.NETWORK, networks=(NetworkId("blue-lan"),))


def check(session: Session, collectors=HERE.collector_by_id) -> None:
    check_session(session, HERE.port_by_id, collectors, FILTERS, HERE.network_by_id)


@pytest.mark.parametrize(
    ("session", "error", "words"),
    [
        (
            watch("s", "web", "blue-web", to="ids"),
            CrossTenantSource,
            "session 's' of tenant 'red' may not watch port 'blue-web', "
            "which belongs to tenant 'blue': choose a port of tenant 'red'",
        ),
        (
            watch("s", "blue-ids", to="ids"),
            CrossTenantSource,
            "may not watch port 'blue-ids', which belongs to tenant 'blue'",
        ),
        (watch("s", "web", "ids", to="ids"), NotAWorkload, "it is a tap port"),
        (
            replace(watch("s", "web", to="ids"), source=BLUE_LAN),
            CrossTenantNetwork,
            "may not watch network 'lan', which belongs to tenant 'blue'",
        ),
        (
            watch("s", "web", to="blue-ids"),
            CrossTenantCollector,
            "may not deliver into collector 'blue-ids', which belongs to tenant 'blue'",
        ),
        (
            replace(watch("s", "web", to="ids"), filter=BLUE_FILTER.id),
            CrossTenantFilter,
            "may not use filter 'f', which belongs to tenant 'blue'",
        ),
    ],
)
def test_a_session_may_not_show_one_tenant_another(
    session: Session, error: type[Refused], words: str
) -> None:
    with pytest.raises(error) as refusal:
        check(session)
    assert words in str(refusal.value)
    assert refusal.value.session == "s"


@pytest.mark.parametrize(
    ("sensor", "error", "words"),
    [
        (
            "blue-ids",
            CrossTenantSensor,
            "collector 'ids' of tenant 'red' may not use tap port 'blue-ids', "
            "which belongs to tenant 'blue'",
        ),
        ("blue-web", CrossTenantSensor, "may not use tap port 'blue-web'"),
        ("web", NotATapPort, "collector 'ids' may not deliver to port 'web': it is a workload"),
    ],
)
def test_a_collector_uses_tap_ports_of_its_tenant_only(
    sensor: str, error: type[Refused], words: str
) -> None:
    crooked = replace(IDS, sensors=(PortId(sensor),))
    with pytest.raises(error) as refusal:
        check_collector(crooked, HERE.port_by_id)
    assert words in str(refusal.value)
    with pytest.raises(error):
        check(watch("s", "web", to="ids"), {crooked.id: crooked})


@pytest.mark.parametrize(
    "session",
    [
        watch("s", "web", to="ids"),
        watch("s", "web", "gone", to="ids"),
        watch("s", "web", to="gone"),
        replace(watch("s", "web", to="ids"), filter=RED_FILTER.id),
        replace(watch("s", "web", to="ids"), filter=FilterId("gone")),
        replace(watch("s", "web", to="ids"), source=Source(kind=SourceKind.TENANT)),
    ],
)
def test_what_is_a_tenants_own_or_gone_is_not_refused(session: Session) -> None:
    check(session)


def test_a_collector_without_its_tap_port_is_not_refused() -> None:
    check_collector(replace(IDS, sensors=(PortId("gone"),)), HERE.port_by_id)
