"""What every switch must do, real or fake: the same tests for both.

A test module imports all of this and has a fixture ``place``: the folder that holds the management
socket of the switch ``s1``, which has the ports 1 and 2 and no flows.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controller.southbound import LOCAL_PORT, FragmentsMatched
from controller.southbound.openflow import ManagedSwitch, Stream, open_management, openflow_switch
from controller.southbound.wire import (
    ATOMIC_AND_ORDERED,
    BUNDLE_BODY,
    FLOW_MOD_BODY,
    HEADER,
    ONF,
    BundleControl,
    decode_error,
    encode_barrier,
    encode_bundle_add,
    encode_bundle_control,
    encode_flow_add,
    encode_message,
)
from flows.errors import InvalidFlow
from flows.openflow import (
    Clone,
    Flow,
    Load,
    Mark,
    Match,
    Output,
    PopVlan,
    Resubmit,
    field,
    show_actions,
)
from flows.pipeline import DELIVER, SESSION
from flows.plan import Plan, mark_of, plan

XID = 77
BAD_PORT = Output(0xFFFFFF00)
"""A port number that no switch can send to."""


@pytest.fixture
def switch(place: Path) -> Iterator[ManagedSwitch]:
    with open_management("s1", str(place), timeout_s=5) as connected:
        yield connected


@pytest.fixture
def stream(place: Path) -> Iterator[Stream]:
    """A connection without any manners of ours."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(5)
    connected.connect(str(place / "s1.mgmt"))
    raw = Stream(connected)
    raw.send(encode_message(0, 1, struct.pack("!HHI", 1, 8, 1 << 4)))
    assert raw.receive() is not None
    yield raw
    raw.close()


def flow_of(n: int, *, owner: int = 9, table: int = 3) -> Flow:
    match = Match.of(field.IN_PORT.eq(n + 1), field.ETH_DST.eq(0x020000000000 + n))
    return Flow(table, 100, match, (Load(SESSION, n % 1000), Resubmit(DELIVER.number)), owner, "t")


def apply(switch: ManagedSwitch, *flows: Flow) -> None:
    assert switch.apply(plan(flows, switch.our_flows())) == ()


def test_what_was_applied_is_there_and_a_second_plan_is_empty(switch: ManagedSwitch) -> None:
    flows = [flow_of(n) for n in range(500)]
    apply(switch, *flows)

    there = switch.our_flows()

    assert {flow.key: flow.cookie for flow in there} == {flow.key: flow.cookie for flow in flows}
    assert not plan(flows, there)
    assert switch.altered(flows) == ()


def test_the_fragment_mode_is_set_once_and_only_that(switch: ManagedSwitch, stream: Stream) -> None:
    stream.send(encode_message(9, XID, struct.pack("!HH", 0, 200)))  # set config
    answers(stream, encode_message(20, XID))

    seen = [switch.match_first_fragments() for _ in range(2)]

    assert seen == [FragmentsMatched.NOW, FragmentsMatched.BEFORE]
    stream.send(encode_message(7, XID))  # get config
    reply = stream.receive()
    assert reply is not None
    assert reply[8:12] == struct.pack("!HH", 3, 200), "what it sends to controllers is as before"


def test_the_version_is_known_once_it_was_probed(switch: ManagedSwitch) -> None:
    assert switch.software == ""
    assert switch.probe() == ()
    assert switch.software[0].isdigit()


@pytest.mark.parametrize("listed_meanwhile", [range(0), range(1000)])
def test_a_scan_knows_wanted_flows_and_shows_the_others(
    switch: ManagedSwitch, monkeypatch: pytest.MonkeyPatch, listed_meanwhile: range
) -> None:
    monkeypatch.setattr(openflow_switch, "LISTED_MEANWHILE", listed_meanwhile)
    flows = [flow_of(n) for n in range(500)]
    apply(switch, *flows)
    calls = []

    def wanted() -> set[Mark]:
        calls.append(switch.waiting)
        return {mark_of(flow) for flow in flows[:400]}

    seen = switch.scan(wanted)

    assert seen.known == {mark_of(flow) for flow in flows[:400]}
    assert {flow.key for flow in seen.others} == {flow.key for flow in flows[400:]}
    assert len(calls) == 1


def test_a_scan_whose_marks_cannot_be_compiled_harms_no_later_one(
    switch: ManagedSwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openflow_switch, "LISTED_MEANWHILE", range(1000))
    apply(switch, *(flow_of(n) for n in range(500)))

    def broken() -> set[Mark]:
        raise InvalidFlow("cannot be compiled")

    with pytest.raises(InvalidFlow):
        switch.scan(broken)

    assert switch.scan(lambda: {flow_of(3).mark}).known == {flow_of(3).mark}
    assert len(switch.our_flows()) == 500


def test_a_scan_that_meets_one_mark_twice_shows_all_flows(
    switch: ManagedSwitch, stream: Stream
) -> None:
    apply(switch, flow_of(1))
    double = Flow(3, 100, Match.of(field.IN_PORT.eq(60)), (), 9, "has the other's cookie")
    message = bytearray(encode_flow_add(double, XID))
    struct.pack_into("!Q", message, HEADER.size, flow_of(1).cookie)
    assert answers(stream, bytes(message)) == []

    seen = switch.scan(lambda: {mark_of(flow_of(1))})

    assert (seen.known, len(seen.others)) == (frozenset(), 2)


def test_flows_are_overwritten_and_removed_and_others_are_left_alone(
    switch: ManagedSwitch,
) -> None:
    apply(switch, *(flow_of(n) for n in range(10)))
    changed = Flow(3, 100, flow_of(2).match, (Output(1),), 9, "does something else now")

    apply(switch, changed, *(flow_of(n) for n in range(3, 7)))

    wanted = {changed.key: changed.cookie}
    wanted |= {flow_of(n).key: flow_of(n).cookie for n in range(3, 7)}
    assert {flow.key: flow.cookie for flow in switch.our_flows()} == wanted


def test_a_foreign_flow_is_counted_and_never_listed(switch: ManagedSwitch, stream: Stream) -> None:
    apply(switch, flow_of(1))
    foreign = bytearray(encode_flow_add(flow_of(5), XID))
    struct.pack_into("!Q", foreign, HEADER.size, 5)
    assert answers(stream, bytes(foreign)) == []

    assert switch.count_flows().foreign == 1
    assert [flow.key for flow in switch.our_flows()] == [flow_of(1).key]


def test_one_refused_flow_does_not_keep_the_others_out(switch: ManagedSwitch) -> None:
    bad = Flow(3, 7, Match.of(field.IN_PORT.eq(9)), (BAD_PORT,), 42, "sends to nowhere")
    untagged = Flow(3, 8, Match.of(field.IN_PORT.eq(8)), (PopVlan(),), 43, "has no tag to pop")
    good = [flow_of(n) for n in range(20)]

    rejected = switch.apply(Plan((*good[:10], bad, *good[10:], untagged), (), 0))

    assert {r.flow for r in rejected} == {bad, untagged}
    reasons = {r.flow.owner: r.reason for r in rejected if isinstance(r.flow, Flow)}
    assert "OFPBAC_BAD_OUT_PORT" in reasons[42]
    assert "OFPBAC_MATCH_INCONSISTENT" in reasons[43]
    assert {flow.key for flow in switch.our_flows()} == {flow.key for flow in good}


def test_a_session_that_is_refused_loses_what_it_should_have_exchanged(
    switch: ManagedSwitch,
) -> None:
    old, kept = flow_of(1, owner=42), flow_of(2, owner=42)
    others = [flow_of(n) for n in range(3, 9)]
    apply(switch, old, kept, *others)
    new = Flow(old.table, old.priority, old.match, (Output(2),), 42, "copies go elsewhere now")
    bad = Flow(3, 7, Match.of(field.IN_PORT.eq(9)), (BAD_PORT,), 42, "sends to nowhere")

    rejected = switch.apply(plan((new, bad, kept, *others), switch.our_flows()))

    assert {r.flow for r in rejected} == {new, bad}
    assert len({r.reason for r in rejected}) == 1
    assert {flow.key for flow in switch.our_flows()} == {flow.key for flow in (kept, *others)}


def test_a_flow_altered_under_its_cookie_is_found(switch: ManagedSwitch, stream: Stream) -> None:
    apply(switch, *(flow_of(n) for n in range(5)))
    other = Flow(3, 100, flow_of(2).match, (Output(2),), 9, "somebody's idea")
    message = bytearray(encode_flow_add(other, XID))
    message[HEADER.size + 17] = 2  # modify, strictly
    struct.pack_into("!QQ", message, HEADER.size, 0, 0)
    assert answers(stream, bytes(message)) == []

    with capture_logs() as logged:
        assert switch.altered([flow_of(n) for n in range(5)]) == (flow_of(2),)

    (said,) = logged
    assert (said["event"], said["did"]) == ("flow was altered", "output:2")
    assert said["wanted"] == show_actions(flow_of(2).actions)


def test_copies_are_counted_for_each_session(switch: ManagedSwitch) -> None:
    flows = [
        Flow(DELIVER.number, DELIVER["session"], Match.of(SESSION.eq(n)), (Output(2),), n, "t")
        for n in (5, 6)
    ]
    apply(switch, *flows)

    assert set(switch.flow_copies(DELIVER.number)) == {flow.cookie for flow in flows}
    assert set(switch.flow_copies(DELIVER.number, session=6)) == {flows[1].cookie}


def test_ports_are_described_with_the_bridge_itself(switch: ManagedSwitch) -> None:
    ports = {port.ofport: port.name for port in switch.ports()}

    assert set(ports) == {1, 2, LOCAL_PORT}
    assert ports[LOCAL_PORT] == "s1"


def test_a_fit_switch_passes_the_probe_and_keeps_nothing_of_it(switch: ManagedSwitch) -> None:
    assert switch.probe() == ()
    switch.barrier()
    assert switch.our_flows() == []


def answers(stream: Stream, *messages: bytes) -> list[tuple[int, int, int]]:
    """The errors (transaction id, type, code) that messages are answered with."""
    barrier = 0x7FFFFFFF
    stream.send(b"".join(messages) + encode_barrier(barrier))
    found = []
    while (reply := stream.receive()) is not None:
        if reply[1] == 1:
            said = decode_error(reply)
            found.append((said.xid, said.type, said.code))
        elif reply[1] == 21 and HEADER.unpack_from(reply)[3] == barrier:
            return found
    raise AssertionError(f"the connection ended after {found}")


def flow_mod(
    terms: bytes = b"", actions: bytes | None = None, *, table: int = 3, command: int = 0,
    instructions: bytes | None = None, match_type: int = 1, match_length: int | None = None,
) -> bytes:  # fmt: skip
    """A flow mod that may be wrong in any part."""
    numbers = 5, 0, table, command, 0, 0, 9, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0
    length = 4 + len(terms) if match_length is None else match_length
    match = struct.pack("!HH", match_type, length) + terms + bytes(-(4 + len(terms)) % 8)
    if instructions is None:
        instructions = b""
        if actions is not None:
            instructions = struct.pack("!HH4x", 4, 8 + len(actions)) + actions
    return encode_message(14, XID, FLOW_MOD_BODY.pack(*numbers) + match + instructions)


def oxm(number: int, value: bytes, mask: bytes = b"", oxm_class: int = 0x8000) -> bytes:
    head = struct.pack("!HBB", oxm_class, number << 1 | bool(mask), len(value + mask))
    return head + value + mask


IPV4, TCP = oxm(5, b"\x08\x00"), oxm(10, b"\x06")
NICIRA = struct.pack("!I", 0x2320)

BAD_MESSAGES: dict[str, tuple[bytes, tuple[int, int]]] = {
    "unknown type": (encode_message(99, XID), (1, 1)),
    "unknown statistics": (encode_message(18, XID, struct.pack("!HH4x", 99, 0)), (1, 2)),
    "unknown experimenter": (encode_message(4, XID, struct.pack("!II", 1, 2)), (1, 3)),
    "unknown message of ONF": (encode_message(4, XID, struct.pack("!II", ONF, 9)), (1, 4)),
    "short flow mod": (encode_message(14, XID, bytes(30)), (1, 6)),
    "flow mod without match": (encode_message(14, XID, bytes(40)), (4, 1)),
    "no table to add to": (flow_mod(table=255), (5, 2)),
    "unknown command": (flow_mod(command=9), (5, 6)),
    "unknown kind of match": (flow_mod(match_type=7), (4, 0)),
    "match longer than the message": (flow_mod(match_length=400), (4, 1)),
    "unknown field": (flow_mod(oxm(3, bytes(4), oxm_class=0x0099)), (4, 6)),
    "field of a wrong length": (flow_mod(oxm(5, bytes(4))), (4, 6)),
    "field twice": (flow_mod(IPV4 + IPV4), (4, 10)),
    "IPv4 without EtherType": (flow_mod(oxm(11, bytes(4))), (4, 9)),
    "IPv6 with the EtherType of IPv4": (flow_mod(IPV4 + oxm(26, bytes(16))), (4, 9)),
    "TCP port without protocol": (flow_mod(IPV4 + oxm(13, b"\0\x50")), (4, 9)),
    "UDP port of TCP": (flow_mod(IPV4 + TCP + oxm(15, b"\0\x35")), (4, 9)),
    "ARP address without EtherType": (flow_mod(oxm(22, bytes(4))), (4, 9)),
    "tag priority without tag": (flow_mod(oxm(7, b"\3")), (4, 9)),
    "value outside its mask": (flow_mod(oxm(3, b"\xff" * 6, b"\xf0" * 6)), (4, 5)),
    "mask where none may be": (flow_mod(oxm(0, b"\0\0\0\2", b"\0\0\0\2")), (4, 8)),
    "tag priority too high": (
        flow_mod(oxm(6, b"\x10\0", b"\x10\0") + oxm(7, b"\x09")), (4, 7)),
    "unknown instruction": (flow_mod(instructions=struct.pack("!HH4x", 77, 8)), (3, 0)),
    "instruction cut off": (flow_mod(instructions=struct.pack("!HH4x", 4, 80)), (3, 7)),
    "unknown action": (flow_mod(actions=struct.pack("!HH4x", 77, 8)), (2, 0)),
    "action cut off": (flow_mod(actions=struct.pack("!HH4x", 0, 80)), (2, 1)),
    "action of no length": (flow_mod(actions=struct.pack("!HH4x", 0, 0)), (2, 1)),
    "action of unknown make": (flow_mod(actions=struct.pack("!HHI8x", 0xFFFF, 16, 9)), (2, 2)),
    "unknown Nicira action": (
        flow_mod(actions=struct.pack("!HH", 0xFFFF, 16) + NICIRA + struct.pack("!H6x", 999)),
        (2, 3)),
    "port that cannot be sent to": (
        flow_mod(actions=struct.pack("!HHIH6x", 0, 16, 0xFFFFFF00, 0)), (2, 4)),
    "pop of no tag": (flow_mod(actions=struct.pack("!HH4x", 18, 8)), (2, 10)),
    "tag set on no tag": (
        flow_mod(actions=struct.pack("!HH", 25, 16) + oxm(6, b"\x10\5") + bytes(6)), (2, 10)),
    "tag set without presence": (
        flow_mod(
            oxm(6, b"\x10\0", b"\x10\0"),
            struct.pack("!HH", 25, 16) + oxm(6, b"\x00\5") + bytes(6)), (2, 15)),
    "load wider than its register": (
        flow_mod(
            actions=struct.pack("!HH", 0xFFFF, 24) + NICIRA
            + struct.pack("!HHIQ", 7, 20 << 6 | 19, 0x00010604, 1)), (2, 14)),
    "load of a value too high": (
        flow_mod(
            actions=struct.pack("!HH", 0xFFFF, 24) + NICIRA
            + struct.pack("!HHIQ", 7, 3, 0x00010604, 16)), (2, 5)),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_MESSAGES)
def test_a_bad_message_is_refused_with_the_right_type_and_code(what: str, stream: Stream) -> None:
    message, expected = BAD_MESSAGES[what]
    assert answers(stream, message) == [(XID, *expected)]


@pytest.mark.parametrize("what", [w for w, (m, _) in BAD_MESSAGES.items() if m[1] == 14])
def test_a_bad_message_in_a_bundle_is_refused_at_once(what: str, stream: Stream) -> None:
    message, expected = BAD_MESSAGES[what]
    if what == "short flow mod":  # nobody looks into it
        expected = ONF, 2310
    opened = encode_bundle_control(XID - 1, 5, BundleControl.OPEN)
    assert answers(stream, opened, encode_bundle_add(5, message)) == [(XID, *expected)]


def add(number: int, flags: int = ATOMIC_AND_ORDERED, inner_xid: int = XID) -> bytes:
    """A bundle message with a good flow in it."""
    inner = encode_flow_add(flow_of(number), inner_xid)
    return encode_message(4, XID, BUNDLE_BODY.pack(ONF, 2301, number, 0, flags) + inner)


def control(number: int, step: int) -> bytes:
    body = BUNDLE_BODY.pack(ONF, 2300, number, step, ATOMIC_AND_ORDERED)
    return encode_message(4, XID + 1, body)


BUNDLE_ERRORS: dict[str, tuple[list[bytes], list[tuple[int, int]]]] = {
    "commit of nothing": ([control(4, BundleControl.COMMIT)], [(XID + 1, 2302)]),
    "discard of nothing": ([control(4, BundleControl.DISCARD)], [(XID + 1, 2302)]),
    "opened twice": ([control(4, 0), control(4, 0)], [(XID + 1, 2302)]),
    "added without opening": ([add(4), control(4, BundleControl.COMMIT)], []),
    "closed twice": ([control(4, 0), control(4, 2), control(4, 2)], [(XID + 1, 2304)]),
    "added after closing": ([control(4, 0), control(4, 2), add(4)], [(XID, 2304)]),
    "other flags": ([control(4, 0), add(4, flags=0)], [(XID, 2307)]),
    "other transaction id": ([control(4, 0), add(4, inner_xid=9)], [(XID, 2309)]),
    "a reply as a request": ([control(4, 0), control(4, 3)], [(XID + 1, 2306)]),
    "message that is no change": (
        [control(4, 0), encode_bundle_add(4, encode_message(2, XID))], [(XID, 2310)]),
}  # fmt: skip


@pytest.mark.parametrize("what", BUNDLE_ERRORS)
def test_a_bundle_that_is_out_of_order_is_refused(what: str, stream: Stream) -> None:
    messages, expected = BUNDLE_ERRORS[what]
    assert [(xid, code) for xid, _, code in answers(stream, *messages)] == expected


def test_a_bundle_is_all_or_nothing(switch: ManagedSwitch, stream: Stream) -> None:
    messages = [control(4, 0), add(4), control(4, BundleControl.DISCARD)]
    assert answers(stream, *messages) == []
    assert switch.our_flows() == []
    messages = [control(5, 0), add(5)]
    assert answers(stream, *messages) == []
    assert switch.our_flows() == [], "nothing happens before the commit"
    assert answers(stream, control(5, BundleControl.COMMIT)) == []
    assert len(switch.our_flows()) == 1


def test_an_open_bundle_goes_with_its_connection(place: Path, stream: Stream) -> None:
    assert answers(stream, control(6, 0), add(6)) == []
    stream.close()
    with open_management("s1", str(place), timeout_s=5) as later:
        assert later.our_flows() == []


def test_a_clone_gives_the_tag_back(stream: Stream) -> None:
    tagged = Match.of(field.VLAN_VID.masked(0x1000, 0x1000))
    flow = Flow(3, 1, tagged, (Clone((PopVlan(),)), PopVlan()), 9, "t")
    assert answers(stream, encode_flow_add(flow, XID)) == []
    twice = Flow(3, 1, tagged, (PopVlan(), PopVlan()), 9, "t")
    assert answers(stream, encode_flow_add(twice, XID)) == [(XID, 2, 10)]


def test_an_echo_comes_back_with_its_bytes(place: Path) -> None:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(5)
    connected.connect(str(place / "s1.mgmt"))
    with connected:
        connected.sendall(encode_message(0, 1, struct.pack("!HHI", 1, 8, 1 << 4)))
        connected.sendall(encode_message(2, XID, b"how are you"))
        data = b""
        while encode_message(3, XID, b"how are you") not in data:
            more = connected.recv(1000)
            assert more, f"the connection ended after {data!r}"
            data += more
