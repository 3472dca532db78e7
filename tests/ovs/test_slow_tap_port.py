"""A tap port that sends little (QoS), on real Open vSwitch: production of everybody arrives whole.

The userspace datapath sends to all ports through one socket, whose buffer the copies that wait for
a slow port fill: then frames for any other port are dropped.
"""

from __future__ import annotations

import subprocess

from tests.ovs.controller_process import ControllerProcess, on_both_runtimes
from tests.ovs.lab import LabError, vsctl
from tests.ovs.small_cloud import SmallCloud, web_to_db
from tests.ovs.waiting import wait_for

pytestmark = on_both_runtimes

ROUNDS, BURST = 40, 16
"""Frames of each of two tenants: so many bursts of so many."""
SIZE = 1400
MBIT = 1_000_000
PROMISED = 2
"""Sessions for one slow port that docs/how-to/rate-caps.md promises to be harmless."""


def set_qos(bps: int, kind: str = "linux-htb") -> None:
    """Limit the tap port ids of red."""
    vsctl(
        *("set", "Port", "s1-eth5", "qos=@q", "--"),
        *("--id=@q", "create", "QoS", f"type={kind}", f"other-config:max-rate={bps}"),
    )


def clear_qos() -> None:
    vsctl("clear", "Port", "s1-eth5", "qos", "--", "--all", "destroy", "QoS")


def flood(cloud: SmallCloud, size: int = SIZE) -> tuple[int, int]:
    """Frames of red and of blue that do not arrive at their destination, of ROUNDS * BURST each.

    The tap port is no end of markers: they would wait in its queue, and so pace the frames.
    """
    lab, ids = cloud.lab, cloud.at["red-ids"]
    lab.endpoints.remove(ids)
    lab.install_markers()
    red = [web_to_db(n, size, 1) for n in range(ROUNDS * BURST)]
    blue = [web_to_db(n, size, 2) for n in range(ROUNDS * BURST)]
    sent = []
    for a, b in zip(red, blue, strict=True):
        sent += [(cloud.at["red-web"], a), (cloud.at["blue-web"], b)]
    try:
        got = lab.exchange(sent, burst_size=2 * BURST, pause=1)
    finally:
        lab.endpoints.append(ids)
    missing = [set(red) - set(got[cloud.at["red-db"]]), set(blue) - set(got[cloud.at["blue-db"]])]
    return len(missing[0]), len(missing[1])


def wait_for_cap(controller: ControllerProcess, name: str, kbps: int | None) -> None:
    wanted = None if kbps is None else {"kbps": kbps}
    wait_for(lambda: controller.session(name)["status"]["port_rate"], lambda seen: seen == wanted)


def test_copies_for_a_tap_port_with_a_qos_are_capped_below_it_and_production_loses_nothing(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    set_qos(10 * MBIT)
    controller.create_session("red", "one", ["web"], "ids")
    wait_for_cap(controller, "one", 9000)

    assert flood(cloud) == (0, 0)

    ids = cloud.at["red-ids"]
    status = controller.wait_for_session("one", "degraded", "port_rate")["status"]

    def settled() -> tuple[int, int]:
        status = controller.session("one")["status"]
        return status["copies"]["packets"], sum(status["skipped"].values())

    made, shed = wait_for(settled, lambda seen: sum(seen) == ROUNDS * BURST)
    assert shed and status["skipped"].keys() == {"port_rate"}
    arrived = 0

    def received() -> int:
        nonlocal arrived
        while ids.receive_raw() is not None:
            arrived += 1
        return arrived

    wait_for(received, lambda count: count >= made)
    assert received() == made, "what is counted has arrived"
    shown = controller.api.get("/v1/collectors/ids?tenant=red").json()["notes"]
    assert "tap port 'ids' sends little: its sessions get 9000 kbps together" in " ".join(shown)
    body = {"tenant": "red", "port": "red-web", "hex": web_to_db(1, SIZE, 1).hex()}
    answer = controller.api.post("/v1/explain", json=body).json()["sessions"][0]
    assert f"{shed} of {made + shed} copies were shed here so far" in answer["sentence"]
    clear_qos()
    wait_for_cap(controller, "one", None)


def test_production_loses_nothing_to_as_many_sessions_as_are_promised(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    """The more sessions, the more may be sent at once; short frames fill a socket soonest."""
    set_qos(10 * MBIT)
    for number in range(PROMISED):
        controller.create_session("red", f"s{number}", ["web"], "ids")
    wait_for_cap(controller, "s0", 9000 // PROMISED)

    assert flood(cloud, 64) == (0, 0)
    assert flood(cloud) == (0, 0)


def test_the_flood_finds_what_happens_without_the_cap(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    """The same rate, unseen by the database: production of both tenants is lost."""
    tc = "tc qdisc replace dev s1-eth5 root tbf rate 10mbit burst 10kb limit 4mb"
    subprocess.run(tc.split(), check=True)
    controller.create_session("red", "one", ["web"], "ids")
    try:
        red, blue = flood(cloud)
    except LabError:
        return  # even the markers were lost
    assert red and blue


def test_sessions_share_what_a_slow_tap_port_sends(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    set_qos(10 * MBIT)
    controller.create_session("red", "one", ["web"], "ids")
    controller.create_session("red", "two", ["db"], "ids")
    for name in ("one", "two"):
        wait_for_cap(controller, name, 4500)
    controller.change_session("two", max_rate={"kbps": 1000})
    wait_for_cap(controller, "two", None)
    wait_for_cap(controller, "one", 8000)
    controller.delete_session("two")
    wait_for_cap(controller, "one", 9000)
