"""The store's branches of the tree of errors.

CloudtapError
+-- StoreError          the database cannot be used now; nothing was changed
|   +-- NewerSchema     it was written by a newer cloudtap
|   +-- AlreadyRunning  another controller uses the same state directory
+-- Refused
    +-- NotFound        no such collector, filter or session
    +-- NameTaken       the tenant has one of this name
    +-- NumberTaken     the tenant has an exclusive session with this number
    +-- InUse           something else needs it
    +-- Repeated        the key of a request was used before
"""

from __future__ import annotations

from collections.abc import Sequence

from flows.errors import CloudtapError, Refused


class StoreError(CloudtapError):
    """The database cannot be used now; what was asked for was not done, what was there is there."""


class NewerSchema(StoreError):
    """The database was written by a newer cloudtap."""


class AlreadyRunning(StoreError):
    """Another controller uses the same state directory."""


class NotFound(Refused):
    """There is no such thing."""

    def __init__(self, kind: str, ref: str) -> None:
        super().__init__(f"there is no {kind} {ref!r}")
        self.kind, self.ref = kind, ref


class NameTaken(Refused):
    """The tenant already has one of this name."""

    def __init__(self, kind: str, tenant: str, name: str) -> None:
        super().__init__(
            f"tenant {tenant!r} already has a {kind} {name!r}: choose another name, or delete it"
        )
        self.kind, self.tenant, self.name = kind, tenant, name


class NumberTaken(Refused):
    """Two exclusive sessions of a tenant may not have one number: which would be asked first?"""

    def __init__(self, tenant: str, number: int, other: str) -> None:
        super().__init__(
            f"exclusive session {other!r} of tenant {tenant!r} has number {number} already: choose "
            f"another; of exclusive sessions that watch a port, the lowest number is asked first"
        )
        self.tenant, self.number, self.other = tenant, number, other


class InUse(Refused):
    """A collector or filter that sessions use cannot be deleted."""

    def __init__(self, kind: str, name: str, sessions: Sequence[str]) -> None:
        shown = ", ".join(repr(each) for each in sessions[:5])
        more = f" and {len(sessions) - 5} more" if len(sessions) > 5 else ""
        super().__init__(
            f"{kind} {name!r} is used by session {shown}{more}: "
            f"delete them, or give them another {kind}, first"
        )
        self.kind, self.name, self.sessions = kind, name, tuple(sessions)


class Repeated(Refused):
    """The key of this request was used before; ``digest`` says what for."""

    def __init__(self, digest: str, object_id: str, answer: str | None) -> None:
        super().__init__("the Idempotency-Key was used before")
        self.digest, self.object_id, self.answer = digest, object_id, answer
