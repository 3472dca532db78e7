"""Every table, register and priority that we own on a bridge, each with its contract.

A packet goes through production first: start -> admit -> learn, lookup -> output or flood. What
production did is left in registers; then egress and ingress choose the sessions that want the
packet, once sees to it that a session gets it one time only, and deliver makes the copy. Exclusive
sessions compete for it before that: probe, alone, claim, won.
docs/pipeline.md is generated from this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from flows.errors import InvalidFlow
from flows.openflow.field import Field, RegField, Term
from flows.model.session import OFPORT_MAX
from flows.openflow.pattern import Pattern, pattern
from flows.model.world import METERS

# --- what a packet's registers remember --------------------------------------------------------

OUT = RegField("out", 0, 0, 15)
"""OpenFlow port that production chose for a unicast packet; 0 when it chose none."""
NETWORK = RegField("network", 1, 0, 19)
"""Number of the network that the packet is in."""
SENDER = RegField("sender", 2, 0, 19)
"""Number of the port that sent the packet, on this bridge or another; 0 when unknown."""
TAG = RegField("tag", 3, 0, 11)
"""Link tag that the packet wears, or would wear, between bridges: it names network or sender."""
CAST = RegField("cast", 4, 0, 2)
"""How production delivered the packet on this bridge (see Cast)."""
BY_LINK = RegField("by_link", 4, 8, 8)
"""1 when the packet came over a link from another bridge."""
SESSION = RegField("session", 6, 0, 19)
"""Number of the session that is being served."""

FILTER_ID = RegField("filter", 5, 0, 19)
"""Number of the filter that is being asked."""
RULES = RegField("rules", 7, 0, 0)
"""Which list of rules is asked (see Rules)."""
VERDICT = RegField("verdict", 7, 8, 8)
"""1 when the filter has accepted the packet."""

LARGER = RegField("larger", 13, 0, 0)
"""1 when the packet is longer than copies of the session may be."""
BUCKET = RegField("bucket", 14, 0, 5)
"""Virtual bucket of a sensor pool that the packet falls into."""
POOL = RegField("pool", 14, 8, 27)
"""Number of the collector whose pool of sensors is asked."""
SENSOR = RegField("sensor", 15, 0, 7)
"""Position of the sensor among those of its collector."""

TAKEN = RegField("taken", 7, 16, 16)
"""1 when an exclusive session has taken the packet at the port that is being served."""
COHORTS_0 = RegField("cohorts_0", 8, 0, 31)
"""Cohorts 0-31 (ports that the same exclusive sessions contest) that are taken, a bit each."""
COHORTS_1 = RegField("cohorts_1", 9, 0, 31)
"""The same for the cohorts 32-63."""
COHORTS_2 = RegField("cohorts_2", 10, 0, 31)
"""The same for the cohorts 64-95."""
COHORTS_3 = RegField("cohorts_3", 11, 0, 31)
"""The same for the cohorts 96-127."""
WINNER = RegField("winner", 12, 0, 19)
"""Number of the exclusive session that takes what the sender sends; 0: none that matters here."""

COHORTS = (COHORTS_0, COHORTS_1, COHORTS_2, COHORTS_3)
REGISTERS = (
    *(OUT, NETWORK, SENDER, TAG, CAST, BY_LINK, SESSION, FILTER_ID, RULES, VERDICT),
    *(TAKEN, *COHORTS, WINNER),
    *(LARGER, BUCKET, POOL, SENSOR),
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
    """To every port of its network from here on: the bridge before knew the way, this one not."""


class Rules(IntEnum):
    """The two lists of rules of a filter."""

    EGRESS = 0
    """What the workload sends."""
    INGRESS = 1
    """What the workload receives."""


class FloodMark(IntEnum):
    """Priority bits of the link tag: how the next bridge shall treat the packet."""

    LOOKUP = 0
    """Look the destination up."""
    FLOOD = 1
    """The first bridge flooded it: flood it too."""


# --- tables ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """One table: what it decides, what its flows may match, set and continue with.

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
        """What some of its flows ask for, with the values of fields left open (see pattern)."""
        return pattern(self.number, self.priorities[priority], *conditions)


def _table(
    name: str, number: int, purpose: str, *, matches: str = "", then: str = "", owns: str = "",
    **priorities: int,
) -> Table:  # fmt: skip
    asks, goes, sets = (frozenset(words.split()) for words in (matches, then, owns))
    return Table(name, number, purpose, asks, goes, sets, priorities)


START = _table(
    "start", 0, "Say who sent the packet, let production handle it, then serve the sessions.",
    matches="in_port vlan_vid vlan_pcp",
    then="admit learn identify lookup flood egress ingress",
    owns="network sender tag by_link cast",
    tap_port=400, transport=300, flooded=250, link=200, workload=100, nothing=0,
)  # fmt: skip
ADMIT = _table(
    "admit", 10, "Drop what a protected port sends under another MAC address.",
    matches="in_port eth_src", then="admit_address lookup",
    protected=100, nothing=0,
)  # fmt: skip
ADMIT_ADDRESS = _table(
    "admit_address", 11, "Drop what a protected port sends under another IP address.",
    matches="in_port eth_type ip_src ip_proto udp_src udp_dst arp_spa arp_sha ipv6_src",
    then="admit_neighbour lookup",
    address=200, spoofed=100, other=0,
)  # fmt: skip
ADMIT_NEIGHBOUR = _table(
    "admit_neighbour", 12, "Drop IPv6 neighbour advertisements for another address.",
    matches="in_port eth_type ip_proto icmpv6_type nd_target", then="lookup",
    address=200, spoofed=100, other=0,
)  # fmt: skip
IDENTIFY = _table(
    "identify", 15, "Say which protected port of another bridge sent the packet.",
    matches="network eth_src", owns="sender",
    address=100, nothing=0,
)  # fmt: skip
LEARN = _table(
    "learn", 20, "Remember behind which port an unprotected sender's address is.",
    matches="sender eth_src", group=200, sender=100, nothing=0,
)  # fmt: skip
LOOKUP = _table(
    "lookup", 21, "Find the way to the destination: declared, learned, or everybody.",
    matches="network eth_dst", then="learned output flood", owns="out cast",
    group=200, address=100, unknown=0,
)  # fmt: skip
LEARNED = _table(
    "learned", 22, "Addresses that the switch has learned; filled by the switch itself.",
    matches="network eth_dst", owns="out",
    learned=100, nothing=0,
)  # fmt: skip
OUTPUT = _table(
    "output", 30, "Deliver a unicast packet, if its way out still belongs to its network.",
    matches="in_port network out by_link", then="flood", owns="cast",
    hairpin=200, way=100, late=20, unknown=0,
)  # fmt: skip
FLOOD = _table(
    "flood", 31, "Deliver to every port of the network but the sender's.",
    matches="network cast", network=100, nothing=0,
)  # fmt: skip
EGRESS = _table(
    "egress", 40, "Choose the sessions that watch what this port sends.",
    matches="in_port", then="claim accept deliver", owns="session rules",
    port=100, nothing=0,
)  # fmt: skip
INGRESS = _table(
    "ingress", 41, "Choose the sessions that watch a port to which production delivered.",
    matches="cast out network", then="probe alone claim once", owns="session rules taken",
    port=100, network=100, nothing=0,
)  # fmt: skip
PROBE = _table(
    "probe", 42, "Find out which exclusive session has copied what another bridge's port sent.",
    matches="sender", then="claim", owns="session rules",
    sender=100, nothing=0,
)  # fmt: skip
ALONE = _table(
    "alone", 43, "Close the cohort of which the sender is the only port: nobody there hears it.",
    matches="sender", owns="cohorts_0 cohorts_1 cohorts_2 cohorts_3",
    sender=100, nothing=0,
)  # fmt: skip
CLAIM = _table(
    "claim", 44, "Ask one exclusive session, unless others have taken the packet before.",
    matches="session network sender rules cast taken cohorts_0 cohorts_1 cohorts_2 cohorts_3",
    then="filter won", owns="filter verdict",
    taken=300, lost=200, session=100, nothing=0,
)  # fmt: skip
WON = _table(
    "won", 45, "Let an exclusive session that accepts the packet take it from the others.",
    matches="session network rules cast by_link verdict", then="once deliver",
    owns="taken winner cohorts_0 cohorts_1 cohorts_2 cohorts_3",
    session=100, nothing=0,
)  # fmt: skip
ONCE = _table(
    "once", 46, "Let each session have the packet one time only.",
    matches="session sender cast network winner", then="unsent accept filter",
    owns="filter rules verdict",
    won=500, sender=400, elsewhere=300, sent=200, first=0,
)  # fmt: skip
UNSENT = _table(
    "unsent", 47, "Go on only if the sender's bridge had no reason to copy the packet.",
    matches="verdict", then="accept",
    sent=100, unsent=0,
)  # fmt: skip
ACCEPT = _table(
    "accept", 50, "Ask the filter of the session.",
    matches="session", then="filter decide deliver", owns="filter verdict",
    session=100, nothing=0,
)  # fmt: skip
FILTER = _table(
    "filter", 70, "Say whether a list of rules accepts the packet: the first match decides.",
    matches="filter rules eth_src eth_dst vlan_vid eth_type ip_proto ip_src ip_dst ipv6_src "
    "ipv6_dst tcp_src tcp_dst tcp_flags udp_src udp_dst sctp_src sctp_dst icmp_type icmp_code "
    "icmpv6_type icmpv6_code arp_op",
    owns="verdict", nothing=0,
)  # fmt: skip
RULE_PRIORITIES = range(5_000, 65_000)
"""Priorities of rules in the filter table: 65000 less the number of the rule."""
DECIDE = _table(
    "decide", 71, "Copy what the filter has accepted.",
    matches="verdict", then="deliver",
    accepted=100, rejected=0,
)  # fmt: skip
DELIVER = _table(
    "deliver", 90, "Make the copy of one session, at once or by the stages that follow.",
    matches="session network", then="cap bridge_cap size send", owns="session larger",
    network=200, session=100, nothing=0,
)  # fmt: skip
CAP = _table(
    "cap", 91, "Shed the copies of a session that exceed its rate.",
    matches="session", then="bridge_cap size", session=100, nothing=0,
)  # fmt: skip
BRIDGE_CAP = _table(
    "bridge_cap", 92, "Shed the copies that exceed what the bridge may spend on all sessions.",
    then="size", everything=0,
)  # fmt: skip
SIZE = _table(
    "size", 93, "Say whether the packet is too long for a copy, and choose the sensor.",
    matches="session", then="pool send", owns="larger bucket pool",
    session=100, nothing=0,
)  # fmt: skip
POOL_TABLE = _table(
    "pool", 94, "Find the sensor of a pool that has the packet's bucket.",
    matches="pool bucket", owns="sensor", bucket=100, nothing=0,
)  # fmt: skip
SEND = _table(
    "send", 95, "Send the copy to its sensor.",
    matches="session network sensor larger", then="cut", owns="session",
    larger=300, network=200, session=100, nothing=0,
)  # fmt: skip
CUT = _table(
    "cut", 96, "Send the first bytes of a packet that is too long, or nothing.",
    matches="session network sensor", owns="session",
    network=200, session=100, nothing=0,
)  # fmt: skip

PIPELINE: tuple[Table, ...] = (
    *(START, ADMIT, ADMIT_ADDRESS, ADMIT_NEIGHBOUR, IDENTIFY, LEARN, LOOKUP, LEARNED),
    *(OUTPUT, FLOOD, EGRESS, INGRESS, PROBE, ALONE, CLAIM, WON, ONCE, UNSENT),
    *(ACCEPT, FILTER, DECIDE, DELIVER),
    *(CAP, BRIDGE_CAP, SIZE, POOL_TABLE, SEND, CUT),
)
TABLE_BY_NUMBER = {table.number: table for table in PIPELINE}

LINK_TAGS = range(1, 4095)
"""802.1Q ids that may be used between our bridges."""
BRIDGE_METER = METERS.stop
"""The meter of all copies of a bridge together."""
NOWHERE = OFPORT_MAX + 1
"""A port that no bridge has: what is sent there makes Open vSwitch do a clone in earnest, but goes
nowhere."""


def check_pipeline(
    tables: Iterable[Table] = PIPELINE, registers: Iterable[RegField] = REGISTERS
) -> None:
    """Refuse a pipeline that could loop, names what is not there, or shares bits.

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
