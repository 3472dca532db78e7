"""One switch as a value that takes messages and returns replies, without connections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from struct import Struct

from controller.southbound.wire.header import ANY_PORT
from tests.fake_switches import oxm
from tests.fake_switches.bundles import HEADER, Bundles
from tests.fake_switches.faults import Faults
from tests.fake_switches.meters import REQUEST as METER_REQUEST
from tests.fake_switches.packets import LOCAL, Sent, send
from tests.fake_switches.refusal import EXPERIMENTER, ONF, Refusal, Refused
from tests.fake_switches.roles import ROLE_REQUEST, Roles
from tests.fake_switches.tables import Entry, Tables, is_under

ERROR_BYTES = 64
"""How much of a refused message is sent back with the error."""
PART_BYTES = 8000
"""About how long one part of a statistics reply gets: much shorter than Open vSwitch's, so that
small tests have several parts."""
BUNDLE = Struct("!IIIHH")
STATS = Struct("!B3xII4xQQ")
DESCRIPTION = Struct("!256s256s256s32s256s")
PORT = Struct("!I4x6s2x16sIIIIIIII")


@dataclass
class FakeSwitch:
    """A switch with ports, flows and meters; ``ports`` are OpenFlow port numbers and names."""

    dpid: int
    name: str = "fake"
    ports: dict[int, str] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    tables: Tables = field(default_factory=Tables)
    sent: Sent = field(default_factory=Sent)
    received: int = 0
    """Messages of bundles that have come."""
    knows_meters: bool = True
    scans: int = 0
    """How often all flows were listed."""
    roles: Roles = field(default_factory=Roles)
    config: tuple[int, ...] = (0, 128)
    """Fragment mode, and bytes of a packet for a controller."""
    software: str = "3.3.0"
    """The version of Open vSwitch that it says it runs."""

    def __post_init__(self) -> None:
        self.bundles: dict[object, Bundles] = {}

    def hello(self) -> bytes:
        """The hello message: OpenFlow 1.3 only."""
        return message(0, 0, Struct("!HHI").pack(1, 8, 1 << 4))

    def disconnected(self, who: object = None) -> None:
        """Discard what belongs to a connection: open bundles, and its role."""
        self.bundles.pop(who, None)
        self.roles.forget(who)

    def restart(self) -> None:
        """Remove every flow and meter, like a restart of ovs-vswitchd."""
        self.tables.flows.clear()
        self.tables.meters.by_number.clear()
        self.bundles.clear()
        self.config = (0, 128)
        self.roles = Roles()

    def port_status(self, number: int, reason: int = 2) -> bytes:
        """The message that a port has come (0), gone (1) or changed (2)."""
        name, mac = self.ports[number], bytes([2, 0, 0, 0, 0, number & 255])
        port = PORT.pack(number, mac, name.encode()[:15], 0, 0, *[0] * 6)
        return message(12, 0, Struct("!B7x").pack(reason) + port)

    def answer(self, data: bytes, who: object = None) -> Iterator[bytes]:
        """The replies to one message; ``who`` identifies the connection."""
        if not self.faults.answers:
            return
        _, kind, _, xid = HEADER.unpack_from(data)
        try:
            self.roles.check(who, kind)
            if kind == ROLE_REQUEST:
                yield message(25, xid, self.roles.ask(who, data[HEADER.size :]))
            else:
                yield from self._handle(kind, xid, data, who)
        except Refused as refused:
            yield error(xid, refused.refusal, data)

    def _handle(self, kind: int, xid: int, data: bytes, who: object) -> Iterator[bytes]:
        if data[0] != 4 and kind != 0:
            raise Refused(Refusal.BAD_VERSION)
        body = data[HEADER.size :]
        match kind:
            case 0 | 1 | 3:  # hello, error, echo reply: nothing to say
                return
            case 9:  # set config
                if self.faults.takes_fragments:
                    self.config = Struct("!HH").unpack(body[:4])
            case 2:
                if self.faults.answers_echo:
                    yield message(3, xid, body)
            case 4:
                yield from self._experimenter(xid, data, who)
            case 5:
                yield message(6, xid, Struct("!QIBB2xII").pack(self.dpid, 0, 254, 0, 0x4F, 0))
            case 7:
                yield message(8, xid, Struct("!HH").pack(*self.config))
            case 13:
                send(body, self.tables, self.ports, self.sent)
            case 14:
                self.tables.change(data)
            case 18:
                yield from self._multipart(xid, data)
            case 20:
                yield message(21, xid)
            case 29:
                self._change_meter(data)
            case _:
                raise Refused(Refusal.BAD_TYPE)

    def _change_meter(self, data: bytes) -> None:
        refusal = self.faults.refuse_meter(data)
        if refusal is not None:
            raise Refused(refusal)
        self.tables.meters.change(data)

    def _experimenter(self, xid: int, data: bytes, who: object) -> Iterator[bytes]:
        if len(data) < HEADER.size + 8:
            raise Refused(Refusal.BAD_LEN)
        experimenter, subtype = Struct("!II").unpack_from(data, HEADER.size)
        if experimenter != ONF:
            raise Refused(Refusal.BAD_EXPERIMENTER)
        if subtype not in (2300, 2301):
            raise Refused(Refusal.BAD_EXP_TYPE)
        self.received += 1
        if len(data) < HEADER.size + BUNDLE.size:
            raise Refused(Refusal.BAD_LEN)
        _, _, bundle, step, flags = BUNDLE.unpack_from(data, HEADER.size)
        bundles = self.bundles.setdefault(who, Bundles(self.tables, lambda: self.faults))
        if subtype == 2301:
            bundles.add(bundle, flags, xid, data[HEADER.size + BUNDLE.size :])
            return
        for failed, refusal, original in bundles.control(bundle, step, flags):
            yield error(failed, refusal, original)
        yield message(4, xid, BUNDLE.pack(ONF, 2300, bundle, step + 1, 0))

    def _multipart(self, xid: int, data: bytes) -> Iterator[bytes]:
        if len(data) < HEADER.size + 8:
            raise Refused(Refusal.BAD_LEN)
        kind, _ = Struct("!HH").unpack_from(data, HEADER.size)
        match kind:
            case 0:
                texts = ("Nicira, Inc.", "Open vSwitch", self.software, "None", self.name)
                yield from parts(xid, kind, [DESCRIPTION.pack(*map(str.encode, texts))])
            case 1:
                self.scans += 1
                yield from parts(xid, kind, (entry.stats() for entry in self._asked(data)))
            case 2:
                found = list(self._asked(data))
                sums = sum(e.packets for e in found), sum(e.octets for e in found), len(found)
                yield from parts(xid, kind, [Struct("!QQI4x").pack(*sums)])
            case 4:
                yield from parts(xid, kind, self._port_stats(data))
            case 13:
                yield from parts(xid, kind, self._ports())
            case 9 | 10 if self.knows_meters:
                if len(data) < HEADER.size + 8 + METER_REQUEST.size:
                    raise Refused(Refusal.BAD_LEN)
                (number,) = METER_REQUEST.unpack_from(data, HEADER.size + 8)
                meters = self.tables.meters
                found = meters.counters(number) if kind == 9 else meters.config(number)
                yield from parts(xid, kind, list(found))
            case 11 if self.knows_meters:
                yield from parts(xid, kind, [self.tables.meters.features()])
            case _:
                raise Refused(Refusal.BAD_MULTIPART)

    def _asked(self, data: bytes) -> Iterator[Entry]:
        """The flows that a statistics request selects."""
        start = HEADER.size + 8
        if len(data) < start + STATS.size:
            raise Refused(Refusal.BAD_LEN)
        table, _, _, cookie, mask = STATS.unpack_from(data, start)
        terms, _ = oxm.read_match(data, start + STATS.size)
        for entry in list(self.tables.flows.values()):
            if is_under(entry, table, cookie, mask) and oxm.covers(terms, entry.terms):
                yield entry

    def _port_stats(self, data: bytes) -> Iterator[bytes]:
        (asked,) = Struct("!I").unpack_from(data, HEADER.size + 8)
        for number in self.ports if asked == ANY_PORT else {asked} & self.ports.keys():
            frames, octets = self.sent.frames[number], self.sent.octets[number]
            counted = 0, frames, 0, octets, *[0] * 8
            yield Struct("!I4x12QII").pack(number, *counted, 0, 0)

    def _ports(self) -> Iterator[bytes]:
        for number, name in [*self.ports.items(), (LOCAL, self.name)]:
            mac = (0x0200 << 32 | number & 0xFFFFFFFF).to_bytes(6, "big")
            yield PORT.pack(number, mac, name.encode()[:15], 0, 0, *[0] * 6)


def message(kind: int, xid: int, body: bytes = b"") -> bytes:
    """A message of OpenFlow 1.3."""
    return HEADER.pack(4, kind, HEADER.size + len(body), xid) + body


def error(xid: int, refusal: Refusal, refused: bytes) -> bytes:
    """The error message about a refused one."""
    kind, code = refusal.value
    quoted = refused[:ERROR_BYTES]
    if kind == ONF:
        return message(1, xid, Struct("!HHI").pack(EXPERIMENTER, code, ONF) + quoted)
    return message(1, xid, Struct("!HH").pack(kind, code) + quoted)


def parts(xid: int, kind: int, bodies: Iterable[bytes]) -> Iterator[bytes]:
    """A multipart reply, in as many parts as it needs."""
    head = Struct("!HH4x")
    body = b""
    for piece in bodies:
        if len(body) + len(piece) > PART_BYTES:
            yield message(19, xid, head.pack(kind, 1) + body)
            body = b""
        body += piece
    yield message(19, xid, head.pack(kind, 0) + body)
