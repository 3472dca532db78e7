"""What the reconciler may ask of a switch, whatever carries it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from controller.southbound.wire.message import SwitchPort
from controller.status.values import Copies
from flows.plan.plan import Installed, Mark, Plan, Scan
from flows.openflow.flow import Action, Flow
from flows.plan.meters import Meter
from flows.model.session import Dpid

SHOWN = 10
"""So many of the flows that a bridge refused are named to people; the others are counted."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A part of a plan that the switch did not take; the reason is a sentence for the operator."""

    flow: Flow | Installed | Meter
    reason: str

    @property
    def what(self) -> str:
        """What kind of thing it is."""
        return "a meter" if isinstance(self.flow, Meter) else "a flow"


def refusals(rejected: Sequence[Rejected]) -> list[str]:
    """What a bridge refused, a sentence each."""
    found = [f"it refused {r.what} ({r.flow}): {r.reason}" for r in rejected[:SHOWN]]
    if more := len(rejected) - len(found):
        found.append(f"{more} more were refused, or left out with their sessions")
    return found


NOTHING = Copies()


@dataclass(frozen=True, slots=True)
class Metering:
    """What one meter has counted: all that came, and what of it was dropped."""

    seen: Copies = NOTHING
    dropped: Copies = NOTHING


class FlowCounts(NamedTuple):
    """How many flows a switch has."""

    ours: int
    foreign: int


class Switch(Protocol):
    """One connected bridge. Every method blocks until the switch has answered.

    All of them may raise SwitchTimeout, SwitchGone or SwitchRefused, those that change something
    Displaced; all may be called from any thread, one request is under way at a time.
    """

    @property
    def dpid(self) -> Dpid:
        """Its datapath id."""

    @property
    def name(self) -> str:
        """What its host calls it."""

    @property
    def waiting(self) -> int:
        """Answers that have come and were not looked at yet."""

    def lead(self) -> bool:
        """Be the one controller that may change flows and meters; True if another one was.

        After that every change raises Displaced, and changes nothing, once another one leads.
        """

    def our_flows(self) -> list[Installed]:
        """Every flow with our mark in its cookie, the learned ones included."""

    def scan(self, wanted: Callable[[], Set[Mark]]) -> Scan:
        """The same, but the flows with a wanted mark by that mark alone, which is cheap.

        ``wanted`` is called once, perhaps while the switch is answering.
        """

    def altered(self, flows: Iterable[Flow]) -> tuple[Flow, ...]:
        """Those of ``flows`` that are there under their own cookie, but do something else."""

    def count_flows(self) -> FlowCounts:
        """How many flows are there, in any table."""

    @property
    def has_meters(self) -> bool:
        """Whether it can have meters, as far as ``probe`` has seen."""

    def our_meters(self) -> Mapping[int, Meter | None]:
        """Every meter with a number of ours; None for one that does other than ours do."""

    def metered(self, numbers: Iterable[int] | None = None) -> Mapping[int, Metering]:
        """What each meter of ours has counted since it is there; or those of ``numbers``."""

    def install(self, parts: Iterable[Sequence[Flow]]) -> bool:
        """Add flows that need no meters, all at once, while they are still being made.

        False when it does not take them all: then it has none of them, and when ``parts`` raises.
        """

    def apply(self, plan: Plan) -> tuple[Rejected, ...]:
        """Make the plan come true: all flows at once, but for what the switch refuses.

        A meter that is refused is named, and so are the flows of the plan that need it.
        """

    def flow_copies(self, deliver_table: int, session: int | None = None) -> Mapping[int, Copies]:
        """What each of our flows in the deliver table has counted, by cookie; or one session's."""

    def send(self, frames: Sequence[bytes], actions: tuple[Action, ...]) -> None:
        """Do ``actions`` on each of some frames of ours, in their order; done when it returns."""

    def sent_by_port(self) -> Mapping[int, Copies]:
        """How much each port has sent since it is there."""

    def ports(self) -> tuple[SwitchPort, ...]:
        """Every port, the bridge's own LOCAL port included."""

    def barrier(self) -> None:
        """Return when the switch has done everything that was asked before."""

    def nudge(self) -> None:
        """Have the switch compare its cached paths with its flows at once; changes nothing."""

    def probe(self) -> tuple[str, ...]:
        """What the switch lacks of the features that we need; empty when it is fit."""
