"""Collectors over the API: tap ports, tunnels and pools; created, changed, refused, deleted."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import insert

from controller.api import make_app
from controller.inventory import Inventory
from controller.inventory.file import parse
from controller.store import Store, tables
from flows.model import CollectorId, PortId
from tests.controller.api.test_api import items, problem
from tests.controller.fakes import FakeReconciler, fill

INVENTORY = parse(b"""
tenants: [red, blue]
networks: [{name: lan, tenant: red}, {name: lan, tenant: blue}]
ports:
  - {id: red-web-1, name: web-1, tenant: red, network: lan, mac: "02:00:00:00:00:01"}
  - {id: red-ids-1, name: ids-1, tenant: red, kind: tap}
  - {id: red-ids-2, name: ids-2, tenant: red, kind: tap}
  - {id: red-ids-3, name: ids-3, tenant: red, kind: tap}
  - {id: blue-ids-1, name: ids-1, tenant: blue, kind: tap}
""")
IDS = {"name": "ids", "tenant": "red", "sensors": [{"port": "ids-1"}]}
FAR = {"address": "192.0.2.9"}
SOC = {"name": "soc", "tenant": "red", "delivery": "vxlan", "sensors": [FAR], "vni": 7001}
WEB = {"name": "web", "tenant": "red", "source": {"ports": ["web-1"]}, "collector": "soc"}


@pytest.fixture
def inventory() -> Inventory:
    return INVENTORY


def create(client: FlaskClient, body: dict[str, Any], **changes: object) -> dict[str, Any]:
    answer = client.post("/v1/collectors", json=body | changes)
    assert answer.status_code == 201, answer.get_data(as_text=True)
    made: dict[str, Any] = answer.get_json()
    return made


def remote(delivery: str, *addresses: str, **more: object) -> dict[str, Any]:
    """The body of a collector with remote sensors."""
    sensors = [{"address": address} for address in addresses or ("192.0.2.9",)]
    return {"name": delivery, "tenant": "red", "delivery": delivery, "sensors": sensors} | more


# --- what can be created -------------------------------------------------------------------


def test_a_collector_is_created_shown_and_deleted(client: FlaskClient) -> None:
    create(client, IDS)
    [shown] = items(client, "/v1/collectors")

    assert shown.pop("id") and shown.pop("created_at")
    assert shown == {
        "name": "ids",
        "tenant": "red",
        "delivery": "port",
        "sensors": [
            {
                "port": "ids-1",
                "port_id": "red-ids-1",
                "address": None,
                "probe": None,
                "words": "ids-1",
            }
        ],
        "vni": None,
        "key": None,
        "session_id": None,
        "tenant_tag": "auto",
        "balance": "connection",
        "path_mtu": None,
        "notes": [],
    }
    shown = client.get("/v1/collectors/ids").get_json()
    assert client.get(f"/v1/collectors/{shown['id']}").get_json() == shown
    assert client.delete("/v1/collectors/ids").status_code == 204
    problem(client.get("/v1/collectors/ids"), 404, "not-found")
    problem(client.delete("/v1/collectors/ids"), 404, "not-found")


def test_a_remote_collector_shows_its_sensors(client: FlaskClient) -> None:
    made = create(client, SOC, path_mtu=1400, balance="hosts", tenant_tag=None)

    assert made["sensors"] == [
        {
            "port": None,
            "port_id": None,
            "address": "192.0.2.9",
            "probe": None,
            "words": "vxlan 192.0.2.9 vni 7001",
        }
    ]
    assert (made["vni"], made["key"], made["session_id"]) == (7001, None, None)
    assert (made["path_mtu"], made["balance"], made["tenant_tag"]) == (1400, "hosts", None)
    session = client.post("/v1/sessions", json=WEB).get_json()
    assert session["sensors"] == ["vxlan 192.0.2.9 vni 7001"]
    assert session["status"]["largest_frame"] == 1400 - 20 - 8 - 8


def test_a_pool_keeps_the_order_of_its_sensors_and_their_probes(
    client: FlaskClient, store: Store
) -> None:
    sensors = [{"port": "ids-2", "probe": "tcp://192.0.2.2:022"}, {"port": "ids-1"}]
    made = create(client, IDS, sensors=sensors)

    assert [(s["port"], s["probe"]) for s in made["sensors"]] == [
        ("ids-2", "tcp://192.0.2.2:22"),
        ("ids-1", None),
    ]
    assert store.desired().probes == {
        (CollectorId(made["id"]), PortId("red-ids-2")): "tcp://192.0.2.2:22"
    }
    six = create(client, remote("gre", "2001:DB8:0::9", "192.0.2.9"))
    assert [s["address"] for s in six["sensors"]] == ["2001:db8::9", "192.0.2.9"]


@pytest.mark.parametrize(
    ("delivery", "word", "first"),
    [
        ("vxlan", "vni", 0x800000),
        ("geneve", "vni", 0x800000),
        ("gre", "key", 0x80000000),
        ("erspan2", "session_id", 1),
        ("erspan3", "session_id", 1),
    ],
)
def test_a_key_that_is_left_out_is_the_lowest_free_one(
    client: FlaskClient, delivery: str, word: str, first: int
) -> None:
    create(client, remote(delivery, name="named", **{word: first + 1}))
    one, two = (create(client, remote(delivery, name=name)) for name in ("one", "two"))
    assert (one[word], two[word]) == (first, first + 2)

    client.delete("/v1/collectors/one")
    again = create(client, remote(delivery, "2001:db8::9", name="again", tenant="blue"))
    assert again[word] == first, "free again, and one number for all tenants"
    assert {again["vni"], again["key"], again["session_id"]} == {None, first}


def test_both_kinds_of_erspan_share_their_session_ids(client: FlaskClient) -> None:
    create(client, remote("erspan2"))

    assert create(client, remote("erspan3"))["session_id"] == 2
    body = remote("erspan3", name="other", tenant="blue", session_id=1)
    problem(client.post("/v1/collectors", json=body), 409, "refused")


def test_when_every_key_is_taken_none_can_be_chosen(client: FlaskClient, store: Store) -> None:
    fixed = {"tenant": "red", "created_at": "2030-01-01T00:00:00+00:00", "delivery": "erspan2"}
    ids = [(f"c-{key}", key) for key in range(1, 1024)]
    rows = [fixed | {"id": name, "name": name, "key": key} for name, key in ids]
    sensors = [{"collector": name, "position": 0, "item": "192.0.2.9"} for name, _ in ids]
    with store._database.writing() as connection:  # one by one takes a minute
        connection.execute(insert(tables.collectors), rows)
        connection.execute(insert(tables.sensors), sensors)

    answer = client.post("/v1/collectors", json=remote("erspan2", name="late"))
    assert problem(answer, 409, "refused")["detail"].startswith(
        "no session_id is left to choose for delivery 'erspan2': 1..1023 are all taken"
    )


def test_two_tenants_send_to_one_address_with_keys_of_their_own(client: FlaskClient) -> None:
    create(client, remote("vxlan", "192.0.2.9", "192.0.2.10", vni=7001))
    body = remote("vxlan", "192.0.2.10", tenant="blue", vni=7001)

    sentence = problem(client.post("/v1/collectors", json=body), 409, "refused")["detail"]
    assert sentence == (
        "collector 'vxlan' of tenant 'blue' may not send to 192.0.2.10 with vni 7001: another "
        "tenant does, and the sensor could not tell their copies apart; choose another vni, or "
        "leave it out"
    )
    create(client, body | {"vni": 7002})
    create(client, body | {"name": "else", "sensors": [{"address": "192.0.2.11"}]})
    create(client, body | {"name": "kind", "delivery": "geneve"})
    create(client, remote("vxlan", "192.0.2.10", name="same-tenant", vni=7001))
    patch = {"sensors": [{"address": "192.0.2.9"}]}
    problem(client.patch("/v1/collectors/else", json=patch), 409, "refused")
    assert [s["address"] for s in client.get("/v1/collectors/else").get_json()["sensors"]] == [
        "192.0.2.11"
    ]


def test_a_key_that_a_bridge_may_still_use_for_another_tenant_is_refused_and_not_chosen(
    client: FlaskClient, fake: FakeReconciler
) -> None:
    create(client, remote("vxlan", "192.0.2.9"))
    fake.is_reachable = False
    assert client.delete("/v1/collectors/vxlan").status_code == 204

    theirs = remote("vxlan", "192.0.2.9", tenant="blue", vni=0x800000)
    sentence = problem(client.post("/v1/collectors", json=theirs), 409, "refused")["detail"]
    assert sentence == (
        "collector 'vxlan' of tenant 'blue' may not send to 192.0.2.9 with vni 8388608 yet: "
        "another tenant did, and a bridge that has not confirmed the change may still send its "
        "copies there; choose another vni, or leave it out, or try again when every bridge is "
        "connected and active (`cloudtap bridge list`), or forgotten (`cloudtap bridge forget`); "
        "not connected now: 's1'"
    )
    assert create(client, remote("vxlan", tenant="blue", name="next"))["vni"] == 0x800001
    assert create(client, remote("vxlan", name="again"))["vni"] == 0x800000
    client.delete("/v1/collectors/again")
    fake.is_reachable = True
    client.delete("/v1/collectors/next")
    assert create(client, theirs)["vni"] == 0x800000


# --- changes -------------------------------------------------------------------------------


def test_a_patch_changes_only_the_fields_of_the_body(
    client: FlaskClient, fake: FakeReconciler
) -> None:
    made = create(client, SOC)
    body = {"name": "new", "tenant_tag": 7, "balance": "hosts", "path_mtu": 1400}
    changed = client.patch("/v1/collectors/soc", json=body).get_json()

    assert changed == made | body
    assert fake.brought == 1
    changed = client.patch("/v1/collectors/new", json={"path_mtu": None}).get_json()
    assert changed == made | body | {"path_mtu": None}


def test_tunnel_ports_for_another_family_are_made_before_a_collector_in_use_gets_an_address(
    client: FlaskClient, fake: FakeReconciler
) -> None:
    """The kernel's datapath needs another port for IPv6: copies would stop while it is made."""
    create(client, remote("gre", "192.0.2.9"))
    other = {"sensors": [{"address": "fd00:9::8"}]}
    assert client.patch("/v1/collectors/gre", json=other).status_code == 200
    session = {"name": "s", "tenant": "red", "collector": "gre"}
    session |= {"source": {"ports": ["web-1"]}}
    assert client.post("/v1/sessions", json=session).status_code == 201
    same = {"add_sensors": [{"address": "fd00:9::9"}]}
    assert client.patch("/v1/collectors/gre", json=same).status_code == 200
    assert fake.expected == [], "nothing copies to it, or it has the family"
    change = {"add_sensors": [{"address": "192.0.2.9"}]}
    assert client.patch("/v1/collectors/gre", json=change).status_code == 200
    [expected] = fake.expected
    assert list(map(str, expected.addresses)) == ["fd00:9::8", "fd00:9::9", "192.0.2.9"]


def test_sensors_join_and_leave_a_pool(client: FlaskClient, store: Store) -> None:
    create(client, IDS, sensors=[{"port": "ids-1", "probe": "tcp://192.0.2.1:22"}])

    def ports(*sensors: dict[str, str]) -> list[str]:
        answer = client.patch("/v1/collectors/ids", json={"sensors": list(sensors)})
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return [sensor["port"] for sensor in answer.get_json()["sensors"]]

    assert ports({"port": "ids-3"}, {"port": "ids-1"}) == ["ids-3", "ids-1"]
    assert store.desired().probes == {}, "the list is new as a whole"
    assert ports({"port": "ids-2"}) == ["ids-2"]
    [entry, *_] = items(client, "/v1/audit?kind=collector")
    assert entry["detail"] == {"sensors": ["red-ids-2"]}


def test_a_sensor_is_added_and_removed_without_naming_the_others(
    client: FlaskClient, store: Store
) -> None:
    probe = "tcp://192.0.2.1:22"
    made = create(client, IDS, sensors=[{"port": "ids-1", "probe": probe}, {"port": "ids-2"}])
    body = {"add_sensors": [{"port": "ids-3"}], "remove_sensors": [{"port": "red-ids-2"}]}
    changed = client.patch("/v1/collectors/ids", json=body).get_json()

    assert [(s["port"], s["probe"]) for s in changed["sensors"]] == [
        ("ids-1", probe),
        ("ids-3", None),
    ]
    without = type(INVENTORY)(INVENTORY.tenants, INVENTORY.networks, INVENTORY.ports[:2])
    fake = fill(store, without)
    fewer = make_app(store, lambda: without, fake, fake).test_client()
    body = {"remove_sensors": [{"port": "red-ids-3"}]}
    assert fewer.patch("/v1/collectors/ids", json=body).status_code == 200, "it left the inventory"
    assert client.get("/v1/collectors/ids").get_json() == made | {"sensors": made["sensors"][:1]}
    create(client, SOC)
    body = {"add_sensors": [{"address": "2001:db8::9"}], "remove_sensors": [FAR]}
    changed = client.patch("/v1/collectors/soc", json=body).get_json()
    assert [s["address"] for s in changed["sensors"]] == ["2001:db8::9"]


@pytest.mark.parametrize(
    ("body", "field", "sentence"),
    [
        ({"remove_sensors": [FAR]}, None, "collector 'soc' has 0 sensors"),
        ({"remove_sensors": [FAR, FAR]}, "remove_sensors.1", "has no sensor '192.0.2.9'"),
        ({"remove_sensors": [{"port": "192.0.2.9"}]}, "remove_sensors.0", "has no sensor"),
        ({"add_sensors": [FAR]}, "add_sensors.0", "'soc' has sensor '192.0.2.9' already"),
        ({"add_sensors": [{"port": "ids-1"}]}, "sensors", "goes to addresses, not to tap ports"),
        ({"add_sensors": [{"address": "::1"}]}, "add_sensors.0.address", "loopback"),
        ({"add_sensors": [FAR], "sensors": [FAR]}, "sensors", "the whole list"),
        ({"add_sensors": None}, "add_sensors", "cannot be null"),
        (
            {"add_sensors": [{"address": f"192.0.2.{n}"} for n in range(10, 74)]},
            None,
            "has 65 sensors",
        ),
    ],
)
def test_sensors_that_cannot_be_added_or_removed_are_refused(
    client: FlaskClient, body: dict[str, object], field: str | None, sentence: str
) -> None:
    made = create(client, SOC)

    document = problem(client.patch("/v1/collectors/soc", json=body), 422, "invalid-value")
    assert document.get("field") == field
    assert sentence in document["detail"]
    assert client.get("/v1/collectors/soc").get_json() == made


@pytest.mark.parametrize(
    ("body", "status", "slug", "field"),
    [
        ({"tenant": "blue"}, 422, "invalid-value", "tenant"),
        ({"delivery": "gre"}, 422, "invalid-value", "delivery"),
        ({"vni": 8}, 422, "invalid-value", "vni"),
        ({"key": 8}, 422, "invalid-value", "key"),
        ({"session_id": 8}, 422, "invalid-value", "session_id"),
        ({"name": None}, 422, "invalid-value", "name"),
        ({"name": "ids"}, 409, "name-taken", "name"),
        ({"balance": None}, 422, "invalid-value", "balance"),
        ({"sensors": None}, 422, "invalid-value", "sensors"),
        ({"sensors": []}, 422, "invalid-value", "sensors"),
        ({"sensors": [FAR, FAR]}, 422, "invalid-value", "sensors.1.address"),
        ({"sensors": [{"port": "ids-1"}]}, 422, "invalid-value", "sensors"),
        ({"sensors": [{"address": "224.0.0.1"}]}, 422, "invalid-value", "sensors.0.address"),
        ({"path_mtu": 1}, 422, "invalid-value", "path_mtu"),
        ({"path_mtu": 1501}, 422, "invalid-value", "path_mtu"),
        ({"tenant_tag": 4095}, 422, "invalid-value", "tenant_tag"),
    ],
)
def test_an_invalid_change_is_refused_and_changes_nothing(
    client: FlaskClient, body: dict[str, object], status: int, slug: str, field: str
) -> None:
    create(client, IDS)
    made = create(client, SOC)

    assert problem(client.patch("/v1/collectors/soc", json=body), status, slug)["field"] == field
    assert client.get("/v1/collectors/soc").get_json() == made


def test_a_tap_port_of_another_tenant_cannot_be_added_to_a_pool(client: FlaskClient) -> None:
    made = create(client, IDS)
    for sensors, status, slug in (
        ([{"port": "ids-1"}, {"port": "blue-ids-1"}], 403, "cross-tenant"),
        ([{"port": "ids-1"}, {"port": "web-1"}], 422, "not-a-tap-port"),
        ([FAR], 422, "invalid-value"),
    ):
        answer = client.patch("/v1/collectors/ids", json={"sensors": sensors})
        problem(answer, status, slug)
    problem(client.patch("/v1/collectors/ids", json={"path_mtu": 1400}), 422, "invalid-value")
    assert client.get("/v1/collectors/ids").get_json() == made


def test_a_collector_in_use_is_not_deleted(client: FlaskClient) -> None:
    create(client, SOC)
    client.post("/v1/sessions", json=WEB)

    document = problem(client.delete("/v1/collectors/soc"), 409, "in-use")
    assert "is used by session 'web'" in document["detail"]
