"""Nicira extensions are encoded like in two other libraries, as far as these support them."""

from __future__ import annotations

from typing import Any

import pytest
from netaddr import IPAddress

from controller.southbound.wire import encode_actions
from controller.southbound.wire.action import LEARN2
from flows.openflow import (
    LEARNED_OBJECT,
    Action,
    HashOf,
    Learn,
    Load,
    MoveToVlan,
    Multipath,
    Output,
    RegField,
    Resubmit,
    SetMark,
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
    SetVlanPriority,
    make_cookie,
)
from tests.controller.southbound.wire.test_flow import Library

LEARN_HEAD = 32
"""Bytes of the older learn action before its flow specs."""


@pytest.fixture(params=["ryu", "os_ken"])
def library(request: pytest.FixtureRequest) -> Library:
    return Library(request.param)


def bytes_of(theirs: Any) -> bytes:
    buffer = bytearray()
    theirs.serialize(buffer, 0)
    return bytes(buffer)


def test_lowest_and_highest_numbers_are_encoded_as_the_libraries_do(library: Library) -> None:
    p = library.parser
    pairs: list[tuple[Action, Any]] = [
        (Output(1, 14), p.NXActionOutputTrunc(1, 14)),
        (Output(0xFEFF, 0xFFFFFFFF), p.NXActionOutputTrunc(0xFEFF, 0xFFFFFFFF)),
        (Output(0xFFFFFFFE), p.OFPActionOutput(0xFFFFFFFE, 0)),
        (SetVlan(0), p.OFPActionSetField(vlan_vid=0x1000)),
        (SetVlan(0xFFF), p.OFPActionSetField(vlan_vid=0x1FFF)),
        (SetVlanPriority(7), p.OFPActionSetField(vlan_pcp=7)),
        (Resubmit(254), p.NXActionResubmitTable(in_port=0xFFF8, table_id=254)),
        (SetMark(0xFFFFFFFF), p.OFPActionSetField(pkt_mark=0xFFFFFFFF)),
        (SetTunnelKey(0xFFFFFFFF), p.OFPActionSetField(tunnel_id=0xFFFFFFFF)),
        (SetTunnelRemote(IPAddress(0, 4)), p.OFPActionSetField(tun_ipv4_dst="0.0.0.0")),
    ]
    for ours, theirs in pairs:
        assert encode_actions((ours,)).hex() == bytes_of(theirs).hex(), ours


@pytest.mark.parametrize("register", range(16))
@pytest.mark.parametrize(("low", "high"), [(0, 31), (0, 0), (31, 31), (7, 18)])
def test_every_register_is_encoded_as_the_libraries_do(
    library: Library, register: int, low: int, high: int
) -> None:
    part, p = RegField("part", register, low, high), library.parser
    place, name = low << 6 | part.bits - 1, f"reg{register}"
    value = (1 << part.bits) - 1
    pairs: list[tuple[Action, Any]] = [
        (Load(part, value), p.NXActionRegLoad(ofs_nbits=place, dst=name, value=value)),
        (
            Multipath(HashOf.HOSTS, 2, part),
            p.NXActionMultipath(
                fields=6, basis=0, algorithm=0, max_link=1, arg=0, ofs_nbits=place, dst=name
            ),
        ),
    ]
    if part.bits == 12:
        theirs = p.NXActionRegMove(
            src_field=name, dst_field="vlan_tci", n_bits=12, src_ofs=low, dst_ofs=0
        )
        pairs.append((MoveToVlan(part), theirs))
    for ours, theirs in pairs:
        assert encode_actions((ours,)).hex() == bytes_of(theirs).hex(), ours


def test_learn_is_encoded_as_the_libraries_do(library: Library) -> None:
    """They support only the older action, which has no limit and another subtype."""
    network, out = RegField("network", 1, 0, 19), RegField("out", 4, 3, 18)
    cookie = make_cookie(LEARNED_OBJECT, 7)
    ours = encode_actions((Learn(22, 100, 300, 50, cookie, network, out),))
    p = library.parser
    theirs = bytes_of(
        p.NXActionLearn(
            table_id=22,
            specs=[
                p.NXFlowSpecMatch(src=("reg1", 0), dst=("reg1", 0), n_bits=20),
                p.NXFlowSpecMatch(src=("eth_src_nxm", 0), dst=("eth_dst_nxm", 0), n_bits=48),
                p.NXFlowSpecLoad(src=("in_port_nxm", 0), dst=("reg4", 3), n_bits=16),
            ],
            idle_timeout=300, priority=100, cookie=cookie, flags=2,
        )
    )  # fmt: skip
    assert ours[10:LEARN_HEAD].hex() == theirs[10:LEARN_HEAD].hex()
    assert ours[LEARN_HEAD : LEARN2.size].hex() == "0000003200000000", "limit, and no result"
    assert ours[LEARN2.size :].rstrip(b"\0").hex() == theirs[LEARN_HEAD:].rstrip(b"\0").hex()
    assert len(ours) % 8 == 0
