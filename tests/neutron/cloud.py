"""Two tenants with equal MAC and IP addresses, on a br-int that the agent of Neutron programs.

The workloads are those of tests/ovs/attached_cloud.py. `web` and `db` have port security and a
security group that accepts ICMP, TCP and UDP; `app` has none. The networks are VLANs on br-ex,
behind which a host `far` of each tenant is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests import frames
from tests.neutron.neutron import HOST, PHYSICAL, SECOND_LOOP, UPLINK, Neutron, NeutronApi
from tests.ovs.attached_cloud import (
    ADDRESSES,
    HOSTS,
    MACS,
    OWNER,
    TENANTS,
    WORKLOADS,
    AttachedCloud,
    Sent,
)
from tests.ovs.attached_cloud import inventory as declared
from tests.ovs.lab import Lab, vsctl

VLANS = {"red": 101, "blue": 102}
"""On br-ex. The agent gives each network another one on br-int."""
IDS, IDS_MAC = "ids", 0x020000000009
"""A workload of each tenant to which tap-as-a-service sends copies: it delivers to nothing else."""
FIRST_PORT = 11
"""The number of the first port of a bridge: the agent's patch ports have the lowest."""


@dataclass
class Tenant:
    """What Neutron has for one tenant."""

    api: NeutronApi
    ports: dict[str, str]
    """The id of the port of each host."""
    groups: dict[str, str]
    """Security groups: ``open`` accepts ICMP, TCP and UDP from everywhere, ``closed`` nothing."""


@dataclass
class NeutronCloud(AttachedCloud):
    """The owner's bridge is that of Neutron."""

    neutron: Neutron | None = None
    admin: NeutronApi | None = None
    tenants: dict[str, Tenant] | None = None

    def tenant(self, name: str) -> Tenant:
        """What Neutron has for a tenant."""
        assert self.tenants is not None
        return self.tenants[name]

    def inventory(self) -> str:
        """What cloudtap is told: the id of a port is that of Neutron."""
        text = declared()
        for name in WORKLOADS.values():
            tenant, _, host = name.partition("-")
            text = text.replace(f"id: {name},", f"id: {self.tenant(tenant).ports[host]},")
        return text

    def ports_of_neutron(self) -> list[str]:
        """The ids of all ports."""
        return [port for name in TENANTS for port in self.tenant(name).ports.values()]

    def restart_agent(self) -> None:
        """Kill the agent and start it; returns when it has deleted flows that it does not know."""
        assert self.neutron is not None
        agent, before = self.neutron.agent, self.neutron.cleanings()
        loops = agent.log_text().count(SECOND_LOOP)
        agent.stop()
        self.neutron.start_agent()
        agent.wait_until(lambda: agent.log_text().count(SECOND_LOOP) > loops)
        vsctl("add-port", OWNER, "news", "--", "set", "Interface", "news", "type=internal")
        self.neutron.wait_until_cleaned(before)
        vsctl("del-port", OWNER, "news")

    def set_group(self, tenant: str, host: str, group: str) -> None:
        """Put a port into one security group; its agent learns that later."""
        known = self.tenant(tenant)
        key = known.ports[host]
        known.api.change("port", key, security_groups=[known.groups[group]])

    def receive(self, *sent: Sent) -> dict[str, list[bytes]]:
        """Send each frame alone; what has arrived at workloads and tap ports."""
        seen = self.exchange(sent, 1)
        return {**seen.delivered, **seen.copied}


def build_neutron_cloud(lab: Lab, neutron: Neutron) -> NeutronCloud:
    """Start Neutron and its agent with all ports bound and wired."""
    _make_bridges(lab)
    neutron.start()
    neutron.start_agent()
    admin = NeutronApi("admin", "admin", "member", "reader")
    neutron.wait_for_agent(admin)
    tenants = {name: _make_tenant(name, admin, neutron.taas) for name in TENANTS}
    hosts = (*HOSTS, IDS) if neutron.taas else HOSTS
    names = [f"{tenant}-{host}" for tenant in TENANTS for host in hosts]
    numbers = {names.index(name) + FIRST_PORT: name for name in names}
    ends = lab.add_ports(
        OWNER,
        numbers,
        {n: _port(tenants, name) for n, name in numbers.items()},
        attached_macs={n: _mac(name.partition("-")[2]) for n, name in numbers.items()},
    )
    cloud = NeutronCloud(
        lab,
        dict(zip(names, ends, strict=True)),
        lab.add_port(UPLINK, FIRST_PORT),
        vlans=VLANS,
        neutron=neutron,
        admin=admin,
        tenants=tenants,
    )
    neutron.wait_until_active(admin, cloud.ports_of_neutron())
    neutron.wait_until_cleaned()
    lab.links.append((OWNER, _number("int-br-ex"), UPLINK, _number("phy-br-ex")))
    lab.marker_senders = [*cloud.at.values(), cloud.trunk]
    return cloud


def _make_bridges(lab: Lab) -> None:
    for name in (OWNER, UPLINK):
        vsctl("add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev")
        lab.bridges.append(name)


def _make_tenant(name: str, admin: NeutronApi, taas: bool) -> Tenant:
    api = NeutronApi(name)
    network = admin.create(
        "network",
        name="lan",
        project_id=api.project,
        **{
            "provider:network_type": "vlan",
            "provider:physical_network": PHYSICAL,
            "provider:segmentation_id": VLANS[name],
        },
    )["id"]
    api.create(
        "subnet",
        network_id=network,
        cidr="10.0.0.0/24",
        ip_version=4,
        enable_dhcp=False,
        gateway_ip=None,
    )
    groups = {}
    for group in ("open", "closed"):
        groups[group] = api.create("security_group", "security-groups", name=group)["id"]
    for protocol in ("icmp", "tcp", "udp"):
        api.create(
            "security_group_rule",
            "security-group-rules",
            security_group_id=groups["open"],
            direction="ingress",
            protocol=protocol,
            ethertype="IPv4",
        )
    hosts = (*HOSTS, IDS) if taas else HOSTS
    ports = {host: _make_port(api, admin, network, host, groups["open"]) for host in hosts}
    return Tenant(api, ports, groups)


def _make_port(api: NeutronApi, admin: NeutronApi, network: str, host: str, group: str) -> str:
    security: dict[str, Any] = {"security_groups": [group]}
    if host in ("app", IDS):
        security = {"port_security_enabled": False}
    address = ADDRESSES.get(host, "10.0.0.9")
    port = api.create(
        "port",
        network_id=network,
        name=host,
        mac_address=_mac(host),
        fixed_ips=[{"ip_address": address}],
        **security,
    )
    binding = {"binding:host_id": HOST, "device_id": f"vm-{host}", "device_owner": "compute:nova"}
    return str(admin.change("port", port["id"], **binding)["id"])


def _port(tenants: dict[str, Tenant], name: str) -> str:
    tenant, _, host = name.partition("-")
    return tenants[tenant].ports[host]


def _mac(host: str) -> str:
    mac = frames.mac_bytes({**MACS, IDS: IDS_MAC}[host])
    return ":".join(f"{byte:02x}" for byte in mac)


def _number(interface: str) -> int:
    return int(vsctl("get", "Interface", interface, "ofport"))
