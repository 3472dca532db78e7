"""The store: all repositories on one database, and the desired state that they add up to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Set
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from controller.store.audit import AuditRepository
from controller.store.collectors import CollectorRepository
from controller.store.database import Database
from controller.store.errors import StoreError
from controller.store.filters import FilterRepository
from controller.store.idempotency import IdempotencyRepository
from controller.store.installed import InstalledSessionsRepository
from controller.store.limits import LimitRepository
from controller.store.numbers import NumberRepository
from controller.store.placements import PlacementRepository
from controller.store.session_cache import SessionCache
from controller.store.sessions import SessionRepository
from controller.store.switched_off import SwitchedOff
from controller.store.values import DesiredState
from flows.model import (
    Names,
    Numbers,
    SessionId,
    TenantName,
)


class Store:
    """Everything that must survive a restart, in one SQLite file, ``state.db``.

    One repository for each noun; each change is one transaction with its audit entry. Any number of
    threads may call it. Every method, of the repositories too, may raise StoreError; then nothing
    was changed (but see InstalledSessionsRepository).

    Raises:
        AlreadyRunning: another controller uses the directory.
        NewerSchema, StoreError: the file cannot be used.
    """

    def __init__(
        self, directory: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database = Database(directory)
        try:
            self._make_repositories(directory, database, now)
        except BaseException:
            database.close()
            raise

    def _make_repositories(
        self, directory: Path, database: Database, now: Callable[[], datetime]
    ) -> None:
        self._numbers = NumberRepository(database)
        self._switched_off = SwitchedOff(directory, database.is_present)
        cache = SessionCache(database, self._switched_off)
        self.audit = AuditRepository(database, now)
        self.collectors = CollectorRepository(database, now, numbers=self._numbers)
        self.filters = FilterRepository(database, now, numbers=self._numbers)
        self.idempotency = IdempotencyRepository(database, now)
        self.installed_sessions = InstalledSessionsRepository(database)
        self.placements = PlacementRepository(
            database, installed_sessions=self.installed_sessions, now=now
        )
        self.sessions = SessionRepository(
            database, cache=cache, switched_off=self._switched_off, numbers=self._numbers, now=now
        )
        self.limits = LimitRepository(database, sessions=self.sessions)
        self._check_values()
        self.sessions.stop_doubtful()
        with suppress(StoreError):
            self.sessions.settle()

    def _check_values(self) -> None:
        """Make values of all rows once: what cannot be read is found now."""
        self.sessions.all()
        self.collectors.all()
        self.filters.all()
        self.limits.counts()

    def close(self) -> None:
        """Close the file and release its lock."""
        with suppress(StoreError):
            self.sessions.settle()
        self._database.close()
        self._switched_off.close()

    def desired(self) -> DesiredState:
        """The desired state now."""
        # before the collectors: they do not have any more what had been given up by then
        last_held = self.collectors.last_held()
        # sessions first: the collectors and filters they refer to cannot be deleted before them
        sessions = self.sessions.desired()
        collectors, filters = self.collectors.all(), self.filters.all()
        return dataclasses.replace(
            sessions,
            collectors=tuple(record.collector for record in collectors),
            filters=tuple(record.filter for record in filters),
            probes={
                (record.collector.id, sensor): probe
                for record in collectors
                for sensor, probe in record.probes.items()
            },
            last_held=last_held,
        )

    def changed_between(self, before: int, now: int) -> Set[SessionId] | None:
        """The sessions that may differ at two moments (see DesiredState); None: any may."""
        return self.sessions.changed_between(before, now)

    # --- numbers ----------------------------------------------------------------------------

    def numbers_for(self, names: Names) -> Numbers:
        """The numbers of these names; those that have none yet get one, kept from then on.

        What has gone to another tenant gets a new one; the old one stays taken until its release.
        All get the smallest free number, only sessions the next one after the last that was given.
        When link tags or meters run out the last names have none: the compiler then refuses what
        needs them, and the rest goes on. So it is for a tenant that would take those which are left
        for others: meters, and link tags of copies.

        Raises:
            StoreError: another kind has no free number.
        """
        return self._numbers.numbers_for(names)

    @property
    def tenants(self) -> Collection[TenantName]:
        """The tenants that have a network or a port: each is left its part of what is scarce."""
        return self._numbers.tenants

    @property
    def lacks_tenants(self) -> bool:
        """Whether there are numbers of an older version of which it is not known whose they are."""
        return self._numbers.lacks_tenants

    def give_tenants(self, names: Names) -> None:
        """Say whose the numbers of an older version are, which kept them without tenants: what had
        these names, as they were declared then.

        Others are nobody's from then on. If this is not called, the names that are asked for first
        are taken for those of then.
        """
        self._numbers.give_tenants(names)

    def release_all_but(self, used: Numbers) -> None:
        """Free all numbers but these, when what had them is gone from switches, too.

        The number of a session that is still in the store stays taken.
        """
        self._numbers.release_all_but(used)

    def release_keys(self, last_held: int) -> None:
        """Let other tenants have the tunnel keys that collectors had given up in a desired state
        with this ``last_held``, or before it, when no bridge sends with them any more.
        """
        self.collectors.release_keys(last_held)

    def numbered(self) -> Numbers:
        """Everything that has a number now; networks, ports and tags by TENANT/NAME."""
        return self._numbers.all()

    def prove_writable(self) -> None:
        """Raise StoreError if a write would fail now."""
        self._database.prove_writable()

    def try_again(self) -> None:
        """Find out whether writes are possible now, and set ``problem``."""
        self._database.try_again()

    def retry(self) -> None:
        """Look whether the database is there, and try again if it could not be written."""
        if not self._database.is_present():
            return
        if self.problem:
            self.try_again()
        if not self.problem:
            with suppress(StoreError):
                self.sessions.settle()

    @property
    def problem(self) -> str:
        """Why the last write failed; empty when it succeeded."""
        return self._database.problem

    @property
    def unrecorded(self) -> str:
        """A sentence while sessions are switched off that the database holds as running."""
        return self._switched_off.problem

    @property
    def damage(self) -> str:
        """A sentence while it is not certain which sessions were switched off before the start."""
        return self._switched_off.damage
