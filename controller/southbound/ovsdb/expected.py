"""The databases that should be reachable: whether they are synced, and problems of their hosts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from controller.southbound.ovsdb.database import RemoteState, RemoteStatus
from controller.southbound.ovsdb.rows import OvsdbSnapshot
from controller.southbound.ovsdb.watcher import OvsdbWatcher
from flows.model import Dpid, restoring_sentence


class ExpectedDatabases:
    """The configured databases, and the default one once it has been in use.

    ``remotes`` returns those in use now, ``believed`` what those report that speak for their
    bridges.
    """

    def __init__(
        self,
        watcher: OvsdbWatcher,
        remotes: Callable[[], Collection[str]],
        believed: Callable[[], OvsdbSnapshot],
    ) -> None:
        self._watcher, self._remotes, self._believed = watcher, remotes, believed
        self._expected: set[str] = set()

    def are_synced(self) -> bool:
        """Whether all rows of each were received."""
        return all(status.state is RemoteState.SYNCED for status in self._statuses())

    @property
    def are_asked(self) -> bool:
        """Whether it has begun that they are asked."""
        return self._watcher.has_begun

    def unreachable(self) -> list[str]:
        """Why databases cannot be reached, why new certificates and rows are not used, and which
        bridges were not created, a sentence each.
        """
        reasons = [status.reason for status in self._statuses() if status.reason]
        said = (*self._watcher.tls_problems(), *self._watcher.row_problems())
        return [*reasons, *said, *self._watcher.unmade()]

    def unsafe_settings(self, is_ours: Callable[[Dpid], bool]) -> Iterator[str]:
        """Bridges of ours that are not secure, and settings of hosts that harm copies."""
        snapshot = self._believed()
        for row in snapshot.bridges:
            if row.is_restoring and is_ours(row.dpid):
                yield restoring_sentence(row.name)
            if row.fail_mode != "secure" and is_ours(row.dpid):
                yield (
                    f"bridge {row.name!r} is not secure: it forgets its flows when we are away; "
                    f"run `ovs-vsctl set-fail-mode {row.name} secure`"
                )
        if snapshot.userspace_tso:
            yield (
                "userspace-tso-enable is on: copies may be longer than the path allows and have "
                "bad checksums; switch it off in other_config of Open_vSwitch"
            )

    def troubles_of(self, dpid: Dpid, name: str) -> Iterator[str]:
        """What the database of a bridge reports that keeps it from working."""
        for row in self._believed().bridges:
            if row.dpid == dpid and row.is_restoring:
                yield restoring_sentence(name)

    def unknowns_of(self, dpid: Dpid, name: str) -> Iterator[str]:
        """What cannot be seen of a bridge because no database knows it."""
        if all(row.dpid != dpid for row in self._believed().bridges):
            yield (
                f"unknown: cannot see whether bridge {name!r} is secure, because no database that "
                "knows it is reached: if it is not, it forwards every frame to every port while we "
                f"are away; run `ovs-vsctl set-fail-mode {name} secure` on its host, and name its "
                "database in `remotes` of [ovsdb]"
            )

    def stale(self) -> Mapping[Dpid, str]:
        """The databases that report nothing now, by the bridges of which they have reported."""
        statuses = self._watcher.statuses().items()
        away = {remote for remote, each in statuses if each.state is not RemoteState.SYNCED}
        if not away:
            return {}
        return {row.dpid: row.database for row in self._believed().bridges if row.database in away}

    def _statuses(self) -> list[RemoteStatus]:
        self._expected.update(self._remotes())
        return [s for remote, s in self._watcher.statuses().items() if remote in self._expected]
