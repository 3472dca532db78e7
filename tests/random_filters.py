"""Random filters from a seed, whose rules match some of the packets of tests/random_worlds.py."""

from __future__ import annotations

from random import Random

from netaddr import EUI, IPNetwork

from flows.model.filter import Filter, MacPattern, PortRange, Rule, RuleMatch, Tagged, TcpFlags, Verdict
from flows.model.session import FilterId, TenantName
from tests import frames

MACS = tuple(0x020000000001 + n for n in range(5))
IPS = tuple(f"10.0.0.{n + 1}" for n in range(5))
IPS6 = tuple(f"fd00::{n + 1}" for n in range(5))


def random_filter(rng: Random, name: str, tenant: TenantName) -> Filter:
    """A few rules for each direction, now and then none at all."""
    return Filter(FilterId(name), name, tenant, ingress=_rules(rng), egress=_rules(rng))


def broad_filter(rng: Random, name: str, tenant: TenantName) -> Filter:
    """A filter that rejects a few packets, and accepts or rejects all others of a direction."""

    def rules() -> tuple[Rule, ...]:
        last = () if rng.random() < 0.3 else (Rule(60_000, Verdict.ACCEPT),)
        few = (r for r in _rules(rng)[:2] if r.number < 60_000)
        return *(r for r in few if r.verdict is Verdict.REJECT), *last

    return Filter(FilterId(name), name, tenant, ingress=rules(), egress=rules())


def _rules(rng: Random) -> tuple[Rule, ...]:
    numbers = sorted(rng.sample(range(1, 60001), rng.choice((0, 1, 2, 3, 6))))
    return tuple(Rule(n, rng.choice(list(Verdict)), _rule_match(rng)) for n in numbers)


def _rule_match(rng: Random) -> RuleMatch:
    """Conditions that some of the packets here meet."""
    kind = rng.choice(("any", "type", "vlan", "mac", "ip", "ip6", "ports", "tcp", "icmp6", "arp"))
    ports = (
        rng.choice((PortRange(0, 65535), PortRange(53, 80), PortRange(1, 1000), PortRange(80, 80))),
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
            return rng.choice((RuleMatch(source=network), RuleMatch(destination=network)))
        case "ip6":
            network = IPNetwork(f"{rng.choice(IPS6)}/{rng.choice((128, 126, 0))}").cidr
            return rng.choice((RuleMatch(source=network), RuleMatch(destination=network)))
        case "ports":
            protocol = rng.choice((6, 17))
            source, destination = rng.choice(((ports, ()), ((), ports), (ports, ports)))
            return RuleMatch(protocol=protocol, source_port=source, destination_port=destination)
        case "tcp":
            return RuleMatch(protocol=6, tcp_flags=rng.choice((TcpFlags(2, 0x12), TcpFlags(0, 2))))
        case "icmp6":
            return RuleMatch(
                protocol=58, icmp_type=rng.choice((135, 136)), icmp_code=rng.choice((None, 0))
            )
        case "arp":
            return RuleMatch(arp_operation=rng.choice((None, 1, 2)), eth_type=0x0806)
    return RuleMatch()
