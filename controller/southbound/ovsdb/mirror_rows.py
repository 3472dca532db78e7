"""Reconciles the Mirrors of ours in one database with the demand: adds and removes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import structlog

from controller.databases import peer_name
from controller.southbound.ovsdb.mirror import MirrorDemand, mirror_name
from controller.southbound.ovsdb.rows import BridgeRow, DatabaseContent
from controller.southbound.ovsdb.wanted_rows import WRITE_RETRY_S, Changes, WantedRows
from flows.model import MIRRORS_MAX, Dpid, MirrorKey

log = structlog.get_logger(__name__)


class MirrorRows(WantedRows[MirrorKey, MirrorDemand]):
    """Keeps the Mirrors of one database that send to tap bridges as demanded.

    A Mirror is what it selects, whatever its name: when a port goes, the Mirror of those that stay
    is there already. What goes is removed before anything is added: an altered Mirror, and what is
    left of one, have the names of those that are made again.
    """

    SHOWN_WITHIN_S = WRITE_RETRY_S

    def _rows_of(self, bridge: BridgeRow, content: DatabaseContent) -> frozenset[str]:
        owner = _owner(bridge, content)
        return frozenset([bridge.row] if owner is None else [bridge.row, owner.row])

    def _changes(
        self, bridge: BridgeRow, demand: MirrorDemand, content: DatabaseContent
    ) -> Changes[MirrorKey]:
        owner = _owner(bridge, content)
        if owner is None:
            return Changes(held=dict.fromkeys(demand.wanted, self._no_owner_sentence(bridge)))
        gone, there = set[str](), set[MirrorKey]()
        for mirror in owner.mirrors:
            is_another = mirror.key in there and demand.unwanted is None
            if mirror.tap not in (None, bridge.dpid):
                continue
            if mirror.is_altered or is_another or demand.has_no_use_for(mirror.key):
                gone.add(mirror.name)
            else:
                there.add(mirror.key)
        left = set(_remains(bridge, owner, content))
        names = {mirror_name(bridge.dpid, key): key for key in demand.wanted - there}
        missing = sorted(names.keys() - left)
        others = len(owner.mirrors) + owner.other_mirrors - len(gone)
        room = max(0, MIRRORS_MAX - others)
        why = _full_sentence(owner, others + len(names))
        return Changes(
            add=tuple(names[name] for name in missing[:room]),
            remove=tuple(sorted(gone | left)),
            held={names[name]: why for name in missing[room:]},
        )

    def _step(self, todo: Changes[MirrorKey]) -> Changes[MirrorKey]:
        return Changes(remove=todo.remove) if todo.remove else todo

    def _request(
        self, bridge: BridgeRow, todo: Changes[MirrorKey], content: DatabaseContent
    ) -> dict[str, Any]:
        owner = _owner(bridge, content)
        assert owner is not None, "there are no changes without it"
        return {
            "bridge": owner.row,
            "do": "mirrors",
            "tap": bridge.row,
            "add": [_mirror(bridge.dpid, key) for key in todo.add],
            "remove": list(todo.remove),
        }

    def _names(self, dpid: Dpid, key: MirrorKey) -> Sequence[str]:
        name = mirror_name(dpid, key)
        return (name, peer_name(name))

    def _called(self, bridge: BridgeRow, key: MirrorKey) -> str:
        return f"the Mirror {mirror_name(bridge.dpid, key)} of bridge {bridge.taps}"

    def _identified(self, bridge: BridgeRow, key: MirrorKey) -> str:
        return self._called(bridge, key)

    def _taken_sentence(self, bridge: BridgeRow, key: MirrorKey) -> str:
        name, peer = self._names(bridge.dpid, key)
        return (
            f"bridge {bridge.taps} cannot have its Mirror {name}: a port {name!r} or {peer!r} is "
            "there already and is not ours, or not where we made it; remove it, or give it another "
            "name"
        )

    def _log_changes(
        self, bridge: BridgeRow, made: Sequence[MirrorKey], done: Changes[MirrorKey]
    ) -> None:
        log.info(
            "mirrors changed", bridge=bridge.taps, dpid=f"{bridge.dpid:016x}",
            made=[mirror_name(bridge.dpid, key) for key in made],
            removed=list(done.remove),
        )  # fmt: skip

    def _no_owner_sentence(self, bridge: BridgeRow) -> str:
        if not bridge.taps:
            return (
                f"bridge {bridge.name} is not attached to another one any more, as the database "
                f"{self._remote} says: attach it again with `cloudtap bridge attach`"
            )
        return (
            f"bridge {bridge.taps}, which bridge {bridge.name} gets copies of, is not in the "
            f"database {self._remote}: see whether it was removed, or has another name"
        )


def _owner(bridge: BridgeRow, content: DatabaseContent) -> BridgeRow | None:
    """The bridge that is attached to a tap bridge."""
    if not bridge.taps or bridge.taps == bridge.name:
        return None
    return next((row for row in content.bridges if row.name == bridge.taps), None)


def _remains(bridge: BridgeRow, owner: BridgeRow, content: DatabaseContent) -> Iterator[str]:
    """The Mirrors of ours of which there are only ends of a patch."""
    there = {mirror.name for mirror in owner.mirrors}
    for row in content.mirror_ends.get(owner.row, ()):
        if row.mirror not in there and row.name == row.mirror:
            yield row.mirror
    for row in content.mirror_ends.get(bridge.row, ()):
        if row.mirror not in there and row.name == peer_name(row.mirror):
            yield row.mirror


def _mirror(dpid: Dpid, key: MirrorKey) -> dict[str, Any]:
    name = mirror_name(dpid, key)
    selected = {"sources": sorted(key.sources), "targets": sorted(key.targets)}
    return {"name": name, "peer": peer_name(name), **selected}


def _full_sentence(owner: BridgeRow, needed: int) -> str:
    return (
        f"bridge {owner.name} needs {needed} Mirrors, {owner.other_mirrors} of them not ours, and "
        f"Open vSwitch makes no more than {MIRRORS_MAX} for one bridge: remove some, or let "
        "sessions watch the same ports there, so that they share one"
    )
