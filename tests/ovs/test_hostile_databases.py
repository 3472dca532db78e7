"""Databases that are hostile, broken or huge: what is wrong is said, and nothing else notices."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.databases.main import MEMORY_MAX
from controller.process import ChangeSignal
from controller.southbound.ovsdb import (
    OvsdbSnapshot,
    OvsdbWatcher,
    RemoteState,
    TunnelDemand,
)
from controller.southbound.ovsdb.watcher import MOST_PROCESSES
from controller.southbound.ovsdb.write_pace import QUICK_WRITES
from flows.model import Dpid, TunnelKind
from tests.ovs import hostile_databases as hostile
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.database_server import DatabaseServer
from tests.ovs.lab import Lab, vsctl
from tests.ovs.processor import Stopwatch
from tests.ovs.small_cloud import INVENTORY, SmallCloud, build_cloud, make_collectors
from tests.ovs.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
LOCAL = "unix:/run/openvswitch/db.sock"
PATIENT_S = 120.0
HUGE_S = 900.0
"""The same for tens of thousands of rows: who reads them yields to all else on the machine."""
END_S = 30.0
"""The end of a connection is known in so much time, whatever was sent before it."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ANSWER_S = 15.0
"""Answers take a fraction of a second; a controller that is held takes minutes."""


class Nobody:
    """Who does not care."""

    def interfaces_changed(self, snapshot: OvsdbSnapshot) -> None:
        """It is read from the watcher."""


class Busy:
    """Who takes long over each change."""

    def __init__(self) -> None:
        self.stopping = threading.Event()

    def interfaces_changed(self, snapshot: OvsdbSnapshot) -> None:
        """Take part of a second, as a controller of many bridges does on a busy machine."""
        self.stopping.wait(0.3)


@pytest.fixture
def watch() -> Iterator[Callable[..., OvsdbWatcher]]:
    watchers: list[OvsdbWatcher] = []

    def start(*remotes: str) -> OvsdbWatcher:
        watchers.append(OvsdbWatcher(remotes, Nobody(), ChangeSignal()))
        watchers[-1].start()
        return watchers[-1]

    yield start
    for watcher in watchers:
        watcher.stop()


def reason_of(watcher: OvsdbWatcher, remote: str) -> str:
    return watcher.statuses()[remote].reason


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (hostile.sends_a_string_without_end, "a string of more than"),
        (hostile.sends_values_without_end, "it sent a message of more than"),
        (hostile.sends_messages_without_end, "of ours unread"),
        (hostile.sends_garbage, "what is not a JSON object"),
        (hostile.trickles, "has completed no message"),
        (hostile.says_nothing, "has completed no message"),
        (hostile.goes_silent, "has completed no message"),
        (hostile.closes, "closed the connection"),
        (hostile.never_sends_its_rows, "has not sent its rows within 15 s"),
        (hostile.refuses_to_be_watched, "does not let us watch its rows"),
    ],
)
def test_a_database_that_misbehaves_is_left_with_a_sentence_and_not_asked_again_soon(
    watch: Callable[..., OvsdbWatcher], behaviour: hostile.Behaviour, words: str
) -> None:
    with hostile.databases(behaviour, hostile.has_datapath_id("51")) as (bad, good):
        watcher = watch(bad.remote, good.remote)
        wait_for(lambda: reason_of(watcher, bad.remote), lambda seen: words in seen, PATIENT_S)
        connections, seen_at = bad.connections, time.monotonic()
        wait_for(
            lambda: {row.dpid for row in watcher.snapshot().bridges},
            lambda seen: {0x51} <= seen <= {0x51, 0xFF},
            PATIENT_S,
        )
        state_of = lambda remote: watcher.statuses()[remote].state  # noqa: E731
        wait_for(lambda: state_of(good.remote), RemoteState.SYNCED.__eq__, PATIENT_S)
        wait_for(lambda: bad.connections, lambda count: count > connections, PATIENT_S)
        passed_s = time.monotonic() - seen_at
        assert bad.connections - connections <= 2 + 2 * passed_s, "not again and again"


def test_a_database_that_changes_faster_than_it_is_read_lags_and_its_end_is_not_late() -> None:
    busy = Busy()
    with hostile.databases(hostile.renumbers_as_fast_as_it_goes) as (server,):
        watcher = OvsdbWatcher([server.remote], busy, ChangeSignal())
        watcher.start()
        try:
            wait_for(
                lambda: reason_of(watcher, server.remote),
                lambda seen: "has changed faster than it is read for more than 5 s" in seen,
                PATIENT_S,
            )
            assert watcher.statuses()[server.remote].state is RemoteState.SYNCED
            server.stop()
            wait_for(
                lambda: reason_of(watcher, server.remote),
                lambda seen: "nobody listens" in seen,
                END_S,
            )
        finally:
            busy.stopping.set()
            watcher.stop()


def test_a_database_that_resets_its_connections_makes_no_line_of_the_runtime(
    watch: Callable[..., OvsdbWatcher], capfd: pytest.CaptureFixture[str]
) -> None:
    with hostile.databases(hostile.goes_with_echo_requests) as (server,):
        watcher = watch(server.remote)
        wait_for(lambda: server.connections, lambda count: count >= 3, PATIENT_S)
        assert reason_of(watcher, server.remote)
    assert "raised exception" not in capfd.readouterr().err


def test_rows_with_values_that_cannot_be_right_are_refused_and_all_others_are_there(
    watch: Callable[..., OvsdbWatcher],
) -> None:
    bad_ids = ("-1", "xyz", "0" * 16, "f" * 100_000)
    behaviours = [hostile.has_datapath_id(text) for text in bad_ids]
    with hostile.databases(*behaviours, hostile.has_a_long_iface_id) as servers:
        watcher = watch(*(server.remote for server in servers))
        problems = wait_for(
            lambda: sorted(watcher.row_problems()), lambda seen: len(seen) == 5, PATIENT_S
        )
        for server in servers:
            assert sum(problem.startswith(f"{server.remote}: ") for problem in problems) == 1
        assert sum("datapath_id" in problem for problem in problems) == 4
        assert sum("external_ids:iface-id 'xxx" in problem for problem in problems) == 1
        assert max(map(len, problems)) < 300
        assert [row.dpid for row in watcher.snapshot().bridges] == [0xFF]
        assert not watcher.snapshot().interfaces
        assert all(server.connections == 1 for server in servers), "a bad row ends no connection"


def test_a_write_that_is_not_answered_ends_with_a_sentence(
    watch: Callable[..., OvsdbWatcher],
) -> None:
    with hostile.databases(hostile.refuses_writes) as (server,):
        watcher = watch(server.remote)
        dpid = Dpid(0xFF)
        watcher.secure(dpid)
        watcher.want_tunnels({dpid: TunnelDemand(frozenset([TunnelKind.VXLAN]))})
        (problem,) = wait_for(watcher.tunnel_problems, bool, PATIENT_S).values()
        assert "it did not answer within 10 s" in problem


def test_a_write_that_is_confirmed_and_never_seen_is_not_made_again_and_again(
    watch: Callable[..., OvsdbWatcher],
) -> None:
    writes: list[float] = []

    def lies(connection: hostile.Connection) -> None:
        def answer(message: dict[str, Any]) -> Any:
            writes.append(time.monotonic())
            return [{"count": 1} for _ in message["params"][1:]]

        connection.send_rows(hostile.one_bridge().tables)
        connection.serve(answer)

    with hostile.databases(lies) as (server,):
        watcher = watch(server.remote)
        dpid = Dpid(0xFF)
        watcher.want_tunnels({dpid: TunnelDemand(frozenset([TunnelKind.VXLAN]))})
        (problem,) = wait_for(watcher.tunnel_problems, bool, PATIENT_S).values()
        assert "confirmed the tunnel port for vxlan" in problem and "does not show it" in problem
        wait_for(lambda: len(writes), lambda count: count >= QUICK_WRITES + 2, PATIENT_S)
        assert writes[-1] - writes[QUICK_WRITES - 1] >= 2.5, "pauses of 1 s and 2 s"


def children() -> set[int]:
    """The child processes of this one that talk to databases."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except (OSError, NotADirectoryError):
            continue
        if (
            fields[0] != "Z"
            and fields[1] == str(os.getpid())
            and b"controller.databases" in command
        ):
            found.add(int(folder.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_hangs_is_replaced_and_rows_stay_meanwhile(
    lab: Lab, watch: Callable[..., OvsdbWatcher], number: signal.Signals
) -> None:
    lab.add_bridge("s1", dpid=0x51)
    lab.add_port("s1", 7, iface_id="vm-a")
    watcher = watch(LOCAL)
    names = lambda: {row.name for row in watcher.snapshot().interfaces if row.ofport}  # noqa: E731
    wait_for(names, lambda seen: seen == {"s1-eth7"})
    wait_for(watcher.statuses, lambda seen: seen[LOCAL].state is RemoteState.SYNCED)
    before = watcher.snapshot()
    (child,) = children()

    os.kill(child, number)

    reason = wait_for(lambda: reason_of(watcher, LOCAL), bool, PATIENT_S)
    assert "is not watched: the process that talks to databases" in reason
    assert watcher.snapshot() is before, "what it said last still counts"
    wait_for(watcher.statuses, lambda seen: seen[LOCAL].state is RemoteState.SYNCED, PATIENT_S)
    assert children() and child not in children()
    assert watcher.snapshot() == before
    lab.add_port("s1", 8)
    wait_for(names, lambda seen: seen == {"s1-eth7", "s1-eth8"})


def test_a_database_that_takes_more_memory_than_there_is_is_left_alone(
    watch: Callable[..., OvsdbWatcher], capfd: pytest.CaptureFixture[str]
) -> None:
    """Two databases of one process: the limit of its memory is lowered while it runs."""
    good = [hostile.has_datapath_id(f"{number:x}") for number in range(1, 2 * MOST_PROCESSES)]
    release = threading.Event()

    def waits_and_takes_memory(connection: hostile.Connection) -> None:
        release.wait(PATIENT_S)
        hostile.sends_what_takes_memory(connection)

    with hostile.databases(waits_and_takes_memory, *good) as (bad, *others):
        watcher = watch(bad.remote, *(server.remote for server in others))
        are_synced(watcher, others)
        before = children()
        for child in before:
            memory = int(Path(f"/proc/{child}/statm").read_text().split()[0]) * PAGE_BYTES
            resource.prlimit(child, resource.RLIMIT_AS, (memory + (128 << 20), MEMORY_MAX))
        release.set()
        words = "it takes more than the 2 GiB of memory that there are"
        wait_for(lambda: reason_of(watcher, bad.remote), lambda seen: words in seen, PATIENT_S)
        are_synced(watcher, others)
        assert children() == before, "no process has ended"
        assert all(server.connections == 1 for server in others), "others have not noticed"
    assert "Traceback" not in capfd.readouterr().err


def are_synced(watcher: OvsdbWatcher, servers: Sequence[hostile.HostileDatabase]) -> None:
    """Wait until these databases are."""
    remotes = {server.remote for server in servers}
    wait_for(
        lambda: {r for r, s in watcher.statuses().items() if s.state is RemoteState.SYNCED},
        lambda seen: seen >= remotes,
        PATIENT_S,
    )


def test_many_databases_share_few_processes_and_each_is_watched(
    watch: Callable[..., OvsdbWatcher],
) -> None:
    count = 3 * MOST_PROCESSES + 1
    behaviours = [hostile.has_datapath_id(f"{number:x}") for number in range(1, count + 1)]
    with hostile.databases(*behaviours, hostile.sends_messages_without_end) as (*servers, bad):
        watcher = watch(bad.remote, *(server.remote for server in servers))
        are_synced(watcher, servers)
        everything = [Dpid(number) for number in range(1, count + 1)]
        assert sorted(row.dpid for row in watcher.snapshot().bridges) == everything
        before = children()
        assert len(before) == MOST_PROCESSES

        killed = min(before)
        os.kill(killed, signal.SIGKILL)

        gone = wait_for(
            lambda: [r for r, s in watcher.statuses().items() if "is not watched" in s.reason],
            bool,
            PATIENT_S,
        )
        assert len(gone) <= count // MOST_PROCESSES + 1, "the others go on"
        assert sorted(row.dpid for row in watcher.snapshot().bridges) == everything
        are_synced(watcher, servers)
        assert len(children()) == MOST_PROCESSES and killed not in children()


WATCH = """
import sys, threading
from controller.process import ChangeSignal, configure_logs
from controller.southbound.ovsdb import OvsdbWatcher
configure_logs("error", "console")
class Nobody:
    def interfaces_changed(self, snapshot): print("changed", flush=True)
OvsdbWatcher(sys.argv[1:], Nobody(), ChangeSignal()).start()
threading.Event().wait()
"""
KILLS = 6


def members_of(group: str) -> set[int]:
    """The processes whose environment has this mark, and that are no zombies."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_zombie = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if group.encode() in (folder / "environ").read_bytes() and not is_zombie:
                found.add(int(folder.name))
    return found


def test_the_children_of_a_killed_controller_end_at_once_and_say_nothing() -> None:
    """At different moments: while they start, connect, load, report and wait."""
    behaviours = (
        hostile.has_interfaces(3000), hostile.closes, hostile.goes_silent, hostile.refuses_writes,
        hostile.sends_messages_without_end,
    )  # fmt: skip
    chance = random.Random(1)
    with hostile.databases(*behaviours) as servers:
        for number in range(KILLS):
            mark = f"killed-{os.getpid()}-{number}"
            parent = subprocess.Popen(
                [sys.executable, "-c", WATCH, *(server.remote for server in servers)],
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "MARK_OF_TEST": mark},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            assert parent.stdout is not None and parent.stderr is not None
            wait_for(lambda: len(members_of(mark)), lambda n: n == 1 + len(servers), PATIENT_S)  # noqa: B023
            for _ in range(chance.choice((0, 0, 1, 1, 5, 20))):
                assert parent.stdout.readline() == b"changed\n"
            parent.kill()
            parent.wait()
            wait_for(lambda: members_of(mark), lambda left: not left, PATIENT_S)  # noqa: B023
            assert parent.stderr.read() == b""
            parent.stdout.close()
            parent.stderr.close()


@pytest.fixture
def cloud(lab: Lab) -> SmallCloud:
    return build_cloud(lab)


@pytest.fixture(params=["ryu", "os-ken"])
def controller(
    cloud: SmallCloud, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY, request.param) as process:
        yield process
        assert "Traceback" not in process.log()


def work(controller: ControllerProcess, rounds: int) -> float:
    """Sessions come and go, a port moves; the longest answer, in seconds (see Stopwatch)."""
    longest = 0.0
    for number in range(rounds):
        watch = Stopwatch(controller.pid)
        controller.create_session("red", f"one-{number}", ["web"], "ids")
        controller.wait_for_session(f"one-{number}")
        longest = max(longest, watch.seconds())
        vsctl("set", "Interface", "s1-eth2", "external_ids:iface-id=red-db2")
        wait_for(lambda: controller.place("red-db"), lambda place: place is None, PATIENT_S)
        vsctl("set", "Interface", "s1-eth2", "external_ids:iface-id=red-db")
        wait_for(lambda: controller.place("red-db"), lambda place: place == ("s1", 2), PATIENT_S)
        assert controller.delete_session(f"one-{number}") == 204
    return longest


@contextmanager
def health_asked(controller: ControllerProcess) -> Iterator[None]:
    """Ask /healthz again and again; no answer may take long."""
    stopping, longest = threading.Event(), [0.0]

    def ask() -> None:
        with httpx.Client(base_url=controller.api.base_url, timeout=PATIENT_S) as client:
            while not stopping.wait(0.05):
                watch = Stopwatch(controller.pid)
                client.get("/healthz")
                longest[0] = max(longest[0], watch.seconds())

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    assert longest[0] < ANSWER_S


def test_with_hostile_databases_of_every_kind_everything_else_goes_on(
    controller: ControllerProcess,
) -> None:
    with hostile.databases(
        hostile.sends_a_string_without_end,
        hostile.sends_messages_without_end,
        hostile.has_a_long_iface_id,
        hostile.has_datapath_id("-1"),
        hostile.has_datapath_id("xyz"),
        hostile.closes,
        hostile.trickles,
    ) as servers:
        remotes = ",".join([LOCAL, *(server.remote for server in servers)])
        controller.start("s1", ovsdb__remotes=remotes, ovsdb__connect_timeout="1")
        make_collectors(controller)
        with health_asked(controller):
            assert work(controller, 3) < ANSWER_S
        for words in ("a string of more than", "iface-id", "'-1'", "'xyz'", "closed the conn"):
            controller.wait_for_problem(words)
    assert len(controller.log()) < 200_000
    controller.end()
    controller.start("s1")
    controller.wait_for_bridge("s1")
    assert "datapath_id" not in " ".join(controller.status()["problems"]), "nothing was kept"


def test_beside_a_database_of_100_000_interfaces_of_which_one_flaps_everything_else_goes_on(
    controller: ControllerProcess,
) -> None:
    with hostile.databases(hostile.has_interfaces(100_000)) as (huge,):
        controller.start("s1", ovsdb__remotes=f"{LOCAL},{huge.remote}", ovsdb__connect_timeout="1")
        make_collectors(controller)
        with health_asked(controller):
            assert work(controller, 3) < ANSWER_S
            wait_until_synced(controller, huge.remote)
            assert work(controller, 3) < ANSWER_S


def wait_until_synced(controller: ControllerProcess, remote: str) -> None:
    wait_for(
        lambda: [p for p in controller.status()["problems"] if remote in p],
        lambda seen: not seen,
        HUGE_S,
    )


def test_beside_a_real_server_with_20_000_ports_of_which_one_flaps_everything_else_goes_on(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    server = DatabaseServer(tmp_path)
    server.start()
    try:
        server.fill("huge", 0xFF, 20_000)
        remotes = f"{LOCAL},{server.remote}"
        controller.start("s1", ovsdb__remotes=remotes, ovsdb__connect_timeout="1")
        make_collectors(controller)
        wait_until_synced(controller, server.remote)
        with server.flapping("vm7"), health_asked(controller):
            assert work(controller, 5) < ANSWER_S
    finally:
        server.kill()
