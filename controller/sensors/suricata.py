"""The configuration of Suricata 7 for what a collector delivers.

Every setting was tested on Suricata 7.0.10 (tests/ovs/test_suricata.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.sensors.home_net import home_prefixes, network_lines
from flows.explain import Feed
from flows.model import Delivery
from flows.openflow import UDP_GENEVE, UDP_VXLAN

SERVERS = ("HTTP", "SMTP", "SQL", "DNS", "TELNET", "DC")
OTHER_ADDRESSES = tuple(
    f"{name}_{side}"
    for name, sides in (
        ("AIM", ("SERVERS",)),
        ("DNP3", ("SERVER", "CLIENT")),
        ("MODBUS", ("CLIENT", "SERVER")),
        ("ENIP", ("CLIENT", "SERVER")),
    )
    for side in sides
)
"""Address groups that public rule sets use."""
PORT_GROUPS = {
    "HTTP_PORTS": "80",
    "SHELLCODE_PORTS": "!80",
    "ORACLE_PORTS": "1521",
    "SSH_PORTS": "22",
    "DNP3_PORTS": "20000",
    "MODBUS_PORTS": "502",
    "FILE_DATA_PORTS": "[$HTTP_PORTS,110,143]",
    "FTP_PORTS": "21",
    "GENEVE_PORTS": str(UDP_GENEVE),
    "VXLAN_PORTS": str(UDP_VXLAN),
    "TEREDO_PORTS": "3544",
}
TUNNELS = {Delivery.VXLAN: ("vxlan", UDP_VXLAN), Delivery.GENEVE: ("geneve", UDP_GENEVE)}
EVENTS = ("http", "dns", "tls", "ssh", "smtp", "files", "flow")


def suricata_notes(feed: Feed) -> Iterator[str]:
    """What Suricata cannot decode or tell apart in these copies."""
    if feed.collector.delivery is Delivery.ERSPAN3:
        yield (
            "Suricata 7 does not decode ERSPAN III: it sees nothing; deliver as erspan2 or vxlan, "
            "or let the kernel of the sensor take it off and listen on that device"
        )
    if len(feed.networks) > 1 and not feed.tags and any(h.sessions for h in feed.networks):
        yield (
            "networks with equal addresses are mixed up: Suricata tells them apart by 802.1Q tags "
            "alone, never by the key of a tunnel; give the collector tenant_tag `auto`"
        )


def suricata_text(feed: Feed, interface: str, notes: tuple[str, ...]) -> str:
    """The whole file, in YAML."""
    lines = ["%YAML 1.1", "---", *_head(feed, notes)]
    for section in (_vars, _capture, _tracking, _stream, _decoder, _outputs, _tenants):
        part = list(section(feed, interface))
        lines += ["", *part] if part else []
    return "\n".join(lines) + "\n"


def _head(feed: Feed, notes: tuple[str, ...]) -> Iterator[str]:
    collector = feed.collector
    yield f"# Suricata 7 for collector {collector.name} of {collector.tenant}, made by cloudtap."
    yield "#   suricata -c /etc/suricata/suricata.yaml --include /path/of/this/file --af-packet"
    yield "# or by itself, with rules of your own:"
    yield "#   suricata -c /path/of/this/file -S /path/of/rules --af-packet"
    yield "# Each section replaces the one of that name in suricata.yaml as a whole."
    yield "#"
    yield f"# Delivered as {collector.delivery.value} to {', '.join(feed.sensors)}. In it:"
    yield from (f"# {line}" for line in network_lines(feed))
    yield from (f"# WARNING: {note}" for note in notes)


def _vars(feed: Feed, interface: str) -> Iterator[str]:
    yield "vars:"
    yield "  address-groups:"
    yield "    # the workloads in these networks, as the inventory has them"
    yield f'    HOME_NET: "[{",".join(home_prefixes(feed))}]"'
    yield "    # a tap sees what neighbours do to each other, so attacks may come from home as well"
    yield '    EXTERNAL_NET: "any"'
    yield from (f'    {name}_SERVERS: "$HOME_NET"' for name in SERVERS)
    yield from (f'    {name}: "$HOME_NET"' for name in OTHER_ADDRESSES)
    yield "  port-groups:"
    yield from (f'    {name}: "{value}"' for name, value in PORT_GROUPS.items())


def _capture(feed: Feed, interface: str) -> Iterator[str]:
    yield "af-packet:"
    yield f"  - interface: {interface}"
    if feed.collector.is_tunnelled:
        yield "    # one thread: the outer headers of a conversation's two directions differ, so"
        yield "    # whatever spreads packets over threads by them would tear it apart"
        yield "    threads: 1"
    yield "    # both directions of a conversation to one thread, fragments as well"
    yield "    cluster-id: 99"
    yield "    cluster-type: cluster_flow"
    yield "    defrag: yes"
    yield "    use-mmap: yes"
    yield "    tpacket-v3: yes"
    yield "    # copies are taken before any network card has filled in the checksums"
    yield "    checksum-checks: no"
    yield "capture:"
    yield "  # frames as they were, not joined by the network card of the sensor"
    yield "  disable-offloading: true"
    yield "  checksum-validation: none"


def _tracking(feed: Feed, interface: str) -> Iterator[str]:
    yield "vlan:"
    yield "  # networks with equal addresses are told apart by the tag of their copies"
    yield "  use-for-tracking: true"


def _stream(feed: Feed, interface: str) -> Iterator[str]:
    yield "stream:"
    yield "  # a session may begin in the middle of a conversation"
    yield "  midstream: true"
    if feed.one_way:
        yield "  # some sessions copy one direction only"
        yield "  async-oneside: true"
    yield "  # see checksum-checks above"
    yield "  checksum-validation: no"


def _decoder(feed: Feed, interface: str) -> Iterator[str]:
    delivery = feed.collector.delivery
    if delivery in TUNNELS:
        name, port = TUNNELS[delivery]
        yield "decoder:"
        yield f"  # the copies come inside {name}: Suricata looks into it by itself"
        yield f"  {name}:"
        yield "    enabled: true"
        yield f"    ports: {port}"
    elif delivery in (Delivery.GRE, Delivery.ERSPAN2):
        yield f"# {delivery.value} needs no setting: Suricata always looks into it"


def _outputs(feed: Feed, interface: str) -> Iterator[str]:
    yield "outputs:"
    yield "  - eve-log:"
    yield "      enabled: yes"
    yield "      filetype: regular"
    yield "      filename: eve.json"
    yield "      # the same number for a conversation in every tool; seed 0 is what all agree on"
    yield "      community-id: true"
    yield "      community-id-seed: 0"
    yield "      types:"
    yield "        - alert:"
    yield "            tagged-packets: yes"
    yield from (f"        - {event}" for event in EVENTS)
    yield "        - stats:"
    yield "            totals: yes"


def _tenants(feed: Feed, interface: str) -> Iterator[str]:
    """Rules for each network (multi-detect): commented out, as they need files of the operator."""
    if len(feed.tags) < 2:
        return
    yield "# Rules for each network of its own: take the signs away and write the files."
    yield "#multi-detect:"
    yield "#  enabled: yes"
    yield "#  selector: vlan"
    yield "#  loaders: 1"
    yield "#  tenants:"
    for received in feed.tags:
        yield f"#    - id: {received.tag}"
        yield f"#      yaml: {received.network.tenant}-{received.network.name}.yaml"
    yield "#  mappings:"
    for received in feed.tags:
        yield f"#    - vlan-id: {received.tag}"
        yield f"#      tenant-id: {received.tag}"
