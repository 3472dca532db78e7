"""A controller of a newer pipeline takes over a bridge of an older one, under traffic."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.openflow import UNPLANNED_OBJECTS, make_cookie, object_of
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import ofctl, ofctl_text
from tests.ovs.small_cloud import INVENTORY, SmallCloud, make_collectors
from tests.ovs.traffic import Traffic
from tests.ovs.waiting import wait_for

FIRST, EXTRA, OLD_COPIES = 0, 200, 201
"""The first table, and two tables that the current pipeline does not have."""
COOKIE = re.compile(r"cookie=0x([0-9a-f]+)")


@pytest.fixture
def controller(tmp_path: Path, cloud: SmallCloud) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        process.start("s1")
        make_collectors(process)
        process.create_session("red", "one", ["web"], "ids")
        process.create_session("blue", "other", ["web", "db"], "ids", direction="ingress")
        yield process


def flows_of(bridge: str) -> set[str]:
    """The flows of a bridge in the syntax of ovs-ofctl, without learned flows."""
    lines = ofctl("--no-stats", "dump-flows", bridge).splitlines()
    flows = {line.strip() for line in lines if "actions=" in line}
    return {flow for flow in flows if object_of(cookie_of(flow)) not in UNPLANNED_OBJECTS}


def cookie_of(flow: str) -> int:
    found = COOKIE.search(flow)
    assert found, flow
    return int(found.group(1), 16)


def make_old(bridge: str) -> None:
    """Replace flows by equivalent ones: other digests, another first table, leftovers."""
    ours = [COOKIE.sub(lambda m: f"cookie=0x{int(m[1], 16) ^ 0x5A5A:x}", f) for f in flows_of("s1")]
    first = [flow for flow in ours if "table=" not in flow or f"table={FIRST}," in flow]
    assert first and len(first) < len(ours), ours
    moved = [f"{flow.replace(f'table={FIRST}, ', '')}".replace(
        "cookie=", f"table={EXTRA},cookie=") for flow in first]  # fmt: skip
    old = f"cookie={make_cookie(0, 1):#x},table={FIRST},priority=60000"
    leftover = f"cookie={make_cookie(777, 1):#x},table={OLD_COPIES},priority=5,in_port=1"
    ofctl_text(bridge, [*ours, *moved, f"{leftover},actions=output:7"])
    ofctl_text(bridge, [f"{old},actions=resubmit(,{EXTRA})"])
    for flow in first:
        match = flow.split(" actions=")[0].split("priority=", 1)[1]
        ofctl("--strict", "del-flows", bridge, f"table={FIRST},priority={match}")


def test_flows_of_an_older_pipeline_are_replaced_without_a_frame_lost(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    new = flows_of("s1")
    with Traffic(cloud.at.values()) as traffic:
        red, blue = cloud.red_streams(traffic), cloud.blue_streams(traffic)
        traffic.wait_until_past(red[0], cloud.at["red-ids"], 5)
        controller.end(signal.SIGKILL)
        make_old("s1")
        since = traffic.now(red[0])
        for stream, end in ((red[0], "red-ids"), (blue[1], "blue-ids"), (blue[0], "blue-db")):
            traffic.wait_until_past(stream, cloud.at[end], since + 20)
        old = flows_of("s1")
        assert not old & new and len(old) > len(new), "nothing of it is as it should be"

        controller.start("s1")
        assert controller.bridge("s1")["plans"] == 1, controller.log()
        assert wait_for(lambda: flows_of("s1"), new.__eq__)
        controller.wait_for_session("one")
        over = traffic.now(red[0])
        traffic.wait_until_past(red[0], cloud.at["red-ids"], over + 50)
        traffic.stop()
        ends = {
            "red-db": red[:1], "red-web": red[1:], "red-ids": red,
            "blue-db": blue[:1], "blue-web": blue[1:], "blue-ids": blue, "red-soc": (),
        }  # fmt: skip
        for name, streams in ends.items():
            for stream in streams:
                traffic.wait_for(stream, cloud.at[name], stream.last)
                assert not traffic.faults(stream, cloud.at[name], 1, stream.last), name
            assert not traffic.strangers(cloud.at[name], streams), name
    print(f"{4 * red[0].last} packets, all copied once; {len(old)} flows became {len(new)}")
