"""The configuration of Zeek for what a collector delivers.

Names of scripts and options are those of Zeek 8.0; where another version is needed, the text says
so. It was checked against Zeek's reference and sources, not run.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.sensors.home_net import home_prefixes, network_lines
from flows.explain import Feed
from flows.model import Delivery
from flows.openflow import UDP_GENEVE, UDP_VXLAN


def zeek_notes(feed: Feed) -> Iterator[str]:
    """Which version of Zeek these copies need, or what it cannot tell apart in them."""
    if feed.tags:
        yield (
            "tags tell networks apart in Zeek 8.0 and newer only (vlan_fivetuple); an older one "
            "mixes up networks with equal addresses"
        )
    elif len(feed.networks) > 1 and any(received.sessions for received in feed.networks):
        yield (
            "networks with equal addresses are mixed up: give the collector tenant_tag `auto`, by "
            "which Zeek 8.0 and newer can tell them apart"
        )


def zeek_text(feed: Feed, interface: str, notes: tuple[str, ...]) -> str:
    """The whole script."""
    lines = list(_head(feed, interface, notes))
    for section in (_tracking, _checksums, _tunnel, _home, _logs):
        part = list(section(feed))
        lines += ["", *part] if part else []
    return "\n".join(lines) + "\n"


def _head(feed: Feed, interface: str, notes: tuple[str, ...]) -> Iterator[str]:
    collector = feed.collector
    yield f"# Zeek for collector {collector.name} of {collector.tenant}, made by cloudtap."
    yield f"#   zeek -i {interface} local /path/of/this/file"
    yield "# With zeekctl: load this file in local.zeek, and have in node.cfg:"
    yield "#   [zeek]"
    yield "#   type=standalone"
    yield "#   host=localhost"
    yield f"#   interface={interface}"
    yield "#"
    yield f"# Delivered as {collector.delivery.value} to {', '.join(feed.sensors)}. In it:"
    yield from (f"# {line}" for line in network_lines(feed))
    yield from (f"# WARNING: {note}" for note in notes)


def _tracking(feed: Feed) -> Iterator[str]:
    if feed.tags:
        yield "# Networks with equal addresses are told apart by the tag of their copies."
        yield "@load frameworks/conn_key/vlan_fivetuple"
        yield "@load protocols/conn/vlan-logging"


def _checksums(feed: Feed) -> Iterator[str]:
    yield "# Copies are taken before any network card has filled in the checksums."
    yield "redef ignore_checksums = T;"


def _tunnel(feed: Feed) -> Iterator[str]:
    match feed.collector.delivery:
        case Delivery.VXLAN:
            yield "# The copies come inside VXLAN."
            yield f"redef PacketAnalyzer::VXLAN::vxlan_ports += {{ {UDP_VXLAN}/udp }};"
        case Delivery.GENEVE:
            yield "# The copies come inside Geneve."
            yield f"redef PacketAnalyzer::Geneve::geneve_ports += {{ {UDP_GENEVE}/udp }};"
        case Delivery.GRE | Delivery.ERSPAN2 | Delivery.ERSPAN3 as delivery:
            yield f"# {delivery.value} needs no setting: Zeek always looks into it."
        case _:
            return
    yield "# One worker: the outer headers of a conversation's two directions differ, so whatever"
    yield "# spreads packets over workers by them would tear it apart."


def _home(feed: Feed) -> Iterator[str]:
    yield "# The workloads in these networks, as the inventory has them."
    yield "redef Site::local_nets += {"
    yield from (f"    {_subnet(prefix)}," for prefix in home_prefixes(feed))
    yield "};"


def _logs(feed: Feed) -> Iterator[str]:
    yield "# The same number for a conversation in every tool; seed 0 is what all agree on."
    yield "@load protocols/conn/community-id-logging"
    yield "redef CommunityID::seed = 0;"
    yield "# What is missing in the copies: compare it with what `cloudtap session show` says."
    yield "@load misc/capture-loss"


def _subnet(prefix: str) -> str:
    """A prefix as Zeek writes it: IPv6 in brackets."""
    address, _, length = prefix.partition("/")
    return f"[{address}]/{length}" if ":" in address else prefix
