"""What is reported about ports: noted in placements, signalled, and stored for the next start."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Protocol

import structlog

from controller.inventory import Inventory
from controller.process import CLAIMS_REFUSED, NUMBERS_REUSED, ChangeSignal, Coalescer
from controller.southbound import PortChange, Switch, SwitchPort
from controller.southbound.ovsdb import InterfaceRow, OvsdbSnapshot
from controller.store import BridgeRecord, Place, StoredCounts
from controller.topology.attachments import seen_on_bridge
from controller.topology.late_news import LateNews
from controller.topology.placements import Placements, PlacementsSnapshot, PortNews, is_news
from controller.topology.reused_numbers import ReusedNumbers
from flows.errors import CloudtapError
from flows.model import Dpid, Placement, PortId

BRIDGES_BETWEEN_PAUSES = 8
"""Bridges that are stored in one transaction, before other threads may run."""

log = structlog.get_logger(__name__)


class BridgeStore(Protocol):
    """Keeps over restarts where ports were seen last."""

    def remember_bridges(self, bridges: Iterable[BridgeRecord]) -> None:
        """Replace what is known of some bridges."""
        ...

    def remember_places(self, places: Mapping[str, Place]) -> None:
        """Replace where every port and every end of a link is."""
        ...

    def move_bridges(self, moves: Mapping[Dpid, Dpid], counts: StoredCounts) -> None:
        """Bridges have other datapath ids, all of these at once; what is stored goes along.

        ``counts`` take the place of all counts of these ids.
        """
        ...

    def retire_bridge(self, old: Dpid, new: Dpid) -> None:
        """No bridge has this datapath id any more; its bridge has another one."""
        ...

    def forget_bridge(self, dpid: Dpid, name: str, who: str, counts: StoredCounts) -> None:
        """Forget one bridge, and what it may be making copies of; ``counts`` it has counted."""
        ...


class LinkListener(Protocol):
    """Who else wants to know of ports: whether their links are up."""

    def ports_reported(self, dpid: Dpid, ports: Sequence[SwitchPort]) -> None:
        """A bridge has reported all its ports."""
        ...

    def port_changed(self, dpid: Dpid, change: PortChange) -> None:
        """A port of a bridge has come, gone or changed."""
        ...

    def interfaces_changed(self, snapshot: OvsdbSnapshot) -> None:
        """The databases report something else."""
        ...

    def bridge_forgotten(self, dpid: Dpid) -> None:
        """What a bridge has reported over OpenFlow does not count any more."""
        ...


class Counters(Protocol):
    """What bridges have counted, which goes where they go."""

    def move(self, moves: Mapping[Dpid, Dpid]) -> None:
        """Bridges have other datapath ids, all of these at once."""
        ...

    def unstored(self) -> Sequence[Mapping[Dpid, Dpid]]:
        """The moves that are not stored yet, together with what was counted."""
        ...


class NoCounters(Counters):
    """Nothing counts."""

    def move(self, moves: Mapping[Dpid, Dpid]) -> None:
        """Nothing goes along."""

    def unstored(self) -> Sequence[Mapping[Dpid, Dpid]]:
        """None."""
        return ()


NO_COUNTERS = NoCounters()


class PlacementTracker:
    """Takes reports about ports, from any thread: into the world, and into the store.

    Reports that come close together make one change of the world, and none if nothing in it is
    where it was not before. Ports of bridges that are nobody's wait for each other (see LateNews).
    """

    def __init__(
        self,
        *,
        placements: Placements,
        changes: ChangeSignal,
        store: BridgeStore,
        links: LinkListener | None = None,
        counters: Counters = NO_COUNTERS,
    ) -> None:
        self._placements, self._changes, self._store = placements, changes, store
        self._links, self._counters = links, counters
        self._moving = threading.Lock()
        self._reporting = threading.Lock()
        self._since_asked: dict[Dpid, dict[int, PortChange]] = {}
        """What ports of bridges were last reported to be since these were asked for all of them."""
        self._passed_on = 0
        self._seen = PlacementsSnapshot()
        self._late = LateNews(self._take_late)
        self._reused = ReusedNumbers()
        self._doubted: frozenset[tuple[str, str]] = frozenset()
        self._remembered: dict[Dpid, BridgeRecord] = {}
        self._remembered_places: Mapping[str, Place] = {}
        self._remembering = threading.Lock()
        self._telling, self._told = threading.Lock(), OvsdbSnapshot()
        self.problem = ""
        """Why the places could not be stored; empty when they are."""
        self._coalescer = Coalescer(self._pass_on, "tracker")

    @property
    def waiting(self) -> int:
        """Reports that no version of the world knows of yet."""
        return self._coalescer.waiting

    def declare(self, inventory: Inventory) -> None:
        """This is the inventory from now on."""
        self._placements.declare(inventory)
        self._follow_moves()
        self._tell_believed()
        self._changes.changed()

    def bridge_connected(self, switch: Switch) -> None:
        """A bridge has connected: its ports are known, and in the world, when this returns.

        When a thousand bridges come back as they were, none of them causes a change of the world.
        """
        since: dict[int, PortChange] = {}
        with self._reporting:
            self._since_asked[switch.dpid] = since
        try:
            ports = switch.ports()
            with self._reporting:
                self._placements.report_ports(switch.dpid, ports, switch.certificate)
                self._follow_moves()
                if self._links is not None:
                    self._links.ports_reported(switch.dpid, ports)
                for change in since.values():  # the list may be older than these, never newer
                    self._report_port(switch.dpid, change)
        finally:
            with self._reporting:
                if self._since_asked.get(switch.dpid) is since:  # else a newer connection asks
                    del self._since_asked[switch.dpid]
        self._placements.take_late()
        self._tell_believed()
        if self._placements.version != self._passed_on or not self._coalescer.is_idle:
            self._coalescer.wait(self._coalescer.ask())

    def port_changed(self, dpid: Dpid, change: PortChange) -> None:
        """A port of a bridge has come, gone or changed."""
        with self._reporting:
            if dpid in self._since_asked:
                self._since_asked[dpid][change.port.ofport] = change
            news = self._report_port(dpid, change)
        if news is PortNews.NOW:
            self._ask()
        elif news is PortNews.LATE:
            self._late.note(dpid)

    def _report_port(self, dpid: Dpid, change: PortChange) -> PortNews:
        news = self._placements.report_port(dpid, change)
        self._follow_moves()
        if self._links is not None:
            self._links.port_changed(dpid, change)
        return news

    def _take_late(self) -> None:
        self._placements.take_late()
        self._ask()

    def interfaces_changed(self, snapshot: OvsdbSnapshot) -> None:
        """The databases report something else."""
        self._placements.report_interfaces(snapshot)
        self._follow_moves()
        self._ask()
        self._tell_believed()

    def believed(self) -> OvsdbSnapshot:
        """What the databases that speak for their bridges report."""
        return self._placements.believed

    def bridge_names(self) -> dict[Dpid, str]:
        """Every bridge that was ever ours, is connected, or should be, with its name."""
        return self._placements.bridge_names()

    def undeclared(self) -> Mapping[Dpid, tuple[str, ...]]:
        """The interfaces that are in no inventory, on bridges with ports that are."""
        return self._placements.undeclared()

    def unopened(self) -> Sequence[InterfaceRow]:
        """The interfaces of known bridges that Open vSwitch could not create or open."""
        return self._placements.unopened()

    def row_of(self, dpid: Dpid, interface: str) -> InterfaceRow | None:
        """What the database of a bridge says of one interface; None if it says nothing."""
        return self._placements.row_of(dpid, interface)

    def looked_for(self, ports: Iterable[PortId]) -> Mapping[PortId, str]:
        """Why each of these ports is on no bridge, a sentence that says what was looked for."""
        return self._placements.looked_for(ports)

    def bridge_name(self, dpid: Dpid) -> str:
        """The name of one bridge; its datapath id where no name is known."""
        return self._placements.bridge_name(dpid)

    def hosts_of(self, dpid: Dpid) -> tuple[str, ...]:
        """The names of the host of a bridge."""
        return self._placements.hosts_of(dpid)

    def certificate_of(self, dpid: Dpid) -> str | None:
        """The name in the certificate of a bridge's host, declared or seen first."""
        return self._placements.certificate_of(dpid)

    def doubts_of(self, dpid: Dpid) -> tuple[str, ...]:
        """Who claims to speak for a bridge and is not believed, a sentence each."""
        return self._placements.doubts_of(dpid)

    def why_another(self, dpid: Dpid, ports: Set[str]) -> str:
        """Why a connection under a datapath id may be that of another bridge; empty if nothing
        says so. ``ports`` are the names of its ports.
        """
        return self._placements.why_another(dpid, ports)

    def doubts(self) -> Mapping[PortId, str]:
        """Why it is not certain where ports are, a sentence for each of them."""
        return self._placements.snapshot().doubts

    def contradictions(self) -> tuple[str, ...]:
        """What the reports of ports contradict, a sentence each."""
        return tuple(self._placements.snapshot().problems)

    def forget(self, dpid: Dpid, who: str, counts: StoredCounts) -> None:
        """Forget a bridge that will not come back, here and in the store; with a tap bridge also
        the bridge that it taps.

        ``counts`` are what it has counted: they are stored.

        Raises:
            CloudtapError: the store cannot be written; then nothing was forgotten.
        """
        owner = self._placements.tapped_by(dpid)  # nobody else would forget what it has there
        with self._remembering:  # or an older report of it could be remembered after that
            self._store.forget_bridge(dpid, self._placements.bridge_name(dpid), who, counts)
            if owner is not None:
                self._store.forget_bridge(owner, self._placements.bridge_name(owner), who, {})
            for each in [dpid] if owner is None else [dpid, owner]:
                self._placements.forget(each)
                self._remembered.pop(each, None)
        self._forget_ports(dpid)
        self._ask()

    def why_not_ours(self, dpid: Dpid) -> str:
        """Why this controller may write nothing to a bridge; empty if it may."""
        return self._placements.why_not_ours(dpid)

    def tapped_callers(self, is_connected: Callable[[Dpid], bool]) -> Sequence[str]:
        """The bridges of others that are tapped and connected all the same, a sentence each."""
        return self._placements.tapped_callers(is_connected)

    def replaced(self) -> Mapping[Dpid, Dpid]:
        """Datapath ids that no bridge has any more, and those that their bridges have instead."""
        return self._placements.replaced()

    def store_moves(self, moves: Mapping[Dpid, Dpid], counts: StoredCounts) -> None:
        """Bridges have other datapath ids, all of these at once: what is stored goes along.

        ``counts`` take the place of all counts of these ids. Until then nothing is stored under
        the new ids: after a restart it must be seen again that bridges have moved.

        Raises:
            CloudtapError: the store cannot be written; then nothing was changed.
        """
        with self._remembering:
            self._store.move_bridges(moves, counts)
            for dpid in {*moves, *moves.values()}:
                self._remembered.pop(dpid, None)
            self._remembered_places = {}
        self._coalescer.ask()

    def retire(self, old: Dpid, new: Dpid) -> None:
        """A datapath id that no bridge has any more is forgotten; nothing if one has it again.

        Raises:
            CloudtapError: the store cannot be written; then nothing was changed.
        """
        with self._remembering:
            if self._placements.replaced().get(old) != new:
                return
            self._store.retire_bridge(old, new)
            self._placements.retire(old)
            self._remembered.pop(old, None)
        self._coalescer.ask()

    def move(self, port: PortId, place: Placement) -> None:
        """A port was heard at a place that claims it, and no longer where it was: it is there."""
        if self._placements.move(port, place):
            log.info("port moved", port=port, dpid=f"{place.dpid:016x}", ofport=place.ofport)
            self._ask()

    def strangers(self) -> frozenset[Dpid]:
        """The bridges that have connected, and on which nothing of ours is or was placed."""
        return self._placements.strangers()

    def drop_stranger(self, dpid: Dpid) -> bool:
        """Forget a bridge of which nothing of ours was ever placed; False if that is not so."""
        with self._remembering:
            is_dropped = self._placements.drop_stranger(dpid)
        if is_dropped:
            self._forget_ports(dpid)
        return is_dropped

    def retry(self) -> None:
        """Try again to store what could not be stored."""
        if self.problem:
            self._coalescer.ask()

    def stop(self) -> None:
        """Stop signalling and storing."""
        self._late.stop()
        self._coalescer.stop()

    def _follow_moves(self) -> None:
        """What bridges have counted goes along, before anybody learns that they have other ids."""
        with self._moving:
            for moves in self._placements.take_moves():
                self._counters.move(moves)
                self._reused.move(moves)

    def _tell_believed(self) -> None:
        """Tell who else wants to know what is believed of the databases, if that is news.

        It is not only a report that changes it: another database may be declared for a bridge.
        """
        if self._links is None:
            return
        with self._telling:
            believed = self._placements.believed
            if believed is not self._told:
                self._told = believed
                self._links.interfaces_changed(believed)

    def _forget_ports(self, dpid: Dpid) -> None:
        self._late.forget(dpid)
        if self._links is not None:
            self._links.bridge_forgotten(dpid)

    def _ask(self) -> None:
        if self._placements.version != self._passed_on:
            self._coalescer.ask()

    def _pass_on(self) -> None:
        places = self._placements.snapshot()
        if places.version != self._passed_on:
            seen, self._seen = self._seen, self._placements.what_counts(places)
            if is_news(seen, self._seen):
                self._changes.changed()
            self._passed_on = places.version
            self._note_claims(places)
            self._note_reused_numbers(places)
        try:
            self._remember(places)
            self.problem = ""
        except CloudtapError as problem:  # switches must not wait until a disk has room again
            self.problem = f"the places of ports are not remembered: {problem}"
            log.warning("places not remembered", reason=str(problem))

    def _note_claims(self, places: PlacementsSnapshot) -> None:
        """Log and count claims that are not believed, once each."""
        doubted = {("place", sentence) for sentence in places.doubts.values()}
        doubted |= {("database", sentence) for sentence in self._placements.database_doubts()}
        for claim, sentence in sorted(doubted - self._doubted):
            CLAIMS_REFUSED.labels(claim).inc()
            log.warning("claim refused", claim=claim, reason=sentence)
        self._doubted = frozenset(doubted)

    def _note_reused_numbers(self, places: PlacementsSnapshot) -> None:
        """Log and count port numbers that passed from one port to another: until the next plan is
        applied, frames may go to the wrong one."""
        for one in self._reused.follow(places.placements):
            NUMBERS_REUSED.inc()
            log.warning(
                "port number reused",
                bridge=self._placements.bridge_name(seen_on_bridge(one.place).dpid),
                ofport=one.place.ofport, before=one.before, after=one.after,
            )  # fmt: skip

    def _remember(self, places: PlacementsSnapshot) -> None:
        """Store where ports are, and the bridges on which any is or was: others leave no trace."""
        used = {dpid for dpid, _ in places.places.values()} | self._placements.kept()
        used |= {tap.dpid for owner, tap in places.taps.items() if owner in used}
        new = [
            record
            for record in places.records
            if record.dpid in used and self._remembered.get(record.dpid) is not record
        ]
        for first in range(0, len(new), BRIDGES_BETWEEN_PAUSES):
            with self._remembering:
                if self._is_moving(places):
                    return
                some = new[first : first + BRIDGES_BETWEEN_PAUSES]
                some = [record for record in some if self._placements.knows(record.dpid)]
                self._store.remember_bridges(some)
                self._remembered |= {record.dpid: record for record in some}
                for record in some:
                    self._placements.keep(record.dpid)
            time.sleep(0)
        if places.places is not self._remembered_places:
            with self._remembering:
                if self._placements.is_current(places) and not self._is_moving(places):
                    self._store.remember_places(places.places)
                    self._remembered_places = places.places

    def _is_moving(self, places: PlacementsSnapshot) -> bool:
        """Whether bridges have other ids since then, or it is not stored yet that they have."""
        return self._placements.moved_at > places.version or bool(self._counters.unstored())
