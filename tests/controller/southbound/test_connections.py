"""One connection speaks for a datapath id: the first that answers, with the right certificate."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from controller.southbound import Connections, PortChange, Switch
from controller.southbound import connections as module
from controller.southbound.wire import ECHO_REPLY, ECHO_REQUEST, HEADER
from flows.model import Dpid
from tests.ovs.waiting import wait_for

DPID = 0x51
XID = module.PROBE_XID


@dataclass(eq=False)
class Peer:
    """A connection of the OpenFlow library."""

    address: str
    certificate: str | None = None
    id: int = DPID
    is_alive: bool = True
    """Whether it answers echo requests."""
    is_over: bool = False
    has_unread: bool = False
    """Whether it has sent something that was not read yet: at the second look it is."""
    asked: list[int] = field(default_factory=list)


class World:
    """Transport, listener, ports and identities in one, on which connections are made and end."""

    def __init__(self) -> None:
        self.connections = Connections(self, self, self, self)
        self.speaking: list[Switch] = []
        self.changes: list[PortChange] = []
        self.expected: str | None = None

    # what Connections calls
    def connect(self, switch: Switch) -> None:
        self.speaking.append(switch)

    def disconnect(self, what: Any, why: str = "") -> None:
        if isinstance(what, Peer):
            what.is_over = True
        else:
            self.speaking.remove(what)

    def send(self, peer: Peer, data: bytes) -> bool:
        _, kind, _, xid = HEADER.unpack_from(data)
        peer.asked.append(kind)
        if kind == ECHO_REQUEST and peer.is_alive:
            reply = HEADER.pack(4, ECHO_REPLY, 8, xid)
            assert self.connections.message_received(peer, reply), "somebody waits for it"
        return not peer.is_over

    def close(self, peer: Peer) -> None:
        peer.is_over = True

    def adopted(self, peer: Peer) -> None:
        pass

    def queued(self, peer: Peer) -> int:
        return 0

    def is_behind(self, peer: Peer) -> bool:
        was_unread, peer.has_unread = peer.has_unread, False
        if was_unread:
            assert self.connections.message_received(peer, HEADER.pack(4, ECHO_REPLY, 8, XID))
        return was_unread

    def address_of(self, peer: Peer) -> str:
        return peer.address

    def certificate_end_of(self, what: Any) -> float | None:
        return None

    def refusals(self) -> dict[str, str]:
        return {}

    def certificate_of(self, what: Any) -> str | None:
        return what.certificate if isinstance(what, Peer) else self.expected

    def problems(self) -> tuple[str, ...]:
        return ()

    def bridge_name(self, dpid: Dpid) -> str:
        return "s1"

    def port_changed(self, dpid: Dpid, change: PortChange) -> None:
        self.changes.append(change)


def test_the_first_stays_and_the_second_is_sent_nothing_and_both_are_named() -> None:
    world = World()
    first, second = Peer("192.0.2.1:1"), Peer("192.0.2.2:2")
    world.connections.connected(first)
    (switch,) = world.speaking
    world.connections.connected(second)
    wait_for(lambda: second.is_over, bool)
    assert world.speaking == [switch] and not first.is_over
    assert second.asked == [] and first.asked == [ECHO_REQUEST]
    (sentence,) = world.connections.claims_of(Dpid(DPID))
    assert "192.0.2.1:1" in sentence and "192.0.2.2:2" in sentence and "'s1'" in sentence
    assert world.connections.problems() == [sentence]
    world.connections.disconnected(second)
    assert world.speaking == [switch], "the real one is connected still"
    world.connections.disconnected(first)
    assert world.speaking == []


def with_a_dead_peer(
    monkeypatch: pytest.MonkeyPatch, probed_s: float = 0.2
) -> tuple[World, Peer, Switch]:
    """A world in which a peer speaks that answers no more: who comes has it probed for so long."""
    monkeypatch.setattr(module, "ECHO_ANSWER_S", probed_s)
    world, dead = World(), Peer("192.0.2.1:1", is_alive=False)
    world.connections.connected(dead)
    (switch,) = world.speaking
    return world, dead, switch


def test_a_connection_that_does_not_answer_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    world, dead, old = with_a_dead_peer(monkeypatch, 0.05)
    new = Peer("192.0.2.1:2")
    world.connections.connected(new)
    wait_for(lambda: world.speaking, lambda seen: seen not in ([old], []))
    assert dead.is_over and not new.is_over
    world.connections.disconnected(dead)
    assert len(world.speaking) == 1, "its end is not that of the new one"


def test_a_connection_whose_answer_was_not_read_yet_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    world, slow, switch = with_a_dead_peer(monkeypatch, 0.05)
    slow.has_unread = True
    new = Peer("192.0.2.1:2")
    world.connections.connected(new)
    wait_for(lambda: new.is_over, bool)
    assert world.speaking == [switch] and not slow.is_over


def test_the_new_one_follows_if_the_old_one_ends_meanwhile() -> None:
    world = World()
    old, new = Peer("192.0.2.1:1", is_alive=False), Peer("192.0.2.1:2")
    world.connections.connected(old)
    (before,) = world.speaking
    world.connections.connected(new)
    world.connections.disconnected(old)
    wait_for(lambda: world.speaking, lambda seen: seen not in ([before], []))
    assert not new.is_over
    assert world.connections.claims_of(Dpid(DPID)) == ()


def test_of_several_that_come_while_one_is_probed_one_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, dead, _ = with_a_dead_peer(monkeypatch)
    others = [Peer(f"192.0.2.1:{port}") for port in range(2, 7)]
    for other in others:
        world.connections.connected(other)
    wait_for(lambda: dead.is_over, bool)
    wait_for(lambda: len(world.speaking), lambda count: count == 1)
    assert Counter(other.is_over for other in others) == {False: 1, True: 4}


def test_one_that_ends_while_it_waits_keeps_its_successor_from_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, _, before = with_a_dead_peer(monkeypatch)
    brief, new = Peer("192.0.2.1:2"), Peer("192.0.2.1:3")
    world.connections.connected(brief)
    world.connections.disconnected(brief)
    world.connections.connected(new)
    wait_for(lambda: world.speaking, lambda seen: seen not in ([before], []))
    assert not new.is_over
    world.connections.disconnected(new)
    assert world.speaking == []


def test_one_that_ends_while_the_older_one_is_ended_never_speaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, dead, _ = with_a_dead_peer(monkeypatch, 0.05)
    new = Peer("192.0.2.1:2")
    close = world.close
    monkeypatch.setattr(
        world, "close", lambda peer: (world.connections.disconnected(new), close(peer))
    )
    world.connections.connected(new)
    wait_for(lambda: dead.is_over, bool)
    claim = f"claim {DPID:016x}"
    wait_for(lambda: [t.name for t in threading.enumerate()], lambda names: claim not in names)
    assert world.speaking == [], "nobody is connected any more"


@pytest.mark.parametrize("is_first", [True, False])
def test_one_that_nobody_can_write_to_is_ended_so_that_it_comes_again(
    is_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    older, new = Peer("192.0.2.1:1", is_alive=False), Peer("192.0.2.1:2")
    if not is_first:
        world.connections.connected(older)

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        patched.setattr(world, "connect", lambda switch: start(threading.current_thread()))
        with pytest.raises(RuntimeError):
            world.connections.connected(new)
    assert new.is_over
    with monkeypatch.context() as patched:
        patched.setattr(world, "disconnect", lambda what, why="": None)
        for over in (new, older):
            world.connections.disconnected(over)
    world.speaking.clear()
    again = Peer("192.0.2.1:3")
    world.connections.connected(again)
    assert len(world.speaking) == 1 and not again.is_over


def test_a_certificate_of_another_host_is_refused_at_once() -> None:
    world = World()
    world.expected = "hv1"
    stranger, plain = Peer("192.0.2.2:2", "hv2"), Peer("192.0.2.3:3")
    for peer in (stranger, plain):
        world.connections.connected(peer)
        assert peer.is_over and peer.asked == [] and world.speaking == []
    assert "no certificate" in world.connections.claims_of(Dpid(DPID))[0]
    real = Peer("192.0.2.1:1", "hv1")
    world.connections.connected(real)
    (switch,) = world.speaking
    assert switch.certificate == "hv1" and not real.is_over
    world.connections.connected(stranger)
    (sentence,) = world.connections.claims_of(Dpid(DPID))
    assert "192.0.2.1:1" in sentence and "192.0.2.2:2" in sentence
    assert "'hv1'" in sentence and "'hv2'" in sentence
    assert real.asked == [], "there is nothing to find out"


def test_what_the_refused_one_reports_is_dropped() -> None:
    world = World()
    first, second = Peer("192.0.2.1:1"), Peer("192.0.2.2:2")
    world.connections.connected(first)
    world.connections.connected(second)
    wait_for(lambda: second.is_over, bool)
    body = b"\2" + bytes(7 + 64)
    status = HEADER.pack(4, 12, 8 + len(body), 0) + body
    world.connections.port_status_received(second, status)
    assert not world.connections.message_received(second, HEADER.pack(4, 21, 8, 0xC7000001))
    assert world.changes == []
