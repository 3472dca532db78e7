"""What has arrived at the interface of a sensor is read, however busy this machine is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controller.cli import sniffer as module
from controller.cli.client import Failure
from controller.cli.sniffer import Sniffer
from flows.beacon import Beacon
from flows.model import Dpid

RUN, FRAMES = 7, 10
SHORT_S = 0.05
FOREIGN = bytes(100)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The other end of what a sniffer listens at."""
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    monkeypatch.setattr(module, "_open_inside", lambda *arguments: near)
    with far:
        yield far


def beacon(number: int) -> bytes:
    return Beacon(RUN, Dpid(1), 0, 0, number, FRAMES, 100).frame()


def test_what_waits_in_the_socket_when_the_time_is_over_has_arrived(
    wire: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over, select = threading.Event(), module.select.select

    def select_late(*arguments: Any) -> Any:
        """The thread has no processor before the time is over."""
        assert is_over.wait(30)
        return select(*arguments)

    monkeypatch.setattr(module, "select", SimpleNamespace(select=select_late))
    for number in range(1, FRAMES + 1):
        wire.send(beacon(number))
    with Sniffer("eth0", None) as sniffer:
        threading.Timer(4 * SHORT_S, is_over.set).start()
        sniffer.wait(RUN, FRAMES + 1, SHORT_S)
        assert sniffer.arrivals.count(RUN) == FRAMES
        assert not sniffer.is_behind


def test_a_port_that_is_never_quiet_does_not_keep_the_wait_from_its_end(
    wire: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_receive", lambda source: FOREIGN)
    monkeypatch.setattr(module, "BEHIND_S", SHORT_S)
    wire.send(FOREIGN)
    with Sniffer("eth0", None) as sniffer:
        waiting = threading.Thread(target=sniffer.wait, args=(RUN, 1, 10 * SHORT_S), daemon=True)
        waiting.start()
        waiting.join(30)
        assert not waiting.is_alive()
        assert sniffer.is_behind


def test_a_quiet_port_at_which_nothing_arrives_is_read_to_its_end(wire: socket.socket) -> None:
    with Sniffer("eth0", None) as sniffer:
        sniffer.wait(RUN, 1, SHORT_S)
        assert not sniffer.is_behind
        assert sniffer.arrivals.count(RUN) == 0


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What /proc holds of processes: two hosts of a Mininet, and programs that name one."""
    monkeypatch.setattr(module, "PROCESSES", tmp_path)
    for number, words in {
        17: ["sudo", "cloudtap", "session", "verify", "--netns", "mininet:h1"],
        18: ["watch", "-n1", "mininet:h3"],
        21: ["bash", "--norc", "--noediting", "-is", "mininet:h1"],
        22: ["bash", "--norc", "--noediting", "-is", "mininet:h2"],
        30: ["cloudtap", "session", "verify", "--netns", "mininet:h3"],
        31: [],
    }.items():
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cmdline").write_bytes(b"".join(f"{w}\0".encode() for w in words))
    return tmp_path


def test_a_host_of_a_mininet_is_its_shell_and_no_program_that_names_it(processes: Path) -> None:
    assert module._path("mininet:h1") == Path("/proc/21/ns/net")
    with pytest.raises(
        Failure, match="no Mininet with a host 'h3' runs here; hosts that run: h1, h2"
    ):
        module._path("mininet:h3")
