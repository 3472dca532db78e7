"""cloudtap attached to a br-int of Neutron: its security stays as it was, and copies are exact."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

import pytest

from tests.neutron.cloud import NeutronCloud
from tests.neutron.neutron import UPLINK, agents_flows
from tests.neutron.probes import RandomScript, icmp
from tests.neutron.products import Cloudtap, start_cloudtap
from tests.neutron.rows import ROWS, Row
from tests.ovs.attached_cloud import (
    OWNER,
    Seen,
    Sent,
    Watch,
    appctl,
    check_copies,
    cloudtap,
    expected_copies,
    nothing,
)
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import MARKER_COOKIE, ofctl
from tests.ovs.owner_database import Rows, database_rows, difference
from tests.ovs.waiting import wait_for

PACKETS, SEED, TOGETHER = 2000, 29, 20
"""How many random packets there are, and how many of them share what the bridge has learned."""
AFTER_RESTART = 200
"""Packets that are sent after the restarted agent has deleted what it does not know."""
PROBE = 0xFE9CF
"""Cookie of flows of these tests: nobody else's."""
WATCHES = [
    Watch("red-t1", frozenset(["red-web"]), ingress=nothing),
    Watch("red-t2", frozenset(["red-db"]), egress=nothing),
    Watch("red-t3", frozenset(["red-web", "red-db", "red-app"])),
    Watch("red-t4", frozenset(["red-app"]), length=64),
    Watch("blue-t1", frozenset(["blue-web", "blue-db"])),
    Watch("blue-t2", frozenset(["blue-app"])),
]
FIELDS: dict[str, dict[str, object]] = {
    "red-t1": {"direction": "egress"},
    "red-t2": {"direction": "ingress"},
    "red-t4": {"packet_length": 64},
}


@dataclass
class Attached:
    """A cloud of Neutron with cloudtap attached, and what there was before that."""

    cloud: NeutronCloud
    controller: ControllerProcess
    product: Cloudtap
    rows: Rows
    flows: list[list[str]]


@pytest.fixture(scope="module")
def attached(bare: NeutronCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attached]:
    """The same with cloudtap attached by its own command, and its controller."""
    rows, flows = database_rows(), flows_of_neutron()
    bare.attach()
    with ControllerProcess(tmp_path_factory.mktemp("cloudtap"), bare.inventory()) as process:
        yield Attached(bare, process, start_cloudtap(bare, process), rows, flows)
        assert "Traceback" not in process.log()


@contextmanager
def sessions(controller: ControllerProcess) -> Iterator[None]:
    """The sessions of WATCHES, from when they copy; they are deleted at the end."""
    try:
        for watch in WATCHES:
            tenant, _, collector = watch.tap.partition("-")
            hosts = sorted(port.partition("-")[2] for port in watch.ports)
            fields = FIELDS.get(watch.tap, {})
            controller.create_session(tenant, watch.tap, hosts, collector, **fields)
        for watch in WATCHES:
            controller.wait_for_session(watch.tap)
        yield
    finally:
        for watch in WATCHES:
            controller.api.delete(f"/v1/sessions/{watch.tap}")


def run(cloud: NeutronCloud, sent: Sequence[Sent]) -> Seen:
    """Send frames one by one; before each few of them the bridge forgets what it has learned.

    Addresses are learned only from packets that need an upcall, so each of them needs one. What
    conntrack knows expires by the clock: a few packets are sent within a fraction of that. A frame
    and its copies leave in one pass: a marker of the same port is behind all of them.

    Raises:
        AssertionError: a piece of a datagram was not put together. It comes out some 15 s later,
            with any other packet, to the receivers of that: no two such runs are equal.
    """
    whole, lab, others, before = Seen(), cloud.lab, cloud.lab.marker_senders, lone_pieces()
    for number, each in enumerate(sent):
        if number % TOGETHER == 0:
            for words in (("dpctl/flush-conntrack",), ("fdb/flush", OWNER), ("fdb/flush", UPLINK)):
                appctl(*words)
        lab.marker_senders = [cloud.at.get(each.name, cloud.trunk)]
        seen = cloud.exchange([each], 1, lambda: appctl("revalidator/purge"))
        for mine, theirs in ((whole.delivered, seen.delivered), (whole.copied, seen.copied)):
            for name, frames_there in theirs.items():
                mine.setdefault(name, []).extend(frames_there)
    lab.marker_senders = others
    assert lone_pieces() == before, "pieces of datagrams that were not put together"
    return whole


def lone_pieces() -> dict[str, int]:
    """What conntrack of the datapath has seen of pieces that it could not put together, and how
    many it holds now (``num frag``)."""
    command = ["ovs-appctl", "dpctl/ipf-get-status"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    pairs = [line.strip().rpartition(":") for line in shown.splitlines()]
    kinds = ("num frag", "expired", "too small", "overlapped", "purged")
    return {name: int(number) for name, _, number in pairs if name.endswith(kinds)}


def differences(one: Seen, other: Seen) -> list[tuple[str, str, str]]:
    """Deliveries that only one of two runs has, or has elsewhere in their order: the first few."""
    found = []
    for name in sorted(one.delivered.keys() | other.delivered.keys()):
        pairs = zip_longest(one.delivered.get(name, []), other.delivered.get(name, []))
        wrong = [(a, b) for a, b in pairs if a != b][:1]
        found += [(name, (a or b"").hex()[:120], (b or b"").hex()[:120]) for a, b in wrong]
    return found


def flows_of_neutron() -> list[list[str]]:
    """All flows of its bridges."""
    return [agents_flows(bridge, MARKER_COOKIE) for bridge in (OWNER, UPLINK)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.measure.__name__)
def test_what_a_tap_must_not_break_and_must_deliver(attached: Attached, row: Row) -> None:
    assert row.measure(attached.product) == row.right


def test_random_packets_are_delivered_as_without_sessions_and_copied_exactly(
    attached: Attached,
) -> None:
    """What two runs without sessions have in common is what a third one can be compared with."""
    cloud, flows, rows = attached.cloud, flows_of_neutron(), rows_without_mirrors()
    sent = RandomScript(SEED).frames(PACKETS)
    without, again = run(cloud, sent), run(cloud, sent)
    assert differences(without, again) == [], "these packets are no measure of anything"
    assert not any(without.copied.values()) and not any(again.copied.values())
    with sessions(attached.controller):
        watched = run(cloud, sent)
        assert flows_of_neutron() == flows
    assert differences(without, watched) == []
    copies = check_copies(WATCHES, sent, watched)
    delivered = sum(map(len, watched.delivered.values()))
    print(f"{len(sent)} packets, {delivered} deliveries, {copies} copies")
    assert delivered > PACKETS / 2 and copies > PACKETS / 2
    for watch in WATCHES:
        assert expected_copies(watch, sent, watched), f"nothing is expected at {watch.tap}"
    assert difference(rows, rows_without_mirrors()) == {}


def rows_without_mirrors() -> Rows:
    """The rows when the Mirrors of all sessions that have ended are gone: they go soon after."""
    return wait_for(database_rows, lambda rows: all(table != "Mirror" for table, _ in rows))


def test_pieces_that_are_not_put_together_are_noticed(attached: Attached) -> None:
    """A first piece that is too short is dropped, so the last one waits until it expires."""
    script = RandomScript(SEED)
    with pytest.raises(AssertionError, match="not put together"):
        run(attached.cloud, script.short_pieces("blue"))

    def look() -> int:
        attached.cloud.receive(script.udp("blue", "far", "web"))
        return lone_pieces()["num frag"]

    wait_for(look, (0).__eq__)


def test_the_comparison_sees_one_delivery_that_is_missing(attached: Attached) -> None:
    sent = [icmp("red", "web", "db"), icmp("red", "db", "web")]
    before = run(attached.cloud, sent)
    assert differences(before, run(attached.cloud, sent)) == []
    assert before.delivered["red-db"] and before.delivered["red-web"]
    port = attached.cloud.at["red-web"].ofport
    drop = f"cookie={PROBE:#x},priority=65000,in_port={port},icmp,actions=drop"
    ofctl("add-flow", OWNER, drop)
    try:
        assert differences(before, run(attached.cloud, sent))
    finally:
        ofctl("del-flows", OWNER, f"cookie={PROBE:#x}/-1")
    assert differences(before, run(attached.cloud, sent)) == []


def test_no_copy_is_lost_while_the_agent_restarts(attached: Attached) -> None:
    cloud = attached.cloud
    attached.product.tap()
    sent = send_during_restart(cloud, must_arrive=True)
    assert sent > AFTER_RESTART
    check_after_restart(attached)


def test_no_copy_is_lost_when_the_agent_drops_all_flows_at_its_start(attached: Attached) -> None:
    cloud = attached.cloud
    assert cloud.neutron is not None
    cloud.neutron.drop_flows_on_start = True
    attached.product.tap()
    try:
        sent = send_during_restart(cloud, must_arrive=False)
    finally:
        cloud.neutron.drop_flows_on_start = False
    assert sent > AFTER_RESTART
    check_after_restart(attached)


def send_during_restart(cloud: NeutronCloud, must_arrive: bool) -> int:
    """Send packets of the tapped workload while the agent restarts; returns how many.

    Each must be copied before the next is sent, and delivered too, if it ``must_arrive``. It ends
    when the agent has deleted flows that it does not know, and some packets later.
    """
    ofctl("add-flow", OWNER, f"cookie={PROBE:#x},table=0,priority=1,dl_type=0x88b7,actions=drop")
    number = after = 0
    with ThreadPoolExecutor(1) as pool:
        restart = pool.submit(cloud.restart_agent)
        while after < AFTER_RESTART:
            after += restart.done()
            number += 1
            request = icmp("red", "db", "web", number=number % 60000)
            cloud.send(request)
            wait_for(partial(arrives, cloud.tap_at["red-t1"], request.frame), bool)
            if must_arrive:
                wait_for(partial(arrives, cloud.at["red-web"], request.frame), bool)
        restart.result()
    assert not has_probe()
    cloud.lab.install_markers()  # the agent has deleted their flows
    return number


def arrives(endpoint: Endpoint, frame: bytes) -> bool:
    """Whether this frame is the next one at an endpoint."""
    found = endpoint.receive_raw()
    assert found is None or found == frame, found.hex()
    return found is not None


def has_probe() -> bool:
    """Whether the flow that no agent knows is still there."""
    return f"cookie={PROBE:#x}," in ofctl("dump-flows", OWNER, f"cookie={PROBE:#x}/-1")


def check_after_restart(attached: Attached) -> None:
    """Copies go on, exactly, and the session has said so all the time."""
    assert attached.controller.session("row")["status"]["state"] == "active"
    attached.product.untap()
    sent = RandomScript(SEED + 1).frames(TOGETHER * 5)
    with sessions(attached.controller):
        assert check_copies(WATCHES, sent, run(attached.cloud, sent)) > len(sent) / 2


def test_detach_leaves_rows_and_flows_of_neutron_as_they_were(attached: Attached) -> None:
    """The last test of this file: nothing is attached after it."""
    flows = flows_of_neutron()
    with sessions(attached.controller):
        assert difference(attached.rows, database_rows())
        cloudtap("detach", OWNER)
        assert difference(attached.rows, database_rows()) == {}
        assert flows_of_neutron() == flows
        assert [cookieless(f) for f in flows] == [cookieless(f) for f in attached.flows]
        for watch in WATCHES:
            wait_for(
                partial(attached.controller.session, watch.tap),
                lambda seen: seen["status"]["state"] != "active",
            )


def cookieless(flows: list[str]) -> list[str]:
    """Flows without the cookie, which is another one after each start of the agent."""
    return sorted(flow.partition(", ")[2] for flow in flows)
