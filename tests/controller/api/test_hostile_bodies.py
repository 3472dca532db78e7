"""Bodies that are large, deep, or no proper JSON: refused in one short sentence, at small cost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from controller.api import MAX_BODY, MAX_RULES_BODY
from controller.api.problems import ERRORS_MAX, SENTENCE_MAX

SESSION = '{"name": "web", "tenant": "red", "collector": "ids", "source": {"ports": ["web-1"]}%s}'
RANGES = ",".join(str(n) for n in range(1, 128, 2))
"""64 ports, none of them beside another: a flow each."""


def send(client: FlaskClient, path: str, body: str | bytes) -> dict[str, Any]:
    """The problem that a body is answered with."""
    answer: TestResponse = client.post(path, data=body, content_type="application/json")
    document: dict[str, Any] = json.loads(answer.get_data(as_text=True))
    assert answer.content_type == "application/problem+json", document
    assert len(answer.get_data()) < 4 * SENTENCE_MAX + 200 * ERRORS_MAX
    return document


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (SESSION % ', "number": NaN', "NaN is no JSON number"),
        (SESSION % ', "number": -Infinity', "-Infinity is no JSON number"),
        (SESSION % ', "number": 1, "number": 2', "'number' is given twice"),
        (SESSION % (', "number": ' + "9" * 4000), "too many digits"),
        (SESSION % (', "number": ' + "9" * 5000), "too many digits"),
        (SESSION % ', "direction": "\\ud800"', "surrogate"),
        (SESSION % ', "\\udfff": 1', "surrogate"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "nested too deep"),
        ("[" * 200_000, "nested too deep"),
        ("{" + ",".join(f'"k{n}": 1' for n in range(65)) + "}", "an object has more than 64 keys"),
        (b'{"name": "\xff"}', "not valid JSON"),
        ('{"a": 1}'.encode("utf-16"), "not valid JSON"),
    ],
)
def test_what_json_does_not_have_is_refused(
    client: FlaskClient, body: str | bytes, words: str
) -> None:
    refused = send(client, "/v1/sessions", body)

    assert refused["status"] == 400 and words in refused["detail"], refused


@pytest.mark.parametrize(
    "fields",
    [
        {"number": 1e300},
        {"number": 10**19},
        {"packet_length": -(10**18)},
        {"max_packets": 10**19},
        {"max_rate": {"kbps": 10**19}},
        {"expires_at": "9" * 10_000},
        {"name": "a" * 100_000},
        {"collector": "a" * 100_000},
        {"source": {"kind": "label", "labels": {"a" * 100_000: "b"}}},
        {"source": {"kind": "network", "networks": ["a" * 256]}},
        {"tap_point": "a" * 100_000},
    ],
)
def test_values_out_of_all_proportion_are_refused_in_a_short_sentence(
    client: FlaskClient, fields: dict[str, Any]
) -> None:
    assert send(client, "/v1/sessions", json.dumps({**json.loads(SESSION % ""), **fields}))[
        "status"
    ] in (400, 404, 422)


@pytest.mark.parametrize("key", ["vni", "key", "session_id", "path_mtu", "tenant_tag"])
def test_a_number_of_a_collector_may_have_any_length_and_is_refused(
    client: FlaskClient, key: str
) -> None:
    body = {"name": "far", "tenant": "red", "delivery": "vxlan", "sensors": [{"address": "::9"}]}
    assert send(client, "/v1/collectors", json.dumps({**body, key: 10**19}))["status"] == 422


def test_a_port_that_is_named_40000_times_is_refused_at_once(client: FlaskClient) -> None:
    body = json.dumps({**json.loads(SESSION % ""), "source": {"ports": ["web-1"] * 40_000}})

    refused = send(client, "/v1/sessions", body)

    assert (refused["status"], refused["field"]) == (422, "source.ports")
    assert "at most 1000 items" in refused["detail"]


def test_a_list_of_wrong_values_is_reported_in_a_few_lines(client: FlaskClient) -> None:
    body = json.dumps({**json.loads(SESSION % ""), "source": {"ports": [1] * 1000}})

    errors = send(client, "/v1/sessions", body)["errors"]

    assert len(errors) == ERRORS_MAX + 1
    assert errors[-1] == {"field": None, "detail": f"and {1000 - ERRORS_MAX} more"}


def test_millions_of_unknown_keys_are_refused(client: FlaskClient) -> None:
    keys = ",".join(f'"k{n}":1' for n in range(1_000_000))
    body = f'{{"name": "f", {keys}}}'
    assert MAX_BODY < len(body) < MAX_RULES_BODY

    assert send(client, "/v1/sessions", body)["status"] == 413
    assert "more than 64 keys" in send(client, "/v1/filters", body)["detail"]
    rules = (
        f'{{"name": "f", "ingress": [{{"number": 1, "action": "accept", "match": {{{keys}}}}}]}}'
    )
    assert "more than 64 keys" in send(client, "/v1/filters", rules)["detail"]


def test_rules_that_no_switch_can_hold_are_refused_before_all_are_read(client: FlaskClient) -> None:
    match = {"protocol": "tcp", "destination_port": RANGES}
    rules = [{"number": n, "action": "accept", "match": match} for n in range(1, 20_001)]
    rules[10_000]["match"] = {"nonsense": 1}  # never looked at

    refused = send(
        client, "/v1/filters", json.dumps({"name": "f", "tenant": "red", "ingress": rules})
    )

    assert (refused["status"], refused["field"]) == (422, "ingress")
    assert "more than 100000 flows for the 20000 ingress rules" in refused["detail"]


@pytest.mark.parametrize(
    "packet",
    [
        f"tcp,destination=10.0.0.2,vlan={'9' * 1900}",
        f"tcp,destination=10.0.0.2,destination_port={'9' * 1900}",
        f"tcp,destination={'9' * 1900}",
        f"tcp,destination=10.0.0.2,source_mac={'9' * 1900}",
        "tcp,destination=10.0.0.2,vlan=\u0663",
        "tcp,destination=10.0.0.2,vlan=" + "9" * 5000,
        "a" * 1_000_000,
    ],
)
def test_a_packet_of_absurd_numbers_is_refused(client: FlaskClient, packet: str) -> None:
    body = json.dumps({"port": "web-1", "tenant": "red", "packet": packet})

    assert send(client, "/v1/explain", body)["status"] == (400 if len(packet) > 2000 else 422)


def test_a_query_of_absurd_numbers_is_refused(client: FlaskClient) -> None:
    for query in (f"limit={'9' * 5000}", "limit=1e9", "marker=" + "a" * 5000, "x=1&" * 1000):
        assert client.get(f"/v1/sessions?{query}").status_code in (400, 422)
