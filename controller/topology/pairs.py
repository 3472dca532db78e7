"""Segmenting pairs of bridges on this host: found, and set right where that is wanted.

A copy that must be truncated is lost where a device of the pair hands on super-frames, drops them,
or sends them elsewhere. Nothing reports that somebody has changed such a device.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from controller.devices import (
    DeviceName,
    PairDevices,
    PairEnd,
    mend_pairs,
    read_pair_states,
)
from controller.southbound.ovsdb import InterfaceRow, OvsdbSnapshot
from controller.topology.look_loop import LookLoop
from controller.topology.offloads import DEVICES_LOOK_S, TapOffloads
from flows.model import Dpid, PairState

PAIR_TOLD_S = 60.0
"""How long a change that somebody made to a pair is told, in seconds."""
CHANGES_TO_A_PAIR = {
    PairState.OFFLOADED: "had its offloads switched on",
    PairState.SHORT: "was given another MTU",
    PairState.DOWN: "was set down",
}
"""What somebody has done to a pair that can be set right, the rest of a sentence."""

log = structlog.get_logger(__name__)


class PairHost(Protocol):
    """Who knows the devices of the segmenting pairs of this machine."""

    def read(self, pairs: Iterable[PairDevices]) -> Mapping[PairDevices, PairState]:
        """What is known of each."""
        ...

    def mend(self, pairs: Iterable[PairDevices]) -> Mapping[PairDevices, str]:
        """Set some right; why that failed, by pair."""
        ...


class HostPairs(PairHost):
    """The devices themselves. ``run`` calls what may block (see run_blocking)."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run

    def read(self, pairs: Iterable[PairDevices]) -> Mapping[PairDevices, PairState]:
        """See PairHost."""
        found: Mapping[PairDevices, PairState] = self._run(read_pair_states, tuple(pairs))
        return found

    def mend(self, pairs: Iterable[PairDevices]) -> Mapping[PairDevices, str]:
        """See PairHost."""
        found: Mapping[PairDevices, str] = self._run(mend_pairs, tuple(pairs))
        return found


@dataclass(frozen=True, slots=True)
class _Mended:
    """When a pair that was sound before was set right, and what was wrong with it."""

    at: float
    state: PairState


class PairWatch:
    """Looks at the segmenting pairs of bridges on this host, in a thread, and signals when
    something is new.

    ``databases`` returns what is believed of them; ``changed`` is called when something is new.
    ``now`` is a clock in seconds.
    """

    def __init__(
        self,
        *,
        databases: Callable[[], OvsdbSnapshot],
        changed: Callable[[], object],
        host: PairHost,
        taps: TapOffloads = TapOffloads.OFF,
        every_s: float = DEVICES_LOOK_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._databases, self._changed, self._host, self._do = databases, changed, host, taps
        self._now = now
        self._looking = threading.Lock()
        self._found: Mapping[Dpid, PairState] = {}
        self._looked_at: Mapping[Dpid, PairDevices] = {}
        self._pairs_of: tuple[OvsdbSnapshot | None, Mapping[Dpid, PairDevices]] = None, {}
        self._sound: set[PairDevices] = set()
        """The pairs that were seen, or made, sound."""
        self._mended: dict[Dpid, _Mended] = {}
        self._refused: dict[PairDevices, str] = {}
        self._loop = LookLoop(
            "segmenting pairs", look=self._look_and_tell, is_outdated=self._is_outdated,
            every_s=every_s,
        )  # fmt: skip
        self.start, self.stop, self.wake = self._loop.start, self._loop.stop, self._loop.wake

    def known(self) -> Mapping[Dpid, PairState]:
        """What is known of the pairs of this host; new ones are looked at first.

        The same value again until something else is known.
        """
        if self._is_outdated():
            self._look()
        return self._found

    def lately(self, dpid: Dpid, name: str) -> Iterator[str]:
        """What somebody has done lately to the pair of a bridge, so that copies were lost."""
        mended = self._mended.get(dpid)
        if mended is not None and self._now() - mended.at < PAIR_TOLD_S:
            yield (
                f"segmenting pair: that of bridge {name!r} {CHANGES_TO_A_PAIR[mended.state]} by "
                "somebody within the last minute, and was set right: copies that had to be "
                f"truncated in the {DEVICES_LOOK_S:.0f} s before may be lost, and are not counted"
            )

    def _is_outdated(self) -> bool:
        return self._pairs() != self._looked_at

    def _look_and_tell(self) -> None:
        before = self._found
        self._look()
        if self._found is not before:
            self._changed()

    def _look(self) -> None:
        """Look at all pairs, and set right those that should be."""
        with self._looking:
            pairs = self._pairs()
            seen = dict(self._host.read(pairs.values())) if pairs else {}
            wrong = {pair: state for pair, state in seen.items() if state in CHANGES_TO_A_PAIR}
            if wrong and self._do is TapOffloads.OFF:
                refused = self._host.mend(wrong)
                for dpid, pair in pairs.items():
                    if pair in wrong:
                        self._note(dpid, pair, wrong[pair], refused.get(pair))
                        seen[pair] = wrong[pair] if pair in refused else PairState.SOUND
            self._sound = {pair for pair, state in seen.items() if state is PairState.SOUND}
            self._refused = {p: why for p, why in self._refused.items() if p in wrong}
            found = {dpid: seen.get(pair, PairState.UNSEEN) for dpid, pair in pairs.items()}
            self._looked_at = pairs
            if found != self._found:
                self._found = found

    def _note(self, dpid: Dpid, pair: PairDevices, state: PairState, refused: str | None) -> None:
        """Note and log what was done to a pair, and why nothing was, once."""
        what = {"bridge": f"{dpid:016x}", "devices": pair.out.name + " " + pair.back.name}
        if refused is None:
            if pair in self._sound:
                self._mended[dpid] = _Mended(self._now(), state)
            log.warning("segmenting pair set right", **what, was=state.value)
        elif self._refused.get(pair) != refused:
            self._refused[pair] = refused
            log.warning("segmenting pair not set right", **what, is_=state.value, reason=refused)

    def _pairs(self) -> Mapping[Dpid, PairDevices]:
        """The pairs that are looked at; found again when the databases report something else."""
        snapshot, (before, pairs) = self._databases(), self._pairs_of
        if snapshot is not before:
            pairs = dict(_pairs_here(snapshot))
            self._pairs_of = snapshot, pairs
        return pairs


def _pairs_here(snapshot: OvsdbSnapshot) -> Iterator[tuple[Dpid, PairDevices]]:
    """The pairs of the bridges of this host that have the kernel's datapath."""
    here = {(r.dpid, r.database, r.row) for r in snapshot.bridges if r.is_here and r.is_kernel}
    for key, rows in snapshot.by_bridge.items():
        if key in here:
            ends = {row.pair_end: _device(row) for row in rows if row.pair_end is not None}
            out, back = ends.get(PairEnd.OUT), ends.get(PairEnd.BACK)
            if out is not None and back is not None:
                yield key[0], PairDevices(out, back)


def _device(row: InterfaceRow) -> DeviceName | None:
    index = row.device.ifindex
    return None if index is None else DeviceName(row.name, index)


class NoPairs:
    """Nobody looks at segmenting pairs."""

    def known(self) -> Mapping[Dpid, PairState]:
        """Nothing is known."""
        return {}

    def wake(self) -> None:
        """Nobody looks."""
