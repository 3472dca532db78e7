"""The home network of a sensor: the prefixes of the watched workloads, and their tags."""

from __future__ import annotations

from netaddr import cidr_merge

from flows.explain import Feed

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
"""Ranges for private use (RFC 1918, RFC 6598, RFC 4193)."""
PREFIXES_MAX = 64
"""Most prefixes that are listed one by one."""


def home_prefixes(feed: Feed) -> tuple[str, ...]:
    """The prefixes of the watched workloads, and all private ranges if some are unknown."""
    exact = tuple(str(prefix) for prefix in cidr_merge(list(feed.addresses)))
    if exact and not feed.unknown and len(exact) <= PREFIXES_MAX:
        return exact
    known = exact if len(exact) <= PREFIXES_MAX else ()
    return tuple(str(prefix) for prefix in cidr_merge([*PRIVATE, *known]))


def network_lines(feed: Feed) -> list[str]:
    """The network of each 802.1Q tag, one line each."""
    lines = []
    for received in feed.networks:
        tag = "no tag" if received.tag is None else f"tag {received.tag}"
        by = f"session {', '.join(received.sessions)}" if received.sessions else "not watched now"
        lines.append(
            f"  {tag:9} = network {received.network.name} of {received.network.tenant} ({by})"
        )
    return lines
