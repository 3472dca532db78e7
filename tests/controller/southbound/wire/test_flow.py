"""Messages have the same bytes as those of two other OpenFlow libraries."""

from __future__ import annotations

import importlib
import struct
from typing import Any

import pytest
from netaddr import EUI, IPAddress, mac_unix_expanded

from controller.southbound import PortReason, WireError
from controller.southbound.ports import PortCount
from controller.southbound.wire import (
    FLOW_MOD_BODY,
    HEADER,
    ONF,
    BundleControl,
    MeterCommand,
    Role,
    decode_port_desc,
    decode_port_stats,
    decode_role_reply,
    encode_actions,
    encode_aggregate_request,
    encode_barrier,
    encode_bundle_add,
    encode_bundle_control,
    encode_flow_add,
    encode_flow_delete,
    encode_flow_stats_request,
    encode_message,
    encode_meter_config_request,
    encode_meter_delete,
    encode_meter_features_request,
    encode_meter_mod,
    encode_meter_stats_request,
    encode_packet_out,
    encode_port_desc_request,
    encode_port_stats_request,
    encode_role_request,
)
from controller.southbound.wire.message import decode_bundle_reply, decode_port_status
from flows.model import Rate, RateUnit
from flows.openflow import (
    FIELDS,
    Action,
    Clone,
    Field,
    Flow,
    ForgetInPort,
    HashOf,
    Load,
    Match,
    Metered,
    MoveToVlan,
    Multipath,
    Notation,
    Output,
    PacketCount,
    PopVlan,
    PushVlan,
    RegField,
    Resubmit,
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
    SetVlanPriority,
    Term,
    field,
)
from flows.plan import InstalledFlow, Meter

XID = 0xC7000005
LOW, TAG = RegField("low", 3, 4, 19), RegField("tag", 5, 0, 11)
LIBRARY_NAMES = {"ip_src": "ipv4_src", "ip_dst": "ipv4_dst", "nd_target": "ipv6_nd_target"}
LIBRARY_NAMES |= {"icmp_type": "icmpv4_type", "icmp_code": "icmpv4_code"}
EVERY_PACKET = Match()


class Library:
    """One of the libraries, with a datapath that only serialises."""

    def __init__(self, name: str) -> None:
        self.ofproto: Any = importlib.import_module(f"{name}.ofproto.ofproto_v1_3")
        self.parser: Any = importlib.import_module(f"{name}.ofproto.ofproto_v1_3_parser")
        self.decode: Any = importlib.import_module(f"{name}.ofproto.ofproto_parser").msg
        self.ofproto_parser = self.parser

    def bytes_of(self, message: Any) -> bytes:
        message.xid = XID
        message.serialize()
        return bytes(message.buf)

    def flow_add(self, flow: Flow, match: Any, actions: list[Any]) -> bytes:
        instruction = self.parser.OFPInstructionActions(self.ofproto.OFPIT_APPLY_ACTIONS, actions)
        message = self.parser.OFPFlowMod(
            self,
            cookie=flow.cookie,
            table_id=flow.table,
            priority=flow.priority,
            match=match,
            instructions=[instruction] if actions else [],
            out_port=self.ofproto.OFPP_ANY,
            out_group=self.ofproto.OFPG_ANY,
        )
        return self.bytes_of(message)


@pytest.fixture(params=["ryu", "os_ken"])
def library(request: pytest.FixtureRequest) -> Library:
    return Library(request.param)


def shown(what: Field, value: int) -> Any:
    """``value`` in the type that the libraries take."""
    match what.notation:
        case Notation.MAC:
            return str(EUI(value, version=48, dialect=mac_unix_expanded))
        case Notation.IPV4:
            return str(IPAddress(value, 4))
        case Notation.IPV6:
            return str(IPAddress(value, 6))
        case _:
            return value


def flow_of(match: Match = EVERY_PACKET, *actions: Action) -> Flow:
    return Flow(17, 1234, match, actions, 99, "test")


@pytest.mark.parametrize("what", FIELDS, ids=lambda what: what.name)
def test_every_field_is_encoded_as_the_libraries_do(library: Library, what: Field) -> None:
    name = LIBRARY_NAMES.get(what.name, what.name)
    values = [(what.full, what.full), (0, what.full), (1 << what.bits - 1, 1 << what.bits - 1)]
    for value, mask in values:
        term = Term(what, value, mask)
        whole = mask == what.full
        given = shown(what, value) if whole else (shown(what, value), shown(what, mask))
        theirs = library.flow_add(
            flow_of(Match.of(term)), library.parser.OFPMatch(**{name: given}), []
        )
        assert encode_flow_add(flow_of(Match.of(term)), XID).hex() == theirs.hex()


def test_a_match_of_many_terms_is_encoded_as_the_libraries_do(library: Library) -> None:
    terms = {"in_port": 3, "reg3": (0x10, 0xFF0), "reg5": 7, "eth_dst": ("01:00:00:00:00:00",) * 2}
    terms |= {"vlan_vid": (0x1000, 0x1000), "eth_type": 0x800, "ip_proto": 17, "udp_dst": 53}
    ours = Match.of(
        field.UDP_DST.eq(53),
        field.IP_PROTO.eq(17),
        field.ETH_TYPE.eq(0x800),
        field.VLAN_VID.masked(0x1000, 0x1000),
        field.ETH_DST.masked(1 << 40, 1 << 40),
        field.REGISTERS[5].eq(7),
        field.REGISTERS[3].masked(0x10, 0xFF0),
        field.IN_PORT.eq(3),
    )
    theirs = b"".join(_oxm(library, name, value) for name, value in terms.items())
    message = encode_flow_add(flow_of(ours), XID)
    start = HEADER.size + FLOW_MOD_BODY.size
    length = struct.unpack_from("!HH", message, start)[1]
    assert message[start + 4 : start + length].hex() == theirs.hex()
    assert len(message) % 8 == 0


def _oxm(library: Library, name: str, value: Any) -> bytes:
    buffer = bytearray()
    library.parser.OFPMatch(**{name: value}).serialize(buffer, 0)
    return bytes(buffer[4 : struct.unpack_from("!HH", buffer)[1]])


def actions_of(library: Library) -> list[tuple[Action, Any]]:
    p = library.parser
    return [
        (Output(7), p.OFPActionOutput(7, 0)),
        (PushVlan(), p.OFPActionPushVlan(0x8100)),
        (PopVlan(), p.OFPActionPopVlan()),
        (SetVlan(5), p.OFPActionSetField(vlan_vid=0x1005)),
        (SetVlanPriority(3), p.OFPActionSetField(vlan_pcp=3)),
        (
            Load(LOW, 0xABC),
            p.NXActionRegLoad(ofs_nbits=LOW.low << 6 | LOW.bits - 1, dst="reg3", value=0xABC),
        ),
        (
            ForgetInPort(),
            p.NXActionRegLoad(ofs_nbits=15, dst="in_port_nxm", value=0xFFFF),
        ),
        (
            MoveToVlan(TAG),
            p.NXActionRegMove(
                src_field="reg5", dst_field="vlan_tci", n_bits=12, src_ofs=0, dst_ofs=0
            ),
        ),
        (Resubmit(90), p.NXActionResubmitTable(in_port=0xFFF8, table_id=90)),
        (SetTunnelKey(7001), p.OFPActionSetField(tunnel_id=7001)),
        (SetTunnelRemote(IPAddress("192.0.2.9")), p.OFPActionSetField(tun_ipv4_dst="192.0.2.9")),
        (SetTunnelRemote(IPAddress("fd00::9")), p.OFPActionSetField(tun_ipv6_dst="fd00::9")),
        (
            Multipath(HashOf.CONNECTION, 64, LOW),
            p.NXActionMultipath(
                fields=3, basis=0, algorithm=0, max_link=63, arg=0,
                ofs_nbits=LOW.low << 6 | LOW.bits - 1, dst="reg3",
            ),
        ),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(13))
def test_every_action_is_encoded_as_the_libraries_do(library: Library, number: int) -> None:
    ours, theirs = actions_of(library)[number]
    expected = library.flow_add(flow_of(Match(), ours), library.parser.OFPMatch(), [theirs])
    assert encode_flow_add(flow_of(Match(), ours), XID).hex() == expected.hex()


def test_a_meter_is_an_instruction_of_its_own(library: Library) -> None:
    p, o = library.parser, library.ofproto
    flow = flow_of(EVERY_PACKET, Metered(40001), Output(2))
    steps = p.OFPInstructionActions(o.OFPIT_APPLY_ACTIONS, [p.OFPActionOutput(2, 0)])
    message = p.OFPFlowMod(
        library, cookie=flow.cookie, table_id=17, priority=1234, match=p.OFPMatch(),
        instructions=[p.OFPInstructionMeter(40001), steps],
        out_port=o.OFPP_ANY, out_group=o.OFPG_ANY,
    )  # fmt: skip
    assert encode_flow_add(flow, XID).hex() == library.bytes_of(message).hex()


def test_a_list_of_actions_is_one_instruction(library: Library) -> None:
    pairs = actions_of(library)
    flow = flow_of(Match.of(field.IN_PORT.eq(1)), *(ours for ours, _ in pairs))
    match = library.parser.OFPMatch(in_port=1)
    expected = library.flow_add(flow, match, [theirs for _, theirs in pairs])
    assert encode_flow_add(flow, XID).hex() == expected.hex()


def test_a_clone_holds_its_actions(library: Library) -> None:
    inner = [(ours, theirs) for ours, theirs in actions_of(library) if not isinstance(ours, Clone)]
    buffer = bytearray()
    for _, theirs in inner:
        theirs.serialize(buffer, len(buffer))
    body = struct.pack("!H6x", 42) + bytes(buffer)
    theirs = library.parser.OFPActionExperimenterUnknown(0x2320, body)
    flow = flow_of(Match(), Clone(tuple(ours for ours, _ in inner)))
    expected = library.flow_add(flow, library.parser.OFPMatch(), [theirs])
    assert encode_flow_add(flow, XID).hex() == expected.hex()


def test_a_deletion_has_the_exact_cookie(library: Library) -> None:
    p, o = library.parser, library.ofproto
    installed = InstalledFlow(9, 44, Match.of(field.IN_PORT.eq(2)), flow_of().cookie)
    common: dict[str, Any] = {"cookie": installed.cookie, "cookie_mask": (1 << 64) - 1}
    common |= {"table_id": 9, "out_port": o.OFPP_ANY, "out_group": o.OFPG_ANY, "instructions": []}
    theirs = p.OFPFlowMod(
        library, command=o.OFPFC_DELETE_STRICT, priority=44, match=p.OFPMatch(in_port=2), **common
    )
    assert encode_flow_delete(installed, XID).hex() == library.bytes_of(theirs).hex()
    unknown = InstalledFlow(9, 44, None, installed.cookie)
    theirs = p.OFPFlowMod(library, command=o.OFPFC_DELETE, priority=0, match=p.OFPMatch(), **common)
    assert encode_flow_delete(unknown, XID).hex() == library.bytes_of(theirs).hex()


def test_bundles_and_barriers_are_encoded_as_the_libraries_do(library: Library) -> None:
    p, o = library.parser, library.ofproto
    both = o.ONF_BF_ATOMIC | o.ONF_BF_ORDERED
    kinds = {
        BundleControl.OPEN: o.ONF_BCT_OPEN_REQUEST,
        BundleControl.CLOSE: o.ONF_BCT_CLOSE_REQUEST,
        BundleControl.COMMIT: o.ONF_BCT_COMMIT_REQUEST,
        BundleControl.DISCARD: o.ONF_BCT_DISCARD_REQUEST,
    }
    for step, kind in kinds.items():
        theirs = library.bytes_of(p.ONFBundleCtrlMsg(library, 7, kind, both, []))
        assert encode_bundle_control(XID, 7, step).hex() == theirs.hex()
    flow = flow_of(Match.of(field.IN_PORT.eq(1)), Output(2))
    message = encode_flow_add(flow, XID)
    inner = p.OFPFlowMod(
        library,
        cookie=flow.cookie,
        table_id=17,
        priority=1234,
        match=p.OFPMatch(in_port=1),
        instructions=[p.OFPInstructionActions(o.OFPIT_APPLY_ACTIONS, [p.OFPActionOutput(2, 0)])],
        out_port=o.OFPP_ANY,
        out_group=o.OFPG_ANY,
    )
    inner.xid = XID
    theirs = library.bytes_of(p.ONFBundleAddMsg(library, 7, both, inner, []))
    assert encode_bundle_add(7, message).hex() == theirs.hex()
    theirs = library.bytes_of(p.OFPBarrierRequest(library))
    assert encode_barrier(XID).hex() == theirs.hex()


def test_roles_are_encoded_and_decoded_as_the_libraries_do(library: Library) -> None:
    p, o = library.parser, library.ofproto
    roles = {
        Role.NOCHANGE: o.OFPCR_ROLE_NOCHANGE,
        Role.EQUAL: o.OFPCR_ROLE_EQUAL,
        Role.MASTER: o.OFPCR_ROLE_MASTER,
        Role.SLAVE: o.OFPCR_ROLE_SLAVE,
    }
    for role, number in roles.items():
        theirs = library.bytes_of(p.OFPRoleRequest(library, number, 1 << 63 | 5))
        assert encode_role_request(XID, role, 1 << 63 | 5).hex() == theirs.hex()
        reply = encode_message(25, XID, struct.pack("!I4xQ", number, 7))
        parsed = p.OFPRoleReply.parser(library, 4, 25, len(reply), XID, reply)
        assert decode_role_reply(reply) == (parsed.role, parsed.generation_id)
    for broken in (reply[:-1], encode_message(25, XID, struct.pack("!I4xQ", 9, 7))):
        with pytest.raises(WireError, match=r"a role reply of 23 bytes is cut off|does not exist"):
            decode_role_reply(broken)


def test_requests_for_statistics_are_encoded_as_the_libraries_do(library: Library) -> None:
    p, o = library.parser, library.ofproto
    asked = {"cookie": 0xC7A << 52, "cookie_mask": 0xFFF << 52, "table_id": 90}
    asked |= {"out_port": o.OFPP_ANY, "out_group": o.OFPG_ANY}
    theirs = library.bytes_of(p.OFPFlowStatsRequest(library, flags=0, match=p.OFPMatch(), **asked))
    numbers = asked["cookie"], asked["cookie_mask"], 90
    assert encode_flow_stats_request(XID, *numbers).hex() == theirs.hex()
    theirs = library.bytes_of(
        p.OFPAggregateStatsRequest(library, flags=0, match=p.OFPMatch(), **asked)
    )
    assert encode_aggregate_request(XID, *numbers).hex() == theirs.hex()
    theirs = library.bytes_of(p.OFPPortDescStatsRequest(library, 0))
    assert encode_port_desc_request(XID).hex() == theirs.hex()


def test_packet_outs_are_encoded_as_the_libraries_do(library: Library) -> None:
    p, o, frame = library.parser, library.ofproto, bytes(range(70))
    ours, theirs = zip(*actions_of(library), strict=True)
    message = p.OFPPacketOut(
        library, o.OFP_NO_BUFFER, o.OFPP_CONTROLLER, actions=list(theirs), data=frame
    )
    encoded = encode_packet_out(XID, encode_actions(ours), frame)
    assert encoded.hex() == library.bytes_of(message).hex()
    with pytest.raises(WireError, match="65535"):
        encode_packet_out(XID, b"", bytes(65535))


def test_port_statistics_are_decoded_as_the_libraries_encode_them(library: Library) -> None:
    p, o = library.parser, library.ofproto
    for asked in (o.OFPP_ANY, 7):
        request = p.OFPPortStatsRequest(library, 0, asked)
        assert encode_port_stats_request(XID, asked).hex() == library.bytes_of(request).hex()
    assert encode_port_stats_request(XID) == encode_port_stats_request(XID, o.OFPP_ANY)
    body = b"".join(struct.pack("!I4x12QII", n, *range(n, n + 14)) for n in (10, 20))
    unknown = struct.pack("!I4x12QII", 30, 1, (1 << 64) - 1, *[0] * 10, 0, 0)
    reply = encode_message(19, XID, struct.pack("!HH4x", 4, 0) + body + unknown)
    parsed = p.OFPMultipartReply.parser(library, 4, 19, len(reply), XID, reply)
    expected = [
        (
            s.port_no,
            PortCount(
                PacketCount(s.tx_packets, s.tx_bytes),
                PacketCount(s.rx_packets, s.rx_bytes),
                s.tx_dropped,
            ),
        )
        for s in parsed.body
    ][:2]
    assert list(decode_port_stats(reply)) == expected
    with pytest.raises(WireError, match="cut off"):
        list(decode_port_stats(reply[:-1]))


def test_a_flow_that_is_longer_than_a_message_is_refused_by_name() -> None:
    fits = flow_of(Match(), *[Output(1)] * 4087)
    assert len(encode_flow_add(fits, XID)) <= 65535 - 24
    for flow in (flow_of(Match(), *[Output(1)] * 4095), flow_of(Match(), *[Output(1)] * 5000)):
        with pytest.raises(WireError, match=r"cookie=0xc7a00063.*\(test\) cannot be sent"):
            encode_flow_add(flow, XID)
    with pytest.raises(WireError, match="a clone of 5000 actions"):
        encode_flow_add(flow_of(Match(), Clone((Output(1),) * 5000)), XID)
    with pytest.raises(WireError, match="cannot be sent"):
        encode_flow_add(flow_of(Match(), Output(1 << 32)), XID)


def port_bytes(number: int, name: bytes, config: int, state: int) -> bytes:
    return struct.pack("!I4x6s2x16sIIIIIIII", number, b"\2" * 6, name, config, state, *[0] * 6)


def test_ports_are_decoded_whatever_their_names_are() -> None:
    body = port_bytes(1, b"s1-eth1", 0, 0) + port_bytes(2, b"0123456789abcdef", 1, 0)
    body += port_bytes(0xFFFFFFFE, "bridgeé".encode(), 0, 1) + port_bytes(4, b"\xff\xfe", 0, 4)
    message = encode_message(19, XID, struct.pack("!HH4x", 13, 0) + body)
    ports = decode_port_desc(message)
    assert [port.ofport for port in ports] == [1, 2, 0xFFFFFFFE, 4]
    assert [port.is_up for port in ports] == [True, False, False, True]
    names = [port.name for port in ports]
    assert names == ["s1-eth1", "0123456789abcdef", "bridgeé", r"\xff\xfe"]
    with pytest.raises(WireError, match="cut off"):
        decode_port_desc(message[:-1])


def test_a_port_status_is_decoded_and_a_malformed_one_is_refused() -> None:
    body = struct.pack("!B7x", 1) + port_bytes(3, b"gone", 0, 0)
    change = decode_port_status(encode_message(12, 0, body))
    assert (change.reason, change.port.ofport) == (PortReason.DELETED, 3)
    for bad in (body[:20], struct.pack("!B7x", 9) + body[8:]):
        with pytest.raises(
            WireError, match=r"a port status of [0-9]+ bytes is cut off|no reason that exists"
        ):
            decode_port_status(encode_message(12, 0, bad))


def test_bundle_replies_are_distinguished_from_other_experimenter_messages() -> None:
    body = struct.pack("!IIIHH", ONF, 2300, 7, 5, 3)
    message = encode_message(4, XID, body)
    assert decode_bundle_reply(message) == (7, BundleControl.COMMIT)
    for bad in (body[:8], struct.pack("!IIIHH", 0x2320, 2300, 7, 5, 3), body[:12] + b"\0\4\0\3"):
        with pytest.raises(WireError):
            decode_bundle_reply(encode_message(4, XID, bad))


@pytest.mark.parametrize("change", MeterCommand, ids=lambda change: change.name)
@pytest.mark.parametrize("unit", RateUnit, ids=lambda unit: unit.name)
def test_meters_are_encoded_as_the_libraries_do(
    library: Library, change: MeterCommand, unit: RateUnit
) -> None:
    meter, p, o = Meter(40_001, Rate(unit, 123_456)), library.parser, library.ofproto
    commands = [o.OFPMC_ADD, o.OFPMC_MODIFY, o.OFPMC_DELETE]
    units = {RateUnit.KBPS: o.OFPMF_KBPS, RateUnit.PPS: o.OFPMF_PKTPS}
    flags, bands = (
        units[unit] | o.OFPMF_BURST | o.OFPMF_STATS,
        [p.OFPMeterBandDrop(123_456, 12_345)],
    )
    ours = encode_meter_mod(change, meter, XID)
    if change is MeterCommand.DELETE:
        ours, flags, bands = encode_meter_delete(40_001, XID), 0, []
    theirs = p.OFPMeterMod(library, commands[change], flags, 40_001, bands)
    assert ours.hex() == library.bytes_of(theirs).hex()


def test_meter_requests_are_encoded_as_the_libraries_do(library: Library) -> None:
    p = library.parser
    pairs = [
        (encode_meter_config_request(XID), p.OFPMeterConfigStatsRequest(library)),
        (encode_meter_stats_request(XID), p.OFPMeterStatsRequest(library)),
        (encode_meter_stats_request(XID, 7), p.OFPMeterStatsRequest(library, 0, 7)),
        (encode_meter_features_request(XID), p.OFPMeterFeaturesStatsRequest(library)),
    ]
    for ours, theirs in pairs:
        assert ours.hex() == library.bytes_of(theirs).hex()
