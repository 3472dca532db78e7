"""What the contract means for one packet: the executable oracle."""

from flows.semantics.filter import first_match
from flows.semantics.meaning import (
    LearnedAddresses,
    PortDirection,
    copied_frame,
    copies_of_delivered,
    may_send,
    meaning,
    wants,
)

__all__ = [
    "LearnedAddresses",
    "PortDirection",
    "copied_frame",
    "copies_of_delivered",
    "first_match",
    "may_send",
    "meaning",
    "wants",
]
