"""A reconciler without switches that keeps to the Protocol, and the world it lives in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from controller.inventory import Inventory
from controller.inventory.file import parse
from controller.process import ChangeSignal
from controller.reconcile import SnapshotBuilder
from controller.status import (
    BridgeShare,
    BridgeStatus,
    Check,
    Inspecting,
    LeftOut,
    PathChecked,
    PortPlace,
    PortWitness,
    Reconciling,
    SessionStatus,
    State,
    UndeclaredInterface,
    UnopenedInterface,
    Verification,
    Vitals,
)
from controller.store import Store
from flows.errors import Refused
from flows.explain import Explanation, Feed, explain, feed_of
from flows.model import (
    Attachment,
    Collector,
    CollectorId,
    Dpid,
    Link,
    NetworkId,
    Ofport,
    Placement,
    PortId,
    Session,
    SessionId,
)
from flows.openflow import PacketCount

TWO_TENANTS = parse(b"""\
tenants: [red, blue]
networks:
  - {name: lan, tenant: red}
  - {name: lan, tenant: blue}
ports:
  - {id: red-web-1, name: web-1, tenant: red, network: lan, mac: "02:00:00:00:00:01",
     ips: [10.0.0.1], labels: {tier: web}}
  - {id: red-web-2, name: web-2, tenant: red, network: lan, mac: "02:00:00:00:00:02"}
  - {id: red-ids-1, name: ids-1, tenant: red, kind: tap}
  - {id: blue-web-1, name: web-1, tenant: blue, network: lan, mac: "02:00:00:00:00:01"}
  - {id: blue-ids-1, name: ids-1, tenant: blue, kind: tap}
""")

S1 = Dpid(0xFE00000000000001)

ONE_TENANT = parse(b"""\
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: red-web-1, name: web-1, tenant: red, network: lan}
  - {id: red-ids-1, name: ids-1, tenant: red, kind: tap}
""")


class FakeReconciler(Reconciling, Inspecting):
    """Verifies at once what the store wants, for a bridge that is reachable or not."""

    def __init__(self, store: Store) -> None:
        self.store, self.changes = store, ChangeSignal()
        self.expected: list[Collector] = []
        self.is_reachable = True
        self.places: dict[str, tuple[str, int]] = {}
        self.world: SnapshotBuilder | None = None
        self.verified: set[SessionId] = set()
        self.copies = PacketCount(3, 180)
        """What bridge s1 has counted of each session."""
        self.others: tuple[BridgeShare, ...] = ()
        """Other bridges that have to do with each session."""
        self.tags: dict[str, int] = {}
        self.sentences: list[str] = []
        self.brought = 0
        self.undeclared: list[UndeclaredInterface] = []
        self.unopened: list[UnopenedInterface] = []
        self.forgotten: list[tuple[Dpid, str]] = []

    def moment(self) -> object:
        return None

    def expecting(self, collector: Collector) -> AbstractContextManager[None]:
        self.expected.append(collector)
        return nullcontext()

    def mirroring(self, session: Session) -> AbstractContextManager[None]:
        return nullcontext()

    def sync(self, timeout_s: float, since: object = None, ending: SessionId | None = None) -> bool:
        assert timeout_s > 0
        self.brought += 1
        if not self.is_reachable:
            return False
        if self.world is not None:
            self.changes.changed()
        desired = self.store.desired()
        self.verified = {s.id for s in desired.sessions if s.enabled}
        self.store.release_keys(desired.last_held)
        return True

    def session_status(self, session: SessionId) -> SessionStatus:
        if session not in self.verified:
            live = {s.id: s for s in self.store.desired().sessions}
            if session in live and not live[session].enabled:
                return self._status(State.INACTIVE, "switched off by its owner")
            return self._status(State.PENDING, "not verified yet")
        largest = None
        if self.world is not None:
            resolved = self.world.snapshot().resolved
            largest = resolved.limit_of(resolved.sessions[session].session)
        return replace(self._status(State.ACTIVE), largest_frame=largest)

    def session_statuses(self, sessions: Iterable[SessionId]) -> Iterator[SessionStatus]:
        return (self.session_status(session) for session in sessions)

    def bridges(self) -> Sequence[BridgeStatus]:
        state = State.ACTIVE if self.is_reachable else State.PENDING
        if self.forgotten:
            return []
        return [BridgeStatus(S1, "s1", state, (), self.is_reachable, 5, 40, 2, hosts=("hv1",))]

    def forget(self, dpid: Dpid, who: str) -> None:
        if self.is_reachable:
            raise Refused("bridge 's1' is connected: switch it off")
        self.forgotten.append((dpid, who))

    def flows(self, dpid: Dpid) -> Sequence[str]:
        return [f"table=0 priority=1 actions=drop  # of {dpid:x}"]

    def places_of(self, ports: Iterable[str]) -> Mapping[str, PortPlace]:
        return {port: PortPlace(S1, *self.places[port]) for port in ports if port in self.places}

    def left_out(self, most: int) -> LeftOut:
        undeclared, unopened = self.undeclared, self.unopened
        return LeftOut(undeclared[:most], len(undeclared), unopened[:most], len(unopened))

    def looked_for(self, ports: Iterable[PortId]) -> Mapping[PortId, str]:
        return {port: f"looked for {port}" for port in ports}

    def vitals(self) -> Vitals:
        return Vitals(self.is_reachable, 3, {"answers of switches": 2})

    def explain(self, port: PortId, frame: bytes) -> Explanation:
        assert self.world is not None, "give it a world first"
        resolved = self.world.snapshot().resolved
        return explain(resolved, resolved.world.port_by_id[port], frame)

    def verify(self, session: SessionId, wish: Check) -> Verification:
        if session not in self.verified:
            raise Refused("the session is not served")
        dpid, sensor = S1, PortId("red-ids-1")
        length, count = min(wish.length, 200), wish.count
        way = PathChecked(dpid, "s1", sensor, 0, None, 0, 7, length, count, count + 3)
        witness = PortWitness("s1", (sensor,), count, count + 3)
        return Verification(wish.run, (way,), (witness,), ("bridge s2: it hangs",))

    def feed(self, collector: CollectorId) -> Feed | None:
        assert self.world is not None, "give it a world first"
        self.changes.changed()
        return feed_of(self.world.snapshot().resolved, collector)

    def sensor_notes(self, collector: Collector) -> Sequence[str]:
        return ()

    def tags_of(self, networks: Iterable[NetworkId]) -> Mapping[NetworkId, int]:
        return {network: self.tags[network] for network in networks if network in self.tags}

    def problems(self) -> Sequence[str]:
        return self.sentences

    def _status(self, state: State, *reasons: str) -> SessionStatus:
        shares = (BridgeShare(S1, "s1", state, self.copies), *self.others)
        skipped = sum((Counter(share.skipped) for share in shares), Counter[str]())
        copies = sum((share.copies for share in shares), PacketCount())
        truncated = sum(share.truncated for share in shares)
        return SessionStatus(state, reasons, copies, skipped, shares, truncated=truncated)


@dataclass(frozen=True)
class Placed:
    """Where ports are; no links, and no place that another claims."""

    placements: Mapping[PortId, Placement]
    links: tuple[Link, ...] = ()
    contests: Mapping[PortId, tuple[Placement, ...]] = field(default_factory=dict)
    attachments: Mapping[Dpid, Attachment] = field(default_factory=dict)


def fill(store: Store, inventory: Inventory) -> FakeReconciler:
    """A fake where every port is placed on bridge s1, in the order of the inventory."""
    fake = FakeReconciler(store)
    placements = {port.id: Placement(S1, Ofport(n)) for n, port in enumerate(inventory.ports, 1)}
    fake.world = SnapshotBuilder(
        store, lambda: inventory, lambda: Placed(placements), changes=fake.changes
    )
    fake.places = {PortId(port.id): ("s1", n) for n, port in enumerate(inventory.ports, 1)}
    return fake


def open_store(directory: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Store:
    """A store in a folder of its own."""
    return Store(directory / "state", now)
