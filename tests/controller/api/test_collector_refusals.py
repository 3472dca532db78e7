"""Invalid collectors: each is refused with a sentence and the field."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from netaddr import IPNetwork

from controller.api import make_app
from controller.inventory import Inventory
from controller.store import Store
from tests.controller.api.test_api import items, problem
from tests.controller.api.test_collectors import FAR, IDS, INVENTORY, SOC, create, remote
from tests.controller.fakes import FakeReconciler


@pytest.fixture
def inventory() -> Inventory:
    return INVENTORY


@pytest.mark.parametrize(
    ("changes", "status", "slug", "field"),
    [
        ({"tenant_tag": 0}, 422, "invalid-value", "tenant_tag"),
        ({"tenant_tag": 4095}, 422, "invalid-value", "tenant_tag"),
        ({"tenant_tag": "7"}, 422, "invalid-value", "tenant_tag"),
        ({"tenant_tag": True}, 422, "invalid-value", "tenant_tag"),
        ({"delivery": "erspan"}, 422, "invalid-value", "delivery"),
        ({"delivery": "vxlan"}, 422, "invalid-value", "sensors"),
        ({"sensors": []}, 422, "invalid-value", "sensors"),
        ({"sensors": [{"port": "ids-1"}] * 65}, 422, "invalid-value", "sensors"),
        ({"sensors": [{"port": "ids-1"}, {"port": "red-ids-1"}]}, 422, "invalid-value",
         "sensors.1.port"),
        ({"sensors": [{"port": "ids-1"}, FAR]}, 422, "invalid-value", "sensors"),
        ({"sensors": [FAR]}, 422, "invalid-value", "delivery"),
        ({"sensors": [{}]}, 422, "invalid-value", "sensors.0"),
        ({"sensors": [FAR | {"port": "ids-1"}]}, 422, "invalid-value", "sensors.0"),
        ({"sensors": [{"port": "nothing"}]}, 404, "not-found", "sensors.0.port"),
        ({"sensors": [{"port": "web-1"}]}, 422, "not-a-tap-port", "sensors"),
        ({"sensors": [{"port": "ids-2"}, {"port": "blue-ids-1"}]}, 403, "cross-tenant", "sensors"),
        ({"sensors": [{"port": "ids-1", "probe": "icmp://192.0.2.1"}]}, 422, "invalid-value",
         "sensors.0.probe"),
        ({"path_mtu": 1400}, 422, "invalid-value", "path_mtu"),
        ({"vni": 7}, 422, "invalid-value", "vni"),
        ({"key": 7}, 422, "invalid-value", "key"),
        ({"session_id": 7}, 422, "invalid-value", "session_id"),
        ({"balance": "round-robin"}, 422, "invalid-value", "balance"),
        ({"tenant": None}, 400, "tenant-needed", "tenant"),
        ({"tenant": "green"}, 404, "not-found", "tenant"),
        ({"name": "a b"}, 422, "invalid-value", "name"),
        ({"name": "ids"}, 409, "name-taken", "name"),
        ({"colour": "red"}, 422, "unknown-field", "colour"),
    ],
)  # fmt: skip
def test_an_invalid_collector_is_refused_with_its_field(
    client: FlaskClient, changes: dict[str, object], status: int, slug: str, field: str
) -> None:
    create(client, IDS)
    answer = client.post("/v1/collectors", json=IDS | {"name": "new"} | changes)

    assert problem(answer, status, slug)["field"] == field
    assert len(items(client, "/v1/collectors")) == 1


REFUSED_TUNNELS = [
    (remote("gre", vni=7), "vni", "delivery 'gre' has no vni: say `key`"),
    (remote("vxlan", key=7), "key", "delivery 'vxlan' has no key: say `vni`"),
    (remote("erspan3", vni=7), "vni", "delivery 'erspan3' has no vni: say `session_id`"),
    (remote("geneve", session_id=7), "session_id", "'geneve' has no session_id: say `vni`"),
    (IDS | {"vni": 7}, "vni", "delivery 'port' has no vni: copies arrive as plain frames"),
    (remote("erspan2", session_id=1024), "session_id", "session_id 1024 of delivery 'erspan2' is "
     "outside 1..1023"),
    (remote("vxlan", vni=1 << 24), "vni", "vni 16777216 of delivery 'vxlan' is outside "
     "1..16777215"),
    (remote("gre", key=0), "key", "key 0 of delivery 'gre' is outside 1..4294967295"),
    (remote("gre", path_mtu=575), "path_mtu", "path_mtu 575 is outside 576..65535 bytes"),
    (remote("gre", path_mtu=1501), "path_mtu", "path_mtu 1501 is more than the 1500 bytes that the "
     "network of the hosts carries: only its operator can raise that ([bridges] underlay_mtu)"),
    (IDS | {"path_mtu": 1400}, "path_mtu", "path_mtu is for tunnels: a tap port carries what "
     "production carries"),
    (remote("gre", "192.0.2.9", "192.0.2.9"), "sensors.1.address", "sensor '192.0.2.9' is named "
     "twice"),
    (remote("gre") | {"sensors": [FAR, {"port": "ids-1"}]}, "sensors", "the sensors of one "
     "collector are tap ports or addresses, not both: create two collectors"),
    (IDS | {"sensors": [FAR]}, "delivery", "delivery 'port' goes to tap ports, not to addresses: "
     "for an address choose one of vxlan, gre, erspan2, erspan3, geneve"),
    (IDS | {"delivery": "gre"}, "sensors", "delivery 'gre' goes to addresses, not to tap ports: "
     "give an `address`, or choose delivery 'port'"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "field", "sentence"), REFUSED_TUNNELS)
def test_an_invalid_tunnel_is_refused_with_a_sentence(
    client: FlaskClient, body: dict[str, Any], field: str, sentence: str
) -> None:
    document = problem(client.post("/v1/collectors", json=body), 422, "invalid-value")

    assert document["field"] == field
    assert sentence in document["detail"]
    assert items(client, "/v1/collectors") == []


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "names no host"),
        ("0.1.2.3", "names no host"),
        ("::", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("255.255.255.255", "broadcast"),
        ("240.0.0.1", "reserved"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("::ffff:192.0.2.9", "write that one"),
        ("192.0.2", "is not an IPv4 or IPv6 address"),
        ("192.0.2.9/32", "is not an IPv4 or IPv6 address"),
        ("fe80::1%eth0", "is not an IPv4 or IPv6 address"),
        ("sensor.example.com", "is not an IPv4 or IPv6 address"),
        ("", "is not an IPv4 or IPv6 address"),
    ],
)
def test_an_address_that_is_no_single_host_is_refused_with_the_reason(
    client: FlaskClient, address: str, why: str
) -> None:
    answer = client.post("/v1/collectors", json=remote("vxlan", "192.0.2.1", address))
    document = problem(answer, 422, "invalid-value")

    assert document["field"] == "sensors.1.address"
    assert why in document["detail"]


@pytest.mark.parametrize(
    "probe",
    [
        "192.0.2.9:22",
        "tcp://192.0.2.9",
        "tcp://192.0.2.9:0",
        "tcp://192.0.2.9:65536",
        "tcp://2001:db8::9:22",
        "tcp://[192.0.2.9]:22",
        "tcp://sensor:22",
        "udp://192.0.2.9:22",
        "tcp://127.0.0.1:22",
        "tcp://192.0.2.9:22/",
    ],
)
def test_an_invalid_probe_is_refused(client: FlaskClient, probe: str) -> None:
    body = remote("vxlan") | {"sensors": [FAR | {"probe": probe}]}
    document = problem(client.post("/v1/collectors", json=body), 422, "invalid-value")

    assert document["field"] == "sensors.0.probe"
    assert probe.removeprefix("tcp://")[:9] in document["detail"]


def test_a_path_mtu_is_limited_by_the_underlay_mtu_of_the_operator(
    store: Store, fake: FakeReconciler
) -> None:
    client = make_app(store, lambda: INVENTORY, fake, fake, underlay_mtu=9000).test_client()

    assert create(client, SOC, path_mtu=9000)["path_mtu"] == 9000
    answer = client.patch("/v1/collectors/soc", json={"path_mtu": 9001})
    assert problem(answer, 422, "invalid-value")["field"] == "path_mtu"


def test_nothing_is_probed_unless_the_operator_names_networks(
    store: Store, fake: FakeReconciler, client: FlaskClient
) -> None:
    sensors = [{"port": "ids-1", "probe": "tcp://10.0.0.1:22"}]
    made = create(client, IDS, sensors=sensors)
    assert made["notes"] == []
    bare = make_app(store, lambda: INVENTORY, fake, fake).test_client()
    assert create(bare, SOC)["notes"] == [], "remote sensors may be anywhere"
    body = IDS | {"name": "other", "sensors": sensors}
    document = problem(bare.post("/v1/collectors", json=body), 422, "invalid-value")
    assert document["field"] == "sensors.0.probe"
    assert "has named no networks of sensors ([bridges] sensor_networks)" in document["detail"]
    [note] = bare.get("/v1/collectors/ids").get_json()["notes"]
    assert "probe tcp://10.0.0.1:22 is not made" in note


def test_remote_sensors_are_limited_to_the_networks_of_the_operator(
    store: Store, fake: FakeReconciler
) -> None:
    networks = (IPNetwork("192.0.2.0/28"), IPNetwork("2001:db8::/32"))
    client = make_app(store, lambda: INVENTORY, fake, fake, sensor_networks=networks).test_client()
    outside = "is outside 192.0.2.0/28, 2001:db8::/32: only the operator of the hosts can allow"

    assert create(client, SOC)["sensors"][0]["address"] == "192.0.2.9"
    for body, field in (
        (remote("gre", "192.0.2.9", "192.0.2.16"), "sensors.1.address"),
        (
            remote("gre") | {"sensors": [FAR | {"probe": "tcp://198.51.100.1:22"}]},
            "sensors.0.probe",
        ),
    ):
        document = problem(client.post("/v1/collectors", json=body), 422, "invalid-value")
        assert document["field"] == field
        assert outside in document["detail"]
    change = {"add_sensors": [{"address": "2001:db9::1"}]}
    assert (
        outside
        in problem(client.patch("/v1/collectors/soc", json=change), 422, "invalid-value")["detail"]
    )
