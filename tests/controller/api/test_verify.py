"""Verification over the API and on the command line: answers, audit entries, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from controller.southbound import SwitchTimeout
from controller.status import Check, Verification
from flows.model import SessionId
from tests.controller.api.test_api import items, problem
from tests.controller.api.test_sessions import client, create
from tests.controller.cli.test_cli import Run, failed, fill_red, good, run, url
from tests.controller.fakes import FakeReconciler

__all__ = ["client", "run", "url"]


def test_the_answer_has_what_was_sent_and_what_the_switches_counted(client: FlaskClient) -> None:
    create(client)
    found = client.post("/v1/sessions/web/verify", json={"count": 40, "length": 900}).get_json()

    assert (found["session"], found["count"], found["length"]) == ("web", 40, 900)
    assert found["sent"] == 40
    assert found["ways"] == [
        {
            "bridge": "s1",
            "bridge_id": "fe00000000000001",
            "sensor": "ids-1",
            "sensor_position": 0,
            "network": None,
            "network_number": 0,
            "tag": 7,
            "length": 200,
            "sent": 40,
            "counted": 43,
        }
    ]
    assert found["witnesses"] == [{"bridge": "s1", "sensors": ["ids-1"], "wanted": 40, "sent": 43}]
    assert found["not_verified"] == ["bridge s2: it hangs"]
    assert any("do not count" in note for note in found["notes"])
    [entry] = items(client, "/v1/audit?what=verified")
    assert (entry["name"], entry["tenant"], entry["detail"]) == (
        "web",
        "red",
        {"run": found["run"], "count": 40, "length": 900},
    )


def test_a_session_that_is_not_served_is_refused_with_a_sentence(
    client: FlaskClient, fake: FakeReconciler
) -> None:
    create(client)
    fake.verified.clear()
    refused = problem(client.post("/v1/sessions/web/verify", json={}), 409, "refused")
    assert refused["detail"] == "the session is not served"
    assert items(client, "/v1/audit?what=verified") == []
    problem(client.post("/v1/sessions/none/verify", json={}), 404, "not-found")


def test_a_check_that_fails_after_sending_has_an_audit_entry_with_the_reason(
    client: FlaskClient, fake: FakeReconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(client)

    def fail(session: SessionId, check: Check) -> Verification:
        raise SwitchTimeout("s1", "send frames", 10)

    monkeypatch.setattr(fake, "verify", fail)
    problem(client.post("/v1/sessions/web/verify", json={}), 500, "failed")
    [entry] = items(client, "/v1/audit?what=verified")
    assert "s1" in entry["detail"]["failed"]


def test_one_sensor_may_be_named_and_another_is_refused(client: FlaskClient) -> None:
    create(client)
    for name in ("ids-1", "red-ids-1"):
        body = {"sensor": name, "may_be_cut": True}
        assert client.post("/v1/sessions/web/verify", json=body).status_code == 200
    refused = problem(
        client.post("/v1/sessions/web/verify", json={"sensor": "ids-9"}), 404, "not-found"
    )
    assert refused["detail"] == "there is no sensor 'ids-9' of session 'web': it has ids-1"


@pytest.mark.parametrize(
    "body", [{"count": 0}, {"count": 1001}, {"length": 63}, {"length": 1501}, {"rate": 5}]
)
def test_an_invalid_check_is_refused(client: FlaskClient, body: dict[str, int]) -> None:
    create(client)
    answer = client.post("/v1/sessions/web/verify", json=body)
    assert answer.status_code == 422
    assert answer.get_json()["field"] in body


def test_the_command_shows_what_switches_counted_and_that_this_is_not_what_arrived(
    run: Run,
) -> None:
    fill_red(run)
    shown = " ".join(good(run("session", "verify", "web-to-ids", "--count", "30")).split())
    assert "session web-to-ids: 30 frames of 256 bytes sent" in shown
    assert "bridge s1 sent 33 frames towards ids-1 meanwhile, 30 of them" in shown
    assert "bridge s2: it hangs" in shown
    assert "--listen INTERFACE" in shown
    found = json.loads(good(run("session", "verify", "web-to-ids", "-o", "json")))
    assert found["sent"] == 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "no-such0"], "cannot listen on 'no-such0': No such device"),
        (["--listen", "lo", "--netns", "no-such"], "no network namespace '/run/netns/no-such'"),
        (["--listen", "lo", "--netns", "mininet:h9"], "no Mininet with a host 'h9' runs here"),
        (["--listen", "lo", "--netns", "/etc/hostname"], "cannot enter network namespace"),
    ],
)
def test_a_listener_that_cannot_listen_says_why_and_nothing_is_sent(
    run: Run, client: FlaskClient, arguments: list[str], words: str
) -> None:
    create(client)
    assert words in failed(run("session", "verify", "web", *arguments))
    assert items(client, "/v1/audit?what=verified") == []


def test_a_namespace_without_an_interface_is_a_mistake_of_usage(run: Run) -> None:
    assert "give both" in failed(run("session", "verify", "web", "--netns", "x"), 2)


def test_frames_that_do_not_arrive_are_reported_as_lost(run: Run, tmp_path: Path) -> None:
    fill_red(run)
    done = run("session", "verify", "web-to-ids", "--listen", "lo", "--count", "5", "-o", "json")
    assert "bridge s1: 5 lost" in failed(done)
    found = json.loads(done.stdout)
    assert [(way["sent"], way["arrived"], way["lost"]) for way in found["ways"]] == [(5, 0, 5)]
    assert found["faults"] == ["bridge s1: 5 lost", "bridge s2: it hangs"]
