"""A bridge of somebody else that has room for fewer Mirrors than sessions want: some share one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from flows.model import MIRRORS_MAX
from tests.ovs.attached_cloud import (
    OWNER,
    TAP,
    AttachedCloud,
    Script,
    Sent,
    Watch,
    build_attached_cloud,
    check_copies,
    inventory,
    make_collectors,
)
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import Lab, vsctl
from tests.ovs.test_controller_attached import WATCHES, make_sessions
from tests.ovs.waiting import wait_for

ROOM = 3
SHARED = "come from a Mirror that sessions share"
NOT_TOLD = [address.to_bytes(6, "big") for address in (0x0200000000EE, 0x0180C200000E)]
"""An address that nobody has, so that frames are flooded, and one that NORMAL forwards to nobody:
what the status of a session with a shared Mirror warns of."""


@pytest.fixture
def cloud(lab: Lab) -> AttachedCloud:
    return build_attached_cloud(lab)


@pytest.fixture
def controller(cloud: AttachedCloud, tmp_path: Path) -> Iterator[ControllerProcess]:
    """A controller of a tap bridge whose owner has many Mirrors of its own."""
    cloud.lab.add_ports(OWNER, [30])
    make_others(MIRRORS_MAX - ROOM)
    cloud.attach()
    with ControllerProcess(tmp_path, inventory()) as process:
        process.start(TAP)
        make_collectors(process)
        yield process
        assert "Traceback" not in process.log()


def make_others(many: int, first: int = 0) -> None:
    """Mirrors of somebody else, which select nothing."""
    words = ["--", "--id=@o", "get", "Port", f"{OWNER}-eth30"]
    for number in range(first, first + many):
        words += ["--", f"--id=@m{number}", "create", "Mirror", f"name=other{number}"]
        words += ["output_port=@o", "--", "add", "Bridge", OWNER, "mirrors", f"@m{number}"]
    vsctl(*words)


def our_mirrors() -> list[str]:
    """The names of ours."""
    names = vsctl("--bare", "--columns=name", "find", "Mirror").split()
    return sorted(name for name in names if name.startswith("ctm"))


def honest(script: Script) -> list[Sent]:
    """Frames that reach those to whom they are addressed."""
    return [each for each in script.all_kinds() if each.frame[:6] not in NOT_TOLD]


def test_each_session_gets_each_of_its_frames_once_though_most_share_a_mirror(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    make_sessions(controller)
    wait_for(our_mirrors, lambda names: len(names) == ROOM - 1)
    reasons = {w.tap: " ".join(controller.session(w.tap)["status"]["reasons"]) for w in WATCHES}
    sharing = {tap for tap, said in reasons.items() if SHARED in said}
    print(f"{len(sharing)} of {len(WATCHES)} sessions share a Mirror", reasons)
    assert len(WATCHES) - 2 <= len(sharing) < len(WATCHES)
    script = Script()
    for _ in range(2):
        sent = honest(script)
        copies = check_copies(WATCHES, sent, cloud.exchange(sent))
        print(f"{len(sent)} frames, {copies} copies")
    with pytest.raises(AssertionError, match="extra"):
        check_copies(WATCHES[1:], sent, cloud.exchange(sent))


def test_whatever_is_sent_no_tenant_gets_a_frame_of_another_or_one_twice(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    make_sessions(controller)
    script = Script()
    sent = [*script.all_kinds(), *script.spoofed()]
    copied = cloud.exchange(sent, 1).copied
    for watch in WATCHES:
        tenant = watch.tap.partition("-")[0]
        mine = [each.frame[: watch.length] for each in sent if each.tenant == tenant]
        assert copied[watch.tap], watch.tap
        assert len(set(copied[watch.tap])) == len(copied[watch.tap])
        assert set(copied[watch.tap]) <= set(mine)


def test_a_session_that_comes_to_share_the_mirror_interrupts_no_other(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    watches = [
        Watch("red-t1", frozenset(["red-web"])),
        Watch("red-t2", frozenset(["red-db"])),
        Watch("blue-t1", frozenset(["blue-web"])),
    ]
    for watch in watches:
        create(controller, watch.tap, watch.ports)
    more = [("red-t3", "app"), ("blue-t2", "db"), ("blue-t3", "app")]
    script = Script()
    sent, bursts = honest(script), count()

    def between() -> None:
        """One more session now and then, while frames go on: nobody waits until it copies."""
        number, pause = divmod(next(bursts), 5)
        if pause == 0 and number < len(more):
            tap, host = more[number]
            tenant, _, collector = tap.partition("-")
            controller.create_session(tenant, tap, [host], collector)

    seen = cloud.exchange(sent, 4, between)
    assert next(bursts) > 5 * len(more)
    for tap, _ in more:
        controller.wait_for_session(tap)
        seen.copied.pop(tap)
    assert check_copies(watches, sent, seen) > 10
    assert len(our_mirrors()) <= ROOM
    for tap, _ in more:
        assert controller.delete_session(tap) == 204
    sent = honest(script)
    assert check_copies(watches, sent, cloud.exchange(sent)) > 10


def create(controller: ControllerProcess, tap: str, ports: frozenset[str]) -> None:
    """A session with the name of its tap port; returns when it copies."""
    tenant, _, collector = tap.partition("-")
    hosts = sorted(port.partition("-")[2] for port in ports)
    controller.create_session(tenant, tap, hosts, collector)
    controller.wait_for_session(tap)


def test_sessions_say_that_there_is_no_room_at_all(
    cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    make_others(ROOM, MIRRORS_MAX - ROOM)
    controller.create_session("red", "one", ["web"], "t1")
    words = f"Open vSwitch makes at most {MIRRORS_MAX} Mirrors for a bridge"
    controller.wait_for_session("one", "pending", words)
    vsctl(
        "--", "--id=@m", "get", "Mirror", "other0", "--", "remove", "Bridge", OWNER, "mirrors", "@m"
    )
    controller.wait_for_session("one")
