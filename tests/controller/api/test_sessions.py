"""Sessions over the API: created, shown, changed, deleted, refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection

from controller.api import make_app
from controller.store import Store
from flows.model import SessionId, TenantName
from tests.controller.api.test_api import items, problem
from tests.controller.fakes import TWO_TENANTS, FakeReconciler

IDS = {"name": "ids", "tenant": "red", "sensors": [{"port": "ids-1"}]}
WEB = {
    "name": "web",
    "tenant": "red",
    "source": {"kind": "port", "ports": ["web-1", "red-web-2"]},
    "collector": "ids",
}


@pytest.fixture
def client(client: FlaskClient) -> FlaskClient:
    """With one collector."""
    assert client.post("/v1/collectors", json=IDS).status_code == 201
    return client


def create(client: FlaskClient, **changes: object) -> dict[str, Any]:
    answer = client.post("/v1/sessions", json=WEB | changes)
    assert answer.status_code == 201, answer.get_data(as_text=True)
    made: dict[str, Any] = answer.get_json()
    return made


def test_a_session_is_answered_as_verified_on_the_switches(client: FlaskClient) -> None:
    made = create(client, number=7, direction="ingress")

    assert made.pop("id") and made.pop("created_at") and made.pop("collector_id")
    assert made == {
        "name": "web",
        "tenant": "red",
        "source": {
            "kind": "port",
            "ports": ["web-1", "web-2"],
            "port_ids": ["red-web-1", "red-web-2"],
            "networks": [],
            "network_ids": [],
            "labels": {},
        },
        "direction": "ingress",
        "filter": "all",
        "filter_id": "b4a9c1b0-52a5-5f0a-8d4c-2f1d9a6d0a11",
        "collector": "ids",
        "sensors": ["ids-1"],
        "mode": "copy",
        "number": 7,
        "packet_length": None,
        "oversize": "truncate",
        "max_rate": None,
        "expires_at": None,
        "max_packets": None,
        "max_bytes": None,
        "enabled": True,
        "status": {
            "state": "active",
            "reasons": [],
            "copies": {"packets": 3, "bytes": 180},
            "truncated": 0,
            "skipped": {},
            "largest_frame": None,
            "port_rate": None,
            "bridges": [
                {
                    "bridge": "s1",
                    "bridge_id": "fe00000000000001",
                    "state": "active",
                    "copies": {"packets": 3, "bytes": 180},
                    "truncated": 0,
                    "skipped": {},
                }
            ],
        },
    }


def test_a_session_is_pending_while_its_bridge_is_disconnected(
    client: FlaskClient, fake: FakeReconciler
) -> None:
    fake.is_reachable = False

    assert create(client)["status"]["state"] == "pending"
    assert [s["name"] for s in items(client, "/v1/sessions?state=pending")] == ["web"]


@pytest.mark.parametrize(
    ("changes", "status", "slug", "field"),
    [
        ({"filter": "web"}, 404, "not-found", "filter"),
        ({"filter": ["all"]}, 422, "invalid-value", "filter"),
        ({"mode": "first"}, 422, "invalid-value", "mode"),
        ({"packet_length": 63}, 422, "invalid-value", "packet_length"),
        ({"packet_length": 65536}, 422, "invalid-value", "packet_length"),
        ({"max_rate": {"kbps": 1, "pps": 1}}, 422, "invalid-value", "max_rate"),
        ({"max_rate": {}}, 422, "invalid-value", "max_rate"),
        ({"max_rate": {"kbps": 0}}, 422, "invalid-value", "max_rate.kbps"),
        ({"max_rate": {"pps": 1 << 32}}, 422, "invalid-value", "max_rate.pps"),
        ({"max_rate": {"mbps": 1}}, 422, "unknown-field", "max_rate.mbps"),
        ({"max_rate": 1}, 422, "invalid-value", "max_rate"),
        ({"oversize": "fragment"}, 422, "invalid-value", "oversize"),
        ({"oversize": None}, 422, "invalid-value", "oversize"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, 422, "invalid-value", "expires_at"),
        ({"expires_at": "2030-01-01T00:00:00"}, 422, "invalid-value", "expires_at"),
        ({"expires_at": "2030-01-01T00:00:00+02:00"}, 422, "invalid-value", "expires_at"),
        ({"expires_at": "2030-02-30T00:00:00Z"}, 422, "invalid-value", "expires_at"),
        ({"expires_at": 5}, 422, "invalid-value", "expires_at"),
        ({"max_packets": 0}, 422, "invalid-value", "max_packets"),
        ({"max_bytes": 1 << 63}, 422, "invalid-value", "max_bytes"),
        ({"source": {"kind": "network"}}, 422, "invalid-value", "source.networks"),
        ({"source": {"kind": "network", "networks": ["x"]}}, 404, "not-found", "source.networks.0"),
        ({"source": {"kind": "tenant", "ports": ["web-1"]}}, 422, "invalid-value", "source.ports"),
        ({"source": {"kind": "label"}}, 422, "invalid-value", "source.labels"),
        (
            {"source": {"kind": "label", "labels": {"a b": "c"}}},
            422,
            "invalid-value",
            "source.labels",
        ),
        (
            {"source": {"kind": "label", "labels": {"a": 1}}},
            422,
            "invalid-value",
            "source.labels.a",
        ),
        ({"source": {"kind": "vlan"}}, 422, "invalid-value", "source.kind"),
        ({"tap_point": "post_policy"}, 422, "not-supported-yet", "tap_point"),
        ({"source": {"ports": []}}, 422, "invalid-value", "source.ports"),
        ({"source": {"ports": ["web-1", "red-web-1"]}}, 422, "invalid-value", None),
        ({"source": {"ports": ["web-1", "web-9"]}}, 404, "not-found", "source.ports.1"),
        ({"source": {"ports": ["blue-web-1"]}}, 403, "cross-tenant", "source.ports"),
        ({"source": {"ports": ["ids-1"]}}, 422, "not-a-workload", "source.ports"),
        ({"source": {"kind": "port"}}, 422, "invalid-value", "source.ports"),
        ({"collector": "nothing"}, 404, "not-found", "collector"),
        ({"direction": "out"}, 422, "invalid-value", "direction"),
        ({"number": 0}, 422, "invalid-value", "number"),
        ({"number": 32767}, 422, "invalid-value", "number"),
        ({"number": "100"}, 422, "invalid-value", "number"),
        ({"number": True}, 422, "invalid-value", "number"),
        ({"enabled": "yes"}, 422, "invalid-value", "enabled"),
        ({"name": "ä"}, 422, "invalid-value", "name"),
        ({"name": "\ud800"}, 400, "bad-json", None),
        ({"tenant": None}, 400, "tenant-needed", "tenant"),
        ({"tenant": "green"}, 404, "not-found", "tenant"),
        ({"colour": "red"}, 422, "unknown-field", "colour"),
    ],
)
def test_an_invalid_session_is_refused_with_its_field(
    client: FlaskClient, changes: dict[str, object], status: int, slug: str, field: str | None
) -> None:
    for query in ("", "?dry_run=true"):
        answer = client.post(f"/v1/sessions{query}", json=WEB | changes)
        assert problem(answer, status, slug).get("field") == field
    assert items(client, "/v1/sessions") == []


def test_the_sentence_of_an_unknown_port_names_it(client: FlaskClient) -> None:
    answer = client.post("/v1/sessions", json=WEB | {"source": {"ports": ["web-9"]}})

    detail = problem(answer, 404, "not-found")["detail"]
    assert detail == "there is no port 'web-9' of tenant 'red': did you mean 'web-2'?"


def test_all_violations_of_a_body_are_reported_at_once(client: FlaskClient) -> None:
    answer = client.post("/v1/sessions", json={"name": "a b", "colour": 1})

    fields = [error["field"] for error in problem(answer, 422, "invalid-value")["errors"]]
    assert fields == ["name", "source", "collector", "colour"]


def test_the_collector_of_another_tenant_is_refused(client: FlaskClient) -> None:
    [ids] = items(client, "/v1/collectors")
    body = WEB | {
        "tenant": "blue",
        "source": {"ports": ["web-1"]},
        "collector": ids["id"],
    }

    document = problem(client.post("/v1/sessions", json=body), 403, "cross-tenant")
    assert document["field"] == "collector"
    problem(client.post("/v1/sessions", json=body | {"collector": "ids"}), 404, "not-found")


def test_options_at_their_default_are_accepted(client: FlaskClient) -> None:
    defaults = {"filter": "all", "mode": "copy", "packet_length": None, "max_rate": None}

    assert create(client, **defaults)["filter"] == "all"


def test_a_dry_run_changes_nothing(client: FlaskClient, fake: FakeReconciler) -> None:
    answer = client.post("/v1/sessions?dry_run=true", json=WEB)
    assert answer.status_code == 200
    assert answer.get_json() == {"dry_run": True, "would": "create", "name": "web", "tenant": "red"}
    assert items(client, "/v1/sessions") == []

    create(client)
    problem(client.post("/v1/sessions?dry_run=true", json=WEB), 409, "name-taken")
    answer = client.delete("/v1/sessions/web?dry_run=true")
    assert answer.get_json()["would"] == "delete"
    assert len(items(client, "/v1/sessions")) == 1
    problem(client.delete("/v1/sessions/nothing?dry_run=true"), 404, "not-found")
    assert fake.brought == 1
    problem(client.post("/v1/collectors?dry_run=true", json=IDS), 422, "unknown-field")
    problem(client.delete("/v1/collectors/ids?dry_run=true"), 422, "unknown-field")


def test_a_session_has_a_rate_cap_and_a_treatment_of_oversize_copies(client: FlaskClient) -> None:
    made = create(client, max_rate={"kbps": 200_000}, oversize="skip")
    assert (made["max_rate"], made["oversize"]) == ({"kbps": 200_000}, "skip")

    changed = client.patch("/v1/sessions/web", json={"max_rate": {"pps": 7}}).get_json()
    assert (changed["max_rate"], changed["oversize"]) == ({"pps": 7}, "skip")
    body = {"max_rate": None, "oversize": "truncate"}
    changed = client.patch("/v1/sessions/web", json=body).get_json()
    assert (changed["max_rate"], changed["oversize"]) == (None, "truncate")


def test_a_rate_cap_has_one_unit_and_is_not_zero(client: FlaskClient) -> None:
    def said(max_rate: dict[str, int]) -> str:
        answer = client.post("/v1/sessions", json=WEB | {"max_rate": max_rate})
        sentence: str = problem(answer, 422, "invalid-value")["detail"]
        return sentence

    assert said({"kbps": 1, "pps": 1}) == "max_rate has one of `kbps` and `pps`, not both or none"
    assert said({"pps": 0}) == (
        "a rate of 0 pps is outside 1..4294967295; to copy nothing, switch the session off"
    )


def test_sessions_are_listed_by_field(client: FlaskClient) -> None:
    create(client)
    create(client, name="off", enabled=False, direction="egress", source={"ports": ["web-2"]})

    def names(query: str) -> list[str]:
        return [session["name"] for session in items(client, f"/v1/sessions?{query}")]

    assert names("") == ["off", "web"]
    assert names("enabled=false") == names("direction=egress") == names("state=inactive") == ["off"]
    assert names("port=red-web-1") == names("port=web-1") == names("state=active") == ["web"]
    assert names("collector=ids&tenant=red") == ["off", "web"]
    assert names("tenant=blue") == names("name=web&enabled=false") == []


def test_sessions_are_listed_by_a_port_that_they_watch_by_whatever_source(
    client: FlaskClient,
) -> None:
    create(client, name="port", source={"ports": ["web-1"]})
    create(client, name="network", source={"kind": "network", "networks": ["lan"]})
    create(client, name="label", source={"kind": "label", "labels": {"tier": "web"}})
    create(client, name="tenant", source={"kind": "tenant"})

    def names(port: str) -> set[str]:
        return {session["name"] for session in items(client, f"/v1/sessions?port={port}")}

    assert names("red-web-1") == names("web-1") == {"port", "network", "label", "tenant"}
    assert names("red-web-2") == names("web-2") == {"network", "tenant"}
    assert names("blue-web-1") == names("red-ids-1") == set()


def test_the_tunnel_ports_of_another_collector_are_made_before_the_session_changes(
    client: FlaskClient, fake: FakeReconciler
) -> None:
    far = {
        "name": "far",
        "tenant": "red",
        "delivery": "vxlan",
        "sensors": [{"address": "192.0.2.9"}],
    }
    assert client.post("/v1/collectors", json=far).status_code == 201
    create(client)
    for change in ({"direction": "egress"}, {"collector": "ids"}):
        assert client.patch("/v1/sessions/web", json=change).status_code == 200
    assert fake.expected == []
    assert client.patch("/v1/sessions/web", json={"collector": "far"}).status_code == 200
    assert [each.name for each in fake.expected] == ["far"]


def test_a_patch_changes_only_the_fields_of_the_body(client: FlaskClient) -> None:
    made = create(client)
    client.post("/v1/collectors", json=IDS | {"name": "ids-2"})
    body = {
        "name": "web-2",
        "enabled": False,
        "direction": "egress",
        "source": {"ports": ["web-2"]},
        "collector": "ids-2",
        "number": 5,
    }
    changed = client.patch("/v1/sessions/web", json=body).get_json()

    assert changed["id"] == made["id"]
    assert changed["source"]["ports"] == ["web-2"]
    assert {k: changed[k] for k in body if k != "source"} == {
        k: v for k, v in body.items() if k != "source"
    }
    assert changed["status"]["state"] == "inactive"
    again = client.patch("/v1/sessions/web-2", json={"enabled": True}).get_json()
    assert (again["status"]["state"], again["number"]) == ("active", 5)


@pytest.mark.parametrize(
    ("body", "status", "slug", "field"),
    [
        ({"tenant": "blue"}, 422, "invalid-value", "tenant"),
        ({"name": None}, 422, "invalid-value", "name"),
        ({"name": "other"}, 409, "name-taken", "name"),
        ({"filter": "web"}, 404, "not-found", "filter"),
        ({"filter": None}, 422, "invalid-value", "filter"),
        ({"mode": "first"}, 422, "invalid-value", "mode"),
        ({"tap_point": "post_policy"}, 422, "not-supported-yet", "tap_point"),
        ({"packet_length": 1}, 422, "invalid-value", "packet_length"),
        ({"max_rate": {"kbps": 0}}, 422, "invalid-value", "max_rate.kbps"),
        ({"max_rate": {"kbps": 1, "pps": 1}}, 422, "invalid-value", "max_rate"),
        ({"oversize": None}, 422, "invalid-value", "oversize"),
        ({"source": {"ports": ["blue-web-1"]}}, 403, "cross-tenant", "source.ports"),
        ({"source": {"ports": ["web-9"]}}, 404, "not-found", "source.ports.0"),
        ({"source": {"kind": "network", "networks": []}}, 422, "invalid-value", "source.networks"),
        ({"collector": "nothing"}, 404, "not-found", "collector"),
        ({"id": "x"}, 422, "unknown-field", "id"),
    ],
)
def test_an_invalid_change_is_refused_and_changes_nothing(
    client: FlaskClient, body: dict[str, object], status: int, slug: str, field: str
) -> None:
    create(client, name="other")
    made = create(client)

    assert problem(client.patch("/v1/sessions/web", json=body), status, slug)["field"] == field
    assert client.get("/v1/sessions/web").get_json() == made


def test_a_session_of_a_port_that_left_the_inventory_is_still_shown(
    store: Store, fake: FakeReconciler, client: FlaskClient
) -> None:
    create(client)
    empty = make_app(store, lambda: type(TWO_TENANTS)(), fake, fake).test_client()

    assert empty.get("/v1/sessions/web").get_json()["source"]["ports"] == ["red-web-1", "red-web-2"]
    assert empty.get("/v1/collectors/ids").get_json()["sensors"][0]["port"] == "red-ids-1"
    assert empty.delete("/v1/sessions/web").status_code == 204


def test_deleting_answers_204_only_when_the_flows_are_gone(
    client: FlaskClient, fake: FakeReconciler, store: Store
) -> None:
    made = create(client)
    fake.is_reachable = False
    answer = client.delete("/v1/sessions/web")

    assert answer.status_code == 202
    assert answer.get_json()["status"]["state"] == "inactive"
    assert answer.get_json()["status"]["reasons"] == ["being deleted: bridge 's1' is not reachable"]
    assert store.desired().sessions == () and list(store.desired().deleting) == [made["id"]]
    assert [s["status"]["state"] for s in items(client, "/v1/sessions")] == ["inactive"]
    problem(client.patch("/v1/sessions/web", json={"number": 1}), 404, "not-found")
    problem(client.delete("/v1/collectors/ids"), 409, "in-use")
    fake.is_reachable = True
    assert client.delete("/v1/sessions/web").status_code == 204
    problem(client.get("/v1/sessions/web"), 404, "not-found")


def test_the_name_of_a_session_that_is_being_deleted_is_free(
    client: FlaskClient, fake: FakeReconciler
) -> None:
    old = create(client)
    fake.is_reachable = False
    client.delete("/v1/sessions/web")
    new = create(client)

    assert client.get("/v1/sessions/web").get_json()["id"] == new["id"] != old["id"]
    assert client.get(f"/v1/sessions/{old['id']}").get_json()["status"]["state"] == "inactive"


def test_a_repeated_request_with_an_idempotency_key_is_carried_out_once(
    client: FlaskClient,
) -> None:
    def post(key: str, **changes: object) -> Any:
        return client.post("/v1/sessions", json=WEB | changes, headers={"Idempotency-Key": key})

    first, second = post("k1"), post("k1")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.get_json() == second.get_json()
    assert len(items(client, "/v1/sessions")) == 1
    problem(post("k1", name="other"), 422, "key-reused")
    problem(post("k2"), 409, "name-taken")
    problem(post("k" * 256), 400, "bad-key")
    client.delete("/v1/sessions/web")
    assert post("k2").status_code == 201, "a refused request does not use up its key"


def test_a_repeated_request_is_answered_even_if_the_first_answer_was_not_stored(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.idempotency, "save_answer", lambda key, answer: None)

    def post() -> Any:
        return client.post("/v1/sessions", json=WEB, headers={"Idempotency-Key": "k"}).get_json()

    assert post()["id"] == post()["id"]


def test_a_request_that_is_repeated_while_the_first_one_is_being_carried_out_gets_its_session(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, seen = store.sessions._numbers, list[Any]()
    giving = numbers.giving

    def post() -> Any:
        return client.post("/v1/sessions", json=WEB, headers={"Idempotency-Key": "k"})

    @contextmanager
    def giving_and_repeating(session: SessionId, tenant: TenantName) -> Iterator[Connection]:
        with giving(session, tenant) as connection:
            yield connection
        seen.append(post())  # it is committed, and the first request does not know that yet
        seen.append(client.get("/v1/sessions/web"))

    monkeypatch.setattr(numbers, "giving", giving_and_repeating)
    assert items(client, "/v1/sessions") == []

    first = post()

    assert [first.status_code, *(each.status_code for each in seen)] == [201, 201, 200]
    assert {each.get_json()["id"] for each in (first, *seen)} == {first.get_json()["id"]}
