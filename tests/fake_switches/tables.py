"""The flow tables of one switch: additions, changes and removals, checked before they are done."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from struct import Struct

from tests.fake_switches import oxm
from tests.fake_switches.actions import check_instructions
from tests.fake_switches.meters import Meters
from tests.fake_switches.refusal import Refusal, Refused

HEADER_BYTES = 8
FLOW_MOD = Struct("!QQBBHHHIIIH2x")
FLOW_ENTRY = Struct("!HBxIIHHHH4xQQQ")
ADD, MODIFY, MODIFY_STRICT, DELETE, DELETE_STRICT = range(5)
ALL_TABLES, INTERNAL_TABLE = 255, 254
ANY = 0xFFFFFFFF
KEEPS_NO_COUNTS = 4
"""Flag of a flow mod: an addition that overwrites resets the counters (OFPFF_RESET_COUNTS)."""

Place = tuple[int, int, bytes]
"""What makes two flows the same one: table, priority, match."""


@dataclass(slots=True)
class Entry:
    """One flow in a table; ``packed`` is its match as it is reported."""

    table: int
    priority: int
    cookie: int
    terms: oxm.Terms
    packed: bytes
    instructions: bytes
    timeouts: tuple[int, int] = (0, 0)
    flags: int = 0
    packets: int = 0
    octets: int = 0
    meter: int | None = None

    def stats(self) -> bytes:
        """The flow as a statistics reply has it."""
        length = 4 + len(self.packed)
        match = Struct("!HH").pack(1, length) + self.packed + bytes(-length % 8)
        size = FLOW_ENTRY.size + len(match) + len(self.instructions)
        numbers = (self.table, 1, 0, self.priority, *self.timeouts, self.flags, self.cookie)
        head = FLOW_ENTRY.pack(size, *numbers, self.packets, self.octets)
        return head + match + self.instructions


@dataclass(frozen=True, slots=True)
class FlowMod:
    """A flow-mod message that was checked."""

    command: int
    cookie_mask: int
    entry: Entry


@dataclass
class Tables:
    """All flows of a switch, at most ``limit``, and its meters; ``limits`` are those of tables."""

    limit: int = 1_000_000
    limits: dict[int, int] = field(default_factory=dict)
    flows: dict[Place, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.meters = Meters(self.remove_metered)

    def remove_metered(self, meter: int) -> None:
        """A meter is gone, and with it every flow that uses it."""
        for place in [place for place, flow in self.flows.items() if flow.meter == meter]:
            del self.flows[place]

    def change(self, message: bytes) -> None:
        """Do what a flow-mod message says, or refuse it."""
        self.do(read_flow_mod(message))

    def do(self, mod: FlowMod) -> None:
        """Do what a flow mod says; raises Refused when there is no room, or no such meter."""
        meter = mod.entry.meter
        if meter is not None and meter not in self.meters.by_number:
            raise Refused(Refusal.METER_INVALID)
        if mod.command == ADD:
            self._add(mod.entry)
        elif mod.command in (MODIFY, MODIFY_STRICT):
            for place in self._meant(mod):
                does = mod.entry.instructions
                self.flows[place] = replace(self.flows[place], instructions=does, meter=meter)
        else:
            for place in self._meant(mod):
                del self.flows[place]

    def _add(self, entry: Entry) -> None:
        place = entry.table, entry.priority, entry.packed
        old = self.flows.get(place)
        if old is None and self._is_full(entry.table):
            raise Refused(Refusal.TABLE_FULL)
        if old is not None and not entry.flags & KEEPS_NO_COUNTS:
            entry = replace(entry, packets=old.packets, octets=old.octets)
        self.flows[place] = entry

    def _is_full(self, table: int) -> bool:
        limit = self.limits.get(table)
        if limit is not None and sum(place[0] == table for place in self.flows) >= limit:
            return True
        return len(self.flows) >= self.limit

    def _meant(self, mod: FlowMod) -> list[Place]:
        """The flows that a change or removal selects."""
        like = mod.entry
        if mod.command in (MODIFY_STRICT, DELETE_STRICT):
            tables = range(ALL_TABLES) if like.table == ALL_TABLES else [like.table]
            places = [(table, like.priority, like.packed) for table in tables]
            found = [place for place in places if place in self.flows]
        else:
            found = [p for p, flow in self.flows.items() if oxm.covers(like.terms, flow.terms)]
        return [
            place
            for place in found
            if is_under(self.flows[place], like.table, like.cookie, mod.cookie_mask)
        ]


def is_under(entry: Entry, table: int, cookie: int, mask: int) -> bool:
    """Whether a flow is in the table (or any) and has the cookie in the bits of the mask."""
    return table in (ALL_TABLES, entry.table) and not (entry.cookie ^ cookie) & mask


def read_flow_mod(message: bytes) -> FlowMod:
    """Read and check a flow mod; raises Refused."""
    if len(message) < HEADER_BYTES + FLOW_MOD.size:
        raise Refused(Refusal.BAD_LEN)
    numbers = FLOW_MOD.unpack_from(message, HEADER_BYTES)
    cookie, mask, table, command, idle, hard, priority, _, out_port, out_group, flags = numbers
    terms, end = oxm.read_match(message, HEADER_BYTES + FLOW_MOD.size)
    instructions = message[end:]
    meter = check_instructions(instructions, terms, table)
    if command > DELETE_STRICT:
        raise Refused(Refusal.COMMAND)
    if table == ALL_TABLES and command == ADD:
        raise Refused(Refusal.FLOW_TABLE)
    if command >= DELETE and (out_port, out_group) != (ANY, ANY):
        raise NotImplementedError("the model has no removal by the port that a flow sends to")
    packed = oxm.write_terms(terms)
    timeouts = (idle, hard)
    entry = Entry(
        table, priority, cookie, terms, packed, instructions, timeouts, flags, meter=meter
    )
    return FlowMod(command, mask, entry)
