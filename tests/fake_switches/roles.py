"""What each connection may do to a switch (OpenFlow 1.3.5, section 6.3.4)."""

from __future__ import annotations

from struct import Struct

from tests.fake_switches.refusal import Refusal, Refused

ROLE_REQUEST = 24
NOCHANGE, EQUAL, MASTER, SLAVE = range(4)
BODY = Struct("!I4xQ")
CHANGES = (13, 14, 15, 16, 17, 29)
"""Packets out, and changes of flows, groups, ports, tables and meters."""
EXPERIMENTER = 4
NONE_YET = (1 << 64) - 1


class Roles:
    """The roles of the connections of one switch, and the generation of its last master."""

    def __init__(self) -> None:
        self._roles: dict[object, int] = {}
        self._generation: int | None = None

    def forget(self, who: object) -> None:
        """Forget a connection that ended."""
        self._roles.pop(who, None)

    def check(self, who: object, kind: int) -> None:
        """Refuse a change by a slave."""
        is_change = kind in CHANGES or kind == EXPERIMENTER  # the others of those are bundles
        if is_change and self._roles.get(who) == SLAVE:
            raise Refused(Refusal.IS_SLAVE)

    def ask(self, who: object, body: bytes) -> bytes:
        """Give a connection the role that it asks for; the body of the reply."""
        if len(body) != BODY.size:
            raise Refused(Refusal.BAD_LEN)
        role, generation = BODY.unpack(body)
        if role > SLAVE:
            raise Refused(Refusal.BAD_ROLE)
        if role in (MASTER, SLAVE):
            self._take(generation)
        if role == MASTER:
            for other, held in self._roles.items():
                self._roles[other] = SLAVE if held == MASTER else held
        if role != NOCHANGE:
            self._roles[who] = role
        known = NONE_YET if self._generation is None else self._generation
        return BODY.pack(self._roles.get(who, EQUAL), known)

    def _take(self, generation: int) -> None:
        before = self._generation
        if before is not None and (generation - before) & 1 << 63:
            raise Refused(Refusal.ROLE_STALE)
        self._generation = generation
