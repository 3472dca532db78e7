"""Copies in every kind of tunnel, delivered by a controller, reach Suricata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import Lab
from tests.ovs.segmenters import prepare
from tests.ovs.small_cloud import SmallCloud
from tests.ovs.suricata import Suricata
from tests.ovs.test_suricata import BOTH, TWO_NETWORKS, cloud, interleaved, text_for
from tests.ovs.test_verify import run
from tests.ovs.underlay import Underlay
from tests.ovs.waiting import wait_for

__all__ = ["cloud"]

SENSOR = "192.0.2.9"
KEY = 77
KEYS = {
    "vxlan": {"vni": KEY},
    "geneve": {"vni": KEY},
    "gre": {"key": KEY},
    "erspan2": {"session_id": KEY},
    "erspan3": {"session_id": KEY},
}


@pytest.fixture
def underlay(lab: Lab, cloud: SmallCloud) -> Underlay:
    """The underlay; the controller adds the tunnel ports."""
    return Underlay(lab, mtu=1600)


@pytest.fixture
def controller(
    tmp_path: Path, cloud: SmallCloud, underlay: Underlay
) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, TWO_NETWORKS) as process:
        process.start("s1")
        yield process


def deliver(controller: ControllerProcess, delivery: str, **more: Any) -> None:
    """A session that watches two networks with equal addresses and has one remote sensor."""
    body = {"tenant": "red", "name": "ids", "delivery": delivery}
    body |= {"sensors": [{"address": SENSOR}], **KEYS[delivery], **more}
    answer = controller.api.post("/v1/collectors", json=body)
    assert answer.status_code == 201, answer.text
    controller.create_session("red", "both", ["web", "web-2"], "ids")
    controller.wait_for_session("both")


@pytest.mark.parametrize("delivery", [kind for kind in KEYS if kind != "erspan3"])
def test_networks_with_equal_addresses_are_told_apart_in_every_delivery(
    cloud: SmallCloud, controller: ControllerProcess, tmp_path: Path, delivery: str
) -> None:
    deliver(controller, delivery)
    with Suricata(tmp_path / "ids", text_for(controller, "under-far1")) as ids:
        interleaved(cloud)
        alerts = ids.wait_for_alerts((BOTH[:1] * 2 + BOTH[1:] * 2).__eq__)
    items = controller.api.get("/v1/networks?tenant=red").json()["items"]
    seen = sorted((alert["alert"]["signature"], alert["vlan"]) for alert in alerts)
    assert seen == sorted((name, [network["tag"]]) for name in BOTH for network in items)


@pytest.mark.parametrize("delivery", KEYS)
def test_verify_finds_every_frame_inside_the_tunnel(
    controller: ControllerProcess, delivery: str
) -> None:
    deliver(controller, delivery)
    shown = run("cloudtap session verify both --listen under-far1 --length 1400 -o yaml")
    assert shown is not None
    assert f"{delivery} from 192.0.2.1 to {SENSOR}, key {KEY}" in shown
    assert "faults: []" in shown


def test_frames_that_do_not_fit_the_path_are_refused_or_seen_cut(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    prepare(cloud.lab, "s1")
    deliver(controller, "vxlan", path_mtu=1300)
    body = {"length": 1400}
    refused = controller.api.post("/v1/sessions/both/verify", json=body)
    assert refused.status_code == 409
    assert "1400 bytes do not fit the path" in refused.json()["detail"]
    longest = 1300 - 36 - 4
    assert f"at most {longest} do" in refused.json()["detail"]
    for length in (f"--length {longest}", "--length 1400 --may-be-cut"):
        command = f"cloudtap session verify both --listen under-far1 {length} -o json"
        shown = wait_for(partial(run, command), lambda seen: seen is not None)
        assert shown is not None
        ways = json.loads(shown)["ways"]
        assert [way["lengths"] for way in ways] == [[longest]] * 2
