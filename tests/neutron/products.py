"""Two ways to tap a workload of a tenant on Neutron's bridge, behind one interface."""

from __future__ import annotations

from typing import Protocol

from tests.neutron.cloud import IDS, NeutronCloud
from tests.ovs.attached_cloud import make_collectors
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.waiting import wait_for

TENANT, TAPPED = "red", "db"
"""Whose workload is tapped."""


class Product(Protocol):
    """What makes and ends a tap of the red `db`."""

    name: str
    cloud: NeutronCloud
    copies_at: str
    """Where copies arrive: a name in what NeutronCloud.receive returns."""

    @property
    def sensor(self) -> Endpoint:
        """The endpoint of that name."""

    def tap(self, direction: str = "both") -> None:
        """Start a tap: ``ingress`` (to the workload), ``egress`` or ``both``; returns when the
        product says that it is there."""

    def untap(self) -> None:
        """End it."""


class Cloudtap:
    """A session on the attached bridge, with a tap port on the tap bridge."""

    name, copies_at = "cloudtap", "red-t1"

    def __init__(self, cloud: NeutronCloud, controller: ControllerProcess) -> None:
        self.cloud, self._controller = cloud, controller

    @property
    def sensor(self) -> Endpoint:
        """The tap port."""
        return self.cloud.tap_at[self.copies_at]

    def tap(self, direction: str = "both") -> None:
        """Make the session."""
        self._controller.create_session(TENANT, "row", [TAPPED], "t1", direction=direction)
        self._controller.wait_for_session("row")

    def untap(self) -> None:
        """Delete it."""
        assert self._controller.delete_session("row") == 204


def start_cloudtap(cloud: NeutronCloud, controller: ControllerProcess) -> Cloudtap:
    """Have a started controller serve the bridge, which is attached already."""
    controller.start("ct-br-int")
    make_collectors(controller)
    return Cloudtap(cloud, controller)


class Taas:
    """A tap flow of tap-as-a-service, with a tap service on the workload `ids` of the tenant."""

    name, copies_at = "tap-as-a-service", "red-ids"
    DIRECTIONS = {"ingress": "IN", "egress": "OUT", "both": "BOTH"}

    def __init__(self, cloud: NeutronCloud) -> None:
        self.cloud = cloud
        self._api, self._ports = cloud.tenant(TENANT).api, cloud.tenant(TENANT).ports
        service = self._api.create(
            "tap_service", "taas/tap_services", name="ids", port_id=self._ports[IDS]
        )
        self._service, self._flow = str(service["id"]), ""
        self._wait_until_active("tap_service", self._service)

    @property
    def sensor(self) -> Endpoint:
        """The device of the workload `ids`."""
        return self.cloud.at[self.copies_at]

    def tap(self, direction: str = "both") -> None:
        """Make the tap flow."""
        flow = self._api.create(
            "tap_flow",
            "taas/tap_flows",
            name="row",
            tap_service_id=self._service,
            source_port=self._ports[TAPPED],
            direction=self.DIRECTIONS[direction],
        )
        self._flow = str(flow["id"])
        self._wait_until_active("tap_flow", self._flow)

    def untap(self) -> None:
        """Delete it; returns when Neutron has forgotten it."""
        self._api.delete(f"/taas/tap_flows/{self._flow}")
        wait_for(self._flows, lambda seen: self._flow not in seen)

    def _flows(self) -> set[str]:
        return {str(flow["id"]) for flow in self._api.get("/taas/tap_flows")["tap_flows"]}

    def _wait_until_active(self, kind: str, key: str) -> None:
        wait_for(
            lambda: self._api.get(f"/taas/{kind}s/{key}")[kind]["status"], "ACTIVE".__eq__, 120
        )
