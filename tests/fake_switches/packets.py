"""The packet-out of a fake switch: registers, resubmits and outputs.

Only as much of a datapath as packet-outs of the controller need: flows that a frame hits and ports
that it leaves by count it, and meters pass it. Of tags only the length is implemented, and nothing
of tunnels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct

from tests.fake_switches.actions import PORTS_MAX, TYPE_LENGTH, check_packet_actions
from tests.fake_switches.refusal import Refusal, Refused
from tests.fake_switches.tables import Entry, Tables

BODY = Struct("!IIH6x")
NO_BUFFER = 0xFFFFFFFF
LOCAL, CONTROLLER, ANY = 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFF
TAGGED = (b"\x81\x00", b"\x88\xa8")
REGISTER_CLASS = 1
METER, PUSH_VLAN = 6, 17
"""An instruction, and an action."""


@dataclass
class Sent:
    """Frames and bytes that each port has sent."""

    frames: Counter[int] = field(default_factory=Counter)
    octets: Counter[int] = field(default_factory=Counter)


def send(body: bytes, tables: Tables, ports: dict[int, str], sent: Sent) -> None:
    """Execute a packet-out message, or refuse it."""
    if len(body) < BODY.size:
        raise Refused(Refusal.BAD_LEN)
    buffer, in_port, length = BODY.unpack_from(body)
    if BODY.size + length > len(body):
        raise Refused(Refusal.BAD_LEN)
    actions, frame = body[BODY.size : BODY.size + length], body[BODY.size + length :]
    if buffer != NO_BUFFER:
        raise Refused(Refusal.BUFFER_UNKNOWN)
    if in_port >= PORTS_MAX and in_port not in (LOCAL, CONTROLLER, ANY):
        raise Refused(Refusal.BAD_PORT)
    check_packet_actions(actions, is_tagged=frame[12:14] in TAGGED)
    _Frame(tables, ports, sent, len(frame)).do(actions)


@dataclass
class _Frame:
    tables: Tables
    ports: dict[int, str]
    sent: Sent
    size: int
    registers: dict[int, int] = field(default_factory=dict)

    def do(self, actions: bytes) -> None:
        """Follow an action list."""
        for kind, action in _split(actions):
            if kind == PUSH_VLAN:
                self.size += 4
            elif kind == 0:
                self._leave(Struct("!I").unpack_from(action, 4)[0], self.size)
            elif kind == 0xFFFF:
                self._nicira(Struct("!H").unpack_from(action, 8)[0], action)

    def _nicira(self, subtype: int, action: bytes) -> None:
        if subtype == 7:
            place, target, value = Struct("!HIQ").unpack_from(action, 10)
            if target >> 16 == REGISTER_CLASS:
                self._load(target >> 9 & 0x7F, place >> 6, (place & 63) + 1, value)
        elif subtype == 14:
            self._enter(action[12])
        elif subtype == 39:
            port, longest = Struct("!HI").unpack_from(action, 10)
            self._leave(port, min(longest, self.size))
        elif subtype == 42:
            before = dict(self.registers), self.size
            self.do(action[16:])
            self.registers, self.size = before

    def _load(self, register: int, low: int, bits: int, value: int) -> None:
        mask = ((1 << bits) - 1) << low
        self.registers[register] = self.registers.get(register, 0) & ~mask | value << low

    def _enter(self, table: int) -> None:
        entries = [e for e in self.tables.flows.values() if e.table == table and self._meets(e)]
        if entries:
            entry = max(entries, key=lambda e: e.priority)
            entry.packets += 1
            entry.octets += self.size
            self._execute(entry.instructions)

    def _execute(self, instructions: bytes) -> None:
        for kind, instruction in _split(instructions):
            if kind == METER:
                meter = self.tables.meters.by_number[Struct("!I").unpack_from(instruction, 4)[0]]
                packets, octets = meter.passed
                meter.passed = packets + 1, octets + self.size
            else:
                self.do(instruction[8:])

    def _meets(self, entry: Entry) -> bool:
        return all(
            key[0] == REGISTER_CLASS and self.registers.get(key[1], 0) & mask == value
            for key, (value, mask) in entry.terms.items()
        )

    def _leave(self, port: int, size: int) -> None:
        if port in self.ports:
            self.sent.frames[port] += 1
            self.sent.octets[port] += size


def _split(actions: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(actions):
        kind, length = TYPE_LENGTH.unpack_from(actions, at)
        yield kind, actions[at : at + length]
        at += length
