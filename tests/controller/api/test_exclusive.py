"""Exclusive sessions at the API, on the command line and in the store: numbers are never shared."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from controller.store import NumberTaken, Store
from flows.model import Mode, SessionId
from tests.controller.api.test_api import items, problem
from tests.controller.api.test_sessions import WEB as BODY
from tests.controller.api.test_sessions import client, create
from tests.controller.cli.test_cli import Run, failed, fill_red, good, run, url
from tests.controller.store.test_filters import IDS, SCHEMA_2, WEB

__all__ = ["client", "run", "url"]

FIRST = dataclasses.replace(WEB, name="first", mode=Mode.EXCLUSIVE, number=10)
SECOND = dataclasses.replace(FIRST, id=SessionId("s-2"), name="second")
TAKEN = (
    "exclusive session 'first' of tenant 'red' has number 10 already: choose another; of exclusive "
    "sessions that watch a port, the lowest number is asked first"
)
SCHEMA_3 = f"""{SCHEMA_2}
CREATE TABLE filters (id VARCHAR PRIMARY KEY, tenant VARCHAR NOT NULL, name VARCHAR NOT NULL,
  created_at VARCHAR NOT NULL, revision INTEGER NOT NULL, rules VARCHAR NOT NULL,
  UNIQUE (tenant, name));
CREATE TABLE counts (session VARCHAR REFERENCES sessions (id) ON DELETE CASCADE, bridge VARCHAR,
  before_packets INTEGER NOT NULL, before_bytes INTEGER NOT NULL, last_packets INTEGER NOT NULL,
  last_bytes INTEGER NOT NULL, PRIMARY KEY (session, bridge));
ALTER TABLE collectors ADD COLUMN tenant_tag VARCHAR;
ALTER TABLE sessions ADD COLUMN source_kind VARCHAR NOT NULL DEFAULT 'port';
ALTER TABLE sessions ADD COLUMN filter VARCHAR REFERENCES filters (id);
ALTER TABLE sessions ADD COLUMN packet_length INTEGER;
ALTER TABLE sessions ADD COLUMN expires_at VARCHAR;
ALTER TABLE sessions ADD COLUMN max_packets INTEGER;
ALTER TABLE sessions ADD COLUMN max_bytes INTEGER;
ALTER TABLE sessions ADD COLUMN from_packets INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN from_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN stopped VARCHAR;
CREATE INDEX ix_sessions_filter ON sessions (filter);
ALTER TABLE session_sources RENAME COLUMN port TO item;
ALTER TABLE session_sources ADD COLUMN value VARCHAR;
UPDATE sessions SET packet_length = 96;
UPDATE schema SET version = 3;
"""


def test_two_exclusive_sessions_of_a_tenant_cannot_have_one_number(client: FlaskClient) -> None:
    made = create(client, name="first", mode="exclusive", number=10)
    assert (made["mode"], made["number"]) == ("exclusive", 10)
    create(client, name="copy", number=10)
    second = create(client, name="second", mode="exclusive", number=11)

    body = BODY | {"name": "third", "mode": "exclusive", "number": 10}
    for answer in (
        client.post("/v1/sessions", json=body),
        client.post("/v1/sessions?dry_run=true", json=body),
        client.patch("/v1/sessions/second", json={"number": 10}),
        client.patch("/v1/sessions/copy", json={"mode": "exclusive"}),
    ):
        document = problem(answer, 409, "number-taken")
        assert (document["detail"], document["field"]) == (TAKEN, "number")
    assert client.get("/v1/sessions/second").get_json() == second
    assert len(items(client, "/v1/sessions")) == 3


def test_a_number_is_free_for_copy_sessions_for_other_tenants_and_after_a_change(
    client: FlaskClient,
) -> None:
    create(client, name="first", mode="exclusive", number=10)
    sensor = {"name": "ids", "tenant": "blue", "sensors": [{"port": "blue-ids-1"}]}
    assert client.post("/v1/collectors", json=sensor).status_code == 201
    source = {"kind": "tenant"}
    create(client, name="first", tenant="blue", source=source, mode="exclusive", number=10)

    changed = client.patch("/v1/sessions/first?tenant=red", json={"mode": "copy"}).get_json()
    assert changed["mode"] == "copy"
    create(client, name="second", mode="exclusive", number=10)
    assert client.delete("/v1/sessions/second").status_code == 204
    create(client, name="third", mode="exclusive", number=10)

    exclusive = items(client, "/v1/sessions?tenant=red&mode=exclusive")
    assert [s["name"] for s in exclusive] == ["third"]
    assert [s["name"] for s in items(client, "/v1/sessions?mode=copy")] == ["first"]


@pytest.mark.parametrize("mode", ["first", None, 1])
def test_a_mode_is_one_of_two_words(client: FlaskClient, mode: object) -> None:
    create(client)
    for answer in (
        client.post("/v1/sessions", json=BODY | {"name": "x", "mode": mode}),
        client.patch("/v1/sessions/web", json={"mode": mode}),
    ):
        assert problem(answer, 422, "invalid-value")["field"] == "mode"


def test_the_command_line_makes_changes_and_shows_exclusive_sessions(run: Run) -> None:
    fill_red(run)
    red = ("--tenant", "red")
    what = ("--source", "web-1", "--collector", "ids", *red, "--output", "json")
    made = json.loads(
        good(run("session", "create", "first", "--mode", "exclusive", "--number", "10", *what))
    )
    assert (made["mode"], made["number"]) == ("exclusive", 10)
    refused = failed(run("session", "set", "web-to-ids", "--mode", "exclusive", "--number", "10"))
    assert " ".join(refused.split()).endswith(TAKEN)

    shown = good(run("session", "set", "web-to-ids", "--mode", "exclusive", "--number", "20"))
    assert "exclusive" in next(row for row in shown.splitlines() if row.startswith("mode"))
    assert "Usage" in failed(run("session", "create", "x", "--mode", "first", *what), 2)


def test_a_mode_is_there_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.collectors.add(IDS, "tester")
    store.sessions.add(FIRST, "tester")
    with pytest.raises(NumberTaken, match="has number 10 already"):
        store.sessions.add(SECOND, "tester")
    store.close()

    again = Store(tmp_path)
    assert again.desired().sessions == (FIRST,)
    again.sessions.delete(FIRST.id, "tester")
    again.sessions.add(SECOND, "tester")
    assert again.desired().sessions == (SECOND,)
    again.close()


def test_sessions_of_an_older_cloudtap_are_copy_sessions(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.executescript(SCHEMA_3)
    connection.close()
    store = Store(tmp_path)

    assert store.desired().sessions == (dataclasses.replace(WEB, packet_length=96),)
    store.sessions.add(SECOND, "tester")
    with pytest.raises(NumberTaken):
        store.sessions.add(dataclasses.replace(SECOND, id=SessionId("s-3"), name="x"), "tester")
    store.close()
    with (
        sqlite3.connect(tmp_path / "state.db") as connection,
        pytest.raises(sqlite3.IntegrityError, match="UNIQUE constraint failed"),
    ):
        connection.execute("UPDATE sessions SET mode = 'exclusive', number = 10")
    connection.close()
