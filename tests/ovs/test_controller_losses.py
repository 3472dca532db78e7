"""Truncated, skipped and shed copies are counted exactly, with the whole controller."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests import frames
from tests.ovs.controller_process import ControllerProcess, Document
from tests.ovs.segmenters import prepare
from tests.ovs.small_cloud import DB, INVENTORY, WEB, SmallCloud, make_collectors
from tests.ovs.underlay import SENSORS, Underlay
from tests.ovs.waiting import wait_for

PATH_MTU = 600
LARGEST = PATH_MTU - 36
SHORT, LONG = (frames.ethernet(DB, WEB, 0x88B7, bytes(size - 14)) for size in (100, 1000))


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        yield process


def exchange(cloud: SmallCloud, *sent: bytes) -> dict[str, list[bytes]]:
    """The frames that arrive at each port; checks that production gets all."""
    got = cloud.lab.exchange([(cloud.at["red-web"], frame) for frame in sent])
    assert Counter(got[cloud.at["red-db"]]) == Counter(sent)
    return {name: got[end] for name, end in cloud.at.items()}


def counted(
    controller: ControllerProcess, name: str, copies: int, skipped: Mapping[str, int] | None = None
) -> Document:
    """The status of a session once it has counted so many copies, and lost so many."""
    found = wait_for(
        lambda: controller.session(name)["status"],
        lambda status: bool(
            status["copies"]["packets"] >= copies and skipped in (None, status["skipped"])
        ),
    )
    assert found["copies"]["packets"] == copies
    return dict(found)


def metrics(controller: ControllerProcess, family: str) -> dict[str, float]:
    """Samples by name of the session or bridge, and by reason where there is one."""
    text = controller.api.get("/metrics").raise_for_status().text
    found: dict[str, float] = {}
    for labels, value in re.findall(rf"^{family}{{(.*)}} (.*)$", text, re.MULTILINE):
        of = dict(re.findall(r'(\w+)="(.*?)"', labels))
        names = (of.get("name") or of["bridge"], of.get("reason"))
        found[" ".join(filter(None, names))] = float(value)
    return found


def test_what_is_too_long_for_its_path_is_counted_exactly(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    underlay = Underlay(cloud.lab)
    prepare(cloud.lab, "s1")
    controller.start("s1")
    far = {
        "tenant": "red", "name": "far", "delivery": "vxlan", "path_mtu": PATH_MTU,
        "sensors": [{"address": SENSORS[0]}],
    }  # fmt: skip
    assert controller.api.post("/v1/collectors", json=far).status_code == 201
    controller.create_session("red", "cut", ["web"], "far")
    controller.create_session("red", "whole", ["web"], "far", oversize="skip", max_packets=1000)
    assert controller.session("whole")["status"]["state"] == "active"

    exchange(cloud, *[SHORT] * 10, *[LONG] * 5)

    assert Counter(len(each.frame) for each in underlay.arrived()) == {100: 20, LARGEST: 5}
    cut, whole = counted(controller, "cut", 15), counted(controller, "whole", 10)
    assert (cut["truncated"], cut["skipped"]) == (5, {})
    assert (whole["truncated"], whole["skipped"]) == (0, {"mtu": 5})
    for status, words in ((cut, "5 copies were cut"), (whole, "5 copies were left out")):
        assert status["state"] == "degraded"
        assert any(f"mtu: {words}" in reason for reason in status["reasons"])
    assert metrics(controller, "cloudtap_copies_truncated_total") == {"cut": 5, "whole": 0}
    assert metrics(controller, "cloudtap_copies_skipped_total") == {"whole mtu": 5}

    controller.end(signal.SIGTERM)
    exchange(cloud, SHORT, LONG)
    controller.start()
    controller.wait_until_connected("s1")
    assert counted(controller, "whole", 11)["skipped"] == {"mtu": 6}
    assert counted(controller, "cut", 17)["truncated"] == 6
    assert controller.bridge("s1")["plans"] == 0


def test_what_a_session_may_not_have_is_shed_and_counted_and_no_copy(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.start("s1")
    make_collectors(controller)
    slow = {"pps": 1}
    controller.create_session("red", "slow", ["web"], "ids", max_rate=slow, max_packets=1000)
    sent = [SHORT] * 200

    arrived = len(exchange(cloud, *sent)["red-ids"])

    assert 0 < arrived < len(sent)
    status = counted(controller, "slow", arrived, {"rate": len(sent) - arrived})
    assert status["state"] == "degraded"
    assert any("exceeded its max_rate" in reason for reason in status["reasons"])


def test_what_a_bridge_may_not_spend_is_shed_and_counted_for_the_bridge(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.start("s1", bridges__bridge_rate="1 pps")
    make_collectors(controller)
    controller.create_session("red", "one", ["web"], "ids")
    sent = [SHORT] * 200

    arrived = len(exchange(cloud, *sent)["red-ids"])

    assert 0 < arrived < len(sent)
    status = wait_for(
        lambda: controller.session("one")["status"],
        lambda seen: any(f"left out {200 - arrived} copies" in r for r in seen["reasons"]),
    )
    assert (status["state"], status["skipped"]) == ("degraded", {})
    found = wait_for(lambda: controller.bridge("s1"), lambda seen: seen["shed"] == 200 - arrived)
    assert any("than `bridge_rate` of [bridges] allows" in reason for reason in found["reasons"])
    assert metrics(controller, "cloudtap_bridge_copies_shed_total") == {"s1": 200 - arrived}

    controller.end(signal.SIGTERM)
    controller.start(bridges__bridge_rate="1 pps")
    controller.wait_until_connected("s1")
    wait_for(lambda: controller.bridge("s1"), lambda seen: seen["shed"] == 200 - arrived)
    status = wait_for(
        lambda: controller.session("one")["status"], lambda seen: seen["state"] != "pending"
    )
    assert not any("bridge_rate" in reason for reason in status["reasons"])
