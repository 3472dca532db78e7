"""The JSON log: one object on each line, whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from tests.ovs.controller_process import NOBODY, ControllerProcess
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.small_cloud import INVENTORY, build_cloud, make_collectors
from tests.ovs.waiting import wait_for


@pytest.fixture(params=["ryu", "os-ken"])
def controller(
    lab: Lab, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[ControllerProcess]:
    build_cloud(lab)
    with ControllerProcess(tmp_path, INVENTORY, request.param) as process:
        process.start("s1", log__format="json", bridges__recheck_seconds="0.2")
        yield process


def events(controller: ControllerProcess) -> list[dict[str, Any]]:
    """Every complete line as a document, except what the runtime logs before it is configured."""
    lines = controller.log().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    before = list(takewhile(lambda line: not line.startswith("{"), whole))
    assert all(line.startswith(("loading app ", "instantiating app ")) for line in before)
    return [json.loads(line) for line in whole[len(before) :]]


def test_a_json_log_is_one_object_a_line_with_the_event_and_its_keys(
    controller: ControllerProcess,
) -> None:
    make_collectors(controller)
    controller.create_session("red", "one", ["web"], "ids")
    ofctl("del-flows", "s1", "table=90")
    wait_for(lambda: events(controller), lambda seen: any("drift" in e["event"] for e in seen))
    controller.inventory.write_text(INVENTORY + "  - {id: x, tenant: red, network: nowhere}\n")
    controller.wait_for_problem("nowhere")
    vsctl("set-controller", "s1", NOBODY)
    wait_for(lambda: controller.bridge("s1")["connected"], lambda there: not there)
    controller.end()

    seen = events(controller)
    by_event = {entry["event"]: entry for entry in seen}
    for entry in seen:
        assert {"event", "level", "timestamp"} <= entry.keys(), entry
    assert by_event["controller started"]["api"] == "127.0.0.1:9470"
    for event in ("bridge connected", "bridge disconnected"):
        assert by_event[event]["dpid"] == f"{0x51:016x}" and by_event[event]["bridge"]
    assert {"bridge", "added", "removed", "kept", "rejected"} <= by_event["plan applied"].keys()
    assert by_event["flows had drifted"]["level"] == "warning"
    assert "inventory.yaml" in by_event["inventory has a problem"]["problem"]
    assert "controller stopped" in by_event
    assert any("OFPHandler" in entry["event"] for entry in seen), "the runtime's lines too"
