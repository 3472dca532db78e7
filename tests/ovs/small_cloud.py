"""A small cloud for tests of the whole controller: one bridge, two tenants with equal addresses."""

from __future__ import annotations

from dataclasses import dataclass

from tests import frames
from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab
from tests.ovs.traffic import Stream, Traffic

WEB, DB = 0x020000000001, 0x020000000002
"""MAC addresses; each tenant has a port with each of them."""

INVENTORY = """\
tenants: [red, blue]
networks:
  - {name: lan, tenant: red}
  - {name: lan, tenant: blue}
ports:
  - {id: red-web, name: web, tenant: red, network: lan, mac: "02:00:00:00:00:01"}
  - {id: red-db, name: db, tenant: red, network: lan, mac: "02:00:00:00:00:02"}
  - {id: blue-web, name: web, tenant: blue, network: lan, mac: "02:00:00:00:00:01"}
  - {id: blue-db, name: db, tenant: blue, network: lan, mac: "02:00:00:00:00:02"}
  - {id: red-ids, name: ids, tenant: red, kind: tap}
  - {id: red-soc, name: soc, tenant: red, kind: tap}
  - {id: blue-ids, name: ids, tenant: blue, kind: tap}
"""
PORTS = {
    1: "red-web",
    2: "red-db",
    3: "blue-web",
    4: "blue-db",
    5: "red-ids",
    6: "red-soc",
    7: "blue-ids",
}


@dataclass
class SmallCloud:
    """The endpoints by port id, all on one bridge ``s1``."""

    lab: Lab
    at: dict[str, Endpoint]

    def red_streams(self, traffic: Traffic) -> tuple[Stream, Stream]:
        """Add streams between the two red workloads, in both directions."""
        there = traffic.add(self.at["red-web"], WEB, DB)
        return there, traffic.add(self.at["red-db"], DB, WEB)

    def blue_streams(self, traffic: Traffic) -> tuple[Stream, Stream]:
        """Add the same for the blue ones, with equal addresses."""
        there = traffic.add(self.at["blue-web"], WEB, DB)
        return there, traffic.add(self.at["blue-db"], DB, WEB)


def web_to_db(number: int, size: int = 100, source_port: int = 1000) -> bytes:
    """A numbered datagram of a web to the db of its tenant, so many bytes long."""
    data = frames.udp(source_port, 53, number.to_bytes(4, "big").ljust(size - 42, b"\0"))
    return frames.ethernet(DB, WEB, 0x0800, frames.ipv4("10.0.0.1", "10.0.0.2", 17, data))


def build_cloud(lab: Lab) -> SmallCloud:
    """Add bridge s1 with all ports."""
    lab.add_bridge("s1", dpid=0x51, controller=TARGET)
    ends = lab.add_ports("s1", PORTS, PORTS)
    return SmallCloud(lab, dict(zip(PORTS.values(), ends, strict=True)))


def make_collectors(controller: ControllerProcess) -> None:
    """One collector for each tap port, with the name of the port."""
    for tenant, name in (("red", "ids"), ("red", "soc"), ("blue", "ids")):
        controller.create_collector(tenant, name, f"{tenant}-{name}")
