"""OpenFlow messages as peers may send them: right, nearly right, and wrong."""

from __future__ import annotations

import struct
from random import Random

from hypothesis import strategies as st

from tests.fake_switches import FakeSwitch

VERSIONS = st.one_of(st.sampled_from([1, 4, 5]), st.integers(0, 255))


def message(kind: int, body: str | bytes = b"", version: int = 4, xid: int = 1) -> bytes:
    """A message with a right header."""
    rest = bytes.fromhex(body) if isinstance(body, str) else body
    return struct.pack("!BBHI", version, kind, 8 + len(rest), xid) + rest


def hellos() -> st.SearchStrategy[bytes]:
    """Hellos of elements with any type and length, right or wrong."""
    element = st.tuples(
        st.sampled_from([0, 1, 2, 0xFFFF]), st.integers(0, 40), st.binary(max_size=40)
    )
    body = st.lists(element, max_size=6).map(
        lambda parts: b"".join(
            struct.pack("!HH", kind, length) + rest for kind, length, rest in parts
        )
    )
    return st.builds(lambda rest, version: message(0, rest, version), body, VERSIONS)


def switch_messages() -> st.SearchStrategy[bytes]:
    """Messages of any type, most of them one that switches send, with bodies of usual sizes."""
    kinds = st.one_of(st.integers(0, 29), st.integers(0, 255))
    sizes = st.sampled_from([0, 4, 8, 16, 24, 72])
    bodies = st.one_of(
        st.binary(max_size=100), sizes.flatmap(lambda n: st.binary(min_size=n, max_size=n))
    )
    xids = st.sampled_from([0, 1, 0xC7000001, 0xFFFFFFFF])
    return st.builds(message, kinds, bodies, VERSIONS, xids)


class HostilePeer:
    """A switch whose messages are now and then nearly right: a strict fake switch, and a mutation.

    It follows the protocol to a random stage, and answers what it is asked, so that what it spoils
    is read in the middle of a handshake, of an adoption, or of a list of flows.
    """

    MESSAGES = 40
    """Messages after which it leaves."""

    def __init__(self, random: Random, number: int) -> None:
        self.random, self._left = random, self.MESSAGES
        ports = {n: f"x{n}" for n in range(1, random.choice([1, 3, 200]))}
        self._switch = FakeSwitch(0xF0000 + number, f"x{number}", ports)
        self._spoils = random.choice([0.0, 0.05, 0.3, 1.0])
        self._cuts = random.random() < 0.2
        self._buffer = b""

    @property
    def is_done(self) -> bool:
        """Whether it leaves."""
        return self._left <= 0

    def begin(self) -> bytes:
        """What it sends first."""
        return self._spoilt([self._switch.hello()])

    def reply(self, data: bytes) -> bytes:
        """What it sends when these bytes have come; none: after a while of silence."""
        self._buffer += data
        answers: list[bytes] = []
        while len(self._buffer) >= 8:
            length = max(8, int.from_bytes(self._buffer[2:4], "big"))
            if len(self._buffer) < length:
                break
            answers += self._switch.answer(self._buffer[:length], self)
            self._buffer = self._buffer[length:]
        self._left -= 1 + len(answers)
        if not data or self.random.random() < self._spoils:
            answers.append(self._unasked())
        return self._spoilt(answers)

    def _unasked(self) -> bytes:
        """Something that nobody asked for, also under transaction ids of the controller."""
        random = self.random
        kind = random.choice([*range(30), 0, 1, 2, 3, 12, 19, 19])
        xid = random.choice([0, 1, 0xC7000000 | random.randrange(1, 40), 0xFFFFFFFF])
        body = random.randbytes(random.choice([0, 4, 8, 16, 24, 72, 72, 200, 5000]))
        if kind == 12:
            body = bytes([random.randrange(4)]) + bytes(7) + body.ljust(64, b"\0")[:64]
        if kind == 19:
            number, flags = random.choice([1, 2, 4, 10, 11, 13, 0xFFFF]), random.randrange(2)
            body = struct.pack("!HH4x", number, flags) + body
        return message(kind, body, random.choice([4, 4, 4, 4, 1, 5, 6, 0, 255]), xid)

    def _spoilt(self, messages: list[bytes]) -> bytes:
        random = self.random
        sent = [self._spoil(each) if random.random() < self._spoils else each for each in messages]
        if random.random() < self._spoils:
            random.shuffle(sent)
        data = b"".join(sent)
        if self._cuts and data and random.random() < 0.3:
            self._left = 0
            return data[: random.randrange(len(data))]
        return data

    def _spoil(self, data: bytes) -> bytes:
        """One message with one thing wrong."""
        random, spoilt = self.random, bytearray(data)
        match random.randrange(7):
            case 0:  # a length inside: most are 16 bits at an even place
                if len(data) > 10:
                    at = random.randrange(8, len(data) - 1) & ~1
                    spoilt[at : at + 2] = struct.pack("!H", random.choice([0, 1, 4, 8, 0xFFFF]))
            case 1:
                spoilt[2:4] = struct.pack("!H", random.choice([0, 7, 8, len(data) - 1, 0xFFFF]))
            case 2:
                spoilt[random.randrange(len(data))] ^= 1 << random.randrange(8)
            case 3:  # shorter, and its header says so
                spoilt = spoilt[: max(8, random.randrange(len(data) + 1))]
                spoilt[2:4] = struct.pack("!H", len(spoilt))
            case 4:  # longer
                spoilt += random.randbytes(random.choice([1, 4, 8, 1000]))
                spoilt[2:4] = struct.pack("!H", len(spoilt))
            case 5:
                return data * random.choice([2, 3, 200])
            case _:
                spoilt[random.randrange(2)] = random.randrange(256)
        return bytes(spoilt)
