"""Every table, register and priority that we own on a bridge, each with its contract.

Production comes first: start -> admit -> learn, lookup -> output or flood. Registers hold how the
packet was delivered. Then egress and ingress select the sessions that watch its ports, once
deduplicates, and deliver makes the copy. Exclusive sessions compete before that: probe, alone,
claim, won. docs/pipeline.md is generated from this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from flows.errors import InvalidFlow
from flows.model import OFPORT_MAX
from flows.openflow import Field, Pattern, RegField, Term, pattern

# --- registers ---------------------------------------------------------------------------------

OUT = RegField("out", 0, 0, 15)
"""OpenFlow port to which production delivers a unicast packet; 0 when it delivers to none."""
NETWORK = RegField("network", 1, 0, 19)
"""Number of the network that the packet belongs to."""
SENDER = RegField("sender", 2, 0, 19)
"""Number of the port that sent the packet, on this bridge or another; 0 when unknown."""
TAG = RegField("tag", 3, 0, 11)
"""Link tag (802.1Q id) of the packet between bridges; it stands for the network or the sender."""
CAST = RegField("cast", 4, 0, 2)
"""How production delivered the packet on this bridge (see Cast)."""
BY_LINK = RegField("by_link", 4, 8, 8)
"""1 when the packet arrived over a link from another bridge."""
SESSION = RegField("session", 6, 0, 19)
"""Number of the session that is being served."""

FILTER_ID = RegField("filter", 5, 0, 19)
"""Number and edition of the filter that is being evaluated."""
RULES = RegField("rules", 7, 0, 0)
"""Which list of rules is evaluated (see Rules)."""
VERDICT = RegField("verdict", 7, 8, 8)
"""1 when the filter accepts the packet."""

LARGER = RegField("larger", 13, 0, 0)
"""1 when the packet is longer than a copy of the session may be."""
TAGGED = RegField("tagged", 13, 8, 8)
"""1 while the packet is a copy that wears a tag of ours."""
BUCKET = RegField("bucket", 14, 0, 5)
"""Bucket of a sensor pool that the hash of the packet selects."""
POOL = RegField("pool", 14, 8, 27)
"""Number of the collector whose pool of sensors gets the copy."""
SENSOR = RegField("sensor", 15, 0, 7)
"""Position of the sensor among those of its collector."""
EPOCH = RegField("epoch", 15, 8, 27)
"""Number of an epoch of megaflows. It is 0 in every packet: only a flow that no packet is meant to
match asks for it."""

TAKEN = RegField("taken", 7, 16, 16)
"""1 when an exclusive session has taken the packet at the port that is being evaluated."""
COHORTS_0 = RegField("cohorts_0", 8, 0, 31)
"""Cohorts 0-31 in which the packet is taken, one bit each. A cohort is a set of ports that the
same exclusive sessions watch."""
COHORTS_1 = RegField("cohorts_1", 9, 0, 31)
"""The same for the cohorts 32-63."""
COHORTS_2 = RegField("cohorts_2", 10, 0, 31)
"""The same for the cohorts 64-95."""
COHORTS_3 = RegField("cohorts_3", 11, 0, 31)
"""The same for the cohorts 96-127."""
WINNER = RegField("winner", 12, 0, 19)
"""Number of the exclusive session that takes the packet at its sender; 0: none, or irrelevant."""

COHORTS = (COHORTS_0, COHORTS_1, COHORTS_2, COHORTS_3)
REGISTER_FIELDS = (
    *(OUT, NETWORK, SENDER, TAG, CAST, BY_LINK, SESSION, FILTER_ID, RULES, VERDICT),
    *(TAKEN, *COHORTS, WINNER),
    *(LARGER, TAGGED, BUCKET, POOL, SENSOR, EPOCH),
)


class Cast(IntEnum):
    """How production delivered a packet on one bridge."""

    NOWHERE = 0
    """Not delivered here: dropped by policy, or sent on over a link."""
    UNICAST = 1
    """To the port in OUT."""
    FLOOD = 2
    """To every port of its network, on every bridge."""
    LATE_FLOOD = 3
    """To every port of its network from here on: the bridge before had learned the address."""


class Rules(IntEnum):
    """The two lists of rules of a filter."""

    EGRESS = 0
    """What the workload sends."""
    INGRESS = 1
    """What the workload receives."""


class FloodMark(IntEnum):
    """Priority bits (PCP) of the link tag: how the next bridge must forward the packet."""

    LOOKUP = 0
    """Look the destination up."""
    FLOOD = 1
    """The first bridge flooded it: flood it as well."""


# --- tables ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """One flow table: its purpose, the fields its flows may match, and where they may resubmit.

    ``then`` are names of tables, ``owns`` names of registers that its flows may set.
    ``priorities`` names every priority used, highest first.
    """

    name: str
    number: int
    purpose: str
    matches: frozenset[str]
    then: frozenset[str]
    owns: frozenset[str]
    priorities: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        """The number of a named priority."""
        return self.priorities[name]

    def pattern(self, priority: str, *conditions: Term | Field | RegField) -> Pattern:
        """The pattern of some of its flows, with the values of fields left open (see pattern)."""
        return pattern(self.number, self.priorities[priority], *conditions)


def _table(
    name: str, number: int, purpose: str, *, matches: str = "", then: str = "", owns: str = "",
    **priorities: int,
) -> Table:  # fmt: skip
    fields, tables, registers = (frozenset(names.split()) for names in (matches, then, owns))
    return Table(name, number, purpose, fields, tables, registers, priorities)


START = _table(
    "start", 0, "Identify sender and network, forward production, then evaluate the sessions.",
    matches="in_port vlan_vid vlan_pcp epoch pkt_mark",
    then="admit learn identify lookup flood own_tag copied_from copied_to egress ingress size",
    owns="network sender tag by_link cast session",
    epoch=500, tap_port=400, segmented=350, transport=300, flooded=250, link=200, workload=100,
    closed=50, nothing=0,
)  # fmt: skip
ADMIT = _table(
    "admit", 10, "Drop what a protected port sends with another source MAC address.",
    matches="in_port eth_src", then="admit_address lookup",
    protected=100, nothing=0,
)  # fmt: skip
ADMIT_ADDRESS = _table(
    "admit_address", 11, "Drop what a protected port sends with another source IP address.",
    matches="in_port eth_type ip_src ip_proto udp_src udp_dst arp_spa arp_sha ipv6_src",
    then="admit_neighbour lookup",
    address=200, spoofed=100, other=0,
)  # fmt: skip
ADMIT_NEIGHBOUR = _table(
    "admit_neighbour", 12, "Drop IPv6 neighbour advertisements for addresses of others.",
    matches="in_port eth_type ip_proto icmpv6_type nd_target", then="lookup",
    address=200, spoofed=100, other=0,
)  # fmt: skip
IDENTIFY = _table(
    "identify", 15, "Identify the protected port of another bridge that sent the packet.",
    matches="network eth_src", owns="sender",
    address=100, nothing=0,
)  # fmt: skip
LEARN = _table(
    "learn", 20, "Learn the port of an unprotected sender's MAC address.",
    matches="sender eth_src", group=200, sender=100, nothing=0,
)  # fmt: skip
LOOKUP = _table(
    "lookup", 21, "Look up the destination MAC address: declared, learned, or unknown (flood).",
    matches="network eth_dst", then="learned output flood", owns="out cast",
    group=200, address=100, unknown=0,
)  # fmt: skip
LEARNED = _table(
    "learned", 22, "Learned MAC addresses; the switch adds these flows itself.",
    matches="network eth_dst", owns="out",
    learned=100, nothing=0,
)  # fmt: skip
OUTPUT = _table(
    "output", 30, "Deliver a unicast packet, if its output port still belongs to its network.",
    matches="in_port network out by_link", then="flood", owns="cast",
    hairpin=200, way=100, late=20, unknown=0,
)  # fmt: skip
FLOOD = _table(
    "flood", 31, "Deliver to every port of the network but the sender's.",
    matches="network cast", network=100, nothing=0,
)  # fmt: skip
OWN_TAG = _table(
    "own_tag", 35, "Have a packet from a link read again if the workload tagged it itself.",
    matches="eth_type", then="reread ingress", tagged=100, nothing=0,
)  # fmt: skip
REREAD = _table(
    "reread", 36, "Go on with a packet that was read again; its megaflows begin here.",
    matches="epoch pkt_mark", then="ingress", epoch=500, nothing=0,
)  # fmt: skip
COPIED_FROM = _table(
    "copied_from", 38, "Select the sessions that watch the sender of a copy, told by its address.",
    matches="in_port network eth_src", then="accept filter deliver",
    owns="session rules filter verdict",
    address=100, nothing=0,
)  # fmt: skip
COPIED_TO = _table(
    "copied_to", 39, "Select the sessions that watch a receiver of a copy, told by its address.",
    matches="in_port network eth_dst", then="once", owns="session rules",
    group=200, address=100, nothing=0,
)  # fmt: skip
EGRESS = _table(
    "egress", 40, "Select the sessions that watch what the ingress port sends.",
    matches="in_port", then="claim unsent agreed accept filter deliver",
    owns="session rules filter verdict",
    port=100, nothing=0,
)  # fmt: skip
INGRESS = _table(
    "ingress", 41, "Select the sessions that watch a port to which the packet was delivered.",
    matches="cast out network", then="probe alone claim once", owns="session rules taken",
    port=100, network=100, nothing=0,
)  # fmt: skip
PROBE = _table(
    "probe", 42, "Find the exclusive session that took the packet at its sender on another bridge.",
    matches="sender", then="claim", owns="session rules",
    sender=100, nothing=0,
)  # fmt: skip
ALONE = _table(
    "alone", 43, "Mark a cohort as taken if the sender is its only port: none receives the packet.",
    matches="sender", owns="cohorts_0 cohorts_1 cohorts_2 cohorts_3",
    sender=100, nothing=0,
)  # fmt: skip
CLAIM = _table(
    "claim", 44, "Evaluate one exclusive session, unless a session before it has taken the packet.",
    matches="session network sender rules cast taken cohorts_0 cohorts_1 cohorts_2 cohorts_3",
    then="filter won", owns="filter verdict",
    taken=300, lost=200, session=100, nothing=0,
)  # fmt: skip
WON = _table(
    "won", 45, "Mark the packet as taken by the exclusive session that accepts it.",
    matches="session network rules cast by_link verdict", then="once deliver",
    owns="taken winner cohorts_0 cohorts_1 cohorts_2 cohorts_3",
    session=100, nothing=0,
)  # fmt: skip
ONCE = _table(
    "once", 46, "Deduplicate: let each session copy the packet at most once.",
    matches="session sender cast network winner eth_src", then="unsent accept filter",
    owns="filter rules verdict",
    won=500, address=450, sender=400, elsewhere=300, sent=200, first=0,
)  # fmt: skip
UNSENT = _table(
    "unsent", 47, "Continue only if the sender's bridge did not copy the packet for this session.",
    matches="verdict", then="accept",
    sent=100, unsent=0,
)  # fmt: skip
AGREED = _table(
    "agreed", 48, "Continue only if the other list of rules of the session accepts the packet.",
    matches="verdict", then="accept",
    agreed=100, alone=0,
)  # fmt: skip
ACCEPT = _table(
    "accept", 50, "Select the filter of the session.",
    matches="session", then="filter decide deliver", owns="filter verdict",
    session=100, nothing=0,
)  # fmt: skip
FILTER = _table(
    "filter", 70, "Evaluate a list of rules: the first match accepts or rejects the packet.",
    matches="filter rules eth_src eth_dst vlan_vid eth_type ip_proto ip_src ip_dst ipv6_src "
    "ipv6_dst tcp_src tcp_dst tcp_flags udp_src udp_dst sctp_src sctp_dst icmp_type icmp_code "
    "icmpv6_type icmpv6_code ip_frag arp_op",
    owns="verdict", nothing=0,
)  # fmt: skip
RULE_PRIORITIES = range(5_000, 65_000)
"""Priorities of rules in the filter table: 65000 minus the number of the rule."""
DECIDE = _table(
    "decide", 71, "Continue with packets that the filter has accepted.",
    matches="verdict", then="deliver",
    accepted=100, rejected=0,
)  # fmt: skip
DELIVER = _table(
    "deliver", 90, "Make the copy of one session, here or in the tables that follow.",
    matches="session network vlan_vid", then="cap bridge_cap size send count",
    owns="session larger tagged", tagged=300, network=200, session=100, nothing=0,
)  # fmt: skip
CAP = _table(
    "cap", 91, "Drop the copies of a session that exceed its rate cap.",
    matches="session", then="bridge_cap size", session=100, nothing=0,
)  # fmt: skip
BRIDGE_CAP = _table(
    "bridge_cap", 92, "Drop the copies that exceed the rate cap of the bridge.",
    then="size", everything=0,
)  # fmt: skip
SIZE = _table(
    "size", 93, "Compare the length with the limit of copies, and hash the packet to a sensor.",
    matches="session vlan_vid", then="pool send", owns="larger bucket pool",
    tagged=200, session=100, nothing=0,
)  # fmt: skip
POOL_TABLE = _table(
    "pool", 94, "Map the bucket of a pool to its sensor.",
    matches="pool bucket", owns="sensor", bucket=100, nothing=0,
)  # fmt: skip
SEND = _table(
    "send", 95, "Send the copy to its sensor, or over the segmenting pair if it must be truncated.",
    matches="in_port session network sensor larger", then="cut count", owns="session tagged",
    segmented=500, super_frame=400, larger=300, network=200, session=100, nothing=0,
)  # fmt: skip
CUT = _table(
    "cut", 96, "Truncate the copy of a packet that is too long, or count it and send nothing.",
    matches="session network sensor vlan_vid", then="count", owns="session tagged",
    tagged_network=400, tagged=300, network=200, session=100, nothing=0,
)  # fmt: skip
COUNT = _table(
    "count", 97, "Count a copy that was sent, by a meter that drops nothing.",
    matches="session tagged vlan_vid", tagged=200, session=100, nothing=0,
)  # fmt: skip

PIPELINE: tuple[Table, ...] = (
    *(START, ADMIT, ADMIT_ADDRESS, ADMIT_NEIGHBOUR, IDENTIFY, LEARN, LOOKUP, LEARNED),
    *(OUTPUT, FLOOD, OWN_TAG, REREAD, COPIED_FROM, COPIED_TO, EGRESS, INGRESS, PROBE, ALONE),
    *(CLAIM, WON, ONCE, UNSENT, AGREED, ACCEPT, FILTER, DECIDE, DELIVER),
    *(CAP, BRIDGE_CAP, SIZE, POOL_TABLE, SEND, CUT, COUNT),
)
TABLE_BY_NUMBER = {table.number: table for table in PIPELINE}

NOWHERE = OFPORT_MAX + 1
"""A port number that no bridge has. A truncating output to it makes Open vSwitch execute the clone
around it on a packet of its own, and sends nothing."""


def check_pipeline(
    tables: Iterable[Table] = PIPELINE, registers: Iterable[RegField] = REGISTER_FIELDS
) -> None:
    """Refuse a pipeline with a loop, an unknown table or register, or registers that share bits.

    Raises:
        InvalidFlow: with the table or register that is wrong.
    """
    tables, registers = tuple(tables), tuple(registers)
    number_by_name = {table.name: table.number for table in tables}
    if len(number_by_name) != len(tables) or len(set(number_by_name.values())) != len(tables):
        raise InvalidFlow("two tables share a name or a number")
    names = {register.name for register in registers}
    for table in tables:
        for target in table.then:
            if target not in number_by_name:
                raise InvalidFlow(f"table {table.name!r} continues in unknown table {target!r}")
            if number_by_name[target] <= table.number:
                raise InvalidFlow(f"table {table.name!r} goes back to {target!r}: a loop")
        if table.owns - names:
            raise InvalidFlow(f"table {table.name!r} owns unknown {sorted(table.owns - names)}")
    used: dict[int, int] = {}
    for register in registers:
        if used.get(register.reg, 0) & register.mask:
            raise InvalidFlow(f"{register.name!r} shares bits of reg{register.reg} with another")
        used[register.reg] = used.get(register.reg, 0) | register.mask


check_pipeline()
