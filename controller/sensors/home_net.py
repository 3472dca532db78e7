"""Home networks: the addresses of what is watched, as prefixes."""

from __future__ import annotations

from netaddr import cidr_merge

from flows.explain.feed import Feed

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
"""Ranges for private use (RFC 1918, RFC 6598, RFC 4193)."""
PREFIXES_MAX = 64
"""More prefixes than this are not listed one by one."""


def home_prefixes(feed: Feed) -> tuple[str, ...]:
    """Where the watched workloads live; private ranges where that is not known in full."""
    exact = tuple(str(prefix) for prefix in cidr_merge(list(feed.addresses)))
    if exact and not feed.unknown and len(exact) <= PREFIXES_MAX:
        return exact
    known = exact if len(exact) <= PREFIXES_MAX else ()
    return tuple(str(prefix) for prefix in cidr_merge([*PRIVATE, *known]))


def network_lines(feed: Feed) -> list[str]:
    """The map from tags to networks, a line each."""
    lines = []
    for heard in feed.heard:
        tag = "no tag" if heard.tag is None else f"tag {heard.tag}"
        by = f"session {', '.join(heard.sessions)}" if heard.sessions else "not watched now"
        lines.append(f"  {tag:9} = network {heard.network.name} of {heard.network.tenant} ({by})")
    return lines
