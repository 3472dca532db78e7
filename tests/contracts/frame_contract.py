"""What every switch must do with frames that we have it send: the fake one and Open vSwitch.

``place`` is a fixture of whoever imports these tests, as in tests/contracts/switch_contract.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from controller.southbound import SwitchRefused
from controller.southbound.openflow import ManagedSwitch, Stream
from controller.southbound.wire import PACKET_OUT_BODY, encode_message
from flows.openflow import Flow, Load, Match, Output, PacketCount, PopVlan, Resubmit
from flows.pipeline import DELIVER, SESSION
from tests.contracts.switch_contract import BAD_PORT, XID, answers, apply
from tests.ovs.waiting import wait_for

FRAME = bytes(12) + b"\x88\xb5" + bytes(86)


def test_frames_that_are_sent_through_a_table_count_there_and_leave(switch: ManagedSwitch) -> None:
    flows = [
        Flow(DELIVER.number, DELIVER["session"], Match.of(SESSION.eq(n)), (Output(n - 3),), n, "t")
        for n in (4, 5)
    ]
    apply(switch, *flows)
    before = switch.sent_by_port()

    switch.send([FRAME] * 3, (Load(SESSION, 5), Resubmit(DELIVER.number)))

    counted = switch.flow_copies(DELIVER.number)
    assert counted[flows[0].cookie] == PacketCount(0, 0)
    assert counted[flows[1].cookie] == PacketCount(3, 300)
    assert sent_since(switch, before, 2, 3) == PacketCount(3, 300)
    assert sent_since(switch, before, 1, 0) == PacketCount(0, 0)


def test_a_frame_may_be_cut_and_leave_by_several_ports(switch: ManagedSwitch) -> None:
    before = switch.sent_by_port()
    switch.send([FRAME], (Output(1, 64), Output(2)))
    assert sent_since(switch, before, 1, 1) == PacketCount(1, 64)
    counted = switch.counts_of_port(1)
    assert counted is not None and counted.sent == switch.sent_by_port()[1]
    assert counted.lost == 0 and switch.counts_of_port(999) is None
    assert sent_since(switch, before, 2, 1) == PacketCount(1, 100)


def test_frames_with_actions_that_the_switch_refuses_are_refused(switch: ManagedSwitch) -> None:
    with pytest.raises(SwitchRefused, match="OFPBAC_BAD_OUT_PORT"):
        switch.send([FRAME], (BAD_PORT,))
    with pytest.raises(SwitchRefused, match="OFPBAC_MATCH_INCONSISTENT"):
        switch.send([FRAME], (PopVlan(),))
    switch.barrier()


def packet_out(buffer: int = 0xFFFFFFFF, in_port: int = 1, length: int = 0) -> bytes:
    """A packet out without actions that may be wrong in its head."""
    return encode_message(13, XID, PACKET_OUT_BODY.pack(buffer, in_port, length) + FRAME)


BAD_MESSAGES: dict[str, tuple[bytes, tuple[int, int]]] = {
    "from a buffer that is not there": (packet_out(buffer=7), (1, 8)),
    "as if by a port that cannot be": (packet_out(in_port=0xFFFFFF10), (1, 11)),
    "with more actions than there are": (packet_out(length=800), (1, 6)),
    "cut off": (encode_message(13, XID, bytes(8)), (1, 6)),
}


@pytest.mark.parametrize("what", BAD_MESSAGES)
def test_a_bad_packet_out_is_refused_with_the_right_type_and_code(
    what: str, stream: Stream
) -> None:
    message, expected = BAD_MESSAGES[what]
    assert answers(stream, message) == [(XID, *expected)]


def sent_since(
    switch: ManagedSwitch, before: Mapping[int, PacketCount], port: int, frames: int
) -> PacketCount:
    """What a port has sent since, once it is so many frames: the kernel may count a bit later."""

    def look() -> PacketCount:
        now = switch.sent_by_port()[port]
        return PacketCount(now.packets - before[port].packets, now.bytes - before[port].bytes)

    return wait_for(look, lambda seen: seen.packets >= frames)
