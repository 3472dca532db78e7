"""Which Open vSwitch database speaks for which bridge; rows of others are not believed.

The first database that names a datapath id speaks for it from then on, also over restarts, unless
the inventory declares another one. See docs/decisions/0022-who-speaks-for-a-bridge.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from itertools import chain

from controller.inventory import DeclaredBridge
from controller.southbound.ovsdb import BridgeRow, OvsdbSnapshot
from controller.store import BridgeRecord
from flows.model import Dpid

SPARE = 4096
"""Bridges of which nothing is known but who spoke for them first, that are kept at most."""
EVERY: Callable[[], Collection[str] | None] = lambda: None  # noqa: E731


@dataclass(frozen=True, slots=True)
class Speaker:
    """The Bridge row that speaks for a bridge: its database, its uuid, and the name in it."""

    database: str
    row: str
    name: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What is believed of a report of all databases.

    ``doubts`` are sentences about claims that are not believed, by the bridge that is claimed.
    ``left`` are rows that spoke for a bridge and have another id now, which they may not take, by
    the id that they had.
    ``replaced`` maps a datapath id that a bridge does not have any more to the one that it has.
    """

    believed: OvsdbSnapshot = field(default_factory=OvsdbSnapshot)
    doubts: Mapping[Dpid, tuple[str, ...]] = field(default_factory=dict)
    replaced: Mapping[Dpid, Dpid] = field(default_factory=dict)
    left: Mapping[Dpid, BridgeRow] = field(default_factory=dict)


class Speakers:
    """Decides which row speaks for a datapath id, and notices when a bridge gets another id.

    ``targets`` returns the databases that the configuration names, None for all: one that it does
    not name any more speaks for nothing. Not thread-safe.
    """

    def __init__(self, targets: Callable[[], Collection[str] | None] = EVERY) -> None:
        self._targets = targets
        self._by_dpid: dict[Dpid, Speaker] = {}
        self._declared: Mapping[Dpid, str] = {}

    def remember(self, records: Iterable[BridgeRecord]) -> None:
        """Take who spoke for bridges before the start."""
        for record in records:
            if record.row:
                self._by_dpid[record.dpid] = Speaker(record.database, record.row, record.name)

    def declare(self, bridges: Iterable[DeclaredBridge]) -> None:
        """Take which databases the inventory declares."""
        self._declared = {b.dpid: b.database for b in bridges if b.database is not None}

    def forget(self, dpid: Dpid) -> None:
        """Nobody speaks for this bridge any more: the next one that names it does."""
        self._by_dpid.pop(dpid, None)

    def why_another(self, dpid: Dpid, row: BridgeRow) -> str:
        """A sentence: which bridge ``dpid`` is, is not known, because of a row that has left an id
        and may not take the one that it has now.
        """
        holder = self._by_dpid.get(row.dpid)
        has_it = "another bridge" if holder is None else _show(holder)
        was = next((old for old, each in self._by_dpid.items() if _is_spoken_by(row, each)), dpid)
        return (
            f"{_show(row)} had datapath id {was:016x} and has {row.dpid:016x} now, which {has_it} "
            f"has as far as known: so this may be either of the two, until both databases say "
            "which it is; make both reachable, or give each bridge an id of its own"
        )

    def shorten(self, needed: Set[Dpid]) -> None:
        """Forget who spoke for bridges that are not needed: the oldest, beyond SPARE of them."""
        if len(self._by_dpid) > len(needed) + SPARE:
            spare = [dpid for dpid in self._by_dpid if dpid not in needed]
            for dpid in spare[: max(0, len(spare) - SPARE)]:
                del self._by_dpid[dpid]

    def of(self, dpid: Dpid) -> Speaker | None:
        """The row that speaks for a bridge; None if no database has named it."""
        return self._by_dpid.get(dpid)

    def hear(self, snapshot: OvsdbSnapshot) -> Heard:
        """Take the rows of all databases as they are now."""
        claims: defaultdict[Dpid, list[BridgeRow]] = defaultdict(list)
        for row in snapshot.bridges:
            claims[row.dpid].append(row)
        doubts: dict[Dpid, tuple[str, ...]] = {}
        replaced, left = self._follow_new_ids(snapshot, claims)
        believed: set[tuple[str, str, Dpid]] = set()
        for dpid, rows in claims.items():
            speaking = self._speaking(dpid, rows)
            if speaking is not None:
                self._by_dpid[dpid] = Speaker(speaking.database, speaking.row, speaking.name)
                believed.add((speaking.database, speaking.row, dpid))
            others = [row for row in rows if not _is_same(row, speaking)]
            if others:
                doubts[dpid] = (self._doubt(dpid, speaking, others),)
        if len(believed) != len(snapshot.bridges):
            snapshot = _without_others(snapshot, believed)
        return Heard(snapshot, doubts, replaced, left)

    def _follow_new_ids(
        self, snapshot: OvsdbSnapshot, claims: Mapping[Dpid, list[BridgeRow]]
    ) -> tuple[dict[Dpid, Dpid], dict[Dpid, BridgeRow]]:
        """Find bridges that have another datapath id than before; and those that may not, by the
        id that they had, with their rows.

        It is the same bridge if its Bridge row is the same; or, if that row is gone, if its
        database has a new row with its name. One may take the id that another gives up at the same
        time.
        """
        by_row = {(row.database, row.row): row for row in snapshot.bridges if row.row}
        by_name = {(row.database, row.name): row for row in snapshot.bridges if row.row}
        taken = {(each.database, each.row) for each in self._by_dpid.values()}
        moves: dict[Dpid, BridgeRow] = {}
        mover: dict[Dpid, Dpid] = {}
        left: dict[Dpid, BridgeRow] = {}
        for old, known in list(self._by_dpid.items()):
            row = by_row.get((known.database, known.row))
            if row is None:
                row = by_name.get((known.database, known.name))
                if row is not None and (row.database, row.row) in taken:
                    row = None  # that row speaks for another bridge, which was renamed
            if row is None:
                continue
            if row.dpid == old:
                self._by_dpid[old] = replace(known, row=row.row, name=row.name)
            else:
                left[old] = row
                if mover.setdefault(row.dpid, old) == old:
                    moves[old] = row
        stay = [old for old, row in moves.items() if not self._may_take(row, moves)]
        while stay:  # and so does whoever wanted the id of one that stays
            del moves[(old := stay.pop())]
            next_one = mover.get(old)
            if next_one in moves and not self._may_take(moves[next_one], moves):
                stay.append(next_one)
        for old in moves:
            del self._by_dpid[old]
        for row in moves.values():
            self._by_dpid[row.dpid] = Speaker(row.database, row.row, row.name)
        left = {old: row for old, row in left.items() if old not in moves}
        return {old: row.dpid for old, row in moves.items()}, left

    def _may_take(self, row: BridgeRow, moves: Mapping[Dpid, BridgeRow]) -> bool:
        """Whether a bridge may have the datapath id that its row has now."""
        declared, holder = self._declared.get(row.dpid), self._by_dpid.get(row.dpid)
        if declared is not None:
            return declared == row.database
        is_free = holder is None or row.dpid in moves
        return is_free or _is_spoken_by(row, holder)

    def _speaking(self, dpid: Dpid, rows: list[BridgeRow]) -> BridgeRow | None:
        """The row that speaks for a datapath id; None if none may, or several would be the first.

        Of several rows of one database, the one that has spoken before does.
        """
        known, declared = self._by_dpid.get(dpid), self._declared.get(dpid)
        if known is not None and not self._is_configured(known.database):
            known = None
        if declared is not None:
            rows = [row for row in rows if row.database == declared]
        elif known is not None:
            rows = [row for row in rows if row.database == known.database]
        same = [row for row in rows if known is not None and row.row == known.row]
        candidates = same or rows
        is_one = all(_is_same(row, candidates[0]) for row in candidates)
        return candidates[0] if candidates and is_one else None

    def _is_configured(self, database: str) -> bool:
        targets = self._targets()
        return targets is None or database in targets

    def _doubt(self, dpid: Dpid, speaking: BridgeRow | None, others: list[BridgeRow]) -> str:
        claimants = " and ".join(sorted({_show(row) for row in others}))
        verb = "claims" if len(others) == 1 else "claim"
        known = self._declared.get(dpid)
        by = "the inventory says that {} does"
        if known is None:
            known = self._by_dpid[dpid].database if dpid in self._by_dpid else None
            by = "{} spoke for it first"
        if speaking is not None:
            by = f"{_show(speaking)} speaks for it"
        elif known is not None:
            by = by.format(known)
        else:
            return (
                f"datapath id {dpid:016x} is claimed by {claimants}: none is believed; give each "
                "bridge an id of its own (other_config:datapath-id), or declare in `bridges` of "
                "the inventory which database has it"
            )
        return (
            f"{claimants} {verb} datapath id {dpid:016x}, but {by}: what is said there of this "
            "bridge is not believed; give each bridge an id of its own "
            "(other_config:datapath-id), or declare in `bridges` of the inventory which database "
            "has it"
        )


def _show(row: BridgeRow | Speaker) -> str:
    """A Bridge row as sentences name it."""
    return f"{row.database} (bridge {row.name!r})"


def _is_spoken_by(row: BridgeRow, speaker: Speaker | None) -> bool:
    return speaker is not None and (speaker.database, speaker.row) == (row.database, row.row)


def _is_same(row: BridgeRow, other: BridgeRow | None) -> bool:
    """Whether two rows are one: of a database that two targets lead to."""
    if other is None or row is other:
        return row is other
    return bool(row.row) and (row.row, row.name) == (other.row, other.name)


def _without_others(
    snapshot: OvsdbSnapshot, believed: Collection[tuple[str, str, Dpid]]
) -> OvsdbSnapshot:
    """The rows of the bridges whose row is believed."""
    by_bridge = {
        (dpid, database, row): interfaces
        for (dpid, database, row), interfaces in snapshot.by_bridge.items()
        if (database, row, dpid) in believed
    }
    return OvsdbSnapshot(
        tuple(r for r in snapshot.bridges if (r.database, r.row, r.dpid) in believed),
        tuple(chain.from_iterable(by_bridge.values())),
        snapshot.userspace_tso,
        by_bridge,
    )
