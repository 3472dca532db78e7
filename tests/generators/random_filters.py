"""Random filters from a seed, whose rules match some of the packets of random_worlds.py."""

from __future__ import annotations

from random import Random

from netaddr import EUI, IPNetwork

from flows.model import (
    EDITIONS,
    Filter,
    FilterId,
    MacPattern,
    PortRange,
    Rule,
    RuleMatch,
    Tagged,
    TcpFlags,
    TenantName,
    Verdict,
)
from tests import frames

MACS = tuple(0x020000000001 + n for n in range(5))
IPS = tuple(f"10.0.0.{n + 1}" for n in range(5))
IPS6 = tuple(f"fd00::{n + 1}" for n in range(5))


def random_filter(rng: Random, name: str, tenant: TenantName) -> Filter:
    """A few rules for each direction, now and then none at all."""
    return _filter(name, tenant, _rules(rng), _rules(rng))


def broad_filter(rng: Random, name: str, tenant: TenantName) -> Filter:
    """A filter that rejects a few packets, and accepts or rejects all others of a direction."""

    def rules() -> tuple[Rule, ...]:
        last = () if rng.random() < 0.3 else (Rule(60_000, Verdict.ACCEPT),)
        few = (r for r in _rules(rng)[:2] if r.number < 60_000)
        return *(r for r in few if r.verdict is Verdict.REJECT), *last

    return _filter(name, tenant, rules(), rules())


def _filter(
    name: str, tenant: TenantName, ingress: tuple[Rule, ...], egress: tuple[Rule, ...]
) -> Filter:
    """A filter in an edition that depends on its rules: other rules are mostly in another one."""
    edition = sum(rule.number for rule in (*ingress, *egress)) % EDITIONS
    return Filter(FilterId(name), name, tenant, ingress, egress, edition)


def _rules(rng: Random) -> tuple[Rule, ...]:
    numbers = sorted(rng.sample(range(1, 60001), rng.choice((0, 1, 2, 3, 6))))
    return tuple(Rule(n, rng.choice(list(Verdict)), _rule_match(rng)) for n in numbers)


def _rule_match(rng: Random) -> RuleMatch:
    """Conditions that some of the packets here meet."""
    kind = rng.choice(
        ("any", "type", "vlan", "mac", "ip", "ip6", "ports", "tcp", "icmp", "icmp6", "arp")
    )
    ports = (
        rng.choice(
            (
                PortRange(0, 65535),
                PortRange(0, 60),
                PortRange(53, 80),
                PortRange(1, 1000),
                PortRange(80, 80),
            )
        ),
    )
    match kind:
        case "type":
            return RuleMatch(eth_type=rng.choice((0x0800, 0x0806, 0x86DD, 0x88CC, 0x9000)))
        case "vlan":
            return RuleMatch(vlan=rng.choice((0, 5, 77, 4095, Tagged.ANY, Tagged.NONE)))
        case "mac":
            mask = EUI(rng.choice((0xFFFFFFFFFFFF, 0xFFFFFFFFFFFE, 1 << 40)), version=48)
            pattern = MacPattern(
                EUI(rng.choice((*MACS, frames.BROADCAST)) & int(mask), version=48), mask
            )
            return rng.choice((RuleMatch(source_mac=pattern), RuleMatch(destination_mac=pattern)))
        case "ip":
            network = IPNetwork(f"{rng.choice(IPS)}/{rng.choice((32, 31, 24, 0))}").cidr
            return RuleMatch(**{rng.choice(("source", "destination", "address")): network})
        case "ip6":
            network = IPNetwork(f"{rng.choice(IPS6)}/{rng.choice((128, 126, 0))}").cidr
            return RuleMatch(**{rng.choice(("source", "destination", "address")): network})
        case "ports":
            protocol = rng.choice((6, 17))
            return rng.choice(
                (
                    RuleMatch(protocol=protocol, source_port=ports),
                    RuleMatch(protocol=protocol, destination_port=ports),
                    RuleMatch(protocol=protocol, source_port=ports, destination_port=ports),
                    RuleMatch(protocol=protocol, port=ports),
                )
            )
        case "tcp":
            return RuleMatch(protocol=6, tcp_flags=rng.choice((TcpFlags(2, 0x12), TcpFlags(0, 2))))
        case "icmp":
            return RuleMatch(protocol=1, icmp_type=rng.choice((0, 8)))
        case "icmp6":
            return RuleMatch(
                protocol=58, icmp_type=rng.choice((135, 136)), icmp_code=rng.choice((None, 0))
            )
        case "arp":
            return RuleMatch(arp_operation=rng.choice((None, 1, 2)), eth_type=0x0806)
    return RuleMatch()
