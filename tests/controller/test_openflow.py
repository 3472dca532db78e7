"""One connected bridge whose switch does not answer as it should."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from controller.southbound.openflow import channel as exchange
from controller.southbound.openflow.partial_apply import TOGETHER, tries_for
from controller.southbound.errors import SwitchGone, SwitchRefused, SwitchTimeout, SwitchUnfit
from controller.southbound.openflow.channel import OWN_XID
from controller.southbound.openflow.openflow_switch import OpenFlowSwitch
from controller.southbound.wire.flow import HEADER, encode_message
from controller.southbound.wire.message import BARRIER_REQUEST, EXPERIMENTER
from flows.plan.plan import Plan
from flows.openflow.field import IN_PORT
from flows.openflow.flow import Flow, Match, Output
from flows.model.session import Dpid

Answer = Callable[[int, int, bytes], list[bytes]]


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, transaction id and whole bytes of each message."""
    while data:
        _, kind, length, xid = HEADER.unpack_from(data)
        yield kind, xid, data[:length]
        data = data[length:]


class Peer:
    """Answers each message at once with what ``answer`` makes of it."""

    def __init__(self, answer: Answer, timeout_s: float = 5.0) -> None:
        self.answer = answer
        self.kinds: list[int] = []
        self.hung_up: list[str] = []
        self.switch = OpenFlowSwitch(Dpid(1), "s1", self.send, timeout_s, self.hung_up.append)

    def send(self, data: bytes) -> bool:
        for kind, xid, message in messages(data):
            assert xid >> 24 == OWN_XID
            self.kinds.append(kind)
            for reply in self.answer(kind, xid, message):
                self.switch.on_message(reply)
        return True


def willing(kind: int, xid: int, message: bytes) -> list[bytes]:
    if kind == BARRIER_REQUEST:
        return [encode_message(21, xid)]
    if kind == EXPERIMENTER:
        return [encode_message(EXPERIMENTER, xid, message[8:])]
    return []


def silent(kind: int, xid: int, message: bytes) -> list[bytes]:
    return []


def refusal(xid: int, kind: int, code: int) -> bytes:
    return encode_message(1, xid, struct.pack("!HH", kind, code))


def flows(count: int) -> Plan:
    match = [Match.of(IN_PORT.eq(number + 1)) for number in range(count)]
    return Plan(tuple(Flow(0, 1, m, (Output(1),), 1, "test") for m in match), (), 0)


def test_silence_ends_with_a_timeout_that_names_the_bridge() -> None:
    switch = Peer(silent, timeout_s=0.05).switch
    for ask in (switch.our_flows, switch.count_flows, switch.ports, switch.barrier, switch.probe):
        with pytest.raises(SwitchTimeout, match=r"bridge 's1' did not answer within 0\.05 s: "):
            ask()


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one() -> None:
    late: list[bytes] = []

    def answer(kind: int, xid: int, message: bytes) -> list[bytes]:
        if not late:
            late.append(encode_message(21, xid))
            return []
        return [late[0], refusal(xid - 1, 1, 1), *willing(kind, xid, message)]

    peer = Peer(answer, timeout_s=0.05)
    with pytest.raises(SwitchTimeout):
        peer.switch.barrier()
    peer.switch.on_message(late[0])
    peer.switch.barrier()


def test_strange_messages_while_nothing_was_asked_are_dropped() -> None:
    peer = Peer(willing)
    for xid in (0, 5, 0xC7FFFFFF):
        peer.switch.on_message(encode_message(21, xid))
    assert peer.switch._inbox.empty()
    peer.switch.barrier()


def more(kind: int, xid: int, message: bytes) -> list[bytes]:
    """A hundred parts of an answer of which none is the last."""
    return [encode_message(19, xid, struct.pack("!HH4x", 13, 1))] * 100


def test_an_answer_without_an_end_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "ANSWER_BYTES", 1000)
    peer = Peer(more)
    with pytest.raises(SwitchGone):
        peer.switch.ports()
    assert peer.hung_up == [
        "bridge 's1' answered with more than 0 MB when it was asked to list its ports; "
        "see what its host's ovs-vswitchd logs"
    ]
    with pytest.raises(SwitchGone):
        peer.switch.barrier()


def test_answers_that_pile_up_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "WAITING_BYTES", 1000)
    peer = Peer(more)
    with pytest.raises(SwitchGone):
        peer.switch.ports()
    (why,) = peer.hung_up
    assert "faster than they could be read" in why
    assert peer.switch.waiting * 16 <= 1000 + 16, "what came afterwards was not kept"


def test_long_answers_that_are_read_pile_up_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "WAITING_BYTES", 1000)
    peer = Peer(willing)
    for _ in range(200):
        peer.switch.barrier()
    assert not peer.hung_up


def test_a_connection_that_ends_wakes_whoever_waits() -> None:
    peer = Peer(silent, timeout_s=30)
    timer = threading.Timer(0.02, peer.switch.on_disconnect)
    timer.start()
    with pytest.raises(SwitchGone, match="ended before it could list its ports"):
        peer.switch.ports()
    with pytest.raises(SwitchGone):
        peer.switch.ports()
    timer.join()


def test_a_carrier_that_takes_nothing_is_gone() -> None:
    switch = OpenFlowSwitch(Dpid(1), "s1", lambda data: False)
    with pytest.raises(SwitchGone, match="'s1' ended before it could take a plan"):
        switch.apply(flows(1))


def test_a_switch_without_bundles_is_unfit() -> None:
    def answer(kind: int, xid: int, message: bytes) -> list[bytes]:
        return [refusal(xid, 1, 3)] if kind == EXPERIMENTER else willing(kind, xid, message)

    for count in (0, 3):
        with pytest.raises(SwitchUnfit, match="'s1' lacks atomic bundles"):
            Peer(answer).switch.apply(flows(count))
    assert Peer(answer).switch.probe() == ("atomic bundles",)


def _is_control(message: bytes) -> bool:
    return bool(struct.unpack_from("!I", message, 12)[0] == 2300)


def test_an_error_that_belongs_to_no_flow_ends_the_plan() -> None:
    def answer(kind: int, xid: int, message: bytes) -> list[bytes]:
        is_opening = kind == EXPERIMENTER and _is_control(message)
        return [refusal(xid, 1, 5)] if is_opening else willing(kind, xid, message)

    expected = "'s1' refused to take a plan: the switch does not let this controller change"
    with pytest.raises(SwitchRefused, match=expected):
        Peer(answer).switch.apply(flows(2))


def test_refusals_without_an_end_are_not_followed_for_ever() -> None:
    """A switch that refuses the first flow of whatever it is offered."""

    def answer(kind: int, xid: int, message: bytes) -> list[bytes]:
        is_first = kind == EXPERIMENTER and not _is_control(message) and not peer.refused
        if is_first:
            peer.refused = True
            return [refusal(xid, 5, 1)]
        peer.refused = peer.refused and kind != BARRIER_REQUEST
        return willing(kind, xid, message)

    class Refusing(Peer):
        refused = False

    peer = Refusing(answer)
    plan = flows(128)
    rejected = peer.switch.apply(plan)
    assert [r.flow for r in rejected] == list(plan.add)
    assert {r.reason for r in rejected} == {
        "the flow table of the switch is full (OFPFMFC_TABLE_FULL)"
    }
    assert peer.kinds.count(BARRIER_REQUEST) < 2 * (TOGETHER + 3 * tries_for(128))


def test_transaction_ids_wrap_around() -> None:
    peer = Peer(willing)
    peer.switch._next_xid = 0xFFFFFD
    for _ in range(5):
        assert peer.switch.apply(flows(3)) == ()
        peer.switch.barrier()
