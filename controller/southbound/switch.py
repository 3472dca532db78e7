"""The Switch protocol: what the reconciler may ask of a connected bridge, over any transport."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from controller.southbound.ports import PortCount, SwitchPort
from flows.model import Dpid
from flows.openflow import Action, Flow, Match, MeterCount, PacketCount
from flows.plan import InstalledFlow, InstalledFlows, Mark, Meter, Plan

REFUSALS_SHOWN = 10
"""Refused flows that a status names; the others are counted."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A part of a plan that the switch refused; the reason is a sentence for the operator."""

    flow: Flow | InstalledFlow | Meter
    reason: str

    @property
    def what(self) -> str:
        """What was refused, for a sentence."""
        return "a meter" if isinstance(self.flow, Meter) else "a flow"


def refusals(rejected: Sequence[Rejected]) -> list[str]:
    """A sentence for each refusal of a bridge."""
    found = [f"it refused {r.what} ({r.flow}): {r.reason}" for r in rejected[:REFUSALS_SHOWN]]
    if more := len(rejected) - len(found):
        found.append(f"{more} more were refused, or left out with their sessions")
    return found


class FragmentsMatched(Enum):
    """Since when the first fragments of IP packets match their ports on a switch."""

    BEFORE = "before"
    """They did already when it was asked."""
    NOW = "now"
    """It was set."""
    NOT = "not"
    """The switch does not do it."""


class FlowCounts(NamedTuple):
    """How many flows a switch has: with our owner bits in the cookie, and others."""

    ours: int
    foreign: int


class ForeignFlow(NamedTuple):
    """A flow on a bridge of ours that is not ours: where it is, and what it applies to.

    ``in_port`` is None if it applies to every port, or if that cannot be read.
    """

    table: int
    priority: int
    in_port: int | None


@dataclass(frozen=True, slots=True)
class LastCounts:
    """Who wants the last counters of some meters (``of``): a change or a removal sets them to 0.

    They are read in the same write as the change follows, so next to nothing passes in between.
    ``take`` is called with them before anything else is sent.
    """

    of: Container[int]
    take: Callable[[Mapping[int, MeterCount]], None]


class Switch(Protocol):
    """One connected bridge. Every method blocks until the switch has answered.

    All may raise SwitchTimeout, SwitchGone or SwitchRefused; those that change something may raise
    Displaced. All may be called from any thread; one request is under way at a time.
    """

    @property
    def dpid(self) -> Dpid:
        """Its datapath id."""

    @property
    def certificate(self) -> str | None:
        """The name in the verified certificate of its host; None without TLS."""

    @property
    def name(self) -> str:
        """The name of the bridge on its host; its datapath id until ``rename``."""

    def rename(self, name: str) -> None:
        """Set the name of the bridge: a connection knows only its datapath id."""

    def adopt(self) -> None:
        """The bridge is ours: what it reports counts from now on."""

    @property
    def software(self) -> str:
        """The version of Open vSwitch that it runs; empty until ``probe`` has asked."""

    @property
    def waiting(self) -> int:
        """How many answers were received and not read yet."""

    def lead(self) -> bool:
        """Become the master of the switch; True if another controller was.

        Once another controller becomes master, every change raises Displaced and changes nothing.
        """

    def our_flows(self) -> list[InstalledFlow]:
        """Every flow with our owner bits in its cookie, learned flows included."""

    def scan(self, wanted: Callable[[], Set[Mark]]) -> InstalledFlows:
        """The same; flows with a wanted mark are reported by that mark alone, which is cheap.

        ``wanted`` is called once, perhaps while the switch is answering.
        """

    def altered(self, flows: Iterable[Flow]) -> tuple[Flow, ...]:
        """Those of ``flows`` that are installed under their cookie with other instructions."""

    def foreign_flows(self) -> tuple[ForeignFlow, ...]:
        """Every flow without our owner bits in its cookie."""

    def count_flows(self) -> FlowCounts:
        """The number of flows in all tables."""

    @property
    def has_meters(self) -> bool:
        """Whether it supports meters; True until ``probe`` has asked."""

    def our_meters(self) -> Mapping[int, Meter | None]:
        """Every meter with a number of ours; None for one that is not configured like ours."""

    def metered(self, numbers: Iterable[int] | None = None) -> Mapping[int, MeterCount]:
        """The counters of our meters, or of those of ``numbers``."""

    def install(self, parts: Iterable[Sequence[Flow]]) -> bool:
        """Add flows that need no meters, atomically, part by part as ``parts`` yields them.

        False if the switch refuses any. Then, and if ``parts`` raises, none is installed.
        """

    def apply(self, plan: Plan, last: LastCounts | None = None) -> tuple[Rejected, ...]:
        """Apply the plan: all flows atomically, except those that the switch refuses.

        The result names the refused flows and meters, and the flows that need a refused meter.
        ``last`` takes the counters of meters that the plan changes or removes.
        """

    def flow_copies(
        self, deliver_table: int, session: int | None = None
    ) -> Mapping[int, PacketCount]:
        """The counters of our flows in the deliver table by cookie; of all, or of one session."""

    def copies_by_match(
        self, deliver_table: int, session: int | None = None
    ) -> Mapping[int, PacketCount]:
        """The same by session number and match, as one number each, like a cookie.

        A flow that replaces another one of its match goes on with its counters (Open vSwitch 3.1).
        """

    def matched(self, table: int) -> Mapping[Match, int]:
        """How many packets each of our flows in a table has matched."""

    def send(self, frames: Sequence[bytes], actions: tuple[Action, ...]) -> None:
        """Execute ``actions`` on each frame (packet-out), in order; returns when all are done."""

    def sent_by_port(self) -> Mapping[int, PacketCount]:
        """The transmit counters of each port."""

    def counts_of_port(self, port: int) -> PortCount | None:
        """The counters of one port; None if it has none."""

    def ports(self) -> tuple[SwitchPort, ...]:
        """Every port, the bridge's own LOCAL port included."""

    def barrier(self) -> None:
        """Wait until the switch has processed every request sent before."""

    def match_first_fragments(self) -> FragmentsMatched:
        """Have the first fragment of an IP packet match its ports, and later ones none."""

    def nudge(self, most_s: float = math.inf) -> None:
        """Have ovs-vswitchd revalidate its megaflows at once; changes nothing.

        SwitchTimeout is raised after ``most_s`` seconds at the latest.
        """

    def probe(self) -> tuple[str, ...]:
        """The required features that the switch lacks; empty if it has all."""
