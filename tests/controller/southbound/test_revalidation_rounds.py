"""Counting rounds of revalidators where ovs-vswitchd has datapaths of several types."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controller.southbound import CommandFailed, Revalidation, revalidation
from controller.southbound.ovsdb import BridgeRow, OvsdbSnapshot
from controller.southbound.revalidation import wait_revalidated
from controller.southbound.revalidation_rounds import wait_for_rounds
from flows.model import Dpid

LOCAL = "unix:/run/openvswitch/db.sock"


class Datapaths:
    """An ovs-vswitchd with several datapaths, as far as rounds can be seen from outside.

    ``paused`` datapaths begin no round. A round deletes each megaflow once, as it meets it; what is
    added behind it lasts until the next one.
    """

    def __init__(self, *kinds: str) -> None:
        self.megaflows: dict[str, set[str]] = {f"{kind}@ovs-{kind}": set() for kind in kinds}
        self.rounds: Counter[str] = Counter()
        self.paused: set[str] = set()
        self.refuses = ""

    def ask(self, command: str, *arguments: str, **_: object) -> str:
        assert command == "dpctl/add-flow"
        name, match, _actions = arguments
        if self.refuses or name not in self.megaflows:
            raise CommandFailed(self.refuses or f"ovs-vswitchd: opening datapath {name}")
        if match in self.megaflows[name]:
            raise CommandFailed("ovs-vswitchd: updating flow table (File exists)")
        self.megaflows[name].add(match)
        return ""

    def round(self, kind: str) -> None:
        """One whole round, unless the revalidators are paused."""
        if kind not in self.paused:
            self.rounds[kind] += 1
            self.megaflows[f"{kind}@ovs-{kind}"].clear()

    def nudges(self, *kinds: str) -> dict[str, Any]:
        return {kind: lambda kind=kind: self.round(kind) for kind in kinds}


def soon(seconds: float) -> float:
    return time.monotonic() + seconds


def test_a_whole_round_of_each_datapath_is_waited_for() -> None:
    host = Datapaths("netdev", "system")
    assert wait_for_rounds(host.nudges("netdev", "system"), soon(20), ask=host.ask)
    assert host.rounds == {"netdev": 3, "system": 3}, "one before, a whole one, and its end"


def test_a_datapath_without_our_bridges_is_left_alone() -> None:
    host = Datapaths("netdev", "system")
    assert wait_for_rounds(host.nudges("system"), soon(20), ask=host.ask)
    assert not host.megaflows["netdev@ovs-netdev"] and host.rounds["netdev"] == 0


def test_rounds_that_nobody_begins_are_not_counted() -> None:
    host = Datapaths("netdev", "system")
    host.paused.add("system")
    assert not wait_for_rounds(host.nudges("netdev", "system"), soon(0.2), ask=host.ask)
    assert len(host.megaflows["system@ovs-system"]) == 1


def test_two_who_wait_at_once_do_not_count_the_rounds_of_each_other() -> None:
    host, done = Datapaths("netdev", "system"), list[bool]()
    host.paused.add("netdev")

    def wait() -> None:
        done.append(wait_for_rounds(host.nudges("netdev"), soon(0.3), ask=host.ask))

    both = [threading.Thread(target=wait) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join(20)
    assert done == [False, False]
    assert len(host.megaflows["netdev@ovs-netdev"]) == 2


def test_a_datapath_that_takes_no_megaflow_is_a_refusal_and_no_round() -> None:
    host = Datapaths("netdev")
    with pytest.raises(CommandFailed, match="opening datapath system@ovs-system"):
        wait_for_rounds(host.nudges("system"), soon(20), ask=host.ask)


class ControlSocket:
    """The control socket of such an ovs-vswitchd, in a folder."""

    def __init__(self, folder: Path, host: Datapaths) -> None:
        self._host, self.waits = host, 0
        (folder / "ovs-vswitchd.pid").write_text(str(os.getpid()))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(folder / f"ovs-vswitchd.{os.getpid()}.ctl"))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.sendall(json.dumps(self._answer(connection.recv(65536))).encode())

    def _answer(self, request: bytes) -> dict[str, object]:
        asked = json.loads(request)
        if asked["method"] == "revalidator/wait":
            self.waits += 1
            return {"id": 0, "result": None, "error": "can't wait on multiple udpifs.\n"}
        try:
            return {"id": 0, "result": self._host.ask(asked["method"], *asked["params"])}
        except CommandFailed as refused:
            return {"id": 0, "result": None, "error": str(refused)}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Datapaths]:
    """Both types of datapath, behind the control socket that is asked by default."""
    found = Datapaths("netdev", "system")
    server = ControlSocket(tmp_path, found)
    asked = revalidation.wait_revalidated
    monkeypatch.setattr(revalidation, "REMOTE_SETTLE_S", 60.0)
    monkeypatch.setattr(
        revalidation, "wait_revalidated", lambda **given: asked(str(tmp_path), **given)
    )
    yield found
    server.close()


def bridges(host: Datapaths, **kind_by_name: str) -> tuple[Revalidation, list[Any]]:
    """Bridges of this machine by type of datapath, and what waits for them."""
    rows = [
        BridgeRow(Dpid(number), name, datapath_type=kind, database=LOCAL)
        for number, (name, kind) in enumerate(kind_by_name.items(), 1)
    ]
    found = OvsdbSnapshot(tuple(rows))
    waiting = Revalidation(SimpleNamespace(snapshot=lambda: found), lambda: found)
    return waiting, [
        SimpleNamespace(
            dpid=row.dpid, nudge=lambda _, row=row: host.round(row.datapath_type or "system")
        )
        for row in rows
    ]


def test_bridges_of_both_types_are_settled_once_both_have_had_a_round(host: Datapaths) -> None:
    waiting, both = bridges(host, u0="netdev", k0="", k1="system")
    began = time.monotonic()
    assert waiting.wait_settled(both, 20.0)
    assert time.monotonic() - began < 15.0, "by rounds and not by time"
    assert min(host.rounds["netdev"], host.rounds["system"]) >= 3


def test_bridges_are_not_settled_while_one_of_the_datapaths_has_no_round(host: Datapaths) -> None:
    waiting, both = bridges(host, u0="netdev", k0="")
    host.paused.add("system")
    assert not waiting.wait_settled(both, 0.5)
    assert waiting.wait_settled(both[:1], 20.0), "the other one does not matter to this bridge"


def test_a_host_that_counts_no_rounds_is_given_time(
    host: Datapaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revalidation, "REMOTE_SETTLE_S", 0.2)
    waiting, both = bridges(host, u0="netdev", k0="")
    host.refuses = "ovs-vswitchd: updating flow table (Operation not supported)"
    began = time.monotonic()
    assert waiting.wait_settled(both, 20.0)
    assert time.monotonic() - began >= 0.2


def test_without_a_bridge_nothing_is_known_of_several_datapaths(tmp_path: Path) -> None:
    server = ControlSocket(tmp_path, Datapaths("netdev", "system"))
    try:
        assert not wait_revalidated(str(tmp_path))
    finally:
        server.close()
    assert server.waits == 1
