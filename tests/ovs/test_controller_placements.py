"""Ports that move, and port numbers that are reused: no copy is misdelivered."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from operator import eq
from pathlib import Path

import pytest

from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.lab import vsctl
from tests.ovs.small_cloud import INVENTORY, WEB, SmallCloud, make_collectors
from tests.ovs.traffic import Stream, Traffic
from tests.ovs.waiting import wait_for

THIRD = """\
  - {id: blue-third, name: third, tenant: blue, network: lan, mac: "02:00:00:00:00:03"}
links:
  - {from: {bridge: s1, interface: s1-eth9}, to: {bridge: s2, interface: s2-eth9}}
"""
EXCHANGES = 3


@pytest.fixture
def controller(tmp_path: Path, cloud: SmallCloud) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY + THIRD) as process:
        process.start("s1")
        make_collectors(process)
        process.create_session("red", "one", ["web"], "ids")
        yield process


@pytest.fixture
def traffic(cloud: SmallCloud) -> Iterator[Traffic]:
    with Traffic(cloud.at.values()) as flowing:
        yield flowing


def unplug(interface: str) -> list[str]:
    """Arguments of ovs-vsctl that delete the port; its veth pair stays."""
    return ["--", "del-port", "s1", interface]


def plug(interface: str, ofport: int, iface_id: str) -> list[str]:
    """Arguments of ovs-vsctl that add the port of this interface again."""
    words = ["--", "add-port", "s1", interface, "--", "set", "Interface", interface]
    return [*words, f"ofport_request={ofport}", f"external_ids:iface-id={iface_id}"]


def check_steady(traffic: Traffic, streams: tuple[Stream, Stream], cloud: SmallCloud) -> None:
    """Wait until production and copies of the red streams are exact again."""
    check_arrivals(traffic, streams, cloud, (("red-db", "red-ids"), ("red-web", "red-ids")))


def check_arrivals(
    traffic: Traffic,
    streams: tuple[Stream, Stream],
    cloud: SmallCloud,
    places: tuple[tuple[str, ...], tuple[str, ...]],
) -> None:
    """Wait until each stream arrives exactly at its places, the receiver first."""
    first = [traffic.now(stream) for stream in streams]
    for stream, names, number in zip(streams, places, first, strict=True):
        traffic.wait_until_past(stream, cloud.at[names[0]], number + 20)
        for name in names:
            assert not traffic.faults(stream, cloud.at[name], number + 1, number + 20)


def check_apart(
    traffic: Traffic, red: tuple[Stream, ...], blue: tuple[Stream, ...], cloud: SmallCloud
) -> None:
    """Check that no packet of one tenant has reached the other."""
    for name, at in cloud.at.items():
        mine = red if name.startswith("red") else blue
        assert not traffic.strangers(at, mine), f"packets of others at {name}"


def wait_until_served(
    controller: ControllerProcess, traffic: Traffic, cloud: SmallCloud, name: str,
    ofport: int, stream: Stream,
) -> None:  # fmt: skip
    """Block until a port is known under its new number, and a stream to it arrives there.

    Before that flows send to its old number, which nobody else may have got by then: see
    test_a_number_that_changes_hands_in_one_transaction_strays_until_the_plan_only.
    """
    wait_for(lambda: controller.place(name), partial(eq, ("s1", ofport)))
    traffic.wait_until_spread(stream, cloud.at[name], traffic.now(stream))


def test_a_port_that_returns_under_another_number_is_watched_there(
    cloud: SmallCloud, controller: ControllerProcess, traffic: Traffic
) -> None:
    red, blue = cloud.red_streams(traffic), cloud.blue_streams(traffic)
    check_steady(traffic, red, cloud)
    for ofport in (21, 22, 1):
        place = ("s1", ofport)
        begun = time.monotonic()
        vsctl(*unplug("s1-eth1")[1:], *plug("s1-eth1", ofport, "red-web"))
        wait_for(lambda: controller.place("red-web"), partial(eq, place))
        controller.wait_for_session("one")
        print(f"watched at port {ofport} after {time.monotonic() - begun:.2f} s")
        traffic.wait_until_past(red[0], cloud.at["red-ids"], traffic.now(red[0]))
        check_steady(traffic, red, cloud)
    check_apart(traffic, red, blue, cloud)


def test_a_number_left_to_another_tenant_is_not_watched_for_one_packet(
    cloud: SmallCloud, controller: ControllerProcess, traffic: Traffic
) -> None:
    red, blue = cloud.red_streams(traffic), cloud.blue_streams(traffic)
    check_steady(traffic, red, cloud)
    vsctl(*unplug("s1-eth1")[1:])
    controller.wait_for_session("one", "pending", "is on no bridge")
    wait_for(lambda: controller.bridge("s1")["ports"], lambda ports: ports == 6)
    # the blue workload has the MAC address of the red one that was there
    vsctl(*unplug("s1-eth3")[1:], *plug("s1-eth3", 1, "blue-web"))
    wait_until_served(controller, traffic, cloud, "blue-web", 1, blue[1])
    vsctl(*plug("s1-eth1", 3, "red-web")[1:])
    controller.wait_for_session("one")
    traffic.wait_until_past(red[0], cloud.at["red-ids"], traffic.now(red[0]))
    check_steady(traffic, red, cloud)
    check_apart(traffic, red, blue, cloud)


def test_a_number_that_changes_hands_in_one_transaction_strays_until_the_plan_only(
    cloud: SmallCloud, controller: ControllerProcess, traffic: Traffic
) -> None:
    """Open vSwitch forwards by port number before the controller learns that the number was reused.

    It gives a number to another port at once only where `ofport_request` asks for that.
    """
    red, blue = cloud.red_streams(traffic), cloud.blue_streams(traffic)
    check_steady(traffic, red, cloud)
    plans = controller.bridge("s1")["plans"]
    vsctl(*unplug("s1-eth1")[1:], *unplug("s1-eth3"), *plug("s1-eth3", 1, "blue-web"))
    swapped = traffic.now(blue[0])
    wait_for(lambda: controller.place("blue-web"), lambda place: place == ("s1", 1))
    wait_for(lambda: controller.bridge("s1")["plans"], lambda seen: seen > plans)
    cloud.lab.wait_settled()  # the datapath follows the plan some milliseconds later
    known = traffic.now(blue[0])
    traffic.wait_until_past(blue[0], cloud.at["blue-db"], known + 50)
    strayed = {
        n for name in ("red-ids", "red-db") for _, n in traffic.strangers(cloud.at[name], red)
    }
    print(f"{len(strayed)} packets of {known - swapped} strayed until the change was known")
    assert all(n <= known for n in strayed), "strayed although the new place was known"


def exchange(first: tuple[str, int], second: tuple[str, int]) -> None:
    """Give two ports their numbers in one transaction; they keep everything else."""
    words = [f"-- set Interface {name} ofport_request={n}".split() for name, n in (first, second)]
    vsctl(*words[0][1:], *words[1])


def test_numbers_that_two_tenants_exchange_stray_until_the_plan_only_and_that_is_said(
    cloud: SmallCloud, controller: ControllerProcess, traffic: Traffic
) -> None:
    """Both workloads have the same MAC address, so anti-spoofing does not stop any frame."""
    red, blue = cloud.red_streams(traffic), cloud.blue_streams(traffic)
    check_steady(traffic, red, cloud)
    quiet = {stream.key: traffic.now(stream) for stream in (*red, *blue)}
    """The last frame of each stream that was sent before an exchange."""
    for red_number, blue_number in ((3, 1), (1, 3)) * EXCHANGES:
        plans = controller.bridge("s1")["plans"]
        exchange(("s1-eth1", red_number), ("s1-eth3", blue_number))
        wait_for(lambda: controller.place("red-web"), partial(eq, ("s1", red_number)))
        wait_for(lambda: controller.place("blue-web"), partial(eq, ("s1", blue_number)))
        wait_for(partial(controller.bridge, "s1"), lambda seen, n=plans: seen["plans"] > n)
        controller.change_session("one", enabled=True)  # answered when s1 has confirmed both places
        cloud.lab.wait_settled()  # the datapath follows the plan some milliseconds later
        known = {stream.key: traffic.now(stream) for stream in (*red, *blue)}
        check_steady(traffic, red, cloud)
        check_arrivals(traffic, blue, cloud, (("blue-db",), ("blue-web",)))
        for name, at in cloud.at.items():
            mine = red if name.startswith("red") else blue
            strayed = [(key, n) for key, n in traffic.strangers(at, mine) if n > quiet[key]]
            print(f"strayed to {name}, by stream: {dict(Counter(key for key, _ in strayed))}")
            late = [(key, n) for key, n in strayed if n > known[key]]
            assert not late, f"strayed to {name} although the exchange was applied"
        quiet = {stream.key: traffic.now(stream) for stream in (*red, *blue)}
    said = [line for line in controller.log().split("\n") if "port number reused" in line]
    for before, after in (("red-web", "blue-web"), ("blue-web", "red-web")):
        pair = f"after={after} before={before} bridge=s1 ofport="
        assert len([line for line in said if pair in line]) == 2 * EXCHANGES
    assert len(said) == 4 * EXCHANGES
    assert "cloudtap_port_numbers_reused_total 12.0" in controller.api.get("/metrics").text


def test_a_port_whose_iface_id_becomes_that_of_another_is_not_watched(
    cloud: SmallCloud, controller: ControllerProcess, traffic: Traffic
) -> None:
    red = cloud.red_streams(traffic)
    check_steady(traffic, red, cloud)
    vsctl("set", "Interface", "s1-eth1", "external_ids:iface-id=blue-third")
    wait_for(lambda: controller.place("blue-third"), lambda place: place == ("s1", 1))
    controller.wait_for_session("one", "pending", "port 'web' is on no bridge")
    third = traffic.add(cloud.at["red-web"], 0x020000000003, WEB)
    traffic.wait_until_past(third, cloud.at["blue-web"], 20)
    assert third.key not in {key for key, _ in traffic.strangers(cloud.at["red-ids"], red)}
    # red packets have a source address that is not the blue port's: they are dropped
    now = traffic.now(red[0])
    traffic.wait_until_spread(third, cloud.at["blue-web"], traffic.now(third) + 20)
    assert not [n for n in traffic.arrived(red[0], cloud.at["red-ids"]) if n > now]
    assert not [n for n in traffic.arrived(red[0], cloud.at["red-db"]) if n > now]


def test_a_tap_port_that_goes_away_and_returns_gets_its_copies_and_nobody_else_does(
    cloud: SmallCloud, controller: ControllerProcess, traffic: Traffic
) -> None:
    red, blue = cloud.red_streams(traffic), cloud.blue_streams(traffic)
    check_steady(traffic, red, cloud)
    vsctl(*unplug("s1-eth5")[1:])
    controller.wait_for_session("one", "pending", "tap port 'ids' is on no bridge")
    wait_for(lambda: controller.bridge("s1")["ports"], lambda ports: ports == 6)
    vsctl(*unplug("s1-eth4")[1:], *plug("s1-eth4", 5, "blue-db"))
    wait_until_served(controller, traffic, cloud, "blue-db", 5, blue[0])
    vsctl(*plug("s1-eth5", 4, "red-ids")[1:])
    controller.wait_until_free_of("one", "is on no bridge")
    check_steady(traffic, red, cloud)
    check_apart(traffic, red, blue, cloud)
    traffic.stop()
    for stream, end in zip(red, ("red-db", "red-web"), strict=True):
        traffic.wait_for(stream, cloud.at[end], stream.last)
        assert not traffic.faults(stream, cloud.at[end], 1, stream.last), "production was hurt"


def test_a_machine_that_moves_to_another_bridge_is_watched_there(
    cloud: SmallCloud, controller: ControllerProcess, traffic: Traffic
) -> None:
    red, blue = cloud.red_streams(traffic), cloud.blue_streams(traffic)
    cloud.lab.add_bridge("s2", dpid=0x52, controller=TARGET)
    cloud.lab.link("s1", 9, "s2", 9)
    controller.wait_until_connected("s2")
    wait_for(lambda: controller.status()["problems"], lambda found: not found)
    check_steady(traffic, red, cloud)
    old = cloud.at["red-web"]
    new = cloud.lab.add_port("s2", 1, "red-web")
    controller.wait_for_problem("port 'red-web' is at 's1-eth1' of bridge 's1'")
    check_steady(traffic, red, cloud)
    traffic.replug(old, new)
    cloud.at["red-web"] = new
    wait_for(lambda: controller.place("red-web"), lambda place: place == ("s2", 1))
    vsctl(*unplug("s1-eth1")[1:])
    wait_for(lambda: controller.status()["problems"], lambda found: not found)
    controller.wait_for_session("one")
    check_steady(traffic, red, cloud)
    check_apart(traffic, red, blue, cloud)
    wait_for(
        lambda: {b["bridge"]: b["state"] for b in controller.session("one")["status"]["bridges"]},
        lambda states: states == {"s1": "inactive", "s2": "active"},
    )
