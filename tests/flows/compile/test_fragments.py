"""Rules about ports, ICMP types and TCP flags: what first and later fragments match."""

from __future__ import annotations

import pytest

from flows.compile.filter import alternatives
from flows.model import PortRange, RuleMatch, TcpFlags
from flows.openflow import IP_FRAG, LATER_FRAGMENT, Flow, Match, read_fields
from flows.openflow.text import parse_flow
from flows.semantics.filter import is_match
from tests import frames

MORE, LATER = 0x2000, 0x0010
ZERO, LOW, HTTPS = ((PortRange(0, 0),), (PortRange(0, 1023),), (PortRange(443, 443),))


def packet(proto: int, body: bytes, fragment: int) -> bytes:
    whole = frames.ipv4("10.0.0.1", "10.0.0.2", proto, body, fragment)
    return frames.ethernet(2, 1, 0x0800, whole)


UDP = frames.udp(9, 443, bytes(24))
PONG, SYN = bytes(32), frames.tcp(9, 443, 2, b"")


@pytest.mark.parametrize(
    ("match", "proto", "body", "matches_first"),
    [
        (RuleMatch(protocol=17, destination_port=HTTPS), 17, UDP, True),
        (RuleMatch(protocol=17, destination_port=LOW), 17, UDP, True),
        (RuleMatch(protocol=17, destination_port=ZERO), 17, UDP, False),
        (RuleMatch(protocol=17, source_port=LOW, destination_port=LOW), 17, UDP, True),
        (RuleMatch(protocol=1, icmp_type=0), 1, PONG, True),
        (RuleMatch(protocol=1, icmp_type=0, icmp_code=0), 1, PONG, True),
        (RuleMatch(protocol=1, icmp_type=8), 1, PONG, False),
        (RuleMatch(protocol=6, tcp_flags=TcpFlags(2, 2)), 6, SYN, True),
        (RuleMatch(protocol=6, tcp_flags=TcpFlags(0, 16)), 6, SYN, True),
    ],
)
def test_only_the_first_fragment_has_a_transport_header(
    match: RuleMatch, proto: int, body: bytes, *, matches_first: bool
) -> None:
    whole, first = (read_fields(packet(proto, body, bits)) for bits in (0, MORE))
    assert is_match(match, whole) is is_match(match, first) is matches_first
    for bits in (LATER, MORE | LATER):
        assert not is_match(match, read_fields(packet(proto, bytes(32), bits)))


def test_a_protocol_matches_every_fragment_of_ipv4() -> None:
    for bits in (0, MORE, LATER, MORE | LATER):
        assert is_match(RuleMatch(protocol=17), read_fields(packet(17, UDP, bits)))


def test_flows_that_match_zero_keep_later_fragments_out() -> None:
    """A switch reads 0 for what later fragments lack."""
    keep_out = IP_FRAG.masked(0, LATER_FRAGMENT)
    for match, is_needed in (
        (RuleMatch(protocol=17, destination_port=ZERO), True),
        (RuleMatch(protocol=17, destination_port=HTTPS), False),
        (RuleMatch(protocol=17, source_port=ZERO, destination_port=HTTPS), False),
        (RuleMatch(protocol=1, icmp_type=0), True),
        (RuleMatch(protocol=6, tcp_flags=TcpFlags(0, 2)), True),
        (RuleMatch(protocol=17), False),
        (RuleMatch(), False),
    ):
        assert all((keep_out in terms) is is_needed for terms in alternatives(match)), match


def test_the_condition_is_written_as_open_vswitch_does() -> None:
    match = RuleMatch(protocol=1, icmp_type=0)
    [terms] = alternatives(match)
    text = str(Flow(70, 9, Match.of(*terms), (), 1, "test"))
    assert ",ip_frag=not_later,actions=drop" in text
    assert parse_flow(text, "test") == Flow(70, 9, Match.of(*terms), (), 1, "test")
