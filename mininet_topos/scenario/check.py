"""Compares the frames that arrived with those that must arrive: missing, extra or lost.

The key of a frame is its bytes. Equal bytes may be sent more than once, and by hosts of both
tenants (they share addresses), so frames are counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from scenario.frames import destination_of, is_group, sender_of
from scenario.host_sockets import Seen
from scenario.model import Scenario, Session, TapPort, Workload


@dataclass(frozen=True)
class Deviation:
    """One frame that is not where it must be (missing, lost) or is where it must not be (extra)."""

    what: str
    host: str
    frame: bytes
    times: int
    senders: tuple[str, ...]


@dataclass
class Row:
    """One line of the table: what one tenant's hosts sent of one kind, and where it arrived."""

    tenant: str
    kind: str
    senders: set[str] = field(default_factory=set)
    frames: int = 0
    to_deliver: int = 0
    delivered: int = 0
    tap_ports: set[str] = field(default_factory=set)
    expected: int = 0
    seen: int = 0
    missing: int = 0
    extra: int = 0


@dataclass(frozen=True)
class Comparison:
    """The result of the check. ``lost``: production frames that were not delivered."""

    rows: tuple[Row, ...]
    deviations: tuple[Deviation, ...]

    def count(self, what: str) -> int:
        """How many frames are ``missing``, ``extra`` or ``lost``."""
        return sum(deviation.times for deviation in self.deviations if deviation.what == what)

    def copies_of(self, tenant: str) -> int:
        """How many copies of a tenant's frames arrived at tap ports."""
        return sum(row.seen for row in self.rows if row.tenant == tenant)

    @property
    def is_clean(self) -> bool:
        """Whether no frame is missing, extra or lost."""
        return not self.deviations


def compare(
    scenario: Scenario, sent: Seen, received: Seen, kind_of: Callable[[bytes], str]
) -> Comparison:
    """Compare what arrived everywhere with what must arrive, given what was sent."""
    must: Counter[tuple[str, bytes]] = Counter()
    may: Counter[tuple[str, bytes]] = Counter()
    senders: dict[bytes, dict[str, int]] = defaultdict(dict)
    for (sender, frame), times in sent.items():
        senders[frame][sender] = times
        certain, possible = receivers(scenario, sender, frame)
        for host in certain | possible:
            must[host, frame] += times * (host in certain)
            may[host, frame] += times
        flooded = {host: min(times, received[host, frame]) for host in possible}
        reached = dict.fromkeys(certain, times) | flooded
        for host, made in copies(scenario.sessions, sender, times, reached):
            must[host, frame] += made
            may[host, frame] += made
    rows = _Rows(scenario, senders, kind_of)
    for (sender, frame), times in sent.items():
        rows.sent(sender, frame, times)
    for host, frame in sorted({*may, *received}):
        key = (host, frame)
        rows.arrived(host, frame, must[key], may[key], received[key])
    return Comparison(tuple(rows.rows.values()), tuple(rows.deviations))


def receivers(scenario: Scenario, sender: str, frame: bytes) -> tuple[set[str], set[str]]:
    """Hosts that production must deliver a frame to, and those that it may deliver it to as well.

    A frame for a host whose address the switch has to learn may be flooded until it has.
    """
    network = {w.host: w for w in scenario.workloads if w.tenant == scenario.tenant_of(sender)}
    own = network.pop(sender, None)
    if own is None:  # a tap port only receives: what it sends is dropped
        return set(), set()
    if not own.is_learned and sender_of(frame) != own.mac:  # a forged sender is dropped
        return set(), set()
    to = destination_of(frame)
    owner = next((w for w in (*network.values(), own) if w.mac == to), None)
    if is_group(to) or owner is None:
        return set(network), set()
    if owner.is_learned:
        return {owner.host} - {sender}, set(network) - {owner.host}
    return {owner.host} - {sender}, set()


def copies(
    sessions: Iterable[Session], sender: str, times: int, reached: Mapping[str, int]
) -> list[tuple[str, int]]:
    """The tap ports that get copies, and how many: one for each session that watches an end.

    ``reached`` says how often each host received the frame, which was sent ``times`` times.
    """
    made = []
    for session in sessions:
        received = max((reached.get(host, 0) for host in session.receivers), default=0)
        made.append((session.tap_host, times if sender in session.senders else received))
    return made


class _Rows:
    """Adds every number to the row of the tenant that sent the frame."""

    def __init__(
        self,
        scenario: Scenario,
        senders: dict[bytes, dict[str, int]],
        kind_of: Callable[[bytes], str],
    ) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self.deviations: list[Deviation] = []
        self._scenario, self._senders, self._kind_of = scenario, senders, kind_of
        self._member: dict[str, Workload | TapPort] = {m.host: m for m in scenario.members}

    def sent(self, sender: str, frame: bytes, times: int) -> None:
        row = self._row(self._member[sender].tenant, frame)
        row.senders.add(self._member[sender].name)
        row.frames += times

    def arrived(self, host: str, frame: bytes, must: int, may: int, seen: int) -> None:
        member = self._member[host]
        row = self._row(self._tenant_to_blame(host, frame), frame)
        missing, extra = max(0, must - seen), max(0, seen - may)
        row.extra += extra
        if isinstance(member, TapPort):
            row.expected += must
            row.seen += seen
            row.missing += missing
            if seen:
                is_own = member.tenant == row.tenant
                row.tap_ports.add(member.name if is_own else f"{member.tenant}'s {member.name}!")
        else:
            row.to_deliver += must
            row.delivered += min(must, seen)
        absent = "missing" if isinstance(member, TapPort) else "lost"
        for what, times in ((absent, missing), ("extra", extra)):
            if times:
                who = tuple(self._senders.get(frame, {}))
                self.deviations.append(Deviation(what, host, frame, times, who))

    def _row(self, tenant: str, frame: bytes) -> Row:
        kind = self._kind_of(frame)
        return self.rows.setdefault((tenant, kind), Row(tenant, kind))

    def _tenant_to_blame(self, host: str, frame: bytes) -> str:
        """The tenant whose row counts an arrival: the receiver's own one if it sent such bytes."""
        own = self._member[host].tenant
        who = [self._member[sender].tenant for sender in self._senders.get(frame, {})]
        return own if own in who or not who else who[0]
