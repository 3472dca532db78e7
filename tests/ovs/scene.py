"""A small cloud for tests of the whole controller: two tenants that use the same addresses."""

from __future__ import annotations

from dataclasses import dataclass

from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab
from tests.ovs.traffic import Stream, Traffic

WEB, DB = 0x020000000001, 0x020000000002
"""MAC addresses; both tenants have a port with each of them."""

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
class Scene:
    """The endpoints by port id, all on one bridge ``s1``."""

    lab: Lab
    at: dict[str, Endpoint]

    def red_streams(self, traffic: Traffic) -> tuple[Stream, Stream]:
        """Traffic between the two red workloads, in both directions."""
        there = traffic.add(self.at["red-web"], WEB, DB)
        return there, traffic.add(self.at["red-db"], DB, WEB)

    def blue_streams(self, traffic: Traffic) -> tuple[Stream, Stream]:
        """The same of the blue ones, with the same addresses."""
        there = traffic.add(self.at["blue-web"], WEB, DB)
        return there, traffic.add(self.at["blue-db"], DB, WEB)


def build(lab: Lab) -> Scene:
    """Bridge s1 with all ports plugged."""
    lab.add_bridge("s1", dpid=0x51, controller=TARGET)
    ends = lab.add_ports("s1", PORTS, PORTS)
    return Scene(lab, dict(zip(PORTS.values(), ends, strict=True)))


def make_collectors(controller: ControllerProcess) -> None:
    """One collector for each tap port, with the name of the port."""
    for tenant, name in (("red", "ids"), ("red", "soc"), ("blue", "ids")):
        controller.create_collector(tenant, name, f"{tenant}-{name}")
