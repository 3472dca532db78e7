"""What changes while frames flow on a tapped bridge of somebody else: sessions come and go, a
workload restarts, ovs-vswitchd restarts, the bridge is detached."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import frames
from tests.ovs.attached_cloud import (
    APP,
    DB,
    OWNER,
    TAP,
    WEB,
    WORKLOADS,
    AttachedCloud,
    Script,
    Watch,
    build_attached_cloud,
    check_copies,
    cloudtap,
    inventory,
    make_collectors,
    tag_port,
)
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import MARKER_COOKIE, Lab, ofctl, vsctl
from tests.ovs.open_vswitch import kill, start_vswitchd
from tests.ovs.owner_database import database_rows, difference
from tests.ovs.traffic import Traffic
from tests.ovs.waiting import wait_for

ROUNDS = 5
FLOOD_MAC = 0x0200000000F0
FLOODS_PER_S = 1000
TREES = {"stp": ("status", "stp_state"), "rstp": ("rstp_status", "rstp_port_state")}
"""Where each kind of spanning tree says that a port forwards."""
BOTH = Watch("red-t1", frozenset(["red-web", "red-db"]))


@pytest.fixture
def cloud(lab: Lab) -> AttachedCloud:
    built = build_attached_cloud(lab)
    built.attach()
    return built


@pytest.fixture
def controller(cloud: AttachedCloud, tmp_path: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, inventory()) as process:
        process.start(TAP)
        make_collectors(process)
        yield process
        assert "Traceback" not in process.log()


def make_session(controller: ControllerProcess) -> None:
    """A session that watches both ends of red's traffic; returns when it copies."""
    controller.create_session("red", "one", ["web", "db"], "t1")
    controller.wait_for_session("one")


def our_mirrors() -> list[str]:
    """The names of the Mirrors in the database."""
    return vsctl("--bare", "--columns=name", "list", "Mirror").split()


# --- while another tenant floods ----------------------------------------------------------------


class Flood:
    """Broadcasts at a high rate, and how many of them have entered the tap bridge."""

    def __init__(self, sender: Endpoint) -> None:
        self._sender, self.sent = sender, 0
        self._frame = frames.ethernet(frames.BROADCAST, FLOOD_MAC, 0x88B6, bytes(46))
        self._is_over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[Flood]:
        """Send inside the block."""
        thread = threading.Thread(target=self._send)
        thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            thread.join()

    def _send(self) -> None:
        while not self._is_over.wait(1 / FLOODS_PER_S):
            self._sender.send(self._frame)
            self.sent += 1

    def wait_for_more(self, number: int) -> None:
        """Block until so many more were sent."""
        wanted = self.sent + number
        wait_for(lambda: self.sent, lambda sent: sent >= wanted)


def watch_for_floods() -> None:
    """Have the tap bridge count frames of a flood, wherever they come from."""
    flow = f"cookie={MARKER_COOKIE:#x},priority=65535,dl_src={_mac(FLOOD_MAC)},actions=drop"
    ofctl("add-flow", TAP, flow)


def floods_seen(lab: Lab) -> int:
    """How many frames of a flood have entered the tap bridge."""
    lab.wait_settled()
    text = ofctl("dump-flows", TAP, f"cookie={MARKER_COOKIE:#x}/-1")
    return int(text.partition("n_packets=")[2].partition(",")[0])


def _mac(number: int) -> str:
    return ":".join(f"{byte:02x}" for byte in frames.mac_bytes(number))


def test_no_frame_of_another_tenants_flood_enters_the_tap_bridge(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    watch_for_floods()
    with Flood(cloud.at["blue-app"]).running() as flood:
        for _ in range(ROUNDS):
            flood.wait_for_more(50)
            make_session(controller)
            flood.wait_for_more(50)
            assert controller.delete_session("one") == 204
        flood.wait_for_more(50)
        wait_for(our_mirrors, lambda names: not names)
        flood.wait_for_more(50)
    assert floods_seen(cloud.lab) == 0
    cloud.lab.flush()
    assert not any(cloud.copies_at(tap) for tap in cloud.tap_at)
    print(f"{flood.sent} broadcasts, {ROUNDS} sessions")


def test_a_flood_of_a_watched_workload_is_seen_to_enter(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    watch_for_floods()
    make_session(controller)
    with Flood(cloud.at["red-web"]).running() as flood:
        flood.wait_for_more(50)
    wait_for(lambda: floods_seen(cloud.lab), lambda seen: seen > 0)


# --- while sessions end -------------------------------------------------------------------------


def test_no_frame_is_copied_after_the_answer_that_a_session_is_deleted(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    tap = cloud.tap_at["red-t1"]
    with Traffic([cloud.at["red-web"], cloud.at["red-db"], tap]) as traffic:
        stream = traffic.add(cloud.at["red-web"], WEB, DB)
        for _ in range(ROUNDS):
            make_session(controller)
            first = traffic.now(stream)
            traffic.wait_until_spread(stream, tap, first + 10)
            copied = traffic.arrived(stream, tap)
            assert all(copied[number] == 1 for number in range(first + 1, first + 11))
            assert controller.delete_session("one") == 204
            over = traffic.now(stream)
            traffic.wait_until_spread(stream, cloud.at["red-db"], over + 50)
            traffic.wait_until_read()
            copied = traffic.arrived(stream, tap)
            assert not [number for number in range(over + 1, over + 51) if copied[number]]
            wait_for(our_mirrors, lambda names: not names)


def test_deleting_one_of_two_equal_sessions_leaves_the_other_every_copy(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    make_session(controller)
    controller.create_session("red", "two", ["web", "db"], "t2")
    controller.wait_for_session("two")
    assert len(our_mirrors()) == 1, "equal sources share a Mirror"
    ends = [cloud.at["red-web"], cloud.at["red-db"], cloud.tap_at["red-t2"]]
    with Traffic(ends) as traffic:
        stream = traffic.add(cloud.at["red-web"], WEB, DB)
        traffic.wait_until_spread(stream, cloud.tap_at["red-t2"], traffic.now(stream) + 10)
        first = traffic.now(stream)
        assert controller.delete_session("one") == 204
        last = traffic.now(stream) + 50
        traffic.wait_until_spread(stream, cloud.tap_at["red-t2"], last)
        copied = traffic.arrived(stream, cloud.tap_at["red-t2"])
        assert [n for n in range(first + 1, last + 1) if copied[n] != 1] == []


@pytest.mark.parametrize("tree", TREES)
def test_a_spanning_tree_of_the_owner_neither_sees_nor_delays_copies(
    cloud: AttachedCloud, controller: ControllerProcess, tree: str
) -> None:
    column, key = TREES[tree]
    vsctl("set", "Bridge", OWNER, f"{tree}_enable=true", f"other_config:{tree}-forward-delay=4")
    for number in WORKLOADS:
        words = ("--if-exists", "get", "Port", f"{OWNER}-eth{number}", f"{column}:{key}")
        wait_for(lambda words=words: vsctl(*words).strip().lower(), "forwarding".__eq__)
    make_session(controller)
    sent = Script().all_kinds()
    assert check_copies([BOTH], sent, cloud.exchange(sent)) > 10
    [mirror] = our_mirrors()
    assert key not in vsctl("get", "Port", mirror, column), "our port is in no tree"


# --- while workloads and the switch restart -----------------------------------------------------


def test_a_workload_that_is_plugged_in_again_is_copied_again(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    make_session(controller)
    script = Script()
    cloud.wait_until_copied(lambda: script.udp("red", "web", "db"), "red-t1")
    cloud.lab.remove_port(cloud.at["red-web"])
    controller.wait_for_session("one", "degraded")
    begun = time.monotonic()
    [cloud.at["red-web"]] = cloud.lab.add_ports(OWNER, [21], {21: "red-web"})
    tag_port(21, "red-web")
    cloud.lab.marker_senders = [*cloud.at.values(), cloud.trunk]
    cloud.wait_until_copied(lambda: script.udp("red", "web", "app"), "red-t1")
    print(f"copied again {time.monotonic() - begun:.2f} s after the plug")
    controller.wait_for_session("one")
    wait_for(our_mirrors, lambda names: len(names) == 1)
    sent = script.all_kinds()
    assert check_copies([BOTH], sent, cloud.exchange(sent)) > 10


def test_copies_are_exact_after_a_restart_of_the_switch(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    make_session(controller)
    script = Script()
    before = script.all_kinds()
    check_copies([BOTH], before, cloud.exchange(before))
    names = our_mirrors()
    kill("ovs-vswitchd")
    start_vswitchd()
    controller.wait_until_connected(TAP)
    cloud.wait_until_copied(lambda: script.udp("red", "web", "db"), "red-t1")
    controller.wait_for_session("one")
    cloud.lab.install_markers()
    sent = script.all_kinds()
    assert check_copies([BOTH], sent, cloud.exchange(sent)) > 10
    assert our_mirrors() == names


def test_copies_go_on_without_a_controller_and_are_exact_when_it_is_back(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    make_session(controller)
    script = Script()
    rows = database_rows()
    controller.end()
    sent = script.all_kinds()
    assert check_copies([BOTH], sent, cloud.exchange(sent)) > 10
    controller.start(TAP)
    controller.wait_for_session("one")
    sent = script.all_kinds()
    assert check_copies([BOTH], sent, cloud.exchange(sent)) > 10
    kinds = {key[0] for key in difference(rows, database_rows())}
    assert kinds <= {"Controller", "Bridge"}, "the test has set the controller of the tap bridge"


# --- while Mirrors of others are there, or ours are touched ---------------------------------------


def test_a_mirror_that_somebody_has_altered_is_made_anew(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    make_session(controller)
    [name] = our_mirrors()
    first = vsctl("get", "Mirror", name, "_uuid")
    app = vsctl("get", "Port", f"{OWNER}-eth3", "_uuid").strip()
    vsctl("add", "Mirror", name, "select_src_port", app)
    wait_for(our_mirrors, lambda names: names == [name] and _uuid(name) not in ("", first))
    controller.wait_for_session("one")
    script = Script()
    sent = script.all_kinds()
    assert check_copies([BOTH], sent, cloud.exchange(sent)) > 10


def _uuid(mirror: str) -> str:
    """The uuid of a Mirror; empty if there is none of this name, or more than one."""
    found = vsctl("--bare", "--columns=_uuid", "find", "Mirror", f"name={mirror}").split()
    return f"{found[0]}\n" if len(found) == 1 else ""


def test_mirrors_of_the_owner_are_left_alone_and_go_on(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    [span] = cloud.lab.add_ports(OWNER, [30])
    cloud.lab.marker_senders = [*cloud.at.values(), cloud.trunk]
    vsctl(
        *("--", "--id=@s", "get", "Port", f"{OWNER}-eth3", "--"),
        *("--id=@o", "get", "Port", f"{OWNER}-eth30", "--", "--id=@m", "create", "Mirror"),
        *("name=span", "select_src_port=@s", "output_port=@o"),
        *("--", "add", "Bridge", OWNER, "mirrors", "@m"),
    )
    rows = database_rows()
    make_session(controller)
    sent = [*Script().all_kinds()]
    check_copies([BOTH], sent, cloud.exchange(sent))
    span.receive_all()
    cloud.at["red-app"].send(frames.pad(frames.ethernet(WEB, APP, 0x88B6, b"span")))
    cloud.lab.flush()
    assert any(b"span" in frame for frame in span.receive_all())
    assert controller.delete_session("one") == 204
    wait_for(our_mirrors, lambda names: names == ["span"])
    assert difference(rows, database_rows()) == {}


# --- detach ---------------------------------------------------------------------------------------


def test_a_bridge_is_detached_while_sessions_run(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    with_tap = database_rows()
    make_session(controller)
    script = Script()
    cloud.wait_until_copied(lambda: script.udp("red", "web", "db"), "red-t1")
    said = cloudtap("detach", OWNER)
    assert "1 Mirror of cloudtap" in said and f"{TAP}-eth11" in said
    left = database_rows()
    assert "cloudtap" not in repr(left)
    kept = {key: row for key, row in with_tap.items() if key in left}
    changed = {key[0] for key in difference(kept, left)}
    assert changed == {"Open_vSwitch"}, "the list of bridges"
    reasons = controller.wait_for_session("one", "pending")["status"]["reasons"]
    print(reasons)
    assert reasons
    sent = [script.udp("red", "web", "db") for _ in range(10)]
    seen = cloud.exchange(sent)
    assert seen.delivered["red-db"] == [each.frame for each in sent]
    assert not any(seen.copied.values())


def test_ports_of_the_owners_bridge_are_those_of_workloads(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    assert all(controller.place(port) is not None for port in WORKLOADS.values())
