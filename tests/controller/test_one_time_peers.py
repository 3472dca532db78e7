"""Peers that come once, each under a name of its own, leave nothing behind in any container."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from controller import launch
from controller.config import Config
from controller.config.settings import (
    ApiConfig,
    BridgesConfig,
    InventoryConfig,
    OvsdbConfig,
    StateConfig,
)
from controller.databases.columns import WATCHED
from controller.databases.replica import Replica
from controller.http import BodyLimit, FrontSettings
from controller.http.front.dispatch import RequestDispatcher
from controller.http.front.server import Server
from controller.launch import Services
from controller.process import Message, MessageSocket
from controller.process.metrics import REGISTRY, LoopMonitor
from controller.reconcile.bridge import program_cache
from controller.southbound import PortReason
from controller.southbound import connections as connections_module
from controller.southbound.ovsdb import (
    BridgeRow,
    InterfaceRow,
    OvsdbSnapshot,
    TunnelDemand,
)
from controller.southbound.ovsdb.database import OvsdbDatabase
from controller.southbound.ovsdb.rows import DatabaseContent
from controller.southbound.ovsdb.tunnel_rows import TunnelRows
from controller.southbound.ovsdb.wanted_rows import WriteResult
from controller.southbound.wire import ECHO_REPLY, ECHO_REQUEST, HEADER
from controller.topology import speakers as speakers_module
from controller.topology.probe import HealthProbe
from flows.model import Dpid, Ofport, TunnelKind
from flows.resolve import history
from tests.controller.growth import grown, sizes
from tests.controller.rig import INVENTORY
from tests.fake_switches import FakeSwitch
from tests.ovs.waiting import pass_time, wait_for

WARM, VISITS = 20, 60
FIRST = 0xE000000
PATIENCE_S = 60.0
EXPECTED = {
    "_bridges", "_by_datapath", "_by_dpid", "_claims", "_down", "_last_views", "_numbers",
    "_once_ours", "_polling", "_ports", "_programs", "_uncounted", "_waiting",
}  # fmt: skip
"""Names of containers that it must have seen, among others."""


@dataclass(eq=False)
class Peer:
    """A connection of a switch, as a datapath object of the OpenFlow library."""

    model: FakeSwitch
    certificate: str | None
    id: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_over: bool = False

    def __post_init__(self) -> None:
        self.id = self.model.dpid


class Peers:
    """The transport: what is sent to a peer is answered at once by its fake switch."""

    def __init__(self) -> None:
        self.services: Services | None = None

    def send(self, peer: Peer, data: bytes) -> bool:
        assert self.services is not None
        connections = self.services.bridges.connections
        with peer.lock:
            at = 0
            while at < len(data) and not peer.is_over:
                _, kind, length, xid = HEADER.unpack_from(data, at)
                answers = peer.model.answer(data[at : at + length], peer)
                if kind == ECHO_REQUEST:
                    answers = iter([HEADER.pack(4, ECHO_REPLY, 8, xid)])
                for answer in answers:
                    connections.message_received(peer, answer)
                at += length
        return not peer.is_over

    def disconnect(self, peer: Peer, why: str) -> None:
        raise AssertionError(f"a fake switch was cut off: {why}")

    def close(self, peer: Peer) -> None:
        peer.is_over = True

    def adopted(self, peer: Peer) -> None:
        """It may use more than strangers may."""

    def queued(self, peer: Peer) -> int:
        return 0

    def is_behind(self, peer: Peer) -> bool:
        return False

    def address_of(self, peer: Peer) -> str:
        return f"192.0.2.1:{peer.id & 0xFFFF}"

    def certificate_end_of(self, peer: Peer) -> float | None:
        return None

    def refusals(self) -> dict[str, str]:
        return {}

    def certificate_of(self, peer: Peer) -> str | None:
        return peer.certificate


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setattr(connections_module, "CLAIMS_MAX", 8)
    monkeypatch.setattr(speakers_module, "SPARE", 8)
    monkeypatch.setattr(program_cache, "FORGOTTEN_MAX", 8)
    (tmp_path / "inventory.yaml").write_text(INVENTORY + "...\n")
    config = Config(
        api=ApiConfig(listen="127.0.0.1:0"),
        inventory=InventoryConfig(file=tmp_path / "inventory.yaml"),
        ovsdb=OvsdbConfig(remotes=()),
        bridges=BridgesConfig(recheck_seconds=0.1),
        state=StateConfig(directory=tmp_path / "state"),
    )
    monkeypatch.setattr(history, "STEPS_MAX", 8)
    monkeypatch.setattr(launch, "LOOP_MONITOR", LoopMonitor())  # it starts once
    peers = Peers()
    peers.services = made = Services(config, peers)
    made.start()
    yield made
    made.stop()


def visit(services: Services, number: int) -> None:
    """A bridge comes, is verified, changes a port, is claimed by two others, and goes."""
    connections, writers = services.bridges.connections, services.bridges.writers
    model = FakeSwitch(FIRST + number, ("s1", f"once{number}")[number % 2], {1: "o1", 2: "o2"})
    peer = Peer(model, f"host{number}")
    connections.connected(peer)
    wait_for(
        lambda: [w.confirmed.version for w in writers.find([Dpid(peer.id)])],
        lambda versions: versions > [0],
        PATIENCE_S,
    )
    services.bridges.counters.count_everything()
    connections.port_status_received(peer, model.port_status(2, int(PortReason.DELETED.value)))
    for certificate in (peer.certificate, "another"):
        claimant = Peer(model, certificate)
        connections.connected(claimant)
        wait_for(lambda: claimant.is_over, bool, PATIENCE_S)  # noqa: B023
        connections.disconnected(claimant)
    connections.disconnected(peer)


def series() -> int:
    """How many series there are of bridges that come once."""
    return sum("00000e0" in line for line in generate_latest(REGISTRY).decode().splitlines())


def test_bridges_that_come_once(services: Services) -> None:
    def visit_all(numbers: range) -> dict[str, int]:
        for number in numbers:
            visit(services, number)
        names = services.reports.tracker.bridge_names
        wait_for(names, lambda seen: all(dpid < FIRST for dpid in seen), PATIENCE_S)
        services.reports.placements.snapshot()  # the last one is of a moment before that
        services.reports.tunnels.refresh()
        return sizes(services=services)

    before = visit_all(range(WARM))
    after = visit_all(range(WARM, WARM + VISITS))

    names = {path.rpartition(".")[2] for path in after}
    assert names >= EXPECTED, EXPECTED - names
    assert grown(before, after, VISITS // 2) == {}
    assert series() == 0


def test_what_has_grown_is_found(services: Services) -> None:
    before = sizes(services=services)
    for number in range(VISITS):
        services.store.installed_sessions.add(Dpid(number), [1])

    found = grown(before, sizes(services=services), VISITS // 2)

    assert any(path.endswith("._numbers") for path in found), found


@pytest.mark.parametrize("is_one_row", [True, False])
def test_bridges_that_a_database_has_once(services: Services, is_one_row: bool) -> None:
    """As rows of their own, or as one row whose datapath id changes."""

    def report(number: int) -> None:
        dpid, row = Dpid(FIRST + number), "row" if is_one_row else f"row{number}"
        bridge = BridgeRow(dpid, f"once{number}", database="tcp:192.0.2.1:1", row=row)
        port = InterfaceRow(
            dpid, bridge.name, f"o{number}", ofport=Ofport(number % 1000 + 1), is_up=False,
            database=bridge.database, bridge_row=row,
        )  # fmt: skip
        services.reports.tracker.interfaces_changed(OvsdbSnapshot((bridge,), (port,)))

    def report_all(numbers: range) -> dict[str, int]:
        for number in numbers:
            report(number)
        services.control.upkeep()
        return sizes(services=services)

    before = report_all(range(WARM))
    after = report_all(range(WARM, WARM + VISITS))

    assert grown(before, after, VISITS // 2) == {}


def test_bridges_that_no_database_has_are_not_secured_for_ever() -> None:
    known: set[Dpid] = set()
    database = OvsdbDatabase("tcp:192.0.2.1:1", OvsdbSnapshot, known.__contains__)

    def come(numbers: range) -> dict[str, int]:
        for number in numbers:
            known.clear()
            known.add(Dpid(number))
            database.secure(Dpid(number))
        return sizes(database=database)

    before = come(range(1000))
    assert grown(before, come(range(1000, 3000)), 100) == {}


def test_bridges_without_tunnels_any_more() -> None:
    rows = TunnelRows("tcp:192.0.2.1:1")

    def come(numbers: range) -> dict[str, int]:
        for number in numbers:
            dpid = Dpid(number)
            content = DatabaseContent((BridgeRow(dpid, f"b{number}", row=f"row{number}"),))
            demand = {dpid: TunnelDemand(frozenset(TunnelKind))}
            for bridge, _ in list(rows.due(content, demand, frozenset([f"row{number}"]))):
                rows.answered(bridge, WriteResult("not allowed" if number % 2 else ""))
        return sizes(rows=rows)

    before = come(range(WARM))
    assert grown(before, come(range(WARM, WARM + VISITS)), VISITS // 2) == {}


def test_addresses_that_are_probed_once() -> None:
    asked, always = [""], "tcp://198.51.100.1:22"

    def ask(target: str) -> bool:
        if target != always:
            asked[0] = target
        return True

    probe: HealthProbe[str] = HealthProbe(lambda: None, ask, 0.01, 0.01, (0.0, 0.0))

    def come(numbers: range) -> dict[str, int]:
        for number in numbers:
            target = f"tcp://192.0.2.{number}:22"
            probe.watch({"always": always, "once": target})
            wait_for(lambda: asked[0] == target, bool, PATIENCE_S)  # noqa: B023
        probe.watch({"always": always})
        wait_for(lambda: len(probe._scheduled), lambda left: left == 1, PATIENCE_S)
        return sizes(probe=probe)

    before = come(range(WARM))
    after = come(range(WARM, WARM + VISITS))
    probe.stop()
    assert grown(before, after, VISITS // 2) == {}


def test_clients_of_the_api_that_come_once() -> None:
    """Each has an address of its own; half of them leave in the middle of a request."""
    front, controller = socket.socketpair()
    answering = threading.Thread(target=answer_all, args=(MessageSocket(controller, 1 << 20),))
    answering.start()

    async def run() -> None:
        reader, writer = await asyncio.open_connection(sock=front)
        dispatcher = RequestDispatcher(reader, writer)
        listener = socket.create_server(("127.0.0.1", 0))
        server = Server(FrontSettings(bodies=(BodyLimit("/", 1000),)), dispatcher, listener)
        server.start()
        receiving = asyncio.create_task(dispatcher.receive(server.learn))

        async def come(numbers: range) -> dict[str, int]:
            for number in numbers:
                source = (f"127.1.{number >> 8}.{number & 255}", 0)
                address = listener.getsockname()
                answer, request = await asyncio.open_connection(*address, local_addr=source)
                head = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234"
                request.write(head + b"56789" * (number % 2))
                if number % 2:
                    assert (await answer.readline()).startswith(b"HTTP/1.1 200")
                request.close()
                await request.wait_closed()
            while server._connections:
                await pass_time(0.01)
            return sizes(server=server)

        before = await come(range(WARM))
        assert grown(before, await come(range(WARM, WARM + VISITS)), VISITS // 2) == {}
        server.stop()
        receiving.cancel()
        writer.close()
        listener.close()

    asyncio.run(run())
    answering.join(PATIENCE_S)
    controller.close()


def answer_all(front: MessageSocket) -> None:
    """The controller's side: every request is answered at once."""
    while (message := front.receive()) is not None:
        if "id" in message.head:
            front.send(Message({"id": message.head["id"], "status": 200, "headers": []}))


def test_rows_that_a_database_has_once() -> None:
    replica = Replica()

    def row(table: str, **values: Any) -> dict[str, Any]:
        return {name: values[name] for name in WATCHED[table] if name in values}

    def come(numbers: range) -> dict[str, int]:
        for number in numbers:
            ids = {kind: f"{kind:a<8}-0000-0000-0000-{number:012d}" for kind in "bpiqu"}
            reference = {kind: ["uuid", uuid] for kind, uuid in ids.items()}
            rows = {
                "Bridge": (ids["b"], row("Bridge", name=f"b{number}", datapath_id=f"{number:016x}",
                                         ports=reference["p"])),
                "Port": (ids["p"], row("Port", name=f"p{number}", interfaces=reference["i"])),
                "Interface": (ids["i"], row("Interface", name=f"i{number}", ofport=1,
                                            link_state=("up", "down")[number % 2])),
            }  # fmt: skip
            there = {t: {uuid: {"insert": values}} for t, (uuid, values) in rows.items()}
            gone = {t: {uuid: {"delete": None}} for t, (uuid, _) in rows.items()}
            changed = {"Interface": {ids["i"]: {"modify": {"link_state": "up"}}}}
            bad = {"Interface": {ids["i"]: {"modify": {"name": "a" * 300}}}}
            for updates in (there, changed, bad, gone):
                list(replica.apply(updates, are_differences=True))
                list(replica.look(float(number)))
        return sizes(replica=replica)

    before = come(range(1, WARM))
    assert grown(before, come(range(WARM, WARM + VISITS)), VISITS // 2) == {}
