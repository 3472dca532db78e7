"""Filters, sources, tags and limits over the API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from controller.api import make_app
from controller.inventory.file import parse
from controller.store import Store
from flows.model import ALL
from flows.openflow import PacketCount
from tests.controller.api.test_api import items, problem
from tests.controller.api.test_sessions import IDS, WEB
from tests.controller.fakes import TWO_TENANTS, FakeReconciler, open_store

HTTP = {
    "name": "http",
    "tenant": "red",
    "ingress": [
        {
            "number": 20,
            "action": "accept",
            "match": {"protocol": "tcp", "destination_port": "80-443"},
        },
        {"number": 10, "action": "reject", "match": {"source": "10.0.0.9"}},
    ],
    "egress": [{"number": 1, "action": "accept", "match": {}}],
}


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store = open_store(tmp_path, clock)
    yield store
    store.close()


@pytest.fixture
def client(store: Store, fake: FakeReconciler, clock: Clock) -> FlaskClient:
    client = make_app(store, lambda: TWO_TENANTS, fake, fake, now=clock).test_client()
    assert client.post("/v1/collectors", json=IDS).status_code == 201
    return client


def create(client: FlaskClient, url: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(url, json=body)
    assert answer.status_code == 201, answer.get_data(as_text=True)
    made: dict[str, Any] = answer.get_json()
    return made


# --- filters -------------------------------------------------------------------------------


def test_a_filter_is_created_listed_shown_and_deleted(client: FlaskClient) -> None:
    made = create(client, "/v1/filters", HTTP)

    assert (made["name"], made["tenant"], made["built_in"]) == ("http", "red", False)
    assert [rule["number"] for rule in made["ingress"]] == [10, 20]
    assert made["ingress"][1]["match"] == {"protocol": "tcp", "destination_port": "80-443"}
    listed = items(client, "/v1/filters")
    assert [(f["name"], f["ingress_rules"], f["egress_rules"]) for f in listed] == [
        ("all", 1, 1),
        ("http", 2, 1),
    ]
    assert [f["name"] for f in items(client, "/v1/filters?tenant=red")] == ["http"]
    assert client.get("/v1/filters/http").get_json() == made
    assert client.get(f"/v1/filters/{made['id']}?tenant=red").get_json() == made
    assert client.delete("/v1/filters/http").status_code == 204
    problem(client.get("/v1/filters/http"), 404, "not-found")


def test_rules_are_replaced_in_place(client: FlaskClient, fake: FakeReconciler) -> None:
    made = create(client, "/v1/filters", HTTP)
    brought = fake.brought
    rules = [{"number": 5, "action": "accept", "match": {"eth_type": "arp"}}]
    changed = client.patch("/v1/filters/http", json={"egress": rules, "name": "web"}).get_json()

    assert (changed["id"], changed["name"], changed["egress"]) == (made["id"], "web", rules)
    assert changed["ingress"] == made["ingress"], "what is left out stays"
    assert fake.brought == brought + 1
    emptied = client.patch("/v1/filters/web", json={"ingress": []}).get_json()
    assert emptied["ingress"] == []
    problem(client.patch("/v1/filters/web", json={"ingress": None}), 422, "invalid-value")
    problem(client.patch("/v1/filters/web", json={"tenant": "blue"}), 422, "invalid-value")


def test_the_built_in_filter_cannot_be_changed_or_deleted(client: FlaskClient) -> None:
    key = client.get("/v1/filters/all").get_json()["id"]
    for ref in (ALL, key):
        problem(client.patch(f"/v1/filters/{ref}", json={"ingress": []}), 409, "built-in")
        problem(client.delete(f"/v1/filters/{ref}"), 409, "built-in")
    problem(client.post("/v1/filters", json=HTTP | {"name": "all"}), 409, "name-taken")


@pytest.mark.parametrize(
    ("changes", "status", "slug", "field"),
    [
        ({"ingress": "x"}, 422, "invalid-value", "ingress"),
        (
            {"ingress": [{"number": 1, "action": "accept", "match": {"source": "x"}}]},
            422,
            "invalid-value",
            "ingress.0.match.source",
        ),
        (
            {"egress": [{"number": 1, "action": "accept"}, {"number": 1, "action": "accept"}]},
            422,
            "invalid-value",
            "egress.1.number",
        ),
        ({"name": "a b"}, 422, "invalid-value", "name"),
        ({"tenant": "green"}, 404, "not-found", "tenant"),
        ({"rules": []}, 422, "unknown-field", "rules"),
    ],
)
def test_an_invalid_filter_is_refused_with_its_field(
    client: FlaskClient, changes: dict[str, object], status: int, slug: str, field: str
) -> None:
    answer = client.post("/v1/filters", json=HTTP | changes)

    assert problem(answer, status, slug)["field"] == field
    assert len(items(client, "/v1/filters")) == 1


def test_a_filter_may_have_thousands_of_rules_but_not_more_than_a_switch_takes(
    client: FlaskClient,
) -> None:
    many = [
        {
            "number": n,
            "action": "accept",
            "match": {"protocol": "tcp", "source": f"10.{n >> 8}.{n & 255}.0/24"},
        }
        for n in range(10_000, 0, -1)
    ]
    made = create(client, "/v1/filters", HTTP | {"ingress": many})
    assert [rule["number"] for rule in made["ingress"]] == list(range(1, 10_001))

    ports = {"protocol": "tcp", "destination_port": "1-65534"}
    wide = [{"number": n, "action": "accept", "match": ports} for n in range(1, 1800)]
    answer = client.post("/v1/filters", json=HTTP | {"name": "wide", "egress": wide})
    assert "a switch needs" in problem(answer, 422, "invalid-value")["detail"]
    more = [{"number": n, "action": "accept"} for n in range(1, 20_002)]
    answer = client.post("/v1/filters", json=HTTP | {"name": "more", "ingress": more})
    assert "at most 20000 are possible" in problem(answer, 422, "invalid-value")["detail"]


def test_a_session_names_its_filter_and_keeps_it_from_being_deleted(client: FlaskClient) -> None:
    made = create(client, "/v1/filters", HTTP)
    for ref in ("http", made["id"]):
        session = create(client, "/v1/sessions", WEB | {"name": f"by-{ref}", "filter": ref})
        assert (session["filter"], session["filter_id"]) == ("http", made["id"])
    assert len(items(client, "/v1/sessions?filter=http")) == 2
    refused = problem(client.delete("/v1/filters/http"), 409, "in-use")
    assert "filter 'http' is used by session 'by-" in refused["detail"]

    for session in items(client, "/v1/sessions"):
        back = client.patch(f"/v1/sessions/{session['id']}", json={"filter": "all"}).get_json()
        assert back["filter"] == "all"
    assert client.delete("/v1/filters/http").status_code == 204


def test_the_filter_of_another_tenant_is_refused(client: FlaskClient) -> None:
    made = create(client, "/v1/filters", HTTP | {"tenant": "blue"})

    answer = client.post("/v1/sessions", json=WEB | {"filter": made["id"]})
    assert problem(answer, 403, "cross-tenant")["field"] == "filter"
    problem(client.post("/v1/sessions", json=WEB | {"filter": "http"}), 404, "not-found")


# --- sources -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (
            {"kind": "network", "networks": ["lan"]},
            {"networks": ["lan"], "network_ids": [TWO_TENANTS.networks[0].id]},
        ),
        ({"kind": "tenant"}, {}),
        (
            {"kind": "label", "labels": {"zone": "z", "tier": "web"}},
            {"labels": {"tier": "web", "zone": "z"}},
        ),
    ],
)
def test_a_session_watches_networks_tenants_and_labels(
    client: FlaskClient, source: dict[str, Any], shown: dict[str, Any]
) -> None:
    made = create(client, "/v1/sessions", WEB | {"source": source})
    empty = {"ports": [], "port_ids": [], "networks": [], "network_ids": [], "labels": {}}

    assert made["source"] == {"kind": source["kind"]} | empty | shown
    again = client.patch("/v1/sessions/web", json={"source": {"ports": ["web-1"]}}).get_json()
    assert again["source"]["port_ids"] == ["red-web-1"]
    back = client.patch("/v1/sessions/web", json={"source": source}).get_json()
    assert back["source"] == made["source"]


def test_the_network_of_another_tenant_is_refused(client: FlaskClient) -> None:
    source = {"kind": "network", "networks": [TWO_TENANTS.networks[1].id]}
    answer = client.post("/v1/sessions", json=WEB | {"source": source})

    assert problem(answer, 403, "cross-tenant")["field"] == "source.networks"


def test_a_session_of_a_network_that_left_the_inventory_is_still_shown(
    store: Store, fake: FakeReconciler, client: FlaskClient
) -> None:
    source = {"kind": "network", "networks": ["lan"]}
    create(client, "/v1/sessions", WEB | {"source": source})
    nothing = parse(b"tenants: [red]")
    empty = make_app(store, lambda: nothing, fake, fake).test_client()

    assert empty.get("/v1/sessions/web").get_json()["source"]["networks"] == [
        TWO_TENANTS.networks[0].id
    ]


# --- tags and lengths ----------------------------------------------------------------------


def test_the_tag_of_a_collector_is_chosen_and_changed(
    client: FlaskClient, fake: FakeReconciler
) -> None:
    made = [
        create(client, "/v1/collectors", IDS | {"name": f"c{n}", "tenant_tag": tag})["tenant_tag"]
        for n, tag in enumerate((None, "auto", 7))
    ]
    assert made == [None, "auto", 7]
    for tag in (4094, None, "auto"):
        changed = client.patch("/v1/collectors/ids", json={"tenant_tag": tag}).get_json()
        assert changed["tenant_tag"] == tag
    renamed = client.patch("/v1/collectors/ids", json={"name": "soc"}).get_json()
    assert (renamed["name"], renamed["tenant_tag"]) == ("soc", "auto")
    assert fake.brought == 4
    for body, slug in (
        ({"tenant_tag": 0}, "invalid-value"),
        ({"name": None}, "invalid-value"),
        ({"sensors": []}, "invalid-value"),
        ({"colour": 1}, "unknown-field"),
    ):
        problem(client.patch("/v1/collectors/soc", json=body), 422, slug)
    problem(client.patch("/v1/collectors/soc", json={"name": "c1"}), 409, "name-taken")


def test_a_network_shows_the_tag_of_its_copies(client: FlaskClient, fake: FakeReconciler) -> None:
    fake.tags = {TWO_TENANTS.networks[0].id: 17}

    assert client.get("/v1/networks/lan?tenant=red").get_json()["tag"] == 17
    assert [n["tag"] for n in items(client, "/v1/networks")] == [17, None]


def test_the_packet_length_is_set_and_removed(client: FlaskClient) -> None:
    assert create(client, "/v1/sessions", WEB | {"packet_length": 64})["packet_length"] == 64
    for length in (65535, None):
        body = {"packet_length": length}
        assert client.patch("/v1/sessions/web", json=body).get_json()["packet_length"] == length


# --- limits --------------------------------------------------------------------------------


def test_limits_are_shown_changed_and_removed(client: FlaskClient) -> None:
    limits = {"expires_at": "2030-01-01T00:00:01Z", "max_packets": 5, "max_bytes": 1 << 40}
    made = create(client, "/v1/sessions", WEB | limits)
    assert {key: made[key] for key in limits} == limits

    changed = client.patch(
        "/v1/sessions/web", json={"expires_at": None, "max_packets": 6}
    ).get_json()
    assert [changed[key] for key in limits] == [None, 6, 1 << 40]
    answer = client.patch("/v1/sessions/web", json={"expires_at": "2029-12-31T23:59:59+00:00"})
    refused = problem(answer, 422, "invalid-value")
    assert refused["field"] == "expires_at"
    assert (
        "2029-12-31T23:59:59Z is not in the future: it is 2030-01-01T00:00:00Z now"
        in (refused["detail"])
    )


def test_a_stopped_session_runs_again_with_a_limit_or_when_it_is_enabled(
    client: FlaskClient, store: Store, fake: FakeReconciler
) -> None:
    made = create(client, "/v1/sessions", WEB | {"max_packets": 5})
    for count, body in enumerate(({"max_packets": 9}, {"enabled": True}, {"max_bytes": None}), 1):
        store.limits.stop(made["id"], "enough", store.desired().limits[made["id"]])
        assert store.desired().limits == {}
        fake.copies = PacketCount(count, count * 60)
        client.patch("/v1/sessions/web", json={"number": 100 + count})
        assert store.sessions.all()[0].stopped == "enough", "other changes leave it stopped"
        client.patch("/v1/sessions/web", json=body)
        [record] = store.sessions.all()
        assert record.stopped is None
        assert record.limits.counted_from.packets == count, "it counts anew"


def test_an_expired_session_runs_again_only_with_a_later_time(
    client: FlaskClient, store: Store, clock: Clock
) -> None:
    create(client, "/v1/sessions", WEB | {"expires_at": "2030-01-01T00:00:01Z", "enabled": False})
    clock.time += timedelta(seconds=1)

    answer = client.patch("/v1/sessions/web", json={"enabled": True})
    assert problem(answer, 422, "invalid-value")["field"] == "expires_at"
    body = {"enabled": True, "expires_at": None}
    assert client.patch("/v1/sessions/web", json=body).get_json()["enabled"] is True


@pytest.mark.parametrize(
    "match",
    [
        {"eth_type": "ipv6", "protocol": "ah"},
        {"source": "fd00::/8", "protocol": 43},
        {"address": "fd00::1", "protocol": 60},
    ],
)
@pytest.mark.parametrize("action", ["accept", "reject"])
def test_a_rule_that_a_switch_cannot_read_packets_for_is_refused(
    client: FlaskClient, match: dict[str, Any], action: str
) -> None:
    rules = [{"number": 7, "action": action, "match": match}]
    body = {"name": "some", "tenant": "red"}
    answer = client.post("/v1/filters", json={**body, "egress": rules})
    assert "egress rule 7" in problem(answer, 422, "invalid-value")["detail"]
    assert "extension header" in problem(answer, 422, "invalid-value")["detail"]
    create(client, "/v1/filters", body)
    answer = client.patch("/v1/filters/some", json={"ingress": rules})
    assert "ingress rule 7" in problem(answer, 422, "invalid-value")["detail"]


def test_a_rule_for_a_header_that_is_read_in_one_of_both_versions_is_taken(
    client: FlaskClient,
) -> None:
    matches = [{"protocol": "ah"}, {"eth_type": "ipv6", "protocol": 0}, {"protocol": 60}]
    rules = [{"number": n, "action": "accept", "match": m} for n, m in enumerate(matches, 1)]
    create(client, "/v1/filters", {"name": "some", "tenant": "red", "egress": rules})
