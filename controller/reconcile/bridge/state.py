"""The state of the writer of one bridge: named phases, and the transitions between them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from enum import Enum, IntEnum


class Phase(Enum):
    """What the writer of one connected bridge does, or waits for."""

    CONNECTED = "connected"
    """The bridge has connected; nothing was asked of it yet."""
    ADOPTING = "adopting"
    """The bridge is asked for its name, its ports and its features (see Adoption)."""
    WAITING = "waiting"
    """It is ours and fit; nothing is written before the inventory is known."""
    RECONCILING = "reconciling"
    """It is brought to the desired state of one snapshot."""
    DISPLACED = "displaced"
    """Another controller became its master meanwhile; it is read again, once in this attempt."""
    CONFIRMED = "confirmed"
    """The switch has confirmed the desired state, except for sessions whose rules are still coming.
    The writer sends these, or sleeps, until something changes.
    """
    FAILED = "failed"
    """The last attempt failed, or an event of this bridge did; it is tried again after a pause."""
    GONE = "gone"
    """The connection ended during an attempt; the writer waits to be stopped."""
    UNFIT = "unfit"
    """The switch lacks a feature; it is tried again when something changes, and not before."""
    FOREIGN = "foreign"
    """The configuration leaves the bridge to others; the writer has ended."""
    STOPPED = "stopped"
    """The connection is over, or the controller stops; nothing more is written."""


TRANSITIONS: Mapping[Phase, Set[Phase]] = {
    Phase.CONNECTED: {Phase.ADOPTING, Phase.STOPPED},
    Phase.ADOPTING: {
        Phase.WAITING,
        Phase.FOREIGN,
        Phase.UNFIT,
        Phase.FAILED,
        Phase.GONE,
        Phase.STOPPED,
    },
    Phase.WAITING: {Phase.RECONCILING, Phase.STOPPED},
    Phase.RECONCILING: {
        Phase.CONFIRMED,
        Phase.DISPLACED,
        Phase.FAILED,
        Phase.GONE,
        Phase.UNFIT,
        Phase.STOPPED,
    },
    Phase.DISPLACED: {Phase.RECONCILING, Phase.STOPPED},
    Phase.CONFIRMED: {Phase.WAITING, Phase.FAILED, Phase.STOPPED},
    Phase.FAILED: {Phase.ADOPTING, Phase.WAITING, Phase.STOPPED},
    Phase.GONE: {Phase.STOPPED},
    Phase.UNFIT: {Phase.ADOPTING, Phase.WAITING, Phase.STOPPED},
    Phase.FOREIGN: set(),
    Phase.STOPPED: set(),
}
"""Which phases may follow each phase. A bridge that was adopted is not adopted again on the same
connection: then WAITING follows FAILED and UNFIT directly."""


class Depth(IntEnum):
    """How closely the flows of a bridge are read again."""

    COOKIES = 1
    """Which flows are there; a cookie stands for the actions that were sent with it."""
    ACTIONS = 2
    """The actions of each flow too: somebody may have changed them under their cookie."""


class ForbiddenTransition(RuntimeError):
    """A phase that may not follow the present one: a defect of the writer."""

    def __init__(self, before: Phase, after: Phase) -> None:
        super().__init__(f"{after.value} cannot follow {before.value}")
        self.before, self.after = before, after


@dataclass(frozen=True, slots=True)
class WriterState:
    """The phase of a writer, and what it has to know for the next one."""

    phase: Phase = Phase.CONNECTED
    is_adopted: bool = False
    """Whether the bridge was found to be ours and fit on this connection."""
    version: int | None = None
    """The version of the snapshot at work, 0 until it is taken; None between attempts."""
    reread: Depth | None = None
    """How closely the flows are to be read again; None while what is installed is known."""
    reread_at_rest: Depth | None = None
    """How closely they are to be read once no rules come or go; see ``rereading_at_rest``."""
    displacements: int = 0
    """How often another controller became master since the desired state was confirmed last."""

    @property
    def is_final(self) -> bool:
        """Whether no phase can follow."""
        return not TRANSITIONS[self.phase]

    def enter(self, phase: Phase) -> WriterState:
        """The state in the next phase.

        Raises:
            ForbiddenTransition: this phase may not follow the present one.
        """
        if phase not in TRANSITIONS[self.phase]:
            raise ForbiddenTransition(self.phase, phase)
        entered = replace(self, phase=phase)
        match phase:
            case Phase.WAITING:
                return replace(entered, is_adopted=True)
            case Phase.RECONCILING:
                return replace(entered, version=self.version or 0)
            case Phase.DISPLACED:
                return replace(entered, displacements=self.displacements + 1)
            case Phase.CONFIRMED:
                return replace(entered, version=None, displacements=0)
            case Phase.FAILED | Phase.GONE | Phase.UNFIT:
                return replace(entered, version=None)
            case _:  # a writer that is stopped may still be at work on its version
                return entered

    def at_work_on(self, version: int) -> WriterState:
        """The state once a snapshot was taken."""
        return replace(self, version=version)

    def rereading(self, depth: Depth) -> WriterState:
        """The state in which the flows are to be read again, at least so closely."""
        return replace(self, reread=depth if self.reread is None else max(depth, self.reread))

    def rereading_at_rest(self, depth: Depth) -> WriterState:
        """The state in which they are to be read again later, or now if that was put off before."""
        if self.reread_at_rest is None:
            return replace(self, reread_at_rest=depth)
        return self.rereading(depth).at_rest()

    def at_rest(self) -> WriterState:
        """The state in which what was put off is not put off any longer."""
        if self.reread_at_rest is None:
            return self
        return replace(self.rereading(self.reread_at_rest), reread_at_rest=None)

    def without_reread(self) -> WriterState:
        """The state in which nothing is to be read again."""
        return replace(self, reread=None)
