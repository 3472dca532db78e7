"""The cost of a page depends on its length, not on that of the list."""

from __future__ import annotations

import time
from unittest.mock import Mock

import pytest
from flask.testing import FlaskClient

from controller.process import time_slices
from controller.status import SessionStatus
from flows.model import SessionId
from tests.controller.api.test_api import items
from tests.controller.api.test_sessions import client, create
from tests.controller.fakes import FakeReconciler

__all__ = ["client"]


def test_a_page_computes_the_status_of_no_more_sessions_than_it_shows(
    client: FlaskClient, fake: FakeReconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        create(client, name=f"web-{number:02}", enabled=number % 3 != 0)
    looked: list[SessionId] = []
    describe = fake.session_status

    def watched(session: SessionId) -> SessionStatus:
        looked.append(session)
        return describe(session)

    monkeypatch.setattr(fake, "session_status", watched)
    first = client.get("/v1/sessions?limit=4").get_json()
    assert [s["id"] for s in first["items"]] == looked and len(looked) == 4
    looked.clear()
    rest = client.get(f"/v1/sessions?limit=1000&marker={first['next']}").get_json()
    assert (len(rest["items"]), len(looked), rest["next"]) == (26, 26, None)
    looked.clear()
    off = client.get("/v1/sessions?limit=2&state=inactive").get_json()
    assert len(off["items"]) == 2 and len(looked) == 7, "the third shows that there is a next page"
    names = [s["name"] for s in off["items"]]
    while off["next"]:
        off = client.get(f"/v1/sessions?limit=2&state=inactive&marker={off['next']}").get_json()
        names += [s["name"] for s in off["items"]]
    assert names == [f"web-{number:02}" for number in range(0, 30, 3)]


def test_a_list_lets_others_run_before_each_session(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        create(client, name=f"web-{number}")
    slept: list[float] = []
    monkeypatch.setattr(time_slices, "time", Mock(monotonic=lambda: 0.0))  # no slice is used up
    monkeypatch.setattr(time, "sleep", slept.append)
    assert len(items(client, "/v1/sessions")) == 5
    assert slept == [0] * 5
