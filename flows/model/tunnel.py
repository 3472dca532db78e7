"""Tunnels of copies: how many bytes tunnels and links add to a frame, and the keys of tunnels.

Header sizes: RFC 7348 (VXLAN), RFC 2784 and 2890 (GRE with a key), RFC 8926 (Geneve without
options), draft-foschiano-erspan-03 (ERSPAN II and III, whose GRE header has a sequence number);
each was measured on Open vSwitch 3.1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from netaddr import IPAddress

from flows.errors import NoKeyLeft, TooManyKeys
from flows.model.collector import TUNNEL_KEYS, Collector, Delivery
from flows.model.hop import frame_limit
from flows.model.names import TenantName
from flows.model.quota import may_take
from flows.model.session import Session
from flows.openflow import ETH_HEADER, IPV4_HEADER, IPV6_HEADER, VLAN_HEADER

TUNNEL_HEADERS = {
    Delivery.VXLAN: 16,
    Delivery.GRE: 8,
    Delivery.ERSPAN2: 16,
    Delivery.ERSPAN3: 20,
    Delivery.GENEVE: 16,
}
"""Bytes between the outer IP header and the copied frame (UDP included)."""

KEY_WORDS = {
    Delivery.VXLAN: "vni",
    Delivery.GRE: "key",
    Delivery.ERSPAN2: "session_id",
    Delivery.ERSPAN3: "session_id",
    Delivery.GENEVE: "vni",
}
"""The name of the key of each kind of tunnel."""

FIRST_CHOSEN_KEY = {
    Delivery.VXLAN: 0x800000,
    Delivery.GRE: 0x80000000,
    Delivery.ERSPAN2: 1,
    Delivery.ERSPAN3: 1,
    Delivery.GENEVE: 0x800000,
}
"""The first key that we choose for collectors without a key; lower ones are left to users."""


HELD_MAX = 1000
"""Keys at addresses that a tenant has given up, beyond which it gets no others while they are held.
"""


def key_space(delivery: Delivery) -> Delivery:
    """The kind of tunnel that stands for the space of keys: ERSPAN II and III share one."""
    return Delivery.ERSPAN2 if delivery is Delivery.ERSPAN3 else delivery


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key with which copies of a tenant come to an address; ``space`` is as of ``key_space``."""

    tenant: TenantName
    space: Delivery
    key: int
    address: IPAddress


def key_uses(collector: Collector) -> frozenset[KeyUse]:
    """The key of a collector at each of its addresses; none of one that has tap ports."""
    if collector.key is None:
        return frozenset()
    tenant, space, key = collector.tenant, key_space(collector.delivery), collector.key
    return frozenset(KeyUse(tenant, space, key, address) for address in collector.addresses)


def free_key(
    delivery: Delivery,
    collectors: Iterable[Collector],
    tenant: TenantName,
    held: Iterable[KeyUse] = (),
    tenants: Collection[TenantName] = (),
) -> int:
    """The lowest key that no collector uses, for a collector of a tenant that names none.

    What other tenants have given up and is still ``held`` is not free either, at any address. A
    tenant that may have no more keys (see KeyQuota) gets one that it has given up itself.

    Raises:
        NoKeyLeft: all keys are used.
        TooManyKeys: the tenant may have no more of them.
    """
    space, collectors, held = key_space(delivery), tuple(collectors), tuple(held)
    taken = {c.key for c in collectors if key_space(c.delivery) is space}
    taken |= {use.key for use in held if use.space is space and use.tenant != tenant}
    keys = chosen_keys(delivery)
    quota = KeyQuota(delivery, collectors, held, tenants)
    if quota.is_reached(tenant):
        keys_of_tenant = sorted(quota.given_up_by(tenant) - taken)
        if not keys_of_tenant:
            raise quota.refusal(tenant)
        return keys_of_tenant[0]
    for key in keys:
        if key not in taken:
            return key
    raise NoKeyLeft(delivery.value, KEY_WORDS[delivery], keys.start, keys.stop - 1)


def chosen_keys(delivery: Delivery) -> range:
    """The keys that are chosen for collectors without one; others can be named, too."""
    return range(FIRST_CHOSEN_KEY[delivery], TUNNEL_KEYS[delivery].stop)


class KeyQuota:
    """How many of the keys that are chosen each tenant has, in one space of keys.

    Those that it has given up count as long as they are ``held``. A key counts once, however many
    addresses it is used at.
    """

    def __init__(
        self,
        delivery: Delivery,
        collectors: Iterable[Collector],
        held: Iterable[KeyUse],
        tenants: Collection[TenantName],
    ) -> None:
        self._delivery, self._tenants = delivery, tenants
        space, keys = key_space(delivery), chosen_keys(delivery)
        self._in_use: defaultdict[TenantName, set[int]] = defaultdict(set)
        self._given_up: defaultdict[TenantName, set[int]] = defaultdict(set)
        for each in collectors:
            if each.key is not None and each.key in keys and key_space(each.delivery) is space:
                self._in_use[each.tenant].add(each.key)
        for use in held:
            if use.space is space and use.key in keys:
                self._given_up[use.tenant].add(use.key)

    def keys_of(self, tenant: TenantName) -> set[int]:
        """The keys that a tenant has."""
        return self._in_use.get(tenant, set()) | self._given_up.get(tenant, set())

    def given_up_by(self, tenant: TenantName) -> set[int]:
        """The keys that a tenant has given up, and that are held for it alone."""
        return self._given_up.get(tenant, set()) - self._in_use.get(tenant, set())

    def is_reached(self, tenant: TenantName) -> bool:
        """Whether a tenant may have no more keys, because others would lack theirs.

        That all keys are taken is another matter.
        """
        holders = self._in_use.keys() | self._given_up.keys()
        keys_by_tenant = {each: self.keys_of(each) for each in holders}
        taken: set[int] = set().union(*keys_by_tenant.values())
        total = len(chosen_keys(self._delivery))
        used = {each: len(keys) for each, keys in keys_by_tenant.items()}
        free = total - len(taken)
        return free > 0 and not may_take(
            tenant, used, free=free, total=total, tenants=self._tenants
        )

    def refusal(self, tenant: TenantName) -> TooManyKeys:
        """Why a tenant gets no more keys."""
        word, given_up = KEY_WORDS[self._delivery], len(self.given_up_by(tenant))
        return TooManyKeys(tenant, word, len(self._in_use.get(tenant, ())), given_up)


def overhead(delivery: Delivery, address: IPAddress) -> int:
    """Bytes that encapsulation adds, without the outer Ethernet header; 0 for a tap port."""
    if delivery is Delivery.PORT:
        return 0
    return (IPV4_HEADER if address.version == 4 else IPV6_HEADER) + TUNNEL_HEADERS[delivery]


def path_limit(collector: Collector, address: IPAddress, underlay_mtu: int, is_tagged: bool) -> int:
    """Bytes of the longest original frame whose copy fits the path to a remote sensor.

    The MTU of the path is the smaller of the collector's and the hosts' one. A switch cuts no copy
    shorter than its Ethernet header, even if not that fits the path.
    """
    mtu = min(collector.path_mtu or underlay_mtu, underlay_mtu)
    return max(ETH_HEADER, mtu - overhead(collector.delivery, address) - VLAN_HEADER * is_tagged)


def link_limit(link_mtu: int) -> int | None:
    """Bytes of the longest original frame whose copy, with a link tag, fits a link; None: any."""
    return frame_limit(ETH_HEADER + link_mtu - VLAN_HEADER)


def cut_length(session: Session, limit: int | None) -> int | None:
    """Bytes to which a copy is truncated, or above which it is skipped; None without a limit."""
    limits = [length for length in (session.packet_length, limit) if length is not None]
    return min(limits, default=None)
