"""How a fake switch misbehaves when a test wants it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.fake_switches.refusal import Refusal


def _nothing(what: object) -> Refusal | None:
    return None


@dataclass
class Faults:
    """What goes wrong; may be changed while the switch runs.

    ``refuse`` is asked with the cookie of each flow that is added, when its bundle is committed;
    ``refuse_meter`` with each message that changes a meter.
    """

    refuse: Callable[[int], Refusal | None] = _nothing
    refuse_meter: Callable[[bytes], Refusal | None] = _nothing
    answers_echo: bool = True
    takes_fragments: bool = True
    """Whether the fragment mode can be set."""
    answers: bool = True
    """Whether requests are answered; if not, they are read and discarded."""
    reads: bool = True
    """Whether it reads from the connection at all."""
    disconnect_after: int | None = None
    """The connection ends when this many messages of bundles have come, in the middle of one."""


def refuse_nth(nth: int, refusal: Refusal = Refusal.TABLE_FULL) -> Callable[[int], Refusal | None]:
    """Refuse the n-th flow that is added from now on, counted from 1."""
    seen = 0

    def refuse(cookie: int) -> Refusal | None:
        nonlocal seen
        seen += 1
        return refusal if seen == nth else None

    return refuse
