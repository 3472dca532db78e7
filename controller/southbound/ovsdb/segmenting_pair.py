"""Segmenting pairs: the names and marks of the two veth ports that make frames of super-frames.

A bridge of the kernel's datapath needs one to truncate copies. `cloudtap bridge prepare` makes it
on the bridge's host, because only there devices and their offloads can be set.
"""

from __future__ import annotations

from enum import Enum

from controller.southbound.ovsdb.tunnel_port import in_base_36
from flows.model import Dpid


class PairEnd(Enum):
    """The ends of a segmenting pair; the value of PAIR_MARK in ``external_ids``."""

    OUT = "out"
    """Where the bridge sends super-frames."""
    BACK = "back"
    """Where their frames come back."""


_LETTERS = {PairEnd.OUT: "o", PairEnd.BACK: "b"}


def pair_name(dpid: Dpid, end: PairEnd) -> str:
    """The name of an end: ``c``, a letter, and the datapath id in base 36, as of tunnel ports.

    No letter is that of a kind of tunnel. It has at most 15 characters, the limit of Linux.
    """
    return f"c{_LETTERS[end]}{in_base_36(dpid)}"


def pair_names(dpid: Dpid) -> frozenset[str]:
    """The names of both ends on a bridge."""
    return frozenset(pair_name(dpid, end) for end in PairEnd)


def end_of(dpid: Dpid, name: str, mark: str) -> PairEnd | None:
    """Which end a port is by its name and mark, which must agree; None if it is none."""
    return next((e for e in PairEnd if (e.value, pair_name(dpid, e)) == (mark, name)), None)
