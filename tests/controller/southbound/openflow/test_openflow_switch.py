"""An OpenFlowSwitch whose peer does not answer as it should."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from controller.southbound import SwitchGone, SwitchRefused, SwitchTimeout, SwitchUnfit
from controller.southbound.errors import WireError
from controller.southbound.openflow import OpenFlowSwitch, channel, openflow_switch
from controller.southbound.openflow.openflow_switch import ALTERED_LOGGED_MAX, log_alterations
from controller.southbound.openflow.partial_apply import WHOLE_TRIES, tries_for
from controller.southbound.wire import (
    BARRIER_REQUEST,
    EXPERIMENTER,
    HEADER,
    encode_instructions,
    encode_message,
)
from flows.model import Dpid
from flows.openflow import (
    IN_PORT,
    OWN_XID,
    Flow,
    Load,
    Match,
    Output,
    RegField,
    make_cookie,
    show_actions,
)
from flows.plan import Plan

Answer = Callable[[int, int, bytes], list[bytes]]


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, transaction id and whole bytes of each message."""
    while data:
        _, kind, length, xid = HEADER.unpack_from(data)
        yield kind, xid, data[:length]
        data = data[length:]


class Peer:
    """Answers each message at once with what ``answer`` returns for it."""

    def __init__(self, answer: Answer, timeout_s: float = 5.0) -> None:
        self.answer = answer
        self.kinds: list[int] = []
        self.disconnects: list[str] = []
        self.unread: list[bytes] = []
        """What it has answered and nobody has read yet."""
        self.switch = OpenFlowSwitch(
            Dpid(1), "s1", self.send, timeout_s, self.disconnects.append, is_behind=self.is_behind
        )

    def is_behind(self) -> bool:
        """Whether something is unread; it is read then."""
        unread, self.unread = self.unread, []
        taken = [self.switch.on_message(message) for message in unread]
        return any(taken)

    def send(self, data: bytes) -> bool:
        for kind, xid, message in messages(data):
            assert xid >> 24 == OWN_XID
            self.kinds.append(kind)
            for reply in self.answer(kind, xid, message):
                self.switch.on_message(reply)
        return True


def accepting(kind: int, xid: int, message: bytes) -> list[bytes]:
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


def test_no_answer_raises_a_timeout_that_names_the_bridge() -> None:
    switch = Peer(silent, timeout_s=0.05).switch
    for ask in (switch.our_flows, switch.count_flows, switch.ports, switch.barrier, switch.probe):
        with pytest.raises(SwitchTimeout, match=r"bridge 's1' did not answer within 0\.05 s: "):
            ask()


def test_an_answer_that_is_there_and_was_not_read_yet_is_waited_for() -> None:
    def answer(kind: int, xid: int, message: bytes) -> list[bytes]:
        peer.unread = accepting(kind, xid, message)
        return []

    peer = Peer(answer, timeout_s=0.05)
    peer.switch.barrier()
    with pytest.raises(SwitchTimeout, match=r"did not answer within 0\.05 s"):
        peer.answer = silent
        peer.switch.barrier()


def test_a_nudge_waits_no_longer_than_it_may_although_other_requests_do() -> None:
    peer = Peer(silent, timeout_s=30.0)
    with pytest.raises(SwitchTimeout, match=r"did not answer within 0\.05 s"):
        peer.switch.nudge(0.05)
    peer.answer = accepting
    peer.switch.nudge(0.0)
    peer.switch.barrier()
    assert peer.disconnects == []


def test_an_answer_that_never_ends_is_given_up_although_parts_keep_coming(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each part comes long before a timeout."""
    monkeypatch.setattr(channel, "ANSWER_S", 0.3)
    part, is_over = b"", threading.Event()

    def dribble() -> None:
        while not is_over.wait(0.02):
            peer.switch.on_message(part)

    dribbling = threading.Thread(target=dribble)

    def answer(kind: int, xid: int, message: bytes) -> list[bytes]:
        nonlocal part
        part = encode_message(19, xid, struct.pack("!HH4x", 13, 1))
        dribbling.start()
        return []

    peer = Peer(answer, timeout_s=30.0)
    try:
        with pytest.raises(SwitchGone):
            peer.switch.ports()
    finally:
        is_over.set()
        dribbling.join()
    [why] = peer.disconnects
    assert "did not end its answer within" in why and "list its ports" in why


def test_many_empty_parts_are_refused_before_they_take_much_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A message takes more memory than its bytes."""
    monkeypatch.setattr(channel, "WAITING_BYTES", 1 << 16)
    counted = 0

    def answer(kind: int, xid: int, message: bytes) -> list[bytes]:
        nonlocal counted
        part = encode_message(19, xid, struct.pack("!HH4x", 13, 1))
        while not peer.disconnects and counted < 10_000:
            peer.switch.on_message(part)
            counted += 1
        return []

    peer = Peer(answer)
    with pytest.raises(SwitchGone):
        peer.switch.ports()
    assert counted <= (1 << 16) // channel.MESSAGE_COST_BYTES
    assert "faster than they could be read" in peer.disconnects[0]


def test_an_answer_that_nobody_waits_for_is_told_to_be_so() -> None:
    peer = Peer(accepting)
    assert not peer.switch.on_message(encode_message(21, OWN_XID << 24 | 5))
    peer.switch.barrier()


def test_a_late_answer_is_not_taken_for_that_of_the_next_request() -> None:
    late: list[bytes] = []

    def answer(kind: int, xid: int, message: bytes) -> list[bytes]:
        if not late:
            late.append(encode_message(21, xid))
            return []
        return [late[0], refusal(xid - 1, 1, 1), *accepting(kind, xid, message)]

    peer = Peer(answer, timeout_s=0.05)
    with pytest.raises(SwitchTimeout):
        peer.switch.barrier()
    peer.switch.on_message(late[0])
    peer.switch.barrier()


def test_messages_that_answer_no_request_are_dropped() -> None:
    peer = Peer(accepting)
    for xid in (0, 5, 0xC7FFFFFF):
        peer.switch.on_message(encode_message(21, xid))
    assert peer.switch.waiting == 0
    peer.switch.barrier()


def more(kind: int, xid: int, message: bytes) -> list[bytes]:
    """A hundred multipart replies, none of which is the last."""
    return [encode_message(19, xid, struct.pack("!HH4x", 13, 1))] * 100


def test_an_endless_answer_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "ANSWER_BYTES", 1000)
    peer = Peer(more)
    with pytest.raises(SwitchGone):
        peer.switch.our_flows()
    assert peer.disconnects == [
        "bridge 's1' answered with more than 0 MB when it was asked to list its flows; "
        "see what its host's ovs-vswitchd logs"
    ]
    with pytest.raises(SwitchGone):
        peer.switch.barrier()


def test_a_list_of_more_ports_than_there_can_be_ends_the_connection() -> None:
    """It is asked of strangers, too: nobody knows yet whose bridge it is."""
    counted = 0

    def answer(kind: int, xid: int, message: bytes) -> list[bytes]:
        nonlocal counted
        part = encode_message(19, xid, struct.pack("!HH4x", 13, 1) + bytes(64 * 1000))
        for _ in range(2 * channel.PORTS_BYTES // len(part)):
            peer.switch.on_message(part)
            counted += not peer.disconnects
        return []

    peer = Peer(answer)
    with pytest.raises(SwitchGone):
        peer.switch.ports()
    assert "answered with more than 8 MB" in peer.disconnects[0]
    assert 65_279 < 1000 * counted < 200_000


@pytest.mark.parametrize("ask", [lambda s: s.count_flows(), lambda s: s._read_software()])
def test_an_answer_in_parts_that_has_none_is_an_error_of_the_switch(
    ask: Callable[[OpenFlowSwitch], object],
) -> None:
    peer = Peer(more)
    with pytest.raises(WireError, match="'s1' answers in parts when asked to"):
        ask(peer.switch)


def listing(ours: bool) -> Answer:
    """Lists 100 flows, and says that more follow."""
    entry = struct.pack(
        "!HBxIIHHHH4xQQQ", 64, 1, 1, 1, 1, 0, 0, 0, make_cookie(1, 1) if ours else 5, 0, 0
    )
    entry += struct.pack("!HH4xHH4x", 1, 4, 4, 8)

    def answer(kind: int, xid: int, message: bytes) -> list[bytes]:
        (asked,) = struct.unpack_from("!H", message, 8)
        if asked == 2:  # the sum of all flows
            return [encode_message(19, xid, struct.pack("!HH4xQQI4x", 2, 0, 100, 100, 100))]
        return [encode_message(19, xid, struct.pack("!HH4x", 1, 1) + entry * 100)] * 10

    return answer


@pytest.mark.parametrize(
    ("ask", "ours"),
    [
        (lambda switch: switch.scan(frozenset), True),
        (lambda switch: switch.our_flows(), True),
        (lambda switch: switch.altered(()), True),
        (lambda switch: switch.foreign_flows(), False),
    ],
)
def test_a_switch_that_tells_more_flows_than_are_kept_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[OpenFlowSwitch], object], ours: bool
) -> None:
    monkeypatch.setattr(openflow_switch, "FLOWS_KEPT_MAX", 500)
    peer = Peer(listing(ours))
    with pytest.raises(SwitchGone):
        ask(peer.switch)
    assert [why.split(" when ")[0] for why in peer.disconnects] == [
        "bridge 's1' told more than 500 flows"
    ]


def test_too_many_unread_answers_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "WAITING_BYTES", 1000)
    peer = Peer(more)
    with pytest.raises(SwitchGone):
        peer.switch.ports()
    (why,) = peer.disconnects
    assert "faster than they could be read" in why
    assert peer.switch.waiting * 16 <= 1000 + 16, "later answers are not kept"


def test_answers_that_are_read_do_not_count_as_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "WAITING_BYTES", 1000)
    peer = Peer(accepting)
    for _ in range(200):
        peer.switch.barrier()
    assert not peer.disconnects


def test_the_end_of_a_connection_wakes_the_waiting_request() -> None:
    peer = Peer(silent, timeout_s=30)
    timer = threading.Timer(0.02, peer.switch.on_disconnect)
    timer.start()
    with pytest.raises(SwitchGone, match="ended before it could list its ports"):
        peer.switch.ports()
    with pytest.raises(SwitchGone):
        peer.switch.ports()
    timer.join()


def test_a_transport_that_is_closed_raises_switch_gone() -> None:
    switch = OpenFlowSwitch(Dpid(1), "s1", lambda data: False)
    with pytest.raises(SwitchGone, match="'s1' ended before it could take a plan"):
        switch.apply(flows(1))


def test_a_switch_without_bundles_is_unfit() -> None:
    def answer(kind: int, xid: int, message: bytes) -> list[bytes]:
        return [refusal(xid, 1, 3)] if kind == EXPERIMENTER else accepting(kind, xid, message)

    for count in (0, 3):
        with pytest.raises(SwitchUnfit, match="'s1' lacks atomic bundles"):
            Peer(answer).switch.apply(flows(count))
    assert Peer(answer).switch.probe() == ("atomic bundles",)


def _is_control(message: bytes) -> bool:
    return bool(struct.unpack_from("!I", message, 12)[0] == 2300)


def test_an_error_that_belongs_to_no_flow_refuses_the_plan() -> None:
    def answer(kind: int, xid: int, message: bytes) -> list[bytes]:
        is_opening = kind == EXPERIMENTER and _is_control(message)
        return [refusal(xid, 1, 5)] if is_opening else accepting(kind, xid, message)

    expected = "'s1' refused to take a plan: the switch does not let this controller change"
    with pytest.raises(SwitchRefused, match=expected):
        Peer(answer).switch.apply(flows(2))


def test_the_number_of_bundles_is_bounded_whatever_is_refused() -> None:
    """A switch that refuses the first flow of every bundle."""

    def answer(kind: int, xid: int, message: bytes) -> list[bytes]:
        is_first = kind == EXPERIMENTER and not _is_control(message) and not peer.refused
        if is_first:
            peer.refused = True
            return [refusal(xid, 5, 1)]
        peer.refused = peer.refused and kind != BARRIER_REQUEST
        return accepting(kind, xid, message)

    class Refusing(Peer):
        refused = False

    peer = Refusing(answer)
    plan = flows(128)
    rejected = peer.switch.apply(plan)
    assert [r.flow for r in rejected] == list(plan.add)
    assert {r.reason for r in rejected} == {
        "the flow table of the switch is full (OFPFMFC_TABLE_FULL)"
    }
    assert peer.kinds.count(BARRIER_REQUEST) < 2 * (WHOLE_TRIES + 3 * tries_for(128))


def test_transaction_ids_wrap_around() -> None:
    peer = Peer(accepting)
    peer.switch._channel._next_xid = 0xFFFFFD
    for _ in range(5):
        assert peer.switch.apply(flows(3)) == ()
        peer.switch.barrier()


def test_the_log_shows_altered_flows_and_the_number_of_others() -> None:
    register = RegField("low", 3, 4, 19)
    flow = Flow(3, 44, Match(), (Load(register, 5), Output(7)), 9, "sends to 7")
    other = flow.replace(actions=(Output(8),))
    with capture_logs() as logged:
        log_alterations("s1", [(flow, {encode_instructions(other), b""})])
        log_alterations("s1", [(flow, {b""})] * (ALTERED_LOGGED_MAX + 2))
        log_alterations("s1", [])
    first, *_, last = logged
    assert (first["event"], first["bridge"]) == ("flow was altered", "s1")
    assert first["did"] == "drop or output:8"
    assert first["wanted"] == show_actions(flow.actions)
    assert first["flow"] == f"cookie={flow.cookie:#x},table=3,priority=44"
    assert (last["event"], last["flows"], len(logged)) == ("more flows were altered", 2, 12)
