"""Errors of the store, as part of the tree of flows/errors.py.

CloudtapError
+-- StoreError          the database cannot be used now; nothing was changed
|   +-- NewerSchema     a newer cloudtap has written it
|   +-- AlreadyRunning  another controller uses the same state directory
|   +-- BadContent      a row of the database is not as it must be
+-- Refused
    +-- NotFound        no such collector, filter or session
    +-- NameTaken       the tenant has one of this name
    +-- NumberTaken     the tenant has an exclusive session with this number
    +-- InUse           sessions refer to it
    +-- Repeated        the idempotency key was used before
"""

from __future__ import annotations

from collections.abc import Sequence

from flows.errors import CloudtapError, Refused


class StoreError(CloudtapError):
    """The database cannot be used now; nothing was changed."""


class NewerSchema(StoreError):
    """A newer cloudtap has written the database."""


class AlreadyRunning(StoreError):
    """Another controller uses the same state directory."""


class BadContent(StoreError):
    """A row of the database is not as it must be: the database is damaged, or not ours."""


class NotFound(Refused):
    """No object has this id or name."""

    def __init__(self, kind: str, ref: str) -> None:
        super().__init__(f"there is no {kind} {ref!r}")
        self.kind, self.ref = kind, ref


class NameTaken(Refused):
    """The tenant already has an object of this name."""

    def __init__(self, kind: str, tenant: str, name: str) -> None:
        super().__init__(
            f"tenant {tenant!r} already has a {kind} {name!r}: choose another name, or delete it"
        )
        self.kind, self.tenant, self.name = kind, tenant, name


class NumberTaken(Refused):
    """Another exclusive session of the tenant has the number: their order would be undefined."""

    def __init__(self, tenant: str, number: int, other: str) -> None:
        super().__init__(
            f"exclusive session {other!r} of tenant {tenant!r} has number {number} already: choose "
            f"another; of exclusive sessions that watch a port, the lowest number is asked first"
        )
        self.tenant, self.number, self.other = tenant, number, other


class InUse(Refused):
    """A collector or filter cannot be deleted while sessions refer to it."""

    def __init__(self, kind: str, name: str, sessions: Sequence[str]) -> None:
        shown = ", ".join(repr(each) for each in sessions[:5])
        more = f" and {len(sessions) - 5} more" if len(sessions) > 5 else ""
        super().__init__(
            f"{kind} {name!r} is used by session {shown}{more}: "
            f"delete them, or give them another {kind}, first"
        )
        self.kind, self.name, self.sessions = kind, name, tuple(sessions)


class Repeated(Refused):
    """The idempotency key was used before, for the request with this ``digest``."""

    def __init__(self, digest: str, object_id: str, answer: str | None) -> None:
        super().__init__("the Idempotency-Key was used before")
        self.digest, self.object_id, self.answer = digest, object_id, answer
