"""What a fake switch does with a frame that it is told to send: registers, resubmits, outputs.

Only as much of a data path as frames of the controller need: each flow that they meet counts them,
and so does each port that they leave by. Tags and tunnels are not made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct

from tests.fake_switches.actions import TYPE_LENGTH, check_packet_actions
from tests.fake_switches.refusal import Refusal, Refused
from tests.fake_switches.tables import Entry, Tables

BODY = Struct("!IIH6x")
NO_BUFFER = 0xFFFFFFFF
PORTS_MAX, LOCAL, CONTROLLER, ANY = 0xFF00, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFF
TAGGED = (b"\x81\x00", b"\x88\xa8")
REGISTER_CLASS = 1


@dataclass
class Sent:
    """What each port has sent: frames, and their bytes."""

    frames: Counter[int] = field(default_factory=Counter)
    octets: Counter[int] = field(default_factory=Counter)


def send(body: bytes, tables: Tables, ports: dict[int, str], sent: Sent) -> None:
    """Do what a packet-out message says, or refuse it."""
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
            if kind == 0:
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
            before = dict(self.registers)
            self.do(action[16:])
            self.registers = before

    def _load(self, register: int, low: int, bits: int, value: int) -> None:
        mask = ((1 << bits) - 1) << low
        self.registers[register] = self.registers.get(register, 0) & ~mask | value << low

    def _enter(self, table: int) -> None:
        entries = [e for e in self.tables.flows.values() if e.table == table and self._meets(e)]
        if entries:
            entry = max(entries, key=lambda e: e.priority)
            entry.packets += 1
            entry.octets += self.size
            self.do(entry.instructions[8:])

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
