"""Bundles of one connection: messages that are done together or not at all (ONF extension 230)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from struct import Struct

from tests.fake_switches.faults import Faults
from tests.fake_switches.refusal import Refusal, Refused
from tests.fake_switches.tables import ADD, FlowMod, Tables, read_flow_mod
from tests.fake_switches.tables import FLOW_MOD as FLOW_MOD_BODY

HEADER = Struct("!BBHI")
OPEN, CLOSE, COMMIT, DISCARD = 0, 2, 4, 6
FLOW_MOD, PORT_MOD = 14, 16


@dataclass
class _Bundle:
    flags: int
    is_closed: bool = False
    messages: list[tuple[int, FlowMod, bytes]] = field(default_factory=list)


class Bundles:
    """The open bundles of one connection, and what they will change."""

    def __init__(self, tables: Tables, faults: Callable[[], Faults]) -> None:
        self._tables, self._faults = tables, faults
        self._open: dict[int, _Bundle] = {}

    def add(self, number: int, flags: int, xid: int, inner: bytes) -> None:
        """Check one message and keep it for later; raises Refused."""
        if len(inner) < HEADER.size:
            raise Refused(Refusal.BUNDLE_MSG_LEN)
        _, kind, length, inner_xid = HEADER.unpack_from(inner)
        if length > len(inner) or length < HEADER.size:
            raise Refused(Refusal.BUNDLE_MSG_LEN)
        if inner_xid != xid:
            raise Refused(Refusal.BUNDLE_MSG_XID)
        if kind != FLOW_MOD or length < HEADER.size + FLOW_MOD_BODY.size:
            raise Refused(Refusal.BUNDLE_MSG_UNSUPPORTED)
        mod = read_flow_mod(inner[:length])
        bundle = self._open.setdefault(number, _Bundle(flags))  # no opening needed, as with OVS
        if bundle.is_closed:
            del self._open[number]
            raise Refused(Refusal.BUNDLE_CLOSED)
        if bundle.flags != flags:
            del self._open[number]
            raise Refused(Refusal.BUNDLE_FLAGS)
        bundle.messages.append((xid, mod, inner))

    def control(self, number: int, step: int, flags: int) -> Iterator[tuple[int, Refusal, bytes]]:
        """Open, close, commit or discard; yields what went wrong with single messages."""
        if step == OPEN:
            if self._open.pop(number, None) is not None:
                raise Refused(Refusal.BUNDLE_ID)
            self._open[number] = _Bundle(flags)
            return
        if step % 2:  # a reply
            raise Refused(Refusal.BUNDLE_TYPE)
        if step > DISCARD:  # Open vSwitch lets it pass, and does nothing
            return
        bundle = self._open.get(number)
        if bundle is None:
            raise Refused(Refusal.BUNDLE_ID)
        if step == CLOSE:
            if bundle.is_closed:
                del self._open[number]
                raise Refused(Refusal.BUNDLE_CLOSED)
            bundle.is_closed = True
            return
        del self._open[number]
        if step == COMMIT:
            yield from self._commit(bundle)

    def _commit(self, bundle: _Bundle) -> Iterator[tuple[int, Refusal, bytes]]:
        before = dict(self._tables.flows)
        for xid, mod, inner in bundle.messages:
            try:
                refusal = self._faults().refuse(mod.entry.cookie) if mod.command == ADD else None
                if refusal is not None:
                    raise Refused(refusal)
                self._tables.do(mod)
            except Refused as refused:
                self._tables.flows.clear()
                self._tables.flows.update(before)
                yield xid, refused.refusal, inner
                raise Refused(Refusal.BUNDLE_MSG_FAILED) from refused
