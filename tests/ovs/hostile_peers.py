"""Hostile peers as values: a name, how many at once, and what each of them does again and again.

``python -m tests.ovs.hostile_peers NAME...`` lets them loose in a process of its own, so that they
share no interpreter with the test, until its standard input ends. Another kind of peer (of the API,
or a database) is one more value here, with a coroutine that makes one visit.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import ssl
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from tests.controller.runtime.test_message_check import MALFORMED
from tests.fake_switches import FakeSwitch
from tests.generators.switch_messages import message
from tests.ovs.waiting import pass_time

PAUSE_S = 0.1
"""Between two visits of one peer, in seconds."""
OWN_XID = 0xC7000000
NUMBERS = itertools.count(0xBAD0000)


@dataclass(frozen=True)
class Target:
    """What is attacked: the addresses of the controller; and a certificate that it trusts."""

    host: str = "127.0.0.1"
    openflow: int = 6653
    api: int = 9470
    certificate: str = ""
    private_key: str = ""


@dataclass(frozen=True)
class Hostile:
    """A kind of hostile peers; ``visit`` gets an address of its own to connect from."""

    name: str
    count: int
    visit: Callable[[Target, str], Awaitable[None]]


class Connection:
    """A connection of a peer to the OpenFlow port, and the fake switch that it pretends to be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        number = next(NUMBERS)
        self.switch = FakeSwitch(number, f"evil{number}", {n: f"e{n}" for n in (1, 2, 3)})
        self.is_ready = asyncio.Event()
        """Set once it was asked for its ports the second time: then it is being adopted."""

    async def send(self, data: bytes) -> None:
        """Send, as fast as it is taken."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, spoil: Callable[[bytes], list[bytes] | None] = lambda m: None) -> None:
        """Answer all requests until the connection ends; ``spoil`` may answer in another way."""
        while True:
            head = await self._reader.readexactly(8)
            rest = await self._reader.readexactly(struct.unpack_from("!H", head, 2)[0] - 8)
            spoilt = spoil(head + rest)
            answers = self.switch.answer(head + rest, self) if spoilt is None else spoilt
            await self.send(b"".join(answers))
            if head[1] == 18 and struct.unpack_from("!I", head, 4)[0] >= OWN_XID:
                self.is_ready.set()

    async def until_the_end(self) -> None:
        """Read and discard until the connection ends."""
        while await self._reader.read(1 << 16):
            pass


@contextmanager
def closing(writer: asyncio.StreamWriter) -> Iterator[None]:
    try:
        yield
    finally:
        writer.close()


async def connect(target: Target, source: str) -> Connection:
    streams = await asyncio.open_connection(
        target.host, target.openflow, local_addr=(source, 0), limit=1 << 20
    )
    return Connection(*streams)


async def say_nothing(target: Target, source: str) -> None:
    peer = await connect(target, source)
    with closing(peer.writer):
        await peer.until_the_end()


async def say_hello_alone(target: Target, source: str) -> None:
    peer = await connect(target, source)
    with closing(peer.writer):
        await peer.send(peer.switch.hello())
        await peer.until_the_end()


async def send_what_no_switch_sends(target: Target, source: str) -> None:
    peer = await connect(target, source)
    with closing(peer.writer):
        before = random.choice([b"", peer.switch.hello()])
        await peer.send(before + random.choice(list(MALFORMED.values())))
        await peer.until_the_end()


async def send_large_messages(target: Target, source: str) -> None:
    """Messages of 64 kB that a decoder cannot read, for example flow statistics."""
    peer = await connect(target, source)
    with closing(peer.writer):
        body = struct.pack("!HH4x", 1, 1) + bytes(65_000)
        await peer.send(peer.switch.hello())
        while True:
            await peer.send(message(19, body, xid=random.choice([0, 1, OWN_XID + 5])))


async def flood(target: Target, source: str, data: bytes, per_s: float) -> None:
    """Become a bridge, and send this so often each second."""
    peer = await connect(target, source)
    with closing(peer.writer):
        await peer.send(peer.switch.hello())
        answering = asyncio.ensure_future(peer.answer())
        try:
            await peer.is_ready.wait()
            while not answering.done():
                await peer.send(data * max(1, int(per_s / 20)))
                await pass_time(0.05)
        finally:
            answering.cancel()


async def answer_unasked(target: Target, source: str) -> None:
    await flood(target, source, message(21, xid=OWN_XID + 77), 78_400)


async def let_ports_flap(target: Target, source: str) -> None:
    port = FakeSwitch(1, "x", {7: "flaps"})
    both = port.port_status(7, 1) + port.port_status(7, 0)
    await flood(target, source, both, 1_900)


async def change_ports_slowly(target: Target, source: str) -> None:
    """Far below all limits: 100 reports a second, of many ports."""
    names = {number: f"x{number}" for number in range(1, 2001)}
    ports = itertools.cycle([FakeSwitch(1, "x", names).port_status(number) for number in names])
    peer = await connect(target, source)
    with closing(peer.writer):
        await peer.send(peer.switch.hello())
        answering = asyncio.ensure_future(peer.answer())
        try:
            await peer.is_ready.wait()
            while not answering.done():
                await peer.send(b"".join(itertools.islice(ports, 5)))
                await pass_time(0.05)
        finally:
            answering.cancel()


async def send_errors(target: Target, source: str) -> None:
    await flood(target, source, message(1, "00010001" + "04"), 3_500)


async def dribble(target: Target, source: str) -> None:
    """Answer the request for ports with one empty part a second, for ever."""
    peer = await connect(target, source)
    asked: list[int] = []

    def spoil(request: bytes) -> list[bytes] | None:
        xid = struct.unpack_from("!I", request, 4)[0]
        if request[1] == 18 and xid >= OWN_XID:
            asked.append(xid)
            return []
        return None

    with closing(peer.writer):
        await peer.send(peer.switch.hello())
        answering = asyncio.ensure_future(peer.answer(spoil))
        try:
            while not answering.done():
                if asked:
                    await peer.send(message(19, struct.pack("!HH4x", 13, 1), xid=asked[-1]))
                await pass_time(1.0)
        finally:
            answering.cancel()


async def come_and_go(target: Target, source: str) -> None:
    """A bridge with a datapath id that nobody has seen and nobody will see again."""
    peer = await connect(target, source)
    with closing(peer.writer):
        await peer.send(peer.switch.hello())
        answering = asyncio.ensure_future(peer.answer())
        try:
            await asyncio.wait_for(peer.is_ready.wait(), 10)
        finally:
            answering.cancel()


async def read_nothing(target: Target, source: str) -> None:
    peer = await connect(target, source)
    with closing(peer.writer):
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        ping = message(2, bytes(60_000))
        await peer.send(peer.switch.hello())
        while True:
            await peer.send(ping)


async def trickle_tls(target: Target, source: str) -> None:
    """A TLS handshake of which a byte comes each 3 s."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(
            incoming, outgoing, server_hostname="x"
        ).do_handshake()
    peer = await connect(target, source)
    with closing(peer.writer):
        for byte in outgoing.read():
            await peer.send(bytes([byte]))
            await pass_time(3.0)


async def half_tls(target: Target, source: str) -> None:
    """A whole TLS handshake with a valid certificate, and then not a word of OpenFlow."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(target.certificate, target.private_key)
    streams = await asyncio.open_connection(
        target.host, target.openflow, local_addr=(source, 0), ssl=context
    )
    with closing(streams[1]):
        await Connection(*streams).until_the_end()


OPENFLOW = (
    Hostile("silent", 40, say_nothing),
    Hostile("hello-alone", 60, say_hello_alone),
    Hostile("malformed", 3, send_what_no_switch_sends),
    Hostile("large", 2, send_large_messages),
    Hostile("answers", 1, answer_unasked),
    Hostile("ports", 1, let_ports_flap),
    Hostile("errors", 1, send_errors),
    Hostile("dribble", 5, dribble),
    Hostile("one-time", 2, come_and_go),
    Hostile("deaf", 3, read_nothing),
)
SLOW = (Hostile("ports-slowly", 3, change_ports_slowly),)
TLS = (
    Hostile("tls-trickle", 300, trickle_tls),
    Hostile("tls-half", 40, half_tls),
    Hostile("tls-plain", 20, say_hello_alone),
)
BY_NAME = {hostile.name: hostile for hostile in (*OPENFLOW, *SLOW, *TLS)}


async def repeat(hostile: Hostile, target: Target, source: str) -> None:
    while True:
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError, ssl.SSLError):
            await hostile.visit(target, source)
        await pass_time(PAUSE_S)


async def run(kinds: list[Hostile], target: Target) -> None:
    """Let peers loose until standard input ends; each kind has an address of its own."""
    peers = [
        asyncio.ensure_future(repeat(hostile, target, f"127.66.{number}.1"))
        for number, hostile in enumerate(kinds)
        for _ in range(hostile.count)
    ]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for peer in peers:
        peer.cancel()


@contextmanager
def let_loose(*kinds: Hostile, target: Target | None = None) -> Iterator[None]:
    """Let these peers loose inside the block."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.ovs.hostile_peers",
            json.dumps(asdict(target or Target())),
            *(hostile.name for hostile in kinds),
        ],
        stdin=subprocess.PIPE,
    )
    try:
        yield
        assert process.poll() is None, "the peers have ended by themselves"
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    asyncio.run(run([BY_NAME[name] for name in sys.argv[2:]], Target(**json.loads(sys.argv[1]))))
