"""The small numbers that stand for names on switches, the names that need one, and their ranges."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from flows.errors import InvalidValue
from flows.model.collector import Collector, TagMode
from flows.model.names import (
    CollectorId,
    FilterId,
    NetworkId,
    PortId,
    SessionId,
    TenantName,
)
from flows.model.port import Network, Port, PortKind
from flows.openflow import EPOCH_OBJECT, VLAN_IDS

METERS = range(40_000, 65_000)
"""Meters of sessions on a bridge; low numbers are left to others that use the same switch."""
BRIDGE_METER = METERS.stop
"""The meter of all copies of a bridge together."""
LONG_METERS = range(1 << 21, 1 << 22)
"""Meters that drop nothing and count the copies that are too long for their path: two for each
session number. Flow counters cannot: Open vSwitch 3.1 adds all packets of a megaflow, long and
short, to each flow on its way."""
PORT_METERS = range(1 << 22, 1 << 23)
"""Meters that keep the copies of a session below what its tap ports send; one for each session
number."""
LOST_METERS = range(1 << 23, 1 << 24)
"""Meters that drop nothing and count the copies of a session that no sensor can get."""
COUNT_METERS = range(1 << 24, 1 << 25)
"""Meters that drop nothing and count the copies that were made: two for each session number. They
count at the moment at which the datapath outputs a copy. Flow counters follow later: a revalidator
of Open vSwitch adds the packets of a megaflow to the flows that it would pass now, although the
packets passed others before a change."""
DROPPED_METERS = range(1 << 25, 1 << 26)
"""Meters that drop nothing and count the copies of a session that a bridge gets over a link and
drops, because nobody could tell the bridge that makes them; one for each session number."""
OWN_TAG_METERS = range(1 << 26, 1 << 27)
"""Meters that drop nothing and count the copies of a session whose frames have a tag of their own,
and none of ours, on a bridge of the kernel's datapath; one for each session number. Meters of that
datapath do not count the outermost tag, which Linux keeps beside the packet."""
NUMBER_RANGES = {
    **dict.fromkeys(("network", "port", "collector"), range(1, 1 << 20)),
    "filter": range(1, 1 << 16),
    "session": range(1, EPOCH_OBJECT),
    "tag": VLAN_IDS,
    "meter": METERS,
}
"""The numbers of each kind that may be given; the kinds are the fields of ``Numbers``."""
KINDS_OF_TENANTS = ("network", "port", "tag")
"""The kinds of what the inventory may give to another tenant under the same name."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names that need a number, by kind; see ``Numbers`` for the kinds.

    Names without a number get one in the order in which they stand here. The inventory may give
    networks, ports, and so their link tags to another tenant, so they stand here with the tenant
    that has them; the ids of all others are made here and never used again.
    """

    network: Mapping[NetworkId, TenantName] = field(default_factory=dict)
    port: Mapping[PortId, TenantName] = field(default_factory=dict)
    session: Collection[SessionId] = ()
    tag: Mapping[str, TenantName] = field(default_factory=dict)
    filter: Collection[FilterId] = ()
    collector: Collection[CollectorId] = ()
    meter: Collection[SessionId] = ()

    @property
    def by_kind(self) -> Mapping[str, Mapping[str, str]]:
        """The names of each kind, and for each the name that its number is kept under.

        That has the tenant before it: a bridge that is away uses numbers as it knows them, so what
        goes to another tenant needs another number. The kinds are the keys of NUMBER_RANGES.
        """
        found: dict[str, Mapping[str, str]] = {}
        for kind in NUMBER_RANGES:
            names = getattr(self, kind)
            if kind in KINDS_OF_TENANTS:
                found[kind] = {key: f"{tenant}/{key}" for key, tenant in names.items()}
            else:
                found[kind] = {key: key for key in names}
        return found


@dataclass(frozen=True, slots=True)
class Numbers:
    """The small numbers that stand for names in registers, cookies, link tags and meters.

    They are kept across restarts, so that a restarted controller compiles the same flows. Those of
    what goes to another tenant change (see Names).
    ``network``, ``port``, ``session``, ``collector`` numbers are 1..2^20-1, those of a ``filter``
    1..2^16-1, because its edition stands beside its number in a register; ``tag``
    values are VLAN ids 1..4094, keyed by ``network:<id>``, ``port:<id>`` (unprotected workload) or
    ``tap:<id>``; ``meter`` numbers are in METERS, for sessions with a rate cap. A collector needs
    a number when it has several sensors.

    Raises:
        InvalidValue: a number is outside its range: it would not fit where flows hold it.
    """

    network: Mapping[NetworkId, int] = field(default_factory=dict)
    port: Mapping[PortId, int] = field(default_factory=dict)
    session: Mapping[SessionId, int] = field(default_factory=dict)
    tag: Mapping[str, int] = field(default_factory=dict)
    filter: Mapping[FilterId, int] = field(default_factory=dict)
    collector: Mapping[CollectorId, int] = field(default_factory=dict)
    meter: Mapping[SessionId, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, allowed in NUMBER_RANGES.items():
            given = getattr(self, what).values()
            if given and not (min(given) >= allowed.start and max(given) < allowed.stop):
                wrong = next(number for number in given if number not in allowed)
                limits = f"{allowed.start}..{allowed.stop - 1}"
                raise InvalidValue(f"{wrong} is no number of a {what}: they are {limits}")


def declared_names(networks: Iterable[Network], ports: Iterable[Port]) -> Names:
    """The names of what an inventory declares, with the link tags that it needs."""
    networks, ports = tuple(networks), tuple(ports)
    return Names(
        network={network.id: network.tenant for network in networks},
        port={port.id: port.tenant for port in ports},
        tag=tag_keys(networks, ports),
    )


def tag_keys(networks: Iterable[Network], ports: Iterable[Port]) -> dict[str, TenantName]:
    """The names that need a link tag once bridges are linked, with tenants, in a stable order."""
    keys = {f"network:{n.id}": n.tenant for n in networks}
    unprotected = (p for p in ports if p.kind is PortKind.VM and not p.is_protected)
    keys |= {f"port:{p.id}": p.tenant for p in unprotected}
    return keys | {f"tap:{p.id}": p.tenant for p in ports if p.kind is PortKind.TAP}


def transport_key(tap: PortId, tag: int | None) -> str:
    """The name of the link tag for copies to a tap port; ``tag`` is the tag that they deliver.

    The id of a port may hold a colon, so the tag stands before it: "tap:x:7" is a port "x:7".
    """
    return f"tap:{tap}" if tag is None else f"tap-{tag}:{tap}"


def transport_keys(
    collectors: Iterable[Collector],
    networks: Iterable[Network],
    ports: Iterable[Port],
    numbers: Numbers,
) -> dict[str, TenantName]:
    """The names of the link tags that tagged copies may need, with tenants, in a stable order.

    A tap port that is another tenant's now gets no copies, so it needs none.
    """
    keys: dict[str, TenantName] = {}
    networks = tuple(networks)
    taps = {p.id: p.tenant for p in ports if p.kind is PortKind.TAP}
    for collector in collectors:
        tenant = collector.tenant
        own = [n.id for n in networks if n.tenant == tenant]
        tags: list[int] = []
        if isinstance(collector.tenant_tag, int):
            tags = [collector.tenant_tag]
        elif collector.tenant_tag is TagMode.AUTO and len(own) > 1:
            found = (numbers.tag.get(f"network:{network}") for network in own)
            tags = [tag for tag in found if tag is not None]
        here = (tap for tap in collector.tap_ports if taps.get(tap) == tenant)
        keys |= {transport_key(tap, tag): tenant for tap in here for tag in tags}
    return keys
