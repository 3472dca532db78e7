"""Settings between a switch and a sensor that stop copies, on real Open vSwitch: found and said."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.ovs.controller_process import ControllerProcess, Document, on_both_runtimes
from tests.ovs.lab import Lab, ofctl, set_link, vsctl
from tests.ovs.small_cloud import INVENTORY, SmallCloud, make_collectors, web_to_db
from tests.ovs.underlay import SENSORS, Underlay
from tests.ovs.waiting import wait_for

pytestmark = on_both_runtimes

NO_ROUTE = "198.51.100.9"
MANY = 20
TAP, WEB_PORT = 5, 1
"""OpenFlow port numbers of the tap port ``ids`` and of the workload ``web`` of red."""
PROTECT_WEB = ("vsctl", "set", "Port", "s1-eth1", "protected=true", "--", "set", "Port")


def tagged(frame: bytes) -> bytes:
    """The frame with a VLAN tag of the workload."""
    return frame[:12] + b"\x81\x00\x00\x07" + frame[12:]


def exchange(cloud: SmallCloud, sent: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """What db and the tap port ids receive of what web sends."""
    got = cloud.lab.exchange([(cloud.at["red-web"], frame) for frame in sent])
    return got[cloud.at["red-db"]], got[cloud.at["red-ids"]]


def counts(seen: Document) -> tuple[int, int, dict[str, int]]:
    """Copies that were made, those of them that were cut, and those left out by reason."""
    status = seen["status"]
    return status["copies"]["packets"], status["truncated"], status["skipped"]


def wait_for_counts(
    controller: ControllerProcess, name: str, wanted: tuple[int, int, dict[str, int]]
) -> None:
    wait_for(lambda: counts(controller.session(name)), wanted.__eq__)


def reasons(seen: Document) -> str:
    return " ".join(seen["status"]["reasons"])


@pytest.mark.parametrize(
    ("break_it", "mend_it", "words"),
    [
        ((TAP, "no-forward"), (TAP, "forward"), "tap port 'ids' receives nothing"),
        ((WEB_PORT, "no-receive"), (WEB_PORT, "receive"), "what port 'web' sends is dropped"),
        ((WEB_PORT, "no-forward"), (WEB_PORT, "forward"), "port 'web' receives nothing"),
    ],
)
def test_a_setting_of_an_openflow_port_that_stops_copies_is_said_with_its_remedy(
    cloud: SmallCloud,
    controller: ControllerProcess,
    break_it: tuple[int, str],
    mend_it: tuple[int, str],
    words: str,
) -> None:
    controller.create_session("red", "one", ["web"], "ids")
    ofctl("mod-port", "s1", *map(str, break_it))
    seen = controller.wait_for_session("one", "degraded", words)
    assert f"ovs-ofctl -O OpenFlow13 mod-port s1 {' '.join(map(str, mend_it))}" in reasons(seen)
    ofctl("mod-port", "s1", *map(str, mend_it))
    controller.wait_for_session("one", "active")
    assert exchange(cloud, [web_to_db(1)]) == ([web_to_db(1)], [web_to_db(1)])


def test_copies_for_a_tap_port_that_forwards_nothing_are_not_counted_as_made(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    ofctl("mod-port", "s1", str(TAP), "no-forward")
    controller.create_session("red", "one", ["web"], "ids")
    controller.wait_for_session("one", "degraded", "no-forward")
    sent = [web_to_db(n) for n in range(MANY)]
    cloud.lab.endpoints.remove(cloud.at["red-ids"])  # markers do not reach it either
    got = cloud.lab.exchange([(cloud.at["red-web"], frame) for frame in sent])
    assert got[cloud.at["red-db"]] == sent
    cloud.lab.endpoints.append(cloud.at["red-ids"])
    wait_for_counts(controller, "one", (0, 0, {"path": MANY}))
    refused = controller.api.post("/v1/sessions/one/verify", json={"count": 5})
    assert refused.status_code == 409, refused.text
    assert "no-forward" in refused.json()["detail"]
    explained = controller.api.post(
        "/v1/explain", json={"tenant": "red", "port": "red-web", "hex": web_to_db(1).hex()}
    ).json()
    assert "no-forward" in str(explained), explained


@pytest.mark.parametrize("how", ["its link is down", "it is switched off"])
def test_copies_for_a_tap_port_that_is_down_are_counted_as_lost(
    cloud: SmallCloud, controller: ControllerProcess, how: str
) -> None:
    tap = cloud.at["red-ids"]

    def turn(state: str) -> None:
        if how == "its link is down":
            set_link(tap.far, state)
        else:
            ofctl("mod-port", "s1", str(TAP), state)

    controller.create_session("red", "one", ["web"], "ids")
    turn("down")
    controller.wait_for_session("one", "degraded", "sensor 'ids' is down")
    sent = [web_to_db(n) for n in range(MANY)]
    cloud.lab.endpoints.remove(tap)  # markers do not reach it either
    got = cloud.lab.exchange([(cloud.at["red-web"], frame) for frame in sent])
    assert got[cloud.at["red-db"]] == sent
    wait_for_counts(controller, "one", (0, 0, {"path": MANY}))
    explained = controller.api.post(
        "/v1/explain", json={"tenant": "red", "port": "red-web", "hex": web_to_db(1).hex()}
    ).json()
    assert "no sensor can get it: sensor 'ids' is down" in str(explained), explained
    turn("up")
    cloud.lab.endpoints.append(tap)
    cloud.lab.install_markers()  # a veth pair drops frames until the kernel sees both ends up
    controller.wait_until_free_of("one", "is down")
    assert exchange(cloud, sent) == (sent, sent)
    wait_for_counts(controller, "one", (MANY, 0, {"path": MANY}))


@pytest.mark.parametrize("how", ["its link is down", "it forwards nothing"])
def test_an_exclusive_session_whose_copies_cannot_arrive_takes_nothing_from_others(
    cloud: SmallCloud, controller: ControllerProcess, how: str
) -> None:
    ids, soc, db = (cloud.at[f"red-{name}"] for name in ("ids", "soc", "db"))
    sent = [web_to_db(n) for n in range(MANY)]

    def turn(is_on: bool) -> None:
        if how == "its link is down":
            state = "up" if is_on else "down"
            set_link(ids.far, state)
        else:
            ofctl("mod-port", "s1", str(TAP), "forward" if is_on else "no-forward")

    for name, number in (("ids", 10), ("soc", 20)):
        of = ["web", "db"]
        controller.create_session("red", name, of, name, mode="exclusive", number=number)
    turn(False)
    controller.wait_for_session("ids", "degraded", "'ids'")
    controller.wait_for_session("soc", "active")
    assert controller.session("soc")["status"]["reasons"] == []
    cloud.lab.endpoints.remove(ids)  # markers do not reach it either
    got = cloud.lab.exchange([(cloud.at["red-web"], frame) for frame in sent])
    assert (got[db], got[soc]) == (sent, sent)
    wait_for_counts(controller, "soc", (MANY, 0, {}))
    assert counts(controller.session("ids")) == (0, 0, {})
    asked = {"tenant": "red", "port": "red-web", "hex": web_to_db(1).hex()}
    explained = controller.api.post("/v1/explain", json=asked).json()["sessions"]
    assert {each["session"]: each["copied"] for each in explained} == {"ids": False, "soc": True}
    assert controller.delete_session("soc") == 204
    cloud.lab.exchange([(cloud.at["red-web"], frame) for frame in sent])
    wait_for_counts(controller, "ids", (0, 0, {"path": MANY}))  # what nobody else takes
    turn(True)
    controller.wait_until_free_of("ids", "'ids'")
    cloud.lab.endpoints.append(ids)
    cloud.lab.install_markers()
    assert exchange(cloud, sent) == (sent, sent)


def test_a_tap_port_whose_device_has_gone_makes_no_copies(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "one", ["web"], "ids")
    cloud.lab.remove_device(cloud.at["red-ids"])
    seen = wait_for(lambda: controller.session("one")["status"], lambda s: s["state"] != "active")
    sent = [web_to_db(n) for n in range(MANY)]
    got = cloud.lab.exchange([(cloud.at["red-web"], frame) for frame in sent])
    assert got[cloud.at["red-db"]] == sent
    assert counts(controller.session("one"))[0] == 0, seen


@pytest.mark.parametrize("sensors", [["ids"], ["ids", "soc"]])
def test_copies_pass_between_protected_ports(
    cloud: SmallCloud, controller: ControllerProcess, sensors: list[str]
) -> None:
    """Protected ports send each other no production; tap ports get copies, and send nothing."""
    places = [{"port": f"red-{name}"} for name in sensors]
    body = {"tenant": "red", "name": "taps", "delivery": "port", "sensors": places}
    assert controller.api.post("/v1/collectors", json=body).status_code == 201
    controller.create_session("red", "one", ["web"], "taps")
    vsctl(*PROTECT_WEB[1:], "s1-eth5", "protected=true")
    wait_for(lambda: ofctl("dump-flows", "s1"), lambda flows: "NXM_OF_IN_PORT" in flows)
    web, db, *taps = (cloud.at[f"red-{name}"] for name in ("web", "db", *sensors))
    sent = [web_to_db(n, source_port=1000 + n) for n in range(2 * MANY)]
    cloud.lab.endpoints.remove(web)  # markers do not pass
    got = cloud.lab.exchange([(web, frame) for frame in sent])
    cloud.lab.endpoints.append(web)
    assert got[db] == sent
    assert sorted(frame for tap in taps for frame in got[tap]) == sorted(sent)
    assert all(got[tap] for tap in taps)
    wait_for_counts(controller, "one", (2 * MANY, 0, {}))
    assert "protected" not in reasons(controller.session("one"))


@pytest.mark.parametrize(
    ("break_it", "muted", "is_copied", "receivers"),
    [
        (("ofctl", "mod-port", "s1", "1", "no-receive"), ("web",), False, []),
        (("ofctl", "mod-port", "s1", "2", "no-forward"), ("db",), True, []),
        (("ofctl", "mod-port", "s1", "1", "down"), ("web",), False, []),
        (("ofctl", "mod-port", "s1", "2", "down"), ("db",), True, []),
        ((*PROTECT_WEB, "s1-eth2", "protected=true"), ("web", "db"), True, []),
    ],
)
def test_explain_says_what_happens_on_the_wire_while_a_setting_stops_packets(
    cloud: SmallCloud,
    controller: ControllerProcess,
    break_it: tuple[str, ...],
    muted: tuple[str, ...],
    is_copied: bool,
    receivers: list[str],
) -> None:
    controller.create_session("red", "one", ["web"], "ids")
    asked = {"tenant": "red", "port": "red-web", "hex": web_to_db(1).hex()}

    def look() -> Document:
        found: Document = controller.api.post("/v1/explain", json=asked).json()
        return found

    assert look()["obstacles"] == []
    {"ofctl": ofctl, "vsctl": vsctl}[break_it[0]](*break_it[1:])

    def is_right(seen: Document) -> bool:
        told = [each["port"] for each in seen["receivers"]], seen["sessions"][0]["copied"]
        return told == (receivers, is_copied)

    wait_for(look, is_right)
    ends = {name: cloud.at[f"red-{name}"] for name in ("web", "db", "ids")}
    for name in muted:  # markers do not pass either
        cloud.lab.endpoints.remove(ends[name])
    for end in ends.values():
        end.receive_all()
    ends["web"].send(web_to_db(1))
    cloud.lab.flush()
    sent = [web_to_db(1)]
    assert ends["db"].receive_all() == sent * bool(receivers)
    assert ends["ids"].receive_all() == sent * is_copied
    cloud.lab.endpoints += [ends[name] for name in muted]


@pytest.mark.parametrize("how", ["its link is down", "it is switched off"])
def test_copies_of_what_a_port_without_a_link_should_receive_are_said(
    cloud: SmallCloud, controller: ControllerProcess, how: str
) -> None:
    db = cloud.at["red-db"]
    source = {"kind": "network", "networks": ["lan"]}
    body = {"tenant": "red", "name": "all", "source": source, "collector": "soc"}
    assert controller.api.post("/v1/sessions", json=body).status_code == 201
    controller.create_session("red", "one", ["db"], "ids", direction="ingress")
    controller.create_session("red", "sent", ["db"], "ids", direction="egress")

    def turn(state: str) -> None:
        if how == "its link is down":
            set_link(db.far, state)
        else:
            ofctl("mod-port", "s1", "2", state)

    turn("down")
    words = "port 'db' receives nothing, because its link is down"
    controller.wait_for_session("one", "degraded", words)
    every = controller.session("all")["status"]
    assert every["state"] == "active", "some ports of a network may be off"
    assert words in str(every["reasons"])
    assert controller.session("sent")["status"]["reasons"] == [], "it sends nothing"
    cloud.lab.endpoints.remove(db)  # markers do not reach it either
    got = cloud.lab.exchange([(cloud.at["red-web"], web_to_db(1))])
    assert got[cloud.at["red-ids"]] == [web_to_db(1)]
    asked = {"tenant": "red", "port": "red-web", "hex": web_to_db(1).hex()}
    told = controller.api.post("/v1/explain", json=asked).json()
    (answer,) = (each for each in told["sessions"] if each["session"] == "one")
    assert (told["receivers"], answer["copied"]) == ([], True)
    said = answer["sentence"]
    assert said.startswith("copied, as a watched port should receive it: ") and words in said
    turn("up")
    cloud.lab.endpoints.append(db)
    cloud.lab.install_markers()
    controller.wait_until_free_of("one", "link is down")


def test_a_watched_port_that_gets_no_long_frames_of_others_is_said(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "one", ["db"], "ids", direction="ingress")
    assert controller.session("one")["status"]["reasons"] == []
    for device in (cloud.at["red-web"].interface, cloud.at["red-web"].far):
        set_mtu(device, 4000)
    words = "port 'db' gets no frames longer than 1514 bytes, because of its MTU"
    wait_for(lambda: controller.session("one")["status"]["reasons"], lambda r: words in str(r))
    assert controller.session("one")["status"]["state"] == "active"
    db = cloud.at["red-db"]
    cloud.lab.endpoints.remove(db)  # what is sent to it together with a longer frame may be lost
    got = cloud.lab.exchange([(cloud.at["red-web"], web_to_db(1, 1600))])
    assert got[cloud.at["red-ids"]] == [web_to_db(1, 1600)[:1514]]
    assert db.receive_raw() is None
    cloud.lab.endpoints.append(db)


def test_a_watched_port_that_gets_nothing_of_protected_ports_is_said(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "one", ["db"], "ids", direction="ingress")
    vsctl(*PROTECT_WEB[1:], "s1-eth2", "protected=true")
    words = "port 'db' gets nothing that other protected ports of its bridge send"
    wait_for(lambda: controller.session("one")["status"]["reasons"], lambda r: words in str(r))
    assert controller.session("one")["status"]["state"] == "active"


def test_a_pool_leaves_out_a_sensor_whose_port_forwards_nothing(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    sensors = [{"port": "red-ids"}, {"port": "red-soc"}]
    body = {"tenant": "red", "name": "both", "delivery": "port", "sensors": sensors}
    assert controller.api.post("/v1/collectors", json=body).status_code == 201
    controller.create_session("red", "one", ["web"], "both")
    ofctl("mod-port", "s1", "6", "no-forward")
    controller.wait_for_session("one", "degraded", "tap port 'soc' receives nothing")
    sent = [web_to_db(n) for n in range(MANY)]
    cloud.lab.endpoints.remove(cloud.at["red-soc"])
    assert exchange(cloud, sent) == (sent, sent)
    cloud.lab.endpoints.append(cloud.at["red-soc"])
    wait_for_counts(controller, "one", (MANY, 0, {}))


def test_a_blocked_port_of_a_spanning_tree_is_said(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "one", ["web"], "ids")
    vsctl("set", "Bridge", "s1", "stp_enable=true")
    controller.wait_for_session("one", "degraded", "the spanning tree protocol of bridge 's1'")
    vsctl("set", "Bridge", "s1", "stp_enable=false")
    controller.wait_for_session("one", "active")


def test_a_switch_that_waits_for_a_restore_of_flows_is_said_everywhere(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "one", ["web"], "ids")
    vsctl("set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true")
    controller.wait_for_session("one", "degraded", "waits for a restore of flows")
    controller.wait_for_bridge("s1", "degraded")
    controller.wait_for_problem("remove Open_vSwitch . other_config flow-restore-wait")
    vsctl("remove", "Open_vSwitch", ".", "other_config", "flow-restore-wait")
    controller.wait_for_session("one", "active")
    controller.wait_for_bridge("s1", "active")


def set_mtu(interface: str, mtu: int) -> None:
    subprocess.run(["ip", "link", "set", interface, "mtu", str(mtu)], check=True)


def wait_for_limit(controller: ControllerProcess, name: str, limit: int | None) -> None:
    wait_for(lambda: controller.session(name)["status"]["largest_frame"], lambda n: n == limit)


def burst(length: int) -> list[bytes]:
    """Frames of this length, with short ones between them."""
    return [frame for n in range(8) for frame in (web_to_db(2 * n, length), web_to_db(2 * n + 1))]


@pytest.mark.parametrize("oversize", ["truncate", "skip"])
def test_copies_longer_than_a_tap_port_sends_cost_no_other_copy_and_are_counted(
    cloud: SmallCloud, controller: ControllerProcess, oversize: str
) -> None:
    for name in ("red-web", "red-db"):
        set_mtu(cloud.at[name].interface, 9000)
        set_mtu(cloud.at[name].far, 9000)
    controller.create_session("red", "one", ["web"], "ids", oversize=oversize)
    wait_for_limit(controller, "one", 1514)
    sent = burst(2000)

    delivered, copied = exchange(cloud, sent)

    assert delivered == sent
    cut = [f[:1514] for f in sent] if oversize == "truncate" else [f for f in sent if len(f) < 1514]
    assert copied == cut
    made, why = (16, {}) if oversize == "truncate" else (8, {"mtu": 8})
    wait_for_counts(controller, "one", (made, 8 if oversize == "truncate" else 0, why))
    assert "mtu: 8 copies" in reasons(controller.wait_for_session("one", "degraded"))
    set_mtu(cloud.at["red-ids"].far, 9000)
    set_mtu(cloud.at["red-ids"].interface, 9000)
    wait_for_limit(controller, "one", None)
    assert exchange(cloud, sent) == (sent, sent)


def test_copies_that_a_tag_makes_too_long_for_the_tap_port_are_cut(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.change_collector("ids?tenant=red", tenant_tag=100)
    controller.create_session("red", "one", ["web"], "ids")
    wait_for_limit(controller, "one", 1514)
    pairs = [(tagged(web_to_db(2 * n, 1514)), web_to_db(2 * n + 1)) for n in range(8)]
    sent = [frame for pair in pairs for frame in pair]

    delivered, copied = exchange(cloud, sent)

    assert sorted(delivered) == sorted(sent)
    tag = b"\x81\x00\x00\x64"
    assert sorted(copied) == sorted((f[:12] + tag + f[12:])[:1518] for f in sent)
    wait_for_counts(controller, "one", (16, 8, {}))


def test_copies_of_usual_frames_pass_a_tap_port_of_the_usual_mtu_whole(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    seen = controller.create_session("red", "one", ["web"], "ids")
    assert seen["status"]["largest_frame"] is None
    sent = [web_to_db(1, 1514), tagged(web_to_db(2, 1514))]
    assert exchange(cloud, sent) == (sent, sent)


@pytest.fixture
def underlay(lab: Lab, cloud: SmallCloud) -> Underlay:
    return Underlay(lab)


def make_remote(controller: ControllerProcess, *addresses: str, kind: str = "vxlan") -> None:
    sensors = [{"address": address} for address in addresses]
    body = {"tenant": "red", "name": "far", "delivery": kind, "sensors": sensors}
    answer = controller.api.post("/v1/collectors", json=body)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("kind", ["vxlan", "gre", "erspan2", "geneve"])
def test_a_remote_sensor_without_a_route_is_said_and_nothing_counts_as_a_copy(
    underlay: Underlay, cloud: SmallCloud, controller: ControllerProcess, kind: str
) -> None:
    make_remote(controller, NO_ROUTE, kind=kind)
    controller.create_session("red", "one", ["web"], "far")
    no_route = f"no route: bridge 's1' has no route to sensor {NO_ROUTE}"
    controller.wait_for_session("one", "degraded", no_route)  # once it has a tunnel port
    sent = [web_to_db(n) for n in range(MANY)]
    assert exchange(cloud, sent)[0] == sent
    wait_for_counts(controller, "one", (0, 0, {"path": MANY}))
    refused = controller.api.post("/v1/sessions/one/verify", json={"count": 100})
    assert refused.status_code == 409, refused.text
    assert "no route" in refused.json()["detail"]
    subprocess.run(["ip", "address", "add", "198.51.100.1/24", "dev", "under"], check=True)
    controller.wait_for_session("one", "degraded", f"nobody has answered yet for {NO_ROUTE}")
    neighbour = ["ovs-appctl", "tnl/neigh/set", "under", NO_ROUTE, "02:00:00:00:99:99"]
    subprocess.run(neighbour, check=True)
    controller.wait_until_free_of("one", "unknown")
    exchange(cloud, sent)
    assert [carried.frame for carried in underlay.arrived()] == sent
    assert "no route" not in reasons(controller.session("one"))


def test_a_route_by_a_device_that_is_on_no_bridge_is_said(
    underlay: Underlay, cloud: SmallCloud, controller: ControllerProcess
) -> None:
    subprocess.run(
        ["ip", "link", "add", "aside", "type", "veth", "peer", "name", "far-aside"], check=True
    )
    subprocess.run(["ip", "link", "set", "aside", "up"], check=True)
    subprocess.run(["ip", "link", "set", "far-aside", "up"], check=True)
    subprocess.run(["ip", "address", "add", "198.51.100.1/24", "dev", "aside"], check=True)
    make_remote(controller, NO_ROUTE)
    controller.create_session("red", "one", ["web"], "far")
    controller.wait_for_session("one", "degraded", "leaves by 'aside', which is on no bridge")
    subprocess.run(["ip", "link", "del", "aside"], check=True)


def test_a_tunnel_port_that_sends_nothing_is_said(
    underlay: Underlay, cloud: SmallCloud, controller: ControllerProcess
) -> None:
    make_remote(controller, SENSORS[0])
    seen = controller.create_session("red", "one", ["web"], "far", direction="egress")
    assert (seen["status"]["state"], seen["status"]["reasons"]) == ("active", [])
    tunnels = vsctl("--bare", "--columns=name", "find", "Interface", "type=vxlan").split()
    (port,) = (name for name in tunnels if vsctl("port-to-br", name).strip() == "s1")
    ofctl("mod-port", "s1", port, "no-forward")
    words = f"tunnel port '{port}' sends nothing, because its OpenFlow port is set to no-forward"
    controller.wait_for_session("one", "degraded", words)
    sent = [web_to_db(n) for n in range(MANY)]
    assert exchange(cloud, sent)[0] == sent
    assert underlay.arrived() == []
    wait_for_counts(controller, "one", (0, 0, {"path": MANY}))
    ofctl("mod-port", "s1", port, "forward")
    controller.wait_until_free_of("one", "sends nothing")
    assert exchange(cloud, sent)[0] == sent
    assert [carried.frame for carried in underlay.arrived()] == sent


def test_copies_leave_by_a_protected_tunnel_port(
    underlay: Underlay, cloud: SmallCloud, controller: ControllerProcess
) -> None:
    make_remote(controller, SENSORS[0])
    controller.create_session("red", "one", ["web"], "far", direction="egress")
    tunnels = vsctl("--bare", "--columns=name", "find", "Interface", "type=vxlan").split()
    (port,) = (name for name in tunnels if vsctl("port-to-br", name).strip() == "s1")
    vsctl(*PROTECT_WEB[1:], port, "protected=true")
    sent = [web_to_db(n) for n in range(MANY)]
    assert exchange(cloud, sent)[0] == sent
    assert [carried.frame for carried in underlay.arrived()] == sent
    wait_for_counts(controller, "one", (MANY, 0, {}))
    assert "protected" not in reasons(controller.session("one"))


def test_copies_for_tunnels_are_capped_below_what_their_way_out_sends(
    underlay: Underlay, cloud: SmallCloud, controller: ControllerProcess
) -> None:
    make_remote(controller, SENSORS[0])
    controller.create_session("red", "one", ["web"], "far")
    vsctl(
        *("set", "Port", "under-eth1", "qos=@q", "--"),
        *("--id=@q", "create", "QoS", "type=linux-htb", "other-config:max-rate=10000000"),
    )
    cap = {"kbps": 4500}
    wait_for(lambda: controller.session("one")["status"]["port_rate"], cap.__eq__)
    sent = [web_to_db(n, 1300) for n in range(40 * MANY)]
    got = cloud.lab.exchange([(cloud.at["red-web"], f) for f in sent], burst_size=MANY, pause=1)
    assert got[cloud.at["red-db"]] == sent, "production of the bridge that makes the copies"
    made, _, skipped = wait_for(
        lambda: counts(controller.session("one")),
        lambda seen: seen[0] + sum(seen[2].values()) == len(sent),
    )
    assert skipped.keys() == {"port_rate"}
    arrived = 0

    def received() -> int:
        nonlocal arrived
        arrived += len(underlay.arrived())
        return arrived

    wait_for(received, made.__eq__)
    vsctl("clear", "Port", "under-eth1", "qos", "--", "--all", "destroy", "QoS")


def test_nothing_counts_as_a_copy_while_the_port_by_which_tunnels_leave_is_down(
    underlay: Underlay, cloud: SmallCloud, controller: ControllerProcess
) -> None:
    make_remote(controller, SENSORS[0])
    controller.create_session("red", "one", ["web"], "far")
    controller.wait_for_session("one", "active")
    sent = [web_to_db(n) for n in range(MANY)]
    set_link("under-eth1", "down")
    controller.wait_for_session("one", "degraded", "no port of that one is up ('under-eth1')")
    assert exchange(cloud, sent)[0] == sent
    wait_for_counts(controller, "one", (0, 0, {"path": MANY}))
    explained = {"tenant": "red", "port": "red-web", "hex": web_to_db(1).hex()}
    [told] = controller.api.post("/v1/explain", json=explained).json()["sessions"]
    assert (told["copied"], "uplink down: " in told["sentence"]) == (False, True), told
    set_link("under-eth1", "up")
    controller.wait_until_free_of("one", "uplink")
    exchange(cloud, sent)
    assert [carried.frame for carried in underlay.arrived()] == sent
    wait_for_counts(controller, "one", (MANY, 0, {"path": MANY}))


def test_a_check_of_a_tunnel_counts_each_frame_once(
    underlay: Underlay, cloud: SmallCloud, controller: ControllerProcess
) -> None:
    make_remote(controller, SENSORS[0])
    controller.create_session("red", "one", ["web"], "far")
    assert reasons(controller.wait_for_session("one")) == ""
    found = controller.api.post("/v1/sessions/one/verify", json={"count": 100}).json()
    assert [(w["sent"], w["wanted"]) for w in found["witnesses"]] == [(100, 100)]
    assert len(underlay.arrived()) == 100


def test_a_device_of_the_underlay_with_a_smaller_mtu_than_declared_limits_copies(
    underlay: Underlay, cloud: SmallCloud, controller: ControllerProcess
) -> None:
    make_remote(controller, SENSORS[0])
    controller.create_session("red", "one", ["web"], "far")
    wait_for_limit(controller, "one", 1464)
    vsctl("set", "Interface", "under", "mtu_request=1400")
    wait_for_limit(controller, "one", 1364)
    sent = [web_to_db(n, 1514) for n in range(4)]
    assert exchange(cloud, sent)[0] == sent
    assert [carried.frame for carried in underlay.arrived()] == [f[:1364] for f in sent]


def test_a_bridge_whose_database_nobody_named_says_what_cannot_be_seen(
    cloud: SmallCloud, tmp_path: Path, runtime: str
) -> None:
    placed = INVENTORY
    for ofport, name in ((1, "red-web"), (2, "red-db"), (5, "red-ids")):
        placed = placed.replace(f"{{id: {name}, ", f"{{id: {name}, interface: s1-eth{ofport}, ")
    vsctl("set-fail-mode", "s1", "standalone")
    with ControllerProcess(tmp_path, placed, runtime) as process:
        process.start("s1", ovsdb__remotes="")
        make_collectors(process)
        seen = process.create_session("red", "one", ["web"], "ids")
        assert "cannot see whether bridge 's1' is secure" in reasons(seen)
        assert "ovs-vsctl set-fail-mode s1 secure" in reasons(seen)
        assert "MTU, rate and settings of its ports cannot be seen" in reasons(seen)
        assert "is secure" in " ".join(process.bridge("s1")["reasons"])
        assert vsctl("get-fail-mode", "s1").strip() == "standalone", "nobody may set it"
