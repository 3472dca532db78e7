"""Sessions on a bridge that somebody else owns: every copy that must be made, byte for byte, and no
other; and production as if nobody watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.ovs.attached_cloud import (
    HOSTS,
    OWNER,
    TAP,
    AttachedCloud,
    Script,
    Seen,
    Sent,
    Watch,
    build_attached_cloud,
    check_copies,
    cloudtap,
    expected_copies,
    has_protocol,
    inventory,
    make_collectors,
    nothing,
)
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import MARKER_COOKIE, Lab, ofctl, vsctl
from tests.ovs.owner_database import database_rows, difference

TCP, UDP = has_protocol(6), has_protocol(17)


def rules(protocol: str) -> list[dict[str, Any]]:
    """One rule that accepts a protocol."""
    return [{"number": 10, "action": "accept", "match": {"protocol": protocol}}]


FILTERS = {
    "udp-only": {"ingress": rules("udp"), "egress": rules("udp")},
    "udp-in-tcp-out": {"ingress": rules("udp"), "egress": rules("tcp")},
}
RED_ALL = frozenset(f"red-{host}" for host in HOSTS)
WEB, WEB_DB = frozenset(["red-web"]), frozenset(["red-web", "red-db"])
WISHES: list[tuple[Watch, dict[str, Any]]] = [
    (Watch("red-t1", WEB, ingress=nothing), {"direction": "egress"}),
    (Watch("red-t2", WEB, egress=nothing), {"direction": "ingress"}),
    (Watch("red-t3", WEB_DB), {}),
    (Watch("red-t4", WEB_DB), {}),
    (Watch("red-t5", WEB, UDP, UDP), {"filter": "udp-only"}),
    (Watch("red-t6", WEB_DB, TCP, UDP), {"filter": "udp-in-tcp-out"}),
    (Watch("red-t7", WEB_DB, length=64), {"packet_length": 64}),
    (Watch("red-t8", RED_ALL), {"source": {"kind": "tenant"}}),
    (Watch("blue-t1", frozenset(["blue-web", "blue-db"])), {}),
    (Watch("blue-t2", frozenset(["blue-db"]), egress=nothing), {"direction": "ingress"}),
    (Watch("blue-t3", frozenset(["blue-app"]), ingress=nothing), {"direction": "egress"}),
]
WATCHES = [watch for watch, _ in WISHES]


@pytest.fixture
def cloud(lab: Lab) -> AttachedCloud:
    return build_attached_cloud(lab)


@pytest.fixture
def controller(cloud: AttachedCloud, tmp_path: Path) -> Iterator[ControllerProcess]:
    """A controller to which the attached bridge has connected."""
    cloud.attach()
    with ControllerProcess(tmp_path, inventory()) as process:
        process.start(TAP)
        make_collectors(process)
        yield process
        assert "Traceback" not in process.log()


def make_sessions(controller: ControllerProcess) -> None:
    """All sessions of WISHES, each with the name of its tap port; returns when they copy."""
    for name, lists in FILTERS.items():
        body = {"name": name, "tenant": "red", **lists}
        assert controller.api.post("/v1/filters", json=body).status_code == 201
    for watch, fields in WISHES:
        tenant, _, collector = watch.tap.partition("-")
        ports = sorted(port.partition("-")[2] for port in watch.ports)
        body = {"tenant": tenant, "name": watch.tap, "collector": collector, **fields}
        body.setdefault("source", {"kind": "port", "ports": ports})
        answer = controller.api.post("/v1/sessions", json=body)
        assert answer.status_code == 201, answer.text
    for watch in WATCHES:
        controller.wait_for_session(watch.tap)


def test_each_session_gets_each_of_its_frames_once(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    make_sessions(controller)
    script = Script()
    for _ in range(2):
        sent = script.all_kinds()
        seen = cloud.exchange(sent)
        copies = check_copies(WATCHES, sent, seen)
        print(f"{len(sent)} frames, {copies} copies")
        for watch in WATCHES:
            assert expected_copies(watch, sent, seen), f"nothing is expected at {watch.tap}"
        forged = script.spoofed()
        assert check_copies(WATCHES, forged, cloud.exchange(forged, 1)) > len(forged)


@pytest.mark.parametrize(
    "damage",
    [
        lambda copies: copies[1:],
        lambda copies: [*copies, copies[0]],
        lambda copies: [*copies, copies[0][:-1] + b"!"],
        lambda copies: [copies[0][:12] + b"\x81\x00\x00\x01" + copies[0][12:], *copies[1:]],
        lambda copies: [copies[0][:-1], *copies[1:]],
    ],
    ids=["missing", "twice", "extra", "tagged", "cut"],
)
def test_the_check_notices_a_copy_that_is_wrong(
    damage: Callable[[list[bytes]], list[bytes]],
) -> None:
    script = Script()
    sent = [script.udp("red", "web", "db"), script.udp("red", "db", "web")]
    delivered = {"red-db": [sent[0].frame], "red-web": [sent[1].frame]}
    right = {"red-t1": [sent[0].frame], "red-t2": [sent[1].frame]}
    watches = WATCHES[:2]
    assert check_copies(watches, sent, Seen(delivered, right)) == 2
    for tap, copies in right.items():
        with pytest.raises(AssertionError, match=tap):
            check_copies(watches, sent, Seen(delivered, {**right, tap: damage(copies)}))
    with pytest.raises(AssertionError, match="blue-t1"):
        check_copies(watches, sent, Seen(delivered, {**right, "blue-t1": [sent[0].frame]}))


def test_production_is_the_same_whoever_watches(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    attached = cloud.run_production()
    rows, flows = database_rows(), owners_flows()
    make_sessions(controller)
    watched = cloud.run_production()
    assert watched.delivered == attached.delivered
    assert owners_flows() == flows
    for watch in WATCHES:
        assert controller.delete_session(watch.tap) == 204
    assert cloud.run_production().delivered == attached.delivered
    assert difference(rows, database_rows()) == {}
    assert sum(map(len, attached.delivered.values())) > 100


def test_production_before_the_bridge_is_attached_and_after_it_is_detached_is_the_same(
    cloud: AttachedCloud, tmp_path: Path
) -> None:
    before, rows, flows = cloud.run_production(), database_rows(), owners_flows()
    cloud.attach()
    with ControllerProcess(tmp_path, inventory()) as process:
        process.start(TAP)
        make_collectors(process)
        make_sessions(process)
        assert cloud.run_production().delivered == before.delivered
        cloudtap("detach", OWNER)
        assert difference(rows, database_rows()) == {}
        assert owners_flows() == flows
        assert cloud.run_production().delivered == before.delivered


def test_the_comparison_of_deliveries_sees_one_that_is_missing(cloud: AttachedCloud) -> None:
    before = cloud.run_production()
    assert cloud.run_production().delivered == before.delivered
    ofctl("add-flow", OWNER, "priority=9,in_port=1,udp,actions=drop")
    assert cloud.run_production().delivered != before.delivered


def owners_flows() -> str:
    """The flows of the owner's bridge, without counters."""
    return ofctl("--no-stats", "dump-flows", OWNER)


def test_a_session_of_one_tenant_sees_nothing_of_another_with_equal_addresses(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "red-t1", ["web", "db", "app"], "t1")
    controller.wait_for_session("red-t1")
    script = Script()
    sent = [each for each in script.all_kinds() if each.tenant == "blue"]
    seen = cloud.exchange(sent)
    assert seen.delivered["blue-web"] and not any(seen.copied.values())
    red = [replace(each, name=each.name.replace("blue", "red")) for each in sent]
    seen = cloud.exchange(red)
    watch = Watch("red-t1", RED_ALL)
    assert check_copies([watch], red, seen) > 10


def test_a_packet_that_both_lists_accept_is_copied_once(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    lists = {"ingress": [*rules("tcp"), {**rules("udp")[0], "number": 20}], "egress": rules("udp")}
    body = {"name": "overlapping", "tenant": "red", **lists}
    assert controller.api.post("/v1/filters", json=body).status_code == 201
    controller.create_session("red", "one", ["web", "db"], "t9", filter="overlapping")
    controller.wait_for_session("one")
    watch = Watch("red-t9", WEB_DB, UDP, lambda frame: UDP(frame) or TCP(frame))
    sent = Script().all_kinds()
    assert check_copies([watch], sent, cloud.exchange(sent)) > 10
    forged = Script().spoofed()
    check_copies([watch], forged, cloud.exchange(forged, 1))


def test_what_a_tap_port_sends_reaches_nobody(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    make_sessions(controller)
    script = Script()
    tags = [b"", *(b"\x81\x00" + tci.to_bytes(2, "big") for tci in (0, 1, 2, 77, 4095))]
    sent = [
        Sent(tap, each.frame[:12] + tag + each.frame[12:])
        for tap in cloud.tap_at
        for each in script.all_kinds()[::7]
        for tag in tags
    ]
    seen = cloud.exchange(sent, 32)
    assert not any(seen.delivered.values()) and not any(seen.copied.values())
    # with a way that is opened on both bridges the same look sees it
    patch = next(name for name in vsctl("list-ports", OWNER).split() if name.startswith("ctm"))
    near, far = (ofport(name) for name in (patch, f"ctp{patch[3:]}"))
    tap = cloud.tap_at["red-t1"]
    fence = f"cookie={MARKER_COOKIE:#x},priority=65535"
    ofctl("add-flow", TAP, f"{fence},in_port={tap.ofport},actions=output:{far}")
    ofctl("add-flow", OWNER, f"{fence},in_port={near},actions=output:1")
    seen = cloud.exchange(sent, 32)
    assert seen.delivered["red-web"]


def ofport(interface: str) -> int:
    """The OpenFlow number of an interface."""
    return int(vsctl("get", "Interface", interface, "ofport"))
