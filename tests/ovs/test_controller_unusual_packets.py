"""The table of unusual packets in docs/how-to/filters.md, row by row: what rules match on a real
switch, and explain says the same. Fragments are in test_controller_fragments.py."""

from __future__ import annotations

import struct
import subprocess

import pytest

from tests import frames
from tests.ovs.controller_process import ControllerProcess, on_both_runtimes
from tests.ovs.datapath import IS_KERNEL
from tests.ovs.segmenters import prepare
from tests.ovs.small_cloud import DB, WEB, SmallCloud
from tests.ovs.waiting import wait_for

IPV4, IPV6, VLAN, QINQ = 0x0800, 0x86DD, 0x8100, 0x88A8
HOP_BY_HOP, ROUTING, FRAGMENT, AH, OPTIONS, UDP = 0, 43, 44, 51, 60, 17
DEI = 0x1000
"""The drop-eligible bit of a TCI."""
LLC = bytes((0x42, 0x42, 3))
"""The header of a spanning tree BPDU."""
SNAP = bytes((0xAA, 0xAA, 3, 0, 0, 0))
OTHER_SNAP = bytes((0xAA, 0xAA, 3, 0, 0, 0x0C))
"""A SNAP header whose organization is not 0: what follows is no EtherType."""
DATAGRAM = frames.udp(40_000, 443, bytes(24))


def frame(eth_type: int, body: bytes, *tci: int, destination: int = DB, tpid: int = VLAN) -> bytes:
    tags = tuple((tpid, each) for each in tci)
    return frames.pad(frames.ethernet(destination, WEB, eth_type, body, tags), 64)


def v4(proto: int, body: bytes) -> bytes:
    return frames.ipv4("10.0.0.1", "10.0.0.2", proto, body)


def v6(proto: int, body: bytes) -> bytes:
    return frames.ipv6("fd00::1", "fd00::2", proto, body)


def options(following: int, body: bytes) -> bytes:
    """A hop-by-hop or destination options header with padding alone (RFC 8200), or a routing header
    without segments left, and ``body`` behind it."""
    return bytes((following, 0, 1, 0, 0, 0, 0, 0)) + body


def authenticated(following: int, body: bytes) -> bytes:
    """An authentication header of 24 bytes (RFC 4302) and ``body`` behind it."""
    return struct.pack("!BBHII12x", following, 4, 0, 7, 1) + body


def with_length(body: bytes) -> bytes:
    """An 802.3 frame: its length in place of an EtherType."""
    return frame(len(body), body)


LATER_V6 = struct.pack("!BBHI", UDP, 0, 0x80, 7) + b"\x01\xbb" * 20
CUT_OFF = frames.udp(40_000, 443, b"")[:6]
FRAMES = {
    "plain": frame(IPV4, v4(UDP, DATAGRAM)),
    "plain 6": frame(IPV6, v6(UDP, DATAGRAM)),
    "later fragment 6": frame(IPV6, v6(FRAGMENT, LATER_V6)),
    "AH": frame(IPV4, v4(AH, authenticated(UDP, DATAGRAM))),
    "AH 6": frame(IPV6, v6(AH, authenticated(UDP, DATAGRAM))),
    "hop by hop 6": frame(IPV6, v6(HOP_BY_HOP, options(UDP, DATAGRAM))),
    "routing 6": frame(IPV6, v6(ROUTING, options(UDP, DATAGRAM))),
    "two options 6": frame(IPV6, v6(HOP_BY_HOP, options(OPTIONS, options(UDP, DATAGRAM)))),
    "UDP cut off": frame(IPV4, v4(UDP, CUT_OFF)),
    "longer than its frame": frame(IPV4, v4(UDP, bytes(1000))[:46]),
    "SNAP": with_length(SNAP + IPV4.to_bytes(2, "big") + v4(UDP, DATAGRAM)),
    "other SNAP": with_length(OTHER_SNAP + IPV4.to_bytes(2, "big") + v4(UDP, DATAGRAM)),
    "BPDU": with_length(LLC + bytes(40)),
    "priority tag": frame(IPV4, v4(UDP, DATAGRAM), 3 << 13),
    "tag 10": frame(IPV4, v4(UDP, DATAGRAM), 10),
    "tag 10 of a provider": frame(IPV4, v4(UDP, DATAGRAM), 10, tpid=QINQ),
    "tag 10, then 20": frame(IPV4, v4(UDP, DATAGRAM), 10, 20),
}
ALL, TAGGED = set(FRAMES), {name for name in FRAMES if "tag" in name}
WITHOUT_TYPE = {"BPDU", "other SNAP"}
READ_4 = {"plain", "SNAP", "priority tag", "tag 10", "tag 10 of a provider"}
"""Frames whose UDP datagram in IPv4 is read."""
READ_6 = {"plain 6", "AH 6", "hop by hop 6", "routing 6", "two options 6"}
Match = dict[str, object]
CASES: dict[str, tuple[Match, set[str]]] = {
    "UDP": ({"protocol": "udp"}, READ_4 | READ_6 | {"UDP cut off"}),
    "a port": ({"protocol": "udp", "destination_port": "443"}, READ_4 | READ_6),
    "port 0": ({"protocol": "udp", "destination_port": "0"}, {"UDP cut off"}),
    "AH": ({"protocol": "ah"}, {"AH"}),
    "fragments 6": ({"protocol": 44}, {"later fragment 6"}),
    "hop by hop": ({"eth_type": "ipv6", "protocol": 0}, set()),
    "protocol 0": ({"protocol": 0}, {"longer than its frame"}),
    "address 6": ({"source": "fd00::1"}, READ_6 | {"later fragment 6"}),
    "address": ({"source": "10.0.0.1"}, READ_4 | {"AH", "UDP cut off"}),
    "address 0": ({"source": "0.0.0.0"}, {"longer than its frame"}),
    "IPv4": (
        {"eth_type": "ipv4"},
        READ_4 | {"AH", "UDP cut off", "longer than its frame"},
    ),
    "tag inside": ({"eth_type": 0x8100}, {"tag 10, then 20"}),
    "any tag": ({"vlan": "any"}, TAGGED),
    "no tag": ({"vlan": "none"}, ALL - TAGGED),
    "tag 0": ({"vlan": 0}, {"priority tag"}),
    "tag 10": ({"vlan": 10}, TAGGED - {"priority tag"}),
    "tag 20": ({"vlan": 20}, set()),
    "MAC": ({"destination_mac": "02:00:00:00:00:02"}, ALL),
}
"""One rule, and the frames that it matches."""


def told(controller: ControllerProcess) -> set[str]:
    """The names of the frames of which explain says that both sessions copy them."""
    found = set()
    for name, each in FRAMES.items():
        body = {"tenant": "red", "port": "red-web", "hex": each.hex()}
        answer = controller.api.post("/v1/explain", json=body)
        assert answer.status_code == 200, answer.text
        copied = {one["copied"] for one in answer.json()["sessions"]}
        assert len(copied) == 1, f"the same rules for {name} at its sender and its receiver"
        if copied == {True}:
            found.add(name)
    return found


def copied(cloud: SmallCloud) -> dict[str, set[str]]:
    """The names of the frames that come out at each tap port when all of them are sent."""
    got = cloud.lab.exchange([(cloud.at["red-web"], each) for each in FRAMES.values()])
    assert sorted(got[cloud.at["red-db"]]) == sorted(FRAMES.values()), "production"
    found = {}
    for tap in ("red-ids", "red-soc"):
        copies = got[cloud.at[tap]]
        found[tap] = {name for name, each in FRAMES.items() if each in copies}
        assert len(found[tap]) == len(copies), "each at most once, and nothing else"
    return found


@on_both_runtimes
def test_rules_match_what_the_table_of_unusual_packets_says(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    body = {"tenant": "red", "name": "some", "egress": [], "ingress": []}
    assert controller.api.post("/v1/filters", json=body).status_code == 201
    controller.create_session("red", "one", ["web"], "ids", direction="egress", filter="some")
    controller.create_session("red", "two", ["db"], "soc", direction="ingress", filter="some")
    wrong = {}
    for name, (match, wanted) in CASES.items():
        for action, right in (("accept", wanted), ("reject", ALL - wanted)):
            rules = [{"number": 1, "action": action, "match": match}]
            if action == "reject":
                rules.append({"number": 2, "action": "accept", "match": {}})
            answer = controller.api.patch(
                "/v1/filters/some", json={"egress": rules, "ingress": rules}
            )
            assert answer.status_code == 200, answer.text
            seen = {**copied(cloud), "explain": told(controller)}
            for where, found in seen.items():
                if found != right:
                    wrong[f"{action} {name}, {where}"] = (found - right, right - found)
    assert not wrong, "copied without being wanted, and wanted without being copied"


@pytest.mark.parametrize("tci", [10 | DEI, DEI, 5 << 13 | 10 | DEI])
def test_copies_lack_the_drop_eligible_bit_as_production_does(
    cloud: SmallCloud, controller: ControllerProcess, tci: int
) -> None:
    controller.create_session("red", "one", ["web", "db"], "ids")
    sent = frame(IPV4, v4(UDP, DATAGRAM), tci)
    inner = frame(IPV4, v4(UDP, DATAGRAM), 20, tci)
    cleared = frame(IPV4, v4(UDP, DATAGRAM), tci & ~DEI)
    got = cloud.lab.exchange([(cloud.at["red-web"], each) for each in (sent, inner)])
    assert got[cloud.at["red-db"]] == [cleared, inner], "that of an inner tag stays"
    assert got[cloud.at["red-ids"]] == [cleared, inner]


@pytest.mark.parametrize(("length", "is_taken"), [(14, False), (63, False), (64, True)])
def test_a_packet_length_below_the_shortest_frame_is_refused(
    cloud: SmallCloud, controller: ControllerProcess, length: int, is_taken: bool
) -> None:
    prepare(cloud.lab, "s1")
    source = {"kind": "port", "ports": ["web"]}
    body = {"tenant": "red", "name": "one", "source": source, "collector": "ids"}
    answer = controller.api.post("/v1/sessions", json={**body, "packet_length": length})
    assert answer.status_code == (201 if is_taken else 422), answer.text
    if is_taken:
        controller.wait_for_session("one")
    sent = frames.pad(frame(IPV4, v4(UDP, DATAGRAM)), 200)
    got = cloud.lab.exchange([(cloud.at["red-web"], sent)])
    assert got[cloud.at["red-ids"]] == ([sent[:64]] if is_taken else [])
    if not is_taken:
        assert "64" in answer.json()["detail"]


def test_padding_that_does_not_fit_is_cut_where_sessions_leave_long_frames_out(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "one", ["web"], "ids", oversize="skip")
    packet = frame(IPV4, v4(UDP, frames.udp(40_000, 443, bytes(400))))
    padded, long = frames.pad(packet, 900), frame(IPV4, v4(UDP, bytes(800)))
    tap = cloud.at["red-ids"]
    for device in (tap.interface, tap.far):
        subprocess.run(["ip", "link", "set", device, "mtu", "600"], check=True)
    wait_for(lambda: controller.session("one")["status"]["largest_frame"], lambda n: n == 614)
    got = cloud.lab.exchange([(cloud.at["red-web"], each) for each in (packet, padded, long)])
    assert got[cloud.at["red-db"]] == [packet, padded, long]
    # the check of the kernel counts padding: the frame is one that does not fit
    wanted = [packet] if IS_KERNEL else [packet, padded[: 600 + 14]]
    assert got[tap] == wanted
    counts = lambda: controller.session("one")["status"]["copies"]["packets"]  # noqa: E731
    wait_for(counts, lambda n: n == len(wanted))
