"""The API as a whole: the token, problem documents, the OpenAPI document, pages of lists."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from controller.api import make_app
from controller.api.problems import TITLES, type_of_status
from controller.http import REASON_PHRASES
from controller.inventory import Inventory
from controller.status import State
from controller.store import Store
from tests.controller.fakes import ONE_TENANT, TWO_TENANTS, FakeReconciler, fill


def problem(answer: TestResponse, status: int, slug: str) -> dict[str, Any]:
    assert answer.content_type == "application/problem+json", answer.get_data(as_text=True)
    document: dict[str, Any] = json.loads(answer.get_data(as_text=True))
    assert (answer.status_code, document["status"]) == (status, status), document
    assert document["type"] == f"urn:cloudtap:problem:{slug}", document
    assert document["title"] == TITLES[slug] and document["detail"]
    return document


def items(client: FlaskClient, url: str) -> list[Any]:
    answer = client.get(url)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    found: list[Any] = answer.get_json()["items"]
    return found


# --- token, body and errors ----------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}, {"Authorization": "é"}],
)
def test_a_request_without_the_token_is_refused(
    store: Store, fake: FakeReconciler, header: dict[str, str]
) -> None:
    client = make_app(store, lambda: TWO_TENANTS, fake, fake, lambda: "secret").test_client()

    answer = client.get("/v1/ports", headers=header)
    problem(answer, 401, "token-needed")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    problem(client.post("/v1/nothing", headers=header), 401, "token-needed")


def test_a_request_with_the_token_is_answered(store: Store, fake: FakeReconciler) -> None:
    client = make_app(store, lambda: TWO_TENANTS, fake, fake, lambda: "secret").test_client()

    for scheme in ("Bearer", "bearer"):
        answer = client.get("/v1/ports", headers={"Authorization": f"{scheme} secret"})
        assert answer.status_code == 200
    assert client.get("/openapi.json").get_json()["security"] == [{"token": []}]


def test_the_words_for_statuses_are_the_same_on_every_python(client: FlaskClient) -> None:
    """Python 3.13 has renamed some of its own."""
    refused = client.get("/openapi.json").get_json()["paths"]["/v1/sessions"]["post"]["responses"]
    assert refused["422"]["description"] == "Unprocessable Content"


def test_every_status_that_is_answered_has_a_reason_phrase() -> None:
    root = Path(__file__).resolve().parents[3] / "controller"
    text = "".join(path.read_text() for path in root.rglob("*.py"))
    used = {HTTPStatus[name] for name in re.findall(r"HTTPStatus\.([A-Z_]+)", text)}
    assert len(used) > 20 and used <= set(REASON_PHRASES)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, "not-found"),
        (405, "method-not-allowed"),
        (413, "request-entity-too-large"),
        (414, "bad-request"),
        (502, "failed"),
    ],
)
def test_the_types_of_problems_are_the_same_on_every_python(status: int, kind: str) -> None:
    assert type_of_status(HTTPStatus(status)) == kind
    assert kind in TITLES


def test_an_unknown_path_or_method_is_a_problem_document(client: FlaskClient) -> None:
    assert problem(client.get("/v1/nothing"), 404, "not-found")["detail"] == (
        "there is nothing at /v1/nothing"
    )
    answer = client.put("/v1/sessions", json={})
    problem(answer, 405, "method-not-allowed")
    assert "POST" in answer.headers["Allow"]
    problem(client.post("/v1/networks", json={}), 405, "method-not-allowed")


@pytest.mark.parametrize("url", ["/v1/sessions", "/v1/collectors"])
def test_a_body_that_is_not_one_json_object_is_refused(client: FlaskClient, url: str) -> None:
    def send(data: str, kind: str = "application/json") -> TestResponse:
        return client.post(url, data=data, content_type=kind)

    problem(send("{}", "text/plain"), 415, "json-needed")
    problem(send("{"), 400, "bad-request")
    problem(send("[]"), 400, "bad-json")
    problem(send('"{}"'), 400, "bad-json")
    problem(send("[" * 100_000), 400, "bad-json")
    problem(send("1" * 5000), 400, "bad-json")
    assert (
        "larger than" in problem(send(" " * 1_100_000), 413, "request-entity-too-large")["detail"]
    )


def test_a_bug_shows_no_traceback_to_the_client_and_is_logged(
    store: Store, fake: FakeReconciler
) -> None:
    def crash() -> Inventory:
        raise RuntimeError("inner words")

    client = make_app(store, crash, fake, fake).test_client()
    with capture_logs() as logged:
        answer = client.get("/v1/ports")

    problem(answer, 500, "failed")
    assert "inner words" not in answer.get_data(as_text=True)
    assert [(entry["event"], str(entry["exc_info"])) for entry in logged] == [
        ("request crashed", "inner words")
    ]


def test_an_unusable_store_is_answered_with_503(client: FlaskClient, store: Store) -> None:
    with store._database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only=1")
    body = {"name": "ids", "tenant": "red", "sensors": [{"port": "ids-1"}]}

    document = problem(client.post("/v1/collectors", json=body), 503, "store-unavailable")
    assert "cannot be written" in document["detail"]


@pytest.mark.parametrize(
    "noun",
    ["tenants", "networks", "ports", "collectors", "sessions", "bridges", "audit", "filters"],
)
def test_an_unknown_parameter_of_a_list_is_refused(client: FlaskClient, noun: str) -> None:
    assert problem(client.get(f"/v1/{noun}?colour=1"), 422, "unknown-field")["field"] == "colour"
    assert problem(client.get(f"/v1/{noun}?limit=0"), 422, "invalid-value")["field"] == "limit"


@pytest.mark.parametrize("noun", ["networks", "ports", "collectors", "sessions", "bridges"])
def test_the_problem_names_what_is_not_found(client: FlaskClient, noun: str) -> None:
    document = problem(client.get(f"/v1/{noun}/nothing"), 404, "not-found")
    assert document["detail"] == f"there is no {noun[:-1]} 'nothing'"


def test_the_openapi_document_describes_every_resource(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()

    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]["/v1/sessions"]) == {"get", "post"}
    assert set(document["paths"]["/v1/sessions/{ref}"]) == {"get", "patch", "delete"}
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            refused = operation["responses"]["422"]["content"]
            assert list(refused) == ["application/problem+json"]
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"], name


# --- what is declared ----------------------------------------------------------------------


def test_ports_are_shown_with_their_placement(client: FlaskClient, fake: FakeReconciler) -> None:
    del fake.places["red-web-2"]
    web = client.get("/v1/ports/web-1?tenant=red").get_json()

    assert web == {
        "id": "red-web-1",
        "name": "web-1",
        "tenant": "red",
        "network": "lan",
        "network_id": TWO_TENANTS.networks[0].id,
        "kind": "vm",
        "mac": "02:00:00:00:00:01",
        "ips": ["10.0.0.1"],
        "anti_spoofing": True,
        "labels": {"tier": "web"},
        "placement": {"bridge": "s1", "bridge_id": "fe00000000000001", "ofport": 1},
    }
    assert client.get("/v1/ports/red-web-2").get_json()["placement"] is None
    assert client.get("/v1/ports/red-ids-1").get_json()["network"] is None


def test_a_name_of_two_tenants_needs_the_parameter_tenant(client: FlaskClient) -> None:
    document = problem(client.get("/v1/ports/web-1"), 409, "ambiguous-name")
    assert document["detail"] == (
        "port name 'web-1' is used by tenants 'red', 'blue': add ?tenant="
    )
    assert client.get("/v1/networks/lan?tenant=blue").get_json()["ports"] == 1
    problem(client.get("/v1/networks/lan"), 409, "ambiguous-name")
    assert client.get(f"/v1/networks/{TWO_TENANTS.networks[0].id}").get_json()["tenant"] == "red"
    problem(client.get("/v1/ports/red-web-1?tenant=blue"), 404, "not-found")


def test_lists_are_filtered_by_field(client: FlaskClient, fake: FakeReconciler) -> None:
    fake.places = {"red-web-1": ("s1", 1)}

    def ids(query: str) -> list[str]:
        return [port["id"] for port in items(client, f"/v1/ports?{query}")]

    assert ids("tenant=blue") == ["blue-web-1", "blue-ids-1"]
    assert ids("kind=tap") == ["red-ids-1", "blue-ids-1"]
    assert ids("name=web-1") == ["red-web-1", "blue-web-1"]
    assert ids("network=lan&tenant=red") == ["red-web-1", "red-web-2"]
    for reference in ("s1", "fe00000000000001", "0xfe00000000000001", "s1@hv1"):
        assert ids(f"bridge={reference}") == ["red-web-1"]
        [bridge] = items(client, f"/v1/bridges?name={reference}")
        assert client.get(f"/v1/bridges/{reference}").get_json() == bridge
    assert [t["name"] for t in items(client, "/v1/tenants?name=red")] == ["red"]
    assert [n["tenant"] for n in items(client, "/v1/networks?tenant=red")] == ["red"]


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("ports?tenant=rde", 404, "there is no tenant 'rde': did you mean 'red'?; the inventory"),
        ("networks?tenant=green", 404, "there is no tenant 'green': the inventory declares 'red'"),
        ("collectors?tenant=rde", 404, "did you mean 'red'?"),
        ("filters?tenant=rde", 404, "did you mean 'red'?"),
        ("sessions?tenant=rde", 404, "did you mean 'red'?"),
        ("audit?tenant=rde", 404, "did you mean 'red'?"),
        ("tenants/rde", 404, "there is no tenant 'rde': did you mean 'red'?"),
        ("ports?network=lann", 404, "there is no network 'lann': did you mean 'lan'?"),
        ("ports?bridge=s11", 404, "there is no bridge 's11': did you mean 's1'?"),
        ("ports?bridge=0x5", 404, "there is no bridge '0x5'"),
        ("ports?bridge=s1@hv2", 404, "there is no bridge 's1@hv2'"),
        ("audit?kind=sesion", 422, "did you mean 'session'?"),
        ("audit?what=create", 422, "did you mean 'created'?"),
        ("audit?id=nope", 404, "there is no audit entry of id 'nope'"),
        ("ports?kind=tapp", 422, "did you mean 'tap'?"),
        ("ports/web1?tenant=red", 404, "of tenant 'red': did you mean 'web-1'"),
        ("sessions?collector=nope", 404, "there is no collector 'nope'"),
        ("sessions?filter=al", 404, "there is no filter 'al': did you mean 'all'?"),
        ("sessions?port=web1", 404, "there is no port 'web1': did you mean 'web-1'?"),
        ("sessions?state=activ", 422, "did you mean 'active'?"),
        ("bridges?state=activ", 422, "did you mean 'active'?"),
        ("ports?name=web-1&name=web-2", 422, "'name' is given twice"),
        ("bridges?name=s11", 404, "there is no bridge 's11': did you mean 's1'?"),
        ("bridges?name=s1@hv2", 404, "there is no bridge 's1@hv2'"),
        ("bridges/s11", 404, "there is no bridge 's11': did you mean 's1'?"),
        ("bridges/s11/flows", 404, "there is no bridge 's11': did you mean 's1'?"),
        ("tenants?name=rde", 404, "there is no tenant 'rde': did you mean 'red'?"),
        ("networks?name=lam", 404, "there is no network 'lam': did you mean 'lan'?"),
        ("ports?name=web1", 404, "there is no port 'web1': did you mean 'web-1'?"),
        ("ports?name=web2&tenant=blue", 404, "no port 'web2' of tenant 'blue': did you mean 'we"),
        ("ports?name=web-2&tenant=blue", 404, "no port 'web-2' of tenant 'blue': did you mean 'w"),
        ("filters?name=al", 404, "there is no filter 'al': did you mean 'all'?"),
        ("collectors?name=nope", 404, "there is no collector 'nope'"),
        ("sessions?name=nope&state=active", 404, "there is no session 'nope'"),
        ("audit?name=nope", 404, "there is no audit entry of name 'nope'"),
        ("audit?who=nobody&what=created", 404, "there is no audit entry by 'nobody'"),
    ],
)  # fmt: skip
def test_a_list_of_what_does_not_exist_is_refused(
    client: FlaskClient, query: str, status: int, sentence: str
) -> None:
    """An empty list would look like an answer."""
    slug = {404: "not-found", 422: "invalid-value"}[status]
    assert sentence in problem(client.get(f"/v1/{query}"), status, slug)["detail"]


def test_every_state_can_be_asked_for(client: FlaskClient) -> None:
    for state in State:
        assert items(client, f"/v1/sessions?state={state.value}") == []


@pytest.mark.parametrize("noun", ["tenants", "networks", "ports"])
def test_the_pages_of_a_list_are_the_whole_list(client: FlaskClient, noun: str) -> None:
    whole = items(client, f"/v1/{noun}")
    got: list[Any] = []
    marker = ""
    while True:
        answer = client.get(f"/v1/{noun}?limit=1{marker}").get_json()
        got += answer["items"]
        if answer["next"] is None:
            break
        marker = f"&marker={answer['next']}"

    assert got == whole and len(whole) > 1
    problem(client.get(f"/v1/{noun}?marker=gone"), 400, "marker-gone")


def test_tenants_are_shown_with_the_number_of_their_objects(client: FlaskClient) -> None:
    assert client.get("/v1/tenants/red").get_json() == {
        "name": "red",
        "title": None,
        "networks": 1,
        "ports": 3,
        "collectors": 0,
        "sessions": 0,
    }
    problem(client.get("/v1/tenants/green"), 404, "not-found")


def test_the_built_in_filter_accepts_everything_both_ways(client: FlaskClient) -> None:
    [everything] = items(client, "/v1/filters")

    assert everything["name"] == "all" and everything["built_in"]
    assert (everything["ingress_rules"], everything["egress_rules"]) == (1, 1)
    everything = client.get("/v1/filters/all").get_json()
    assert everything["ingress"] == everything["egress"] != []
    assert client.get("/v1/filters/all").get_json() == everything
    assert client.get(f"/v1/filters/{everything['id']}").get_json() == everything
    problem(client.get("/v1/filters/web"), 404, "not-found")


# --- what runs -----------------------------------------------------------------------------


def test_bridges_are_found_by_name_or_datapath_id(client: FlaskClient) -> None:
    [bridge] = items(client, "/v1/bridges")

    assert (bridge["id"], bridge["name"]) == ("fe00000000000001", "s1")
    for ref in ("s1", "fe00000000000001", "FE00000000000001"):
        assert client.get(f"/v1/bridges/{ref}").get_json() == bridge
    flows = client.get("/v1/bridges/s1/flows").get_json()
    assert flows["bridge"] == "s1" and "of fe00000000000001" in flows["flows"][0]
    problem(client.get("/v1/bridges/s9/flows"), 404, "not-found")


def test_a_disconnected_bridge_can_be_forgotten(client: FlaskClient, fake: FakeReconciler) -> None:
    document = problem(client.delete("/v1/bridges/s1"), 409, "refused")
    assert document["detail"] == "bridge 's1' is connected: switch it off"
    assert [bridge["name"] for bridge in items(client, "/v1/bridges")] == ["s1"]
    problem(client.delete("/v1/bridges/s9"), 404, "not-found")
    fake.is_reachable = False
    assert client.delete("/v1/bridges/FE00000000000001").status_code == 204
    assert fake.forgotten == [(0xFE00000000000001, "api from 127.0.0.1")]
    assert fake.brought == 1, "the answer comes when the others know"
    problem(client.delete("/v1/bridges/s1"), 404, "not-found")


def test_the_status_shows_the_whole_system(client: FlaskClient, fake: FakeReconciler) -> None:
    fake.sentences = ["inventory.yaml:3: no"]
    del fake.places["red-web-1"]
    status = client.get("/v1/status").get_json()

    assert status["problems"] == ["inventory.yaml:3: no"]
    assert status["totals"] == {
        "tenants": 2,
        "networks": 2,
        "ports": 5,
        "placed": 4,
        "undeclared": 0,
        "unopened": 0,
        "collectors": 0,
        "sessions": 0,
        "active": 0,
    }
    assert [bridge["name"] for bridge in status["bridges"]] == ["s1"]


def test_changes_are_in_the_audit_list_newest_first(client: FlaskClient) -> None:
    for name in ("a", "b", "c"):
        body = {"name": name, "tenant": "red", "sensors": [{"port": "ids-1"}]}
        assert client.post("/v1/collectors", json=body).status_code == 201
    client.delete("/v1/collectors/b")

    first = client.get("/v1/audit?limit=2").get_json()
    assert [(e["what"], e["name"]) for e in first["items"]] == [("deleted", "b"), ("created", "c")]
    assert first["items"][0]["who"] == "api from 127.0.0.1"
    rest = client.get(f"/v1/audit?limit=2&marker={first['next']}").get_json()
    assert [e["name"] for e in rest["items"]] == ["b", "a"] and rest["next"] is None
    assert len(items(client, "/v1/audit?what=deleted&tenant=red")) == 1
    problem(client.get("/v1/audit?marker=x"), 400, "bad-marker")
    by_name = problem(client.get("/v1/audit?id=b"), 404, "not-found")
    assert by_name["detail"] == "there is no audit entry of id 'b': did you mean name=b?"
    key = first["items"][0]["id"]
    assert [e["what"] for e in items(client, f"/v1/audit?id={key}")] == ["deleted", "created"]
    assert items(client, f"/v1/audit?id={key}&what=changed") == []


def test_audit_entries_are_asked_for_by_texts_that_some_entry_has(
    client: FlaskClient,
) -> None:
    body = {"name": "soc", "tenant": "red", "sensors": [{"port": "ids-1"}]}
    assert client.post("/v1/collectors", json=body).status_code == 201
    client.delete("/v1/collectors/soc")

    def refused(query: str) -> tuple[str, str]:
        document = problem(client.get(f"/v1/audit?{query}"), 404, "not-found")
        return document["field"], document["detail"]

    assert refused("who=api from 127.0.0.2") == (
        "who", "there is no audit entry by 'api from 127.0.0.2': did you mean 'api from 127.0.0.1'?"
    )  # fmt: skip
    assert refused("name=soq") == (
        "name", "there is no audit entry of name 'soq': did you mean 'soc'?"
    )  # fmt: skip
    assert refused("name=soc&tenant=blue")[1] == (
        "there is no audit entry of name 'soc' of tenant 'blue'"
    )
    assert len(items(client, "/v1/audit?name=soc&who=api from 127.0.0.1")) == 2, "it is deleted"
    assert items(client, "/v1/audit?name=soc&what=changed") == [], "each is known: none has both"
    assert items(client, "/v1/audit?tenant=blue&who=api from 127.0.0.1") == []


def test_the_only_tenant_need_not_be_named(store: Store) -> None:
    fake = fill(store, ONE_TENANT)
    client = make_app(store, lambda: ONE_TENANT, fake, fake).test_client()
    body = {"name": "ids", "sensors": [{"port": "ids-1"}]}

    assert client.post("/v1/collectors", json=body).get_json()["tenant"] == "red"


@pytest.mark.parametrize(
    "path",
    [
        "/v1//sessions",
        "//v1/sessions",
        "/v1/sessions/",
        "/v1/sessions//web",
        "/v1/sessions/web/",
        "/v1/sessions/web//starvation",
        "//healthz",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_slashes_that_are_no_part_of_a_path_lead_nowhere(
    client: FlaskClient, path: str, method: str
) -> None:
    answer = client.open(f"http://localhost{path}", method=method, json={})

    assert answer.content_type == "application/problem+json", (answer.status, answer.headers)
    assert answer.status_code in (404, 405)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/sessions?limit=1&limit=2"),
        ("GET", "/v1/bridges?limit=1&limit=1"),
        ("POST", "/v1/sessions?dry_run=false&dry_run=true"),
        ("DELETE", "/v1/sessions/web?tenant=red&tenant=blue"),
        ("GET", "/v1/status?a=1&a=2"),
        ("GET", "/healthz?a=1&a=2"),
        ("GET", "/openapi.json?a=1&a=2"),
    ],
)
def test_a_parameter_that_is_given_twice_is_refused(
    client: FlaskClient, method: str, path: str
) -> None:
    answer = client.open(path, method=method, json={})

    assert "is given twice" in problem(answer, 422, "invalid-value")["detail"]
